"""`tasc eval`: how good are a model's outputs on held-out data, next to what they cost."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tasc.cli import _options as options
from tasc.cli import generate as generating
from tasc.cli._console import console, emit, progress
from tasc.cli._tasks import refuse_one_file, refuse_own_input

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasc.corpus import Tasks
    from tasc.evals import Judge, Metric, Prediction

MetricName = Literal["intent-slots", "multilabel", "text", "exact"]


def command(
    metric: Annotated[MetricName, typer.Option(help="How outputs are scored.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Checkpoint folder (what `tasc train` wrote) or Hub name.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Held-out rows: JSONL, CSV, Parquet, folder or Hub name.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this file of `tasc generate` instead of running a model.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another model's file of `tasc generate` on the same rows: paired differences.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(*options.OUT, callback=options.file_to_write, help="Also write the outputs as JSONL."),
    ] = None,
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
    repeats: options.RepeatsOption = 1,
    labels: Annotated[Path | None, typer.Option(help="multilabel: file of the known labels.")] = None,
    bert_model: Annotated[Path | None, typer.Option(help="text: folder of an encoder, adds BERTScore.")] = None,
    bert_layer: Annotated[int | None, typer.Option(min=1, help="text: its layer; default the last.")] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint of a judge, e.g. http://host/v1.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge's model name at the endpoint.")] = None,
    judge_file: Annotated[Path | None, typer.Option(help="Keep verdicts here; a second run goes on from them.")] = None,
    judge_key_env: Annotated[str, typer.Option(help="Environment variable with the judge's key.")] = "OPENAI_API_KEY",
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples for the 95% intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of bootstrap and judge.")] = 0,
    skip_bad: options.SkipBadOption = False,
    trust_remote_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Score a model's outputs on held-out data: quality next to speed.

    Quality comes with 95% bootstrap intervals. Next to it: base tokens and target passes per output, time per output
    and per output byte, and the share of possible n-grams that the model really emits.
    """
    from tasc.corpus import load_tasks
    from tasc.decode import load_model
    from tasc.evals import Judge, make_metric, read_predictions, write_predictions

    _check_sources(model, data, predictions, output)
    refuse_one_file(output=output, **{"judge-file": judge_file})
    for written in (output, judge_file):
        refuse_own_input(written, model, data, predictions, against, labels, template, split=split)
    if (judge_url is None) != (judge_model is None):
        raise typer.BadParameter("a judge needs both --judge-url and --judge-model")
    scorer = make_metric(metric, labels=labels, bert_model=bert_model, bert_layer=bert_layer)
    tasks = None
    if data is not None:
        tasks = load_tasks(
            data,
            split=split,
            prompt_column=prompt_column,
            completion_column=completion_column,
            messages_column=messages_column,
            skip_bad=skip_bad,
            limit=limit,
        )
    rows, speed = ([], {}) if predictions is None else _from_file(predictions, tasks, limit)
    # read before the model is run, so that nothing is lost if it does not fit
    prompts = [row.prompt for row in rows] if tasks is None else tasks.prompts
    other = None if against is None else _same_rows(against, read_predictions(against)[:limit], prompts)
    if predictions is None:
        loaded = load_model(str(model), device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        done = generating.run(
            loaded, tasks, batch_size=batch_size, max_new_tokens=max_new_tokens, template=template, repeats=repeats
        )
        rows, speed = generating.predictions_of(tasks, done), done.speed()
    if output is not None:
        write_predictions(output, rows)
    report = {"model": model, "data": data, "predictions": predictions, "metric": metric, "n": len(rows)}
    report |= _quality(scorer, rows, other, resamples=resamples, seed=seed) | speed
    if judge_url is not None:
        judge = Judge(judge_url, str(judge_model), api_key_env=judge_key_env, seed=seed)
        report["judge"] = _judged(judge, rows, other, path=judge_file, resamples=resamples)
    emit(report, as_json=as_json, human=lambda: _tables(report))


def _check_sources(model: str | None, data: str | None, predictions: Path | None, output: Path | None) -> None:
    if (model is None) == (predictions is None):
        raise typer.BadParameter("pass either --model (to run it) or --predictions (to score a file)")
    if model is not None and data is None:
        raise typer.BadParameter("--model needs --data, the rows to generate")
    if predictions is not None and output is not None:
        raise typer.BadParameter("--output needs --model; --predictions already is a file of outputs")


def _from_file(path: Path, tasks: "Tasks | None", limit: int | None) -> tuple[list["Prediction"], dict[str, Any]]:
    """Rows of a predictions file, with the references of `tasks` if given, and the speed that the file knows."""
    from tasc.errors import DataError
    from tasc.evals import read_predictions, speed_of

    rows = read_predictions(path)[:limit]
    if tasks is not None:
        if [row.prompt for row in rows] != tasks.prompts:
            raise DataError(
                f"{path} ({len(rows)} rows) and {tasks.source} ({len(tasks)} rows) must have the same prompts in the same "
                "order; leave --data out to score against the references in the file"
            )
        rows = [replace(row, reference=task.completion) for row, task in zip(rows, tasks.rows, strict=True)]
    elif missing := sum(not row.reference for row in rows):
        raise DataError(f"{path}: {missing:,} of {len(rows):,} rows have no reference; pass them with --data")
    return rows, speed_of(rows) | {"adoption": None}


def _same_rows(path: Path, other: list["Prediction"], prompts: list[str]) -> list["Prediction"]:
    from tasc.errors import DataError

    if [row.prompt for row in other] != prompts:
        raise DataError(
            f"{path} has {len(other)} rows, the model under test {len(prompts)}: both must answer the same prompts in the "
            "same order; make it again with 'tasc generate' on the same data"
        )
    return other


def _quality(
    scorer: "Metric", rows: list["Prediction"], other: list["Prediction"] | None, *, resamples: int, seed: int
) -> dict[str, Any]:
    """Values and 95% intervals; with `other`, its values and the paired differences to it."""
    from tasc.evals import paired_bootstrap

    references = [row.reference for row in rows]
    with console.status(f"scoring {len(rows):,} outputs"):
        measured = scorer.measure([row.completion for row in rows], references)
        intervals = measured.intervals(n=resamples, seed=seed)
        report: dict[str, Any] = {
            "quality": measured.values,
            "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()},
        }
        if other is None:
            return report
        second = scorer.measure([row.completion for row in other], references)
        report["against"] = second.values
        report["differences"] = {
            name: asdict(paired_bootstrap(statistic, second.statistics[name], n=resamples, seed=seed))
            for name, statistic in measured.statistics.items()
        }
    return report


def _judged(
    judge: "Judge",
    rows: list["Prediction"],
    other: list["Prediction"] | None,
    *,
    path: Path | None,
    resamples: int,
) -> dict[str, Any]:
    from tasc.evals import JudgeItem, judge_outputs, judge_summary

    items = []
    for index, row in enumerate(rows):
        outputs = {"model": row.completion} | ({} if other is None else {"against": other[index].completion})
        items.append(JudgeItem(row.prompt, row.reference, outputs))
    with progress(f"asking {judge.model}", total=len(items)) as advance:
        verdicts = judge_outputs(items, judge, path=path, progress=advance)
    return {"model": judge.model} | judge_summary(verdicts, n=resamples, seed=judge.seed)


def _tables(report: dict[str, Any]) -> "RenderableType":
    """What people see: quality with intervals, then speed."""
    from rich.console import Group
    from rich.table import Table

    table = Table(title=f"{report['model'] or report['predictions']}: {report['n']:,} rows", title_justify="left")
    for column in ("quality", "value", "95% interval"):
        table.add_column(column, justify="left" if column == "quality" else "right")
    differences = report.get("differences", {})
    if differences:
        table.add_column("difference", justify="right")
        table.add_column("p", justify="right")
    for name, value in report["quality"].items():
        interval = report["intervals"].get(name)
        cells = [name, f"{value:.4f}", _interval(*interval) if interval else ""]
        if name in differences:
            gap = differences[name]
            cells += [f"{gap['value']:+.4f} ({_interval(gap['low'], gap['high'])})", f"{gap['p']:.3f}"]
        table.add_row(*cells)
    for system, score in report.get("judge", {}).get("scores", {}).items():
        table.add_row(f"judge (1-4): {system}", f"{score['mean']:.4f}", _interval(*score["interval"]))
    return Group(table, generating.speed_table("speed", report))


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} .. {high:.3f}"
