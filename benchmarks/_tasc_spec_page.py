"""Last part of tasc_spec.py: docs/results/tasc_spec.md and its figure from the JSON."""

from pathlib import Path
from typing import Any

from tasc.evals.stats import wilson
from tasc.files import atomic_write
from tasc.report import plots

FIGURE = "tasc_spec_positions.svg"
SHOWN_POSITIONS = ("prompt lookup, our loop", "SuffixDecoding, best options", "paper's method", "spec")


def write_page(results: dict[str, Any], folder: Path) -> None:
    """The page and its figure."""
    with atomic_write(folder / FIGURE) as file:
        file.write(draw(results))
    with atomic_write(folder / "tasc_spec.md") as file:
        file.write(page(results))


def page(results: dict[str, Any]) -> str:
    lines = [
        "# Drafts on real tasks",
        "",
        "Made by `python benchmarks/tasc_spec.py`; every figure is in `benchmarks/results/tasc_spec.json`. The models are those of",
        "[TASC-ft on real tasks](tasc_ft.md): Qwen2 models of 2.5M or 4M parameters, trained on each task on two cores. All systems",
        "take turns on the same test rows, and every output was compared with that of plain decoding: all are identical.",
        "Times: median of rounds, wall clock per output, one thread; in brackets the range of the per-round speed-up over plain",
        "decoding. Tokens per pass: ids that one forward pass of the model brings a row, the prompt's pass counted, at batch 1. Rivals and the",
        "paper's method run in the same decoding loop as ours and have drafts of at most 10 tokens verified as a whole;",
        "`spec` drafts [trees](../decisions/0013-draft-trees.md) of at most 15 and chooses how much by expected gain against the model's measured step cost",
        "(`tasc profile`); `spec, chains` is the same without alternatives. On a CPU a pass over",
        "more tokens costs more, at batch 8 in proportion, so tokens per pass are not speed. For `ft`, ids are those of the enriched",
        "vocabulary: an n-gram counts as one.",
        *_caveats(results),
    ]
    for corpus, result in results.items():
        lines += ["", f"## {corpus}", "", *_about(result), *_quality(result), "", *table(result)]
        lines += ["", *_replay(result)]
        lines += [
            "",
            "Speed-up of the paper's method at batch 1 by the weight lambda of the corpus (its Figure 7):",
            "",
        ]
        lines += _lambdas(result)
        lines += [
            "",
            "By position behind a row's last token, the share of the passes whose draft got there that accepted a token, batch 1 (its Figure 4):",
            "",
            *_positions(result),
        ]
    lines += [
        "",
        "## Acceptance by position",
        "",
        f"![Accepted share of the drafted tokens by position in the draft, four drafters on {len(results)} corpora]({FIGURE})",
        "",
        "Bars: 95% Wilson intervals from the counts of one round, as if drafts were independent; positions with fewer than 20 drafted tokens",
        "are left out.",
    ]
    return "\n".join(lines) + "\n"


def _caveats(results: dict[str, Any]) -> list[str]:
    """What a reader could miss: figures from before the drafter adapted, tasks without a fine-tuned model."""
    lines = ["", *before] if (before := measured_before_adapting(results, "../decisions")) else []
    if bare := [corpus for corpus, result in results.items() if len(result["models"]) == 1]:
        lines += [
            "",
            f"No `ft` for {', '.join(bare)}: only a target was trained for this benchmark (`serving.py` trains its own); n-grams shorten its free text little ([variability](variability.md)).",
        ]
    return lines


def measured_before_adapting(results: dict[str, Any], decisions: str) -> list[str]:
    """Which figures are from before drafters adapted; `decisions`: where the page finds the folder of that name."""
    before = [corpus for corpus, result in results.items() if not result.get("adapt")]
    if not before:
        return []
    return [
        f"Measured before the default drafter's weights followed what the model writes ([why]({decisions}/0012-adaptive-drafter.md)): {', '.join(before)}. There",
        "`spec` has the weights of its file throughout.",
    ]


def _about(result: dict[str, Any]) -> list[str]:
    models = [f"{name}: {m['folder']}, {m['parameters'] / 1e6:.1f}M parameters" for name, m in result["models"].items()]
    before, after = result["machine"]["load_before_and_after"]
    cores = result["machine"]["cores"]
    rows = " and ".join(f"{n} at batch {batch}" for batch, n in result["rows"].items())
    unfinished = max(s["speed"][0]["unfinished"] for s in result["systems"])
    lines = [
        f"Models: {'; '.join(models)}. Rows: {rows}; {result['rounds']} rounds; at most {result['max_new_tokens']} ids per output",
        f"({unfinished:.0%} of the outputs reach that). Load of the {cores} cores before and after: {before:.1f}, {after:.1f}.",
    ]
    if unfinished > 0.1:
        lines += [
            "The model is far from converged and repeats itself, which every drafter that looks at the output profits from."
        ]
    return lines


def _quality(result: dict[str, Any]) -> list[str]:
    """Of the models whose outputs differ."""
    quality = result.get("quality")
    if not quality:
        return []
    headline = quality["headline"]
    parts = [
        f"{name} {m[headline]['value']:.3f} ({m[headline]['low']:.3f}-{m[headline]['high']:.3f})"
        + (f", difference {d['value']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})" if (d := m["difference"]) else "")
        for name, m in quality["models"].items()
    ]
    return [f"Quality on {quality['rows']:,} test rows, {headline}: {'; '.join(parts)}."]


def table(result: dict[str, Any]) -> list[str]:
    """A line for each system, times at each batch size."""
    batches = [int(batch) for batch in result["rows"]]
    times = " | ".join(f"ms/output, batch {batch} | speed-up" for batch in batches)
    lines = [
        f"| system | tokens/pass | drafted/pass | passes/output | {times} |",
        "|---|---|---|---|" + "---|---|" * len(batches),
    ]
    for system in result["systems"]:
        by_batch = {s["batch_size"]: s for s in system["speed"]}
        first = by_batch[1]
        cells = [
            f"**{system['system']}**" if system["kind"] == "tasc" else system["system"],
            f"{first['tokens_per_pass']:.2f}",
            f"{first['drafted_per_pass']:.1f}" if "drafted_per_pass" in first else "",
            f"{first['passes_per_output']:.2f}",
            *(cell for batch in batches for cell in _time(by_batch.get(batch))),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _replay(result: dict[str, Any]) -> list[str]:
    """The speed-up that a replay of the recorded run predicts from the cost curve."""
    parts = [
        f"{'spec' if r['target'] == 'base' else r['target'] + ' + spec'} at batch {r['batch_size']} {r['predicted_speed_up']:.2f}x"
        for r in result["replay"]
    ]
    return [
        "A replay of the recorded runs (`tasc replay`) took exactly the same passes. Speed-up over plain decoding with the same model",
        f"that it predicts from the cost curve: {', '.join(parts)}.",
    ]


def _time(speed: dict[str, Any] | None) -> list[str]:
    if speed is None:
        return ["", ""]
    low, high = speed["speed_up_range"]
    return [f"{speed['ms_per_output']:.1f}", f"{speed['speed_up']:.2f}x ({low:.2f}-{high:.2f})"]


def _lambdas(result: dict[str, Any]) -> list[str]:
    swept = [s for s in result["lambda"] if s["lambda"] is not None]
    return [
        "| lambda | " + " | ".join(f"{s['lambda']:g}" for s in swept) + " |",
        "|---" * (len(swept) + 1) + "|",
        "| speed-up | " + " | ".join(f"{s['speed'][0]['speed_up']:.2f}x" for s in swept) + " |",
        "| tokens/pass | " + " | ".join(f"{s['speed'][0]['tokens_per_pass']:.2f}" for s in swept) + " |",
    ]


def shares(system: dict[str, Any]) -> list[float | None]:
    """Accepted share at each position of a draft; None where too few were drafted to tell."""
    counts = system["speed"][0]["by_position"]
    return [accepted / drafted if drafted >= 20 else None for drafted, accepted in counts]


def _positions(result: dict[str, Any]) -> list[str]:
    shown = [s for s in result["systems"] if "by_position" in s["speed"][0]]
    n = min(10, max(len(s["speed"][0]["by_position"]) for s in shown))
    lines = ["| system | " + " | ".join(str(place + 1) for place in range(n)) + " |", "|---" * (n + 1) + "|"]
    for system in shown:
        cells = ["" if share is None else f"{share:.2f}" for share in [*shares(system), *[None] * n][:n]]
        lines.append(f"| {system['system']} | " + " | ".join(cells) + " |")
    return lines


def draw(results: dict[str, Any]) -> str:
    """SVG text: accepted share by position with 95% Wilson intervals, a panel for each corpus."""

    def on(figure: Any) -> None:
        panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
        for panel, (corpus, result) in zip(panels, results.items(), strict=True):
            for number, name in enumerate(SHOWN_POSITIONS):
                system = next(s for s in result["systems"] if s["system"] == name)
                counts = system["speed"][0]["by_position"]
                at = [place for place, share in enumerate(shares(system)) if share is not None]
                middle = [counts[place][1] / counts[place][0] for place in at]
                ends = [wilson(counts[place][1], counts[place][0]) for place in at]
                panel.errorbar(
                    [place + 1 for place in at], middle, yerr=plots.error_bars(middle, ends), label=name, color=plots.COLOURS[number], markersize=4,
                    marker=plots.MARKERS[number], linestyle=plots.DASHES[number], linewidth=1.4, elinewidth=0.8, capsize=2,
                )  # fmt: skip
            panel.set(title=corpus, ylim=(0, 1), xlim=(0.5, 10.5), xticks=range(1, 11, 3))
        figure.supxlabel("position in the draft", fontsize=10)
        figure.supylabel("accepted share (95% interval)", fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)

    return plots.draw(on, width=8.4, height=3.9)
