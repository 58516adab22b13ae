"""The decoding loop with drafts: rows that share passes, each keeping what the target accepts of its draft.

Everybody who decodes with drafts runs this loop: `tasc.decode.generate` and, through `tasc.speculative`, transformers'
own `generate`. What differs between them, how a token is chosen from logits and when a row ends, is a `Choice`.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tasc.decode.forward import Forward
from tasc.decode.verify import kept, n_accepted, until_end
from tasc.draft.control import Control
from tasc.draft.interface import SOURCES, DraftState
from tasc.draft.recorded import Recorded


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
        drafted, accepted: per pass.
        sources: per pass, the source code of each drafted token, as bytes.
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
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    sources: list[bytes] = field(default_factory=list)
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
            tuple(self.drafted),
            tuple(self.accepted),
            self.limit,
            1000 * (self.draft_seconds + self.verify_seconds),
            slot,
        )


class Choice(Protocol):
    """How tokens are chosen and when rows end."""

    def __call__(
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[list[int]], first: Sequence[int]
    ) -> list[list[int]]:
        """The ids that a pass brings each row.

        Args:
            logits: float[n_rows, width, n_ids].
            rows: those of the pass.
            drafts: ids that were fed behind each row's last token.
            first: per row, the column of the logits that follow its last token.
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
        self, logits: torch.Tensor, rows: Sequence[Row], drafts: Sequence[list[int]], first: Sequence[int]
    ) -> list[list[int]]:
        """See `Choice`."""
        self.check_first(logits)
        chosen = logits.argmax(dim=-1).tolist()
        return [kept(draft, line[start:]) for draft, line, start in zip(drafts, chosen, first, strict=True)]

    def check_first(self, logits: torch.Tensor) -> None:
        """Check the logits unless others were before."""
        if self._check is not None:
            self._check(logits)
            self._check = None

    def keep(self, row: Row, ids: list[int]) -> tuple[int, bool]:
        """See `Choice`."""
        return until_end(ids, self.end_ids, row.limit - len(row.ids))


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
    fed = [row.prompt + draft for row, draft in zip(live, drafts, strict=True)]
    n_logits = 1 + max(map(len, drafts))
    first = [n_logits - 1 - len(draft) for draft in drafts]
    logits = forward.prefill(fed, pad_id, n_logits)
    # the rows' ends are aligned; as if the last token of each prompt had been fed in a pass of its own
    forward.advance([-1 - len(draft) for draft in drafts])
    while True:
        brought = choice(logits, live, drafts, first)
        produced = [take(row, draft, ids, choice) for row, draft, ids in zip(live, drafts, brought, strict=True)]
        if control is not None:
            control.observe(produced)
        forward.advance(produced)
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
        logits = forward.step([[row.ids[-1], *draft] for row, draft in zip(live, drafts, strict=True)])


def _drafts(rows: Sequence[Row], control: Control | None, *, fed: int) -> list[list[int]]:
    """The ids to verify behind each row's last token, as far as they are worth it."""
    if control is None:
        return [note_draft(row, [], b"") for row in rows]
    # the prompt as the drafter saw it, so that a replay, which knows no other, decides the same
    context = max(len(row.seen) + len(row.ids) for row in rows)
    if not control.drafting:
        control.lengths([()] * len(rows), context=context, fed=fed)
        return [note_draft(row, [], b"") for row in rows]
    # the target adds a token of its own to whatever it accepts
    proposed = [_propose(row, min(control.max_draft, row.limit - len(row.ids) - 1)) for row in rows]
    lengths = control.lengths([draft[2] for draft in proposed], context=context, fed=fed)
    return [
        note_draft(row, draft[0][:n].tolist(), draft[1][:n].tobytes()) if n else note_draft(row, [], b"")
        for row, draft, n in zip(rows, proposed, lengths, strict=True)
    ]


def _propose(row: Row, most: int) -> Any:
    return ((), (), ()) if row.state is None or most < 1 else row.state.propose(most)


def note_draft(row: Row, draft: list[int], sources: bytes) -> list[int]:
    """Write down what a pass verifies of a row's draft; returns the draft."""
    row.drafted.append(len(draft))
    row.sources.append(sources)
    return draft


def take(row: Row, draft: list[int], ids: list[int], choice: Choice) -> int:
    """Give the row what a pass brought it; returns how many ids."""
    n, row.ended = choice.keep(row, ids)
    new = ids[:n]
    row.ids += new
    row.accepted.append(min(n_accepted(draft, ids), n) if draft else 0)
    if row.state is not None:
        row.state.extend(new)
    return n


@dataclass(frozen=True, slots=True)
class RequestStats:
    """What drafts did for one row.

    Attributes:
        passes: forward passes that it took part in.
        tokens: ids produced, end token included.
        drafted, accepted: drafted ids that were verified, and those that were kept.
        by_position: [drafted, accepted] of the first, second, ... token of a draft.
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
        widest = max(row.drafted, default=0)
        reach = Counter(row.drafted), Counter(row.accepted)
        positions = [[sum(n for length, n in of.items() if length > place) for of in reach] for place in range(widest)]
        sources: dict[str, list[int]] = {}
        for codes, accepted in zip(row.sources, row.accepted, strict=True):
            for place, code in enumerate(codes):
                counts = sources.setdefault(SOURCES[code], [0, 0])
                counts[0] += 1
                counts[1] += place < accepted
        return cls(
            passes=len(row.accepted),
            tokens=len(row.ids),
            drafted=sum(row.drafted),
            accepted=sum(row.accepted),
            by_position=positions,
            by_source=sources,
            draft_ms=1000 * row.draft_seconds,
            verify_ms=1000 * row.verify_seconds,
            prefill_ms=1000 * row.prefill_seconds,
        )
