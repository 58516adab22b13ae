"""From a task's rows and a tokenizer to a drafter, and new rows for one that exists: what `tasc draft` does."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasc.corpus import (
    Row,
    Template,
    TokenCorpus,
    fingerprint,
    load_tasks,
    load_tokenizer,
    make_template,
    spelling_classes,
)
from tasc.draft.drafter import Drafter
from tasc.draft.options import Options, Origin, Preset
from tasc.errors import DataError, FingerprintError
from tasc.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BATCH = 1024  # rows tokenised at a time
BARE = ("", "none")  # templates that leave the prompt as it is


class Merger(Protocol):
    """N-grams that became ids: a `tasc.EnrichedVocabulary`."""

    @property
    def fingerprint(self) -> str:
        """Of the base tokenizer."""
        ...

    @property
    def size(self) -> int:
        """Base ids and n-grams."""
        ...

    @property
    def digest(self) -> str:
        """Of the n-grams."""
        ...

    def merge_corpus(self, corpus: TokenCorpus) -> TokenCorpus:
        """The same rows with n-grams in place of the base ids that they stand for."""
        ...


def build_drafter(
    rows: str | os.PathLike[str] | Sequence[Row],
    tokenizer: "str | os.PathLike[str] | PreTrainedTokenizerFast",
    *,
    vocabulary: Merger | None = None,
    vocabulary_folder: str = "",
    template: str = "auto",
    preset: Preset = "best",
    min_rows: int = 1,
    n_max: int = 4,
    p_min: int = 5,
    lam: float = 0.75,
    progress: Progress = silent,
) -> Drafter:
    """Build a drafter from a task's rows, as `tasc draft build` does.

    Args:
        rows: examples of the task, such as `tasc.load_tasks` gives, or where it finds them.
        tokenizer: the base tokenizer of the model.
        vocabulary: the n-grams of an enriched model (`tasc.EnrichedVocabulary`); prompts and outputs are merged with it.
        vocabulary_folder: where `tasc replay` finds these n-grams again.
        template: how prompts are written: "auto", "chat", "plain", the path of a .jinja file, or "none" for bare prompts.
        preset: "best" or "paper".
        min_rows: n-grams in fewer distinct rows do not enter the drafter.
        n_max: of preset "paper": longest n-gram, context and next token together.
        p_min: of preset "paper": least count of an n-gram.
        lam: of preset "paper": weight of the corpus, from 0 to 1; the rest is the prompt's.
        progress: see `tasc.progress.Progress`.

    Raises:
        DataError: there is no row, or the template refuses one.
        TokenizerError: the tokenizer cannot be loaded or has no end token.
        FingerprintError: the n-grams were made for another tokenizer.
        OptionError: a value out of range.

    Examples:
        ```python
        drafter = tasc.build_drafter("train.jsonl", "Qwen/Qwen2.5-0.5B")
        drafter.save("task.tasc")
        ```
    """
    options = Options(preset=preset, min_rows=min_rows, n_max=n_max, p_min=p_min, lam=lam)
    if isinstance(rows, str | os.PathLike):
        rows = load_tasks(rows)
    if not rows:
        raise DataError("a drafter needs at least one row, got none; check the data file")
    loaded = load_tokenizer(tokenizer)
    name = os.fspath(tokenizer) if isinstance(tokenizer, str | os.PathLike) else str(loaded.name_or_path or "")
    found = fingerprint(loaded)
    _check_base(vocabulary, found, name, vocabulary_folder)
    chosen = make_template(loaded, "plain" if template in BARE else template)
    encoder = _Encoder(chosen, template in BARE, vocabulary)
    with progress("encoding outputs", total=len(rows), unit="rows") as advance:
        outputs = encoder.outputs(rows, found, advance)
    prompts = None
    if preset == "best":
        with progress("encoding prompts", total=len(rows), unit="rows") as advance:
            prompts = encoder.prompts(rows, found, advance)
    return Drafter.build(
        outputs,
        prompts,
        eos_id=chosen.eos_id,
        vocab_size=_base_size(loaded) if vocabulary is None else vocabulary.size,
        spellings=spelling_classes(loaded) if preset == "best" else None,
        options=options,
        origin=Origin(
            found,
            name,
            "none" if template in BARE else chosen.name,
            vocabulary_folder,
            "" if vocabulary is None else vocabulary.digest,
        ),
        progress=progress,
    )


def update_drafter(
    drafter: Drafter,
    rows: Sequence[Row],
    tokenizer: "str | os.PathLike[str] | PreTrainedTokenizerFast | None" = None,
    *,
    vocabulary: Merger | None = None,
    progress: Progress = silent,
) -> Drafter:
    """The drafter with more rows: the same as building it from all rows at once.

    Args:
        drafter: stays as it is.
        rows: new examples of the task.
        tokenizer: default: the one it was built with.
        vocabulary: the n-grams it was built with, if any.
        progress: see `tasc.progress.Progress`.

    Raises:
        FingerprintError: the tokenizer is another one, or n-grams are missing.
        DataError: there is no row, or the drafter does not hold all of its rows (`min_rows`).
        TokenizerError: the tokenizer cannot be loaded.
    """
    drafter.require_whole()
    loaded = load_tokenizer(drafter.tokenizer if tokenizer is None else tokenizer)
    drafter.require(fingerprint(loaded))
    if vocabulary is not None and drafter.origin.ngrams not in ("", vocabulary.digest):
        raise FingerprintError("the drafter speaks other n-grams than those given; pass those it was built with")
    if (vocabulary is None) != (not drafter.origin.enriched):
        raise FingerprintError(
            "the drafter speaks n-grams and none were given; pass those it was built with"
            if vocabulary is None
            else "n-grams were given and the drafter speaks base ids; build it again with them"
        )
    added = build_drafter(
        rows,
        loaded,
        vocabulary=vocabulary,
        vocabulary_folder=drafter.origin.vocabulary,
        template=drafter.template,
        preset=drafter.options.preset,
        min_rows=drafter.options.min_rows,
        n_max=drafter.options.n_max,
        p_min=drafter.options.p_min,
        lam=drafter.options.lam,
        progress=progress,
    )
    return Drafter.merge([drafter, added], progress=progress)


class _Encoder:
    """Rows as ids that the drafter speaks, a batch at a time."""

    def __init__(self, template: Template, bare: bool, vocabulary: Merger | None) -> None:
        self._template, self._bare, self._vocabulary = template, bare, vocabulary

    def outputs(self, rows: Sequence[Row], made_with: str, advance: "_Advance") -> TokenCorpus:
        template = self._template
        texts = (template.encode_completions([row.completion for row in batch]) for batch in _batches(rows, advance))
        return self._merged(TokenCorpus.from_rows((ids for batch in texts for ids in batch), made_with))

    def prompts(self, rows: Sequence[Row], made_with: str, advance: "_Advance") -> TokenCorpus:
        return self._merged(
            TokenCorpus.from_rows((ids for batch in _batches(rows, advance) for ids in self._prompts(batch)), made_with)
        )

    def _prompts(self, batch: Sequence[Row]) -> list[list[int]]:
        if self._bare:
            return self._template.encode_completions([row.prompt for row in batch])
        return self._template.encode_prompts(batch)

    def _merged(self, corpus: TokenCorpus) -> TokenCorpus:
        return corpus if self._vocabulary is None else self._vocabulary.merge_corpus(corpus)


class _Advance(Protocol):
    def __call__(self, n: int, /) -> None: ...


def _batches(rows: Sequence[Row], advance: _Advance) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        yield batch
        advance(len(batch))


def _base_size(tokenizer: "PreTrainedTokenizerFast") -> int:
    return 1 + max(tokenizer.get_vocab().values())


def _check_base(vocabulary: Merger | None, found: str, name: str, folder: str) -> None:
    """Refuse an enriched tokenizer, whose n-grams no text is encoded to, and n-grams of another tokenizer."""
    places = [Path(place, "base_tokenizer") for place in (name, folder) if place]
    kept = next((place for place in places if place.is_dir()), None)
    if vocabulary is None and kept is not None:
        raise FingerprintError(
            f"{name} holds n-grams and none were given: its model would write n-grams, and the drafter base ids; pass "
            f"{kept} as the tokenizer and the n-grams of {name}"
        )
    if vocabulary is not None and vocabulary.fingerprint and vocabulary.fingerprint != found:
        place = f" ({kept})" if kept is not None else ""
        raise FingerprintError(
            f"{folder or 'the n-grams'} were made for tokenizer {vocabulary.fingerprint}, got {found}; "
            f"pass the base tokenizer they were made with{place}"
        )
