"""The figures that `--plot` of `tasc analyze`, `tasc enrich` and `tasc tune` writes: SVG text, two panels or one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tasc.analysis import Analysis
from tasc.report.charts import BUDGET, CAP, budgets_on, cost_by_budget_on, level, speed_ups_on, tried_on
from tasc.report.data import Budgets, Estimate
from tasc.report.plots import COLOURS, DASHES, MARKERS, draw
from tasc.report.shared import NORMAL_95, budget_point, tried_of
from tasc.vocab import EnrichReport

TWO_PANELS = {"width": 8.8, "height": 3.2}  # inches


def analysis_plot(analysis: Analysis) -> str:
    """How long inputs and outputs are, and how short n-grams would make held-out outputs, with 95% intervals."""

    def on(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for number, (name, stats) in enumerate((("outputs", analysis.output), ("inputs", analysis.input))):
            quantiles = sorted((float(key[1:]), value) for key, value in stats.tokens_quantiles.items())
            left.plot(
                [tokens for _, tokens in quantiles], [share for share, _ in quantiles], color=COLOURS[number],
                marker=MARKERS[number], linestyle=DASHES[number], label=name,
            )  # fmt: skip
        left.set_xlim(left=0)
        left.set_xlabel("length (base tokens)")
        left.set_ylabel("at most so long (% of the rows)")
        left.legend(loc="lower right")
        rows = analysis.predicted_shortening
        right.errorbar(
            [one.budget for one in rows], [one.tokens_per_output for one in rows],
            yerr=[NORMAL_95 * one.tokens_se for one in rows], color=COLOURS[0], marker=MARKERS[0], capsize=CAP,
        )  # fmt: skip
        if rows:
            level(right, rows[0].tokens_per_output * rows[0].ratio, "base tokens")
        right.set_ylim(bottom=0)
        right.set_xlim(left=0)
        right.set_xlabel(BUDGET)
        right.set_ylabel("tokens per held-out output")

    return draw(on, **TWO_PANELS)


def enrich_plot(report: EnrichReport) -> str:
    """The curve that an automatic budget was chosen by; for a given budget, what its n-grams save in training."""
    if report.curve:
        curve = Budgets(tuple(budget_point(asdict(point)) for point in report.curve), len(report.vocabulary))

        def two(figure: Any) -> None:
            left, right = figure.subplots(1, 2)
            budgets_on(left, curve, [])
            cost_by_budget_on(right, curve)

        return draw(two, **TWO_PANELS)
    saved = sorted((ngram.reward for ngram in report.vocabulary.ngrams), reverse=True)
    return draw(lambda figure: _saved_on(figure.subplots(), saved, report.train.tokens_before))


def _saved_on(axes: Any, saved: Sequence[int], tokens: int) -> None:
    """Share of the training outputs' tokens that n-grams save, the most useful first: exact counts, so no interval."""
    line = [0.0]
    for n in saved:
        line.append(line[-1] + 100 * n / max(tokens, 1))
    axes.plot(range(len(line)), line, color=COLOURS[0])
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("n-grams, the most useful first")
    axes.set_ylabel("tokens saved (% of training outputs)")


def tune_plot(report: dict[str, Any]) -> str:
    """Predicted speed-up before and after with 95% intervals, and the candidates.

    Args:
        report: what `tasc tune --json` prints.
    """
    speeds = [
        (label, report["batch_size"], Estimate(found["mid"], found["low"], found["high"]))
        for label, found in (("as it was", report["before"]["speedup"]), ("tuned", report["after"]["speedup"]))
    ]

    def on(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        speed_ups_on(left, speeds)
        tried_on(right, tried_of(report["tried"]))

    return draw(on, **TWO_PANELS)
