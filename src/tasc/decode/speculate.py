"""The decoding loop with drafts: rows that share passes, each keeping what the target accepts of its draft.

Everybody who decodes with drafts runs this loop: `tasc.decode.generate` and, through `tasc.speculative`, transformers'
own `generate`. What differs between them, how a token is chosen from logits and when a row ends, is a `Choice`.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch

from tasc.decode.forward import Forward
from tasc.draft.control import Control, plan
from tasc.draft.interface import Draft, DraftState, by_source, propose
from tasc.draft.recorded import Recorded
from tasc.draft.verify import NOTHING, Planned, Verified, accepted, by_position, kept, until_end


@dataclass(slots=True)
class Row:
    """One row while and after it is written.

    Attributes:
        index: its number among the rows of the caller.
        prompt: ids of the model.
        limit: most ids it may get, end token included.
        state: its drafter's memory; None decodes without drafts.
        seen: the prompt as the drafter saw it; default: as it is.
        ids: what was produced, end token included.
        ended: whether it ended by itself.
        verified: what was drafted and what stood, pass by pass.
        draft_seconds, verify_seconds: its share of the batch's time.
        prefill_seconds: the part of verify_seconds that the prompt's pass took.
    """

    index: int
    prompt: list[int]
    limit: int
    state: DraftState | None = None
    seen: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    verified: Verified = field(default_factory=Verified)
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    prefill_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.seen = self.seen or self.prompt

    @property
    def done(self) -> bool:
        """Whether no pass is left to do for it."""
        return self.ended or len(self.ids) >= self.limit

    def recorded(self, slot: int) -> Recorded:
        """The request for a log; `slot` is its place in its batch."""
        return Recorded(
            tuple(self.seen),
            tuple(self.ids),
            self.verified.drafted,
            self.verified.accepted,
            self.limit,
            1000 * (self.draft_seconds + self.verify_seconds),
            slot,
            self.verified.depths,
        )


class Choice(Protocol):
    """How tokens are chosen and when rows end."""

    def __call__(
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[Planned], first: Sequence[int]
    ) -> list[list[int]]:
        """The ids that a pass brings each row.

        Args:
            logits: float[n_rows, width, n_ids].
            rows: those of the pass.
            drafts: what was fed behind each row's last token.
            first: per row, the column of the logits that follow its last token; those that follow drafted tokens come next.
        """
        ...

    def keep(self, row: Row, ids: list[int]) -> tuple[int, bool]:
        """How many of these ids belong to the row's output, and whether it ends with them; called before they do."""
        ...


class Greedy:
    """The most likely token; a row ends at an end token or its limit. One transfer from the device per pass."""

    def __init__(self, end_ids: Collection[int], *, check: Callable[[torch.Tensor], None] | None = None) -> None:
        self.end_ids = frozenset(end_ids)
        self._check = check  # of the first logits

    def __call__(
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[Planned], first: Sequence[int]
    ) -> list[list[int]]:
        """See `Choice`."""
        self.check_first(logits)
        chosen = most_likely(logits)
        return [kept(draft, line[start:]) for draft, line, start in zip(drafts, chosen, first, strict=True)]

    def check_first(self, logits: torch.Tensor) -> None:
        """Check the logits unless others were before."""
        if self._check is not None:
            self._check(logits)
            self._check = None

    def keep(self, row: Row, ids: list[int]) -> tuple[int, bool]:
        """See `Choice`."""
        return until_end(ids, self.end_ids, row.limit - len(row.ids))


def most_likely(scores: torch.Tensor) -> list[Any]:
    """The id with the highest score, the first of equal ones, of every row of scores, float[..., n_ids]; nested lists."""
    if scores.device.type == "cpu" and scores.dtype == torch.float32:
        return scores.detach().numpy().argmax(axis=-1).tolist()  # up to six times as fast as torch's
    return scores.argmax(dim=-1).tolist()


def speculate(
    forward: Forward,
    rows: Sequence[Row],
    choice: Choice,
    control: Control | None,
    *,
    pad_id: int = 0,
    after_pass: Callable[[torch.Tensor], None] | None = None,
) -> None:
    """Decode rows until each has ended or met its limit; the result stands in the rows.

    Args:
        forward: the model, with an empty cache.
        rows: none finished; they share passes until they finish.
        choice: how tokens are chosen and when rows end.
        control: lengths of drafts; None drafts nothing.
        pad_id: any id the model knows.
        after_pass: called after each pass with its logits, when the rows have what it brought.
    """
    live = list(rows)
    clock = time.perf_counter()
    drafts, lap = _drafts(live, control, fed=max(len(row.seen) for row in live)), time.perf_counter()
    longest = max(len(draft.tokens) for draft in drafts)
    first = [longest - len(draft.tokens) for draft in drafts]  # the rows' ends are aligned
    logits = forward.prefill([row.prompt for row in live], drafts, pad_id)
    while True:
        brought = choice(logits, live, drafts, first)
        before = [len(row.ids) for row in live]
        stand = [take(row, draft, ids, choice) for row, draft, ids in zip(live, drafts, brought, strict=True)]
        produced = [len(row.ids) - n for row, n in zip(live, before, strict=True)]
        if control is not None:
            control.observe(produced)
        forward.advance(produced, stand)
        now = time.perf_counter()
        for row in live:
            row.draft_seconds += (lap - clock) / len(live)
            row.verify_seconds += (now - lap) / len(live)
            row.prefill_seconds = row.prefill_seconds or row.verify_seconds  # the prompt's pass is the first
        if after_pass is not None:
            after_pass(logits)
        stay = [slot for slot, row in enumerate(live) if not row.done]
        if not stay:
            return
        clock = time.perf_counter()
        if len(stay) < len(live):
            live = [live[slot] for slot in stay]
            forward.select(stay)
        drafts, lap = _drafts(live, control, fed=1), time.perf_counter()
        # the last token of each row is not in the cache yet
        first = [0] * len(live)
        logits = forward.step([row.ids[-1] for row in live], drafts)


def _drafts(rows: Sequence[Row], control: Control | None, *, fed: int) -> list[Planned]:
    """What to verify behind each row's last token, as far as it is worth it."""
    if control is None:
        return [NOTHING] * len(rows)
    # the prompt as the drafter saw it, so that a replay, which knows no other, decides the same
    context = max(len(row.seen) + len(row.ids) for row in rows)
    return plan(control, rows, partial(_propose, control.max_draft), context=context, fed=fed)


def _propose(most: int, row: Row, tree: bool, least: float) -> Draft | None:
    room = row.limit - len(row.ids) - 1  # the target adds a token of its own to whatever it accepts
    if row.state is None or room < 1:
        return None
    return propose(row.state, most, room, tree=tree, min_probability=least)


def take(row: Row, draft: Planned, ids: list[int], choice: Choice) -> list[int]:
    """Give the row what a pass brought it; returns the places of the drafted tokens that stand."""
    n, row.ended = choice.keep(row, ids)
    new = ids[:n]
    row.ids += new
    stand = accepted(draft, new)
    row.verified.add(draft, stand)
    if row.state is not None:
        row.state.extend(new)
    return stand


@dataclass(frozen=True, slots=True)
class RequestStats:
    """What drafts did for one row.

    Attributes:
        passes: forward passes that it took part in.
        tokens: ids produced, end token included.
        drafted, accepted: drafted ids that were verified, and those that were kept.
        by_position: of the first, second, ... place behind a row's last token: passes that drafted a token for it, and those
            that accepted one there.
        by_source: name of the source -> [drafted, accepted].
        draft_ms, verify_ms: its share of the time to propose and to verify.
        prefill_ms: the part of verify_ms that the prompt's pass took.
    """

    passes: int
    tokens: int
    drafted: int
    accepted: int
    by_position: list[list[int]]
    by_source: dict[str, list[int]]
    draft_ms: float
    verify_ms: float
    prefill_ms: float = 0.0

    @classmethod
    def of(cls, row: Row) -> "RequestStats":
        """The statistics of a finished row."""
        done = row.verified
        return cls(
            passes=len(done),
            tokens=len(row.ids),
            drafted=sum(done.drafted),
            accepted=sum(done.accepted),
            by_position=by_position(done.depths, done.accepted),
            by_source=by_source(zip(done.drafts, done.stand, strict=True)),
            draft_ms=1000 * row.draft_seconds,
            verify_ms=1000 * row.verify_seconds,
            prefill_ms=1000 * row.prefill_seconds,
        )
