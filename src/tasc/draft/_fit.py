"""Kernel that learns the weights of the default drafter: online softmax regression with AdaGrad steps."""

import numpy as np

from tasc._numba import njit
from tasc.draft._features import FEATURES, NONE_AT, STARTS, score
from tasc.draft._sources import MOST


@njit
def fit(n_found, gold, features, order, weights, squares, rate):
    """One pass over the observed tokens in `order`: moves `weights`; the sum of the log-likelihoods before each step."""
    scores = np.empty(MOST + 1)
    total = 0.0
    for at in order:
        n = n_found[at]
        score(weights, features[at], n, scores)
        total += np.log(scores[gold[at]] + 1e-12)
        for i in range(n + 1):
            slope = scores[i] - (1.0 if i == gold[at] else 0.0)
            if abs(slope) < 1e-4:
                continue
            if i < n:
                for f in range(FEATURES):
                    w = STARTS[f] + features[at, i, f]
                    squares[w] += slope * slope
                    weights[w] -= rate * slope / np.sqrt(squares[w])
            else:
                w = NONE_AT + features[at, MOST, 0]
                squares[w] += slope * slope
                weights[w] -= rate * slope / np.sqrt(squares[w])
    return total


@njit
def rank(n_found, features, weights, best, chances):
    """The candidate that `propose` would draft at each observed token, and its probability."""
    scores = np.empty(MOST + 1)
    for at in range(len(n_found)):
        if n_found[at] == 0:
            best[at], chances[at] = -1, 0.0
        else:
            best[at], chances[at] = score(weights, features[at], n_found[at], scores)
