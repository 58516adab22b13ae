"""What a drafter file belongs to: the tokenizer and the n-grams that it was built with, and logs of its requests.

The one file of this room that reads tokenizers; the others know ids only.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.corpus import fingerprint, load_tokenizer
from tasc.draft import Drafter, Drafts
from tasc.draft.adaptive import adaptive
from tasc.draft.cost import StepCost
from tasc.draft.options import LONGEST_DRAFT
from tasc.draft.recorded import Log, other_ids, read_log
from tasc.errors import DataError, FingerprintError, OptionError, TokenizerError, VocabularyError
from tasc.vocab import EnrichedVocabulary
from tasc.vocab.tokenizer import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def vocabulary_of(drafter: Drafter, path: Path, given: str | None) -> EnrichedVocabulary | None:
    """The n-grams that the drafter of a file speaks: those given, or those it was built with; None for base ids."""
    folder = given or drafter.origin.vocabulary
    if not folder and drafter.origin.enriched:
        raise VocabularyError(f"{path} speaks n-grams and does not say which; pass their folder as --vocab")
    if not folder:
        return None
    try:
        vocabulary = EnrichedVocabulary.load(folder)
    except (VocabularyError, OSError) as error:
        if given is not None:
            raise
        raise VocabularyError(
            f"{path} speaks n-grams of {folder}, which cannot be read there; pass --vocab, the folder where they are"
        ) from error
    if drafter.origin.ngrams not in ("", vocabulary.digest):
        raise VocabularyError(
            f"{path} speaks other n-grams than {folder} holds; pass those it was built with as --vocab"
        )
    if vocabulary.size > drafter.vocab_size:
        raise VocabularyError(
            f"{path} has {drafter.vocab_size} ids, {folder} {vocabulary.size}; pass the n-grams it was built with as --vocab"
        )
    return vocabulary


def tokenizer_name(drafter: Drafter, path: Path, given: str | None) -> str:
    """Folder or Hub name of the tokenizer to read rows with; of a model with n-grams, its base tokenizer."""
    if given is None and not drafter.tokenizer:
        raise OptionError(f"{path} does not say which tokenizer it was built with; pass --tokenizer")
    return base_of(given or drafter.tokenizer)


def tokenizer_of(
    drafter: Drafter, path: Path, given: str | None, vocabulary: EnrichedVocabulary | None
) -> "PreTrainedTokenizerFast":
    """The tokenizer to read the rows with; it must be the one that the drafter was built with."""
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


def log_of(path: Path, drafter: Drafter) -> Log:
    """A log that holds requests with outputs, and those alone, recorded with the drafter's tokenizer and n-grams."""
    log = read_log(path)
    log = replace(log, requests=[request for request in log.requests if request.output_ids])
    if not log.requests:
        raise DataError(f"{path}: no recorded request; record a run with 'tasc generate --record'")
    if other := other_ids(log.about, ids_of(drafter)):
        raise FingerprintError(
            f"{path}: recorded with {other[0]}, the drafter has {other[1]}; use the drafter of that run"
        )
    return log


def ids_of(drafter: Drafter) -> dict[str, str | None]:
    """What the ids of a drafter mean, as logs have it (`tasc.draft.recorded.other_ids`)."""
    origin = drafter.origin
    unsaid = origin.enriched and not origin.ngrams
    return {"fingerprint": origin.fingerprint or None, "ngrams": None if unsaid else origin.ngrams}


def options_of(log: Log, path: Path) -> dict[str, Any]:
    """The options of `tasc.draft.control.Control` that the run had, as far as the log says.

    Raises:
        DataError: the log says what cannot be.
    """
    found = {key: log.about[key] for key in ("max_draft", "min_gain", "switch_off", "tree") if key in log.about}
    found.setdefault("tree", False)  # logs that do not say are older than trees
    longest, least = found.get("max_draft", 1), found.get("min_gain", 0.0)
    usable = {
        "max_draft": type(longest) is int and 1 <= longest <= LONGEST_DRAFT,
        "min_gain": type(least) in (int, float) and 0 <= least < 1e9,
        "switch_off": type(found.get("switch_off", True)) is bool,
        "tree": type(found["tree"]) is bool,
    }
    for key, value in found.items():
        if not usable[key]:
            raise DataError(f"{path}: {key} cannot be {value!r:.60}; record the run again")
    return found


def curve_of(log: Log, path: Path) -> StepCost | None:
    """The cost curve that the run went by; None where the log has none."""
    stored = log.about.get("cost")
    return None if stored is None else StepCost.from_json(stored, source=str(path))


def at_work(drafter: Drafts, log: Log) -> Drafts:
    """A drafter as the run had it: one that adapts where drafters did."""
    return adaptive(drafter) if log.about.get("adapt") else drafter
