"""Systems under comparison: anything that completes rows and says what it took. The first one is the reference.

A further row of a table is a further `System`: a name and a function. Quality is measured once on all rows;
time is measured in rounds in which the systems take turns (A B A B), so that a machine that slows down meanwhile does
not favour one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tasc.corpus import Row, Tasks
from tasc.evals import Difference, Interval, Metric, paired_bootstrap
from tasc.progress import Progress, silent

if TYPE_CHECKING:
    from tasc.decode import Completions, Timing

Advance = Callable[[int], None]

# outputs that are no outputs of the task have lengths of their own, and their times compare nothing
MOST_MALFORMED = 0.1


@dataclass(frozen=True, slots=True)
class System:
    """One way to complete rows.

    Attributes:
        name: for the table.
        complete: rows, batch size, progress -> completions in the order of the rows.
    """

    name: str
    complete: "Callable[[Sequence[Row], int, Advance], Completions]"


@dataclass(frozen=True, slots=True)
class Quality:
    """A system's outputs on all test rows, scored.

    Attributes:
        completions: the outputs and what they took.
        values: metrics by name, with 95% bootstrap intervals.
        difference: paired difference of the headline value to the reference system; None for the reference itself.
    """

    completions: "Completions"
    values: dict[str, Interval]
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Speed:
    """A system's time at one batch size.

    Attributes:
        batch_size: rows in one forward pass.
        ms: milliseconds per output, one value a round.
        ratio: how many times faster than the reference, one value a round; all 1 for the reference itself.
    """

    batch_size: int
    ms: "Timing"
    ratio: "Timing"


def measure_quality(
    systems: Sequence[System],
    rows: Tasks,
    *,
    metric: Metric,
    headline: str,
    batch_size: int,
    progress: Progress = silent,
    seed: int = 0,
) -> list[Quality]:
    """Complete all rows with each system and score the outputs against the rows' completions.

    Args:
        systems: the first one is the reference for differences.
        rows: held-out rows.
        metric: gives the values.
        headline: the value whose difference to the reference is tested.
        batch_size: rows in one forward pass.
        progress: see `tasc.progress.Progress`.
        seed: of the bootstrap.
    """
    found: list[Quality] = []
    reference = None
    for system in systems:
        with progress(f"completing the test rows: {system.name}", total=len(rows), unit="rows") as advance:
            completions = system.complete(rows, batch_size, advance)
        measured = metric.measure(completions.texts, rows.completions)
        value = measured.statistics[headline]
        difference = None if reference is None else paired_bootstrap(value, reference, seed=seed)
        reference = value if reference is None else reference
        found.append(Quality(completions, measured.intervals(seed=seed), difference))
    return found


def measure_speed(
    systems: Sequence[System],
    rows: Sequence[Row],
    *,
    batch_size: int,
    rounds: int,
    turn: int | None = None,
    progress: Progress = silent,
) -> list[Speed]:
    """Time each system on the same rows, in rounds in which they take turns.

    Args:
        systems: the first one is the reference for ratios.
        rows: rows to complete in each round.
        batch_size: rows in one forward pass.
        rounds: measurements of each system.
        turn: rows that a system completes before the next one has its turn; short turns meet the same bursts of other
            work. Default: all, for systems that learn from row to row.
        progress: see `tasc.progress.Progress`.
    """
    from tasc.decode import Timing

    ms: list[list[float]] = [[] for _ in systems]
    total = rounds * len(systems) * len(rows)
    with progress(f"timing in turns, batch {batch_size}", total=total, unit="rows") as advance:
        for _ in range(rounds):
            spent = [0.0] * len(systems)
            for start in range(0, len(rows), turn or len(rows)):
                some = rows[start : start + (turn or len(rows))]
                for place, system in enumerate(systems):
                    spent[place] += system.complete(some, batch_size, advance).generated.ms_per_output * len(some)
            for values, total_ms in zip(ms, spent, strict=True):
                values.append(total_ms / len(rows))
    ratios = [[reference / own for reference, own in zip(ms[0], values, strict=True)] for values in ms]
    return [Speed(batch_size, Timing(tuple(m)), Timing(tuple(r))) for m, r in zip(ms, ratios, strict=True)]


def are_comparable(quality: Quality, reference: Quality) -> bool:
    """Tell whether two systems both write outputs of the task's form, so that their times can be compared."""
    return all(q.values["malformed"].value <= MOST_MALFORMED for q in (quality, reference))


def to_json(system: System, quality: Quality, speeds: Sequence[Speed], *, comparable: bool) -> dict[str, Any]:
    """One system's row of the results, ready for JSON."""
    speed = quality.completions.speed()
    return {
        "system": system.name,
        "comparable": comparable,
        "quality": {name: interval.value for name, interval in quality.values.items()},
        "intervals": {name: [interval.low, interval.high] for name, interval in quality.values.items()},
        "headline_difference": None if quality.difference is None else asdict(quality.difference),
        "tokens_per_output": speed["tokens_per_output"],
        "passes_per_output": speed["passes_per_output"],
        "adoption": speed["adoption"],
        "unfinished": speed["unfinished"],
        "time": _time(quality),
        "drafts": speed.get("drafts"),
        "speed": [
            {
                "batch_size": s.batch_size,
                "ms_per_output": s.ms.median,
                "ms_per_output_rounds": list(s.ms.values),
                "speed_up": s.ratio.median,
                "speed_up_range": [s.ratio.low, s.ratio.high],
            }
            for s in speeds
        ],
    }


def _time(quality: Quality) -> dict[str, Any] | None:
    """Where the time of the quality run went, in milliseconds per output; None where only the sum is known."""
    done = quality.completions.generated
    if not done.prefill_ms:
        return None
    n = len(done.outputs)
    prefill, drafting = sum(done.prefill_ms) / n, sum(request.draft_ms for request in done.requests) / n
    return {
        "batch_size": quality.completions.settings["batch_size"],
        "prefill_ms": prefill,
        "drafting_ms": drafting,
        "other_passes_ms": sum(done.ms) / n - prefill - drafting,
    }
