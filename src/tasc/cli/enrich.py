"""`tasc enrich`: mine n-grams from a task's outputs and write the enriched tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasc.cli import _options as options
from tasc.cli._console import emit, progress, write_plot
from tasc.cli._tasks import load_pair, warn
from tasc.errors import OptionError

if TYPE_CHECKING:
    from tasc.vocab import EnrichReport

SHOWN = 12


def command(
    data: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet file, folder of splits, or Hub name.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of the model's fast tokenizer.")],
    out: Annotated[
        Path, typer.Option(*options.OUT, callback=options.folder_to_write, help="Folder for the enriched tokenizer.")
    ],
    budget: Annotated[str, typer.Option(help="N-grams to add, or `auto`: chosen on held-out rows.")] = "auto",
    n_max: Annotated[int, typer.Option("--nmax", min=2, max=16, help="Longest n-gram that one merge makes.")] = 4,
    method: Annotated[str, typer.Option(help="`best`, or `paper` for Algorithm 1 of the paper.")] = "best",
    pcs: Annotated[
        str, typer.Option(help="Leave out n-grams with a Prefix Collision Score from this value on, or `off`.")
    ] = "off",
    eval_data: Annotated[
        str | None, typer.Option("--eval", help="Held-out rows. Without them --budget auto leaves a tenth of DATA out.")
    ] = None,
    style: Annotated[
        str, typer.Option(help="`vocabulary`; or `added-tokens` as in the paper, for comparison: prompts change.")
    ] = "vocabulary",
    split: Annotated[str | None, typer.Option(help="Split of DATA where it is a folder or Hub name [train].")] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Split of EVAL where it is a folder or Hub name [validation].")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    completion_column: Annotated[str, typer.Option(help="Column of the completions.")] = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first N rows of DATA only.")] = None,
    plot: options.PlotOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find the n-grams that dominate a task's outputs and make them tokens.

    Only completions are mined. OUT loads with AutoTokenizer; prompts are tokenised as before, which is checked.
    OUT/enriched.json lists the n-grams with ids, counts, rewards and Prefix Collision Scores.
    """
    from tasc.vocab import enrich

    tasks, eval_tasks = load_pair(
        data,
        eval_data,
        split=split,
        eval_split=eval_split,
        limit=limit,
        prompt_column=prompt_column,
        completion_column=completion_column,
        messages_column=messages_column,
        skip_bad=skip_bad,
    )
    report = enrich(
        tasks,
        tokenizer,
        budget=_budget(budget),
        n_max=n_max,
        method=method,  # type: ignore[arg-type]  # enrich names the choices
        pcs=_threshold(pcs),
        eval_tasks=eval_tasks,
        out=out,
        style=style,  # type: ignore[arg-type]
        progress=progress,
    )
    if not report.vocabulary.ngrams:
        warn(f"no n-gram was added ({report.reason}): {out} holds the base tokenizer's tokens alone")
    if report.prompt_drift:
        warn(f"{report.prompt_drift:,} prompts are tokenised differently (style {style})")
    if plot is not None:
        from tasc.report.command_plots import enrich_plot

        write_plot(plot, enrich_plot(report))
    emit(report.to_json() | {"out": out}, as_json=as_json, human=lambda: _render(report, out))


def _budget(text: str) -> "int | Literal['auto']":
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise OptionError(f"--budget must be a number of n-grams or auto, not {text!r}")
    return int(text)


def _threshold(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--pcs must be a threshold above 0 and at most 1, or off, not {text!r}") from None


def _render(report: "EnrichReport", out: Path) -> Group:
    summary = Table(show_header=False, box=None, pad_edge=False)
    summary.add_row("n-grams added", f"{len(report.vocabulary):,}  ({report.reason})")
    for name, part in (("training outputs", report.train), ("held-out outputs", report.eval)):
        if part is not None:
            shorter = f"{part.ratio:.2f}x shorter ({part.tokens_before:,} -> {part.tokens_after:,} tokens)"
            summary.add_row(name, shorter)
    summary.add_row("H2 of the tokens", "{:.2f} -> {:.2f} nats".format(*report.h2_nats))
    summary.add_row("prompts changed", f"{report.prompt_drift:,}")
    summary.add_row("written to", str(out))
    parts = [summary, Text(), _top(report)]
    if report.curve:
        parts[1:1] = [Text(), _curve(report)]
    return Group(*parts)


def _curve(report: "EnrichReport") -> Table:
    table = Table(title="expected decoding cost on held-out outputs", title_justify="left", box=None, pad_edge=False)
    for name in ("budget", "steps/output", "expected steps", "step time", "cost"):
        table.add_column(name, justify="right")
    for p in report.curve:
        mark = "  <" if p.budget == len(report.vocabulary) else ""
        cells = f"{p.budget}|{p.steps_per_output:.2f}|{p.expected_steps:.2f}|{p.relative_step_time:.3f}"
        table.add_row(*cells.split("|"), f"{p.relative_cost:.3f}{mark}")
    return table


def _top(report: "EnrichReport") -> Table:
    table = Table(title=f"first {SHOWN} n-grams", title_justify="left", box=None, pad_edge=False)
    for name in ("id", "count", "reward", "PCS", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("text")
    for k, n in enumerate(report.vocabulary.ngrams[:SHOWN]):
        numbers = (report.vocabulary.base_size + k, n.count, n.reward)
        table.add_row(*(f"{v:,}" for v in numbers), f"{n.pcs:.3f}", str(len(n.ids)), Text(repr(n.text)))
    return table
