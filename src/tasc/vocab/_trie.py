"""A trie over token ids in flat arrays, for numba kernels. It knows nothing about text.

Edges stand in one open-addressing hash table: key = (node << 32) | token id, value = the child node. Node 0 is the root.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Trie(NamedTuple):
    """Arrays of a trie; `terminal[node]` is the index of the sequence that ends there, or -1."""

    keys: NDArray[np.int64]  # (capacity,), -1 where free
    children: NDArray[np.int32]  # (capacity,)
    terminal: NDArray[np.int32]  # (n_nodes,)


@njit(cache=True, inline="always")
def slot_of(key, mask):
    hashed = np.uint64(key) * _GOLDEN
    return np.int64((hashed ^ (hashed >> np.uint64(32))) & np.uint64(mask))


@njit(cache=True, inline="always")
def child_of(keys, children, node, token):
    """The child of `node` by `token`, or -1."""
    mask = keys.size - 1
    key = (np.int64(node) << 32) | np.int64(token)
    slot = slot_of(key, mask)
    while keys[slot] != -1:
        if keys[slot] == key:
            return np.int64(children[slot])
        slot = (slot + 1) & mask
    return np.int64(-1)


@njit(cache=True)
def _build(tokens, offsets, keys, children, terminal):
    mask = keys.size - 1
    n_nodes = 1
    for sequence in range(offsets.size - 1):
        node = np.int64(0)
        for i in range(offsets[sequence], offsets[sequence + 1]):
            key = (node << 32) | np.int64(tokens[i])
            slot = slot_of(key, mask)
            while keys[slot] != -1 and keys[slot] != key:
                slot = (slot + 1) & mask
            if keys[slot] == -1:
                keys[slot] = key
                children[slot] = n_nodes
                n_nodes += 1
            node = np.int64(children[slot])
        terminal[node] = sequence
    return n_nodes


def flatten(sequences: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Token ids of all sequences on end, int32[n_tokens], and their offsets, int64[n_sequences + 1]."""
    offsets = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum([len(s) for s in sequences], out=offsets[1:])
    tokens = np.fromiter((t for s in sequences for t in s), np.int32, int(offsets[-1]))
    return tokens, offsets


def build_trie(sequences: Sequence[Sequence[int]]) -> Trie:
    """A trie of distinct id sequences; `terminal` counts them in the order given."""
    tokens, offsets = flatten(sequences)
    capacity = 1 << max(4, int(2 * tokens.size).bit_length())
    keys = np.full(capacity, -1, np.int64)
    children = np.zeros(capacity, np.int32)
    terminal = np.full(tokens.size + 1, -1, np.int32)
    n_nodes = _build(tokens, offsets, keys, children, terminal)
    return Trie(keys, children, terminal[:n_nodes].copy())
