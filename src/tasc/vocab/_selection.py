"""Kernels that choose n-grams for fewest-tokens segmentation. Arrays in, arrays out.

Every place where a candidate n-gram could stand is an arc of its row's segmentation graph: nodes are the boundaries between
ids, every single id is an arc of cost 1, every active candidate too. The fewest tokens are a shortest path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit
from tasc.vocab._trie import child_of

_FAR = np.int32(1 << 29)


class Arcs(NamedTuple):
    """Where candidates match: `candidates[starts[i]:starts[i + 1]]` are the candidates that begin at position i, short to long."""

    starts: NDArray[np.int64]  # (n_tokens + 1,)
    candidates: NDArray[np.int32]  # (n_arcs,)
    lengths: NDArray[np.int16]  # (n_arcs,)


class Scores(NamedTuple):
    """What one look at the corpus says of each candidate, in weighted tokens."""

    value: NDArray[np.float64]  # (n_candidates,): tokens lost without it if active, tokens it would save if not
    uses: NDArray[np.int64]  # (n_candidates,): weighted occurrences behind that value


@njit(cache=True)
def find_arcs(tokens, offsets, keys, children, terminal):
    starts = np.zeros(tokens.size + 1, np.int64)
    n = 0
    candidates = np.empty(1024, np.int32)
    lengths = np.empty(1024, np.int16)
    for r in range(offsets.size - 1):
        for i in range(offsets[r], offsets[r + 1]):
            node = np.int64(0)
            for j in range(i, offsets[r + 1]):
                node = child_of(keys, children, node, tokens[j])
                if node == -1:
                    break
                if terminal[node] != -1:
                    if n == candidates.size:
                        candidates = np.concatenate((candidates, np.empty(n, np.int32)))
                        lengths = np.concatenate((lengths, np.empty(n, np.int16)))
                    candidates[n], lengths[n] = terminal[node], j + 1 - i
                    n += 1
            starts[i + 1] = n
    return Arcs(starts, candidates[:n].copy(), lengths[:n].copy())


@njit(cache=True)
def select_arcs(arcs, wanted):
    """The arcs of the candidates in the mask `wanted`; candidates keep their numbers."""
    n = 0
    for c in arcs.candidates:
        n += wanted[c]
    starts = np.zeros(arcs.starts.size, np.int64)
    candidates, lengths = np.empty(n, np.int32), np.empty(n, np.int16)
    n = 0
    for i in range(arcs.starts.size - 1):
        for a in range(arcs.starts[i], arcs.starts[i + 1]):
            if wanted[arcs.candidates[a]]:
                candidates[n], lengths[n] = arcs.candidates[a], arcs.lengths[a]
                n += 1
        starts[i + 1] = n
    return Arcs(starts, candidates, lengths)


@njit(cache=True)
def _fewest_to_end(arcs, begin, length, behind):
    """Fewest tokens from each boundary of the row to its end."""
    behind[length] = 0
    for i in range(length - 1, -1, -1):
        fewest = behind[i + 1] + 1
        for a in range(arcs.starts[begin + i], arcs.starts[begin + i + 1]):
            fewest = min(fewest, behind[i + arcs.lengths[a]] + 1)
        behind[i] = fewest


@njit(cache=True)
def _fewest_from_begin(arcs, begin, length, ahead):
    """Fewest tokens from the row's begin to each boundary."""
    for i in range(length + 1):
        ahead[i] = _FAR
    ahead[0] = 0
    for i in range(length):
        next_one = ahead[i] + 1
        ahead[i + 1] = min(ahead[i + 1], next_one)
        for a in range(arcs.starts[begin + i], arcs.starts[begin + i + 1]):
            j = i + arcs.lengths[a]
            ahead[j] = min(ahead[j], next_one)


@njit(cache=True)
def _detour(arcs, begin, i, j, longest, ahead, behind):
    """Fewest tokens of the row without the arc from i to j: through a boundary inside it, or by an arc over it."""
    fewest = _FAR
    for k in range(i + 1, j):
        fewest = min(fewest, ahead[k] + behind[k])
    for k in range(i, max(-1, j - longest - 1), -1):
        if ahead[k] + 1 >= fewest:
            continue
        for a in range(arcs.starts[begin + k], arcs.starts[begin + k + 1]):
            end = k + arcs.lengths[a]
            if end >= j and (k < i or end > j):
                fewest = min(fewest, ahead[k] + 1 + behind[end])
    return fewest


@njit(cache=True)
def _longest_row(offsets):
    longest = 0
    for r in range(offsets.size - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    return longest


@njit(cache=True)
def score(arcs, offsets, weights, active):
    """One look at the corpus: tokens in all under the active candidates, and what each candidate is worth.

    A candidate's occurrences in one row are added up as if they did not know each other, overlapping ones left out.
    """
    value, uses = np.zeros(active.size, np.float64), np.zeros(active.size, np.int64)
    seen_row, seen_end = np.full(active.size, -1, np.int64), np.zeros(active.size, np.int64)
    room = _longest_row(offsets) + 1
    ahead, behind = np.zeros(room, np.int32), np.zeros(room, np.int32)
    usable = select_arcs(arcs, active)
    longest = 1
    for n in usable.lengths:
        longest = max(longest, n)
    total = np.int64(0)
    for r in range(offsets.size - 1):
        begin, length, weight = offsets[r], offsets[r + 1] - offsets[r], weights[r]
        _fewest_from_begin(usable, begin, length, ahead)
        _fewest_to_end(usable, begin, length, behind)
        fewest = behind[0]
        total += np.int64(fewest) * weight
        for i in range(length):
            for a in range(arcs.starts[begin + i], arcs.starts[begin + i + 1]):
                c, j = arcs.candidates[a], i + arcs.lengths[a]
                through = ahead[i] + 1 + behind[j]
                if active[c]:
                    worth = _detour(usable, begin, i, j, longest, ahead, behind) - fewest if through == fewest else 0
                else:
                    worth = fewest - through
                if worth > 0 and not (seen_row[c] == r and i < seen_end[c]):
                    value[c] += worth * weight
                    uses[c] += weight
                    seen_row[c], seen_end[c] = r, j
    return total, Scores(value, uses)


@njit(cache=True)
def fewest_tokens(arcs, offsets, weights, active):
    """Weighted tokens of the corpus under the active candidates."""
    behind = np.zeros(_longest_row(offsets) + 1, np.int32)
    usable = select_arcs(arcs, active)
    total = np.int64(0)
    for r in range(offsets.size - 1):
        _fewest_to_end(usable, offsets[r], offsets[r + 1] - offsets[r], behind)
        total += np.int64(behind[0]) * weights[r]
    return total
