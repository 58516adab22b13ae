"""Reads the run folder of `tasc demo`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasc.errors import VocabularyError
from tasc.evals import read_predictions
from tasc.files import read_json
from tasc.progress import Progress
from tasc.report import texts, verdict
from tasc.report._train import ngrams_of, read_training
from tasc.report.data import (
    Acceptance,
    Budgets,
    Drafts,
    Estimate,
    Metric,
    Run,
    Speed,
    System,
    TimeShares,
    Walk,
)
from tasc.report.shared import METRICS, MODELS, budget_point, file_name
from tasc.vocab import EnrichedVocabulary

HEADLINE_FIRST = {key: METRICS[key] for key in (*list(METRICS)[-1:], *list(METRICS)[:-1])}


def read_demo(folder: Path, found: Mapping[str, Any], *, name: str, progress: Progress) -> Run:
    """A run from its results.json and, as far as they are there, the other files of its folder."""
    systems = tuple(_system(folder, row, found) for row in found["systems"])
    vocabulary = _vocabulary(folder / "vocab")
    tokenizer = texts.tokenizer_of([folder / "baseline"])
    outputs = folder / "outputs-enriched.jsonl"
    samples = ()
    if vocabulary is not None and tokenizer is not None and outputs.is_file():
        samples = texts.samples(read_predictions(outputs), tokenizer, vocabulary)
    walks: list[Walk] = []
    for model, of_model in zip(MODELS, (None, vocabulary), strict=True):
        for system in systems:
            log = folder / f"requests-{file_name(system.name)}.jsonl"
            if tokenizer is None or system.changed is None or not log.is_file() or _model(system, systems) != model:
                continue
            walks += texts.walks(system.name, folder / f"{model}.tasc", log, tokenizer, of_model, progress)
    ngrams = () if vocabulary is None else ngrams_of(vocabulary)
    return Run(
        name=name,
        kind="demo",
        facts=_facts(folder, found),
        warning=verdict.QUICK if found["quick"] else "",
        verdict=(
            f"Predicted before training: {found['analysis']['recommendation']['text']}",
            *verdict.verdict(systems),
        ),
        next_steps=verdict.next_steps(quick=found["quick"]),
        systems=systems,
        test_rows=found["scale"]["test_rows"],
        ngrams=ngrams,
        n_ngrams=0 if vocabulary is None else len(vocabulary),
        samples=samples,
        budgets=_budgets(found),
        drafts=tuple(drafts_of(row["system"], row["drafts"]) for row in found["systems"] if row.get("drafts")),
        walks=tuple(walks),
        training=tuple(read_training(folder / model, model) for model in MODELS if (folder / model).is_dir()),
    )


def drafts_of(system: str, found: Mapping[str, Any]) -> Drafts:
    """What `tasc.decode.drafting.summary` gave."""
    counts = found.get("by_position")
    if counts:
        positions = tuple(Acceptance.of(str(place), *pair) for place, pair in enumerate(counts, 1))
    else:
        shares = enumerate(found["acceptance_by_position"], 1)
        positions = tuple(Acceptance(str(place), Estimate(share), None, None) for place, share in shares)
    sources = tuple(
        Acceptance.of(source, count["drafted"], count["accepted"]) for source, count in found["by_source"].items()
    )
    return Drafts(system, found["tokens_per_pass"], found["drafted_per_pass"], positions, sources)


def metrics_of(
    values: Mapping[str, float], intervals: Mapping[str, Any], labels: Mapping[str, str]
) -> tuple[Metric, ...]:
    """Quality in the order of `labels`, as far as it was measured."""
    return tuple(
        Metric(name, label, Estimate(values[name], *intervals.get(name, ())))
        for name, label in labels.items()
        if name in values
    )


def _system(folder: Path, row: Mapping[str, Any], found: Mapping[str, Any]) -> System:
    gap, time, name = row["headline_difference"], row.get("time"), row["system"]
    changed = row["outputs_changed_by_drafts"]
    is_reference = row is found["systems"][0]
    outputs = folder / f"outputs-{file_name(name)}.jsonl"
    rows = read_predictions(outputs) if outputs.is_file() else []
    return System(
        name=name,
        quality=metrics_of(row["quality"], row["intervals"], HEADLINE_FIRST) if changed is None or changed else (),
        difference=None if gap is None else Estimate(gap["value"], gap["low"], gap["high"]),
        budget=found["enriched"]["added"] if name.startswith("enriched") else 0,
        passes_per_output=row["passes_per_output"],
        tokens_per_output=row["tokens_per_output"],
        speeds=tuple(_speed(speed, row["comparable"] and not is_reference) for speed in row["speed"]),
        time=None if time is None else TimeShares(**time),
        passes=tuple(one.passes for one in rows if one.passes is not None),
        changed=changed,
    )


def _speed(speed: Mapping[str, Any], comparable: bool) -> Speed:
    ratio = Estimate(speed["speed_up"], *speed["speed_up_range"]) if comparable else None
    return Speed(speed["batch_size"], speed["ms_per_output"], ratio)


def _model(system: System, systems: tuple[System, ...]) -> str:
    return verdict.model_of(system, systems).name


def _budgets(found: Mapping[str, Any]) -> Budgets | None:
    if not found.get("budgets"):
        return None
    return Budgets(tuple(budget_point(point) for point in found["budgets"]), found["enriched"]["added"])


def _vocabulary(folder: Path) -> EnrichedVocabulary | None:
    try:
        return EnrichedVocabulary.load(folder)
    except VocabularyError:
        return None


def _facts(folder: Path, found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    scale = found["scale"]
    facts = [
        ("training rows", f"{scale['train_rows']:,}"),
        ("test rows", f"{scale['test_rows']:,}"),
        ("n-grams added", f"{found['enriched']['added']:,}"),
        ("training steps", f"{scale['steps']:,}"),
        ("seed", str(found["seed"])),
        ("minutes in all", f"{sum(found['seconds'].values()) / 60:.1f}"),
    ]
    return (*facts, *machine_facts(folder))


def machine_facts(folder: Path) -> tuple[tuple[str, str], ...]:
    """What run.json says about where it ran."""
    path = folder / "run.json"
    stored = read_json(path) if path.is_file() else {}
    machine, versions = stored.get("machine", {}), stored.get("versions", {})
    facts = []
    if machine:
        facts.append(("machine", f"{machine.get('cpus')} CPU cores, {machine.get('gpu') or 'no GPU'}"))
    if versions:
        facts.append(
            ("versions", ", ".join(f"{key} {versions[key]}" for key in ("tasc-lm", "torch") if key in versions))
        )
    return tuple(facts)
