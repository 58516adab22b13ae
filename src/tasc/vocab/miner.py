"""Algorithm 1 of the paper: repeatedly make the n-gram with the largest reward count * (n - 1) one token.

Exact and incremental. Work is done in rounds: a round counts every n-gram whose reward can reach a threshold, then merges as
long as the best reward stays above it, changing only the counts around each occurrence; then the corpus is compacted and the
threshold halved. Nothing below the threshold can be the best one meanwhile, so the result equals a full recount after every merge.

Source: Tsur, Adar, Levy, arXiv 2602.24174, section 3.1; sliding-window counts, merges from left to right, ties by `_precedes`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc._numba import interrupts_wait
from tasc.corpus import TokenCorpus
from tasc.errors import DataError, OptionError
from tasc.vocab import _mining as kernels

Accept = Callable[[tuple[int, ...]], bool]


@dataclass(frozen=True, slots=True)
class Merge:
    """One step of the miner: `parts` became one id that stands for the base ids `ids`.

    Attributes:
        ids: base ids.
        parts: ids as they were then, earlier merges included.
        count: sliding-window occurrences when it was chosen.
        reward: count * (len(parts) - 1).
    """

    ids: tuple[int, ...]
    parts: tuple[int, ...]
    count: int
    reward: int


def accept_all(ids: tuple[int, ...]) -> bool:
    """The filter that lets every n-gram pass."""
    return True


def mine(
    corpus: TokenCorpus,
    counts: NDArray[np.int64] | None = None,
    *,
    budget: int,
    base_size: int,
    n_max: int = 4,
    accept: Accept = accept_all,
    min_count: int = 2,
) -> Iterator[Merge]:
    """Run Algorithm 1 and yield its merges one by one, at most `budget`.

    Args:
        corpus: base ids of the outputs, one row each.
        counts: int64[n_rows], how often each row occurs (see `TokenCorpus.unique`); 1 each if not given.
        budget: merges to make (M).
        base_size: ids below it are base ids; the k-th merge gets id base_size + k.
        n_max: longest n-gram of *current* ids that is considered, at least 2.
        accept: called with the base ids of each best n-gram in turn; a refused one is never offered again and costs no budget.
        min_count: an n-gram that occurs less often is never chosen.

    Raises:
        OptionError: an option is out of range.
        DataError: 2^31 tokens or more, or a row that occurs so often.

    Examples:
        >>> corpus = TokenCorpus.from_rows([[1, 2, 3], [1, 2, 4]])
        >>> [m.ids for m in mine(corpus, budget=1, base_size=5)]
        [(1, 2)]
    """
    if budget < 0:
        raise OptionError(f"the budget must be 0 or more, not {budget}")
    if not 2 <= n_max <= 16:
        raise OptionError(f"n_max must be between 2 and 16, not {n_max}")
    if base_size + budget >= kernels.SPACE:
        raise OptionError(f"base size plus budget must stay below {int(kernels.SPACE)}, is {base_size + budget}")
    return _Miner(corpus, counts, base_size, n_max, budget, min_count).run(accept)


class _Miner:
    """The state between two picks. Attributes with a round's arrays are rebuilt by `_start_round`."""

    def __init__(
        self,
        corpus: TokenCorpus,
        counts: NDArray[np.int64] | None,
        base_size: int,
        n_max: int,
        budget: int,
        min_count: int,
    ) -> None:
        self.tokens, self.weights = separated(corpus, counts)
        self.base_size, self.n_max, self.min_count = base_size, n_max, max(1, min_count)
        self.budget = budget = min(budget, self.tokens.size)  # every merge leaves fewer tokens
        self.expansions: list[tuple[int, ...]] = []
        self.known: set[tuple[int, ...]] = (
            set()
        )  # the same base ids merged from other parts would be a second id for one text
        self.refused: set[tuple[int, ...]] = set()
        self.ids = np.empty(n_max, np.int64)
        n_ids = base_size + budget
        most = int(kernels.unigram_counts(self.tokens, self.weights, n_ids).max(initial=0))
        self.threshold = 2 * most * (n_max - 1)  # `run` halves it before each round

    def run(self, accept: Accept) -> Iterator[Merge]:
        while self.threshold > 1 and len(self.expansions) < self.budget:
            self.threshold //= 2
            self._start_round()
            yield from self._round(accept)

    def _start_round(self) -> None:
        self.tokens, self.weights = kernels.compact(self.tokens, self.weights)
        n_ids = self.base_size + self.budget
        self.unigrams = kernels.unigram_counts(self.tokens, self.weights, n_ids)
        # an n-gram with a reward of the threshold occurs at least this often, and so does every part of it
        self.floor = max(self.min_count, -(-self.threshold // (self.n_max - 1)))
        with interrupts_wait():
            self.nodes = kernels.count_all(
                self.tokens, self.weights, self.unigrams, self.n_max, self.floor, kernels.new_nodes(1 << 12)
            )
        self.pool = kernels.candidates(self.nodes, 0, self.threshold)
        self.n_pool = self.pool.size
        self.text = None
        self.first_recent = self.base_size + len(self.expansions)
        self.recent = np.empty(1024, np.int32)
        self.recent_starts = np.zeros(self.budget - len(self.expansions) + 1, np.int64)

    def _round(self, accept: Accept) -> Iterator[Merge]:
        while len(self.expansions) < self.budget:
            place, reward = kernels.best(self.nodes, self.pool, self.n_pool, self.n_max, self.ids)
            if place < 0 or reward < self.threshold:
                return
            node = self.pool[place]
            parts = tuple(int(t) for t in self.ids[: self.nodes.levels[node]])
            count = int(self.nodes.counts[node])
            self.pool[place] = self.pool[self.n_pool - 1]
            self.n_pool -= 1
            if count < self.min_count or parts in self.refused:
                continue
            whole = tuple(t for p in parts for t in self._base_ids(p))
            if whole in self.known or not accept(whole):
                self.refused.add(parts)
                continue
            with interrupts_wait():
                self._merge(parts)
            self.expansions.append(whole)
            self.known.add(whole)
            yield Merge(whole, parts, count, int(reward))

    def _base_ids(self, token: int) -> tuple[int, ...]:
        return self.expansions[token - self.base_size] if token >= self.base_size else (token,)

    def _merge(self, parts: tuple[int, ...]) -> None:
        n_ids = self.base_size + self.budget
        if self.text is None:  # rounds that merge nothing never pay for the index
            self.text = kernels.index(self.tokens, self.weights, n_ids)
        new_id = self.base_size + len(self.expansions)
        ids = np.array(parts, np.int64)
        self.recent = kernels.merge(
            self.text, self.nodes, self.unigrams, self.recent, self.recent_starts, self.first_recent,
            ids, len(parts), new_id, self.n_max,
        )  # fmt: skip
        k = new_id - self.first_recent
        positions = self.recent[self.recent_starts[k] : self.recent_starts[k + 1]]
        n_known = int(self.nodes.used[0])
        self.nodes = kernels.count_new(self.text, self.nodes, self.unigrams, positions, new_id, self.n_max, self.floor)
        self._extend_pool(kernels.candidates(self.nodes, n_known, self.threshold))

    def _extend_pool(self, found: NDArray[np.int64]) -> None:
        if self.n_pool + found.size > self.pool.size:
            self.pool = np.concatenate([self.pool[: self.n_pool], np.empty(self.n_pool + found.size, np.int64)])
        self.pool[self.n_pool : self.n_pool + found.size] = found
        self.n_pool += found.size


def separated(corpus: TokenCorpus, counts: NDArray[np.int64] | None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows with a separator before, between and after them, and each position's row weight."""
    n_rows = len(corpus)
    most = np.iinfo(np.int32).max
    if corpus.tokens.size + n_rows >= most or (counts is not None and np.max(counts, initial=0) > most):
        raise DataError(
            f"the miner takes rows of less than {most:,} tokens in all, each at most {most:,} times; mine a sample"
        )
    offsets = np.asarray(corpus.offsets)
    row_of = np.repeat(np.arange(n_rows), np.diff(offsets))
    tokens = np.full(corpus.tokens.size + n_rows + 1, kernels.SEPARATOR, np.int32)
    places = np.arange(corpus.tokens.size) + row_of + 1
    tokens[places] = corpus.tokens
    weights = np.zeros(tokens.size, np.int32)
    weights[places] = 1 if counts is None else np.asarray(counts, np.int32)[row_of]
    return tokens, weights
