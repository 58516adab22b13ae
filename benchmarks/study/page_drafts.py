"""The page's section on Table 3 and Figures 4 and 7: drafts, and both methods together."""

from typing import Any

from _tasc_spec_page import measured_before_adapting

from study import figures
from study.markdown import Row, figure, table
from tasc.evals.stats import wilson

SYSTEMS = ("paper's method, corpus only", "paper's method", "N-Grammys, bigrams", "N-Grammys, mixed", "SuffixDecoding, best options",
           "SuffixDecoding, trees", "spec, chains", "spec", "ft, M=500", "ft, M=500 + spec", "ft, M=2000", "ft, M=2000 + spec")  # fmt: skip
DRAFTERS = ("paper's method", "spec")
POSITIONS = (1, 2, 5, 10)


def section(found: dict[str, Any], shortening: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    """The section's lines.

    Args:
        found: what tasc_spec.py wrote.
        shortening: what `shortening.measure` wrote.
        drawn: gets the figure.
    """
    return [
        "## Table 3, Figures 4 and 7: drafts, and both methods together",
        "",
        "Speed-up over plain decoding of the same rows, outputs identical in every case; in full on",
        "[its page](results/tasc_spec.md), made by `python benchmarks/tasc_spec.py`. The models are larger than this page's (2.5M and 4M parameters).",
        "",
        *_speed_ups(found),
        *_caveats(found, shortening),
        "The paper, batch 1: TASC-spec 3.15x (Asclepius), 1.78x (MedQuAD), 2.17x (EUR-LEX); corpus alone 1.63x, 1.52x, 1.49x; N-Grammys mixed",
        "3.08x, 1.32x, 1.98x, bigrams 1.03x, 1.01x, 1.04x. It never combines its two methods: the rows `ft + spec` do. On a CPU a pass over several tokens is",
        "not free, so that tokens per pass become speed only in part, and N-Grammys' ten drafted tokens cost more than they bring.",
        "",
        *_acceptance(found),
        *figure(
            drawn, "lambda", figures.lambdas(found), "Speed-up of the paper's drafter against lambda for three corpora"
        ),
        "Figure 7: the paper finds the best weight of the corpus between 0.5 and 0.75. Here it is 0.75, with 0.9 and 1 level on EUR-LEX.",
        "",
    ]


def _speed_ups(found: dict[str, Any]) -> list[str]:
    rows = []
    for name in SYSTEMS:
        cells = [name]
        for result in found.values():
            system = _system(result, name)
            for batch in (1, 8):
                speed = next((s for s in system["speed"] if s["batch_size"] == batch), None) if system else None
                cells.append(f"{speed['speed_up']:.2f}x" if speed else "")
        rows.append(cells)
    return table(["system", *(f"{corpus}, batch {batch}" for corpus in found for batch in (1, 8))], rows)


def _system(result: Row, name: str) -> Row | None:
    return next((s for s in result["systems"] if s["system"] == name), None)


def _caveats(found: dict[str, Any], shortening: dict[str, Any]) -> list[str]:
    lines = []
    for corpus, result in found.items():
        if len(result["models"]) == 1:
            points = [p for p in shortening["corpora"][corpus]["points"] if (p["n_max"], p["split"]) == (4, "test")]
            tokens = {p["budget"]: p["tokens_per_output"] for p in points}
            lines.append(
                f"No `ft` for {corpus}: only a target was trained for this benchmark; 500 n-grams would shorten its free text no more than {tokens[0] / tokens[500]:.1f} times (Figure 2)."
            )
    lines += measured_before_adapting(found, "decisions")
    return [*lines, ""] if lines else []


def _acceptance(found: dict[str, Any]) -> list[str]:
    """Accepted shares at some positions, beside the paper's at the first."""
    rows = []
    for corpus, result in found.items():
        for name in DRAFTERS:
            system = _system(result, name)
            counts = system["speed"][0]["by_position"] if system else []
            rows.append([corpus, name, *(_share(*counts[place - 1]) for place in POSITIONS if place <= len(counts))])
    cut = {corpus: max(s["speed"][0]["unfinished"] for s in result["systems"]) for corpus, result in found.items()}
    looping = [f"{share:.0%} of the {corpus} outputs" for corpus, share in cut.items() if share > 0.1]
    return [
        "Figure 4, the share of the drafted tokens at a position that is accepted; of a tree, of the passes whose draft got there those that accepted a token. The paper: 0.57 on",
        "Asclepius and 0.39 on MedQuAD at the first position, falling with the position. Here, batch 1, in brackets 95% Wilson intervals as if drafts were independent:",
        "",
        *table(["corpus", "drafter", *(f"position {place}" for place in POSITIONS)], rows),
        *([f"{', '.join(looping)} ran into the limit: that model repeats itself, and repetitions are easy to draft, so that its shares cannot be compared with the paper's.", ""] if looping else []),
        "The paper's drafter always drafts on; `spec` drafts alternatives at the first positions and goes on where that is likely, so that its later positions are of drafts that it was sure of.",
        "",
    ]  # fmt: skip


def _share(drafted: int, accepted: int) -> str:
    if not drafted:
        return ""
    low, high = wilson(accepted, drafted)
    return f"{accepted / drafted:.2f} ({low:.2f}-{high:.2f})"
