"""docs/reproduction.md and its figures, from the JSON of the study and of the benchmarks beside it."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study import figures, page_drafts, page_prediction
from study.corpora import CORPORA, RESULTS, ROOT, ROWS, SIZES
from study.markdown import Row, figure, signed, table, with_interval
from tasc.files import atomic_write

DOCS = ROOT / "docs"
# benchmarks whose results the page shows
BESIDE = ("variability", "initialisation", "initialisation_earlier", "tasc_ft", "tasc_ft_earlier", "tasc_spec")


def write(docs: Path = DOCS) -> None:
    """Write the page and its figures into the folder."""
    parts = ("shortening", "prediction", "prediction_earlier", "quality", "quality_earlier", "quality_timed_earlier")
    study = {name: _read(RESULTS / f"{name}.json", "-m study") for name in parts}
    beside = {name: _read(RESULTS.parent / f"{name}.json", f"{name}.py") for name in BESIDE}
    drawn: dict[str, str] = {}
    lines = [
        *_opening(study, beside),
        *_variability(beside["variability"]),
        *_shortening(study["shortening"], drawn),
        *_budgets(study, beside, drawn),
        *_precision_recall(study["quality"], drawn),
        *_epochs(study["quality"], drawn),
        *_family(study["quality"]["groups"]),
        *_ablations(study["quality"], beside),
        *page_prediction.section(study["prediction"], study["prediction_earlier"], study["shortening"], drawn),
        *page_drafts.section(beside["tasc_spec"], study["shortening"], drawn),
        *_entropy(study["shortening"], drawn),
        *_closing(study),
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


def _opening(study: dict[str, Any], beside: dict[str, Any]) -> list[str]:
    configurations = study["prediction"]["configurations"]
    trained = {run["size"] + json.dumps({k: run[k] for k in ("corpus", "budget", "n_max", "seed")})
               for one in configurations for run in one["runs"]}  # fmt: skip
    measured = sum(len(one["runs"]) for one in configurations)
    longer = {run["system"] for group in study["quality"]["groups"].values() for run in group}
    own, qwen = (study["prediction"]["summary"][tokens] for tokens in ("own", "qwen2.5"))
    sizes = ", ".join(f"{name}: {size.layers} layers of width {size.width}" for name, size in SIZES.items())
    gaps = {corpus: _gaps(runs) for corpus, runs in _by_epochs(study["quality"]["groups"]).items()}
    return [
        "# The paper's evidence, on real data",
        "",
        "The tables and figures of *Task-Centric Acceleration of Small-Language Models* (arXiv 2602.24174), made again as far as",
        "we can without its models and hardware; our figures beside the paper's, what differs, and [what is missing](#what-is-missing). Made by",
        "`cd benchmarks && python -m study` and by the benchmarks that a section names; what the page shows is in",
        "`benchmarks/results/study/` and `benchmarks/results/`. Runtimes of the short runs were first measured in other ways;",
        "[those measurements](#section-61-and-appendix-e-predicting-runtime-before-training) were given up, and not all of their raw values were kept.",
        "",
        "**What differs.** The paper fine-tunes Qwen2.5-0.5B and 3B, Llama-3-8B and Mistral-7B with QLoRA on GPUs. This was made on two",
        "CPU cores without a model hub, so a *target* stands in for the pretrained model: a Qwen2 model, once a Mistral one",
        f"({sizes}; {len(CORPORA)} tasks, a byte-level BPE of 2,000 tokens each, for *qwen-tokens* the part of Qwen2.5's that the task uses) trained from scratch on the task in base tokens, then fine-tuned",
        "with and without n-grams on the same rows for the same number of steps, all weights. Comparisons inside a table hold; absolute quality",
        "says nothing about a pretrained model. Passes of such small models cost mostly the library's overhead, so runtime follows the",
        "number of passes more closely than on a GPU with a large head. The data sets are public ones of the same kinds (EUR-LEX and",
        "MASSIVE are the paper's); Asclepius and the summarisation sets are not here, and no LLM judges.",
        "",
        *table(
            ["the paper's claim", "here", ""],
            [
                ["outputs of many tasks vary less than their inputs (Table 1)", _less_varied(beside["variability"]),
                 "[below](#table-1-variability-of-inputs-and-outputs)"],
                ["outputs shorten by 2x or more with up to 1,000 n-grams (Figure 2)", _halved(study["shortening"]),
                 "[below](#figure-2-output-length-against-the-budget)"],
                ["the same quality (Figure 3, Tables 5 and 8)",
                 f"only with enough training: joint accuracy on MASSIVE with 500 n-grams less that without them is {gaps['massive_en']}; "
                 f"micro-F1 on EUR-LEX with 1,000: {gaps['eurlex57k_short']}",
                 "[below](#figure-3-tables-5-and-8-quality-and-runtime-against-the-budget)"],
                ["H2 predicts the order of runtimes: mean tau -0.964, 92% of directions (section 6.1)",
                 f"mean tau {-own['h2_nats']['mean_tau']:.3f}, {_rate(own['h2_nats'])} of directions with tokens of the task's own, and "
                 f"{-qwen['h2_nats']['mean_tau']:.3f} with Qwen2.5's at small M; held-out steps x step time {own['steps_ms']['mean_tau']:.3f} and {qwen['steps_ms']['mean_tau']:.3f}, M itself "
                 f"{own['budget']['mean_tau']:.3f} and {qwen['budget']['mean_tau']:.3f}",
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
        *table(["corpus", "the paper's task", "H in", "H out", "delta H", "CDF80 in / out"], rows),
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
        "Qwen2.5 tokens, Algorithm 1, PCS off; counts and no times, so that its JSON names no machine. `python -m study shortening`.",
        "",
        *figure(drawn, "length", figures.by_budget(corpora, "tokens_per_output", "tokens per output"),
                "Tokens per output against the budget for six corpora; they fall fast up to about 250 n-grams"),
        *figure(drawn, "bytes", figures.by_budget(corpora, "bytes_per_token", "bytes per token"),
                "Bytes per output token against the budget for six corpora; the mirror image of the output length"),
        "Times shorter with M n-grams, train / test, and bytes per token of test outputs at M = 0 and 1,000:",
        "",
        *table(["corpus", "n up to", "tokens per test output", "M=150", "M=500", "M=1000", "bytes per token"], rows),
        "The paper: EUR-LEX 2.65 times shorter at M = 1,000, bytes per token 2.67 times as many; ours is 2.4 on a shortened EUR-LEX",
        "whose documents have fewer labels. The training curve is what mining sees; held-out outputs follow it closely (on MASSIVE and SNIPS",
        "to M = 500) and fall behind it on POS tags, where late n-grams are words that do not come again.",
        f"n up to 4 instead of 2 shortens most at small budgets: {_longest_gain(corpora, 150)}; {_longest_gain(corpora, 1000)}. Longer n-grams",
        "arise from merges of merges with n up to 2 as well, but take more of the budget.",
        "",
    ]  # fmt: skip


def _at(one: Row, n_max: int, budget: int, split: str) -> Row:
    return next(p for p in one["points"] if (p["n_max"], p["budget"], p["split"]) == (n_max, budget, split))


def _longest_gain(corpora: dict[str, Any], budget: int) -> str:
    """Where n up to 4 shortens most beside n up to 2, in training outputs."""

    def shorter(corpus: str, n_max: int) -> float:
        one = corpora[corpus]
        return _at(one, n_max, 0, "train")["tokens_per_output"] / _at(one, n_max, budget, "train")["tokens_per_output"]

    corpus = max(corpora, key=lambda name: shorter(name, 4) / shorter(name, 2))
    two, four = shorter(corpus, 2), shorter(corpus, 4)
    return f"by up to {four / two - 1:.0%} at M = {budget:,} ({corpus}: {two:.2f} times with 2, {four:.2f} with 4)"


PAPER_MASSIVE = {0: (90.4, 76.45, 63.0, 302), 250: (91.5, 77.0, 64.6, 260), 500: (91.3, 77.0, 64.3, 258.9),
                 1000: (91.1, 76.2, 63.4, 256)}  # fmt: skip


def _budgets(study: dict[str, Any], beside: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    found, groups = study["quality"], _by_budget(study["quality"])
    lines = [
        "## Figure 3, Tables 5 and 8: quality and runtime against the budget",
        "",
        f"Targets of size *medium*; {found['rows']:,} test rows for quality, 95% bootstrap intervals over rows, paired differences to M = 0;",
        f"runtime over {found['timed_rows']} rows at batch {found['batch']} in {found['rounds']} rounds in turns, one thread, the other core idle but for 40 seconds. `python -m study train quality`.",
        "",
        *figure(drawn, "quality", figures.quality(groups, ("joint_accuracy", "micro_f1"), "score (95% interval)", runtime=True),
                 "Left: joint accuracy and micro-F1 against the budget with intervals; right: milliseconds per output"),
    ]  # fmt: skip
    for name, runs in groups.items():
        lines += [f"**{name}** ({runs[0]['epochs']:g} epochs)", "", *_quality_table(runs)]
    lines += [*_second_seed(found["groups"]), *_trained_earlier(groups, _by_budget(study["quality_earlier"]))]
    lines += _timed_earlier(found["groups"], study["quality_timed_earlier"]["groups"])
    rows = [
        [m, f"{a} / {b} / {c}", f"{ms} ms", f"{PAPER_MASSIVE[0][3] / ms:.2f}x"]
        for m, (a, b, c, ms) in PAPER_MASSIVE.items()
    ]
    return [
        *lines,
        "The paper, MASSIVE en with Qwen2.5-0.5B:",
        "",
        *table(["M", "intent / slot F1 / joint", "runtime", "speed-up"], rows),
        "On EUR-LEX the paper has 2.1x at M = 1,000. It finds the quality kept at every budget; on Asclepius BERTScore is, while its LLM judge (1 to 4) falls from 3.53",
        "to between 3.15 and 3.25 with 150 to 1,000 n-grams, which it calls negligible. After trainings as short as ours the quality is not kept: n-grams begin",
        "with untrained rows and lose the more, the more of them there are and the fewer steps there were. The gap closes with steps",
        "([below](#table-7-epochs)), and after the longest trainings made here, of larger models, n-grams change the score by little more than another seed of the",
        "baseline (M = 0 below) or another machine does: all but M = 2,000 were trained before, with the same seeds, on a machine whose sums round otherwise",
        "([TASC-ft on real tasks](results/tasc_ft.md), the earlier ones in `benchmarks/results/tasc_ft_earlier.json`):",
        "",
        *_longest(beside["tasc_ft"], beside["tasc_ft_earlier"]),
        "*Unfinished* outputs ran into the limit. At batch 8 one of them holds up its batch, so that a model which fails to end one output in a hundred loses much",
        "of its speed (perhaps why M = 500 is slower than 250 above, in fewer passes: of the timed rows this was not counted): check `unfinished` of `tasc eval` before the speed.",
        "",
    ]


def _second_seed(groups: dict[str, Any]) -> list[str]:
    again = groups["seed 1 massive_en"][-1]
    first = next(run for run in groups["budgets massive_en"] if run["budget"] == again["budget"])
    both = " and ".join(signed(run["headline_difference"]) for run in (first, again))
    return [
        f"massive_en at M = {again['budget']}, difference to M = 0 with the first and with a second seed of the tuning: {both}.",
        "",
    ]


def _trained_earlier(groups: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """The same runs with the same seeds, trained on another machine: its sums round otherwise."""
    rows = []
    for corpus, runs in groups.items():
        before = {run["budget"]: run for run in earlier[corpus]}
        for run in runs:
            old, score = before[run["budget"]], run["headline"]
            gaps = [one["headline_difference"] for one in (old, run)]
            rows.append([corpus, run["budget"], f"{old['quality'][score]:.3f}", f"{run['quality'][score]:.3f}",
                         *(signed(gap) if gap else "" for gap in gaps),
                         f"{old['passes_per_output']:.2f}", f"{run['passes_per_output']:.2f}"])  # fmt: skip
    header = ["corpus", "M", "score, earlier", "now", "difference to M=0, earlier", "now", "passes, earlier", "now"]
    return [
        "All of these were trained twice, with the same seeds: the first time on another machine, whose sums round otherwise",
        "(`benchmarks/results/study/quality_earlier.json`, all runs of this page's longer trainings but EUR-LEX's of Table 7).",
        "",
        *table(header, rows),
    ]


def _timed_earlier(groups: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """The same models, measured before a change of the decoding loop."""
    pairs = [pair for name, runs in groups.items() for pair in zip(runs, earlier[name], strict=True)]
    same = sum(all(now[key] == old[key] for key in ("quality", "passes_per_output")) for now, old in pairs)
    speeds = [[run["speed"][0]["speed_up"] for run in pair] for pair in pairs]
    apart = sorted(abs(now / old - 1) for now, old in speeds)
    return [
        f"The {len(pairs)} measurements of this section, of Table 7 and of the ablations were made twice, on the same models, before and after decoding chose the",
        f"likeliest id by numpy (`benchmarks/results/study/quality_timed_earlier.json`): quality and passes are the same in {same} of them, speed-ups differ by",
        f"{apart[len(apart) // 2]:.0%} in the median and {apart[-1]:.0%} at most.",
        "",
    ]


def _longest(found: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """Quality of the models of tasc_ft.py, against the first baseline."""
    before = {
        (corpus, variant["budget"], variant["seed"]): signed(variant["headline_difference"])
        for corpus, result in earlier.items()
        for variant in result["variants"]
        if variant["headline_difference"]
    }
    rows = [
        [corpus, f"{result['preset']['tuning_steps']:,}", variant["budget"], variant["seed"], with_interval(variant, result["preset"]["headline"]),
         signed(variant["headline_difference"]), before.get((corpus, variant["budget"], variant["seed"]), "")]
        for corpus, result in found.items()
        for variant in result["variants"]
        if variant["headline_difference"]
    ]  # fmt: skip
    return table(["corpus", "steps", "M", "seed", "score", "difference to M=0, seed 0", "earlier"], rows)


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
            signed(difference) if difference else "",
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
    return table(header, rows)


def _by_budget(found: dict[str, Any]) -> dict[str, Sequence[Row]]:
    """The runs that differ in their budget alone, by corpus."""
    return {name.removeprefix("budgets "): runs for name, runs in found["groups"].items() if name.startswith("budgets")}


def _precision_recall(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    groups = _by_budget(found)
    rows = []
    for name, runs in groups.items():
        kind = "slot" if "slot_precision" in runs[0]["quality"] else "micro"
        for run in runs:
            values = (with_interval(run, f"{kind}_{what}") for what in ("precision", "recall"))
            rows.append([name, run["budget"], *values])
    scores = ("slot_precision", "slot_recall", "micro_precision", "micro_recall")
    return [
        "## Figures 5 and 6: precision and recall",
        "",
        *figure(drawn, "precision_recall", figures.quality(groups, scores, "precision, recall (95% interval)", runtime=False),
                 "Precision and recall against the budget for slots of MASSIVE and labels of EUR-LEX"),
        *table(["corpus", "M", "precision", "recall"], rows),
        *(line for name, runs in groups.items() for line in _precision_recall_words(name, runs)),
        "We have no numbers of the paper's two figures to set beside these.",
        "",
    ]  # fmt: skip


def _precision_recall_words(name: str, runs: Sequence[Row]) -> list[str]:
    """From no n-grams to the fewest and to the most, and whether the intervals of the ends are apart."""
    kind = "slot" if "slot_precision" in runs[0]["quality"] else "micro"
    said = []
    for what in ("precision", "recall"):
        first, fewest, most = (runs[k]["quality"][f"{kind}_{what}"] for k in (0, 1, -1))
        (low, high), (low_most, high_most) = (runs[k]["intervals"][f"{kind}_{what}"] for k in (0, -1))
        apart = "intervals apart" if low > high_most or low_most > high else "intervals overlap"
        said.append(f"{what} {first:.3f} → {fewest:.3f} → {most:.3f} ({apart})")
    budgets = " → ".join(f"{runs[k]['budget']:,}" for k in (0, 1, -1))
    return [f"{name}, M = {budgets}: {', '.join(said)}.", ""]


PAPER_EPOCHS = (
    "The paper, EUR-LEX at M = 1,000: micro-F1 0.624 / 0.647 / 0.655 / 0.637 after 1 / 3 / 5 / 10 epochs, best after 5."
)


def _epochs(found: dict[str, Any], drawn: dict[str, str]) -> list[str]:
    by_corpus = _by_epochs(found["groups"])
    lines = [
        "## Table 7: epochs",
        "",
        f"Targets of size *medium*, {ROWS:,} training rows. {PAPER_EPOCHS}",
        "",
        *figure(
            drawn,
            "epochs",
            figures.epochs(by_corpus),
            "Joint accuracy on MASSIVE and micro-F1 on EUR-LEX against the epochs of fine-tuning",
        ),
    ]
    for corpus, runs in by_corpus.items():
        budgets, lengths = sorted({run["budget"] for run in runs}), sorted({run["epochs"] for run in runs})
        score = runs[0]["headline"].replace("_", " ")
        rows = []
        for epochs in lengths:
            pair = [next(r for r in runs if (r["epochs"], r["budget"]) == (epochs, budget)) for budget in budgets]
            rows.append([f"{epochs:g}", *(with_interval(run, run["headline"]) for run in pair),
                         *(f"{run['eval_nats_per_byte']:.4f}" for run in pair)])  # fmt: skip
        header = ["epochs", *(f"{score}, M={m}" for m in budgets), *(f"loss, nats/byte, M={m}" for m in budgets)]
        lines += [f"**{corpus}**", "", *table(header, rows), *_epochs_words(runs, lengths, budgets)]
    return [
        *lines,
        "New rows need more steps than the rest. So small a model's micro-F1 on EUR-LEX falls from the first epoch on without n-grams, while its loss",
        "falls for five: the gap closes from both sides there, on MASSIVE from below alone.",
        "",
    ]


def _by_epochs(groups: dict[str, Any]) -> dict[str, Sequence[Row]]:
    """The runs of Table 7 by corpus."""
    found = [runs for name, runs in groups.items() if name.startswith("epochs ")]
    return {runs[0]["corpus"]: runs for runs in found}


def _epochs_words(runs: Sequence[Row], lengths: Sequence[float], budgets: Sequence[int]) -> list[str]:
    quality = {(r["epochs"], r["budget"]): r["quality"][r["headline"]] for r in runs}
    best = {m: max(lengths, key=lambda e: quality[e, m]) for m in budgets}
    return [
        f"Best after {_epochs_of(best[0])} without and {_epochs_of(best[budgets[-1]])} with n-grams; the difference that they make is {_gaps(runs)}.",
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
    return ", ".join(f"{quality[e, budget] - quality[e, 0]:+.3f} after {_epochs_of(e)}" for e in lengths)


def _epochs_of(n: float) -> str:
    return f"{n:g} epoch{'s' * (n > 1)}"


def _ablations(found: dict[str, Any], beside: dict[str, Any]) -> list[str]:
    groups, initialisation, earlier = found["groups"], beside["initialisation"], beside["initialisation_earlier"]
    pcs = [["off" if r["pcs"] is None else f"{r['pcs']:g}", r["added"], *_ablated(r)] for r in groups["pcs"]]
    dropout = [[f"{r['merge_dropout']:g}", r["added"], *_ablated(r)] for r in groups["merge dropout"]]
    shared = ["n-grams", "joint accuracy", "difference to the first", "passes", "adoption", "loss, nats/byte"]
    means, before = _mean_losses(initialisation), _mean_losses(earlier)
    rows = [[init, *(f"{loss:.3f}" for loss in losses)] for init, losses in means.items()]
    apart = max(abs(a - b) for init, losses in means.items() for a, b in zip(losses, before[init], strict=True))
    at = [f"{kind}, step {step}" for kind in ("tied", "untied") for step in initialisation["eval_at"]]
    return [
        "## Ablations: initialisation, PCS, merge dropout",
        "",
        "**Initialisation** of the new rows, held-out nats per byte, mean of two seeds (`python benchmarks/initialisation.py`). The paper takes the mean",
        "of the parts' rows; weights that favour the last part in the embedding and the first in the head (`exp`, ours by default) are better at every point.",
        "",
        *table(["init", *at], rows),
        f"An earlier run on another machine (`benchmarks/results/initialisation_earlier.json`) differs by {apart:.3f} at most.",
        "",
        "**PCS** threshold alpha: n-grams whose end could keep greedy decoding from longer words are left out; massive_en, M = 500.",
        "",
        *table(["alpha", *shared], pcs),
        "**Merge dropout**: the probability that an occurrence of an n-gram is spelt in base tokens in training, drawn anew each epoch; M = 500.",
        "",
        *table(["dropout", *shared], dropout),
    ]


def _mean_losses(initialisation: dict[str, Any]) -> dict[str, list[float]]:
    """Of each way to begin, over the seeds: tied at each step that was measured, then untied."""
    records, steps = initialisation["records"], range(len(initialisation["eval_at"]))
    return {
        init: [
            statistics.mean(r["losses"][k] for r in records if (r["init"], r["tied"]) == (init, tied))
            for tied in (True, False)
            for k in steps
        ]
        for init in dict.fromkeys(r["init"] for r in records)
    }


def _ablated(run: Row) -> list[str]:
    difference = run["headline_difference"]
    return [with_interval(run, run["headline"]), signed(difference) if difference else "", f"{run['passes_per_output']:.2f}",
            f"{run['adoption']:.1%}", f"{run['eval_nats_per_byte']:.4f}"]  # fmt: skip


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
        *figure(drawn, "entropy", figures.normalised_entropy(found["corpora"]), "Normalised entropy of output tokens against the budget for six corpora"),
        *table(["corpus", "M=0", "M=150", "M=500", "M=1000"], rows),
        *figure(drawn, "ranks", figures.by_rank(found["corpora"], found["ranks"]),
                 "Share of each output token against its rank for four budgets: merging flattens the head of the distribution"),
    ]  # fmt: skip


def _closing(study: dict[str, Any]) -> list[str]:
    groups = study["quality"]["groups"]
    pcs = [f"{run['pcs']:g}" for run in groups["pcs"] if run["pcs"] is not None]
    dropout = [f"{run['merge_dropout']:g}" for run in groups["merge dropout"] if run["merge_dropout"]]
    lost = [str(one["configurations"]) for one in study["prediction"]["given_up"] if not one["raw"]]
    lines = [
        "## What is missing",
        "",
        "- Pretrained models of 0.5B and more, QLoRA: the targets are stand-ins, see above. Two tasks at 0.5B, from scratch, on a GPU: [apart](results/gpu.md).",
        "- Asclepius and the summarisation sets (not among our data), BERTScore and the LLM judge.",
        "- One seed for the longer runs but for M = 0 and 500 on MASSIVE; the short ones have a second one on two corpora.",
        f"- PCS and merge dropout are single points (alpha {', '.join(pcs)}; probability {', '.join(dropout)}), each of one seed, corpus and budget.",
    ]
    if lost:
        lines.append(
            f"- The raw values of {len(lost)} measurements of runtimes that were given up, of {' and '.join(lost)} configurations, were not kept."
        )
    return lines
