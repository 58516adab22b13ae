"""Decides, pass by pass, whether to draft and how much: by a cost curve and by what was accepted, never by a clock.

Decoding and replay run this very code, so on the same outputs they decide the same. It knows no model and no drafter:
it is told the acceptance probabilities of the drafts at hand, and afterwards what the pass brought.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasc.draft.cost import StepCost, listed
from tasc.draft.interface import Draft
from tasc.draft.options import LONGEST_DRAFT, MAX_DRAFT
from tasc.draft.verify import NOTHING, Planned
from tasc.errors import OptionError

CREDIT = 2.0  # passes that drafting may lose at first
MOST_CREDIT = 8.0  # passes that it may lose once it has gained them: good drafts have unlucky runs
PROBE_CREDIT = 1.0  # passes that a probe may lose
FIRST_PAUSE, LONGEST_PAUSE = 32, 1024  # passes without drafts; each probe that fails doubles them
PACE_MEMORY = 0.98  # of the pace that passes had so far, per pass
WIDEST_MASK = 1 << 22  # entries: a prompt's pass with a tree needs one for each row, token and token it sees

R = TypeVar("R")
Probabilities = Sequence[float] | NDArray[np.floating]


class Control:
    """Lengths of drafts, and a switch that ends drafting while it loses time.

    The account is kept in milliseconds of the cost curve: a token that came with a draft is a plain pass saved; wider
    passes and the making of drafts are spent. When the account is empty drafting pauses; then a probe with a small
    credit follows, and each probe that fails doubles the pause. Full credit again makes the next pause short again.
    So on text that no draft fits the loss is bounded by a few passes, then by one probe in 1,024 passes.

    One object serves the requests of a run in their order and carries over what it learnt.

    Args:
        cost: the cost curve.
        max_draft: most drafted tokens per row and pass.
        min_gain: by what share a drafted pass must beat a plain one in expected tokens per millisecond; 0 takes any gain.
        switch_off: False keeps drafting whatever it costs.
        ragged: rows of a pass are not padded to the longest draft, so each gets a length of its own (vLLM). Requests
            come and go there, so the pace is kept relative to plain decoding of as many rows, for each octave of their
            number: what one row can gain, 32 cannot.
        tree: drafts may be trees, which bring more for as many tokens. Not in an engine that verifies chains alone: where rows
            are not padded, or by a curve that was measured there.

    Raises:
        OptionError: `max_draft` or `min_gain` out of range.

    Examples:
        >>> control = Control(StepCost.default("cpu"))
        >>> control.lengths([[0.9, 0.9, 0.01], [0.8]])  # two rows in one pass
        [2, 1]
        >>> control.observe([3, 1])  # tokens each row got from the pass
        >>> control.drafting
        True
    """

    def __init__(
        self,
        cost: StepCost,
        *,
        max_draft: int = MAX_DRAFT,
        min_gain: float = 0.0,
        switch_off: bool = True,
        ragged: bool = False,
        tree: bool = True,
    ) -> None:
        if not 1 <= max_draft <= LONGEST_DRAFT:
            raise OptionError(f"max_draft must be from 1 to {LONGEST_DRAFT}, got {max_draft}")
        if not 0 <= min_gain < float("inf"):
            raise OptionError(f"min_gain must be a number of at least 0, got {min_gain}")
        self.cost, self.max_draft, self.min_gain, self.switch_off = cost, max_draft, min_gain, switch_off
        self.ragged, self.tree = ragged, tree and not ragged and "engine" not in cost.about
        self._credit = CREDIT  # in plain passes, so that it means the same at every batch size
        self._pause = 0
        self._next_pause = FIRST_PAUSE
        # fading sums of tokens and milliseconds of the passes so far; ragged: per row and in plain passes, by octave of rows
        self._paces: dict[int, tuple[float, float]] = {}
        # lengths, whether drafts were made, of how many rows, context
        self._ragged_plan: tuple[list[int], bool, int, int] | None = None
        self._plan: tuple[int, list[float], int, bool, bool] | None = None
        self._plain_ms = cost.step_ms(1)

    @property
    def drafting(self) -> bool:
        """Whether drafts are wanted for the coming pass; without it none need be made."""
        return self._pause == 0

    def trees(self, n_rows: int, *, fed: int = 1) -> bool:
        """Whether drafts of the coming pass may be trees.

        Args:
            n_rows: of the pass.
            fed: as for `lengths`.
        """
        return self.tree and n_rows * fed * fed <= WIDEST_MASK

    def least(self, n_rows: int, *, context: int = 128, fed: int = 1) -> float:
        """No token that is reached with less than this probability is worth verifying in the coming pass.

        The last token that is taken brings at least what it costs, and none costs less than the cheapest. Rows that are
        padded to the longest draft decide together: no pass gets wider for tokens that all of them reach with less, and those
        that fit into the padding of others bring next to nothing.

        Args:
            n_rows: of the pass.
            context, fed: as for `lengths`.
        """
        plain_ms = self.cost.step_ms(1, batch_size=n_rows, context=context)
        pace = self._pace(n_rows, context) if self.ragged else self._padded_pace(n_rows, plain_ms)
        cheapest = self.cost.cheapest_ms(self.max_draft, batch_size=n_rows, context=context, fed=fed)
        return (1 - 1e-5) * pace * cheapest  # probabilities are rounded to float32

    def lengths(
        self,
        probabilities: Sequence[Probabilities],
        *,
        context: int = 128,
        fed: int = 1,
        asked: int | None = None,
    ) -> list[int]:
        """How many tokens of each row's draft to verify in the coming pass; call it once for every pass.

        Args:
            probabilities: of each row's draft, float[n_drafted], see `StepCost.best_width`; empty rows while not
                `drafting`.
            context: tokens in the cache, of the longest row; ragged: on average.
            fed: tokens per row that are fed anyway: 1, or the longest prompt's in the first pass; ragged: 1.
            asked: ragged: rows that were drafted for, which took its time; default: those with a draft.
        """
        n_rows = len(probabilities)
        if self.ragged:
            return self._ragged_lengths(probabilities, context, asked)
        wanted = self.drafting
        self._plain_ms = self.cost.step_ms(1, batch_size=n_rows, context=context)
        costs = self.cost.costs(self.max_draft, batch_size=n_rows, context=context, fed=fed)
        width = 0
        drafts: list[list[float]] = []
        if wanted and any(len(row) for row in probabilities):
            drafts = [listed(row)[: self.max_draft] for row in probabilities]
            width = self._width(drafts, costs, context, fed)
        # rows, costs of the widths from 0, width, whether drafts were made, whether the prompt was fed
        self._plan = (n_rows, costs, width, wanted, fed > 1)
        return [min(width, len(row)) for row in drafts] if width else [0] * n_rows

    def observe(self, produced: Sequence[int]) -> None:
        """What the pass brought: the ids that each row got, its own next token included.

        Args:
            produced: int per row, in the order of `lengths`; ragged: 0 of a row that took no part in the pass.
        """
        if self.ragged:
            self._observe_ragged(produced)
            return
        assert self._plan is not None and len(produced) == self._plan[0], "observe follows lengths"
        n_rows, costs, width, wanted, prompt = self._plan
        self._plan = None
        total = sum(produced)
        if not prompt:  # the prompt's pass says nothing about the pace of the others
            self._passed(0, total, costs[width])
        if not wanted:
            self._pause -= 1
            return
        spent = n_rows * self.cost.draft_ms + costs[width] - costs[0]
        saved = (total - n_rows) / n_rows  # passes that the rows did not need, on average
        self._book(saved - spent / self._plain_ms)

    def _book(self, passes: float) -> None:
        """Gain or lose plain passes."""
        self._credit = min(self._credit + passes, MOST_CREDIT)
        if self._credit == MOST_CREDIT:
            self._next_pause = FIRST_PAUSE
        if self._credit < 0 and self.switch_off:
            self._pause, self._credit = self._next_pause, PROBE_CREDIT
            self._next_pause = min(2 * self._next_pause, LONGEST_PAUSE)

    def _passed(self, octave: int, tokens: float, ms: float) -> None:
        """Count a pass for the pace."""
        old_tokens, old_ms = self._paces.get(octave, (0.0, 0.0))
        self._paces[octave] = PACE_MEMORY * old_tokens + tokens, PACE_MEMORY * old_ms + ms

    def _pace(self, n_rows: int, context: int) -> float:
        """Ragged: the tokens per millisecond to beat, of all rows together."""
        tokens, ms = self._paces.get(n_rows.bit_length(), (1.0, 1.0))
        faster = max(tokens / ms, 1.0)
        return faster * n_rows / self.cost.step_ms(1, batch_size=n_rows, context=context)

    def _padded_pace(self, n_rows: int, plain_ms: float) -> float:
        """The same where rows are padded: never below plain decoding's: while drafting is off there is no better one to lose."""
        tokens, ms = self._paces.get(0, (0.0, 1.0))
        return max(n_rows / plain_ms, tokens / ms)

    def _ragged_lengths(self, probabilities: Sequence[Probabilities], context: int, asked: int | None) -> list[int]:
        wanted, lengths = self.drafting, [0] * len(probabilities)
        drafts = sum(len(row) > 0 for row in probabilities)
        if wanted and drafts:
            lengths = self.cost.best_total(
                [row[: self.max_draft] for row in probabilities],
                context=context,
                tokens_per_ms=self._pace(len(probabilities), context),
                min_gain=self.min_gain,
            )
        self._ragged_plan = (lengths, wanted, drafts if asked is None else asked, context)
        return lengths

    def _observe_ragged(self, produced: Sequence[int]) -> None:
        assert self._ragged_plan is not None and len(produced) == len(self._ragged_plan[0]), "observe follows lengths"
        lengths, wanted, n_drafts, context = self._ragged_plan
        self._ragged_plan = None
        n_rows = sum(n > 0 for n in produced)
        if n_rows == 0:  # all rows had ended, so there was no such pass
            return
        plain_ms = self.cost.step_ms(1, batch_size=n_rows, context=context)
        drafted = sum(length for length, n in zip(lengths, produced, strict=True) if n)
        ms = float(self.cost.ragged_ms(drafted, batch_size=n_rows, context=context)) if drafted else plain_ms
        saved = sum(produced) / n_rows - 1
        self._passed(n_rows.bit_length(), 1 + saved, ms / plain_ms)
        if wanted:
            self._book(saved - (n_drafts * self.cost.draft_ms + ms - plain_ms) / plain_ms)
        else:
            self._pause -= 1

    def _width(self, drafts: list[list[float]], costs: list[float], context: int, fed: int) -> int:
        n_rows = len(drafts)
        pace = self._padded_pace(n_rows, self._plain_ms)
        width = self.cost.best_width(drafts, context=context, fed=fed, tokens_per_ms=pace)
        if width and self.min_gain:
            worth = sum(_expected(row[:width]) for row in drafts) / n_rows
            width = width if worth * costs[0] >= (1 + self.min_gain) * costs[width] else 0
        return width


def plan(
    control: Control, rows: Sequence[R], propose: Callable[[R, bool, float], Draft | None], *, context: int, fed: int
) -> list[Planned]:
    """What the coming pass verifies of each row, as far as it is worth it; `Control.observe` follows.

    Args:
        control: not a ragged one.
        rows: of the pass.
        propose: the draft of a row, None if it gets none: whether it may be a tree, and what a token must be as likely as.
        context, fed: as for `Control.lengths`.
    """
    if not control.drafting:
        control.lengths([()] * len(rows), context=context, fed=fed)
        return [NOTHING] * len(rows)
    tree, least = control.trees(len(rows), fed=fed), control.least(len(rows), context=context, fed=fed)
    drafts = [propose(row, tree, least) for row in rows]
    chances = [() if draft is None else draft.probabilities for draft in drafts]
    lengths = control.lengths(chances, context=context, fed=fed)
    return [NOTHING if draft is None else draft.planned(n) for draft, n in zip(drafts, lengths, strict=True)]


def _expected(probabilities: Sequence[float]) -> float:
    """Expected tokens of a pass: the accepted part of the draft and the target's own next token."""
    total = reached = 1.0
    for probability in probabilities:
        reached *= probability
        total += reached
    return total
