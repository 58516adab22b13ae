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

from tasc._numba import inner, njit
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


@njit
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


@njit
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


@inner
def _find(nodes, prefix, last):
    mask = nodes.keys.size - 1
    key = (np.int64(prefix) << 32) | np.int64(last)
    slot = slot_of(key, mask)
    while nodes.keys[slot] != -1:
        if nodes.keys[slot] == key:
            return np.int64(nodes.values[slot])
        slot = (slot + 1) & mask
    return np.int64(-1)


@inner
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


@inner
def _count_pairs(tokens, weights, unigrams, floor, nodes, at, begin):
    """Count bigrams from `begin` on while there is room; returns where it ended. at[i] is the node of the one that starts at i."""
    for i in range(begin, tokens.size - 1):
        a, b = tokens[i], tokens[i + 1]
        if a >= 0 and b >= 0 and unigrams[a] >= floor and unigrams[b] >= floor:
            if nodes.used[0] == nodes.counts.size:
                return i
            at[i] = _count(nodes, a, b, 2, weights[i])
    return tokens.size - 1


@inner
def _count_longer(tokens, weights, n, floor, nodes, at, begin):
    """`_count_pairs` for n-grams, given the nodes of the (n-1)-grams in `at`."""
    for i in range(begin, tokens.size - n + 1):
        head, tail = at[i], at[i + 1]
        if head >= 0 and tail >= 0 and nodes.counts[head] >= floor and nodes.counts[tail] >= floor:
            if nodes.used[0] == nodes.counts.size:
                return i
            at[i] = _count(nodes, SPACE + head, tokens[i + n - 1], n, weights[i])
        else:
            at[i] = -1
    return tokens.size - n + 1


@njit
def count_all(tokens, weights, unigrams, n_max, floor, nodes):
    """Count the n-grams of a compact corpus whose parts reach the floor; returns `nodes`, grown where it was too small."""
    at = np.full(tokens.size, -1, np.int32)
    for n in range(2, n_max + 1):
        n_before, place, end = nodes.used[0], 0, tokens.size - n + 1
        while place < end:
            if n == 2:
                place = _count_pairs(tokens, weights, unigrams, floor, nodes, at, place)
            else:
                place = _count_longer(tokens, weights, n, floor, nodes, at, place)
            if place < end:
                nodes = _grown(nodes)
        at[max(0, end) :] = -1
        if nodes.used[0] == n_before:
            break
    return nodes


@njit
def unigram_counts(tokens, weights, n_ids):
    counts = np.zeros(n_ids, np.int64)
    for i in range(tokens.size):
        if tokens[i] >= 0:
            counts[tokens[i]] += weights[i]
    return counts


@njit
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


@njit
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


@inner
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


@inner
def _candidates(nodes, first, threshold, found):
    """Fill `found` for `candidates`; how many there are."""
    k = 0
    for node in range(first, nodes.used[0]):
        if nodes.counts[node] * (nodes.levels[node] - 1) >= threshold:
            found[k] = node
            k += 1
    return k


@njit
def candidates(nodes, first, threshold):
    """Nodes from `first` on whose reward count * (n - 1) reaches the threshold: int64[n_candidates]."""
    found = np.empty(nodes.used[0] - first, np.int64)
    return found[: _candidates(nodes, first, threshold, found)].copy()


@inner
def _precedes(nodes, a, b, ids_a, ids_b):
    """Ties: the shorter n-gram (it occurs more often), then the lexicographically smaller."""
    n_a, n_b = _ids_of(nodes, a, ids_a), _ids_of(nodes, b, ids_b)
    if n_a != n_b:
        return n_a < n_b
    for i in range(n_a):
        if ids_a[i] != ids_b[i]:
            return ids_a[i] < ids_b[i]
    return False


@inner
def _best(nodes, pool, n_pool, ids, ids_other):
    """See `best`; `ids_other` is scratch."""
    place, reward = np.int64(-1), np.int64(0)
    for k in range(n_pool):
        node = pool[k]
        r = nodes.counts[node] * (nodes.levels[node] - 1)
        if r > reward or (r == reward and place >= 0 and _precedes(nodes, node, pool[place], ids, ids_other)):
            place, reward = np.int64(k), np.int64(r)
    if place >= 0:
        _ids_of(nodes, pool[place], ids)
    return place, reward


@njit
def best(nodes, pool, n_pool, n_max, ids):
    """The place in the pool of the n-gram with the largest reward, and that reward; its ids go into `ids`."""
    return _best(nodes, pool, n_pool, ids, np.empty(n_max, np.int64))


@inner
def _uncount(text, nodes, start, end, n_max):
    """Take away every counted window that overlaps the occurrence from `start` to `end`."""
    first = np.int64(start)
    for _ in range(n_max - 1):
        before = np.int64(text.preceding[first])
        if text.tokens[before] < 0:
            break
        first = before
    weight = text.weights[start]
    stop = np.int64(text.following[end])
    left, inside, head = first, False, np.int64(-1)
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
                node = _find(nodes, head if n == 2 else SPACE + node, token)
                if node == -1:
                    break
                if reached:
                    nodes.counts[node] -= weight
            else:
                head = np.int64(token)
            i = np.int64(text.following[i])
        left = np.int64(text.following[left])


@inner
def _replace(text, start, end, n, new_id):
    i = np.int64(start)
    for _ in range(n - 1):
        i = np.int64(text.following[i])
        text.tokens[i] = DEAD
    text.tokens[start] = new_id
    after = text.following[end]
    text.following[start] = after
    text.preceding[after] = start


@inner
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


@inner
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


@inner
def _merge(text, nodes, unigrams, listed, recent, n_recent, begin, offset, ids, n, new_id, n_max):
    """`merge` at the listed positions from `begin` on, while `recent` has room: (where it ended, positions in `recent`)."""
    for k in range(begin, len(listed)):
        if n_recent == recent.size:
            return k, n_recent
        start, end = _occurrence(text, listed[k], offset, ids, n)
        if start == -1:
            continue
        _uncount(text, nodes, start, end, n_max)
        weight = text.weights[start]
        for j in range(n):
            unigrams[ids[j]] -= weight
        unigrams[new_id] += weight
        _replace(text, start, end, n, new_id)
        recent[n_recent] = start
        n_recent += 1
    return len(listed), n_recent


@njit
def merge(text, nodes, unigrams, recent, recent_starts, first_recent, ids, n, new_id, n_max):
    """Replace the n-gram `ids[:n]` by `new_id`, from left to right, and take its windows out of the counts.

    `recent[recent_starts[k]:recent_starts[k + 1]]` lists the positions of id first_recent + k, made since the index was.
    Returns `recent` with the new id's positions on end, grown where it was too small.
    """
    offset, n_listed = _rarest(text, recent_starts, first_recent, ids, n)
    source, k_new = ids[offset] - first_recent, new_id - first_recent
    if source >= 0:
        listed = recent[recent_starts[source] : recent_starts[source] + n_listed]
    else:
        first = text.starts[ids[offset]]
        listed = text.positions[first : first + n_listed]
    n_recent, place = recent_starts[k_new], 0
    while place < n_listed:
        place, n_recent = _merge(
            text, nodes, unigrams, listed, recent, n_recent, place, offset, ids, n, new_id, n_max
        )  # fmt: skip
        if place < n_listed:
            grown = np.empty(2 * recent.size, np.int32)
            grown[:n_recent] = recent
            recent = grown
    recent_starts[k_new + 1] = n_recent
    return recent


@inner
def _node_of(nodes, buffer, begin, end):
    """The node of buffer[begin:end], or -1."""
    node = _find(nodes, buffer[begin], buffer[begin + 1])
    for i in range(begin + 2, end):
        if node == -1:
            break
        node = _find(nodes, SPACE + node, buffer[i])
    return node


@inner
def _reaches(nodes, unigrams, buffer, begin, end, floor):
    if end - begin == 1:
        return unigrams[buffer[begin]] >= floor
    node = _node_of(nodes, buffer, begin, end)
    return node != -1 and nodes.counts[node] >= floor


@inner
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


@inner
def _count_windows(text, nodes, unigrams, positions, begin, new_id, n, n_max, floor, buffer):
    """Count the windows of n ids at the positions from `begin` on, while there is room; returns where it ended."""
    for k in range(begin, len(positions)):
        if nodes.used[0] + n > nodes.counts.size:
            return k
        position = positions[k]
        middle, length = _surroundings(text, position, n_max, buffer)
        first = max(0, middle - n + 1)
        for i in range(first, middle):
            if buffer[i] == new_id:  # windows from here on the left are counted at that occurrence
                first = i + 1
        for left in range(first, min(middle, length - n) + 1):
            right = left + n
            if not _reaches(nodes, unigrams, buffer, left, right - 1, floor):
                continue
            if not _reaches(nodes, unigrams, buffer, left + 1, right, floor):
                continue
            prefix = buffer[left] if n == 2 else SPACE + _node_of(nodes, buffer, left, right - 1)
            _count(nodes, prefix, buffer[right - 1], n, text.weights[position])
    return len(positions)


@njit
def count_new(text, nodes, unigrams, positions, new_id, n_max, floor):
    """Count the windows that hold `new_id`, each once, level by level; returns `nodes`, grown where it was too small."""
    buffer = np.empty(2 * n_max, np.int64)
    for n in range(2, n_max + 1):
        n_before, place = nodes.used[0], 0
        while place < len(positions):
            place = _count_windows(text, nodes, unigrams, positions, place, new_id, n, n_max, floor, buffer)
            if place < len(positions):
                nodes = _grown(nodes)
        if nodes.used[0] == n_before:
            break
    return nodes


@inner
def _drop_extended(nodes, suffixes, keep):
    """Take out of `keep` what an extension by one id matches in count."""
    for node in range(len(keep)):
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


@njit
def closed(nodes, min_count):
    """N-grams that reach `min_count` and that no extension by one id, to the left or right, matches in count: int64[n]."""
    n = nodes.used[0]
    keep = nodes.counts[:n] >= min_count
    _drop_extended(nodes, np.full(n, -1, np.int64), keep)
    return np.flatnonzero(keep)


@njit
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
