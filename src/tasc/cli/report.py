"""`tasc report`: runs as one HTML page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import refuse_own_input


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of `tasc demo` and `tasc train`; logs and outputs of `generate`, or a folder of them; JSON of "
            "`eval`, `enrich`, `generate --compare`, `tune`."
        ),
    ],
    out: Annotated[
        Path, typer.Option(*options.OUT, callback=options.file_to_write, help="The HTML file to write.")
    ] = Path("report.html"),
    drafter: Annotated[
        list[Path] | None,
        typer.Option(help="Drafter file of a log's run, for its drafts pass by pass; can be repeated [those in RUN]."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer of logs and outputs: folder or Hub name [the one the drafter was built with]."),
    ] = None,
    vocab: Annotated[
        str | None,
        typer.Option(help="Folder of n-grams to cut outputs into [those the drafter was built with]."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page; default: the names of the runs.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the page shows as one JSON document.")] = False,
) -> None:
    """Write runs as one HTML page that loads nothing: quality, speed, drafts pass by pass, and what to do next.

    Several runs are shown side by side. The page works without a network, on a phone, in print and in the dark; text of data
    and models is escaped.
    """
    from tasc.report import write_report

    refuse_own_input(out, *runs, *(drafter or ()))
    report = write_report(
        runs, out, title=title, drafters=drafter or (), tokenizer=tokenizer, vocabulary=vocab, progress=progress
    )
    found: dict[str, Any] = {"written": out, "bytes": out.stat().st_size, **report.to_json()}
    emit(found, as_json=as_json, human=lambda: _shown(out, [run.name for run in report.runs]))


def _shown(out: Path, names: list[str]) -> Any:
    from rich.text import Text

    return Text(f"{out}: {', '.join(names)}", overflow="fold")
