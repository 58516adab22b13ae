"""Shorter outputs than Algorithm 1 at the same budget: choose n-grams for fewest-tokens segmentation.

On base ids. (1) Candidates: the merges of Algorithm 1, the closed n-grams (no longer one occurs as often) of highest reward, and
the n-grams of highest reward, closed or not. (2) Two choices: Algorithm 1's own, and one that takes, again and again, the
candidates that would save most under the present choice, to twice the budget, and is pruned by the least loss. (3) The grown
choice is taken where it is clearly shorter on a fifth of the outputs, held out for that; otherwise Algorithm 1's, which
fewest-tokens segmentation can only make shorter, on any outputs. (4) Either is refined: grown and pruned again, by less and
less, as long as that helps; Algorithm 1's only where many uses speak for a change.

Gains and losses are read off the segmentation graph of every row (`_selection.score`), so an n-gram is judged by what it adds
to the others, not by how often it occurs. Worth is discounted as in absolute discounting: an n-gram behind c uses is expected
to save (c - discount) / c of what it saves here, so that those which memorise a few rows lose against those that come again.
How close this comes to the best possible choice: benchmarks/miner_bound.py, docs/results/miner.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc._numba import interrupts_wait
from tasc.corpus import TokenCorpus
from tasc.vocab import _mining, _selection
from tasc.vocab._trie import build_trie
from tasc.vocab.miner import Accept, accept_all, mine, separated

LONGEST = 48  # ids in one candidate, except merges of Algorithm 1
MIN_COUNT = 3  # occurrences of a candidate
OWN_PER_TOKEN, CLOSED_PER_TOKEN, ANY_PER_TOKEN = 2, 12, 40  # candidates of each kind, for each token of the budget
KEPT_PER_TOKEN = 12  # those of highest worth that stay in the running once a first choice is made
DISCOUNT = 2.5  # 1.2 is what the training outputs say; more, because candidates win by luck too (dev/LOG.md)
CAUTIOUS_DISCOUNT = 6.0  # for changes to Algorithm 1's own choice
BATCHES = 30  # looks at the corpus while growing, and again while pruning
OVERSHOOT = 2.0  # grown choice before pruning, in budgets
REFINE_SHARE, MAX_REFINEMENTS = 0.5, 10  # how far the first refinement grows, in budgets
TRIAL_SHARE = 0.2  # of the outputs, held out to choose between the two
MARGIN = (
    0.004  # by which the grown choice must be shorter there; outputs to come may differ more than a random fifth does
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One n-gram of the choice: its base ids, its uses in the training outputs, and the tokens lost without it."""

    ids: tuple[int, ...]
    count: int
    reward: int


def choose(
    corpus: TokenCorpus,
    counts: NDArray[np.int64],
    *,
    budgets: Sequence[int],
    base_size: int,
    n_max: int = 4,
    accept: Accept = accept_all,
    discount: float = DISCOUNT,
) -> Iterator[tuple[int, list[Chosen]]]:
    """Choose n-grams for each budget, largest budget first.

    Args:
        corpus: base ids of the distinct outputs.
        counts: int64[n_rows], how often each occurs.
        budgets: how many n-grams to choose, each.
        base_size: 1 + the highest base id.
        n_max: of the run of Algorithm 1 whose merges are candidates.
        accept: called with the base ids of every candidate; refused ones are left out.
        discount: uses taken off when an n-gram's worth is judged.

    Yields:
        (budget, n-grams), the most useful n-gram first.
    """
    held_out = np.random.default_rng(0).binomial(np.asarray(counts, np.int64), TRIAL_SHARE)
    options = {"most": max(budgets), "base_size": base_size, "n_max": n_max, "accept": accept, "discount": discount}
    trial = _Selection(corpus, counts - held_out, **options)
    whole = _Selection(corpus, counts, **options)
    for budget in sorted(set(budgets), reverse=True):
        trial.start_own(budget)
        own = trial.tokens(held_out)
        trial.start_grown(budget)
        if trial.tokens(held_out) * (1 + MARGIN) < own:
            whole.start_grown(budget)
            whole.refine(budget, discount)
        else:
            whole.start_own(budget)
            whole.refine(budget, max(discount, CAUTIOUS_DISCOUNT))
        yield budget, whole.chosen()


def _candidates(
    corpus: TokenCorpus, counts: NDArray[np.int64], *, most: int, base_size: int, n_max: int, accept: Accept
) -> tuple[list[tuple[int, ...]], int]:
    """All candidates, Algorithm 1's merges first and in their order; and how many those are."""
    merges = mine(corpus, counts, budget=OWN_PER_TOKEN * most, base_size=base_size, n_max=n_max, accept=accept)
    own = [m.ids for m in merges]
    known = set(own)
    spans = _frequent_ngrams(corpus, counts, most, base_size)
    return own + [ids for ids in spans if ids not in known and accept(ids)], len(own)


def _frequent_ngrams(
    corpus: TokenCorpus, counts: NDArray[np.int64], most: int, base_size: int
) -> list[tuple[int, ...]]:
    """The closed n-grams with the highest count * (n - 1), and those that are closed or not."""
    tokens, weights = separated(corpus, counts)
    unigrams = _mining.unigram_counts(tokens, weights, base_size)
    with interrupts_wait():
        nodes = _mining.count_all(tokens, weights, unigrams, LONGEST, MIN_COUNT, _mining.new_nodes(1 << 16))
    used = int(nodes.used[0])
    rewards = nodes.counts[:used] * (nodes.levels[:used].astype(np.int64) - 1)
    found: list[NDArray[np.int64]] = []
    for kept, per_token in (
        (_mining.closed(nodes, MIN_COUNT), CLOSED_PER_TOKEN),
        (np.flatnonzero(nodes.counts[:used] >= MIN_COUNT), ANY_PER_TOKEN),
    ):
        found.append(kept[np.argsort(-rewards[kept], kind="stable")[: per_token * most]])
    return list(dict.fromkeys(_mining.ids_of_nodes(nodes, np.concatenate(found))))


class _Selection:
    """Which candidates are active, and the moves that change it."""

    def __init__(
        self,
        corpus: TokenCorpus,
        counts: NDArray[np.int64],
        *,
        most: int,
        base_size: int,
        n_max: int,
        accept: Accept,
        discount: float,
    ) -> None:
        self.usual_discount = self.discount = discount
        self.candidates, self.n_own = _candidates(
            corpus, counts, most=most, base_size=base_size, n_max=n_max, accept=accept
        )
        self.offsets, self.weights = np.asarray(corpus.offsets), np.asarray(counts, np.int64)
        trie = build_trie(self.candidates)
        with interrupts_wait():
            self.arcs = _selection.find_arcs(np.asarray(corpus.tokens), self.offsets, *trie)
        self.every_arc = self.arcs
        self.active = np.zeros(len(self.candidates), np.bool_)

    def start_own(self, budget: int) -> None:
        """Algorithm 1's choice; fewest-tokens segmentation never makes it longer."""
        self._start()
        self.active[: min(budget, self.n_own)] = True

    def start_grown(self, budget: int) -> None:
        """The choice that owes nothing to Algorithm 1 but some candidates."""
        self._start()
        self.grow(int(OVERSHOOT * budget), BATCHES)
        self.prune(budget, BATCHES)

    def _start(self) -> None:
        self.arcs, self.discount = self.every_arc, self.usual_discount
        self.active[:] = False

    def tokens(self, weights: NDArray[np.int64]) -> int:
        """Tokens of the corpus with other row weights."""
        with interrupts_wait():
            return int(_selection.fewest_tokens(self.arcs, self.offsets, weights, self.active))

    def look(self) -> tuple[int, _selection.Scores, NDArray[np.float64]]:
        """Tokens of the corpus, raw scores, and each candidate's discounted worth."""
        with interrupts_wait():
            total, scores = _selection.score(self.arcs, self.offsets, self.weights, self.active)
        return int(total), scores, scores.value * np.maximum(0, 1 - self.discount / np.maximum(scores.uses, 1))

    def cost(self) -> float:
        """Tokens of the corpus, with the discount that the active n-grams will not save elsewhere."""
        total, scores, worth = self.look()
        return float(total + (scores.value - worth)[self.active].sum())

    def grow(self, target: int, batches: int) -> None:
        """Take the candidates that would save most, a batch at each look, until `target` are active."""
        target = min(target, len(self.candidates))  # a step is a share of what there is
        step = max(1, (target - int(self.active.sum())) // batches)
        while (room := target - int(self.active.sum())) > 0:
            _, scores, worth = self.look()
            worth[self.active] = 0
            top = _best_first(worth, scores)[: min(step, room)]
            top = top[worth[top] > 0]
            if not top.size:
                return
            self.active[top] = True

    def prune(self, target: int, batches: int) -> None:
        """Drop the n-grams that are missed least, a batch at each look, until `target` are active."""
        step = max(1, (int(self.active.sum()) - target) // batches)
        while (excess := int(self.active.sum()) - target) > 0:
            _, scores, worth = self.look()
            order = _best_first(worth, scores)
            self.active[order[self.active[order]][-min(step, excess) :]] = False

    def refine(self, budget: int, discount: float) -> None:
        """Grow and prune again, half as far after each try that did not help; candidates far from being chosen sit out."""
        self.discount = discount
        self._narrow(KEPT_PER_TOKEN * budget)
        cost, share = self.cost(), REFINE_SHARE
        for _ in range(MAX_REFINEMENTS):
            before = self.active.copy()
            batches = max(2, int(BATCHES * share))
            self.grow(budget + max(1, int(share * budget)), batches)
            self.prune(budget, batches)
            found = self.cost()
            if found >= cost:
                self.active, share = before, share / 2
            else:
                cost = found

    def _narrow(self, most: int) -> None:
        _, scores, worth = self.look()
        worth[self.active] = np.inf
        stay = np.zeros(len(self.candidates), np.bool_)
        stay[_best_first(worth, scores)[: most + int(self.active.sum())]] = True
        with interrupts_wait():
            self.arcs = _selection.select_arcs(self.arcs, stay)

    def chosen(self) -> list[Chosen]:
        """The active n-grams, the most useful first."""
        _, scores, worth = self.look()
        order = _best_first(worth, scores)
        return [Chosen(self.candidates[i], int(scores.uses[i]), int(scores.value[i])) for i in order if self.active[i]]


def _best_first(worth: NDArray[np.float64], scores: _selection.Scores) -> NDArray[np.int64]:
    """Candidates by worth; those that the discount leaves none by what they save here, so that unused ones come last."""
    return np.lexsort((-scores.value, -worth))
