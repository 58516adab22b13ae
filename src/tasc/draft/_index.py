"""Kernels of the index: what follows a context, by binary search in the suffix array.

`tokens` may be one hostile file's: every position read is checked against its length.
"""

from tasc._numba import njit


@njit
def narrow(tokens, suffixes, low, high, depth, token):
    """The part of suffixes[low:high], all with the same first `depth` tokens, where `token` comes next: (low, high)."""
    n = len(tokens)
    a, b = low, high
    while a < b:
        middle = (a + b) >> 1
        place = suffixes[middle] + depth
        if place < n and tokens[place] >= token:
            b = middle
        else:
            a = middle + 1
    first, b = a, high
    # most parts are small: gallop instead of halving all that is left
    step = 1
    while a < b:
        middle = a + step if a + step < b else b
        place = suffixes[middle - 1] + depth
        if place < n and tokens[place] <= token:
            a = middle
            step *= 2
        else:
            b = middle - 1
            break
    while a < b:
        middle = (a + b) >> 1
        place = suffixes[middle] + depth
        if place < n and tokens[place] <= token:
            a = middle + 1
        else:
            b = middle
    return first, a
