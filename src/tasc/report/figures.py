"""Which figures a run gets, each with a caption and with its values in words for those who do not see it."""

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from tasc.report import charts, plots, verdict
from tasc.report.data import Estimate, Report, Run, System


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure of the page: its markup, and the caption below it."""

    svg: Markup
    caption: str


class _Page:
    """Makes figures with ids of their own."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.number = prefix, 0

    def show(self, svg: str, caption: str, values: str) -> Shown:
        self.number += 1
        text = plots.inline(svg, prefix=f"{self.prefix}f{self.number}", label=f"{caption} {values}")
        return Shown(Markup(text), caption)  # matplotlib escapes text, `inline` the label


def of(run: Run, prefix: str) -> dict[str, list[Shown]]:
    """The figures of a run by section, none where there is no data."""
    page = _Page(prefix)
    return {
        "headline": _headline(run, page),
        "lengths": _lengths(run, page),
        "budget": _budget(run, page),
        "drafts": _drafts(run, page),
        "time": _time(run, page),
        "training": _training(run, page),
        "tried": _tried(run, page),
    }


def compared(report: Report) -> list[Shown]:
    """Quality against speed over all runs."""
    rows, batches, labels = [], set(), set()
    for run in report.runs:
        for system in run.systems:
            quality = verdict.quality_of(system, run.systems).quality
            speed = verdict.fastest(system) or (Estimate(1.0) if system is run.systems[0] and system.speeds else None)
            if quality and speed is not None:
                rows.append((run.name, system.name, speed, quality[0].estimate))
                batches.add(min(one.batch_size for one in system.speeds))
                labels.add(quality[0].label)
    if len(rows) < 2 or len(batches) != 1 or len(labels) != 1:
        return []
    label = labels.pop()
    values = "; ".join(
        f"{run}: {name}: speed-up {speed.value:.2f}, {label} {good.value:.3f}" for run, name, speed, good in rows
    )
    svg = charts.trade_off(rows, label, batches.pop())
    return [_Page("c").show(svg, "Further right is faster, further up is better.", values)]


def _headline(run: Run, page: _Page) -> list[Shown]:
    shown = []
    speeds = [
        (system.name, speed.batch_size, speed.speed_up)
        for system in run.systems
        for speed in system.speeds
        if speed.speed_up is not None
    ]
    if speeds:
        values = "; ".join(f"{name} at batch {size}: {_words(one, 2)}" for name, size, one in speeds)
        what = "95% interval" if run.kind == "tune" else "lowest and highest of the rounds"
        shown.append(page.show(charts.speed_ups(speeds), f"Speed-up over {run.systems[0].name}; bars: {what}.", values))
    qualities = [(system.name, system.quality[0].estimate) for system in run.systems if system.quality]
    if len(qualities) > 1:
        label = next(system.quality[0].label for system in run.systems if system.quality)
        values = "; ".join(f"{name}: {_words(one, 3)}" for name, one in qualities)
        note = " Drafts change no output." if any(system.changed == 0 for system in run.systems) else ""
        caption = f"Quality: {label} of each model.{note}"
        shown.append(page.show(charts.quality(qualities, label), caption, values))
    return shown


def _lengths(run: Run, page: _Page) -> list[Shown]:
    systems = [system for system in run.systems if system.passes]
    if not systems:
        return []
    values = "; ".join(f"{s.name}: from {min(s.passes)} to {max(s.passes)}" for s in systems)
    rows = "test rows" if run.test_rows else "outputs"
    caption = f"Forward passes that an output takes, over {len(systems[0].passes):,} {rows}; dashed: the median."
    return [page.show(charts.lengths(systems), caption, values)]


def _budget(run: Run, page: _Page) -> list[Shown]:
    curve = run.budgets
    if curve is None:
        return []
    models = [system for system in run.systems if system.changed is None and system.budget is not None]
    measured = [(s.name, s.budget, s.passes_per_output) for s in models if s.budget is not None and s.passes_per_output]
    values = "; ".join(f"M {point.budget}: {_words(point.steps, 2)}" for point in curve.points)
    shown = [
        page.show(
            charts.budgets(curve, measured),
            "Steps per output. Rare n-grams are counted as often as their training suggests; band: 95% interval.",
            values,
        ),
        page.show(
            charts.cost_by_budget(curve),
            "Expected time: fewer steps against a head that grows with every token added.",
            "; ".join(f"M {point.budget}: {point.cost:.0%}" for point in curve.points),
        ),
    ]
    points = [(s.budget, s.quality[0].estimate) for s in models if s.quality and s.budget is not None]
    if len(points) > 1:
        label = models[0].quality[0].label
        values = "; ".join(f"M {budget}: {_words(one, 3)}" for budget, one in points)
        shown.append(
            page.show(charts.quality_by_budget(points, label, curve.chosen), "Quality of the trained models.", values)
        )
    return shown


def _drafts(run: Run, page: _Page) -> list[Shown]:
    if not run.drafts:
        return []
    positions = "; ".join(
        f"{one.system}: {', '.join(f'{p.name}: {p.share.value:.0%}' for p in one.by_position)}" for one in run.drafts
    )
    shown = [page.show(charts.acceptance_by_position(run.drafts), "How far drafts are right.", positions)]
    for one in run.drafts:
        if one.by_source:
            values = "; ".join(f"{s.name}: {s.share.value:.0%}" for s in one.by_source)
            caption = f"{one.system}: where its drafted tokens came from, and how many were accepted."
            shown.append(page.show(charts.acceptance_by_source(one.by_source), caption, values))
    return shown


def _time(run: Run, page: _Page) -> list[Shown]:
    systems = [system for system in run.systems if system.time is not None]
    if not systems:
        return []
    values = "; ".join(_time_words(system) for system in systems)
    return [page.show(charts.time_shares(systems), "Time per output and its parts.", values)]


def _time_words(system: System) -> str:
    time = system.time
    assert time is not None, "only systems with times are shown"
    return (
        f"{system.name}: prefill {time.prefill_ms:.2f} ms, drafting {time.drafting_ms:.2f} ms, further passes "
        f"{time.other_passes_ms:.2f} ms"
    )


def _training(run: Run, page: _Page) -> list[Shown]:
    shown = []
    runs = [one for one in run.training if len(one.loss) > 1]
    if runs:
        values = "; ".join(f"{one.name}: from {one.loss[0][1]:.3f} to {one.loss[-1][1]:.3f}" for one in runs)
        caption = (
            "Training loss: every step, and its mean over the last 11. A token of an enriched model stands for more text, "
            "so compare the curves' shapes only."
        )
        shown.append(page.show(charts.training(runs, evaluations=False), caption, values))
    runs = [one for one in run.training if one.evaluations]
    if runs:
        values = "; ".join(f"{one.name}: {one.evaluations[-1][1]:.4f} at step {one.evaluations[-1][0]}" for one in runs)
        caption = "Validation loss per byte of output, which is comparable between vocabularies."
        shown.append(page.show(charts.training(runs, evaluations=True), caption, values))
    return shown


def _tried(run: Run, page: _Page) -> list[Shown]:
    if not run.tried:
        return []
    values = "; ".join(f"{one.name}, {one.max_draft}: {one.ms:.2f} ms" for one in run.tried)
    caption = "Candidates on the rows that choose between them, by the cost curve alone."
    return [page.show(charts.tried(run.tried), caption, values)]


def _words(one: Estimate, digits: int) -> str:
    value = f"{one.value:.{digits}f}"
    ends: Iterable[float | None] = (one.low, one.high)
    if None in ends:
        return value
    return f"{value} ({one.low:.{digits}f} to {one.high:.{digits}f})"
