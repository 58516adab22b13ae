"""The page: a report in, one HTML document out. It loads nothing, and all text of data and models is escaped.

Only the templates beside this file and the figures of `charts.py` are markup; the script is the one that the page's own
security policy names by its hash.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tasc.files import atomic_write
from tasc.progress import Progress, silent
from tasc.report import figures, verdict
from tasc.report.data import Estimate, Report, Run, System
from tasc.report.figures import Shown
from tasc.report.runs import read_report

TEMPLATES = Path(__file__).parent / "templates"
SOURCES = {
    "corpus": "the training outputs, followed by suffix",
    "neighbour": "outputs of training rows with similar prompts",
    "prompt": "copied from the prompt",
    "output": "copied from the output so far",
    "memory": "outputs seen at run time",
}
VISIBLE = str.maketrans({" ": "\u00b7", "\n": "\u23ce", "\t": "\u21e5"})


def write_report(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    title: str = "",
    drafters: Sequence[str | os.PathLike[str]] = (),
    tokenizer: str | os.PathLike[str] | None = None,
    vocabulary: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Read runs and write their page, atomically.

    Args:
        paths: run folders, logs, outputs and documents, see `tasc.report.read_run`.
        out: the HTML file.
        title: of the page; default: made of the runs' names.
        drafters: of logs, see `tasc.report.read_run`.
        tokenizer: of logs and outputs, see `tasc.report.read_run`.
        vocabulary: of logs and outputs, see `tasc.report.read_run`.
        progress: see `tasc.progress.Progress`.

    Raises:
        DataError: a path holds nothing that a report can show; for other errors see `tasc.report.read_report`.
        OSError: a file cannot be read or written.
    """
    report = read_report(
        paths, title=title, drafters=drafters, tokenizer=tokenizer, vocabulary=vocabulary, progress=progress
    )
    with progress("drawing the report", total=len(report.runs), unit="runs") as advance:
        page = render(report)
        advance(len(report.runs))
    with atomic_write(out) as file:
        file.write(page)
    return report


def render(report: Report) -> str:
    """The HTML document."""
    script = _read("steps.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    from tasc import __version__

    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            views=[_View.of(run, f"r{number}") for number, run in enumerate(report.runs)],
            compared=figures.compared(report) if len(report.runs) > 1 else [],
            style=_read("style.css"),
            script=script,
            script_hash=digest,
            sources=SOURCES,
            version=__version__,
        )
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A run with what the template cannot work out by itself.

    Attributes:
        anchor: id of its part of the page.
        best: the system that the headline is about, `reference` what it is compared with.
        figures: by section.
    """

    run: Run
    anchor: str
    best: System | None
    reference: System | None
    best_quality: System | None
    figures: dict[str, list[Shown]]

    @classmethod
    def of(cls, run: Run, anchor: str) -> "_View":
        best = verdict.best(run.systems) if len(run.systems) > 1 else None
        return cls(
            run,
            anchor,
            best,
            run.systems[0] if run.systems else None,
            None if best is None else verdict.quality_of(best, run.systems),
            figures.of(run, anchor),
        )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": lambda text: text.translate(VISIBLE),
        "figures": _figures,
        "times": lambda one: f"{one.value:.1f}\u00d7",
        "interval": _interval,
        "fastest": verdict.fastest,
        "budget": verdict.budget,
        "sources_of": lambda walks: _sources(walks),
    }
    return environment


def _figures(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _interval(one: Estimate, digits: int = 3) -> str:
    """`0.931 to 0.959`, or nothing."""
    if one.low is None or one.high is None:
        return ""
    return f"{one.low:.{digits}f} to {one.high:.{digits}f}"


def _sources(walks: Any) -> list[str]:
    """Sources that occur in generations, in the order of the legend."""
    seen = {token.source for walk in walks for step in walk.steps for token in step.drafted}
    return [name for name in SOURCES if name in seen]


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
