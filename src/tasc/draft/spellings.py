"""Which token stands for all spellings of a word (" Paris", "Paris", "paris"). Ids only: the classes come from outside."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def usual_spellings(classes: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """The token that stands for each class: its most frequent in the outputs; a class that never occurs stays as it is.

    Args:
        classes: int32, shape (n_ids,): equal for tokens that spell the same.
        counts: int64, shape (vocab_size + 2,): how often each id occurs.

    Examples:
        >>> usual_spellings(np.array([0, 1, 1], dtype=np.int32), np.array([0, 2, 5, 0, 0])).tolist()
        [0, 2, 2, 3, 4]
    """
    variants = np.arange(len(counts), dtype=np.int32)
    known = np.arange(min(len(classes), len(counts) - 2))
    best: dict[int, int] = {}
    for token in known[counts[known] > 0].tolist():
        kind = int(classes[token])
        if kind not in best or counts[token] > counts[best[kind]]:
            best[kind] = token
    if best:
        usual = np.full(int(classes.max(initial=0)) + 1, -1, np.int32)
        usual[list(best)] = list(best.values())
        found = usual[classes[known]]
        variants[known[found >= 0]] = found[found >= 0]
    return variants


def common_classes(variants: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Classes of spellings that hold in all tables: tokens that one of them puts together stay together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(variants[0])
    here = np.tile(np.arange(n), len(variants))
    there = np.concatenate(variants)
    pairs = coo_array((np.ones(len(here), np.int8), (here, there)), shape=(n, n))
    return connected_components(pairs, directed=False)[1].astype(np.int32)
