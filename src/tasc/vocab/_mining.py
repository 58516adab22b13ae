"""Kernels of the miner: count n-grams level by level, pick the best, merge it everywhere, keep the counts exact.

The corpus is one flat array of ids with SEPARATOR before, between and after rows. N-grams live in a hash-consed tree: a node
is (prefix, last id), where the prefix is an id for a bigram and SPACE + node for anything longer, so keys are exact.

An n-gram is counted only if both its (n-1)-grams occur at least `floor` times (Apriori): sliding-window counts never grow
with n, and the count of an existing n-gram never grows by merging others, so nothing below the floor can come back.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit
from tasc.vocab._trie import slot_of

SEPARATOR = -1
DEAD = -2
SPACE = np.int64(1 << 30)  # ids are below it, nodes are numbered from it in keys


class Nodes(NamedTuple):
    """Counted n-grams; `used[0]` of the arrays' room is taken."""

    keys: NDArray[np.int64]  # (capacity,), -1 where free
    values: NDArray[np.int32]  # (capacity,), node of each key
    counts: NDArray[np.int64]  # (room,), weighted sliding-window occurrences
    prefixes: NDArray[np.int64]  # (room,)
    lasts: NDArray[np.int32]  # (room,)
    levels: NDArray[np.int8]  # (room,), n
    used: NDArray[np.int64]  # (1,)


class Text(NamedTuple):
    """The corpus in its current segmentation, linked across swallowed positions."""

    tokens: NDArray[np.int32]  # (n,)
    weights: NDArray[np.int32]  # (n,), how often the row occurs
    following: NDArray[np.int32]  # (n,)
    preceding: NDArray[np.int32]  # (n,)
    starts: NDArray[np.int64]  # (n_ids + 1,), where each id's positions begin
    positions: NDArray[np.int32]  # (n,), ascending for each id


@njit(cache=True)
def new_nodes(room):
    capacity = 4 * room
    return Nodes(
        np.full(capacity, -1, np.int64),
        np.zeros(capacity, np.int32),
        np.zeros(room, np.int64),
        np.zeros(room, np.int64),
        np.zeros(room, np.int32),
        np.zeros(room, np.int8),
        np.zeros(1, np.int64),
    )


@njit(cache=True)
def _grown(nodes):
    bigger = new_nodes(2 * nodes.counts.size)
    n = nodes.used[0]
    bigger.used[0] = n
    bigger.counts[:n] = nodes.counts[:n]
    bigger.prefixes[:n] = nodes.prefixes[:n]
    bigger.lasts[:n] = nodes.lasts[:n]
    bigger.levels[:n] = nodes.levels[:n]
    mask = bigger.keys.size - 1
    for slot in range(nodes.keys.size):
        key = nodes.keys[slot]
        if key != -1:
            free = slot_of(key, mask)
            while bigger.keys[free] != -1:
                free = (free + 1) & mask
            bigger.keys[free] = key
            bigger.values[free] = nodes.values[slot]
    return bigger


@njit(cache=True, inline="always")
def _find(nodes, prefix, last):
    mask = nodes.keys.size - 1
    key = (np.int64(prefix) << 32) | np.int64(last)
    slot = slot_of(key, mask)
    while nodes.keys[slot] != -1:
        if nodes.keys[slot] == key:
            return np.int64(nodes.values[slot])
        slot = (slot + 1) & mask
    return np.int64(-1)


@njit(cache=True, inline="always")
def _count(nodes, prefix, last, level, weight):
    """Add `weight` to a node, made if it is new; the caller keeps room for one more."""
    mask = nodes.keys.size - 1
    key = (np.int64(prefix) << 32) | np.int64(last)
    slot = slot_of(key, mask)
    while nodes.keys[slot] != -1 and nodes.keys[slot] != key:
        slot = (slot + 1) & mask
    if nodes.keys[slot] == -1:
        node = nodes.used[0]
        nodes.used[0] += 1
        nodes.keys[slot] = key
        nodes.values[slot] = node
        nodes.prefixes[node] = prefix
        nodes.lasts[node] = last
        nodes.levels[node] = level
    else:
        node = np.int64(nodes.values[slot])
    nodes.counts[node] += weight
    return node


@njit(cache=True)
def count_all(tokens, weights, unigrams, n_max, floor, nodes):
    """Count the n-grams of a compact corpus whose parts reach the floor; returns `nodes`, grown where it was too small."""
    at = np.full(tokens.size, -1, np.int32)  # node of the (n-1)-gram that starts here
    for i in range(tokens.size - 1):
        a, b = tokens[i], tokens[i + 1]
        if a >= 0 and b >= 0 and unigrams[a] >= floor and unigrams[b] >= floor:
            if nodes.used[0] == nodes.counts.size:
                nodes = _grown(nodes)
            at[i] = _count(nodes, a, b, 2, weights[i])
    for n in range(3, n_max + 1):
        n_before = nodes.used[0]
        for i in range(tokens.size - n + 1):
            head, tail = at[i], at[i + 1]
            if head >= 0 and tail >= 0 and nodes.counts[head] >= floor and nodes.counts[tail] >= floor:
                if nodes.used[0] == nodes.counts.size:
                    nodes = _grown(nodes)
                at[i] = _count(nodes, SPACE + head, tokens[i + n - 1], n, weights[i])
            else:
                at[i] = -1
        at[max(0, tokens.size - n + 1) :] = -1
        if nodes.used[0] == n_before:
            break
    return nodes


@njit(cache=True)
def unigram_counts(tokens, weights, n_ids):
    counts = np.zeros(n_ids, np.int64)
    for i in range(tokens.size):
        if tokens[i] >= 0:
            counts[tokens[i]] += weights[i]
    return counts


@njit(cache=True)
def index(tokens, weights, n_ids):
    """Link a compact corpus and list each id's positions."""
    n = tokens.size
    starts = np.zeros(n_ids + 1, np.int64)
    for token in tokens:
        if token >= 0:
            starts[token + 1] += 1
    starts = np.cumsum(starts)
    cursor = starts[:-1].copy()
    positions = np.empty(starts[-1], np.int32)
    following = np.empty(n, np.int32)
    preceding = np.empty(n, np.int32)
    for i in range(n):
        following[i], preceding[i] = i + 1, i - 1
        if tokens[i] >= 0:
            positions[cursor[tokens[i]]] = i
            cursor[tokens[i]] += 1
    return Text(tokens, weights, following, preceding, starts, positions)


@njit(cache=True)
def compact(tokens, weights):
    """Drop the positions that merges swallowed."""
    alive = 0
    for token in tokens:
        alive += token != DEAD
    kept, kept_weights = np.empty(alive, np.int32), np.empty(alive, np.int32)
    n = 0
    for i in range(tokens.size):
        if tokens[i] != DEAD:
            kept[n], kept_weights[n] = tokens[i], weights[i]
            n += 1
    return kept, kept_weights


@njit(cache=True)
def _ids_of(nodes, node, ids):
    """Write a node's ids into `ids`, return n."""
    n = np.int64(nodes.levels[node])
    for i in range(n - 1, 0, -1):
        ids[i] = nodes.lasts[node]
        if i > 1:
            node = nodes.prefixes[node] - SPACE
        else:
            ids[0] = nodes.prefixes[node]
    return n


@njit(cache=True)
def candidates(nodes, first, threshold):
    """Nodes from `first` on whose reward count * (n - 1) reaches the threshold: int64[n_candidates]."""
    n = nodes.used[0]
    found = np.empty(n - first, np.int64)
    k = 0
    for node in range(first, n):
        if nodes.counts[node] * (nodes.levels[node] - 1) >= threshold:
            found[k] = node
            k += 1
    return found[:k].copy()


@njit(cache=True)
def _precedes(nodes, a, b, ids_a, ids_b):
    """Ties: the shorter n-gram (it occurs more often), then the lexicographically smaller."""
    n_a, n_b = _ids_of(nodes, a, ids_a), _ids_of(nodes, b, ids_b)
    if n_a != n_b:
        return n_a < n_b
    for i in range(n_a):
        if ids_a[i] != ids_b[i]:
            return ids_a[i] < ids_b[i]
    return False


@njit(cache=True)
def best(nodes, pool, n_pool, n_max, ids):
    """The place in the pool of the n-gram with the largest reward, and that reward; its ids go into `ids`."""
    ids_other = np.empty(n_max, np.int64)
    place, reward = np.int64(-1), np.int64(0)
    for k in range(n_pool):
        node = pool[k]
        r = nodes.counts[node] * (nodes.levels[node] - 1)
        if r > reward or (r == reward and place >= 0 and _precedes(nodes, node, pool[place], ids, ids_other)):
            place, reward = np.int64(k), np.int64(r)
    if place >= 0:
        _ids_of(nodes, pool[place], ids)
    return place, reward


@njit(cache=True)
def _uncount(text, nodes, start, end, n_max, window):
    """Take away every counted window that overlaps the occurrence from `start` to `end`."""
    first = np.int64(start)
    for _ in range(n_max - 1):
        before = np.int64(text.preceding[first])
        if text.tokens[before] < 0:
            break
        first = before
    weight = text.weights[start]
    stop = np.int64(text.following[end])
    left, inside = first, False
    while left != stop:
        inside = inside or left == start
        reached = inside  # does the window overlap the occurrence yet?
        node, i = np.int64(-1), left
        for n in range(1, n_max + 1):
            token = text.tokens[i]
            if token < 0:
                break
            reached = reached or i == start
            if n > 1:
                node = _find(nodes, window[0] if n == 2 else SPACE + node, token)
                if node == -1:
                    break
                if reached:
                    nodes.counts[node] -= weight
            else:
                window[0] = token
            i = np.int64(text.following[i])
        left = np.int64(text.following[left])


@njit(cache=True)
def _replace(text, start, end, n, new_id):
    i = np.int64(start)
    for _ in range(n - 1):
        i = np.int64(text.following[i])
        text.tokens[i] = DEAD
    text.tokens[start] = new_id
    after = text.following[end]
    text.following[start] = after
    text.preceding[after] = start


@njit(cache=True)
def _occurrence(text, position, offset, ids, n):
    """Start and end of the occurrence of `ids` whose part `offset` stands at `position`, or (-1, -1)."""
    start = np.int64(position)
    for k in range(offset, -1, -1):
        if text.tokens[start] != ids[k]:
            return np.int64(-1), np.int64(-1)
        if k:
            start = np.int64(text.preceding[start])
    end = start
    for k in range(n):
        if text.tokens[end] != ids[k]:
            return np.int64(-1), np.int64(-1)
        if k < n - 1:
            end = np.int64(text.following[end])
    return start, end


@njit(cache=True)
def _rarest(text, recent_starts, first_recent, ids, n):
    """Which part of the n-gram has the fewest listed positions, and how many."""
    best_offset, fewest = 0, np.int64(-1)
    for k in range(n):
        recent = ids[k] - first_recent
        if recent >= 0:
            size = recent_starts[recent + 1] - recent_starts[recent]
        else:
            size = text.starts[ids[k] + 1] - text.starts[ids[k]]
        if fewest == -1 or size < fewest:
            best_offset, fewest = k, size
    return best_offset, fewest


@njit(cache=True)
def merge(text, nodes, unigrams, recent, recent_starts, first_recent, ids, n, new_id, n_max):
    """Replace the n-gram `ids[:n]` by `new_id`, from left to right, and take its windows out of the counts.

    `recent[recent_starts[k]:recent_starts[k + 1]]` lists the positions of id first_recent + k, made since the index was.
    Returns `recent` with the new id's positions on end, grown where it was too small.
    """
    offset, n_listed = _rarest(text, recent_starts, first_recent, ids, n)
    source = ids[offset] - first_recent
    window = np.empty(1, np.int64)
    k_new = new_id - first_recent
    n_recent = recent_starts[k_new]
    begin = recent_starts[source] if source >= 0 else text.starts[ids[offset]]
    for k in range(n_listed):
        position = recent[begin + k] if source >= 0 else text.positions[begin + k]
        start, end = _occurrence(text, position, offset, ids, n)
        if start == -1:
            continue
        _uncount(text, nodes, start, end, n_max, window)
        weight = text.weights[start]
        for j in range(n):
            unigrams[ids[j]] -= weight
        unigrams[new_id] += weight
        _replace(text, start, end, n, new_id)
        if n_recent == recent.size:
            grown = np.empty(2 * recent.size, np.int32)
            grown[:n_recent] = recent
            recent = grown
        recent[n_recent] = start
        n_recent += 1
    recent_starts[k_new + 1] = n_recent
    return recent


@njit(cache=True)
def _node_of(nodes, buffer, begin, end):
    """The node of buffer[begin:end], or -1."""
    node = _find(nodes, buffer[begin], buffer[begin + 1])
    for i in range(begin + 2, end):
        if node == -1:
            break
        node = _find(nodes, SPACE + node, buffer[i])
    return node


@njit(cache=True)
def _reaches(nodes, unigrams, buffer, begin, end, floor):
    if end - begin == 1:
        return unigrams[buffer[begin]] >= floor
    node = _node_of(nodes, buffer, begin, end)
    return node != -1 and nodes.counts[node] >= floor


@njit(cache=True)
def _surroundings(text, position, n_max, buffer):
    """The row around `position`, n_max - 1 ids to each side, into `buffer`; returns where `position` stands, and the length."""
    first = np.int64(position)
    left = 0
    while left < n_max - 1 and text.tokens[text.preceding[first]] >= 0:
        first = np.int64(text.preceding[first])
        left += 1
    length, i = 0, first
    while length < left + n_max and text.tokens[i] >= 0:
        buffer[length] = text.tokens[i]
        length += 1
        i = np.int64(text.following[i])
    return left, length


@njit(cache=True)
def count_new(text, nodes, unigrams, positions, new_id, n_max, floor):
    """Count the windows that hold `new_id`, each once, level by level; returns `nodes`, grown where it was too small."""
    buffer = np.empty(2 * n_max, np.int64)
    for n in range(2, n_max + 1):
        n_before = nodes.used[0]
        for position in positions:
            middle, length = _surroundings(text, position, n_max, buffer)
            first = max(0, middle - n + 1)
            for i in range(first, middle):
                if buffer[i] == new_id:  # windows from here on the left are counted at that occurrence
                    first = i + 1
            for begin in range(first, min(middle, length - n) + 1):
                end = begin + n
                if not _reaches(nodes, unigrams, buffer, begin, end - 1, floor):
                    continue
                if not _reaches(nodes, unigrams, buffer, begin + 1, end, floor):
                    continue
                if nodes.used[0] == nodes.counts.size:
                    nodes = _grown(nodes)
                prefix = buffer[begin] if n == 2 else SPACE + _node_of(nodes, buffer, begin, end - 1)
                _count(nodes, prefix, buffer[end - 1], n, text.weights[position])
        if nodes.used[0] == n_before:
            break
    return nodes


@njit(cache=True)
def closed(nodes, min_count):
    """N-grams that reach `min_count` and that no extension by one id, to the left or right, matches in count: int64[n]."""
    n = nodes.used[0]
    suffixes = np.full(n, -1, np.int64)
    keep = nodes.counts[:n] >= min_count
    for node in range(n):
        level = nodes.levels[node]
        if level == 2:
            continue
        head = nodes.prefixes[node] - SPACE
        if level == 3:
            tail = _find(nodes, nodes.lasts[head], nodes.lasts[node])
        else:
            tail = _find(nodes, SPACE + suffixes[head], nodes.lasts[node])
        suffixes[node] = tail
        if nodes.counts[head] == nodes.counts[node]:
            keep[head] = False
        if nodes.counts[tail] == nodes.counts[node]:
            keep[tail] = False
    return np.flatnonzero(keep)


@njit(cache=True)
def _flat_ids(nodes, chosen):
    """The ids of some nodes: flat int32[n_tokens] and offsets int64[n_chosen + 1]."""
    offsets = np.zeros(chosen.size + 1, np.int64)
    for k in range(chosen.size):
        offsets[k + 1] = offsets[k] + nodes.levels[chosen[k]]
    tokens = np.empty(offsets[-1], np.int32)
    ids = np.empty(128, np.int64)
    for k in range(chosen.size):
        n = _ids_of(nodes, chosen[k], ids)
        for i in range(n):
            tokens[offsets[k] + i] = ids[i]
    return tokens, offsets


def ids_of_nodes(nodes, chosen):
    """The ids of some n-grams, one tuple each, in the order of `chosen`."""
    flat, offsets = _flat_ids(nodes, chosen)
    ids = flat.tolist()
    return [tuple(ids[a:b]) for a, b in pairwise(offsets.tolist())]
