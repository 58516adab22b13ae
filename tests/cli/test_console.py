"""Results on stdout, progress on stderr."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from tasc.cli import _console
from tasc.cli._console import emit, jsonable, progress


def test_json_is_one_strict_document_on_stdout(capsys):
    report = {
        "rows": np.int64(3),
        "ratio": np.float32(0.5),
        "never": float("nan"),
        "counts": np.arange(2),
        "out": Path("a") / "b",
        "nested": {1: (True, None, "é")},
    }
    emit(report, as_json=True, human="not shown")
    out, err = capsys.readouterr()
    wanted = {
        "rows": 3,
        "ratio": 0.5,
        "never": None,
        "counts": [0, 1],
        "out": "a/b",
        "nested": {"1": [True, None, "é"]},
    }
    assert json.loads(out, parse_constant=pytest.fail) == wanted
    assert err == ""


def test_a_bool_stays_a_bool():
    assert jsonable({"a": np.bool_(True), "b": False}) == {"a": True, "b": False}
    assert jsonable(np.bool_(True)) is True


@pytest.mark.parametrize("human", [Text("for people"), lambda: Text("for people")])
def test_people_see_their_own_rendering(capsys, human):
    emit({"rows": 3}, as_json=False, human=human)
    assert capsys.readouterr().out == "for people\n"


def test_without_a_rendering_the_report_is_a_table(capsys):
    emit({"rows": 3, "eval": {"ratio": 4.6234}}, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["rows", "3"], ["eval.ratio", "4.623"]]


def run_progress(monkeypatch, *, terminal: bool) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(_console, "console", Console(file=stream, force_terminal=terminal, width=120))
    monkeypatch.setattr(_console, "LOG_EVERY_S", 0.0)
    with progress("reading", total=30, unit="rows") as advance:
        advance(10)
        advance(20)
    return stream.getvalue()


def test_a_log_gets_lines_with_counts_and_rates(monkeypatch):
    lines = run_progress(monkeypatch, terminal=False).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["reading: 10/30 rows", *["reading: 30/30 rows"] * 2]
    assert all(line.endswith(" rows/s") for line in lines)


def test_a_terminal_gets_a_bar_with_the_rate(monkeypatch):
    shown = run_progress(monkeypatch, terminal=True)
    assert "30/30 rows" in shown
    assert "rows/s" in shown


def test_progress_without_a_total_counts(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(_console, "console", Console(file=stream, width=120))
    with progress("reading", unit="lines") as advance:
        advance(7)
    assert stream.getvalue().startswith("reading: 7 lines  ")


def test_an_error_inside_passes_through_progress(monkeypatch):
    monkeypatch.setattr(_console, "console", Console(file=io.StringIO()))
    with pytest.raises(ValueError, match="inside"), progress("reading"):
        raise ValueError("inside")
