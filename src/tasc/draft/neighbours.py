"""Rows of the corpus whose prompts resemble a new prompt: their outputs tell what the new output will hold. Ids only.

Each row is kept as a few terms of its prompt, so that the table stays smaller than the outputs themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import _neighbours as kernels

MOST_ROWS = 32
MOST_TOKENS = 1000  # of their outputs together; the row that crosses it is the last
SCALE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """An inverted index: which rows have a term in their prompt.

    Attributes:
        term_ids: int32, shape (n_terms,), ascending.
        term_starts: int32, shape (n_terms + 1,): the rows of term k are `postings[term_starts[k]:term_starts[k + 1]]`.
        postings: int32, shape (n_postings,): rows, ascending for each term.
        norms: float32, shape (n_rows,): lengths of the rows' tf-idf vectors.
        prefix: int32: what all prompts begin with, a template; no term comes from it.
    """

    term_ids: NDArray[np.int32]
    term_starts: NDArray[np.int32]
    postings: NDArray[np.int32]
    norms: NDArray[np.float32]
    prefix: NDArray[np.int32]
    _sums: NDArray[np.float32] = field(init=False, repr=False)
    _touched: NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sums", np.zeros(len(self.norms), np.float32))
        object.__setattr__(self, "_touched", np.empty(len(self.norms), np.int32))

    @classmethod
    def build(cls, prompts: TokenCorpus, *, lengths: NDArray[np.int64]) -> "Neighbours":
        """Index the prompts.

        Args:
            lengths: tokens of each row's output, int64, shape (n_rows,): a row has at most so many terms.
        """
        prefix = common_prefix(prompts)
        n_rows = len(prompts)
        n_ids = int(prompts.tokens.max(initial=-1)) + 1
        counts, seen = np.zeros(n_ids, np.int32), np.full(n_ids, -1, np.int32)
        terms, per_row = np.empty((n_rows, kernels.TERMS), np.int32), np.empty(n_rows, np.int32)
        kernels.terms_of_rows(prompts.tokens, prompts.offsets, lengths, prefix, seen, terms, per_row, counts)
        term_ids = np.flatnonzero(counts).astype(np.int32)
        term_starts = np.zeros(len(term_ids) + 1, np.int32)
        np.cumsum(counts[term_ids], out=term_starts[1:])
        places = counts  # each term's next place; ids that are no term are never asked for
        places[term_ids] = term_starts[:-1]
        postings = np.empty(term_starts[-1], np.int32)
        kernels.fill_postings(terms, per_row, places, postings)
        return cls.from_postings(term_ids, term_starts, postings, n_rows, prefix)

    @classmethod
    def from_postings(
        cls,
        term_ids: NDArray[np.int32],
        term_starts: NDArray[np.int32],
        postings: NDArray[np.int32],
        n_rows: int,
        prefix: NDArray[np.int32],
    ) -> "Neighbours":
        """The index with the norms that its postings give."""
        norms = np.zeros(n_rows, np.float32)
        kernels.norms_of(term_starts, postings, n_rows, norms)
        return cls(term_ids, term_starts, postings, norms, prefix)

    @property
    def n_rows(self) -> int:
        """Rows of the corpus."""
        return len(self.norms)

    def without(self, rows: NDArray[np.int32]) -> "Neighbours":
        """The same with these rows left out and the others numbered anew."""
        kept = np.ones(self.n_rows, bool)
        kept[rows] = False
        numbers = (np.cumsum(kept) - 1).astype(np.int32)
        stays = kept[self.postings]
        counts = np.concatenate([[0], np.cumsum(stays)])[self.term_starts]
        lengths = np.diff(counts)
        used = lengths > 0
        starts = np.concatenate([[0], np.cumsum(lengths[used])]).astype(np.int32)
        postings = numbers[self.postings[stays]]
        return Neighbours.from_postings(self.term_ids[used], starts, postings, int(kept.sum()), self.prefix)

    @classmethod
    def merge(cls, parts: "Sequence[Neighbours]", *, lengths: NDArray[np.int64]) -> "Neighbours":
        """The index of the rows of all parts, one part behind the other.

        It is that of `build` for all rows, unless a part's prompts begin alike in more tokens than those of all parts do
        and hold more than `_neighbours.READ` distinct ones: then a few of its terms may be others.

        Args:
            lengths: tokens of each row's output, as for `build`.
        """
        prefix = parts[0].prefix
        for part in parts[1:]:
            agreed = np.cumprod(prefix[: len(part.prefix)] == part.prefix[: len(prefix)]).sum()
            prefix = prefix[:agreed]
        firsts = np.cumsum([0, *(part.n_rows for part in parts)])
        pairs = [
            part._terms_after(len(prefix), lengths[first : first + part.n_rows])
            for part, first in zip(parts, firsts, strict=False)
        ]
        terms = np.concatenate([terms for terms, _ in pairs])
        rows = np.concatenate([rows + first for (_, rows), first in zip(pairs, firsts, strict=False)])
        order = np.argsort(terms, kind="stable")  # parts stand in order of their rows already
        term_ids, counts = np.unique(terms, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return cls.from_postings(
            term_ids.astype(np.int32), starts, rows[order].astype(np.int32), int(firsts[-1]), prefix.copy()
        )

    def _terms_after(self, begin: int, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Terms and their rows, as they are if only the first `begin` tokens of the prefix are left out of the prompts."""
        terms = np.repeat(self.term_ids, np.diff(self.term_starts))
        rows = self.postings.astype(np.int64)
        _, first = np.unique(self.prefix[begin:], return_index=True)
        known = self.prefix[begin:][np.sort(first)[: kernels.READ]]  # what each prompt begins with competes again
        if not len(known):
            return terms, rows
        pairs = np.concatenate(
            [
                np.stack([rows, terms], axis=1),
                np.stack([np.repeat(np.arange(self.n_rows), len(known)), np.tile(known, self.n_rows)], axis=1),
            ]
        )
        pairs = np.unique(pairs, axis=0)
        behind = np.cumsum(np.bincount(pairs[:, 0], minlength=self.n_rows))[pairs[:, 0]] - np.arange(len(pairs))
        kept = pairs[behind <= np.minimum(lengths, kernels.TERMS)[pairs[:, 0]]]  # the highest ids of each row
        return kept[:, 1].astype(np.int32), kept[:, 0].astype(np.int64)

    def find(
        self, prompt: NDArray[np.int32], row_starts: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The most similar rows with an output, best last, and their weights (squared cosines times SCALE, at least 1).

        Args:
            prompt: int32, shape (n,).
            row_starts: int32, shape (n_rows + 1,): where each row's output begins; bounds how many rows are taken.
        """
        rows, weights = np.empty(MOST_ROWS, np.int32), np.empty(MOST_ROWS, np.int32)
        n = kernels.best_rows(
            self.term_ids, self.term_starts, self.postings, self.norms, self.prefix, prompt,
            self._sums, self._touched, row_starts, MOST_TOKENS, SCALE, rows, weights,
        )  # fmt: skip
        return rows[:n], weights[:n]


def common_prefix(rows: TokenCorpus) -> NDArray[np.int32]:
    """The tokens that all rows begin with; of a single row all of them."""
    if not len(rows):
        return np.empty(0, np.int32)
    length = int(rows.lengths.min())
    starts = rows.offsets[:-1]
    agreed = 0
    while agreed < length and (rows.tokens[starts + agreed] == rows.tokens[starts[0] + agreed]).all():
        agreed += 1
    return rows.tokens[starts[0] : starts[0] + agreed].copy()
