"""The figures of the study: values of its JSON in, SVG text out, in the style of `tasc report`."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasc.report.plots import COLOURS, DASHES, INK, MARKERS, draw, error_bars

BUDGET = "budget M (n-grams added)"
Point = dict[str, Any]


def by_budget(corpora: dict[str, Any], value: str, label: str) -> str:
    """A value against the budget, a panel for each corpus: colour and marker the longest n-gram, dashed held-out."""
    names = list(corpora)

    def on(figure: Any) -> None:
        panels = figure.subplots(-(-len(names) // 3), 3, squeeze=False).flat
        for axes, name in zip(panels, names, strict=False):
            for number, n_max in enumerate(sorted({p["n_max"] for p in corpora[name]["points"]})):
                for split, dashes, fill in (("train", DASHES[0], "full"), ("test", DASHES[1], "none")):
                    points = [p for p in corpora[name]["points"] if (p["n_max"], p["split"]) == (n_max, split)]
                    axes.plot(
                        [p["budget"] for p in points], [p[value] for p in points], color=COLOURS[number], markersize=4,
                        linestyle=dashes, marker=MARKERS[number], fillstyle=fill, label=f"n up to {n_max}, {split}",
                    )  # fmt: skip
            axes.set_title(name)
            axes.set_ylim(bottom=0)
        figure.supxlabel(BUDGET, fontsize=10)
        figure.supylabel(label, fontsize=10)
        handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)

    return draw(on, width=8.4, height=2.5 * -(-len(names) // 3) + 0.8)


def normalised_entropy(corpora: dict[str, Any]) -> str:
    """H / log V of the training outputs' tokens against the budget, n-grams of up to 4 tokens."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, found) in enumerate(corpora.items()):
            points = [p for p in found["points"] if (p["n_max"], p["split"]) == (4, "train")]
            axes.plot(
                [p["budget"] for p in points], [p["normalised_entropy"] for p in points], label=name,
                color=COLOURS[number], marker=MARKERS[number], linestyle=DASHES[number],
            )  # fmt: skip
        axes.set_xlabel(BUDGET)
        axes.set_ylabel("H / log V of output tokens (1: uniform)")
        figure.legend(loc="outside upper center", ncols=3)

    return draw(on, width=5.6, height=3.6)


def by_rank(corpora: dict[str, Any], ranks: Sequence[int]) -> str:
    """Share of each output token against its rank, both logarithmic, for some budgets."""
    names = list(corpora)

    def on(figure: Any) -> None:
        for axes, name in zip(figure.subplots(-(-len(names) // 3), 3, squeeze=False).flat, names, strict=False):
            for number, (budget, shares) in enumerate(corpora[name]["share_by_rank"].items()):
                axes.loglog(
                    ranks[: len(shares)], shares, color=COLOURS[number], linestyle=DASHES[number], label=f"M = {budget}"
                )
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter("")
            axes.set_title(name)
        figure.supxlabel("rank of the token among the training outputs' tokens", fontsize=10)
        figure.supylabel("share of all output tokens", fontsize=10)
        handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)

    return draw(on, width=8.4, height=2.5 * -(-len(names) // 3) + 0.6)


def quality(groups: dict[str, Sequence[Point]], scores: Sequence[str], ylabel: str, *, runtime: bool) -> str:
    """Scores with their 95% intervals against the budget; on the right milliseconds per output and the rounds' range."""

    def on(figure: Any) -> None:
        left, *others = figure.subplots(1, 1 + runtime, squeeze=False)[0]
        shown = [(name, score) for name, runs in groups.items() for score in scores if score in runs[0]["quality"]]
        for number, (name, score) in enumerate(shown):
            runs = groups[name]
            at, values = [run["budget"] for run in runs], [run["quality"][score] for run in runs]
            error = error_bars(values, [run["intervals"][score] for run in runs])
            left.errorbar(at, values, yerr=error, label=f"{name}: {score}", **_look(number))
        left.set_ylabel(ylabel)
        for right in others:
            for number, runs in enumerate(groups.values()):
                rounds = [run["speed"][0]["ms_per_output_rounds"] for run in runs]
                middle = [run["speed"][0]["ms_per_output"] for run in runs]
                error = error_bars(middle, [(min(ms), max(ms)) for ms in rounds])
                right.errorbar([run["budget"] for run in runs], middle, yerr=error, **_look(number))
            right.set_ylabel("ms per output, batch 8 (range of rounds)")
            right.set_ylim(bottom=0)
        for axes in (left, *others):
            axes.set_xlabel(BUDGET)
        figure.legend(loc="outside upper center", ncols=2)

    return draw(on, width=8.4 if runtime else 5.6, height=3.7)


def predictions(configurations: Sequence[dict[str, Any]]) -> str:
    """Measured time over the baseline's, against H2 and against held-out steps times step time, a line for each configuration.

    Bars are the range over rounds, hollow markers models with Qwen2.5's tokens.
    """
    corpora = list(dict.fromkeys(one["corpus"] for one in configurations))

    def on(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for one in configurations:
            look = _look(corpora.index(one["corpus"])) | {
                "linewidth": 0.9,
                "markersize": 4,
                "elinewidth": 0.6,
                "alpha": 0.85,
            }
            look |= {"capsize": 0, "fillstyle": "none" if one["size"] == "qwen-tokens" else "full"}
            first, runs = one["runs"][0], one["runs"]
            measured = [run["ms_per_output"] / first["ms_per_output"] for run in runs]
            error = error_bars(measured, [over_baseline(run, first) for run in runs])
            predicted = [run["steps_ms"] / first["steps_ms"] for run in runs]
            for panel, values in zip(axes, ([run["h2_nats"] for run in runs], predicted), strict=True):
                panel.errorbar(values, measured, yerr=error, **look)
        axes[1].axline((0.5, 0.5), slope=1, color=INK, linewidth=1, linestyle=":")
        axes[0].set_xlabel("H2 of the training outputs' tokens (nats)")
        axes[1].set_xlabel("held-out steps x step time (of the baseline's)")
        axes[0].set_ylabel("measured time (of the baseline's)")
        handles = [
            axes[0].plot([], [], color=COLOURS[k], marker=MARKERS[k], linestyle=DASHES[k])[0]
            for k in range(len(corpora))
        ]
        figure.legend(handles, corpora, loc="outside upper center", ncols=4)

    return draw(on, width=8.8, height=4.2)


def over_baseline(run: Point, first: Point) -> tuple[float, float]:
    """Least and most time over the baseline's in the same round."""
    ratios = [ms / base for ms, base in zip(run["ms_rounds"], first["ms_rounds"], strict=True)]
    return min(ratios), max(ratios)


def lambdas(results: dict[str, Any]) -> str:
    """Speed-up of the paper's drafter at batch 1 against the weight of the corpus, range over the rounds."""

    def on(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, result) in enumerate(results.items()):
            tried = [one for one in result["lambda"] if one["lambda"] is not None]
            speeds = [one["speed"][0] for one in tried]
            middle = [s["speed_up"] for s in speeds]
            error = error_bars(middle, [s["speed_up_range"] for s in speeds])
            axes.errorbar([one["lambda"] for one in tried], middle, yerr=error, label=name, **_look(number))
        axes.axhline(1, color=INK, linewidth=1)
        axes.set_xlabel("weight of the corpus (lambda); 0: prompt only, 1: corpus only")
        axes.set_ylabel("speed-up over plain, batch 1")
        axes.legend()

    return draw(on, width=5.6, height=3.4)


def epochs(by_corpus: Mapping[str, Sequence[Point]]) -> str:
    """The headline score by epochs with its 95% interval, with and without n-grams, a panel for each corpus."""

    def on(figure: Any) -> None:
        panels = figure.subplots(1, len(by_corpus), squeeze=False)[0]
        for axes, (corpus, runs) in zip(panels, by_corpus.items(), strict=True):
            headline = runs[0]["headline"]
            for number, budget in enumerate(sorted({run["budget"] for run in runs})):
                chosen = [run for run in runs if run["budget"] == budget]
                values, ends = [r["quality"][headline] for r in chosen], [r["intervals"][headline] for r in chosen]
                error = error_bars(values, ends)
                axes.errorbar([r["epochs"] for r in chosen], values, yerr=error, label=f"M = {budget}", **_look(number))
            axes.set_title(corpus)
            axes.set_xlabel("epochs of fine-tuning")
            axes.set_ylabel(f"{headline} (95% interval)")
            axes.legend(loc="lower right")

    return draw(on, width=4.0 * len(by_corpus), height=3.2)


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": DASHES[number % 6],
            "capsize": 2, "elinewidth": 1}  # fmt: skip
