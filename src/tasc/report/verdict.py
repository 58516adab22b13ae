"""What a demo run's figures say, in plain words, and what to do next."""

from collections.abc import Sequence

from tasc.report.data import Budgets, Estimate, System

QUICK = (
    "Quick run: too few training steps and too few test rows. It shows that every stage works; "
    "neither quality nor speed-up says anything about the method. Run 'tasc demo' for that."
)


def verdict(systems: Sequence[System]) -> tuple[str, ...]:
    """A sentence on each system beside the reference."""
    return tuple(_sentence(system, systems[0]) for system in systems[1:])


def best(systems: Sequence[System]) -> System | None:
    """The fastest system, at its smallest batch, that may be compared and is not known to be worse; None without one.

    It may still be slower than the reference.
    """
    fitting = [system for system in systems[1:] if fastest(system) is not None and not is_worse(system, systems)]
    return max(fitting, key=lambda system: _speed_up(system).value, default=None)


def fastest(system: System) -> Estimate | None:
    """Its speed-up at the smallest batch size."""
    known = [speed for speed in system.speeds if speed.speed_up is not None]
    return min(known, key=lambda speed: speed.batch_size).speed_up if known else None


def is_worse(system: System, systems: Sequence[System]) -> bool:
    """Whether the interval of the difference in quality lies below zero; drafts are as good as their model."""
    gap = quality_of(system, systems).difference
    return gap is not None and gap.high is not None and gap.high < 0


def model_of(system: System, systems: Sequence[System]) -> System:
    """The system without drafts whose outputs a system's are."""
    if system.changed is None:
        return system
    return next((s for s in systems if s.changed is None and s.budget == system.budget), system)


def quality_of(system: System, systems: Sequence[System]) -> System:
    """The system whose quality a system has: its own where drafts changed outputs, so that it was measured."""
    return system if system.quality else model_of(system, systems)


def budget(curve: Budgets) -> str:
    """Where the curve is lowest, and where this run is."""
    lowest = min(curve.points, key=lambda point: point.cost)
    text = (
        f"This run adds {curve.chosen:,} n-grams. Expected decoding time is lowest with {lowest.budget:,}: "
        f"{lowest.cost:.0%} of plain decoding"
    )
    here = next((point for point in curve.points if point.budget == curve.chosen), None)
    return f"{text}." if here is None or here is lowest else f"{text}; with {here.budget:,} it is {here.cost:.0%}."


def next_steps(*, quick: bool) -> tuple[str, ...]:
    """After a demo."""
    if quick:
        return ("Run 'tasc demo' for figures that mean something; it takes some minutes.",)
    return (
        "On your own data: 'tasc analyze train.jsonl --tokenizer MODEL' says in a minute whether its outputs repeat.",
        "For a model that is fine-tuned already: 'tasc draft build', then 'tasc generate --drafter ... --compare'.",
        "For a model that you fine-tune: 'tasc enrich --budget auto', 'tasc train --vocab', then 'tasc eval'.",
    )


def _speed_up(system: System) -> Estimate:
    found = fastest(system)
    assert found is not None, "best chooses among those with a speed-up"
    return found


def _sentence(system: System, reference: System) -> str:
    parts = [_speed(system, reference)]
    if system.changed is not None:
        same = "the same outputs as without drafts"
        parts.append(same if system.changed == 0 else f"{system.changed} outputs differ from those without drafts")
    if system.changed != 0 and system.difference is not None:
        parts.append(_quality(system.difference, system.quality[0].label if system.quality else "quality"))
    return f"{system.name}: {', '.join(parts)}."


def _speed(system: System, reference: System) -> str:
    passes = ""
    if system.passes_per_output and reference.passes_per_output:
        passes = f"{system.passes_per_output:.1f} instead of {reference.passes_per_output:.1f} passes per output"
    known = sorted((speed for speed in system.speeds if speed.speed_up is not None), key=lambda s: s.batch_size)
    if not known:
        return f"{passes or 'not timed'}; too many malformed outputs for a fair comparison of times"
    times = " and ".join(f"{s.speed_up.value:.1f} times as fast at batch {s.batch_size}" for s in known if s.speed_up)
    return f"{times} ({passes})" if passes else times


def _quality(gap: Estimate, label: str) -> str:
    assert gap.low is not None, "a difference has an interval"
    assert gap.high is not None, "a difference has an interval"
    figures = f"{gap.value:+.3f}, 95% interval {gap.low:+.3f} to {gap.high:+.3f}"
    if gap.high < 0:
        return f"{label} is lower ({figures})"
    if gap.low > 0:
        return f"{label} is higher ({figures})"
    return f"no difference in {label} that these rows could show ({figures})"
