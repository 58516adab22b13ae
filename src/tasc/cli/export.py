"""`tasc export`: a drafter in the files of other engines."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import warn

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Write a drafter in the files of llama.cpp or SGLang, and beside them what they were made from.",
)

FileArgument = Annotated[Path, typer.Argument(help="Drafter file from `tasc draft build`.")]


@app.command("llama-cpp-lookup")
def llama_cpp_lookup(
    file: FileArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")],
    enriched: Annotated[
        bool, typer.Option("--enriched", help="The GGUF is of the enriched model that the drafter was built for.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write lookup caches for llama.cpp: lookup-static.bin (`-lcs`), lookup-dynamic.bin (`-lcd`) and lookup.json.

    The GGUF must list its tokens in the order of the tokenizer, as llama.cpp's own converter writes them. N-grams that
    llama.cpp would never draft from are left out.
    """
    from tasc.draft import Drafter
    from tasc.export import export_lookup_caches

    about = export_lookup_caches(Drafter.load(file), out, source=file, enriched=enriched, progress=progress)
    _show(about, out, _lookup_rows(about["counts"]), as_json=as_json)


@app.command("sglang-corpus")
def sglang_corpus(
    file: FileArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="JSONL file to write.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of the tokenizer [the one the drafter was built with].")
    ] = None,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Write each output as often as it occurs: SGLang then knows the counts.")
    ] = False,
    draft_tokens: Annotated[int, typer.Option(min=2, help="Drafted tokens per pass, for the flags.")] = 12,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Of them, for drafts from this file. Default: two thirds.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write the outputs as external corpus for SGLang's NGRAM speculation: JSON strings, one a line, and OUT.about.json.

    Equal outputs stand once, the most frequent last.
    """
    from tasc.draft import Drafter
    from tasc.export import export_corpus

    about = export_corpus(
        Drafter.load(file),
        out,
        tokenizer=tokenizer,
        source=file,
        repeats=repeats,
        draft_tokens=draft_tokens,
        budget=budget,
        progress=progress,
    )
    counts = about["counts"]
    if counts["changed"]:
        warn(
            f"{counts['changed']:,} of {counts['lines']:,} lines are read back as other ids, so SGLang drafts less from them"
        )
    _show(about, out.parent, _corpus_rows(counts), as_json=as_json)


def _lookup_rows(counts: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"{name}, {found['n']}-grams",
            f"{found['written']:,} of {found['ngrams']:,}, {found['followers']:,} followers",
        )
        for name in ("static", "dynamic")
        for found in counts[name]
    ]


def _corpus_rows(counts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("outputs", f"{counts['outputs']:,}, {counts['distinct']:,} distinct"),
        ("lines", f"{counts['lines']:,}"),
        ("tokens", f"{counts['tokens']:,}"),
    ]
    return rows + [("left out", f"{counts['left_out']:,}")] * bool(counts["left_out"])


def _show(about: dict[str, Any], folder: Path, rows: list[tuple[str, str]], *, as_json: bool) -> None:
    emit(about, as_json=as_json, human=lambda: _table(about, folder, rows))
    if not as_json:
        typer.echo(f"\nflags: {shlex.join(about['flags'])}")  # one line, however long: to be copied


def _table(about: dict[str, Any], folder: Path, rows: list[tuple[str, str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    for entry in about["files"].values():
        table.add_row("file", Text(f"{folder / entry['file']}, {entry['bytes']:,} bytes"))
    table.add_row("fingerprint", about["tokenizer"]["fingerprint"] or "(fits any)")
    return table
