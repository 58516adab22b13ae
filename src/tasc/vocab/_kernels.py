"""Kernels that rewrite id sequences with n-grams: ordered merges, fewest tokens, and back. Arrays in, arrays out.

Both merge kernels take a flat corpus (`tokens`, `offsets`) and never look across a row's end.
"""

import heapq

import numpy as np

from tasc._numba import inner, njit
from tasc.vocab._trie import child_of

DEAD = -2  # a position whose token was swallowed by a merge to its left


@inner
def _lowest_rank(tokens, following, start, keys, children, terminal):
    """The lowest-ranked n-gram that starts at `start` in the linked row, or -1."""
    best, node, i = np.int64(-1), np.int64(0), np.int64(start)
    while i != -1:
        node = child_of(keys, children, node, tokens[i])
        if node == -1:
            break
        rank = np.int64(terminal[node])
        if rank != -1 and (best == -1 or rank < best):
            best = rank
        i = np.int64(following[i])
    return best


@njit
def _merge_row(row, first_id, lengths, longest, keys, children, terminal):
    """Apply the n-grams in order of rank, each from left to right, to one row in place; DEAD marks swallowed ids."""
    n = row.size
    following = np.arange(1, n + 1).astype(np.int32)
    preceding = np.arange(-1, n - 1).astype(np.int32)
    if n:
        following[n - 1] = -1
    queue = [np.int64(0) for _ in range(0)]
    for i in range(n):
        rank = _lowest_rank(row, following, i, keys, children, terminal)
        if rank != -1:
            queue.append((rank << 32) | np.int64(i))
    heapq.heapify(queue)
    while queue:
        entry = heapq.heappop(queue)
        rank, start = entry >> 32, entry & 0xFFFFFFFF
        if row[start] == DEAD:
            continue
        found = _lowest_rank(row, following, start, keys, children, terminal)
        if found != rank:  # a neighbour was merged since this entry was queued
            if found > rank:
                heapq.heappush(queue, (found << 32) | start)
            continue
        end = start
        for _ in range(lengths[rank] - 1):
            end = np.int64(following[end])
            row[end] = DEAD
        row[start] = first_id + rank
        following[start] = following[end]
        if following[end] != -1:
            preceding[following[end]] = start
        i = start
        for _ in range(longest):
            again = _lowest_rank(row, following, i, keys, children, terminal)
            if again != -1:
                heapq.heappush(queue, (again << 32) | i)
            i = np.int64(preceding[i])
            if i == -1:
                break


@njit
def merge_ordered(tokens, offsets, first_id, lengths, longest, keys, children, terminal):
    """Segment by ordered merges (Algorithm 1). `lengths[rank]` counts the parts of each n-gram; n-gram `rank` gets id first_id + rank.

    Returns merged tokens int32[<= n_tokens] and offsets int64[n_rows + 1].
    """
    merged = np.empty(tokens.size, np.int32)
    merged_offsets = np.zeros(offsets.size, np.int64)
    n = 0
    for r in range(offsets.size - 1):
        row = tokens[offsets[r] : offsets[r + 1]].copy()
        _merge_row(row, first_id, lengths, longest, keys, children, terminal)
        for token in row:
            if token != DEAD:
                merged[n] = token
                n += 1
        merged_offsets[r + 1] = n
    return merged[:n].copy(), merged_offsets


@njit
def merge_fewest(tokens, offsets, first_id, keys, children, terminal):
    """Segment each row into the fewest tokens; among equals the longest first token wins, from left to right.

    Returns merged tokens int32[<= n_tokens] and offsets int64[n_rows + 1].
    """
    merged = np.empty(tokens.size, np.int32)
    merged_offsets = np.zeros(offsets.size, np.int64)
    longest_row = 0
    for r in range(offsets.size - 1):
        longest_row = max(longest_row, offsets[r + 1] - offsets[r])
    cost = np.zeros(longest_row + 1, np.int32)
    step = np.zeros(longest_row + 1, np.int32)
    choice = np.zeros(longest_row + 1, np.int32)
    n = 0
    for r in range(offsets.size - 1):
        start, length = offsets[r], offsets[r + 1] - offsets[r]
        cost[length] = 0
        for i in range(length - 1, -1, -1):
            cost[i], step[i], choice[i] = cost[i + 1] + 1, 1, -1
            node = np.int64(0)
            for j in range(i, length):
                node = child_of(keys, children, node, tokens[start + j])
                if node == -1:
                    break
                if terminal[node] != -1 and cost[j + 1] + 1 <= cost[i]:
                    cost[i], step[i], choice[i] = cost[j + 1] + 1, j + 1 - i, terminal[node]
        i = np.int64(0)
        while i < length:
            merged[n] = tokens[start + i] if choice[i] == -1 else first_id + choice[i]
            n += 1
            i += step[i]
        merged_offsets[r + 1] = n
    return merged[:n].copy(), merged_offsets


@njit
def expand(tokens, first_id, expansion_tokens, expansion_offsets):
    """Write every n-gram id out as its base ids; returns int32[n_base_tokens]."""
    n_ngrams = expansion_offsets.size - 1
    total = 0
    for token in tokens:
        k = token - first_id
        total += expansion_offsets[k + 1] - expansion_offsets[k] if 0 <= k < n_ngrams else 1
    expanded = np.empty(total, np.int32)
    n = 0
    for token in tokens:
        k = token - first_id
        if 0 <= k < n_ngrams:
            for i in range(expansion_offsets[k], expansion_offsets[k + 1]):
                expanded[n] = expansion_tokens[i]
                n += 1
        else:
            expanded[n] = token
            n += 1
    return expanded
