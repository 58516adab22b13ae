"""`tasc draft`: build drafter files from a task's outputs, look into them, merge and extend them."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import refuse_own_input, report_skipped, warn
from tasc.errors import DataError, FingerprintError, TokenizerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Group

    from tasc.draft import Drafter
    from tasc.vocab.vocabulary import EnrichedVocabulary

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build a drafter file from a task's outputs; inspect, verify, merge and update drafter files.",
)

FileArgument = Annotated[Path, typer.Argument(help="Drafter file.")]
OutOption = Annotated[Path, typer.Option(*options.OUT, callback=options.file_to_write, help="Drafter file to write.")]


@app.command("build")
def build(
    data: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet file, folder of splits, or Hub name.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of the model's fast tokenizer.")],
    out: OutOption,
    vocab: Annotated[
        str | None, typer.Option(help="Folder of the model's n-grams [the tokenizer's, if it holds some].")
    ] = None,
    preset: Annotated[str, typer.Option(help="`best`, or `paper` for TASC-spec as published.")] = "best",
    template: Annotated[
        str, typer.Option(help="auto, chat, plain or the path of a .jinja file, as in training; or none: bare prompts.")
    ] = "auto",
    min_rows: Annotated[
        int, typer.Option(min=1, help="Leave out what occurs in fewer distinct rows, for private text.")
    ] = 1,
    n_max: Annotated[int, typer.Option("--nmax", min=1, help="Longest n-gram of the preset `paper`.")] = 4,
    p_min: Annotated[int, typer.Option(min=1, help="Least count of an n-gram of the preset `paper`.")] = 5,
    lam: Annotated[float, typer.Option(min=0, max=1, help="Weight of the corpus in the preset `paper`.")] = 0.75,
    split: options.SplitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: options.SkipBadOption = False,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Build a drafter file from a task's rows.

    The file holds the outputs, a few terms of each prompt and the first 256 tokens of those prompts whose rows teach the
    weights; with `--min-rows` above 1 only what that many rows share, and nothing of the prompts. How much to trust each
    source is learnt on a part of the rows before all of them enter the index.
    """
    from tasc.corpus import load_tasks
    from tasc.draft.build import build_drafter
    from tasc.vocab.tokenizer import base_of, holds_ngrams

    refuse_own_input(out, data, template, tokenizer, vocab, split=split)
    vocab = vocab or (tokenizer if holds_ngrams(tokenizer) else "")
    tasks = load_tasks(
        data,
        split=split,
        limit=limit,
        prompt_column=prompt_column,
        completion_column=completion_column,
        messages_column=messages_column,
        skip_bad=skip_bad,
    )
    report_skipped(tasks)
    begin = time.perf_counter()
    drafter = build_drafter(
        tasks,
        base_of(tokenizer),
        vocabulary=_ngrams(vocab),
        vocabulary_folder=vocab,
        template=template,
        preset=preset,  # type: ignore[arg-type]  # Options names the choices
        min_rows=min_rows,
        n_max=n_max,
        p_min=p_min,
        lam=lam,
        progress=progress,
    )
    _write(drafter, out, as_json=as_json, skipped_rows=tasks.n_skipped, seconds=time.perf_counter() - begin)


@app.command("info")
def info(file: FileArgument, as_json: options.JsonOption = False) -> None:
    """Show what a drafter file holds: rows, size, options, where it came from, how reliable its probabilities are."""
    from tasc.draft import Drafter

    report = _describe(Drafter.load(file), file)
    emit(report, as_json=as_json, human=lambda: _render(report))


@app.command("verify")
def verify(file: FileArgument) -> None:
    """Read all of a drafter file: checksums and the bounds of every index. Exit code 0 if it is sound, else 1."""
    from tasc.draft import Drafter

    drafter = Drafter.load(file, verify=True)
    typer.echo(f"{file}: sound, {drafter.index.n_rows:,} rows, {file.stat().st_size:,} bytes")


@app.command("merge")
def merge(
    files: Annotated[list[Path], typer.Argument(help="Drafter files of the shards, in their order.")],
    out: OutOption,
    as_json: options.JsonOption = False,
) -> None:
    """Merge drafters of shards into one: the same as building it from all rows at once.

    The shards must have been built with the same tokenizer, n-grams and options, and without `--min-rows`.
    """
    from tasc.draft import Drafter

    refuse_own_input(out, *files)
    begin = time.perf_counter()
    with progress("reading drafters", total=len(files), unit="files") as advance:
        drafters = []
        for file in files:
            drafters.append(Drafter.load(file))
            advance(1)
    merged = Drafter.merge(drafters, progress=progress)
    _write(merged, out, as_json=as_json, seconds=time.perf_counter() - begin)


@app.command("update")
def update(
    file: FileArgument,
    log: Annotated[
        Path | None, typer.Option(help="Log that `tasc generate --record` wrote: its outputs are added.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Task rows to add, instead of a log.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            *options.OUT,
            callback=options.file_to_write,
            help="Drafter file to write. Default: FILE itself, atomically.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of the tokenizer [the one the drafter was built with].")
    ] = None,
    vocab: Annotated[
        str | None, typer.Option(help="Folder of the n-grams that the drafter speaks [the one it was built with].")
    ] = None,
    split: options.SplitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: options.SkipBadOption = False,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Add rows to a drafter, from a log of requests or from a data file; its weights are learnt anew.

    Requests of a log that ran into their limit of tokens are left out, because their outputs have no end.
    """
    from tasc.corpus import load_tasks
    from tasc.draft import Drafter
    from tasc.draft.build import update_drafter
    from tasc.replay.origin import tokenizer_name

    if (data is None) == (log is None):
        raise typer.BadParameter("pass --log, a recorded run, or --data, task rows")
    refuse_own_input(out, data, log, split=split)
    drafter, begin = Drafter.load(file), time.perf_counter()
    if log is not None:
        updated, more = _add_log(drafter, file, log, tokenizer, limit)
    else:
        tasks = load_tasks(
            data or "",
            split=split,
            limit=limit,
            prompt_column=prompt_column,
            completion_column=completion_column,
            messages_column=messages_column,
            skip_bad=skip_bad,
        )
        report_skipped(tasks)
        updated = update_drafter(
            drafter,
            tasks,
            tokenizer_name(drafter, file, tokenizer),
            vocabulary=_ngrams(vocab or drafter.origin.vocabulary),
            progress=progress,
        )
        more = {"added_rows": len(tasks), "skipped_rows": tasks.n_skipped}
    _write(updated, out or file, as_json=as_json, **more, seconds=time.perf_counter() - begin)


def _add_log(
    drafter: "Drafter", file: Path, log: Path, tokenizer: str | None, limit: int | None
) -> tuple["Drafter", dict[str, int]]:
    from tasc.replay.origin import log_of

    requests = log_of(log, drafter).requests[:limit]
    done = [r for r in requests if r.output_ids[-1] == drafter.eos_id or not _at_limit(r)]
    if not done:
        raise DataError(f"{log}: no finished request among {len(requests)}; record a run with 'tasc generate --record'")
    rows = [(request.prompt_ids, request.output_ids) for request in done]
    updated = drafter.update(rows, spellings=_spellings(drafter, file, tokenizer), progress=progress)
    return updated, {"added_rows": len(done), "unfinished_rows": len(requests) - len(done)}


def _spellings(drafter: "Drafter", file: Path, tokenizer: str | None) -> "NDArray[np.int32] | None":
    """Which tokens are spelt alike; None where the tokenizer that knows is not there."""
    from tasc.corpus import spelling_classes
    from tasc.replay.origin import tokenizer_of

    if drafter.options.preset != "best" or not (tokenizer or drafter.tokenizer):
        return None
    try:
        return spelling_classes(tokenizer_of(drafter, file, tokenizer, None))
    except FingerprintError:
        raise
    except TokenizerError as error:
        if tokenizer is not None:
            raise
        warn(f"{error}; spellings of new words stay apart")
        return None


def _at_limit(request: Any) -> bool:
    return request.limit is not None and len(request.output_ids) >= request.limit


def _ngrams(folder: str | None) -> "EnrichedVocabulary | None":
    from tasc.vocab.vocabulary import EnrichedVocabulary

    return EnrichedVocabulary.load(folder) if folder else None


def _write(drafter: "Drafter", out: Path, *, as_json: bool, **more: Any) -> None:
    drafter.save(out)
    report = _describe(drafter, out) | more
    emit(report, as_json=as_json, human=lambda: _render(report))


def _describe(drafter: "Drafter", file: Path) -> dict[str, Any]:
    from dataclasses import asdict

    index, n_bytes = drafter.index, file.stat().st_size
    n_tokens = int((index.tokens < index.start_id).sum())  # end tokens included, markers of rows not
    reliability = drafter.reliability
    return {
        "file": file,
        "rows": index.n_rows,
        "tokens": n_tokens,
        "bytes": n_bytes,
        "bytes_per_token": n_bytes / n_tokens if n_tokens else None,
        "vocab_size": drafter.vocab_size,
        "eos_id": drafter.eos_id,
        "finds_similar_prompts": drafter.neighbours is not None,
        "options": asdict(drafter.options),
        "origin": asdict(drafter.origin),
        "tuned": _tuned(drafter),
        "reliability": None if reliability is None else asdict(reliability) | {"error": reliability.error},
    }


def _tuned(drafter: "Drafter") -> dict[str, Any] | None:
    from tasc.draft.cost import StepCost

    found = drafter.tuned
    if found is None:
        return None
    low, mid, high = found.speedup
    return {
        "max_draft": found.max_draft,
        "speedup": {"low": low, "mid": mid, "high": high},
        "rows": found.rows,
        "device": StepCost.from_json(found.cost).about.get("device"),
    }


def _render(report: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    chosen, origin = report["options"], report["origin"]
    table = Table(show_header=False, box=None, pad_edge=False)
    size = "" if report["bytes_per_token"] is None else f" ({report['bytes_per_token']:.1f} per token)"
    preset = chosen["preset"]
    if preset == "paper":
        preset += ", n-grams up to {n_max}, seen {p_min} times, lambda {lam:g}".format_map(chosen)
    if chosen["min_rows"] > 1:
        preset += f", only what {chosen['min_rows']} rows share"
    table.add_row("file", Text(str(report["file"])))
    table.add_row("rows", f"{report['rows']:,}")
    table.add_row("tokens", f"{report['tokens']:,}")
    table.add_row("bytes", f"{report['bytes']:,}{size}")
    table.add_row("preset", preset)
    table.add_row("tokenizer", Text(origin["tokenizer"] or "(not named)"))
    table.add_row("fingerprint", origin["fingerprint"] or "(fits any)")
    table.add_row("template", Text(origin["template"]))
    if origin["vocabulary"]:
        table.add_row("n-grams", Text(origin["vocabulary"]))
    if report["tuned"] is not None:
        tuned = "drafts up to {max_draft}, predicted {speedup[mid]:.2f} times as fast ({speedup[low]:.2f} to {speedup[high]:.2f})"
        tuned += " on {rows:,} rows, device {device}"
        table.add_row("tuned", Text(tuned.format_map(report["tuned"])))
    for key, label in (("added_rows", "rows added"), ("unfinished_rows", "unfinished, left out")):
        if key in report:
            table.add_row(label, f"{report[key]:,}")
    if "seconds" in report:
        table.add_row("seconds", f"{report['seconds']:.1f}")
    if report["reliability"] is None:
        return Group(table)
    found = report["reliability"]
    return Group(
        table, f"\nacceptance on held-out rows; predictions are off by {found['error']:.3f}", _reliability(found)
    )


def _reliability(found: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("predicted", "observed", "tokens"):
        table.add_column(name, justify="right")
    for n, predicted, observed in zip(found["counts"], found["predicted"], found["observed"], strict=True):
        if n:
            table.add_row(f"{predicted:.3f}", f"{observed:.3f}", f"{n:,}")
    return table
