"""Loading DATA and its held-out rows for a command, with the warnings that belong to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from tasc.cli._console import console

if TYPE_CHECKING:
    from tasc.corpus import Tasks


def load_pair(
    data: str,
    eval_data: str | None,
    *,
    split: str | None = None,
    eval_split: str | None = None,
    limit: int | None = None,
    **columns: Any,
) -> "tuple[Tasks, Tasks | None]":
    """DATA and, if given, EVAL; says how many bad rows were skipped and how many rows both share."""
    from tasc.corpus import load_held_out, load_tasks, shared_rows

    tasks = load_tasks(data, split=split, limit=limit, **columns)
    report_skipped(tasks)
    if eval_data is None:
        return tasks, None
    held_out = load_held_out(eval_data, split=eval_split, **columns)
    report_skipped(held_out)
    shared = shared_rows(tasks, held_out)
    if shared:
        warn(f"{shared:,} distinct rows of {eval_data} also stand in {data}; held-out figures are too good by that")
    return tasks, held_out


# what a folder of a model or tokenizer consists of; other files in it may be what an earlier command wrote
_OF_A_MODEL = (
    "*.safetensors", "*.bin", "*.index.json", "*config.json", "*.jinja", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "enriched.json", "run.json", "metrics.jsonl", "base_tokenizer/*",
)  # fmt: skip


def refuse_own_input(out: Path | None, *inputs: str | Path | None, split: str | None = None) -> None:
    """Refuse an output file that is read as well: what was in it would be gone.

    Inputs may be folders: of splits, or of a model.
    """
    from tasc.corpus.data import files_read

    given = [str(one) for one in inputs if one is not None]
    files = [file for one in given for file in files_read(one, split)]
    files += [file for one in given for pattern in _OF_A_MODEL for file in Path(one).expanduser().glob(pattern)]
    if out is not None and out.exists() and any(file.exists() and out.samefile(file) for file in files):
        raise typer.BadParameter(f"{out} is read, and would be replaced by what is written; choose another file")


def refuse_one_file(**outputs: Path | None) -> None:
    """Refuse two outputs, by the names of their options, that are one file: the second would replace the first."""
    named: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is not None and (other := named.setdefault(path.resolve(), name)) != name:
            raise typer.BadParameter(f"--{other} and --{name} both write {path}; give each a file of its own")


def report_skipped(tasks: "Tasks") -> None:
    """Say how many bad rows were left out, and the reason of the first."""
    if tasks.n_skipped:
        warn(f"{tasks.source}: {tasks.n_skipped:,} bad rows skipped, the first: {tasks.skipped[0]}")


def warn(message: str) -> None:
    """One line on stderr."""
    console.print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)
