"""Kernels of the memory of outputs seen at run time: which of its rows are most like a prompt.

The rows stand one behind the other in an int32 stream: how many terms a row has, how many tokens its output, then the
terms, ascending, and the output.
"""

import math

import numpy as np

from tasc._numba import inner, njit

LOOKED_AT = 2  # rows for each output that is wanted: many may have the same one


@inner
def _shared(stream, begin, end, terms, squares):
    """The squared weights of the terms that stand in stream[begin:end] too."""
    total, term = 0.0, 0
    for place in range(begin, end):
        while term < len(terms) and terms[term] < stream[place]:
            term += 1
        if term == len(terms):
            break
        if terms[term] == stream[place]:
            total += squares[term]
    return total


@inner
def _most_similar(stream, begin, end, terms, squares, places, cosines):
    """Where the rows begin that have terms in common, most similar first, of equal ones the newest; how many."""
    norm = 0.0
    for square in squares:
        norm += square
    norm = math.sqrt(norm)
    n, at = 0, begin
    while at < end:
        size = stream[at]
        shared = _shared(stream, at + 2, at + 2 + size, terms, squares)
        if shared > 0:
            # the row's own norm is not known to the last bit: its size stands for it
            cosine = shared / (norm * max(norm, math.sqrt(size)))
            if n < len(places) or cosine >= cosines[n - 1]:
                k = n if n < len(places) else n - 1
                while k > 0 and cosines[k - 1] <= cosine:
                    places[k], cosines[k] = places[k - 1], cosines[k - 1]
                    k -= 1
                places[k], cosines[k] = at, cosine
                n = min(n + 1, len(places))
        at += 2 + size + stream[at + 1]
    return n


@inner
def _same_output(stream, one, other):
    """Whether two rows have the same output."""
    size = stream[one + 1]
    if size != stream[other + 1]:
        return False
    one, other = one + 2 + stream[one], other + 2 + stream[other]
    k = 0
    while k < size and stream[one + k] == stream[other + k]:
        k += 1
    return k == size


@njit
def find(stream, begin, end, terms, squares, start_id, scale, text, starts, weights):
    """The outputs of the rows that are most like a prompt with these terms, best last; how many outputs.

    `text` gets them one behind the other, each after `start_id`, `starts` where each begins and where the last ends,
    `weights` their squared cosines times `scale`; rows with the same output are one, and their weights add up. An output
    that `text` has no room for is left out.
    """
    places, cosines = np.empty(LOOKED_AT * len(weights), np.int64), np.empty(LOOKED_AT * len(weights))
    n_similar = _most_similar(stream, begin, end, terms, squares, places, cosines)
    room = len(text) - len(weights)
    kept, likeness = np.empty(len(weights), np.int64), np.zeros(len(weights))
    n = 0
    for k in range(n_similar):  # those that fit, the best first
        same = 0
        while same < n and not _same_output(stream, kept[same], places[k]):
            same += 1
        if same == n:
            if n == len(kept) or stream[places[k] + 1] > room:
                continue
            room -= stream[places[k] + 1]
            kept[n] = places[k]
            n += 1
        likeness[same] += cosines[k] * cosines[k]
    at = 0
    for row in range(n):
        k = n - 1 - row
        weights[row] = max(int(likeness[k] * scale), 1)
        starts[row], text[at] = at, start_id
        at += 1
        output = kept[k] + 2 + stream[kept[k]]
        for place in range(output, output + stream[kept[k] + 1]):
            text[at] = stream[place]
            at += 1
    starts[n] = at
    return n
