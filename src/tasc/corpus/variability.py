"""How variable are texts? Entropies, CDF80 and typical-set size of word bigrams and token n-grams.

Method: Tsur, Adar, Levy (arXiv 2602.24174), Table 1 and the section on predicting the gain. Nothing here decides
anything; it counts.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasc.corpus.tokens import TokenCorpus

LENGTH_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_INT64_BITS = 63


@dataclass(frozen=True, slots=True)
class NgramStats:
    """The distribution of the n-grams of one n.

    Attributes:
        n: how many tokens or words.
        total: n-grams counted.
        distinct: different n-grams.
        entropy_bits: Shannon entropy.
        cdf80: how many of the most frequent ones make up 80% of all.
        typical_set_size: exp(H), H in nats: about how many n-grams carry the distribution.
    """

    n: int
    total: int
    distinct: int
    entropy_bits: float
    cdf80: int
    typical_set_size: float


def renyi_entropy(counts: ArrayLike, order: float = 1.0) -> float:
    """Renyi entropy of a distribution given by counts, in nats; order 1 is Shannon's entropy.

    `H_a = log(sum p^a) / (1 - a)`; order 2 is `-log sum p^2`, order 0 the logarithm of the number of outcomes.

    Args:
        counts: how often each outcome was seen, any shape; zeros count for nothing.
        order: not negative; infinity gives `-log max p`.

    Examples:
        Four equally likely outcomes have log 4 nats in every order; for (1/2, 1/4, 1/4) Shannon's entropy is
        1.5 bits and `sum p^2` is 3/8.

        >>> round(renyi_entropy([5, 5, 5, 5], 2) / math.log(2), 6)
        2.0
        >>> round(renyi_entropy([2, 1, 1]) / math.log(2), 6), round(math.exp(-renyi_entropy([2, 1, 1], 2)), 6)
        (1.5, 0.375)
    """
    if order < 0:
        raise ValueError(f"order must not be negative, got {order}")
    seen = np.asarray(counts, dtype=np.float64).ravel()
    seen = seen[seen > 0]
    if len(seen) == 0:
        return 0.0
    p = seen / seen.sum()
    if order == 1:
        return abs(float(-(p * np.log(p)).sum()))
    if math.isinf(order):
        return abs(float(-np.log(p.max())))
    return abs(float(np.log((p**order).sum()) / (1 - order)))


def coverage_count(counts: ArrayLike, share: float = 0.8) -> int:
    """How many of the most frequent outcomes make up `share` of all (CDF80 for 0.8).

    Examples:
        >>> coverage_count([1, 70, 9, 20])
        2
    """
    ordered = np.sort(np.asarray(counts, dtype=np.int64).ravel())[::-1]
    if len(ordered) == 0 or ordered[0] <= 0:
        return 0
    cumulative = np.cumsum(ordered)
    # a hair below the share: 0.8 of 10 must not become 9 through rounding
    return int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))) + 1


def word_ids(texts: Iterable[str]) -> TokenCorpus:
    """Whitespace words as ids in order of first appearance, one row a text."""
    ids: defaultdict[str, int] = defaultdict()
    # a new word gets the number of words known so far
    ids.default_factory = ids.__len__
    tokens, offsets = array("i"), array("q", [0])
    for text in texts:
        tokens.extend(map(ids.__getitem__, text.split()))
        offsets.append(len(tokens))
    return TokenCorpus(np.array(tokens, dtype=np.int32), np.array(offsets, dtype=np.int64))


def ngram_counts(corpus: TokenCorpus, n: int) -> NDArray[np.int64]:
    """How often each distinct n-gram occurs, rows apart, in no particular order. Shape (n_distinct,).

    Examples:
        >>> sorted(ngram_counts(TokenCorpus.from_rows([[1, 2, 1, 2], [2, 1]]), 2).tolist())
        [2, 2]
    """
    assert n >= 1
    if n == 1:
        counts = np.bincount(corpus.tokens)
        return counts[counts > 0]
    starts = _starts(corpus, n)
    if len(starts) == 0:
        return np.empty(0, np.int64)
    ids = _dense(corpus.tokens)
    bits = max(1, int(ids.max()).bit_length())
    codes, used = ids[starts], bits
    for k in range(1, n):
        if used + bits > _INT64_BITS:
            # name the prefixes seen so far 0, 1, 2, ... to make room in the 64-bit code
            prefixes, codes = np.unique(codes, return_inverse=True)
            used = max(1, int(len(prefixes) - 1).bit_length())
        codes = (codes << bits) | ids[starts + k]
        used += bits
    return _run_lengths(np.sort(codes))


def ngram_stats(corpus: TokenCorpus, n: int) -> NgramStats:
    """Entropy and coverage of the n-grams of a corpus."""
    counts = ngram_counts(corpus, n)
    nats = renyi_entropy(counts)
    return NgramStats(
        n=n,
        total=int(counts.sum()),
        distinct=len(counts),
        entropy_bits=nats / math.log(2),
        cdf80=coverage_count(counts),
        typical_set_size=math.exp(nats) if len(counts) else 0.0,
    )


def length_quantiles(corpus: TokenCorpus) -> dict[str, float]:
    """Tokens per row: minimum, 5%, 25%, median, 75%, 95%, 99%, maximum."""
    if len(corpus) == 0:
        return {}
    values = np.quantile(corpus.lengths, LENGTH_QUANTILES)
    return {f"p{round(100 * q)}": float(value) for q, value in zip(LENGTH_QUANTILES, values, strict=True)}


def _starts(corpus: TokenCorpus, n: int) -> NDArray[np.int64]:
    """Positions at which an n-gram fits into its row."""
    fits = np.ones(corpus.n_tokens, dtype=bool)
    lengths = corpus.lengths
    for k in range(1, n):
        long_enough = corpus.offsets[1:][lengths >= k]
        fits[long_enough - k] = False
    return np.flatnonzero(fits)


def _dense(tokens: NDArray[np.int32]) -> NDArray[np.int64]:
    """Ids renamed 0, 1, 2, ... in their order: a short alphabet leaves room for longer n-grams in 64 bits."""
    seen = np.zeros(int(tokens.max()) + 1, dtype=bool)
    seen[tokens] = True
    return (np.cumsum(seen) - 1)[tokens]


def _run_lengths(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.diff(edges, prepend=0, append=len(ordered))
