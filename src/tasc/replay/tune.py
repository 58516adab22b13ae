"""Fits a drafter to a task and a machine by replay, and predicts on held-out rows what that brings. Knows ids only.

Some rows teach weights, others choose between candidates, and the held-out ones are replayed at the end only, with the
drafter as it was and as it became (`rows.py` divides them). Choices go by the cost curve alone, so the same rows and
curve give the same choice on every machine. The prediction at the end adds the measured times of the drafter.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import Draft, Drafter, DraftState, sample
from tasc.draft.adaptive import adaptive
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.interface import Drafts, Ids, Learner, propose
from tasc.draft.options import LONGEST_DRAFT, MAX_DRAFT, Options, Tuned
from tasc.errors import DataError, OptionError
from tasc.evals.stats import Difference, Interval, Ratio, bootstrap_ci, paired_bootstrap
from tasc.progress import Progress, silent
from tasc.replay.rows import Rows
from tasc.replay.seen import Seen, seen_rows
from tasc.replay.simulate import ReplayResult, replay

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 31, 40, 50, 63)
PAPER_GRID = {"n_max": (2, 3, 4, 5, 6, 8), "p_min": (1, 2, 3, 5, 10), "lam": (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)}
# longer drafts must win by more, as the time to make them is not in the curve, and other weights, by luck
NEAR_BEST = 1.005
CHOICE_TOKENS = 100_000  # of outputs at most, for time
PREDICTED = 0.05  # a smaller gain is none: decoding differs from its prediction by as much
SEEN_REFUSED = 0.9  # share of rows known to the drafter from which on nothing is learnt about new ones

Effect = Literal["helps", "no difference", "loses time"]


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What decoding the held-out rows would take.

    Attributes:
        result: of the replay.
        max_draft: most drafted tokens per pass.
        plain_ms: float64[n_batches]: time of each batch without drafts.
        drafted_ms: float64[n_batches]: with drafts, the drafter's own time included.
        rows: float64[n_batches]: rows of each batch.
    """

    result: ReplayResult
    max_draft: int
    plain_ms: NDArray[np.float64]
    drafted_ms: NDArray[np.float64]
    rows: NDArray[np.float64]

    @property
    def speedup(self) -> Interval:
        """Plain over drafted time with its 95% bootstrap interval over batches, which are rows at batch size 1."""
        return bootstrap_ci(Ratio(self.plain_ms, self.drafted_ms))

    @property
    def ms_per_output(self) -> float:
        """Milliseconds per output with drafts."""
        return float(self.drafted_ms.sum() / self.rows.sum())

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        result = self.result
        return {
            "max_draft": self.max_draft,
            "speedup": _interval(self.speedup),
            "ms_per_output": self.ms_per_output,
            "tokens_per_pass": result.tokens_per_pass,
            "drafted_per_pass": result.drafted_per_pass,
            "passes_per_output": result.passes / len(result.requests),
            "propose_us": result.propose_us,
            "start_us": result.start_us,
            "learn_us": result.learn_us,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What tuning found.

    Attributes:
        drafter: as it became; its `tuned` says how to decode with it.
        before: prediction for the held-out rows with the drafter as it was.
        after: the same as it became.
        saved_ms: milliseconds per output that tuning saves on them, row by row.
        chosen: the candidate that was taken: `max_draft`, and `weights` ("kept" or "learnt") or the paper's options.
        tried: every candidate with its `ms_per_output` on the rows that choose, in the order in which they were tried.
        rows: how many teach, choose and are held out.
        seen: how many of all rows the drafter knew already.
        batch_size: rows that share passes.
        cost: the curve.
    """

    drafter: Drafter
    before: Predicted
    after: Predicted
    saved_ms: Difference
    chosen: dict[str, Any]
    tried: list[dict[str, Any]]
    rows: dict[str, int]
    seen: Seen
    batch_size: int
    cost: StepCost

    @property
    def effect(self) -> Effect:
        """What drafts do to the time, as far as the held-out rows can tell."""
        speedup = self.after.speedup
        if speedup.low > 1 and speedup.value >= 1 + PREDICTED:
            return "helps"
        return "loses time" if speedup.high < 1 else "no difference"

    @property
    def plain_ms_per_output(self) -> float:
        """Milliseconds per held-out output without drafts."""
        return float(self.after.plain_ms.sum() / self.after.rows.sum())

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        saved = self.saved_ms
        return {
            "speedup": _interval(self.after.speedup),
            "plain_ms_per_output": self.plain_ms_per_output,
            "drafted_ms_per_output": self.after.ms_per_output,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "saved_ms_per_output": {"low": saved.low, "mid": saved.value, "high": saved.high, "p": saved.p},
            "chosen": self.chosen,
            "tried": self.tried,
            "rows": self.rows | {"compared": self.seen.compared, "seen": self.seen.seen},
            "batch_size": self.batch_size,
            "cost": self.cost.about,
        }


def tune(
    drafter: Drafter,
    prompts: TokenCorpus,
    outputs: TokenCorpus,
    *,
    cost: StepCost | None = None,
    batch_size: int = 1,
    max_draft: int | None = None,
    limits: Sequence[int | None] | None = None,
    progress: Progress = silent,
) -> Tuning:
    """Fit a drafter to rows that it was not built from, and predict what it brings.

    Args:
        drafter: stays as it is.
        prompts: of the rows, as the drafter sees them.
        outputs: of the rows, end tokens included where they came.
        cost: milliseconds of a pass; default: a curve typical of a CPU.
        batch_size: rows that share passes, neighbours in the order given.
        max_draft: try no longer drafts; default: as long as the curve was measured for.
        limits: most ids that each output could get; an output that was cut there teaches nothing.
        progress: see `tasc.progress.Progress`.

    Raises:
        DataError: prompts and outputs do not belong together, there are too few rows, or nearly all of them are those
            that the drafter was built from.
        OptionError: `batch_size` or `max_draft` out of range.
    """
    curve = cost or StepCost.default("cpu")
    _check(batch_size, max_draft)
    rows = Rows(prompts, outputs, (None,) * len(outputs) if limits is None else tuple(limits))
    parts = rows.parts()
    seen = seen_rows(drafter, prompts, rows.without_ends(drafter.eos_id))
    if seen.share >= SEEN_REFUSED and seen.by_prompt:
        raise DataError(
            f"{seen.seen:,} of {seen.compared:,} rows are rows that the drafter was built from, so they say nothing about "
            "new ones; pass validation rows"
        )
    current = MAX_DRAFT if drafter.tuned is None else drafter.tuned.max_draft
    if drafter.preset == "paper":  # it has nothing to teach
        search = _Search(parts["choose"].with_rows(parts["teach"]), curve, batch_size, current, progress)
        chosen, named = search.options(drafter)
    else:
        search = _Search(parts["choose"], curve, batch_size, current, progress)
        chosen, named = search.weights(drafter, parts["teach"])
    length = search.length(chosen, named, max_draft)
    held_out = parts["held_out"]
    before = after = _predict(drafter, held_out, curve, batch_size, current, progress)
    if chosen is not drafter or length != current:
        after = _predict(chosen, held_out, curve, batch_size, length, progress)
    speedup = after.speedup
    tuned = Tuned(length, curve.to_json(), len(held_out), (speedup.low, speedup.value, speedup.high))
    return Tuning(
        drafter=replace(chosen, tuned=tuned),
        before=before,
        after=after,
        saved_ms=paired_bootstrap(Ratio(before.drafted_ms, before.rows), Ratio(after.drafted_ms, after.rows)),
        chosen={"max_draft": length, **named},
        tried=search.tried,
        rows={"total": len(rows)} | {str(part): len(of_part) for part, of_part in parts.items()},
        seen=seen,
        batch_size=batch_size,
        cost=curve,
    )


@dataclass(slots=True)
class _Search:
    """Candidates, compared on the rows that choose.

    Attributes:
        max_draft: of the drafter as it is.
        tried: see `Tuning`.
    """

    rows: Rows
    cost: StepCost
    batch_size: int
    max_draft: int
    progress: Progress
    tried: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.rows.first(CHOICE_TOKENS)

    def weights(self, drafter: Drafter, teaching: Rows) -> tuple[Drafter, dict[str, Any]]:
        """The drafter with the better weights, and its name."""
        finished = teaching.finished(drafter.eos_id)
        if not len(finished):
            return drafter, {"weights": "kept"}
        finished = finished.first(sample.TOKENS)
        with self.progress("learning weights", total=len(finished)) as advance:
            learnt = drafter.taught(finished.prompts, finished.without_ends(drafter.eos_id))
            advance(len(finished))
        kept_ms = self._ms(drafter, self.max_draft, {"weights": "kept"})
        if NEAR_BEST * self._ms(learnt, self.max_draft, {"weights": "learnt"}) < kept_ms:
            return learnt, {"weights": "learnt"}
        return drafter, {"weights": "kept"}

    def options(self, drafter: Drafter) -> tuple[Drafter, dict[str, Any]]:
        """The paper's drafter with the best options, found one after the other, twice; and their names."""
        best = drafter.options
        best_ms = self._ms(drafter, self.max_draft, _named(best))
        known = {best}
        for name, values in [*PAPER_GRID.items()] * 2:
            for options in [replace(best, **{name: value}) for value in values]:
                if options in known:
                    continue
                known.add(options)
                ms = self._ms(replace(drafter, options=options), self.max_draft, _named(options))
                if ms < best_ms:
                    best, best_ms = options, ms
        return (drafter if best == drafter.options else replace(drafter, options=best)), _named(best)

    def length(self, drafter: Drafter, named: dict[str, Any], most: int | None) -> int:
        """The longest draft to ask for: of lengths that take about the same time the shortest."""
        if most is None:  # a pass feeds the draft and the token before it; beyond the curve all is guesswork
            most = min(max(self.cost.tokens[-1] - 1, 1), LONGEST_DRAFT)
        lengths = sorted({n for n in (*LENGTHS, self.max_draft, most) if n <= most})
        known = {one["max_draft"]: one["ms_per_output"] for one in self.tried if named.items() <= one.items()}
        ms = {n: known[n] if n in known else self._ms(drafter, n, named) for n in lengths}
        return next(n for n in lengths if ms[n] <= NEAR_BEST * min(ms.values()))

    def _ms(self, drafter: Drafter, max_draft: int, named: dict[str, Any]) -> float:
        """Milliseconds per output by the curve alone."""
        words = ", ".join(f"{name} {value}" for name, value in (named | {"max draft": max_draft}).items())
        with self.progress(f"replaying {words}", total=len(self.rows)) as advance:
            result, proposals = _replay(drafter, self.rows, self.cost, self.batch_size, max_draft, advance)
        ms = float(_pass_ms(result, self.cost).sum() + self.cost.draft_ms * proposals.sum()) / len(self.rows)
        self.tried.append({**named, "max_draft": max_draft, "ms_per_output": ms})
        return ms


def _predict(
    drafter: Drafter, rows: Rows, cost: StepCost, batch_size: int, max_draft: int, progress: Progress
) -> Predicted:
    """What decoding rows would take, with the drafter's own times as they are here."""
    with progress(f"replaying held-out rows, max draft {max_draft}", total=len(rows)) as advance:
        result, proposals = _replay(drafter, rows, cost, batch_size, max_draft, advance)
    first = [row for row, request in enumerate(result.requests) if request.slot == 0]
    n_rows = np.diff([*first, len(rows)]).astype(np.float64)
    own_us = (result.start_us + result.learn_us) * n_rows + result.propose_us * np.add.reduceat(proposals, first)
    return Predicted(result, max_draft, _plain_ms(result, cost), _pass_ms(result, cost) + own_us / 1000, n_rows)


def _replay(
    drafter: Drafter, rows: Rows, cost: StepCost, batch_size: int, max_draft: int, advance: Callable[[int], None]
) -> tuple[ReplayResult, NDArray[np.int64]]:
    """Replay as decoding does it, with a control that knows nothing yet; and the proposals made for each row."""
    counted = _Counted(adaptive(drafter))
    control = Control(cost, max_draft=max_draft)
    result = replay(
        counted, rows.prompts, rows.outputs, control=control, before_prefill=True, limits=rows.room(),
        batch_size=batch_size, progress=advance,
    )  # fmt: skip
    return result, np.array([state.proposals for state in counted.states], np.int64)


def _plain_ms(result: ReplayResult, cost: StepCost) -> NDArray[np.float64]:
    """Milliseconds of each batch without drafts: float64[n_batches]."""
    return _batch_ms(result, cost, lambda length, _drafted, _accepted: [(0, 1)] * length)


def _pass_ms(result: ReplayResult, cost: StepCost) -> NDArray[np.float64]:
    """Milliseconds of each batch's passes with drafts: float64[n_batches]."""
    return _batch_ms(
        result,
        cost,
        lambda _length, drafted, accepted: [(n, right + 1) for n, right in zip(drafted, accepted, strict=True)],
    )


def _batch_ms(result: ReplayResult, cost: StepCost, passes_of: Callable[..., list[tuple[int, int]]]) -> Any:
    """Milliseconds of each batch; `passes_of` a row gives the drafted and the produced ids of its passes."""
    requests = result.requests
    first = [row for row, request in enumerate(requests) if request.slot == 0]
    times = []
    for begin, end in pairwise([*first, len(requests)]):
        batch = requests[begin:end]
        passes = [passes_of(len(one.output_ids), one.drafted, one.accepted) for one in batch]
        lengths = [len(one.prompt_ids) for one in batch]
        fed, ms = max(lengths), 0.0
        for number in range(max(map(len, passes))):
            live = [row for row, of_row in enumerate(passes) if number < len(of_row)]
            width = max(passes[row][number][0] for row in live)
            ms += cost.step_ms(fed + width, batch_size=len(live), context=max(lengths[row] for row in live))
            for row in live:
                lengths[row] += passes[row][number][1]
            fed = 1
        times.append(ms)
    return np.array(times)


class _Counted:
    """A drafter whose proposals are counted, request by request."""

    def __init__(self, drafter: Drafts) -> None:
        self.drafter, self.fingerprint, self.vocab_size = drafter, drafter.fingerprint, drafter.vocab_size
        self.states: list[_CountedState] = []

    def start(self, prompt_ids: Ids) -> "_CountedState":
        self.states.append(_CountedState(self.drafter.start(prompt_ids)))
        return self.states[-1]

    def learn(self, prompt_ids: Ids, output_ids: Ids) -> None:
        if isinstance(self.drafter, Learner):
            self.drafter.learn(prompt_ids, output_ids)


class _CountedState:
    __slots__ = ("proposals", "state")

    def __init__(self, state: DraftState) -> None:
        self.state, self.proposals = state, 0

    def extend(self, ids: Ids) -> None:
        self.state.extend(ids)

    def propose(self, max_tokens: int = 10) -> Draft:
        self.proposals += 1
        return self.state.propose(max_tokens)

    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        self.proposals += 1
        return propose(self.state, max_tokens, max_depth, tree=True, min_probability=min_probability)


def _named(options: Options) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name in PAPER_GRID}


def _interval(found: Interval) -> dict[str, float]:
    return {"low": found.low, "mid": found.value, "high": found.high}


def _check(batch_size: int, max_draft: int | None) -> None:
    if batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, got {batch_size}")
    if max_draft is not None and not 1 <= max_draft <= LONGEST_DRAFT:
        raise OptionError(f"max_draft must be from 1 to {LONGEST_DRAFT}, got {max_draft}")
