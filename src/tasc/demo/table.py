"""The demo's tables: quality of each model, speed of each way to decode; the first one is the reference."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasc.report import verdict
from tasc.report.shared import METRICS

NOT_COMPARABLE = "No speed-up is given for a system when it or the reference writes too many malformed outputs."


def render(report: Mapping[str, Any]) -> Group:
    """Show the results of a demo run.

    Args:
        report: what `DemoReport.to_json` gives, or `results.json` holds.
    """
    systems = report["systems"]
    parts: list[Table | Text] = [quality(systems, n_rows=report["scale"]["test_rows"]), speed(systems)]
    parts += [Text(line) for line in _remarks(report)]
    if report["quick"]:
        parts.append(Text(verdict.QUICK, style="bold yellow"))
    return Group(*parts)


def quality(systems: Sequence[Mapping[str, Any]], *, n_rows: int) -> Table:
    """Quality with 95% intervals and tokens; a row for each model, since drafts change no output."""
    table = Table(title=f"{n_rows:,} held-out requests, greedy decoding", title_justify="left")
    table.add_column("")
    for label in (*METRICS.values(), "base tokens per output"):
        table.add_column(label, justify="right")
    for system in _models(systems):
        values = (_with_interval(system["quality"][key], system["intervals"][key]) for key in METRICS)
        table.add_row(system["system"], *values, f"{system['tokens_per_output']:.1f}")
    return table


def speed(systems: Sequence[Mapping[str, Any]]) -> Table:
    """Passes, times and speed-ups; a row for each system."""
    table = Table()
    table.add_column("", min_width=8)  # 80 columns hold the longest word of each
    table.add_column("passes per output", justify="right", min_width=6)
    for timed in systems[0]["speed"]:
        table.add_column(f"ms per output, batch {timed['batch_size']}", justify="right", min_width=7)
        table.add_column("speed-up", justify="right", no_wrap=True)
    for system in systems:
        cells = [f"{system['passes_per_output']:.1f}"]
        for index, timed in enumerate(system["speed"]):
            cells += [f"{timed['ms_per_output']:.1f}", "1" if system is systems[0] else _speed_up(system, index)]
        table.add_row(system["system"], *cells)
    return table


def _models(systems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The systems without drafts."""
    return [system for system in systems if system["outputs_changed_by_drafts"] is None]


def _remarks(report: Mapping[str, Any]) -> list[str]:
    reference, *others = _models(report["systems"])
    lines = []
    for system in others:
        gap = system["headline_difference"]
        lines.append(
            f"Joint accuracy, {system['system']} less {reference['system']}: {gap['value']:+.3f} "
            f"(95% interval {gap['low']:+.3f} to {gap['high']:+.3f}, paired bootstrap)."
        )
    for system in report["systems"]:
        if changed := system["outputs_changed_by_drafts"]:
            lines.append(f"{system['system']}: {changed} outputs differ from those without drafts.")
    if not any(system["outputs_changed_by_drafts"] for system in report["systems"]):
        lines.append("Drafts changed no output.")
    if not all(system["comparable"] for system in report["systems"]):
        lines.append(NOT_COMPARABLE)
    lines.append(
        "Times are medians of rounds in which the systems take turns; brackets give the lowest and the highest speed-up."
    )
    return lines


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _speed_up(system: Mapping[str, Any], index: int) -> str:
    speed = system["speed"][index]
    low, high = speed["speed_up_range"]
    return f"{speed['speed_up']:.2f}x [{low:.1f}-{high:.1f}]" if system["comparable"] else "-"
