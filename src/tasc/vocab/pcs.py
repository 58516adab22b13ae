"""Prefix Collision Score: how likely a new token is to lure greedy decoding away from another continuation.

PCS(g) is the probability, under the empirical distribution of the base tokens in the outputs, of drawing a token that has a
suffix of g's text as a proper prefix; suffixes begin where a base token of g begins. Source: arXiv 2602.24174, section 3.1,
which leaves the suffixes open; see docs/enrich.md for what the threshold changes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


class PrefixCollisions:
    """PCS of n-grams of one corpus.

    Args:
        pieces: the bytes of each base id, at least as many as `counts`.
        counts: occurrences of each base id in the outputs, int[n_ids].

    Examples:
        >>> pcs = PrefixCollisions([b" in", b" the", b" therapy", b"x"], [2, 4, 1, 1])
        >>> pcs.score([0, 1])  # " therapy" begins with " the": 1 of 8 tokens
        0.125
    """

    def __init__(self, pieces: Sequence[bytes], counts: ArrayLike) -> None:
        self._pieces = pieces
        occurrences = np.asarray(counts)
        seen = sorted((pieces[i], int(occurrences[i])) for i in np.flatnonzero(occurrences).tolist() if pieces[i])
        self._texts = [text for text, _ in seen]
        self._cumulative = np.concatenate([[0], np.cumsum([count for _, count in seen])])

    def score(self, ids: Sequence[int]) -> float:
        """PCS in [0, 1] of the n-gram of these base ids."""
        total = int(self._cumulative[-1])
        if not total:
            return 0.0
        pieces = [self._pieces[i] for i in ids]
        spans = sorted(self._extensions(b"".join(pieces[k:])) for k in range(len(pieces)))
        covered, reached = 0, 0
        for low, high in spans:  # a token that extends two suffixes counts once
            low = max(low, reached)
            if high > low:
                covered += int(self._cumulative[high] - self._cumulative[low])
                reached = high
        return covered / total

    def _extensions(self, text: bytes) -> tuple[int, int]:
        """Where the tokens that properly begin with `text` stand among the sorted ones."""
        if not text:
            return 0, 0
        stripped = text.rstrip(b"\xff")
        after = stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
        high = len(self._texts) if after is None else bisect_left(self._texts, after)
        return bisect_right(self._texts, text), high
