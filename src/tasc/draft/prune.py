"""Leaves out of a drafter what too few rows share, for outputs with private text."""

import numpy as np
from numpy.typing import NDArray

from tasc.draft import _rows as kernels
from tasc.draft.suffix import suffix_array


def shared_text(text: NDArray[np.int32], start_id: int, min_rows: int) -> NDArray[np.int32]:
    """The parts of a text of rows whose n-grams, of any length, each occur in `min_rows` distinct rows or more.

    Args:
        text: int32, shape (n,), see `index.row_text`.
        start_id: stands before each row. `start_id + 1` goes before each part that does not begin a row.

    Examples:
        >>> text = np.array([9, 5, 6, 7, 8, 9, 5, 6, 4, 8], dtype=np.int32)
        >>> shared_text(text, 9, 2).tolist()
        [9, 5, 6, 10, 8, 9, 5, 6, 10, 8]
    """
    rows = np.cumsum(text == start_id) - 1
    ends = np.empty(len(text), np.int64)
    seen = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, np.int64)
    kernels.shared_ends(text, suffix_array(text), rows, min_rows, seen, ends)
    positions = np.arange(len(text))
    # a part inside the one that begins before it adds nothing
    reach = np.maximum.accumulate(np.concatenate([[0], ends[:-1]]))
    starts = positions[(ends > positions) & (ends > reach)]
    parts = []
    for start in starts:
        if text[start] != start_id:
            parts.append([start_id + 1])
        parts.append(text[start : ends[start]])
    return np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)
