"""`tasc demo`: the whole method on a built-in task, in minutes and without any data of your own."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import console, emit, progress
from tasc.errors import OptionError

if TYPE_CHECKING:
    from tasc.demo import DemoReport


def command(
    output: Annotated[
        Path | None, typer.Option(*options.OUT, help="Run folder; default: a new one, runs/demo-TIME.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every stage in under a minute; its quality and speed-up mean nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the requests and of training.")] = 0,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Only write the data and the base model, to try the other commands on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Run the whole method on a small built-in task: analyse, enrich, fine-tune, draft, evaluate, compare.

    The task is synthetic: home-assistant requests drawn from a grammar, answered with intent and slots. A base model of
    about one million parameters, which is part of the package, is fine-tuned twice with the same steps: as it is, and
    with the task's n-grams as tokens. Each is then decoded one token a pass and with drafts from the training outputs.
    Needs no network and no GPU; 3 to 8 minutes on two CPU cores. `report.html` in the run folder shows what came out.

    With `--data-only`, OUTPUT gets `train.jsonl`, `validation.jsonl`, `test.jsonl` and `base/`, the base model.
    """
    folder = output or Path("runs") / f"demo-{'data-' if data_only else ''}{datetime.now():%Y%m%d-%H%M%S}"
    if data_only:
        report = _write_data(folder, seed=seed)
        emit(report, as_json=as_json, human=lambda: _next_steps(report))
        return
    found = _run(folder, quick=quick, seed=seed).to_json()
    emit(found, as_json=as_json, human=lambda: _shown(found))
    console.print(f"report: {folder / 'report.html'}", markup=False, soft_wrap=True)


def _write_data(folder: Path, *, seed: int) -> dict[str, Any]:
    from tasc.demo import copy_base, make_splits, write_splits

    splits = make_splits(seed)
    for name in (*(f"{split}.jsonl" for split in splits), "base"):
        if (folder / name).exists():
            raise OptionError(f"{folder / name} exists; choose another folder with --output")
    paths = write_splits(splits, folder)
    return {
        "seed": seed,
        "rows": {name: len(tasks) for name, tasks in splits.items()},
        "files": [str(path) for path in paths],
        "base_model": str(copy_base(folder / "base")),
    }


def _next_steps(report: dict[str, Any]) -> str:
    rows = ", ".join(f"{n:,} {name} rows" for name, n in report["rows"].items())
    return "\n".join(
        (
            f"Written: {rows}, and base/, the base model. Now try, for example:",
            f"  cd {Path(report['base_model']).parent}",
            "  tasc analyze train.jsonl --tokenizer base",
            "  tasc enrich train.jsonl --eval validation.jsonl --tokenizer base -o vocab",
        )
    )


def _run(folder: Path, *, quick: bool, seed: int) -> "DemoReport":
    from transformers.utils import logging

    from tasc.demo import run_demo

    logging.disable_progress_bar()  # ours says the same, with a rate
    console.print(f"run folder: {folder}", markup=False, soft_wrap=True)
    return run_demo(out=folder, quick=quick, seed=seed, progress=progress, note=_note)


def _note(line: str) -> None:
    console.print(line, markup=False, style="dim")


def _shown(found: dict[str, Any]) -> Any:
    from tasc.demo.table import render

    return render(found)
