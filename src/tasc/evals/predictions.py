"""The JSONL file of outputs: one object a row with what was asked, written, expected, and what it took."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasc.errors import DataError
from tasc.files import atomic_write


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row.

    Attributes:
        prompt: what was asked.
        completion: what the model wrote.
        reference: what it should have written.
        tokens: length of the completion in base tokens, end token not counted; None where it is not known.
        passes: forward passes of the target model.
        ms: the row's share of the time, in milliseconds.
    """

    prompt: str
    completion: str
    reference: str
    tokens: int | None = None
    passes: int | None = None
    ms: float | None = None


def write_predictions(path: str | Path, rows: Iterable[Prediction]) -> None:
    """Write rows as JSONL, atomically."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read what `write_predictions` or `tasc generate` wrote; other fields of a row are ignored.

    Raises:
        DataError: naming file, line and reason.
    """
    source = Path(path)
    rows = []
    with source.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    rows.append(_row(line, f"{source} line {number}"))
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: not UTF-8 text ({error.reason}); make it again with 'tasc generate'") from error
    if not rows:
        raise DataError(f"{source}: empty, no rows; make it with 'tasc generate'")
    return rows


def speed_of(rows: Sequence[Prediction]) -> dict[str, Any]:
    """Means per output of what the rows know; None for what they do not.

    Examples:
        >>> speed = speed_of([Prediction("p", "four", "four", 2, 3, 8.0), Prediction("q", "", "x", 0, 1, 4.0)])
        >>> speed["passes_per_output"], speed["ms_per_output"], speed["ms_per_byte"]
        (2.0, 6.0, 3.0)
    """
    n_bytes = sum(len(row.completion.encode()) for row in rows)
    ms = _mean([row.ms for row in rows])
    return {
        "tokens_per_output": _mean([row.tokens for row in rows]),
        "passes_per_output": _mean([row.passes for row in rows]),
        "ms_per_output": ms,
        "ms_per_byte": None if ms is None or not n_bytes else ms * len(rows) / n_bytes,
        "bytes_per_output": n_bytes / len(rows),
    }


def _row(line: str, place: str) -> Prediction:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: broken JSON ({error.msg}); make the file again with 'tasc generate'") from error
    for name in ("prompt", "completion", "reference"):
        if not isinstance(value, dict) or not isinstance(value.get(name), str):
            raise DataError(f"{place}: no text in {name!r}; a row needs prompt, completion and reference")
        try:
            value[name].encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{place}: {name!r} is no valid Unicode text; make the file again with 'tasc generate'"
            ) from None
    numbers = {name: value.get(name) for name in ("tokens", "passes", "ms")}
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise DataError(f"{place}: {name!r} is {number!r}, expected a number")
    return Prediction(value["prompt"], value["completion"], value["reference"], **numbers)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
