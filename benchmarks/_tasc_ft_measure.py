"""Second half of tasc_ft.py: quality with intervals, speed in turns, predictors against runtime, the page."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _measuring import completer, drawn_rows, machine, metric_of
from _models import RESULTS, Preset, Scale, shared_split, stored
from tasc_ft import Variant, trained_variants

from tasc.bench import Speed, System, measure_quality, measure_speed, to_json
from tasc.corpus import Tasks, TokenCorpus
from tasc.corpus.variability import renyi_entropy
from tasc.decode import load_model
from tasc.evals import kendall_tau
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary
from tasc.vocab.budget import HEAD_SHARE, cost_of
from tasc.vocab.tokenizer import load_base_tokenizer

ROOT = Path(__file__).parents[1]


def measure_all(corpora: list[str], work: Path, scale: Scale, note: str = "") -> None:
    """Measure and write down; `note` is what readers of the times should know."""
    path = scale.results / "tasc_ft.json"
    for corpus in corpora:
        measured = measure(corpus, work, scale) | {"note": note}
        write_json(path, stored(path) | {corpus: measured})
    if scale.results == RESULTS:
        (ROOT / "docs" / "results" / "tasc_ft.md").write_text(page(stored(path)))


def measure(corpus: str, work: Path, scale: Scale) -> dict[str, Any]:
    preset = scale.presets[corpus]
    chosen = trained_variants(corpus, work)
    rows = drawn_rows(corpus, preset, scale.quality_rows)
    systems, predictors = [], []
    for variant in chosen:
        model = load_model(variant.folder(work), device=scale.device, dtype=scale.dtype)
        systems.append(System(variant.name, completer(model)))
        predictors.append(predict(variant, work, preset, rows))
    metric = metric_of(corpus, preset)
    quality = measure_quality(systems, rows, metric=metric, headline=preset.headline, batch_size=scale.quality_batch)
    timed = rows[: scale.timed_rows]
    batches = scale.batch_sizes if len(timed) else ()
    speeds = {b: measure_speed(systems, timed, batch_size=b, rounds=scale.rounds) for b in batches}
    return {
        "machine": machine(),
        "preset": asdict(preset),
        "rows": {"quality": len(rows), "timed": len(timed), "rounds": scale.rounds},
        "variants": [
            asdict(variant) | predictors[k]
            | to_json(systems[k], quality[k], [speeds[b][k] for b in batches], comparable=True)
            for k, variant in enumerate(chosen)
        ],
        "kendall": {str(b): taus(chosen, speeds[b], predictors) for b in batches},
    }  # fmt: skip


def predict(variant: Variant, work: Path, preset: Preset, test: Tasks) -> dict[str, float]:
    """What is known before training: H2 of the training outputs' tokens, and our expected cost on held-out outputs."""
    folder = variant.folder(work)
    vocabulary = EnrichedVocabulary.load(folder) if variant.budget else None
    tokenizer = load_base_tokenizer(folder) if vocabulary else load_model_tokenizer(folder)
    train, held_out = (TokenCorpus.encode(t.completions, tokenizer) for t in (
        shared_split(variant.corpus, "train", preset), shared_split(variant.corpus, "validation", preset)))  # fmt: skip
    vocabulary = vocabulary or EnrichedVocabulary(len(tokenizer), (), fingerprint=train.fingerprint)
    _, counts = np.unique(vocabulary.merge_corpus(train).tokens, return_counts=True)
    distinct, weights = train.unique()
    point = cost_of(vocabulary, distinct, weights, held_out, head_share=HEAD_SHARE)
    return {
        "h2_nats": renyi_entropy(counts, order=2),
        "shannon_nats": renyi_entropy(counts),
        "expected_steps": point.expected_steps,
        "expected_cost": point.relative_cost,
    }


def load_model_tokenizer(folder: Path) -> Any:
    from tasc.corpus import load_tokenizer

    return load_tokenizer(folder)


def taus(chosen: list[Variant], speeds: list[Speed], predictors: list[dict[str, float]]) -> dict[str, Any]:
    """Kendall's tau of each predictor against runtime over the budgets of seed 0; H2 should rise as runtime falls."""
    first = [k for k, variant in enumerate(chosen) if variant.seed == 0]
    ms = [speeds[k].ms.median for k in first]
    return {
        name: asdict(kendall_tau([predictors[k][name] for k in first], ms)) for name in ("h2_nats", "expected_cost")
    }


def page(results: dict[str, Any]) -> str:
    """docs/results/tasc_ft.md from the JSON."""
    lines = [
        "# TASC-ft on real tasks",
        "",
        "Made by `python benchmarks/tasc_ft.py`; every figure is in `benchmarks/results/tasc_ft.json`. The target models are Qwen2",
        "models of 2.5M or 4M parameters, trained from scratch on each task (`benchmarks/_models.py`) as stand-ins for a pretrained",
        "small language model: the comparison says something, the quality in itself does not. All models of a corpus start from",
        "the same target and are fine-tuned on the same rows in the same number of steps. Times: median of rounds in which the",
        "models take turns; the range is of the per-round ratio to the first baseline. Brackets: 95% bootstrap intervals over rows.",
    ]
    for corpus, result in results.items():
        lines += [
            "",
            f"## {corpus}",
            "",
            *_preset(result["preset"]),
            *([result["note"]] if result.get("note") else []),
            "",
            *quality_table(result),
            "",
            *_predictors(result),
        ]
    return "\n".join(lines) + "\n"


def _preset(preset: dict[str, Any]) -> list[str]:
    words = f", prompts cut to {preset['prompt_words']} words" if preset["prompt_words"] else ""
    return [
        f"Target: {preset['layers']} layers of width {preset['hidden_size']}, {preset['target_steps']:,} steps of {preset['rows']} "
        f"rows{words}; then {preset['tuning_steps']:,} steps for each model of the table.",
    ]


def quality_table(result: dict[str, Any]) -> list[str]:
    """A line for each model: quality, passes and, where they were measured, times."""
    headline = result["preset"]["headline"]
    batches = [s["batch_size"] for s in result["variants"][0]["speed"]]
    titles = ["model", headline, "difference", "tokens/output", "passes/output", "adoption"]
    titles += [f"ms/output, batch {b} | speed-up" for b in batches]
    header = "| " + " | ".join(titles) + " |"
    return [header, "|" + "---|" * header.count(" | ") + "---|", *(_line(v, headline) for v in result["variants"])]


def _line(v: dict[str, Any], headline: str) -> str:
    low, high = v["intervals"][headline]
    difference = v["headline_difference"]
    cells = [
        v["system"],
        f"{v['quality'][headline]:.3f} ({low:.3f}-{high:.3f})",
        f"{difference['value']:+.3f} ({difference['low']:+.3f}..{difference['high']:+.3f})" if difference else "",
        f"{v['tokens_per_output']:.1f}",
        f"{v['passes_per_output']:.2f}",
        f"{v['adoption']:.1%}" if v["adoption"] is not None else "",
    ]
    for s in v["speed"]:
        low, high = s["speed_up_range"]
        cells += [f"{s['ms_per_output']:.1f}", f"{s['speed_up']:.2f}x ({low:.2f}-{high:.2f})"]
    return "| " + " | ".join(cells) + " |"


def _predictors(result: dict[str, Any]) -> list[str]:
    rows = [v for v in result["variants"] if v["seed"] == 0]
    lines = ["| budget | H2 (nats) | expected cost |", "|---|---|---|"]
    lines += [f"| {v['budget']} | {v['h2_nats']:.2f} | {v['expected_cost']:.3f} |" for v in rows]
    if len(rows) < 3:  # a rank correlation of two says nothing
        return lines
    for batch, found in result["kendall"].items():
        named = {"h2_nats": "H2", "expected_cost": "expected cost"}
        values = "; ".join(f"{named[k]} {t['tau']:+.2f} (p = {t['p']:.2f})" for k, t in found.items())
        lines += ["", f"Kendall's tau against ms per output at batch {batch}, {len(rows)} budgets: {values}."]
    return lines
