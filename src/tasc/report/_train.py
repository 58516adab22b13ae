"""Reads the run folder of `tasc train`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasc.report.data import Ngram, Run, Training
from tasc.vocab import EnrichedVocabulary

SHOWN_NGRAMS = 24


def read_train(folder: Path, stored: Mapping[str, Any], *, name: str) -> Run:
    """A run from its run.json, finished or not, its metrics and its vocabulary."""
    vocabulary = EnrichedVocabulary.load(folder) if (folder / "enriched.json").is_file() else None
    report = stored.get("report")
    return Run(
        name=name,
        kind="train",
        facts=_facts(stored, report),
        warning="" if report else "This run is not finished: the same 'tasc train' command goes on with it.",
        verdict=() if report is None else _verdict(report),
        next_steps=() if report is None else _next_steps(vocabulary is not None),
        ngrams=() if vocabulary is None else ngrams_of(vocabulary),
        n_ngrams=0 if vocabulary is None else len(vocabulary),
        training=(read_training(folder, name),),
    )


def read_training(folder: Path, name: str) -> Training:
    """The curves in a folder's metrics.jsonl; a line that a killed process did not end is left out."""
    loss, evaluations = [], []
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "loss" in record:
            loss.append((record["step"], record["loss"]))
        if record.get("eval_nats_per_byte") is not None:
            evaluations.append((record["step"], record["eval_nats_per_byte"]))
    return Training(name, tuple(loss), tuple(evaluations))


def ngrams_of(vocabulary: EnrichedVocabulary) -> tuple[Ngram, ...]:
    """The n-grams that saved the most tokens in training."""
    ngrams = sorted(vocabulary.ngrams, key=lambda ngram: (-ngram.reward, ngram.ids))
    return tuple(Ngram(n.text, len(n.ids), n.count, n.reward) for n in ngrams[:SHOWN_NGRAMS])


def _facts(stored: Mapping[str, Any], report: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    options = stored["options"]
    facts = [("model", str(options["model"])), ("data", str(options["data"])), ("method", str(options["method"]))]
    if report is not None:
        facts += [
            ("steps", f"{report['steps']:,} ({report['epochs']:.2f} epochs)"),
            ("rows", f"{report['rows']:,}"),
            ("trained parameters", f"{report['trainable_parameters']:,} of {report['parameters']:,}"),
            ("target tokens per output", f"{report['tokens_per_output']:.1f}"),
            ("base tokens per output", f"{report['base_tokens_per_output']:.1f}"),
        ]
        if report["tokens_per_s"] is not None:
            facts.append(("tokens per second", f"{report['tokens_per_s']:,.0f}"))
    return tuple(facts)


def _verdict(report: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = report["base_tokens_per_output"], report["tokens_per_output"]
    shorter = "The model was trained on base tokens."
    if after < before:
        shorter = f"Training outputs take {after:.1f} instead of {before:.1f} tokens, {before / after:.2f} times fewer."
    if report["eval_nats_per_byte"] is None:
        return (shorter, "Without evaluation rows nothing is known about its quality.")
    return (
        shorter,
        f"Loss on {report['eval_rows']:,} evaluation rows: {report['eval_nats_per_byte']:.4f} nats per byte.",
    )


def _next_steps(enriched: bool) -> tuple[str, ...]:
    drafts = "Add drafts, which change no output: 'tasc draft build', then 'tasc generate --drafter ... --compare'."
    quality = "Measure quality and passes per output: 'tasc eval --model RUN --data test.jsonl --metric ...'."
    return (quality, drafts if enriched else drafts.replace("Add drafts", "Or add drafts"))
