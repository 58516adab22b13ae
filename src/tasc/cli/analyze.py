"""`tasc analyze`: how variable are a task's outputs, and what would shorter ones save?"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasc.cli import _options as options
from tasc.cli._console import emit, progress, write_plot

if TYPE_CHECKING:
    from tasc.analysis import Analysis, TextStats


def command(
    data: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet file, folder of splits, or Hub name.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of a fast tokenizer.")],
    eval_data: Annotated[
        str | None, typer.Option("--eval", help="Held-out rows; without it a tenth of DATA is held out.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of DATA where it is a folder or Hub name [train].")] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Split of EVAL where it is a folder or Hub name [validation].")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    completion_column: Annotated[str, typer.Option(help="Column of the completions.")] = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first N rows of DATA only.")] = None,
    n_max: Annotated[int, typer.Option("--nmax", min=2, max=16, help="Longest n-gram of the mining run.")] = 4,
    plot: options.PlotOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure how variable a task's inputs and outputs are, predict what shorter outputs would save, and advise.

    Nothing is trained. Predictions are made on held-out rows. The tokenizer is applied to the texts alone, without
    template and end token.
    """
    from tasc.analysis import analyze
    from tasc.cli._tasks import load_pair

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
    analysis = analyze(tasks, tokenizer, eval_tasks=eval_tasks, n_max=n_max, progress=progress)
    if plot is not None:
        from tasc.report.command_plots import analysis_plot

        write_plot(plot, analysis_plot(analysis))
    emit(analysis.to_dict(), as_json=as_json, human=lambda: _render(analysis))


def _render(analysis: "Analysis") -> Group:
    heading = f"{analysis.source}: {analysis.rows:,} rows, {analysis.output.distinct:,} distinct outputs"
    return Group(
        Text(heading, style="bold"),
        Text(),
        _variability(analysis),
        Text(),
        Text(f"Predicted on {analysis.held_out.rows:,} held-out rows ({analysis.held_out.source})"),
        _predictions(analysis),
        Text(
            f"A drafter from the training outputs gives {analysis.drafting.tokens_per_pass:.2f} tokens per target pass "
            f"({analysis.drafting.top1_accuracy:.0%} of the tokens predicted)."
        ),
        Text(),
        Text(analysis.recommendation.text, style="bold"),
    )


def _variability(analysis: "Analysis") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("inputs", "outputs", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    inputs, outputs = _column(analysis.input), _column(analysis.output)
    difference = {
        "word bigrams: entropy, bits": "" if analysis.delta_entropy is None else f"{analysis.delta_entropy:+.1%}",
        "word bigrams: CDF80": "" if analysis.cdf80_ratio is None else f"{analysis.cdf80_ratio:,.2f}x",
    }
    for name in inputs:
        table.add_row(name, inputs[name], outputs[name], difference.get(name, ""))
    return table


def _column(stats: "TextStats") -> dict[str, str]:
    rows = {
        "tokens: mean": f"{stats.tokens_mean:,.1f}",
        "tokens: median, 95%": f"{stats.tokens_quantiles['p50']:,.0f}, {stats.tokens_quantiles['p95']:,.0f}",
        "tokens: longest": f"{stats.tokens_quantiles['p100']:,.0f}",
        "word bigrams: entropy, bits": f"{stats.bigram_entropy_bits:.2f}",
        "word bigrams: CDF80": f"{stats.bigrams_cdf80:,}",
        "word bigrams: typical set": f"{stats.bigrams_typical_set:,.0f}",
        "word bigrams: distinct": f"{stats.bigrams_distinct:,}",
        "tokens: entropy / log|V|": f"{stats.normalised_entropy:.3f}",
        "tokens: Shannon, H2, nats": f"{stats.shannon_nats:.2f}, {stats.h2_nats:.2f}",
    }
    grams = [ngram for ngram in stats.token_ngrams if ngram.n > 1]
    return rows | {f"token {ngram.n}-grams: entropy, bits": f"{ngram.entropy_bits:.2f}" for ngram in grams}


def _predictions(analysis: "Analysis") -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("budget", "n-grams", "tokens", "shorter", "fewer steps", "H2, nats", "rarest seen"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in analysis.predicted_shortening:
        table.add_row(
            f"{s.budget:,}",
            f"{s.added:,}",
            f"{s.tokens_per_output:,.2f}",
            f"{s.ratio:.2f}x",
            f"{s.steps_ratio:.2f}x",
            f"{s.h2_nats:.2f}",
            f"{s.rarest_count:,}x",
        )
    return table
