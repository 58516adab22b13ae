"""Outputs seen at run time: a bounded memory of one process from which new requests draft as well. Ids only.

The oldest rows leave first, so the same calls give the same memory in every process.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tasc.draft.interface import Ids
from tasc.draft.neighbours import SCALE, Neighbours
from tasc.errors import OptionError

MOST_ROWS = 8  # that a request drafts from


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
        self._rows: deque[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]] = deque()
        self._n_tokens = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, prompt_ids: Ids, output_ids: Ids) -> None:
        """Remember a finished request; an output longer than the whole memory is not remembered."""
        prompt, output = np.asarray(prompt_ids, np.int32), np.asarray(output_ids, np.int32)
        if not 0 < len(output) <= self.max_tokens:
            return
        self._rows.append((np.unique(prompt), prompt, output))
        self._n_tokens += len(output)
        while self._n_tokens > self.max_tokens or len(self._rows) > self.max_rows:
            self._n_tokens -= len(self._rows.popleft()[2])

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and output ids of each row, oldest first, for `Drafter.update`."""
        return [(prompt.tolist(), output.tolist()) for _, prompt, output in self._rows]

    def find(
        self, prompt: NDArray[np.int32], neighbours: Neighbours | None, start_id: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The outputs of the most similar rows, each after `start_id`, as one text; where each begins; their weights.

        Args:
            prompt: int32, shape (n,).
            neighbours: of the drafter, for how rare each term is; None weighs all terms alike.
            start_id: the id in front of each output.
        """
        terms = np.unique(prompt)
        weights = np.ones(len(terms)) if neighbours is None else neighbours.idf(terms)
        norm = float(np.sqrt((weights**2).sum())) or 1.0
        scored = []
        for age, (known, _, output) in enumerate(reversed(self._rows)):
            shared = float((weights[np.isin(terms, known, assume_unique=True)] ** 2).sum())
            # the row's own norm is not known to the last bit: its size stands for it
            cosine = shared / (norm * max(norm, float(np.sqrt(len(known)))))
            if cosine > 0:
                scored.append((-cosine, age, output))
        best = sorted(scored, key=lambda row: row[:2])[:MOST_ROWS][::-1]
        text = [part for _, _, output in best for part in (np.array([start_id], np.int32), output)]
        starts = np.cumsum([0, *(len(output) + 1 for _, _, output in best)]).astype(np.int32)
        values = np.array([max(int(cosine**2 * SCALE), 1) for cosine, _, _ in best], np.int32)
        return np.concatenate([np.empty(0, np.int32), *text]), starts, values
