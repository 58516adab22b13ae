"""The figures: values in, SVG text out. Units stand on every axis, intervals are drawn where they are known."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tasc.report.data import (
    Acceptance,
    Budgets,
    Drafts,
    Estimate,
    System,
    Training,
    Tried,
)
from tasc.report.plots import COLOURS, DASHES, HATCHES, INK, MARKERS, SOURCES, draw, error_bars

BUDGET = "budget M (n-grams added)"
CAP = 3  # points
LONGEST_NAME = 24  # characters of a name on an axis
LEGEND_LINE = 48  # characters
FILLS: Any = ("full", "none", "left", "bottom")  # of a second, third, ... six markers; matplotlib names them in a type


def speed_ups(rows: Sequence[tuple[str, int, Estimate]]) -> str:
    """Speed-up of systems, a row for each (name, batch size, speed-up), with the range over the rounds."""
    names = {name for name, _, _ in rows}
    return draw(lambda figure: speed_ups_on(figure.subplots(), rows), height=1.3 + 0.42 * len(names))


def speed_ups_on(axes: Any, rows: Sequence[tuple[str, int, Estimate]]) -> None:
    """`speed_ups` on given axes."""
    batches = sorted({batch for _, batch, _ in rows})
    names = list(dict.fromkeys(name for name, _, _ in rows))
    for number, batch in enumerate(batches):
        shown = [(names.index(name), one) for name, size, one in rows if size == batch]
        offset = 0.16 * (number - (len(batches) - 1) / 2)
        _points(axes, [(one, place + offset) for place, one in shown], number, f"batch {batch}")
    axes.axvline(1, color=INK, linewidth=1)
    _names(axes, names)
    axes.set_xlim(left=0)
    axes.set_xlabel("speed-up (times as fast as plain)")
    _legend_above(axes, len(batches))


def quality(rows: Sequence[tuple[str, Estimate]], label: str) -> str:
    """A quality measure of systems with its 95% interval."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        _points(axes, [(one, place) for place, (_, one) in enumerate(rows)], 0, None)
        _names(axes, [name for name, _ in rows])
        axes.set_xlabel(f"{label} (share of outputs, 95% interval)")

    return draw(on, height=1.1 + 0.42 * len(rows))


def trade_off(rows: Sequence[tuple[str, str, Estimate, Estimate]], label: str, batch_size: int) -> str:
    """Quality against speed: a point for each (run, system, speed-up, quality), its colour the run's, its marker the system's."""
    runs = list(dict.fromkeys(run for run, *_ in rows))
    systems = list(dict.fromkeys(system for _, system, *_ in rows))
    entries = [textwrap.fill(name, LEGEND_LINE) for name in (*runs, *systems)]  # whole: names differ at their ends

    def look(run: int | None, system: int | None) -> dict[str, Any]:
        return {
            "color": INK if run is None else COLOURS[run % 6],
            "marker": "s" if system is None else MARKERS[system % 6],
            "fillstyle": FILLS[max((run or 0) // 6, (system or 0) // 6) % len(FILLS)],
            "linestyle": "",
        }

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for run, system, speed, good in rows:
            axes.errorbar(
                speed.value, good.value, xerr=_error([speed]), yerr=_error([good]), capsize=CAP, elinewidth=1.2,
                **look(runs.index(run), systems.index(system)),
            )  # fmt: skip
        axes.set_xlabel(f"speed-up at batch {batch_size} (times as fast as plain)")
        axes.set_ylabel(f"{label} (95% interval)")
        axes.set_xlim(left=0)
        looks = [look(n, None) for n in range(len(runs))] + [look(None, n) for n in range(len(systems))]
        keys = [axes.plot([], [], label=name, **one)[0] for name, one in zip(entries, looks, strict=True)]
        figure.legend(handles=keys, loc="outside lower left")

    return draw(on, height=2.9 + 0.2 * sum(name.count("\n") + 1 for name in entries))


def lengths(systems: Sequence[System]) -> str:
    """Passes per output of each system, one histogram below the other."""
    shown = [system for system in systems if system.passes]
    longest = max(max(system.passes) for system in shown)
    width = max(1, round(longest / 40))

    def on(figure: Any) -> None:
        panels = figure.subplots(len(shown), sharex=True, sharey=True, squeeze=False)[:, 0]
        for number, (axes, system) in enumerate(zip(panels, shown, strict=True)):
            counts = Counter((passes - 1) // width for passes in system.passes)
            starts = [1 + width * place for place in counts]
            shares = [100 * n / len(system.passes) for n in counts.values()]
            axes.bar(starts, shares, width=0.86 * width, align="edge" if width > 1 else "center",
                     color=COLOURS[number % 6])  # fmt: skip
            middle = sorted(system.passes)[len(system.passes) // 2]
            axes.set_title(f"{_short(system.name)}: median {middle}")
            axes.axvline(middle, color=INK, linewidth=1, linestyle="--")
            axes.grid(axis="x", visible=False)
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
        panels[-1].set_xlabel("target passes per output")
        figure.supylabel("share of the outputs (%)", fontsize=9.5)

    return draw(on, height=0.8 + 0.95 * len(shown))


def budgets(curve: Budgets, measured: Sequence[tuple[str, int, float]]) -> str:
    """Expected steps per output against the budget with its 95% interval, the budget of the run, and what was measured.

    Args:
        measured: name, budget, passes per output.
    """
    return draw(lambda figure: budgets_on(figure.subplots(), curve, measured))


def budgets_on(axes: Any, curve: Budgets, measured: Sequence[tuple[str, int, float]]) -> None:
    """`budgets` on given axes."""
    xs, ys = [point.budget for point in curve.points], [point.steps for point in curve.points]
    ends = [_ends(y) for y in ys]
    axes.fill_between(
        xs, [low for low, _ in ends], [high for _, high in ends], color=COLOURS[0], alpha=0.2, linewidth=0
    )
    axes.plot(xs, [y.value for y in ys], color=COLOURS[0], marker=MARKERS[0], label="expected, held-out outputs")
    if measured:
        axes.plot(
            [budget for _, budget, _ in measured], [passes for _, _, passes in measured], linestyle="",
            color=COLOURS[1], marker=MARKERS[1], markersize=8, label="measured with the models",
        )  # fmt: skip
    _chosen(axes, curve.chosen)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(BUDGET)
    axes.set_ylabel("decoding steps per output")
    axes.legend(loc="best")


def cost_by_budget(curve: Budgets) -> str:
    """Expected decoding time against the budget, relative to none; the interval is that of the steps."""
    return draw(lambda figure: cost_by_budget_on(figure.subplots(), curve))


def cost_by_budget_on(axes: Any, curve: Budgets) -> None:
    """`cost_by_budget` on given axes."""
    xs = [point.budget for point in curve.points]
    percent = [100 * point.cost for point in curve.points]
    # the time is proportional to the steps
    low, high = ([100 * p.cost * _ends(p.steps)[side] / p.steps.value for p in curve.points] for side in (0, 1))
    axes.fill_between(xs, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(xs, percent, color=COLOURS[0], marker=MARKERS[0])
    _chosen(axes, curve.chosen)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(BUDGET)
    axes.set_ylabel("expected time (% of plain)")


def quality_by_budget(rows: Sequence[tuple[int, Estimate]], label: str, chosen: int | None) -> str:
    """Measured quality against the budget with its 95% interval."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        ordered = sorted(rows, key=lambda row: row[0])
        axes.errorbar(
            [budget for budget, _ in ordered], [one.value for _, one in ordered], yerr=_error([e for _, e in ordered]),
            fmt=MARKERS[1], color=COLOURS[1], capsize=CAP,
        )  # fmt: skip
        if chosen is not None:
            _chosen(axes, chosen)
        axes.margins(x=0.12)
        axes.set_xlabel(BUDGET)
        axes.set_ylabel(f"{label} (95% interval)")

    return draw(on)


def acceptance_by_position(series: Sequence[Drafts]) -> str:
    """Share of the passes that accepted a token, by its place behind the row's last one, with 95% intervals."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for number, drafts in enumerate(series):
            shares = [one.share for one in drafts.by_position]
            places = [place + 0.12 * number for place in range(1, len(shares) + 1)]
            axes.errorbar(
                places, [100 * share.value for share in shares], yerr=_error(shares, 100),
                color=COLOURS[number % 6], marker=MARKERS[number % 6], linestyle=DASHES[number % 6], capsize=CAP,
                label=_short(drafts.system),
            )  # fmt: skip
        axes.set_ylim(0, 104)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("place in the draft (tokens)")
        axes.set_ylabel("a token accepted (% of the passes)")
        if len(series) > 1:
            axes.legend()

    return draw(on)


def acceptance_by_source(rows: Sequence[Acceptance]) -> str:
    """Share of the drafted tokens that were accepted, by their source, with 95% intervals and counts."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for place, one in enumerate(rows):
            axes.barh(
                place, 100 * one.share.value, height=0.55, color=SOURCES.get(one.name, INK), xerr=_error([one.share], 100),
                ecolor=INK, capsize=CAP,
            )  # fmt: skip
        _names(axes, [f"{one.name}\n{one.drafted:,} drafted" if one.drafted else one.name for one in rows])
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 104)
        axes.set_xlabel("accepted (% of drafted, 95% interval)")

    return draw(on, height=1.0 + 0.5 * len(rows))


def time_shares(systems: Sequence[System]) -> str:
    """Milliseconds per output: prefill, drafting, and the passes that verify or write."""
    shown = [(system.name, system.time) for system in systems if system.time is not None]

    def on(figure: Any) -> None:
        axes = figure.subplots()
        left = [0.0] * len(shown)
        parts = ("prefill (the prompt's pass)", "drafting", "further passes (verification)")
        for number, (part, key) in enumerate(zip(parts, ("prefill_ms", "drafting_ms", "other_passes_ms"), strict=True)):
            values = [getattr(time, key) for _, time in shown]
            axes.barh(
                range(len(shown)), values, left=left, height=0.55, color=COLOURS[number], label=part,
                hatch=HATCHES[number], edgecolor="white", linewidth=0,
            )  # fmt: skip
            left = [a + b for a, b in zip(left, values, strict=True)]
        _names(axes, [name for name, _ in shown])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"time per output (ms) at batch {shown[0][1].batch_size}")
        _legend_above(axes, 1)

    return draw(on, height=1.75 + 0.42 * len(shown))


def training(runs: Sequence[Training], *, evaluations: bool) -> str:
    """Loss of each step (a running mean over the steps as measured), or of the evaluations, against the step."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for number, run in enumerate(runs):
            points = run.evaluations if evaluations else run.loss
            steps, values = [step for step, _ in points], [value for _, value in points]
            look = {"color": COLOURS[number % 6], "label": _short(run.name)}
            if evaluations:
                axes.plot(steps, values, marker=MARKERS[number % 6], linestyle=DASHES[number % 6], **look)
            else:
                axes.plot(steps, values, color=COLOURS[number % 6], alpha=0.3, linewidth=0.8)
                axes.plot(steps, _smooth(values), linestyle=DASHES[number % 6], **look)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("validation loss (nats per byte)" if evaluations else "training loss (nats per token)")
        if len(runs) > 1:
            axes.legend()

    return draw(on)


def tried(rows: Sequence[Tried]) -> str:
    """Candidates of `tasc tune`: milliseconds per output against the longest draft."""
    return draw(lambda figure: tried_on(figure.subplots(), rows))


def tried_on(axes: Any, rows: Sequence[Tried]) -> None:
    """`tried` on given axes; names are given to the first six of many candidates."""
    for number, name in enumerate(dict.fromkeys(one.name for one in rows)):
        points = sorted((one.max_draft, one.ms) for one in rows if one.name == name)
        axes.plot(
            [length for length, _ in points], [ms for _, ms in points], color=COLOURS[number % 6],
            marker=MARKERS[number % 6], linestyle=DASHES[number % 6], label=_short(name) if number < 6 else None,
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("longest draft (tokens)")
    axes.set_ylabel("time per output by the curve (ms)")
    axes.legend(loc="best")


def _points(axes: Any, points: Sequence[tuple[Estimate, float]], number: int, label: str | None) -> None:
    estimates = [one for one, _ in points]
    axes.errorbar(
        [one.value for one in estimates], [place for _, place in points], xerr=_error(estimates),
        fmt=MARKERS[number % 6], color=COLOURS[number % 6], capsize=CAP, label=label,
    )  # fmt: skip


def _ends(one: Estimate) -> tuple[float, float]:
    return (one.value if one.low is None else one.low), (one.value if one.high is None else one.high)


def _error(estimates: Sequence[Estimate], scale: float = 1.0) -> list[list[float]]:
    """Distances to the lower and upper ends, as matplotlib wants them."""
    distances = error_bars([one.value for one in estimates], [_ends(one) for one in estimates])
    return [[scale * distance for distance in side] for side in distances]


def _names(axes: Any, names: Sequence[str]) -> None:
    """Names on the vertical axis, the first on top."""
    axes.set_yticks(range(len(names)), [_short(name) if "\n" not in name else name for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _legend_above(axes: Any, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2)


def level(axes: Any, value: float, label: str) -> None:
    """A line across, with its name at the right end."""
    axes.axhline(value, color=INK, linewidth=1)
    axes.annotate(
        label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        xytext=(0, 2), textcoords="offset points",
    )  # fmt: skip


def _chosen(axes: Any, place: int, label: str = "M = {}") -> None:
    axes.axvline(place, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        label.format(f"{place:,}"), (place, 1), xycoords=("data", "axes fraction"), ha="left", va="top",
        xytext=(4, 0), textcoords="offset points",
    )  # fmt: skip


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean of each value and up to 10 before it."""
    return [sum(part) / len(part) for part in (values[max(0, k - 10) : k + 1] for k in range(len(values)))]
