"""Parts of the study's page: tables, figures and measured values as Markdown."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def figure(drawn: dict[str, str], name: str, svg: str, alternative: str) -> list[str]:
    """Keeps the SVG in `drawn` under its name; returns the lines that show it."""
    drawn[name] = svg
    return [f"![{alternative}](reproduction/{name}.svg)", ""]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def signed(difference: Row) -> str:
    return f"{difference['value']:+.3f} (95% {difference['low']:+.3f} to {difference['high']:+.3f})"


def with_interval(run: Row, score: str) -> str:
    low, high = run["intervals"][score]
    return f"{run['quality'][score]:.3f} ({low:.3f}-{high:.3f})"
