"""Suffix arrays of token ids. Knows ids only; `_suffix.py` holds the kernels."""

import numpy as np
from numpy.typing import NDArray

from tasc.draft import _suffix as kernels
from tasc.errors import DataError

# a table over all ids up to the largest is worth its memory up to here, or up to one entry per position
_SMALL_TABLE = 1 << 20
_MAX_TOKENS = (1 << 31) - 2


def suffix_array(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """The start positions of all suffixes of `tokens`, in lexicographic order; a proper prefix sorts first.

    Linear time for any ids, by induced sorting (`benchmarks/suffix_array.py` measures it), one core, the same result
    everywhere. Beside the result it needs at most about four more int32 arrays of the size of `tokens`.

    Args:
        tokens: int32, shape (n,), ids from 0; n below 2**31 - 1.

    Returns:
        int32, shape (n,): a permutation of the positions.

    Raises:
        DataError: the ids are not int32, not one row, negative or too many.

    Examples:
        >>> suffix_array(np.array([7, 5, 7, 5], dtype=np.int32)).tolist()
        [3, 1, 2, 0]
    """
    if tokens.dtype != np.int32 or tokens.ndim != 1 or len(tokens) > _MAX_TOKENS:
        raise DataError(
            f"suffix array of {tokens.dtype} ids of shape {tokens.shape}: "
            f"expected int32 of shape (n,), n at most {_MAX_TOKENS}; split the corpus"
        )
    suffixes = np.empty(len(tokens), np.int32)
    if len(tokens):
        if tokens.min() < 0:
            raise DataError(f"suffix array: token id {tokens.min()}, expected none below 0; encode the texts again")
        ranks, counts = _dense(np.ascontiguousarray(tokens))
        _sort(ranks, counts, suffixes)
    return suffixes


def _dense(tokens: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids numbered by size without gaps, shape (n,), and how often each occurs, shape (n_ids,)."""
    highest = int(tokens.max())
    if highest >= max(len(tokens), _SMALL_TABLE):
        ids, counts = np.unique(tokens, return_counts=True)
        return np.searchsorted(ids, tokens).astype(np.int32), counts.astype(np.int32)
    table = np.zeros(highest + 1, np.int32)
    kernels.count_ids(tokens, table)
    counts = np.empty(np.count_nonzero(table), np.int32)
    ranks = np.empty(len(tokens), np.int32)
    kernels.densify(tokens, table, counts, ranks)
    return ranks, counts


def _sort(ids: NDArray[np.int32], counts: NDArray[np.int32], suffixes: NDArray[np.int32]) -> None:
    """Fill `suffixes`; each level has at most half the ids of the one above, so the recursion is shallow."""
    n = len(ids)
    lms = np.empty(n // 2 + 1, np.int32)
    lms = lms[: kernels.find_lms(ids, lms)]
    suffixes[: len(lms)] = lms  # in order already if there is only one
    if len(lms) > 1:
        kernels.sort_lms_substrings(ids, counts, np.empty(len(counts), np.int32), lms, suffixes)
        names = np.empty(n // 2 + 1, np.int32)
        n_names = kernels.name_lms_substrings(ids, lms, suffixes, names)
        if n_names < len(lms):
            # the two ends of the array never meet: there are at most n / 2 LMS positions
            reduced, reduced_counts = suffixes[n - len(lms) :], np.zeros(n_names, np.int32)
            kernels.reduce_ids(lms, names, reduced, reduced_counts)
            del names  # before the recursion takes memory
            _sort(reduced, reduced_counts, suffixes[: len(lms)])
            kernels.to_positions(lms, suffixes)
    kernels.induce(ids, counts, np.empty(len(counts), np.int32), len(lms), suffixes)
