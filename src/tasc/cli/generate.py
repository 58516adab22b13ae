"""`tasc generate`: a file of prompts in, a JSONL file of outputs out, with what each output took, with or without drafts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import refuse_one_file, refuse_own_input, report_skipped


def command(
    model: options.ModelOption,
    data: options.DataOption,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=options.file_to_write,
            help="JSONL file to write; needed without --compare and --record.",
        ),
    ] = None,
    drafter: options.DrafterOption = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure plain decoding and drafts in turn; needs --drafter.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            callback=options.file_to_write,
            help="Append each request to this JSONL log, for `tasc replay`; needs --drafter.",
        ),
    ] = None,
    cost: Annotated[
        Path | None,
        typer.Option(help="Step-cost curve from `tasc profile`; default: the one it was tuned for, or a typical one."),
    ] = None,
    max_draft: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most drafted tokens per row and pass. Default: what the drafter was tuned to, or 15."
        ),
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree/--no-tree", help="Verify alternatives to each other in one pass, or chains alone.")
    ] = True,
    batch_size: options.BatchSizeOption = 8,
    max_new_tokens: options.MaxNewTokensOption = None,
    limit: options.LimitOption = None,
    template: options.TemplateOption = "auto",
    split: options.SplitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Measure so many times; times are medians. Default: 1, with --compare 3.")
    ] = None,
    skip_bad: options.SkipBadOption = False,
    trust_remote_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Generate outputs for a file of prompts, greedily and in batches.

    Each line of the output file has `prompt`, `completion` (what the model wrote), `reference`, `tokens` (in base
    tokens), `passes` (forward passes of the model) and `ms` (the row's share of the time).

    With `--drafter` a pass verifies drafted tokens; the outputs stay the same. `--compare` decodes every batch both ways,
    one after the other, and reports the speed-up with its range over the rounds.
    """
    from tasc.corpus import load_tasks
    from tasc.decode import load_model

    _check_outputs(drafter, output=output, compare=compare, record=record, cost=cost, max_draft=max_draft)
    refuse_one_file(output=output, record=record)
    for written in (output, record):
        refuse_own_input(written, model, data, drafter, cost, template, split=split)
    tasks = load_tasks(
        data,
        split=split,
        prompt_column=prompt_column,
        completion_column=completion_column,
        messages_column=messages_column,
        references=False,
        skip_bad=skip_bad,
        limit=limit,
    )
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    drafting = None
    if drafter is not None:
        drafting = load_drafting(loaded, drafter, max_draft=max_draft, tree=tree, cost=cost, record=record)
    options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "template": template, "drafting": drafting}
    report: dict[str, Any] = {"model": model, "data": data, "drafter": drafter, "skipped_rows": tasks.n_skipped}
    if compare:
        report |= run_comparison(loaded, tasks, repeats=repeats or 3, **options)
        emit(report, as_json=as_json, human=lambda: comparison_table(report))
        return
    done = run(loaded, tasks, repeats=repeats or 1, **options)
    report |= {"output": output, **done.speed()}
    if output is not None:
        from tasc.evals import write_predictions

        write_predictions(output, predictions_of(tasks, done))
    title = f"{len(tasks):,} outputs" + ("" if output is None else f" in {output}")
    emit(report, as_json=as_json, human=lambda: speed_table(title, report))


def load_drafting(loaded: Any, path: Path, **options: Any) -> Any:
    """The drafter of a file for a loaded model, checked against its tokenizer: `tasc.decode.Drafting` with these options."""
    from tasc.decode import check_drafter, speculative
    from tasc.draft import Drafter

    drafter = Drafter.load(path)
    check_drafter(drafter, loaded.tokenizer, loaded.vocabulary, source=path)
    return speculative(drafter, vocabulary=loaded.vocabulary, **options)


def _check_outputs(
    drafter: Path | None, *, output: Path | None, compare: bool, **with_drafter: Path | int | None
) -> None:
    if drafter is None:
        for name, value in {"compare": compare or None, **with_drafter}.items():
            if value is not None:
                option = name.replace("_", "-")
                raise typer.BadParameter(f"--{option} needs --drafter, a file that 'tasc draft build' wrote")
    if output is None and not compare and with_drafter["record"] is None:
        raise typer.BadParameter("pass --output, the JSONL file to write")
    if output is not None and compare:
        raise typer.BadParameter("--compare measures and writes no outputs; leave --output out")


def run(
    loaded: Any,
    tasks: Any,
    *,
    batch_size: int,
    max_new_tokens: int | None,
    template: str,
    repeats: int,
    drafting: Any = None,
) -> Any:
    """Complete the rows of `tasks` with progress on screen; returns `tasc.decode.Completions`."""
    from tasc.decode import complete

    report_skipped(tasks)
    n_ngrams = 0 if loaded.vocabulary is None else len(loaded.vocabulary)
    with progress(f"generating with {loaded.name} ({n_ngrams} n-grams)", total=repeats * len(tasks)) as advance:
        return complete(
            loaded.model,
            loaded.tokenizer,
            tasks.rows,
            vocabulary=loaded.vocabulary,
            template=template,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            repeats=repeats,
            drafting=drafting,
            progress=advance,
        )


def run_comparison(loaded: Any, tasks: Any, *, repeats: int, drafting: Any, **options: Any) -> dict[str, Any]:
    """Plain decoding and drafts in turn, with progress on screen; returns the report of `tasc.decode.compare`."""
    from tasc.decode.compare import compare

    report_skipped(tasks)
    with progress(f"plain and drafted in turn with {loaded.name}", total=2 * repeats * len(tasks)) as advance:
        return compare(
            loaded.model, loaded.tokenizer, tasks.rows, drafting, repeats=repeats, progress=advance, **options
        ).report()


def predictions_of(tasks: Any, done: Any) -> list[Any]:
    """The rows of the output file: `tasc.evals.Prediction`."""
    from tasc.evals import Prediction

    taken = zip(done.texts, done.tokens, done.generated.passes, done.generated.ms, strict=True)
    return [
        Prediction(row.prompt, text, row.completion, tokens, passes, round(ms, 4))
        for row, (text, tokens, passes, ms) in zip(tasks.rows, taken, strict=True)
    ]


# key of the report, label, format, unit
SPEED_ROWS: Sequence[tuple[str, str, str, str]] = (
    ("tokens_per_output", "base tokens per output", ".2f", ""),
    ("passes_per_output", "target passes per output", ".2f", ""),
    ("ms_per_output", "time per output", ".2f", " ms"),
    ("ms_per_byte", "time per output byte", ".4f", " ms"),
    ("bytes_per_output", "bytes per output", ".1f", ""),
    ("adoption", "adoption of n-grams", ".1%", ""),
    ("unfinished", "outputs cut at the limit", ".1%", ""),
)


def speed_table(title: str, report: dict[str, Any]) -> Any:
    """What people see of `Completions.speed()`."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for key, label, style, unit in SPEED_ROWS:
        if report.get(key) is not None:
            table.add_row(label, f"{report[key]:{style}}{unit}")
    if report.get("device") is not None:
        how = "{device}, {dtype}, threads {threads}, batch {batch_size}".format_map(report)
        table.add_row("measured", how)
    return table


def comparison_table(report: dict[str, Any]) -> Any:
    """What people see of a comparison."""
    from rich.table import Table

    n = report["n"]
    same = "identical" if report["identical"] else f"{len(report['different_rows'])} of {n} rows differ"
    table = Table(title=f"{n:,} outputs, {same}", title_justify="left")
    for column in ("", "plain", "drafts"):
        table.add_column(column, justify="left" if not column else "right")
    times, passes = report["ms_per_output"], report["passes_per_output"]
    table.add_row("time per output", f"{times['plain']:.2f} ms", f"{times['speculative']:.2f} ms")
    table.add_row("target passes per output", f"{passes['plain']:.2f}", f"{passes['speculative']:.2f}")
    low, high = report["speedup_range"]
    table.add_row("speed-up", "1", f"{report['speedup']:.2f} ({low:.2f} to {high:.2f})")
    table.add_row("tokens per pass", "1", f"{report['tokens_per_pass']:.2f}")
    table.add_row("drafted per pass", "0", f"{report['drafted_per_pass']:.2f}")
    accepted = " ".join(f"{share:.2f}" for share in report["acceptance_by_position"])
    table.add_row("acceptance by position", "", accepted)
    for name, counts in report["by_source"].items():
        table.add_row(f"accepted from {name}", "", f"{counts['accepted']:,} of {counts['drafted']:,}")
    table.add_row("measured", "", "{device}, {dtype}, threads {threads}, batch {batch_size}".format_map(report))
    return table
