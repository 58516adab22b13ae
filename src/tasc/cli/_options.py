"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer


def _svg(path: Path | None) -> Path | None:
    """Refuses another ending before the work begins, not after it."""
    if path is not None and path.suffix.lower() != ".svg":
        raise typer.BadParameter(f"figures are SVG files: give a name that ends in .svg, not {path.name}")
    return path


def file_to_write(path: Path | None) -> Path | None:
    """Refuse a file that cannot be made there before the work begins."""
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder; pass the file to write, in it or elsewhere")
        _refuse_file_as_folder(path.parent)
    return path


def folder_to_write(path: Path | None) -> Path | None:
    """The same of a folder."""
    if path is not None:
        _refuse_file_as_folder(path)
    return path


def _refuse_file_as_folder(path: Path) -> None:
    if taken := next((one for one in (path, *path.parents) if one.exists() and not one.is_dir()), None):
        raise typer.BadParameter(f"{taken} is a file; pass a folder, or another name")


OUT = ("-o", "--out", "--output")  # of every verb that writes

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Checkpoint folder (what `tasc train` wrote) or Hub name.")
]
DataOption = Annotated[str, typer.Option("--data", "-d", help="Task rows: JSONL, CSV, Parquet, folder or Hub name.")]
SplitOption = Annotated[str | None, typer.Option(help="Split of a folder or Hub name.")]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Rows in one forward pass.")]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Most ids per output; an n-gram counts as one. Default: 1.5 x the longest reference, or 256."
    ),
]
DrafterOption = Annotated[
    Path | None, typer.Option(help="Drafter file from `tasc draft build`, for the model's tokenizer.")
]
TemplateOption = Annotated[str, typer.Option(help="auto, chat, plain or the path of a .jinja file; as in training.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")]
DeviceOption = Annotated[str, typer.Option(help="auto (CUDA, then MPS, then CPU), or a torch device.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16; auto is float32 on a CPU.")]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Measure so many times; times are medians.")]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave unusable rows out and count them.")]
PromptColumnOption = Annotated[str, typer.Option(help="Column of the prompt.")]
CompletionColumnOption = Annotated[str, typer.Option(help="Column of the reference completion.")]
MessagesColumnOption = Annotated[str, typer.Option(help="Column of the chats.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
PlotOption = Annotated[Path | None, typer.Option(callback=_svg, help="Also draw a figure into this SVG file.")]
