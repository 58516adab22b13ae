"""`tasc generate`: a file of prompts in, a JSONL file of outputs out, with what each output took."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tasc.cli._console import console, emit, progress

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Checkpoint folder (what `tasc train` wrote) or Hub name.")
]
DataOption = Annotated[str, typer.Option("--data", "-d", help="Task rows: JSONL, CSV, Parquet, folder or Hub name.")]
SplitOption = Annotated[str | None, typer.Option(help="Split of a folder or Hub name.")]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Rows in one forward pass.")]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most ids per output; an n-gram counts as one. Default: 1.5 x the longest reference."),
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def command(
    model: ModelOption,
    data: DataOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL file to write.")],
    batch_size: BatchSizeOption = 8,
    max_new_tokens: MaxNewTokensOption = None,
    limit: LimitOption = None,
    template: TemplateOption = "auto",
    split: SplitOption = None,
    prompt_column: PromptColumnOption = "prompt",
    completion_column: CompletionColumnOption = "completion",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    repeats: RepeatsOption = 1,
    skip_bad: SkipBadOption = False,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate outputs for a file of prompts, greedily and in batches.

    Each line of the output file has `prompt`, `completion` (what the model wrote), `reference`, `tokens` (in base
    tokens), `passes` (forward passes of the model) and `ms` (the row's share of the time).
    """
    from tasc.corpus import load_tasks
    from tasc.decode import load_model
    from tasc.evals import write_predictions

    tasks = load_tasks(
        data,
        split=split,
        prompt_column=prompt_column,
        completion_column=completion_column,
        skip_bad=skip_bad,
        limit=limit,
    )
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    done = run(loaded, tasks, batch_size=batch_size, max_new_tokens=max_new_tokens, template=template, repeats=repeats)
    write_predictions(output, predictions_of(tasks, done))
    report = {"model": model, "data": data, "output": str(output), "skipped_rows": tasks.n_skipped, **done.speed()}
    emit(report, as_json=as_json, human=lambda: speed_table(f"{len(tasks):,} outputs in {output}", report))


def run(
    loaded: Any,
    tasks: Any,
    *,
    batch_size: int,
    max_new_tokens: int | None,
    template: str,
    repeats: int,
) -> Any:
    """Complete the rows of `tasks` with progress on screen; returns `tasc.decode.Completions`."""
    from tasc.decode import complete

    if tasks.n_skipped:
        console.print(f"{tasks.source}: left out {tasks.n_skipped:,} bad rows")
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
            progress=advance,
        )


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
