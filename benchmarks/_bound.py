"""The bound of `miner_bound.py`: kernels of the Lagrangian relaxation and its ascent. Arrays in, arrays out.

Every output pays a price (at least 0) for each use of an n-gram, beside the token that it is; prices of one n-gram may differ from
place to place. All outputs' cheapest paths, less what the M n-grams that earn most would earn if every place used them, is at
most the fewest tokens of any choice of M n-grams, whatever the prices. Good prices make the bound tight.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit
from tasc.vocab._selection import Arcs

START_PRICE = 0.3  # tokens
HOT, COLD = 0.5, 0.03  # temperature of the smoothed problem, in tokens
FAST, SLOW = 0.08, 0.002  # step, in tokens


class Graph(NamedTuple):
    """Every row's boundaries, and the arcs between them: `free` ones cost 1, `priced` ones 1 and their price."""

    offsets: NDArray[np.int64]  # (n_rows + 1,)
    weights: NDArray[np.float64]  # (n_rows,)
    free: Arcs
    priced: Arcs


@njit(cache=True)
def cheapest(graph, prices, n_candidates):
    """Weighted cost of all rows' cheapest paths, and what each candidate earns if used everywhere: float64[n_candidates]."""
    offsets, weights, free, priced = graph.offsets, graph.weights, graph.free, graph.priced
    earned, total = np.zeros(n_candidates), 0.0
    behind = np.zeros(np.max(offsets[1:] - offsets[:-1]) + 1)
    for r in range(offsets.size - 1):
        begin, length = offsets[r], offsets[r + 1] - offsets[r]
        behind[length] = 0.0
        for i in range(length - 1, -1, -1):
            least = np.inf
            for a in range(free.starts[begin + i], free.starts[begin + i + 1]):
                least = min(least, behind[i + free.lengths[a]] + 1)
            for a in range(priced.starts[begin + i], priced.starts[begin + i + 1]):
                earned[priced.candidates[a]] += weights[r] * prices[a]
                least = min(least, behind[i + priced.lengths[a]] + 1 + prices[a])
            behind[i] = least
        total += weights[r] * behind[0]
    return total, earned


@njit(cache=True)
def _soft_cost(graph, prices, at, i, behind, heat):
    """The cost from boundary i to the end, -heat * log of the sum of exp(-cost / heat) over the arcs that begin there."""
    free, priced = graph.free, graph.priced
    least = np.inf
    for a in range(free.starts[at], free.starts[at + 1]):
        least = min(least, behind[i + free.lengths[a]] + 1)
    for a in range(priced.starts[at], priced.starts[at + 1]):
        least = min(least, behind[i + priced.lengths[a]] + 1 + prices[a])
    mass = 0.0
    for a in range(free.starts[at], free.starts[at + 1]):
        mass += np.exp((least - behind[i + free.lengths[a]] - 1) / heat)
    for a in range(priced.starts[at], priced.starts[at + 1]):
        mass += np.exp((least - behind[i + priced.lengths[a]] - 1 - prices[a]) / heat)
    return least - heat * np.log(mass)


@njit(cache=True)
def usage(graph, prices, heat, found):
    """How far a random path, cheap ones likelier by exp(-cost / heat), uses each priced arc: into `found`, in [0, 1]."""
    offsets, free, priced = graph.offsets, graph.free, graph.priced
    longest = np.max(offsets[1:] - offsets[:-1])
    behind, ahead = np.zeros(longest + 1), np.zeros(longest + 1)
    for r in range(offsets.size - 1):
        begin, length = offsets[r], offsets[r + 1] - offsets[r]
        behind[length] = 0.0
        for i in range(length - 1, -1, -1):
            behind[i] = _soft_cost(graph, prices, begin + i, i, behind, heat)
        ahead[: length + 1] = 0.0
        ahead[0] = 1.0
        for i in range(length):
            for a in range(free.starts[begin + i], free.starts[begin + i + 1]):
                j = i + free.lengths[a]
                ahead[j] += ahead[i] * np.exp((behind[i] - 1 - behind[j]) / heat)
            for a in range(priced.starts[begin + i], priced.starts[begin + i + 1]):
                j = i + priced.lengths[a]
                found[a] = ahead[i] * np.exp((behind[i] - 1 - prices[a] - behind[j]) / heat)
                ahead[j] += found[a]


@njit(cache=True)
def _step(prices, caps, used, chosen, candidates, first, second, rate, t):
    """One step of Adam towards prices at which an n-gram is used as far as it is chosen."""
    for a in range(prices.size):
        slope = used[a] - chosen[candidates[a]]
        first[a] = 0.9 * first[a] + 0.1 * slope
        second[a] = 0.99 * second[a] + 0.01 * slope * slope
        size = np.sqrt(second[a] / (1 - 0.99**t)) + 1e-3
        prices[a] = min(max(prices[a] + rate * first[a] / (1 - 0.9**t) / size, 0.0), caps[a])


def _softly_chosen(earned: NDArray[np.float64], budget: int, heat: float) -> NDArray[np.float64]:
    """How far each candidate is among the `budget` that earn most, float64[n] in [0, 1] that sums to it."""
    low, high = float(earned.min()) - 50 * heat, float(earned.max()) + 50 * heat
    chosen = np.ones(earned.size)
    for _ in range(60):
        middle = (low + high) / 2
        chosen = 1 / (1 + np.exp(np.clip((middle - earned) / heat, -50, 50)))
        low, high = (middle, high) if chosen.sum() > budget else (low, middle)
    return chosen


def bound(graph: Graph, lengths: NDArray[np.int64], budget: int, left_out: float, rounds: int) -> float:
    """Tokens below which no choice of `budget` n-grams can come.

    Args:
        graph: of all outputs; an arc of every single token must be free.
        lengths: int64[n_candidates], tokens of each candidate without any n-gram.
        budget: how many may be chosen.
        left_out: the most tokens that an n-gram which is no candidate could save by itself.
        rounds: of the ascent; more make the bound tighter.
    """
    candidates = graph.priced.candidates
    prices = np.full(candidates.size, START_PRICE)
    used, first, second = np.zeros_like(prices), np.zeros_like(prices), np.zeros_like(prices)
    caps = (lengths[candidates] - 1).astype(np.float64)
    _, earned = cheapest(graph, prices, lengths.size)
    best = 0.0
    for t in range(rounds):
        share = t / max(1, rounds - 1)
        heat, rate = HOT * (COLD / HOT) ** share, FAST * (SLOW / FAST) ** share
        scale = max(1.0, float(np.partition(earned, -budget)[-budget]))
        chosen = _softly_chosen(earned, budget, 0.3 * heat * scale)
        usage(graph, prices, heat, used)
        _step(prices, caps, used, chosen, candidates, first, second, rate, t + 1)
        total, earned = cheapest(graph, prices, lengths.size)
        best = max(best, float(total - np.maximum(np.partition(earned, -budget)[-budget:], left_out).sum()))
    return best
