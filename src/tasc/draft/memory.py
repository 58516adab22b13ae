"""Outputs seen at run time: a bounded memory of one process from which new requests draft as well. Ids only.

The oldest rows leave first, so the same calls give the same memory in every process.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit
from tasc.draft.interface import Ids
from tasc.draft.neighbours import SCALE, Neighbours
from tasc.errors import OptionError

MOST_ROWS, MOST_TOKENS = 32, 1 << 13  # that a request drafts from


@njit
def compare(
    stream: NDArray[np.int32],
    begin: int,
    end: int,
    terms: NDArray[np.int32],
    squares: NDArray[np.float64],
    shared: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> None:
    """What each row has in common with a prompt: `shared` gets the squared weights of its terms that are in `terms` too.

    `stream[begin:end]` holds, row by row, how many terms a row has and these, ascending, as `terms` do. `squares` are
    the squared weights of `terms`; `sizes` gets how many terms each row has.
    """
    row, at = 0, begin
    while at < end:
        size, found, term = stream[at], 0.0, 0
        for place in range(at + 1, at + 1 + size):
            while term < len(terms) and terms[term] < stream[place]:
                term += 1
            if term == len(terms):
                break
            if terms[term] == stream[place]:
                found += squares[term]
        shared[row], sizes[row] = found, size
        row, at = row + 1, at + 1 + size


class Memory:
    """Prompts' terms and outputs of the last requests.

    Args:
        max_tokens: tokens of all outputs together; the oldest leave first.
        max_rows: rows in all.

    Raises:
        OptionError: a limit below 1.

    Examples:
        >>> memory = Memory(max_tokens=4)
        >>> memory.add([1], [5, 6, 0]); memory.add([2], [7, 0])
        >>> len(memory), memory.rows()
        (1, [([2], [7, 0])])
    """

    def __init__(self, *, max_tokens: int = 1 << 16, max_rows: int = 1024) -> None:
        if max_tokens < 1 or max_rows < 1:
            raise OptionError(f"max_tokens and max_rows must be at least 1, got {max_tokens} and {max_rows}")
        self.max_tokens, self.max_rows = max_tokens, max_rows
        self._rows: deque[tuple[NDArray[np.int32], NDArray[np.int32]]] = deque()
        self._n_tokens = 0
        self._terms = np.empty(0, np.int32)  # of each row how many, then these, ascending; the rows are in [begin, end)
        self._begin = self._end = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, prompt_ids: Ids, output_ids: Ids) -> None:
        """Remember a finished request; an output longer than the whole memory is not remembered."""
        prompt, output = np.asarray(prompt_ids, np.int32), np.asarray(output_ids, np.int32)
        if not 0 < len(output) <= self.max_tokens:
            return
        self._rows.append((prompt, output))
        self._n_tokens += len(output)
        self._append(np.unique(prompt))
        while self._n_tokens > self.max_tokens or len(self._rows) > self.max_rows:
            self._n_tokens -= len(self._rows.popleft()[1])
            self._begin += 1 + int(self._terms[self._begin])

    def _append(self, terms: NDArray[np.int32]) -> None:
        if self._end + 1 + len(terms) > len(self._terms):
            kept = self._terms[self._begin : self._end]
            self._terms = np.empty(2 * (len(kept) + 1 + len(terms)), np.int32)
            self._terms[: len(kept)] = kept
            self._begin, self._end = 0, len(kept)
        self._terms[self._end] = len(terms)
        self._terms[self._end + 1 : self._end + 1 + len(terms)] = terms
        self._end += 1 + len(terms)

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and output ids of each row, oldest first, for `Drafter.update`."""
        return [(prompt.tolist(), output.tolist()) for prompt, output in self._rows]

    def find(
        self, prompt: NDArray[np.int32], neighbours: Neighbours | None, start_id: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The outputs of the most similar rows, each after `start_id`, as one text; where each begins; their weights.

        They are MOST_ROWS with MOST_TOKENS in all at most.

        Args:
            prompt: int32, shape (n,).
            neighbours: of the drafter, for how rare each term is; None weighs all terms alike.
            start_id: the id in front of each output.
        """
        terms = np.unique(prompt)
        weights = np.ones(len(terms)) if neighbours is None else neighbours.idf(terms)
        norm = float(np.sqrt((weights**2).sum())) or 1.0
        shared, sizes = np.empty(len(self._rows)), np.empty(len(self._rows), np.int64)
        compare(self._terms, self._begin, self._end, terms, weights**2, shared, sizes)
        # the row's own norm is not known to the last bit: its size stands for it
        cosines = shared / (norm * np.maximum(norm, np.sqrt(sizes)))
        newest_first = len(cosines) - 1 - np.argsort(-cosines[::-1], kind="stable")[:MOST_ROWS]
        best, n_tokens = list[int](), 0
        for row in newest_first.tolist():
            n_more = len(self._rows[row][1])
            if cosines[row] > 0 and n_tokens + n_more <= MOST_TOKENS:
                best.append(row)
                n_tokens += n_more
        best.reverse()
        outputs = [self._rows[row][1] for row in best]
        starts = np.cumsum([0, *(1 + len(output) for output in outputs)], dtype=np.int32)
        text = np.full(starts[-1], start_id, np.int32)
        for output, begin, end in zip(outputs, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            text[begin + 1 : end] = output
        return text, starts, np.maximum(cosines[best] ** 2 * SCALE, 1).astype(np.int32)
