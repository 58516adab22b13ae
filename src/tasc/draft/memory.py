"""Outputs seen at run time: a bounded memory of one process from which new requests draft as well. Ids only.

The oldest rows leave first, so the same calls give the same memory in every process.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tasc.draft import _memory
from tasc.draft.interface import Ids
from tasc.draft.neighbours import SCALE, Neighbours
from tasc.errors import OptionError

MOST_ROWS, MOST_TOKENS = 32, 1 << 13  # that a request drafts from


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
        self._stream = np.empty(0, np.int32)  # the rows from _begin to _end, see `_memory.py`
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
        self._append(np.unique(prompt), output)
        while self._n_tokens > self.max_tokens or len(self._rows) > self.max_rows:
            self._n_tokens -= len(self._rows.popleft()[1])
            self._begin += 2 + int(self._stream[self._begin : self._begin + 2].sum())

    def _append(self, terms: NDArray[np.int32], output: NDArray[np.int32]) -> None:
        row = np.concatenate([[len(terms), len(output)], terms, output], dtype=np.int32)
        if self._end + len(row) > len(self._stream):
            kept = self._stream[self._begin : self._end]
            self._stream = np.empty(2 * (len(kept) + len(row)), np.int32)
            self._stream[: len(kept)] = kept
            self._begin, self._end = 0, len(kept)
        self._stream[self._end : self._end + len(row)] = row
        self._end += len(row)

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and output ids of each row, oldest first, for `Drafter.update`."""
        return [(prompt.tolist(), output.tolist()) for prompt, output in self._rows]

    def find(
        self, prompt: NDArray[np.int32], neighbours: Neighbours | None, start_id: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The outputs of the most similar rows, each after `start_id`, as one text; where each begins; their weights.

        They are MOST_ROWS with MOST_TOKENS in all at most; rows with the same output are one.

        Args:
            prompt: int32, shape (n,).
            neighbours: of the drafter, for how rare each term is; None weighs all terms alike.
            start_id: the id in front of each output.
        """
        if neighbours is None:
            terms = np.unique(prompt)
            squares = np.ones(len(terms))
        else:
            terms, squares = neighbours.weigh(prompt)
        text, starts = np.empty(MOST_ROWS + MOST_TOKENS, np.int32), np.empty(MOST_ROWS + 1, np.int32)
        weights = np.empty(MOST_ROWS, np.int32)
        n_rows = _memory.find(
            self._stream, self._begin, self._end, terms, squares, start_id, SCALE, text, starts, weights
        )  # fmt: skip
        return text[: starts[n_rows]], starts[: n_rows + 1], weights[:n_rows]
