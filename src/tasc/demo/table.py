"""The demo's table: one column for each system, the first one is the reference."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

# key in `quality`, label
QUALITY_ROWS = (("intent_accuracy", "intent accuracy"), ("slot_f1", "slot F1"), ("joint_accuracy", "joint accuracy"))
QUICK_WARNING = (
    "Quick run: too few training steps and too few test rows. It shows that every stage works; "
    "neither quality nor speed-up says anything about the method. Run 'tasc demo' for that."
)
NOT_COMPARABLE = "No speed-up is given for a system when it or the reference writes too many malformed outputs."


def render(report: Mapping[str, Any]) -> Group:
    """Show the results of a demo run.

    Args:
        report: what `DemoReport.to_json` gives, or `results.json` holds.
    """
    parts: list[Table | Text] = [comparison(report["systems"], n_rows=report["scale"]["test_rows"])]
    parts += [Text(line) for line in _remarks(report)]
    if report["quick"]:
        parts.append(Text(QUICK_WARNING, style="bold yellow"))
    return Group(*parts)


def comparison(systems: Sequence[Mapping[str, Any]], *, n_rows: int) -> Table:
    """The table itself: quality with 95% intervals, tokens, passes, times, speed-ups."""
    table = Table(title=f"{n_rows:,} held-out requests, greedy decoding", title_justify="left")
    table.add_column("")
    for system in systems:
        table.add_column(system["system"], justify="right")
    for key, label in QUALITY_ROWS:
        table.add_row(label, *(_with_interval(system["quality"][key], system["intervals"][key]) for system in systems))
    table.add_section()
    table.add_row("base tokens per output", *(f"{system['tokens_per_output']:.1f}" for system in systems))
    table.add_row("model passes per output", *(f"{system['passes_per_output']:.1f}" for system in systems))
    for index, speed in enumerate(systems[0]["speed"]):
        table.add_section()
        batch = f"batch {speed['batch_size']}"
        table.add_row(f"ms per output, {batch}", *(_time(system["speed"][index]) for system in systems))
        table.add_row(f"speed-up, {batch}", "1", *(_speed_up(system, index) for system in systems[1:]))
    return table


def _remarks(report: Mapping[str, Any]) -> list[str]:
    reference, *others = report["systems"]
    lines = []
    for system in others:
        gap = system["headline_difference"]
        lines.append(
            f"Joint accuracy, {system['system']} less {reference['system']}: {gap['value']:+.3f} "
            f"(95% interval {gap['low']:+.3f} to {gap['high']:+.3f}, paired bootstrap)."
        )
    if not all(system["comparable"] for system in others):
        lines.append(NOT_COMPARABLE)
    lines.append(
        "Times are medians of rounds in which the systems take turns; brackets give the lowest and the highest."
    )
    return lines


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _time(speed: Mapping[str, Any]) -> str:
    rounds = speed["ms_per_output_rounds"]
    return f"{speed['ms_per_output']:.1f} [{min(rounds):.1f}, {max(rounds):.1f}]"


def _speed_up(system: Mapping[str, Any], index: int) -> str:
    speed = system["speed"][index]
    low, high = speed["speed_up_range"]
    return f"{speed['speed_up']:.2f}x [{low:.2f}, {high:.2f}]" if system["comparable"] else "-"
