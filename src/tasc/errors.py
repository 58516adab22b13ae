"""Every error that TASC raises on purpose.

    TascError
    ├── DataError            a task file or row cannot be used (the message names file, line and reason)
    ├── TokenizerError       a tokenizer cannot be enriched safely
    │   └── FingerprintError something was made with another tokenizer
    ├── VocabularyError      an enriched vocabulary is damaged or does not fit
    ├── DrafterFileError     a .tasc file is damaged, foreign or of another version
    ├── ModelError           a model cannot be used for what was asked
    ├── OptionError          an option's value is out of range or contradicts another
    └── MissingExtraError    an optional dependency is not installed

A message is one line: the rule, the value that broke it, the next step.
"""


def first_line(error: BaseException) -> str:
    r"""What a message of ours repeats of another library's error; its kind where it says nothing.

    Examples:
        >>> first_line(ValueError("no such file\nat all")), first_line(ValueError())
        ('no such file', 'ValueError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TascError(Exception):
    """Base of all errors that TASC raises on purpose."""


class DataError(TascError):
    """A task file or row cannot be used."""


class TokenizerError(TascError):
    """A tokenizer cannot be enriched or loaded safely."""


class FingerprintError(TokenizerError):
    """A corpus, vocabulary or drafter was made with another tokenizer."""


class VocabularyError(TascError):
    """An enriched vocabulary is damaged or does not fit."""


class DrafterFileError(TascError):
    """A drafter file is damaged, foreign or of another version."""


class ModelError(TascError):
    """A model cannot be used for what was asked."""


class OptionError(TascError):
    """An option's value is out of range or contradicts another option."""


class MissingExtraError(TascError):
    """An optional dependency is not installed."""
