"""Replay of a drafter on outputs that are known: the passes that decoding would take, without a model.

A draft is compared with the output instead of the target's choice; everything else is done as `tasc.decode` does it: the
same calls of the drafter's state in the same order, the same `Control`, the same batches. So on the log of a run the
replay of the same drafter and options gives the passes of that run, exactly.

By default it follows the protocol of our reference figures instead: the first token of each output comes from the
prompt's pass and neither counts, each draft is verified as a whole and ends with the output at the latest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasc.draft.control import Control, plan
from tasc.draft.cost import StepCost
from tasc.draft.interface import Draft, Drafts, DraftState, Ids, Learner, by_source, propose
from tasc.draft.recorded import Recorded
from tasc.draft.verify import NOTHING, Planned, Verified, accepted, by_position
from tasc.errors import DataError, OptionError


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a drafter brought on known outputs.

    Attributes:
        name: of the drafter.
        requests: passes row by row in the order of the rows, as decoding records them; the prompt's pass comes first, with
            nothing drafted where the first token was given.
        counts_first: whether the prompt's pass and the token it brings are counted; not where the first token was given.
        by_position: of the first, second, ... place behind a row's last token: passes that drafted a token for it, and those
            that accepted one there.
        by_source: name of the source -> [drafted, accepted].
        propose_us: median time of a proposal, in microseconds; 0.0 where none was made.
        start_us: median time to take in a prompt, in microseconds.
        learn_us: median time to learn from a finished request, in microseconds; 0.0 of a drafter that does not.
        plain_ms: time of decoding all rows without drafts by the cost curve, in milliseconds.
        drafted_ms: the same with drafts, the measured times of the drafter included.
    """

    name: str
    requests: tuple[Recorded, ...]
    counts_first: bool
    by_position: list[list[int]]
    by_source: dict[str, list[int]]
    propose_us: float
    start_us: float
    learn_us: float
    plain_ms: float
    drafted_ms: float

    @property
    def passes(self) -> int:
        """Forward passes that rows took part in, over all rows."""
        return sum(request.passes for request in self.requests) - self._left_out

    @property
    def tokens_per_pass(self) -> float:
        """Output tokens per forward pass, end tokens included; NaN where no pass counts."""
        tokens = sum(len(request.output_ids) for request in self.requests) - self._left_out
        return tokens / self.passes if self.passes else float("nan")

    @property
    def drafted_per_pass(self) -> float:
        """Verified tokens per forward pass, NaN where no pass counts."""
        drafted = sum(sum(request.drafted) for request in self.requests)
        return drafted / self.passes if self.passes else float("nan")

    @property
    def predicted_speedup(self) -> float:
        """Time of plain decoding over time with drafts, by the cost curve."""
        return self.plain_ms / self.drafted_ms

    @property
    def _left_out(self) -> int:
        return 0 if self.counts_first else len(self.requests)

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        n = len(self.requests)
        return {
            "name": self.name,
            "tokens_per_pass": self.tokens_per_pass,
            "drafted_per_pass": self.drafted_per_pass,
            "propose_us": self.propose_us,
            "predicted_speedup": self.predicted_speedup,
            "passes_per_output": self.passes / n,
            "acceptance_by_position": [accepted / drafted for drafted, accepted in self.by_position],
            "by_source": {
                name: {"drafted": drafted, "accepted": accepted} for name, (drafted, accepted) in self.by_source.items()
            },
            "start_us": self.start_us,
            "learn_us": self.learn_us,
            "plain_ms_per_output": self.plain_ms / n,
            "drafted_ms_per_output": self.drafted_ms / n,
        }


def replay(
    drafter: Drafts,
    prompts: Sequence[Ids],
    outputs: Sequence[Ids],
    *,
    name: str = "",
    max_draft: int = 10,
    min_probability: float = 0.0,
    tree: bool = False,
    control: Control | None = None,
    cost: StepCost | None = None,
    before_prefill: bool = False,
    limits: Sequence[int | None] | None = None,
    batch_size: int = 1,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Replay a drafter on known outputs.

    Args:
        drafter: speaks the ids of the rows; a `Learner` learns from each batch.
        prompts: ids of each row as the drafter sees them; a `TokenCorpus` will do.
        outputs: ids of each row, end token included; as many as there are prompts, none empty.
        name: what the result is called; default: the name of the drafter's class.
        max_draft: most tokens of a draft; a control brings its own.
        min_probability: a draft ends in front of the token whose chance to be accepted is less.
        tree: verify trees of drafters that can draft them; a control says that itself.
        control: decides lengths by expected gain, as in decoding; it carries over what it learns. None verifies whole
            drafts.
        cost: milliseconds of a pass, for the predicted speed-up; default: the control's, or one typical of a CPU.
        before_prefill: draft before the prompt's pass too, as decoding does, and count that pass.
        limits: most ids that each output could get, where known. Decoding leaves room in a draft for the target's own
            token; without a limit a draft may be as long as what is left of the output.
        batch_size: rows that share passes.
        progress: called with the number of rows done since its last call.

    Raises:
        DataError: there is no row, an empty output, or not as many outputs as prompts.
        OptionError: `max_draft` or `batch_size` below 1, or a probability out of range.

    Examples:
        >>> from tasc.replay.peers import PromptLookup
        >>> result = replay(PromptLookup(eos_id=0), [[5, 6, 7, 8]], [[6, 7, 8, 0]])
        >>> result.tokens_per_pass, result.by_position
        (3.0, [[1, 1], [1, 1], [1, 0]])
    """
    rows = range(len(prompts))
    if batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, got {batch_size}")
    run = _Run(drafter, max_draft, min_probability, tree, control, cost, before_prefill)
    return run.replay(
        name,
        _rows(prompts, outputs, limits or [None] * len(prompts)),
        [rows[start : start + batch_size] for start in rows[::batch_size]],
        progress,
    )


def replay_log(
    drafter: Drafts,
    requests: Sequence[Recorded],
    *,
    name: str = "",
    control: Control | None = None,
    max_draft: int = 10,
    cost: StepCost | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Replay a drafter on the requests of a log, in the batches in which they were decoded.

    With the drafter and a control of the options of that run, the result's `requests` have the log's passes.

    Args:
        requests: in the order of the log (`tasc.draft.recorded.read_log`).
        drafter: speaks the ids of the log.
        name: what the result is called; default: the name of the drafter's class.
        control: decides lengths by expected gain, as in decoding. None verifies whole drafts.
        max_draft: most tokens of a draft; a control brings its own.
        cost: milliseconds of a pass, for the predicted speed-up; default: the control's, or one typical of a CPU.
        progress: called with the number of rows done since its last call.

    Raises:
        DataError: there is no request, or one without output.
        OptionError: `max_draft` below 1.
    """
    batches: list[list[int]] = []
    for row, request in enumerate(requests):
        if request.slot == 0 or not batches:
            batches.append([])
        batches[-1].append(row)
    prompts, outputs = [r.prompt_ids for r in requests], [r.output_ids for r in requests]
    run = _Run(drafter, max_draft, 0.0, False, control, cost, before_prefill=True)
    return run.replay(name, _rows(prompts, outputs, [r.limit for r in requests]), batches, progress)


@dataclass(slots=True)
class _Row:
    """One row on its way through its output."""

    prompt: NDArray[np.int32]
    output: list[int]
    limit: int | None
    state: DraftState | None = None
    place: int = 0  # ids produced
    verified: Verified = field(default_factory=Verified)

    @property
    def room(self) -> int:
        """The longest draft that makes sense."""
        return len(self.output) - self.place if self.limit is None else self.limit - self.place - 1

    def take(self, draft: Planned) -> int:
        """Give the row what a pass with this draft brings; returns how many ids."""
        stand = accepted(draft, self.output[self.place : self.place + len(draft.tokens)])
        new = self.output[self.place : self.place + len(stand) + 1]
        self.place += len(new)
        self.verified.add(draft, stand)
        assert self.state is not None
        self.state.extend(new)
        return len(new)


class _Run:
    """One replay: its options, counts and clocks."""

    def __init__(
        self,
        drafter: Drafts,
        max_draft: int,
        min_probability: float,
        tree: bool,
        control: Control | None,
        cost: StepCost | None,
        before_prefill: bool,
    ) -> None:
        if max_draft < 1:
            raise OptionError(f"max_draft must be at least 1, got {max_draft}")
        if not 0 <= min_probability <= 1:
            raise OptionError(f"min_probability must be from 0 to 1, got {min_probability}")
        self.drafter, self.min_probability, self.tree, self.control = drafter, min_probability, tree, control
        self.max_draft = max_draft if control is None else control.max_draft
        self.cost = cost or (control.cost if control is not None else StepCost.default("cpu"))
        self.before_prefill = before_prefill
        self.start_s: list[float] = []
        self.propose_s: list[float] = []
        self.learn_s: list[float] = []
        self.pass_ms = self.plain_ms = 0.0

    def replay(
        self,
        name: str,
        rows: list[_Row],
        batches: Sequence[Sequence[int]],
        progress: Callable[[int], None] | None,
    ) -> ReplayResult:
        slots: list[int] = [0] * len(rows)
        for batch in batches:
            self._replay_batch([rows[row] for row in batch])
            for slot, row in enumerate(batch):
                slots[row] = slot
                rows[row].state = None  # the drafter's memory may be large
            if progress is not None:
                progress(len(batch))
        done = Verified(
            [draft for row in rows for draft in row.verified.drafts],
            [stand for row in rows for stand in row.verified.stand],
        )
        starts, proposals, lessons = map(_median, (self.start_s, self.propose_s, self.learn_s))
        drafter_ms = 1000 * (starts * len(self.start_s) + proposals * len(self.propose_s) + lessons * len(self.learn_s))
        return ReplayResult(
            name=name or type(self.drafter).__name__,
            requests=tuple(_recorded(row, slot) for row, slot in zip(rows, slots, strict=True)),
            counts_first=self.before_prefill,
            by_position=by_position(done.depths, done.accepted),
            by_source=by_source(zip(done.drafts, done.stand, strict=True)),
            propose_us=1e6 * proposals,
            start_us=1e6 * starts,
            learn_us=1e6 * lessons,
            plain_ms=self.plain_ms,
            drafted_ms=self.pass_ms + drafter_ms,
        )

    def _replay_batch(self, rows: list[_Row]) -> None:
        longest = max(len(row.prompt) for row in rows)
        for row in rows:
            begin = time.perf_counter()
            row.state = self.drafter.start(row.prompt)
            self.start_s.append(time.perf_counter() - begin)
        self._add_plain(rows, longest)
        live, fed = rows, longest
        if not self.before_prefill:
            self.pass_ms += self._step_ms(live, fed, 0)
            for row in live:
                row.take(NOTHING)
            fed = 1
        while live := [row for row in live if row.place < len(row.output)]:
            self._pass(live, fed)
            fed = 1
        if isinstance(self.drafter, Learner):
            for row in rows:
                begin = time.perf_counter()
                self.drafter.learn(row.prompt, row.output)
                self.learn_s.append(time.perf_counter() - begin)

    def _pass(self, live: list[_Row], fed: int) -> None:
        drafts = self._drafts(live, fed)
        self.pass_ms += self._step_ms(live, fed, max(len(draft.tokens) for draft in drafts))
        produced = [row.take(draft) for row, draft in zip(live, drafts, strict=True)]
        if self.control is not None:
            self.control.observe(produced)

    def _drafts(self, live: list[_Row], fed: int) -> list[Planned]:
        """What is verified of each row."""
        if self.control is not None:
            return plan(self.control, live, self._propose, context=_context(live), fed=fed)
        proposed = [self._propose(row, self.tree, self.min_probability) for row in live]
        return [NOTHING if draft is None else draft.planned(self._likely(draft)) for draft in proposed]

    def _propose(self, row: _Row, tree: bool, least: float) -> Draft | None:
        room = row.room
        if room < 1:
            return None
        assert row.state is not None
        begin = time.perf_counter()
        draft = propose(row.state, self.max_draft, room, tree=tree, min_probability=least)
        self.propose_s.append(time.perf_counter() - begin)
        return draft

    def _likely(self, draft: Draft) -> int:
        """How many tokens of a draft are likely enough."""
        reached = np.cumprod(draft.probabilities, dtype=np.float64) >= self.min_probability
        return len(reached) if reached.all() else int(np.argmin(reached))

    def _step_ms(self, live: list[_Row], fed: int, width: int) -> float:
        return self.cost.step_ms(fed + width, batch_size=len(live), context=_context(live))

    def _add_plain(self, rows: list[_Row], longest: int) -> None:
        """Add the time of decoding these rows together, a token per pass."""
        lengths = sorted(len(row.output) for row in rows)
        n_live, fed = len(rows), longest
        for place in range(lengths[-1]):
            while lengths[len(rows) - n_live] <= place:
                n_live -= 1
            self.plain_ms += self.cost.step_ms(fed, batch_size=n_live, context=longest + place)
            fed = 1


def _rows(prompts: Sequence[Ids], outputs: Sequence[Ids], limits: Sequence[int | None]) -> list[_Row]:
    if not len(prompts) == len(outputs) == len(limits):
        raise DataError(
            f"{len(prompts)} prompts, {len(outputs)} outputs, {len(limits)} limits: give as many of each, row by row"
        )
    if len(prompts) == 0:
        raise DataError("a replay needs at least one row, got none; check the data or the log")
    rows = []
    for number, (prompt, output, limit) in enumerate(zip(prompts, outputs, limits, strict=True)):
        if len(output) == 0:
            raise DataError(f"output {number} has no tokens; every output holds at least its end token")
        rows.append(_Row(np.asarray(prompt, np.int32), np.asarray(output).tolist(), limit))
    return rows


def _recorded(row: _Row, slot: int) -> Recorded:
    return Recorded(
        tuple(row.prompt.tolist()),
        tuple(row.output),
        row.verified.drafted,
        row.verified.accepted,
        limit=row.limit,
        slot=slot,
        depths=row.verified.depths,
    )


def _context(live: list[_Row]) -> int:
    return max(len(row.prompt) + row.place for row in live)


def _median(seconds: list[float]) -> float:
    return float(np.median(seconds)) if seconds else 0.0
