"""The default drafter: every source names candidates, learnt weights rank them. Knows ids only.

Sources: the corpus of outputs at contexts of every length (Witten-Bell back-off over a suffix array), the outputs of rows
with similar prompts, the prompt (matches, and a cursor that follows what is copied), and the output so far.
`_sources.py` names the candidates, `_features.py` says how they are weighed.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tasc.draft import _candidates, _index, _request
from tasc.draft.index import Index
from tasc.draft.interface import Draft, Ids
from tasc.draft.memory import NOTHING_SEEN, Memory
from tasc.draft.neighbours import Neighbours

MEMO_LINES = 1 << 14  # 2 MB a thread
STEPS = 1 << 15  # 1 MB a thread
_Array = NDArray[np.int32]
Lookup = tuple[_Array, _Array, _Array, _Array, _Array, _Array, _Array]
_NONE = np.empty(0, np.int32)
THREADS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
ROWS_PER_THREAD = 32  # of a batch: about 0.8 ms of work; where the cores are busy a thread is woken late
ROOM = 256  # tokens a memory has room for before it grows


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """What all requests share.

    Attributes:
        index: the outputs.
        row_starts: int32, shape (n_rows + 1,), see `Index.row_starts`.
        neighbours: finds rows by their prompts; None if the file holds no prompts.
        variants: int32, shape (vocab_size + 2,): the token that stands for all spellings of a word.
        weights: float32, shape (N_WEIGHTS,): scores of the features' bins.
    """

    index: Index
    row_starts: NDArray[np.int32]
    neighbours: Neighbours | None
    variants: NDArray[np.int32]
    weights: NDArray[np.float32]
    # what was looked up lately: for calls that hold Python's lock, then for each thread of a batch
    _scratch: list[tuple[_Array, _Array]] = field(init=False, repr=False, default_factory=list)
    _batch_lock: Lock = field(init=False, repr=False, default_factory=Lock)

    def start(self, prompt_ids: Ids, *, memory: Memory | None = None) -> "MixtureState":
        """The memory of one request."""
        return MixtureState(self, self.begin(np.asarray(prompt_ids, dtype=np.int32), memory=memory), memory)

    def lookup(self, thread: int = 0) -> Lookup:
        """What the kernels look contexts up in; threads that run at once need one each."""
        index, scratch = self.index, self._scratch
        while len(scratch) <= thread:
            scratch.append((np.zeros((STEPS, _index.STEP), np.int32), np.zeros((MEMO_LINES, _index.LINE), np.int32)))
        steps, memo = scratch[thread]
        return index.tokens, index.suffixes, index.ids, index.starts, steps, self.variants, memo

    def seen(self, memory: Memory | None) -> NDArray[np.int32]:
        """The outputs seen at run time as one array, see `_index.unpack`."""
        return NOTHING_SEEN if memory is None else memory.index(self.index.start_id, self.index.eos_id)

    def begin(self, prompt: NDArray[np.int32], *, memory: Memory | None = None, room: int = ROOM) -> NDArray[np.int32]:
        """The memory of a request (see `_request.py`) with room for `room` tokens of output, before the first of them."""
        index, rows, weights = self.index, _NONE, _NONE
        if self.neighbours is not None and len(prompt):
            rows, weights = self.neighbours.find(prompt, self.row_starts)
        return _request.begin(
            *self.lookup(), self.seen(memory), self.row_starts, rows, weights, prompt, room, index.start_id
        )  # fmt: skip


class MixtureState:
    """The memory of one request."""

    __slots__ = ("_lookup", "_memory", "_mixture", "_place", "_remembered", "_room")

    def __init__(self, mixture: Mixture, memory: NDArray[np.int32], remembered: Memory | None = None) -> None:
        self._mixture, self._memory, self._room, self._remembered = mixture, memory, ROOM, remembered
        self._place: int = memory.__array_interface__["data"][0]  # its address
        self._lookup = mixture.lookup()

    def extend(self, ids: Ids) -> None:
        """Append what the target produced, in order, its end token included."""
        new = np.asarray(ids, dtype=np.int32)
        self._make_room(len(new))
        _request.extend(*self._lookup, self._mixture.seen(self._remembered), self._memory, new)

    def _make_room(self, n: int) -> None:
        """Have room for so many tokens more."""
        if n > self._room:
            written = int(self._memory[_request.N_TEXT] - self._memory[_request.PROMPT_END])
            more = max(written, ROOM) + n
            capacity = int(self._memory[_request.CAPACITY]) + more
            self._room += more
            self._memory = _request.grown(self._memory, capacity, self._room)
            self._place = self._memory.__array_interface__["data"][0]
        self._room -= n

    def propose(self, max_tokens: int = 10, *, min_probability: float = 0.0) -> Draft:
        """The most likely chain.

        Args:
            max_tokens: longest draft.
            min_probability: the draft ends before the token with which all of it is less likely than this.
        """
        mixture, index = self._mixture, self._mixture.index
        tokens, sources = np.empty(max_tokens, np.int32), np.empty(max_tokens, np.uint8)
        chances = np.empty(max_tokens, np.float32)
        n = _candidates.propose(
            *self._lookup, mixture.seen(self._remembered), mixture.weights, self._memory, index.start_id, index.eos_id, max_tokens, min_probability,
            tokens, sources, chances,
        )  # fmt: skip
        if n < max_tokens:
            return Draft(tokens[:n], sources[:n], chances[:n])
        return Draft(tokens, sources, chances)

    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        """See `TreeState.propose_tree`; the same memory as for chains, followed along every branch."""
        mixture, index = self._mixture, self._mixture.index
        tokens, parents = np.empty(max_tokens, np.int32), np.empty(max_tokens, np.int32)
        sources, chances = np.empty(max_tokens, np.uint8), np.empty(max_tokens, np.float32)
        n = _candidates.propose_tree(
            *self._lookup, mixture.seen(self._remembered), mixture.weights, self._memory, index.start_id, index.eos_id, max_tokens, max_depth, min_probability,
            tokens, parents, sources, chances,
        )  # fmt: skip
        if n < max_tokens:
            return Draft(tokens[:n], sources[:n], chances[:n], parents[:n])
        return Draft(tokens, sources, chances, parents)


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of a process; those of its parent are not there after a fork."""
    return ThreadPoolExecutor(max(1, THREADS - 1), thread_name_prefix="tasc-draft")


def extend_and_propose(
    states: Sequence[MixtureState], text: NDArray[np.int32], rows: NDArray[np.int64], begins: NDArray[np.int64],
    ends: NDArray[np.int64], most: NDArray[np.int64], min_probability: float = 0.0,
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:  # fmt: skip
    """`extend` and `propose` of many requests of one drafter and one memory, in one call; large batches in several threads.

    Args:
        text: int32, shape (n_rows, width): `text[rows[k], begins[k]:ends[k]]` is new to `states[k]`.
        rows, begins, ends: int64, shape (n,).
        most: int64, shape (n,): longest drafts.
        min_probability: as for `propose`, of all drafts.

    Returns:
        Tokens int32, sources uint8 and probabilities float32, all of shape (n, longest), and the tokens of each draft, int64,
        shape (n,); see `Draft`.
    """
    for state, n in zip(states, (ends - begins).tolist(), strict=True):
        state._make_room(n)
    places = np.array([state._place for state in states], np.int64)
    sizes = np.array([len(state._memory) for state in states], np.int64)
    mixture, n, longest = states[0]._mixture, len(states), int(most.max())
    seen = mixture.seen(states[0]._remembered)
    drafted, sources = np.empty((n, longest), np.int32), np.empty((n, longest), np.uint8)
    chances, made = np.empty((n, longest), np.float32), np.empty(n, np.int64)
    n_threads = max(1, min(THREADS, n // ROWS_PER_THREAD))
    bounds = [n * thread // n_threads for thread in range(n_threads + 1)]

    def run(thread: int) -> None:
        part = slice(bounds[thread], bounds[thread + 1])
        _candidates.extend_and_propose(
            *lookups[thread], seen, mixture.weights, places[part], sizes[part], mixture.index.start_id, mixture.index.eos_id,
            text, rows[part], begins[part], ends[part], most[part], min_probability, drafted[part], sources[part],
            chances[part], made[part],
        )  # fmt: skip

    with mixture._batch_lock:
        lookups = [mixture.lookup(1 + thread) for thread in range(n_threads)]
        others = [_threads(os.getpid()).submit(run, thread) for thread in range(1, n_threads)]
        run(0)
        for thread, other in enumerate(others, 1):
            if other.cancel():  # it has not begun: no core is free
                run(thread)
            else:
                other.result()
    return drafted, sources, chances, made
