"""`tasc export`: a drafter, or an enriched model, in the files of other engines."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import refuse_own_input, warn

if TYPE_CHECKING:
    from rich.table import Table

    from tasc.corpus import Tasks
    from tasc.export.gguf import Check

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Write a drafter or a model in the files of llama.cpp or SGLang, and beside them what they were made from.",
)

FileArgument = Annotated[Path, typer.Argument(help="Drafter file from `tasc draft build`.")]


@app.command("llama-cpp-lookup")
def llama_cpp_lookup(
    file: FileArgument,
    out: Annotated[Path, typer.Option(*options.OUT, callback=options.folder_to_write, help="Folder to write to.")],
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
    out: Annotated[Path, typer.Option(*options.OUT, callback=options.file_to_write, help="JSONL file to write.")],
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

    refuse_own_input(out, file)
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


@app.command("gguf")
def gguf(
    run: Annotated[Path, typer.Argument(help="Checkpoint folder, such as `tasc train` wrote.")],
    out: Annotated[Path, typer.Option(*options.OUT, help="GGUF to write.")],
    llama_cpp: Annotated[
        Path | None,
        typer.Option(
            help="Folder of llama.cpp, or of the unpacked source package of llama-cpp-python, for its converter.",
            envvar="LLAMA_CPP",
        ),
    ] = None,
    outtype: Annotated[
        str, typer.Option(help="Type of the weights: auto (16 bits, as the checkpoint's), f32, f16, bf16 or q8_0.")
    ] = "auto",
    pre: Annotated[
        str | None,
        typer.Option(
            help="llama.cpp's name for how the tokenizer splits text, if llama.cpp does not know the tokenizer."
        ),
    ] = None,
    check: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Compare llama.cpp with transformers: ids of all prompts in --data, greedy outputs of the first N.",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Task rows for --check.")] = None,
    split: options.SplitOption = None,
    template: options.TemplateOption = "auto",
    max_new_tokens: options.MaxNewTokensOption = None,
    limit: options.LimitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    trust_remote_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Convert a model to a GGUF with llama.cpp's own converter, n-grams included, and write OUT.about.json.

    What was written is read back and must hold the checkpoint's tokens, merges and special tokens. Tokenizers with which
    llama.cpp would read n-grams into prompts are refused. `--check` needs llama-cpp-python.
    """
    from tasc.export import export_gguf

    if (check is None) != (data is None):
        raise typer.BadParameter("--check and --data belong together: how many outputs to compare, and of which rows")
    refuse_own_input(out, run, data, template, split=split)
    compared = None
    if check is not None and data is not None:
        from tasc.corpus import load_tasks

        tasks = load_tasks(
            data,
            split=split,
            limit=limit,
            prompt_column=prompt_column,
            completion_column=completion_column,
            messages_column=messages_column,
        )
        compared = partial(_reference, run, tasks, check, template, max_new_tokens, trust_remote_code)
    about = export_gguf(
        run,
        out,
        llama_cpp=llama_cpp,
        outtype=outtype,
        pre=pre,
        check=compared,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    _warn_of(about["counts"])
    _show(about, out.parent, _gguf_rows(about["counts"]), as_json=as_json)


def _warn_of(counts: dict[str, Any]) -> None:
    if counts["long_ngrams"]:
        warn(
            f"{counts['long_ngrams']:,} of {counts['ngrams']:,} n-grams have more than 32 bytes, which the texts of "
            "llama-cpp-python leave out unless it gets the Hugging Face tokenizer (docs/export.md); llama.cpp's programs do not"
        )
    if differing := counts.get("check", {}).get("outputs", {}).get("differing"):
        warn(
            f"{len(differing):,} outputs differ from those of transformers; convert with --outtype f32 to compare exactly"
        )


def _reference(
    run: Path, tasks: "Tasks", n: int, template: str, max_new_tokens: int | None, trust_remote_code: bool
) -> "Check":
    """The prompts of all rows, and what transformers writes for the first n, in float32."""
    from tasc.corpus import make_template
    from tasc.decode import generate, load_model
    from tasc.decode.tasks import default_max_new_tokens, end_ids
    from tasc.export.gguf import Check

    loaded = load_model(run, device="cpu", dtype="float32", trust_remote_code=trust_remote_code)
    chosen = make_template(loaded.tokenizer, template)
    ids, ends = chosen.encode_prompts(tasks.rows), end_ids(loaded.model, chosen)
    limit = default_max_new_tokens(chosen, tasks.rows[:n]) if max_new_tokens is None else max_new_tokens
    with progress("decoding with transformers", total=min(n, len(ids)), unit="prompts") as advance:
        done = generate(
            loaded.model, ids[:n], eos_id=ends, max_new_tokens=limit, vocabulary=loaded.vocabulary, progress=advance
        )
    texts = [chosen.render_prompt(row) for row in tasks.rows]
    return Check(texts, ids, bool(chosen.prefix), done.outputs, ends, limit)


def _gguf_rows(counts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("architecture", f"{counts['architecture']}, pre-tokenizer {counts['pre']}"),
        ("rows", f"{counts['rows']:,}, of them {counts['ngrams']:,} n-grams"),
        ("merges", f"{counts['merges']:,}, as the base tokenizer's"),
    ]
    if found := counts.get("check"):
        outputs = found["outputs"]
        rows += [
            ("prompts", f"{found['prompts']:,} encoded by llama.cpp as by transformers"),
            (
                "outputs",
                f"{outputs['same']} of {outputs['prompts']} the same as with transformers, {outputs['tokens']:,} tokens",
            ),
        ]
    return rows


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
