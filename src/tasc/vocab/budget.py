"""How many n-grams? Expected decoding time on held-out outputs, before anything is trained.

    cost(M) = expected steps per output(M) * relative step time(M)

Steps are those of the held-out outputs, the one that writes EOS included. A model does not always emit a rare n-gram: one
behind c training uses is taken to be emitted with probability c / (c + TRAINABLE_USES), else it costs its base ids. A step
grows with the head: a share `head_share` of its time goes to the base vocabulary's rows, so M more rows add
head_share * M / base_size. The chosen budget is the smallest within TOLERANCE of the lowest cost: fewer rows to train for
the same speed (the paper finds marginal gains above about 500, section 5.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.vocab.vocabulary import EnrichedVocabulary

GRID = (50, 100, 150, 200, 250, 350, 500, 700, 1000, 1400, 2000)
HEAD_SHARE = 0.3  # of a step's time; Qwen2.5-0.5B: 136M of 494M parameters are in the head
TRAINABLE_USES = 4.0
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """What a budget would do on held-out outputs.

    Attributes:
        budget: n-grams.
        steps_per_output: every n-gram always emitted, EOS included.
        expected_steps: with n-grams emitted as often as their training uses suggest.
        relative_step_time: of one step, 1 without n-grams.
        relative_cost: expected decoding time, 1 without n-grams.
        expected_steps_se: standard error of `expected_steps` over the held-out rows.
    """

    budget: int
    steps_per_output: float
    expected_steps: float
    relative_step_time: float
    relative_cost: float
    expected_steps_se: float = 0.0


def cost_of(
    vocabulary: EnrichedVocabulary,
    train: TokenCorpus,
    train_counts: NDArray[np.int64],
    held_out: TokenCorpus,
    *,
    head_share: float = HEAD_SHARE,
) -> BudgetPoint:
    """Expected decoding cost of the held-out outputs under a vocabulary.

    Args:
        vocabulary: the n-grams.
        train: base ids of the distinct training outputs, from which the n-grams' uses are counted.
        train_counts: int64[n_rows], how often each occurs.
        held_out: base ids of other outputs, at least one row.
        head_share: share of a decoding step that the base vocabulary's head rows take.
    """
    merged = vocabulary.merge_corpus(held_out)
    uses = _uses(vocabulary, train, train_counts)
    emitted = uses / (uses + TRAINABLE_USES)
    lengths = np.array([len(ids) for ids in vocabulary.expansions], np.float64)
    steps_of = emitted + (1 - emitted) * lengths
    found, n_rows = np.asarray(merged.tokens), len(held_out)
    steps = np.ones(found.size)
    ours = found >= vocabulary.base_size
    steps[ours] = steps_of[found[ours] - vocabulary.base_size]
    row_of = np.repeat(np.arange(n_rows), merged.lengths)
    per_row = 1 + np.bincount(row_of, weights=steps, minlength=n_rows)
    expected = per_row.mean()
    step_time = 1 + head_share * len(vocabulary) / vocabulary.base_size
    plain = (held_out.n_tokens + n_rows) / n_rows
    return BudgetPoint(
        len(vocabulary),
        (merged.n_tokens + n_rows) / n_rows,
        float(expected),
        step_time,
        float(expected * step_time / plain),
        float(per_row.std(ddof=1) / np.sqrt(n_rows)) if n_rows > 1 else 0.0,
    )


def pick_budget(curve: Sequence[BudgetPoint]) -> tuple[BudgetPoint, str]:
    """The smallest budget within TOLERANCE of the lowest cost, and the reason in words."""
    lowest = min(curve, key=lambda point: point.relative_cost)
    pick = min((p for p in curve if p.relative_cost <= lowest.relative_cost * (1 + TOLERANCE)), key=lambda p: p.budget)
    reason = (
        f"M={pick.budget}: expected decoding cost {pick.relative_cost:.3f} of plain on held-out outputs "
        f"({pick.expected_steps:.2f} steps per output); the lowest is {lowest.relative_cost:.3f} at M={lowest.budget}, "
        f"and the smallest budget within {TOLERANCE:.0%} of it is taken"
    )
    return pick, reason


def _uses(vocabulary: EnrichedVocabulary, train: TokenCorpus, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    merged = vocabulary.merge_corpus(train)
    tokens = np.asarray(merged.tokens) - vocabulary.base_size
    weights = np.repeat(counts, merged.lengths)
    ours = tokens >= 0
    return np.bincount(tokens[ours], weights=weights[ours], minlength=len(vocabulary)).astype(np.float64)
