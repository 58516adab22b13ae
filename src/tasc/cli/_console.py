"""What every command shares: where output goes, progress with rates, one JSON document.

Progress and notes go to stderr through `console`; the result goes to stdout through `emit`, either for people or,
with `--json`, as exactly one JSON document.
"""

import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

console = Console(stderr=True, highlight=False)

LOG_EVERY_S = 10.0  # a log file gets one progress line per interval instead of a redrawn bar

Advance = Callable[[int], None]


@contextmanager
def progress(description: str, *, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
    """Shows progress with its rate on stderr: a bar on a terminal, a line every 10 s and at the end elsewhere.

    Args:
        description: What is being done, e.g. `"encoding train.jsonl"`.
        total: Number of units to come, or None where it is not known.
        unit: Plural name of a unit.

    Yields:
        A function to call with the number of units done since its last call.
    """
    if not console.is_terminal:
        with _log_lines(description, total, unit) as advance:
            yield advance
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(description, total=total)
        yield lambda n: bars.advance(task, n)


def emit(
    report: Mapping[str, Any],
    *,
    as_json: bool,
    human: RenderableType | Callable[[], RenderableType] | None = None,
) -> None:
    """Prints a command's result on stdout.

    Args:
        report: The result as JSON-ready values; numpy scalars, arrays and paths are converted, NaN and infinities
            become null.
        as_json: Print one JSON document and nothing else.
        human: What people see instead (or a function that makes it); without it, the report as a two-column table.
    """
    if as_json:
        escaped = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
        sys.stdout.write(json.dumps(jsonable(report), indent=2, ensure_ascii=escaped, allow_nan=False) + "\n")
        sys.stdout.flush()
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale may lack what a text or path holds
    shown = human() if callable(human) else human
    Console(highlight=False).print(_table(report) if shown is None else shown)


def write_plot(path: Path, svg: str) -> None:
    """Writes a command's figure and says where."""
    from tasc.files import atomic_write

    with atomic_write(path) as file:
        file.write(svg)
    console.print(f"figure: {path}", markup=False, soft_wrap=True)


def jsonable(value: Any) -> Any:
    """Returns `value` in the types that JSON has: dict, list, str, bool, int, float, None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


class _Rate(ProgressColumn):
    """Column `12,000/45,000 rows  3,100 rows/s`."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        return Text(_counts(int(task.completed), total, self._unit, task.finished_time or task.elapsed))


def _counts(done: int, total: int | None, unit: str, seconds: float | None) -> str:
    of_total = f"{done:,}" if total is None else f"{done:,}/{total:,}"
    rate = f"  {done / seconds:,.{0 if done >= 10 * seconds else 1}f} {unit}/s" if done and seconds else ""
    return f"{of_total} {unit}{rate}"


@contextmanager
def _log_lines(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    begin = last = time.monotonic()
    done = 0

    def write() -> None:
        line = f"{description}: {_counts(done, total, unit, time.monotonic() - begin)}"
        console.print(line, markup=False, soft_wrap=True)

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            write()

    yield advance
    write()


def _table(report: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _flat(report):
        table.add_row(name, value)
    return table


def _flat(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in report.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", f"{value:,.4g}" if isinstance(value, float | np.floating) else str(value)
