"""`tasc tune`: fit a drafter to a task and a machine, and say before deployment whether it will help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress, write_plot
from tasc.cli._drafters import Rows
from tasc.cli._tasks import refuse_own_input

if TYPE_CHECKING:
    from rich.console import Group

    from tasc.draft import Drafter
    from tasc.draft.cost import StepCost


def command(
    drafter: Annotated[Path, typer.Option(help="Drafter file from `tasc draft build`.")],
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="Validation rows, not those it was built from: file, folder or Hub name."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Log that `tasc generate --record` wrote, instead of --data.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            *options.OUT,
            callback=options.file_to_write,
            help="Drafter file to write. Default: the drafter itself, atomically.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Give the verdict and write nothing.")] = False,
    cost: Annotated[
        Path | None,
        typer.Option(help="Step-cost curve from `tasc profile`. Default: the log's, or one typical of --device."),
    ] = None,
    device: Annotated[
        Literal["cpu", "mps", "cuda"] | None, typer.Option(help="Without --cost: go by a curve typical of it [cpu].")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, help="Rows that share passes. Default: the log's, or 1.")
    ] = None,
    max_draft: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Try no longer drafts. Default: what the curve was measured for."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of the tokenizer [the one the drafter was built with].")
    ] = None,
    vocab: Annotated[
        str | None, typer.Option(help="Folder of the n-grams that the drafter speaks [the one it was built with].")
    ] = None,
    max_prompt: Annotated[int, typer.Option(min=1, help="Cut prompts to so many tokens.")] = 1500,
    limit: options.LimitOption = None,
    split: options.SplitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: options.SkipBadOption = False,
    plot: options.PlotOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Fit a drafter to a task and a machine, and predict whether it will help there.

    Learns weights (of the preset `paper`: lambda, longest n-gram, least count) and the longest draft on a part of the rows
    and writes them into the drafter file, where decoding and `tasc replay` find them. Rows held out say what drafts bring
    before and after, with 95% intervals, in milliseconds of the cost curve: no model is needed.
    """
    from tasc.draft import Drafter
    from tasc.replay.tune import tune
    from tasc.replay.verdict import verdict

    if (data is None) == (log is None):
        raise typer.BadParameter("pass --data, validation rows, or --log, a recorded run")
    if dry_run and out is not None:
        raise typer.BadParameter("--dry-run writes nothing; leave --out out")
    if cost is not None and device is not None:
        raise typer.BadParameter("--device stands for a typical curve; leave it out where --cost gives one")
    refuse_own_input(out, data, log, cost, split=split)
    loaded, target = Drafter.load(drafter), None if dry_run else out or drafter
    if log is not None:
        rows, more = _log_rows(log, loaded, limit)
    else:
        rows, more = _data_rows(
            loaded, drafter, data or "", tokenizer, vocab, max_prompt,
            split=split, prompt_column=prompt_column, completion_column=completion_column, messages_column=messages_column, skip_bad=skip_bad, limit=limit,
        )  # fmt: skip
    if batch_size is not None:
        rows["batch_size"] = batch_size
    curve = _curve(cost, device, rows.pop("cost", None))
    tuning = tune(loaded, **rows, cost=curve, max_draft=max_draft, progress=progress)
    if target is not None:
        tuning.drafter.save(target)
    report = {"drafter": drafter, "data": data, "log": log, "written": target, **more, "verdict": verdict(tuning)}
    report |= tuning.to_json()
    if plot is not None:
        from tasc.report.command_plots import tune_plot

        write_plot(plot, tune_plot(report))
    emit(report, as_json=as_json, human=lambda: _render(report))


def _data_rows(
    drafter: "Drafter", path: Path, data: str, tokenizer: str | None, vocab: str | None, max_prompt: int, **choice: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `tune`, and what else to report."""
    from tasc.replay.origin import tokenizer_of, vocabulary_of

    vocabulary = vocabulary_of(drafter, path, vocab)
    loaded = tokenizer_of(drafter, path, tokenizer, vocabulary)
    rows = Rows(data, **choice)
    prompts, outputs = rows.encode(drafter, loaded, vocabulary, max_prompt)
    return {"prompts": prompts, "outputs": outputs}, {"skipped_rows": rows.n_skipped}


def _log_rows(path: Path, drafter: "Drafter", limit: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    from tasc.corpus import TokenCorpus
    from tasc.replay.origin import curve_of, log_of

    log = log_of(path, drafter)
    requests = log.requests[:limit]
    rows = {
        "prompts": TokenCorpus.from_rows(request.prompt_ids for request in requests),
        "outputs": TokenCorpus.from_rows(request.output_ids for request in requests),
        "limits": [request.limit for request in requests],
        "batch_size": 1 + max(request.slot for request in requests),
        "cost": curve_of(log, path),
    }
    return rows, {"requests": len(requests)}


def _curve(path: Path | None, device: str | None, logged: "StepCost | None") -> "StepCost":
    from tasc.draft.cost import StepCost

    if path is not None:
        return StepCost.load(path)
    return logged if device is None and logged is not None else StepCost.default(device or "cpu")


def _render(report: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows, n = report["rows"], report["rows"]["held_out"]
    table = Table(title=f"{n:,} held-out outputs, by the cost curve", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in ("time per output", "speed-up", "95% interval", "tokens per pass", "max draft"):
        table.add_column(name, justify="right")
    table.add_row("plain", f"{report['plain_ms_per_output']:.2f} ms", "1", "", "1.00", "")
    for label, key in (("drafter as it was", "before"), ("tuned", "after")):
        found = report[key]
        speedup = found["speedup"]
        table.add_row(
            label,
            f"{found['ms_per_output']:.2f} ms",
            f"{speedup['mid']:.2f}",
            f"{speedup['low']:.2f} to {speedup['high']:.2f}",
            f"{found['tokens_per_pass']:.2f}",
            str(found["max_draft"]),
        )
    chosen = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["chosen"].items())
    learnt = f"{rows['total'] - n:,} other rows chose: {chosen}"
    written = "nothing written" if report["written"] is None else f"written to {report['written']}"
    return Group(table, Text(f"{learnt}; {written}\n"), Text(report["verdict"]["text"]))
