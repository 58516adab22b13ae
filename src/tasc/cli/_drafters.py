"""What a drafter file is used with: rows read with its tokenizer, the n-grams it speaks, logs of its requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.cli._tasks import report_skipped
from tasc.errors import DataError, FingerprintError, OptionError, TokenizerError, VocabularyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasc.corpus import Row, TokenCorpus
    from tasc.draft import Drafter
    from tasc.draft.recorded import Log
    from tasc.vocab.vocabulary import EnrichedVocabulary


class Rows:
    """Known rows, and their ids as a drafter knows them."""

    def __init__(self, data: str, **choice: Any) -> None:
        from tasc.corpus import load_tasks

        self.tasks = load_tasks(data, **choice)
        self.n_skipped = self.tasks.n_skipped
        report_skipped(self.tasks)

    def encode(
        self,
        drafter: "Drafter",
        tokenizer: "PreTrainedTokenizerFast",
        vocabulary: "EnrichedVocabulary | None",
        max_prompt: int,
    ) -> tuple["TokenCorpus", "TokenCorpus"]:
        """Prompts and outputs with their end token, n-grams merged where the drafter speaks them."""
        from tasc.corpus import TokenCorpus

        outputs = TokenCorpus.encode(self.tasks.completions, tokenizer)
        prompts = TokenCorpus.from_rows(
            ids[:max_prompt] for ids in _prompts(tokenizer, self.tasks.rows, drafter.template)
        )
        if vocabulary is not None:
            prompts, outputs = vocabulary.merge_corpus(prompts), vocabulary.merge_corpus(outputs)
        return prompts, TokenCorpus.from_rows([*ids.tolist(), drafter.eos_id] for ids in outputs)


def _prompts(tokenizer: "PreTrainedTokenizerFast", rows: "Sequence[Row]", template: str) -> Any:
    from tasc.corpus import TokenCorpus, make_template

    if template in ("", "none"):  # the bare prompt
        return TokenCorpus.encode([row.prompt for row in rows], tokenizer)
    return make_template(tokenizer, template).encode_prompts(rows)


def vocabulary_of(drafter: "Drafter", path: Path, given: str | None) -> "EnrichedVocabulary | None":
    """The n-grams that the drafter of a file speaks: those given, or those it was built with; None for base ids."""
    from tasc.vocab.vocabulary import EnrichedVocabulary

    folder = given or drafter.origin.vocabulary
    if not folder:
        return None
    try:
        vocabulary = EnrichedVocabulary.load(folder)
    except (VocabularyError, OSError) as error:
        if given is not None:
            raise
        raise VocabularyError(
            f"{path} speaks n-grams of {folder}, which cannot be read: {error}; pass --vocab"
        ) from error
    if vocabulary.size > drafter.vocab_size:
        raise VocabularyError(
            f"{path} has {drafter.vocab_size} ids, {folder} {vocabulary.size}; pass the n-grams it was built with as --vocab"
        )
    return vocabulary


def tokenizer_name(drafter: "Drafter", path: Path, given: str | None) -> str:
    """Folder or Hub name of the tokenizer to read rows with."""
    if given is None and not drafter.tokenizer:
        raise OptionError(f"{path} does not say which tokenizer it was built with; pass --tokenizer")
    return given or drafter.tokenizer


def tokenizer_of(
    drafter: "Drafter", path: Path, given: str | None, vocabulary: "EnrichedVocabulary | None"
) -> "PreTrainedTokenizerFast":
    """The tokenizer to read the rows with; it must be the one that the drafter was built with."""
    from tasc.corpus import fingerprint, load_tokenizer

    name = tokenizer_name(drafter, path, given)
    try:
        tokenizer = load_tokenizer(name)
    except TokenizerError as error:
        if given is not None:
            raise
        raise TokenizerError(
            f"{path} was built with a tokenizer that is not there: {error}; pass --tokenizer"
        ) from error
    found, fitting = fingerprint(tokenizer), {drafter.fingerprint, "" if vocabulary is None else vocabulary.fingerprint}
    if drafter.fingerprint and found not in fitting:
        raise FingerprintError(
            f"{path} was built with tokenizer {drafter.fingerprint}, {name} is {found}; "
            "pass the one it was built with as --tokenizer"
        )
    return tokenizer


def log_of(path: Path, drafter: "Drafter") -> "Log":
    """A log that holds requests, recorded with the drafter's tokenizer."""
    from tasc.draft.recorded import read_log

    log = read_log(path)
    if not log.requests:
        raise DataError(f"{path}: no recorded request; record a run with 'tasc generate --record'")
    recorded_with = log.about.get("fingerprint")
    if drafter.fingerprint and recorded_with not in (None, drafter.fingerprint):
        raise FingerprintError(
            f"{path}: recorded with tokenizer {recorded_with}, the drafter has {drafter.fingerprint}; use the drafter of "
            "that run"
        )
    return log
