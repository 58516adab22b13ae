"""The page's section on section 6.1 and Appendix E: what was predicted before training, and what came out."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from study import figures
from study.corpora import SIZES
from study.markdown import Row, figure, table

NAMES = {
    "budget": "M itself",
    "h2_nats": "H2",
    "steps": "held-out steps",
    "expected_steps": "expected held-out steps (rare n-grams discounted)",
    "steps_ms": "held-out steps x step time",
    "expected_ms": "expected held-out steps x step time",
}
# ours is `steps_ms`; tau is turned by the sign, so that +1 is right
SIGNS = {"budget": -1, "h2_nats": -1, "steps_ms": 1, "expected_ms": 1}


def section(
    found: dict[str, Any], earlier: dict[str, Any], shortening: dict[str, Any], drawn: dict[str, str]
) -> list[str]:
    """The section's lines.

    Args:
        found: what `prediction.measure` wrote.
        earlier: what it wrote for the first training of the same runs.
        shortening: what `shortening.measure` wrote.
        drawn: gets the figure.
    """
    configurations = found["configurations"]
    own, qwen = found["summary"]["own"], found["summary"]["qwen2.5"]
    return [
        "## Section 6.1 and Appendix E: predicting runtime before training",
        "",
        f"A configuration is a corpus, a size of model, a longest n-gram and a seed; the budget alone varies in it. Runtime: of {found['rows']} test rows those that all of",
        f"its models complete in the task's form, greedy, one at a time, {found['rounds']} rounds in which the models take turns of a few rows; models after 150 or 200 steps (a model that was",
        "trained so little does not always end, and the time that it runs on for says nothing of its tokens). H2: of the merged *training* outputs. Ours: steps of the",
        "*validation* outputs times the time of a pass with so many more rows in the head, measured on random weights. `tasc enrich --budget auto` goes by *expected* steps: each n-gram",
        "is counted by how likely its training uses make it. Nothing of it needs training. `python -m study train prediction`.",
        "",
        *figure(drawn, "prediction", figures.predictions(configurations),
                "Measured time over the baseline's, against H2 on the left and against held-out steps times step time on the right"),
        *_rounds(configurations),
        f"Kendall's tau with runtime, turned so that +1 is right; *enriched only* leaves M = 0 out, which every predictor gets right. Tokens of the task's own, {own['h2_nats']['configurations']} configurations:",
        "",
        *_overall(own, found["noise"]),
        f"Qwen2.5's tokens as far as the task uses them, small budgets, {qwen['h2_nats']['configurations']} configurations:",
        "",
        *_overall(qwen, found["noise"]),
        "The paper: 124 runs in 8 configurations (EUR-LEX and Asclepius; 0.5B and 3B; n up to 2, 3 and 4; seeds): tau of H2 with runtime below -0.9 in every one (p < 0.005),",
        "mean -0.964, and runtime falls in 92% of the cases where H2 rises. We know of no figure of its for M itself.",
        "",
        *_order_of_m(configurations),
        *_h2_fails(shortening, qwen, configurations),
        *_not_better(own, configurations),
        *_how_much(own, qwen),
        *_earlier(found, earlier),
        *_given_up(found["given_up"]),
        *_by_configuration(configurations),
    ]  # fmt: skip


def _overall(summary: Row, noise: float) -> list[str]:
    header = ["predictor", "mean tau", "lowest", "p < 0.05", "enriched only: mean tau", "enriched only: p < 0.05", "directions right",
              f"where runtime moved by over {noise:.0%}"]  # fmt: skip
    rows = [
        [NAMES[name], f"{s['mean_tau']:+.3f}", f"{s['lowest_tau']:+.2f}", f"{s['significant']} of {s['configurations']}",
         f"{s['mean_tau_enriched']:+.3f}", f"{s['significant_enriched']} of {s['configurations']}",
         *(_share(s[d]) for d in ("directions", "clear_directions"))]
        for name, s in summary.items()
    ]  # fmt: skip
    return table(header, rows)


def _share(counts: Row) -> str:
    return f"{counts['right'] / counts['of']:.0%} ({counts['right']} of {counts['of']}, p = {counts['p']:.1g})"


def _by_configuration(configurations: Sequence[Row]) -> list[str]:
    shown = ("h2_nats", "steps_ms", "expected_ms")
    rows = [
        [one["name"], len(one["runs"]),
         f"{one['runs'][0]['ms_per_output'] / min(r['ms_per_output'] for r in one['runs']):.2f}x",
         *(f"{_tau(one, name, which):+.2f} (p {one[which][name]['p']:.3f})" for which in ("tau", "tau_enriched") for name in shown)]
        for one in configurations
    ]  # fmt: skip
    header = ["H2", "ours", "with discount"]
    return [
        "Tau of each configuration, turned so that +1 is right. Of five enriched models only a perfect order has p < 0.05.",
        "",
        *table(["configuration", "models", "fastest", *header, *(f"{name}, enriched only" for name in header)], rows),
    ]


def _tau(one: Row, name: str, which: str = "tau") -> float:
    return SIGNS[name] * one[which][name]["tau"]


def _rounds(configurations: Sequence[Row]) -> list[str]:
    """How far the rounds scatter, beside how far neighbouring budgets are apart."""
    spreads, ratios, apart = [], [], []
    for one in configurations:
        runs = one["runs"]
        spreads += [(max(r["ms_rounds"]) - min(r["ms_rounds"])) / r["ms_per_output"] for r in runs]
        for run in runs[1:]:
            low, high = figures.over_baseline(run, runs[0])
            ratios.append((high - low) / (run["ms_per_output"] / runs[0]["ms_per_output"]))
        apart += [abs(b["ms_per_output"] / a["ms_per_output"] - 1) for a, b in pairwise(runs[1:])]
    return [
        f"Dotted: predicted as measured; hollow: Qwen2.5's tokens; bars: the range over rounds of the time over the baseline's in the same round. A model's slowest round less its fastest is {statistics.median(spreads):.0%} of",
        f"its median (median of {len(spreads)} models; most: {max(spreads):.0%}); over the baseline of the same round {statistics.median(ratios):.0%} (most: {max(ratios):.0%}). Enriched models of neighbouring budgets",
        f"are {statistics.median(apart):.0%} apart (median), so that the order of some of them is within the noise.",
        "",
    ]  # fmt: skip


def follows_m(one: Row, name: str) -> bool:
    """Whether a predictor orders the models just as M does: the more n-grams, the faster."""
    return all(SIGNS[name] * (b[name] - a[name]) < 0 for a, b in pairwise(one["runs"]))


def _order_of_m(configurations: Sequence[Row]) -> list[str]:
    own, qwen = _by_tokens(configurations)
    as_m = {
        (name, which): sum(follows_m(one, name) for one in some)
        for which, some in (("own", own), ("qwen", qwen))
        for name in ("h2_nats", "steps_ms")
    }
    return [
        f"**The order of M itself.** With our own small tokenizers H2 gives the same order as M itself in {as_m['h2_nats', 'own']} of {len(own)} configurations, and held-out steps (times step time) in {as_m['steps_ms', 'own']}:",
        "the more n-grams, the faster. What these configurations show of either predictor is no more than that. With Qwen2.5's tokens held-out steps give M's order in",
        f"{as_m['steps_ms', 'qwen']} of {len(qwen)}, H2 in {as_m['h2_nats', 'qwen']}: there H2 is compared with M's order, and nothing here shows that counting steps orders budgets better than M does.",
        "What counting adds to M is how much faster (below), and a measure that other lists of n-grams of the same M can be compared by, which was not tested here.",
        "",
    ]  # fmt: skip


def _by_tokens(configurations: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Those with tokens of the task's own, and those with Qwen2.5's."""
    own = [one for one in configurations if SIZES[one["size"]].tokens == "own"]
    return own, [one for one in configurations if one not in own]


def _h2_fails(shortening: dict[str, Any], summary: Row, configurations: Sequence[Row]) -> list[str]:
    """Where H2 of Qwen2.5 tokens falls although outputs get shorter, and what that does to its order."""
    wrong = {}
    for corpus, one in shortening["corpora"].items():
        points = [p for p in one["points"] if (p["n_max"], p["split"]) == (4, "train")]
        for a, b in pairwise(points):
            if b["h2_nats"] < a["h2_nats"]:
                fewer = 1 - b["tokens_per_output"] / a["tokens_per_output"]
                said = f"{a['budget']} to {b['budget']} ({a['h2_nats']:.2f} to {b['h2_nats']:.2f} nats, {fewer:.0%} fewer tokens)"
                wrong.setdefault(corpus, []).append(said)
    said = "; ".join(f"{corpus}: M = {', '.join(steps)}" for corpus, steps in wrong.items())
    _, qwen = _by_tokens(configurations)
    measured = "; ".join(
        f"{one['corpus']} {_tau(one, 'h2_nats'):+.2f} against our {_tau(one, 'steps_ms'):+.2f}" for one in qwen
    )
    sizes = ", ".join(
        f"{SIZES[name].layers} layers of width {SIZES[name].width}" for name in {one["size"] for one in qwen}
    )
    seeds = {run["seed"] for one in qwen for run in one["runs"]}
    return [
        f"**Where H2 fails.** With a real tokenizer (Qwen2.5, Figure 2's data) H2 *falls* while outputs get shorter: {said}. There the most frequent",
        "n-grams replace frequent tokens by other frequent ones, and the distribution stays as peaked; counting steps gets these right by construction, as M does. On models with these tokens",
        f"H2's tau is {summary['h2_nats']['mean_tau']:+.3f}, ours {summary['steps_ms']['mean_tau']:+.3f} (among enriched models {summary['h2_nats']['mean_tau_enriched']:+.3f} and "
        f"{summary['steps_ms']['mean_tau_enriched']:+.3f}); by corpus: {measured}. This is thin evidence: {len(qwen)} configurations of",
        f"one size of model ({sizes}), {len(seeds)} seed{'s' * (len(seeds) > 1)}. What all miss is that models trained for so few steps gain next to nothing from the last n-grams.",
        "",
    ]  # fmt: skip


def _not_better(summary: Row, configurations: Sequence[Row]) -> list[str]:
    behind = [
        f"{one['name']} ours {_tau(one, 'steps_ms'):+.2f}, H2 {_tau(one, 'h2_nats'):+.2f}"
        for one in configurations
        if _tau(one, "steps_ms") < _tau(one, "h2_nats") - 1e-9
    ]
    own, _ = _by_tokens(configurations)
    changes = [_tau(one, "expected_ms") - _tau(one, "steps_ms") for one in own]
    worse, better = (sum(sign * change > 1e-9 for change in changes) for sign in (-1, 1))
    more = [one for one in own if one["runs"][-1]["expected_steps"] > one["runs"][-2]["expected_steps"]]
    faster = sum(one["runs"][-1]["ms_per_output"] < one["runs"][-2]["ms_per_output"] for one in more)
    return [
        f"**Where ours is not better.** With 2,000 tokens of the task's own H2 orders runtimes as well as held-out steps do ({summary['h2_nats']['mean_tau']:+.3f} and",
        f"{summary['steps_ms']['mean_tau']:+.3f}), and M as both. Behind H2: {'; '.join(behind) or 'none'}. The discount of `--budget auto` makes the order worse in {worse} of these {len(own)} configurations and better in {better}",
        f"(mean {summary['expected_ms']['mean_tau']:+.3f}): it counts an n-gram behind few training uses as seldom written. {_adoption(configurations)}",
        f"In {len(more)} configurations (of {', '.join(sorted({one['corpus'] for one in more}))}) it expects more steps at M = {more[0]['runs'][-1]['budget']:,} than at {more[0]['runs'][-2]['budget']}; runtime fell in {faster} of them.",
        "What the discount does stand for is quality, which falls where rare n-grams are many",
        "([above](#figure-3-tables-5-and-8-quality-and-runtime-against-the-budget)).",
        "",
    ]  # fmt: skip


def _adoption(configurations: Sequence[Row]) -> str:
    """In how many enriched models adoption is high, and on which corpora it is lower."""
    by_corpus: dict[str, list[float]] = {}
    for one in configurations:
        by_corpus.setdefault(one["corpus"], []).extend(run["adoption"] for run in one["runs"][1:])
    every = [value for values in by_corpus.values() for value in values]
    lower = {corpus: min(values) for corpus, values in by_corpus.items() if min(values) <= 0.9}
    said = " and ".join(f"{corpus} (from {low:.2f})" for corpus, low in sorted(lower.items(), key=lambda item: item[1]))
    high = sum(value > 0.9 for value in every)
    return f"The models write most n-grams that fit: adoption is above 0.9 in {high} of {len(every)} enriched models, and lower on {said}."


def _how_much(own: Row, qwen: Row) -> list[str]:
    ours, discounted, other = own["steps_ms"], own["expected_ms"], qwen["steps_ms"]
    return [
        "What neither H2 nor M can say is *how much* faster. The time of held-out steps gives a ratio to the baseline: half of its predictions are within",
        f"{ours['median_error']:.0%} of the measured one (worst: {ours['highest_error']:.0%} off), with the discount within {discounted['median_error']:.0%} ({discounted['highest_error']:.0%}); with Qwen2.5's tokens",
        f"within {other['median_error']:.0%} ({other['highest_error']:.0%}).",
        "Kept rows are the ones that every model completes, and those have shorter outputs than the validation rows that predictions are made on.",
        "",
    ]  # fmt: skip


def _earlier(found: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """The same runs trained and timed before, on another machine."""
    shown = ("budget", "h2_nats", "steps_ms", "expected_ms")
    rows = [
        [tokens, NAMES[name], *(f"{one['summary'][tokens][name][which]:+.3f}" for which in ("mean_tau", "mean_tau_enriched") for one in (earlier, found))]
        for tokens in found["summary"] for name in shown
    ]  # fmt: skip
    changed = [
        abs(_tau(now, name) - _tau(before, name))
        for now, before in zip(found["configurations"], earlier["configurations"], strict=True)
        for name in ("h2_nats", "steps_ms")
    ]
    return [
        "**Again.** All runs of this section were trained and timed twice with the same seeds, the first time on another machine, whose sums round otherwise",
        "(`benchmarks/results/study/prediction_earlier.json`). Mean tau then and now; the tau of a configuration, of H2 or ours, is",
        f"another one in {sum(change > 1e-9 for change in changed)} of {len(changed)} cases, by {max(changed):.2f} at most:",
        "",
        *table(["tokens", "predictor", "earlier", "now", "enriched only: earlier", "enriched only: now"], rows),
    ]


def _given_up(measurements: Sequence[Row]) -> list[str]:
    """Why each was, what it said of H2, ours and ours with the discount, and whether its values were kept."""
    lines = ["Earlier measurements of these runtimes were given up, for how they were made:", ""]
    for one in measurements:
        tau, raw = one["mean_tau"], one["raw"]
        taus = (
            "no mean tau was kept"
            if tau is None
            else "mean tau of H2 {h2_nats:+.3f}, ours {steps_ms:+.3f}, with discount {expected_ms:+.3f}".format_map(tau)
        )
        where = f"all values are in `benchmarks/results/study/{raw}`" if raw else "the raw values were not kept"
        lines.append(f"- {one['why']} ({one['configurations']} configurations): {taus}; {where}.")
    return [*lines, ""]
