"""Outputs seen at run time: a bounded memory of one process from which requests draft as well. Ids only.

The oldest rows leave first, so the same calls give the same memory in every process.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tasc.draft.index import Index
from tasc.draft.interface import Ids
from tasc.errors import OptionError

NOTHING_SEEN = Index.from_text(np.empty(0, np.int32), start_id=0, eos_id=0).pack()
LED_BY = 15  # tokens of a prompt, its last ones, that stand before its output in the index
STALE = 8  # the index is made anew when one row in so many is not in it


class Memory:
    """Prompts and outputs of the last requests, the outputs with an index that all requests look contexts up in.

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

    def __init__(self, *, max_tokens: int = 1 << 20, max_rows: int = 1 << 16) -> None:
        if max_tokens < 1 or max_rows < 1:
            raise OptionError(f"max_tokens and max_rows must be at least 1, got {max_tokens} and {max_rows}")
        self.max_tokens, self.max_rows = max_tokens, max_rows
        self._rows: deque[tuple[NDArray[np.int32], NDArray[np.int32]]] = deque()
        self._n_tokens = 0
        self._index = NOTHING_SEEN
        self._n_missing = 0  # rows that the index lacks

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, prompt_ids: Ids, output_ids: Ids) -> None:
        """Remember a finished request; an output longer than the whole memory is not remembered.

        Args:
            prompt_ids: drafts need its last LED_BY ids.
            output_ids: what the target wrote, end token included if it ended.
        """
        prompt, output = np.array(prompt_ids, np.int32), np.array(output_ids, np.int32)
        if not 0 < len(output) <= self.max_tokens:
            return
        self._rows.append((prompt, output))
        self._n_tokens += len(output)
        self._n_missing += 1
        while self._n_tokens > self.max_tokens or len(self._rows) > self.max_rows:
            self._n_tokens -= len(self._rows.popleft()[1])

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and output ids of each row, oldest first, for `Drafter.update`."""
        return [(prompt.tolist(), output.tolist()) for prompt, output in self._rows]

    def index(self, start_id: int, eos_id: int) -> NDArray[np.int32]:
        """The outputs, each after the end of its prompt and `start_id`, as `Index.pack` gives them; another array after enough rows were added.

        An eighth of the rows may not be in it yet. Making it takes 0.06 to 0.2 s per million tokens, short outputs longest.

        Args:
            start_id: larger than the ids that are drafted; others stand for nothing.
            eos_id: ends an output.
        """
        if STALE * self._n_missing >= len(self._rows) > 0:
            before, begin = np.array([[start_id + 1], [start_id]], np.int32)
            rows = ((before, prompt[-LED_BY:], begin, output) for prompt, output in self._rows)
            ids = np.concatenate([part for row in rows for part in row])
            ids[(ids < 0) | (ids > start_id)] = start_id + 1  # ids that the drafter does not know
            self._index = Index.from_text(ids, start_id=start_id, eos_id=eos_id).pack()
            self._n_missing = 0
        return self._index
