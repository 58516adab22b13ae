"""Kernels over whole rows: a number for each row's content, and the parts of rows that many rows share."""

import numpy as np

from tasc._numba import njit
from tasc.draft._index import narrow

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@njit
def hash_rows(tokens, offsets, most, hashes):
    """FNV-1a over the first `most` tokens of each row, on top of what `hashes` (uint64) holds; then mixed well."""
    for row in range(len(offsets) - 1):
        value = hashes[row] ^ _OFFSET
        for at in range(offsets[row], min(offsets[row + 1], offsets[row] + most)):
            value = (value ^ np.uint64(tokens[at] + 1)) * _PRIME
        value ^= value >> np.uint64(32)
        value *= np.uint64(0xD6E8FEB86659FD93)
        value ^= value >> np.uint64(32)
        hashes[row] = value


@njit
def shared_ends(tokens, suffixes, ids_of_rows, min_rows, seen, ends):
    """For each position the end of the longest n-gram that begins there and occurs in `min_rows` distinct rows.

    `ids_of_rows[position]` is the position's row; `seen` (int64, zeros, one per row) marks rows already counted; an n-gram
    ends with its row.
    """
    n = len(tokens)
    mark = 0
    for position in range(n):
        low, high, depth = 0, n, 0
        end = position
        while position + depth < n and ids_of_rows[position + depth] == ids_of_rows[position]:
            low, high = narrow(tokens, suffixes, low, high, depth, tokens[position + depth])
            depth += 1
            if high - low < min_rows:
                break
            mark += 1
            rows = 0
            for k in range(low, high):
                row = ids_of_rows[suffixes[k]]
                if seen[row] != mark:
                    seen[row] = mark
                    rows += 1
                    if rows == min_rows:
                        break
            if rows < min_rows:
                break
            end = position + depth
        ends[position] = end
