"""Table 1 of the paper for real data: `tasc analyze` over the six corpora, as a page of the docs and as JSON.

    python benchmarks/variability.py

reads the train split of each corpus under `$TASC_SHARED/data` (default `../shared/data`), predicts on the validation
split, and writes docs/results/variability.md and benchmarks/results/variability.json. A few minutes on two cores, most of them for the inputs of eurlex57k_short.
"""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasc.analysis import BUDGETS, analyze
from tasc.cli._console import console, progress
from tasc.corpus import load_tasks, load_tokenizer
from tasc.files import atomic_write, write_json

ROOT = Path(__file__).resolve().parent.parent
CORPORA = {
    "massive_en": "intent and slots",
    "snips": "intent and slots",
    "ud_ewt_pos": "POS tagging",
    "eurlex57k_short": "multi-label classification (legal)",
    "medquad": "question answering (medical)",
    "stories": "creative writing",
}


def main() -> None:
    options = _options()
    tokenizer = load_tokenizer(options.shared / "tokenizers" / options.tokenizer)
    corpora = {}
    for name in options.corpora:
        console.print(f"{name}", style="bold")
        corpora[name] = _measure(options.shared / "data" / name, tokenizer)
    result = {
        "command": "python benchmarks/variability.py",
        "tokenizer": options.tokenizer,
        "versions": {package: version(package) for package in ("tasc-lm", "tokenizers", "transformers", "numpy")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "corpora": corpora,
    }
    write_json(ROOT / "benchmarks" / "results" / "variability.json", result)
    page = render(corpora, options.tokenizer)
    with atomic_write(ROOT / "docs" / "results" / "variability.md") as file:
        file.write(page)
    sys.stdout.write(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("TASC_SHARED") or ROOT.parent / "shared")
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and tokenizers/")
    parser.add_argument("--tokenizer", default="qwen2.5", help="name of a folder in tokenizers/")
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=list(CORPORA))
    return parser.parse_args()


def _measure(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """One corpus; paths give way to names, so that the result reads the same on every machine."""
    begin = time.perf_counter()
    tasks, held_out = load_tasks(folder, split="train"), load_tasks(folder, split="validation")
    report = analyze(tasks, tokenizer, eval_tasks=held_out, progress=progress).to_dict()
    report["source"] = f"{folder.name}, train"
    report["held_out"]["source"] = f"{folder.name}, validation"
    return report | {"seconds": round(time.perf_counter() - begin, 1)}


def render(corpora: dict[str, dict[str, Any]], tokenizer: str) -> str:
    """The page of the docs."""
    parts = [
        "# Variability of six tasks",
        f"What `tasc analyze` finds for six public data sets (train split, {tokenizer} tokenizer; predictions on the "
        "validation split). The first table is the paper's Table 1 for real data: word bigrams of inputs and outputs. "
        "How to read the figures: [Analyze](../analyze.md).",
        _markdown(
            [
                "corpus",
                "task",
                "rows",
                "distinct outputs",
                "H in",
                "H out",
                "delta H",
                "CDF80 in",
                "CDF80 out",
                "ratio",
            ],
            [_table1_row(name, report) for name, report in corpora.items()],
        ),
        "H: Shannon entropy in bits. CDF80: how many of the most frequent bigrams make up 80% of all.",
        "Output tokens and what is predicted for them: how many times shorter held-out outputs get with M n-grams "
        "(Algorithm 1, n-grams of up to 4 tokens, end token not counted), and tokens per target pass of a drafter that "
        "knows the training outputs only.",
        _markdown(
            [
                "corpus",
                "tokens per output",
                "H / log V",
                "H2 (nats)",
                *(f"M={m}" for m in BUDGETS),
                "drafter",
                "advice",
            ],
            [_prediction_row(name, report) for name, report in corpora.items()],
        ),
        "In the words of the command:",
        "\n".join(f"- **{name}**: {report['recommendation']['text']}" for name, report in corpora.items()),
        "Made by `python benchmarks/variability.py`; all figures are in `benchmarks/results/variability.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _table1_row(name: str, report: dict[str, Any]) -> list[str]:
    inputs, outputs = report["input"], report["output"]
    return [
        name,
        CORPORA[name],
        f"{report['rows']:,}",
        f"{outputs['distinct']:,}",
        f"{inputs['bigram_entropy_bits']:.2f}",
        f"{outputs['bigram_entropy_bits']:.2f}",
        f"{report['delta_entropy']:+.1%}",
        f"{inputs['bigrams_cdf80']:,}",
        f"{outputs['bigrams_cdf80']:,}",
        f"{report['cdf80_ratio']:.2f}",
    ]


def _prediction_row(name: str, report: dict[str, Any]) -> list[str]:
    advice = report["recommendation"]
    budget = f", M={advice['budget']}" if advice["budget"] else ""
    return [
        name,
        f"{report['output']['tokens_mean']:.1f}",
        f"{report['output']['normalised_entropy']:.3f}",
        f"{report['h2_nats']:.2f}",
        *(f"{s['ratio']:.2f}" for s in report["predicted_shortening"]),
        f"{report['drafting']['tokens_per_pass']:.2f}",
        f"{advice['verdict']}{budget}",
    ]


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
