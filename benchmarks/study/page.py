"""docs/reproduction.md and its figures, from the JSON of the study and of the benchmarks beside it."""

import json
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from study import figures
from study.corpora import CORPORA, RESULTS, ROOT, SIZES
from tasc.files import atomic_write

DOCS = ROOT / "docs"
BESIDE = ("variability", "initialisation", "tasc_ft", "tasc_spec")  # benchmarks whose results the page shows

Row = dict[str, Any]


def write(docs: Path = DOCS) -> None:
    """Write the page and its figures into the folder."""
    study = {name: _read(RESULTS / f"{name}.json", "-m study") for name in ("shortening", "prediction", "quality")}
    beside = {name: _read(RESULTS.parent / f"{name}.json", f"{name}.py") for name in BESIDE}
    drawn: dict[str, str] = {}
    lines = [
        *_opening(study, beside),
        *_variability(beside["variability"]),
        *_shortening(study["shortening"], drawn),
        *_budgets(study["quality"], beside["tasc_ft"], drawn),
        *_precision_recall(study["quality"], drawn),
        *_epochs(study["quality"], drawn),
        *_family(study["quality"]["groups"]),
        *_ablations(study["quality"], beside["initialisation"]),
        *_prediction(study["prediction"], study["shortening"], drawn),
        *_drafts(beside["tasc_spec"], drawn),
        *_entropy(study["shortening"], drawn),
        *CLOSING,
    ]
    (docs / "reproduction").mkdir(exist_ok=True)
    for name, svg in drawn.items():
        with atomic_write(docs / "reproduction" / f"{name}.svg") as file:
            file.write(svg)
    with atomic_write(docs / "reproduction.md") as file:
        file.write("\n".join(lines) + "\n")


def _read(path: Path, made_by: str) -> Any:
    if not path.exists():
        raise SystemExit(f"{path}: missing; make it first (cd benchmarks && python {made_by})")
    return json.loads(path.read_text(encoding="utf-8"))


def _figure(drawn: dict[str, str], name: str, svg: str, alternative: str) -> list[str]:
    drawn[name] = svg
    return [f"![{alternative}](reproduction/{name}.svg)", ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def _opening(study: dict[str, Any], beside: dict[str, Any]) -> list[str]:
    configurations = study["prediction"]["configurations"]
    trained = {run["size"] + json.dumps({k: run[k] for k in ("corpus", "budget", "n_max", "seed")})
               for one in configurations for run in one["runs"]}  # fmt: skip
    measured = sum(len(one["runs"]) for one in configurations)
    longer = {run["system"] for group in study["quality"]["groups"].values() for run in group}
    own, qwen = (study["prediction"]["summary"][tokens] for tokens in ("own", "qwen2.5"))
    sizes = ", ".join(f"{name}: {size.layers} layers of width {size.width}" for name, size in SIZES.items())
    gaps = _gaps(study["quality"]["groups"]["epochs"])
    return [
        "# The paper's evidence, on real data",
        "",
        "Every table and figure of *Task-Centric Acceleration of Small-Language Models* (arXiv 2602.24174) that can be made",
        "without its models and hardware, made again; our figures beside the paper's, and what differs. Made by",
        "`cd benchmarks && python -m study` and by the benchmarks that a section names; every run that was made is in",
        "`benchmarks/results/study/` and `benchmarks/results/`. Nothing was left out for its result.",
        "",
        "**What differs.** The paper fine-tunes Qwen2.5-0.5B and 3B, Llama-3-8B and Mistral-7B with QLoRA on GPUs. This was made on two",
        "CPU cores without a model hub, so a *target* stands in for the pretrained model: a Qwen2 model, once a Mistral one",
        f"({sizes}; {len(CORPORA)} tasks, a byte-level BPE of 2,000 tokens each, for *qwen-tokens* the part of Qwen2.5's that the task uses) trained from scratch on the task in base tokens, then fine-tuned",
        "with and without n-grams on the same rows for the same number of steps, all weights. Comparisons inside a table hold; absolute quality",
        "says nothing about a pretrained model. Passes of such small models cost mostly the library's overhead, so runtime follows the",
        "number of passes more closely than on a GPU with a large head. The data sets are public ones of the same kinds (EUR-LEX and",
        "MASSIVE are the paper's); Asclepius and the summarisation sets are not here, and no LLM judges.",
        "",
        *_table(
            ["the paper's claim", "here", ""],
            [
                ["outputs of many tasks vary less than their inputs (Table 1)", _less_varied(beside["variability"]),
                 "[below](#table-1-variability-of-inputs-and-outputs)"],
                ["outputs shorten by 2x or more with up to 1,000 n-grams (Figure 2)", _halved(study["shortening"]),
                 "[below](#figure-2-output-length-against-the-budget)"],
                ["the same quality (Figure 3, Tables 5 and 8)",
                 f"only with enough training: joint accuracy on MASSIVE with 500 n-grams less that without them is {gaps}",
                 "[below](#figure-3-tables-5-and-8-quality-and-runtime-against-the-budget)"],
                ["H2 predicts the order of runtimes: mean tau -0.964, 92% of directions (section 6.1)",
                 f"mean tau {-own['h2_nats']['mean_tau']:.3f}, {_rate(own['h2_nats'])} of directions with tokens of the task's own, and "
                 f"{-qwen['h2_nats']['mean_tau']:.3f} with Qwen2.5's at small M; held-out steps x step time: {own['steps_ms']['mean_tau']:.3f} and {qwen['steps_ms']['mean_tau']:.3f}",
                 "[below](#section-61-and-appendix-e-predicting-runtime-before-training)"],
                ["drafts from the outputs and the prompt: 1.8x to 3.2x (Table 3)", _drafting_range(beside["tasc_spec"]),
                 "[below](#table-3-figures-4-and-7-drafts-and-both-methods-together)"],
            ],
        ),
        f"{len(trained)} short runs in {len(configurations)} configurations ({measured} measurements; a baseline belongs to several) and {len(longer)} longer",
        "ones were trained for this page.",
        "",
    ]  # fmt: skip


def _less_varied(found: dict[str, Any]) -> str:
    changes = {corpus: report["delta_entropy"] for corpus, report in found["corpora"].items()}
    less = [corpus for corpus, change in changes.items() if change < -0.05]
    return f"holds for {', '.join(less)}; why not for {', '.join(c for c in changes if c not in less)}:"


def _halved(found: dict[str, Any]) -> str:
    halved = [
        corpus
        for corpus, one in found["corpora"].items()
        if _at(one, 4, 0, "test")["tokens_per_output"] >= 2 * _at(one, 4, 1000, "test")["tokens_per_output"]
    ]
    return f"holds for {', '.join(halved)}, {len(halved)} of {len(found['corpora'])} corpora"


def _drafting_range(found: dict[str, Any]) -> str:
    """Lowest and highest speed-up at batch 1 over the corpora, for three systems."""
    said = []
    for title, name in (
        ("the paper's drafter", "paper's method"),
        ("ours", "spec"),
        ("both methods", "ft, M=500 + spec"),
    ):
        systems = [s for result in found.values() for s in result["systems"] if s["system"] == name]
        speeds = [speed["speed_up"] for s in systems for speed in s["speed"] if speed["batch_size"] == 1]
        said.append(f"{title} {min(speeds):.1f}x to {max(speeds):.1f}x")
    return ", ".join(said)


def _rate(summary: Row) -> str:
    return f"{summary['directions']['right'] / summary['directions']['of']:.0%}"


def _signed(difference: Row) -> str:
    return f"{difference['value']:+.3f} (95% {difference['low']:+.3f} to {difference['high']:+.3f})"


PAPER_TABLE_1 = {  # the paper's task nearest to ours: H in, H out, delta H, ratio of CDF80
    "massive_en": ("intent + slot filling", "13.4", "9.74", "-37.5%", "20.6"),
    "snips": ("intent + slot filling", "13.4", "9.74", "-37.5%", "20.6"),
    "ud_ewt_pos": ("POS tagging", "15.53", "6.57", "-57.7%", "1036"),
    "eurlex57k_short": ("multi-label classification (legal)", "14.43", "12.76", "-11.6%", "4.41"),
    "medquad": ("question answering (medical)", "16.2", "15.38", "-5.0%", "1.76"),
    "stories": ("creative writing", "12.75", "16.62", "+30.4%", "0.06"),
}


def _variability(found: dict[str, Any]) -> list[str]:
    rows = []
    for corpus, (task, *theirs) in PAPER_TABLE_1.items():
        report = found["corpora"][corpus]
        inside, outside = (report[side]["bigram_entropy_bits"] for side in ("input", "output"))
        ours = (f"{inside:.2f}", f"{outside:.2f}", f"{report['delta_entropy']:+.1%}", f"{report['cdf80_ratio']:.2f}")
        rows.append([corpus, task, *(f"{a} / {b}" for a, b in zip(ours, theirs, strict=True))])
    return [
        "## Table 1: variability of inputs and outputs",
        "",
        "Word bigrams of the training rows, Shannon entropy in bits; ours / the paper's nearest task.",
        "`python benchmarks/variability.py`, in full on [its page](results/variability.md).",
        "",
        *_table(["corpus", "the paper's task", "H in", "H out", "delta H", "CDF80 in / out"], rows),
        "Same shape for intents, slots and legal labels. Two differ by how the task is written, not by what it is: our POS outputs repeat",
        "each word with its tag (`is/AUX`) where the paper's, by their entropy, hold tags only, so that word bigrams of inputs and outputs are equally",
        "varied although n-grams shorten them 2.8 times; and MedQuAD's inputs are short questions, so its outputs are the more varied side.",
        "Bigrams of *words* thus mislead in both directions; `tasc analyze` advises by held-out token counts instead.",
        "",
    ]


def _shortening(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    corpora = found["corpora"]
    rows = []
    for corpus, one in corpora.items():
        for n_max in (2, 3, 4):
            plain = _at(one, n_max, 0, "test")
            cells = []
            for budget in (150, 500, 1000):
                train, test = _at(one, n_max, budget, "train"), _at(one, n_max, budget, "test")
                shorter = [_at(one, n_max, 0, split)["tokens_per_output"] / p["tokens_per_output"]
                           for split, p in (("train", train), ("test", test))]  # fmt: skip
                cells.append(f"{shorter[0]:.2f} / {shorter[1]:.2f}")
            last = _at(one, n_max, 1000, "test")
            rows.append([corpus, n_max, f"{plain['tokens_per_output']:.1f}", *cells,
                         f"{plain['bytes_per_token']:.2f} → {last['bytes_per_token']:.2f}"])  # fmt: skip
    return [
        "## Figure 2: output length against the budget",
        "",
        "Qwen2.5 tokens, Algorithm 1, PCS off. `python -m study shortening`.",
        "",
        *_figure(drawn, "length", figures.by_budget(corpora, "tokens_per_output", "tokens per output"),
                 "Tokens per output against the budget for six corpora; they fall fast up to about 250 n-grams"),
        *_figure(drawn, "bytes", figures.by_budget(corpora, "bytes_per_token", "bytes per token"),
                 "Bytes per output token against the budget for six corpora; the mirror image of the output length"),
        "Times shorter with M n-grams, train / test, and bytes per token of test outputs at M = 0 and 1,000:",
        "",
        *_table(["corpus", "n up to", "tokens per test output", "M=150", "M=500", "M=1000", "bytes per token"], rows),
        "The paper: EUR-LEX 2.65 times shorter at M = 1,000, bytes per token 2.67 times as many; ours is 2.4 on a shortened EUR-LEX",
        "whose documents have fewer labels. The training curve is what mining sees; held-out outputs follow it closely (on MASSIVE and SNIPS",
        "to M = 500) and fall behind it on POS tags, where late n-grams are words that do not come again.",
        "n up to 3 or 4 differ little from 2 at the same budget: longer n-grams arise from merges of merges.",
        "",
    ]  # fmt: skip


def _at(one: Row, n_max: int, budget: int, split: str) -> Row:
    return next(p for p in one["points"] if (p["n_max"], p["budget"], p["split"]) == (n_max, budget, split))


PAPER_MASSIVE = {0: (90.4, 76.45, 63.0, 302), 250: (91.5, 77.0, 64.6, 260), 500: (91.3, 77.0, 64.3, 258.9),
                 1000: (91.1, 76.2, 63.4, 256)}  # fmt: skip


def _budgets(found: dict[str, Any], longest: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    groups = _by_budget(found)
    lines = [
        "## Figure 3, Tables 5 and 8: quality and runtime against the budget",
        "",
        f"Targets of size *medium*; {found['rows']:,} test rows for quality, 95% bootstrap intervals over rows, paired differences to M = 0;",
        f"runtime over {found['timed_rows']} rows at batch {found['batch']} in {found['rounds']} rounds in turns, on a machine that had other work,",
        "as the ranges show: passes are exact, speed-ups rough. `python -m study train quality`.",
        "",
        *_figure(drawn, "quality", figures.quality(groups, ("joint_accuracy", "micro_f1"), "score (95% interval)", runtime=True),
                 "Left: joint accuracy and micro-F1 against the budget with intervals; right: milliseconds per output"),
    ]  # fmt: skip
    for name, runs in groups.items():
        lines += [f"**{name}** ({runs[0]['epochs']:g} epochs)", "", *_quality_table(runs)]
    lines += _second_seed(found["groups"])
    rows = [
        [m, f"{a} / {b} / {c}", f"{ms} ms", f"{PAPER_MASSIVE[0][3] / ms:.2f}x"]
        for m, (a, b, c, ms) in PAPER_MASSIVE.items()
    ]
    return [
        *lines,
        "The paper, MASSIVE en with Qwen2.5-0.5B:",
        "",
        *_table(["M", "intent / slot F1 / joint", "runtime", "speed-up"], rows),
        "On EUR-LEX the paper has 2.1x at M = 1,000. It finds the quality kept at every budget. After trainings as short as these it is not: n-grams begin",
        "with untrained rows and lose the more, the more of them there are and the fewer steps there were. The gap closes with steps",
        "([below](#table-7-epochs)), and with the longest trainings made here, of larger models, there is none ([TASC-ft on real tasks](results/tasc_ft.md)):",
        "",
        *_table(["corpus", "steps", "M", "score", "difference to M=0"], _longest(longest)),
        "*Unfinished* outputs ran into the limit. At batch 8 one of them holds up its batch, so that a model which fails to end one output in fifty loses much",
        "of its speed: check `unfinished` of `tasc eval` before the speed.",
        "",
    ]


def _second_seed(groups: dict[str, Any]) -> list[str]:
    again = groups["seed 1 massive_en"][-1]
    first = next(run for run in groups["budgets massive_en"] if run["budget"] == again["budget"])
    both = " and ".join(_signed(run["headline_difference"]) for run in (first, again))
    return [
        f"massive_en at M = {again['budget']}, difference to M = 0 with the first and with a second seed of the tuning: {both}.",
        "",
    ]


def _longest(found: dict[str, Any]) -> list[list[Any]]:
    """Quality of the enriched models of tasc_ft.py."""
    return [
        [corpus, f"{result['preset']['tuning_steps']:,}", variant["budget"], _with_interval(variant, result["preset"]["headline"]),
         _signed(variant["headline_difference"])]
        for corpus, result in found.items()
        for variant in result["variants"]
        if variant["budget"]
    ]  # fmt: skip


def _quality_table(runs: Sequence[Row]) -> list[str]:
    slots = "joint_accuracy" in runs[0]["quality"]
    scores = ["intent_accuracy", "slot_f1", "joint_accuracy"] if slots else ["micro_f1", "macro_f1"]
    scores = [s for s in scores if s in runs[0]["quality"]]
    rows = []
    for run in runs:
        low, high = run["intervals"][scores[-1] if slots else "micro_f1"]
        speed, difference = run["speed"][0], run["headline_difference"]
        rows.append([
            run["budget"] if run["added"] == run["budget"] else f"{run['budget']} ({run['added']} found)",
            *(f"{run['quality'][s]:.3f}" for s in scores),
            f"{low:.3f}-{high:.3f}",
            _signed(difference) if difference else "",
            f"{run['passes_per_output']:.2f}",
            "" if run["adoption"] is None else f"{run['adoption']:.1%}",
            f"{run['unfinished']:.1%}",
            f"{run['eval_nats_per_byte']:.4f}",
            f"{speed['ms_per_output']:.1f}",
            f"{speed['speed_up']:.2f}x ({speed['speed_up_range'][0]:.2f}-{speed['speed_up_range'][1]:.2f})",
        ])  # fmt: skip
    header = [
        "M",
        *scores,
        "95%",
        "difference",
        "passes",
        "adoption",
        "unfinished",
        "loss, nats/byte",
        "ms per output",
        "speed-up",
    ]
    return _table(header, rows)


def _by_budget(found: dict[str, Any]) -> dict[str, Sequence[Row]]:
    """The runs that differ in their budget alone, by corpus."""
    return {name.removeprefix("budgets "): runs for name, runs in found["groups"].items() if name.startswith("budgets")}


def _precision_recall(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    groups = _by_budget(found)
    rows = []
    for name, runs in groups.items():
        kind = "slot" if "slot_precision" in runs[0]["quality"] else "micro"
        for run in runs:
            values = (_with_interval(run, f"{kind}_{what}") for what in ("precision", "recall"))
            rows.append([name, run["budget"], *values])
    scores = ("slot_precision", "slot_recall", "micro_precision", "micro_recall")
    return [
        "## Figures 5 and 6: precision and recall",
        "",
        *_figure(drawn, "precision_recall", figures.quality(groups, scores, "precision, recall (95% interval)", runtime=False),
                 "Precision and recall against the budget for slots of MASSIVE and labels of EUR-LEX"),
        *_table(["corpus", "M", "precision", "recall"], rows),
        "A long token commits the model to several words or labels at once, which could cost recall or precision; the intervals say how much of a",
        "difference these rows can show.",
        "",
    ]  # fmt: skip


def _with_interval(run: Row, score: str) -> str:
    low, high = run["intervals"][score]
    return f"{run['quality'][score]:.3f} ({low:.3f}-{high:.3f})"


def _epochs(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    runs = found["groups"]["epochs"]
    budgets, lengths = sorted({run["budget"] for run in runs}), sorted({run["epochs"] for run in runs})
    rows = []
    for epochs in lengths:
        pair = [next(r for r in runs if (r["epochs"], r["budget"]) == (epochs, budget)) for budget in budgets]
        rows.append([f"{epochs:g}", *(_with_interval(run, run["headline"]) for run in pair),
                     *(f"{run['eval_nats_per_byte']:.4f}" for run in pair)])  # fmt: skip
    header = ["epochs", *(f"joint accuracy, M={m}" for m in budgets), *(f"loss, nats/byte, M={m}" for m in budgets)]
    return [
        "## Table 7: epochs",
        "",
        "massive_en, size *medium*. The paper, EUR-LEX at M = 1,000: micro-F1 0.624 / 0.647 / 0.655 / 0.637 after 1 / 3 / 5 / 10 epochs.",
        "",
        *_figure(
            drawn,
            "epochs",
            figures.epochs(runs, runs[0]["headline"]),
            "Joint accuracy against the epochs of fine-tuning",
        ),
        *_table(header, rows),
        *_epochs_words(runs, lengths, budgets),
    ]


def _epochs_words(runs: Sequence[Row], lengths: Sequence[float], budgets: Sequence[int]) -> list[str]:
    quality = {(r["epochs"], r["budget"]): r["quality"][r["headline"]] for r in runs}
    best = {m: max(lengths, key=lambda e: quality[e, m]) for m in budgets}
    return [
        f"Best after {best[0]:g} epochs without and {best[budgets[-1]]:g} with n-grams; the difference that they make is {_gaps(runs)}: new rows",
        "need more steps than the rest.",
        "",
    ]


def _family(groups: dict[str, Any]) -> list[str]:
    runs = groups["family mistral"]
    return [
        "## Table 6: another family of models",
        "",
        "eurlex57k_short, a Mistral model of size *medium* in place of Qwen2's, as many steps. The paper, Mistral-7B on EUR-LEX: 1,280 ms without, 1,130 ms with n-grams",
        "(1.19x), micro-F1 69.1 and 68.8.",
        "",
        *_quality_table(runs),
        "All else is as in the table of the Qwen2 models [above](#figure-3-tables-5-and-8-quality-and-runtime-against-the-budget).",
        "",
    ]


def _gaps(runs: Sequence[Row]) -> str:
    """The headline with n-grams less that without, by epochs."""
    quality = {(r["epochs"], r["budget"]): r["quality"][r["headline"]] for r in runs}
    budget = max(r["budget"] for r in runs)
    lengths = sorted({r["epochs"] for r in runs})
    return ", ".join(f"{quality[e, budget] - quality[e, 0]:+.3f} after {e:g} epoch{'s' * (e > 1)}" for e in lengths)


def _ablations(found: dict[str, Any], initialisation: dict[str, Any]) -> list[str]:
    groups = found["groups"]
    pcs = [["off" if r["pcs"] is None else f"{r['pcs']:g}", r["added"], *_ablated(r)] for r in groups["pcs"]]
    dropout = [[f"{r['merge_dropout']:g}", r["added"], *_ablated(r)] for r in groups["merge dropout"]]
    shared = ["n-grams", "joint accuracy", "difference to the first", "passes", "adoption", "loss, nats/byte"]
    inits = list(dict.fromkeys(r["init"] for r in initialisation["records"]))
    rows = [
        [init, *(f"{statistics.mean(r['losses'][k] for r in initialisation['records'] if (r['init'], r['tied']) == (init, tied)):.3f}"
                 for tied in (True, False) for k in range(len(initialisation["eval_at"])))]
        for init in inits
    ]  # fmt: skip
    at = [f"{kind}, step {step}" for kind in ("tied", "untied") for step in initialisation["eval_at"]]
    return [
        "## Ablations: initialisation, PCS, merge dropout",
        "",
        "**Initialisation** of the new rows, held-out nats per byte, mean of two seeds (`python benchmarks/initialisation.py`). The paper takes the mean",
        "of the parts' rows; weights that favour the last part in the embedding and the first in the head (`exp`, ours by default) are better at every point.",
        "",
        *_table(["init", *at], rows),
        "**PCS** threshold alpha: n-grams whose end could keep greedy decoding from longer words are left out; massive_en, M = 500.",
        "",
        *_table(["alpha", *shared], pcs),
        "**Merge dropout**: the probability that an occurrence of an n-gram is spelt in base tokens in training, drawn anew each epoch; M = 500.",
        "",
        *_table(["dropout", *shared], dropout),
    ]


def _ablated(run: Row) -> list[str]:
    difference = run["headline_difference"]
    return [_with_interval(run, run["headline"]), _signed(difference) if difference else "", f"{run['passes_per_output']:.2f}",
            f"{run['adoption']:.1%}", f"{run['eval_nats_per_byte']:.4f}"]  # fmt: skip


NAMES = {
    "h2_nats": "H2",
    "steps": "held-out steps",
    "expected_steps": "expected held-out steps (rare n-grams discounted)",
    "steps_ms": "held-out steps x step time",
    "expected_ms": "expected held-out steps x step time",
}


def _prediction(found: dict[str, Any], shortening: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    configurations, summary = found["configurations"], found["summary"]
    shown = ("h2_nats", "steps_ms", "expected_ms")
    rows = [
        [one["name"], len(one["runs"]),
         f"{one['runs'][0]['ms_per_output'] / min(r['ms_per_output'] for r in one['runs']):.2f}x",
         *(f"{one['tau'][name]['tau']:+.2f} (p {one['tau'][name]['p']:.3f})" for name in shown),
         *(f"{one['tau_enriched'][name]['tau']:+.2f}" for name in shown)]
        for one in configurations
    ]  # fmt: skip
    overall = {
        tokens: [
            [NAMES[name], f"{s['mean_tau']:+.3f}", f"{s['lowest_tau']:+.2f}", f"{s['significant']} of {s['configurations']}",
             f"{s['mean_tau_enriched']:+.3f}", *(_share(s[d]) for d in ("directions", "clear_directions"))]
            for name, s in of_tokens.items()
        ]
        for tokens, of_tokens in summary.items()
    }  # fmt: skip
    header = ["predictor", "mean tau", "lowest", "p < 0.05", "mean tau, enriched only", "directions right", f"where runtime moved by over {found['noise']:.0%}"]  # fmt: skip
    own, qwen = summary["own"], summary["qwen2.5"]
    return [
        "## Section 6.1 and Appendix E: predicting runtime before training",
        "",
        f"A configuration is a corpus, a size of model, a longest n-gram and a seed; the budget alone varies in it. Runtime: of {found['rows']} test rows those that all of",
        f"its models complete in the task's form, greedy, one at a time, {found['rounds']} rounds in which the models take turns of a few rows; models after 150 or 200 steps (a model that was",
        "trained so little does not always end, and the time that it runs on for says nothing of its tokens). H2: of the merged *training* outputs. Ours: steps of the",
        "*validation* outputs times the time of a pass with so many more rows in the head, measured on random weights. `tasc enrich --budget auto` goes by *expected* steps: each n-gram",
        "is counted by how likely its training uses make it. Nothing of it needs training. `python -m study train prediction`.",
        "",
        *_figure(drawn, "prediction", figures.predictions(configurations),
                 "Measured time over the baseline's, against H2 on the left and against the expected time on the right"),
        f"Kendall's tau with runtime, turned so that +1 is right; *enriched only* leaves M = 0 out, which every predictor gets right. Tokens of the task's own, {own['h2_nats']['configurations']} configurations:",
        "",
        *_table(header, overall["own"]),
        f"Qwen2.5's tokens as far as the task uses them, small budgets, {qwen['h2_nats']['configurations']} configurations:",
        "",
        *_table(header, overall["qwen2.5"]),
        "The paper: mean tau 0.964, above 0.9 in every configuration, 92% of directions.",
        "",
        *_h2_words(shortening, qwen, configurations),
        f"**Where ours is not better.** With 2,000 tokens of the task's own H2 rises at every budget and orders runtimes as well as held-out steps do ({own['h2_nats']['mean_tau']:+.3f} and",
        f"{own['steps_ms']['mean_tau']:+.3f}). The discount of `--budget auto` makes the order worse ({own['expected_ms']['mean_tau']:+.3f}): it counts an n-gram behind few training uses as",
        "seldom written, but these models write nearly every n-gram that fits (adoption above 0.9 in almost every run), so that at M = 1,000 it",
        "expects more steps than at 500 where fewer are taken. What it does stand for is quality, which falls where rare n-grams are many",
        "([above](#figure-3-tables-5-and-8-quality-and-runtime-against-the-budget)).",
        "",
        "What H2 cannot say is *how much* faster. The time of held-out steps gives a ratio to the baseline: half of its predictions are within",
        f"{own['steps_ms']['median_error']:.0%} of the measured one (worst: {own['steps_ms']['highest_error']:.0%} off), with the discount within {own['expected_ms']['median_error']:.0%} ({own['expected_ms']['highest_error']:.0%}).",
        "Kept rows are the ones that every model completes, and those have shorter outputs than the validation rows that predictions are made on. Earlier",
        f"measurements were given up: {_given_up(found['given_up'])}.",
        "",
        *_table(["configuration", "models", "fastest", "H2", "ours", "with discount", "H2, enriched only", "ours, enriched only", "with discount, enriched only"], rows),
    ]  # fmt: skip


def _given_up(measurements: Sequence[Row]) -> str:
    """Why each was, and what it said of H2, ours and ours with the discount."""
    said = []
    for one in measurements:
        tau = one["mean_tau"]
        taus = ""
        if tau is not None:
            taus = "; mean tau of H2 {h2_nats:+.3f}, ours {steps_ms:+.3f}, with discount {expected_ms:+.3f}".format_map(
                tau
            )
        said.append(f"{one['why']} ({one['configurations']} configurations{taus})")
    return "; ".join(said)


def _share(counts: Row) -> str:
    return f"{counts['right'] / counts['of']:.0%} ({counts['right']} of {counts['of']}, p = {counts['p']:.1g})"


def _h2_words(shortening: dict[str, Any], summary: Row, configurations: Sequence[Row]) -> list[str]:
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
    measured = "; ".join(
        f"{one['corpus']} {-one['tau']['h2_nats']['tau']:+.2f} against our {one['tau']['steps_ms']['tau']:+.2f}"
        for one in configurations
        if one["size"] == "qwen-tokens"
    )
    return [
        f"**Where H2 fails.** With a real tokenizer (Qwen2.5, Figure 2's data) H2 *falls* while outputs get shorter: {said}. There the most frequent",
        "n-grams replace frequent tokens by other frequent ones, and the distribution stays as peaked; counting steps gets these right by construction. On models with these tokens",
        f"H2's tau is {summary['h2_nats']['mean_tau']:+.3f}, ours {summary['steps_ms']['mean_tau']:+.3f} (among enriched models {summary['h2_nats']['mean_tau_enriched']:+.3f} and "
        f"{summary['steps_ms']['mean_tau_enriched']:+.3f}); by corpus: {measured}. What both miss is",
        "that models trained for so few steps gain nothing from the last n-grams.",
        "",
    ]


def _drafts(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    kept = ("paper's method, corpus only", "paper's method", "N-Grammys, bigrams", "N-Grammys, mixed", "SuffixDecoding, best options",
            "spec", "ft, M=500", "ft, M=500 + spec")  # fmt: skip
    rows = []
    for name in kept:
        cells = [name]
        for result in found.values():
            system = next((s for s in result["systems"] if s["system"] == name), None)
            for batch in (1, 8):
                speed = next((s for s in system["speed"] if s["batch_size"] == batch), None) if system else None
                cells.append(f"{speed['speed_up']:.2f}x" if speed else "")
        rows.append(cells)
    header = ["system", *(f"{corpus}, batch {batch}" for corpus in found for batch in (1, 8))]
    return [
        "## Table 3, Figures 4 and 7: drafts, and both methods together",
        "",
        "Speed-up over plain decoding of the same rows, outputs identical in every case; in full, with acceptance by position (Figure 4), on",
        "[its page](results/tasc_spec.md), made by `python benchmarks/tasc_spec.py`. The models are larger than this page's (2.5M and 4M parameters).",
        "",
        *_table(header, rows),
        "The paper, batch 1: TASC-spec 3.15x (Asclepius), 1.78x (MedQuAD), 2.17x (EUR-LEX); corpus alone 1.63x, 1.52x, 1.49x; N-Grammys mixed",
        "3.08x, 1.32x, 1.98x, bigrams 1.03x, 1.01x, 1.04x. It never combines its two methods: the last row does. On a CPU a pass over several tokens is",
        "not free, so that tokens per pass become speed only in part, and N-Grammys' ten drafted tokens cost more than they bring.",
        "",
        *_figure(
            drawn, "lambda", figures.lambdas(found), "Speed-up of the paper's drafter against lambda for three corpora"
        ),
        "Figure 7: the paper finds the best weight of the corpus between 0.5 and 0.75. Here it is 0.75, with 0.9 level on EUR-LEX.",
        "",
    ]


def _entropy(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    rows = []
    for corpus, one in found["corpora"].items():
        values = [_at(one, 4, budget, "train")["normalised_entropy"] for budget in (0, 150, 500, 1000)]
        rows.append([corpus, *(f"{value:.3f}" for value in values)])
    return [
        "## Appendix D: entropy of the output's tokens",
        "",
        "H / log V of the training outputs' tokens. The paper: EUR-LEX 0.423 before, 0.592 at M = 1,000; Asclepius 0.402 and 0.537.",
        "",
        *_figure(drawn, "entropy", figures.normalised_entropy(found["corpora"]), "Normalised entropy of output tokens against the budget for six corpora"),
        *_table(["corpus", "M=0", "M=150", "M=500", "M=1000"], rows),
        *_figure(drawn, "ranks", figures.by_rank(found["corpora"], found["ranks"]),
                 "Share of each output token against its rank for four budgets: merging flattens the head of the distribution"),
    ]  # fmt: skip


CLOSING = [
    "## What is missing",
    "",
    "- Pretrained models of 0.5B and more, QLoRA, a GPU: the targets are stand-ins, see above.",
    "- Asclepius and the summarisation sets (not among our data), BERTScore and the LLM judge.",
    "- One seed for the longer runs but for M = 0 and 500 on MASSIVE; the short ones have a second one on two corpora. Table 7 ends at 6 epochs, not 10.",
]
