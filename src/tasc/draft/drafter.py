"""The drafter: one read-only file, mapped by all processes, that proposes the next tokens of a task's outputs. Ids only.

    drafter = Drafter.build(outputs, prompts, eos_id=2, vocab_size=32000)
    drafter.save("task.tasc")
    state = Drafter.load("task.tasc").start(prompt_ids)
    state.propose(10).tokens

Presets: "best" mixes all sources by learnt weights (`mixture.py`), "paper" is TASC-spec as published (`paper.py`).
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import learning, sample, storage
from tasc.draft.index import Index, row_text
from tasc.draft.interface import DraftState, Ids
from tasc.draft.learning import Reliability
from tasc.draft.memory import Memory
from tasc.draft.mixture import Mixture
from tasc.draft.neighbours import Neighbours
from tasc.draft.options import Options, Origin, Preset, Tuned
from tasc.draft.paper import PaperDrafter
from tasc.draft.prune import shared_text
from tasc.draft.sample import Sample
from tasc.draft.spellings import common_classes, usual_spellings
from tasc.errors import DataError, FingerprintError, OptionError
from tasc.progress import Progress, silent

HELD_SHARE = 0.2  # of the rows at most teach the weights
FEWEST_HELD = 20


@dataclass(frozen=True, slots=True, eq=False)
class Drafter:
    """Proposes drafts; read-only and safe to share. Made by `build`, `merge` or `load`.

    Attributes:
        index: the outputs.
        options: how it was built.
        origin: what its ids mean.
        neighbours: rows by their prompts; None without prompts.
        variants: int32, shape (vocab_size + 2,): the usual spelling of each token.
        weights: float32: the learnt table, see `_features.py`.
        sample: rows that taught the weights; None where they must not be kept.
        reliability: predicted against observed acceptance on rows that taught nothing; None if nothing was learnt.
        tuned: how to decode with it; None before `tasc tune`.
        proposer: what makes the drafts from all this.

    Examples:
        >>> outputs = TokenCorpus.from_rows([[5, 6, 7], [5, 6, 8]] * 3)
        >>> drafter = Drafter.build(outputs, eos_id=0, vocab_size=10)
        >>> state = drafter.start([1, 2])
        >>> state.extend([5])
        >>> state.propose(1).tokens.tolist()
        [6]
    """

    index: Index
    options: Options
    origin: Origin
    neighbours: Neighbours | None
    variants: NDArray[np.int32]
    weights: NDArray[np.float32]
    sample: Sample | None
    reliability: Reliability | None
    tuned: Tuned | None = None
    proposer: "Mixture | PaperDrafter" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        options, index = self.options, self.index
        if options.preset == "paper":
            proposer = PaperDrafter(index, n_max=options.n_max, p_min=options.p_min, lam=options.lam)
        else:
            proposer = Mixture(index, index.row_starts, self.neighbours, self.variants, self.weights)
        object.__setattr__(self, "proposer", proposer)

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer; `""` fits any."""
        return self.origin.fingerprint

    @property
    def vocab_size(self) -> int:
        """The drafter's ids are below this."""
        return self.index.start_id

    @property
    def eos_id(self) -> int:
        """The id that ends an output."""
        return self.index.eos_id

    @property
    def tokenizer(self) -> str:
        """The tokenizer's folder or Hub name when the drafter was built."""
        return self.origin.tokenizer

    @property
    def template(self) -> str:
        """The prompt template that the drafter was built with."""
        return self.origin.template

    @property
    def preset(self) -> Preset:
        """How drafts are made: "best" or "paper"."""
        return self.options.preset

    def start(self, prompt_ids: Ids, *, memory: Memory | None = None) -> DraftState:
        """The memory of one request.

        Args:
            prompt_ids: the whole prompt, template included.
            memory: outputs seen at run time, to draft from as well; preset "best" only.
        """
        if memory is None or isinstance(self.proposer, PaperDrafter):
            return self.proposer.start(prompt_ids)
        return self.proposer.start(prompt_ids, memory=memory)

    def require(self, fingerprint: str) -> None:
        """Raise FingerprintError unless the drafter speaks the ids of the tokenizer with this fingerprint."""
        if self.fingerprint and self.fingerprint != fingerprint:
            raise FingerprintError(
                f"drafter built for tokenizer {self.fingerprint}, used with {fingerprint}; "
                "build it again with 'tasc draft build' and this tokenizer"
            )

    def require_whole(self) -> None:
        """Raise DataError unless the drafter holds all rows that it was built from, so that more can be added."""
        if self.options.min_rows > 1:
            raise DataError(
                "a drafter built with min_rows does not hold all rows, so none can be added to it; build it from all rows"
            )

    @classmethod
    def build(
        cls,
        outputs: TokenCorpus,
        prompts: TokenCorpus | None = None,
        *,
        eos_id: int,
        vocab_size: int,
        spellings: NDArray[np.int32] | None = None,
        options: Options | None = None,
        origin: Origin | None = None,
        progress: Progress = silent,
    ) -> "Drafter":
        """Index outputs and learn how to weigh the sources.

        Args:
            outputs: of the task, without end tokens.
            prompts: of the same rows; without them no row is found by its prompt.
            eos_id: the id that ends an output.
            vocab_size: ids are below this.
            spellings: int32, shape (n_ids,), see `tasc.corpus.spelling_classes`; default: every token its own.
            options: default: preset "best".
            origin: what the ids mean, for those who load the file.
            progress: see `tasc.progress.Progress`.

        Raises:
            DataError: prompts and outputs do not belong together, or an id is out of range.
            OptionError: a value out of range.
        """
        options, origin = options or Options(), origin or Origin(fingerprint=outputs.fingerprint)
        _check_rows(outputs, prompts, vocab_size, eos_id)
        terms = taught = None
        if options.preset == "best" and prompts is not None:
            taught = sample.choose(outputs, prompts)
            if options.min_rows == 1:  # terms of prompts are private text as well
                terms = Neighbours.build(prompts, lengths=outputs.lengths)
        classes = np.arange(vocab_size, dtype=np.int32) if spellings is None else spellings
        return _assemble(outputs, terms, taught, classes, eos_id, vocab_size, options, origin, progress)

    @classmethod
    def merge(cls, drafters: "Sequence[Drafter]", *, progress: Progress = silent) -> "Drafter":
        """One drafter of the rows of all, in their order: the same as building it from all rows at once.

        Raises:
            OptionError: none given, or they were built with different options.
            FingerprintError: they speak ids of different tokenizers.
            DataError: a drafter holds too little to be merged (`min_rows`).
        """
        if not drafters:
            raise OptionError("merging needs at least one drafter, got none")
        first = drafters[0]
        for other in drafters[1:]:
            other.require(first.fingerprint)
            expected, found = _options(first), _options(other)
            if found != expected:
                different = ", ".join(
                    f"{key} {expected[key]!r} and {found[key]!r}" for key in found if found[key] != expected[key]
                )
                raise OptionError(f"drafters built with different options: {different}; build them alike")
        first.require_whole()
        outputs = sample.joined([drafter.index.outputs() for drafter in drafters])
        terms = taught = None
        if all(drafter.neighbours is not None for drafter in drafters):
            parts = [cast(Neighbours, drafter.neighbours) for drafter in drafters]
            terms = Neighbours.merge(parts, lengths=outputs.lengths)
        if all(drafter.sample is not None for drafter in drafters):
            firsts = np.cumsum([0, *(drafter.index.n_rows for drafter in drafters)])[:-1].tolist()
            taught = Sample.merge([cast(Sample, drafter.sample) for drafter in drafters], outputs, firsts)
        return _assemble(
            outputs, terms, taught, common_classes([drafter.variants for drafter in drafters]), first.eos_id,
            first.vocab_size, first.options, first.origin, progress,
        )  # fmt: skip

    def update(
        self,
        rows: "Sequence[tuple[Ids, Ids]]",
        *,
        spellings: NDArray[np.int32] | None = None,
        progress: Progress = silent,
    ) -> "Drafter":
        """The drafter with more rows: (prompt ids, output ids) of finished requests, end tokens or not.

        Args:
            rows: ids as the model sees and writes them, n-grams merged.
            spellings: as for `build`; without them, spellings that no output held so far stay apart.
            progress: see `tasc.progress.Progress`.

        Raises:
            DataError: as for `build` and `merge`.
        """
        self.require_whole()
        ends = [
            (prompt, list(output[:-1] if len(output) and output[-1] == self.eos_id else output))
            for prompt, output in rows
        ]
        outputs = TokenCorpus.from_rows([output for _, output in ends], self.fingerprint)
        prompts = TokenCorpus.from_rows([prompt for prompt, _ in ends], self.fingerprint)
        added = Drafter.build(
            outputs, None if self.neighbours is None else prompts, eos_id=self.eos_id, vocab_size=self.vocab_size,
            spellings=self.variants[: self.vocab_size] if spellings is None else spellings,
            options=self.options, origin=self.origin,
        )  # fmt: skip
        return Drafter.merge([self, added], progress=progress)

    def taught(self, prompts: TokenCorpus, outputs: TokenCorpus) -> "Drafter":
        """The same drafter with weights learnt from other rows, which its index must not hold.

        Args:
            prompts: ids of each row.
            outputs: ids of the same rows, without end tokens.

        Raises:
            DataError: prompts and outputs do not belong together, or an id is out of range.
            OptionError: the preset has no weights.
        """
        if isinstance(self.proposer, PaperDrafter):
            raise OptionError("preset paper has no weights to learn; build the drafter with preset best")
        _check_rows(outputs, prompts, self.vocab_size, self.eos_id)
        of_tokens = self.options.min_rows == 1
        weights, reliability = learning.teach(self.proposer, prompts, outputs, of_tokens=of_tokens)
        return replace(self, weights=weights, reliability=reliability)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, atomically."""
        storage.write(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, verify: bool = False) -> "Drafter":
        """Map a file that `save` wrote. Every index in it is checked, so that drafting is safe whatever it holds.

        Args:
            path: the drafter file.
            verify: read and check all of a large file too; small ones are always checked in full.

        Raises:
            DrafterFileError: not a drafter file, of another version, cut short or damaged.
            OSError: the file cannot be opened.
        """
        return cls(**storage.read(path, verify=verify))


def _options(drafter: Drafter) -> dict[str, Any]:
    """What drafters must have in common to be merged."""
    origin = drafter.origin
    return asdict(drafter.options) | {
        "vocab_size": drafter.vocab_size,
        "eos_id": drafter.eos_id,
        "template": origin.template,
        "n-grams": origin.ngrams or origin.vocabulary,
    }


def _check_rows(outputs: TokenCorpus, prompts: TokenCorpus | None, vocab_size: int, eos_id: int) -> None:
    if not len(outputs):
        raise DataError("a drafter needs at least one output, got none; check the data file")
    if not 0 <= eos_id < vocab_size:
        raise OptionError(f"eos_id must be from 0 to {vocab_size - 1}, got {eos_id}")
    if prompts is not None and len(prompts) != len(outputs):
        raise DataError(f"{len(prompts)} prompts for {len(outputs)} outputs; pass those of the same rows")
    for name, rows in (("outputs", outputs), ("prompts", prompts)):
        if rows is not None and (highest := int(rows.tokens.max(initial=0))) >= vocab_size:
            raise DataError(
                f"token id {highest} in the {name}, expected ids below {vocab_size}; "
                "use the tokenizer and the vocabulary of the model"
            )


def _assemble(
    outputs: TokenCorpus,
    terms: Neighbours | None,
    taught: Sample | None,
    classes: NDArray[np.int32],
    eos_id: int,
    vocab_size: int,
    options: Options,
    origin: Origin,
    progress: Progress,
) -> Drafter:
    """Build from what shards can be merged from: outputs, terms of the prompts, the sample, classes of spellings."""
    start_id = vocab_size
    counts = np.bincount(outputs.tokens, minlength=vocab_size + 2)
    if options.min_rows > 1:  # the usual spellings in the file would tell that rarer ones occurred
        counts[_rows_with(outputs, vocab_size) < options.min_rows] = 0
    variants = np.arange(vocab_size + 2, dtype=np.int32)
    if options.preset == "best":
        variants = usual_spellings(classes, counts)
    weights, reliability = learning.initial_weights(), None
    if options.preset == "best" and taught is not None:
        held = taught.rows[: int(HELD_SHARE * len(outputs))]
        if len(held) >= FEWEST_HELD:
            with progress("learning the weights", total=len(held)) as advance:
                kept = np.ones(len(outputs), bool)
                kept[held] = False
                index = _index_of(outputs.take(np.flatnonzero(kept)), start_id, eos_id, options)
                others = None if terms is None else terms.without(held)
                mixture = Mixture(index, index.row_starts, others, variants, weights)
                prompts = taught.prompts.take(np.arange(len(held)))
                # weights of single tokens would tell that rare ones occurred
                of_tokens = options.min_rows == 1
                weights, reliability = learning.teach(mixture, prompts, outputs.take(held), of_tokens=of_tokens)
                advance(len(held))
    with progress("indexing the outputs", total=len(outputs)) as advance:
        index = _index_of(outputs, start_id, eos_id, options)
        advance(len(outputs))
    return Drafter(
        index, options, origin, terms, variants, weights, taught if options.min_rows == 1 else None, reliability
    )


def _rows_with(outputs: TokenCorpus, vocab_size: int) -> NDArray[np.int64]:
    """How many rows hold each id, int64, shape (vocab_size + 2,)."""
    rows = np.repeat(np.arange(len(outputs)), outputs.lengths)
    pairs = np.unique(rows * vocab_size + outputs.tokens)
    return np.bincount(pairs % vocab_size, minlength=vocab_size + 2)


def _index_of(outputs: TokenCorpus, start_id: int, eos_id: int, options: Options) -> Index:
    if options.min_rows == 1:
        return Index.build(outputs, start_id=start_id, eos_id=eos_id)
    text = shared_text(row_text(outputs, start_id, eos_id), start_id, options.min_rows)
    return Index.from_text(text, start_id=start_id, eos_id=eos_id)
