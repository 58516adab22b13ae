"""Quality and runtime of the longer runs (the paper's Figures 3, 5, 6 and Tables 5, 7, 8, and two ablations)."""

import json
from collections.abc import Sequence
from typing import Any

from _measuring import completer, drawn_rows, machine, metric_of

from study.corpora import EPOCHS, RESULTS, Run, longer, preset
from tasc.bench import System, measure_quality, measure_speed, to_json
from tasc.decode import load_model
from tasc.files import write_json
from tasc.train.report import read_metrics

ROWS, TIMED_ROWS, ROUNDS, BATCH = 2000, 96, 5, 8


def measure() -> None:
    """Every group of runs that is there; a group is measured anew when it has a run more."""
    path = RESULTS / "quality.json"
    known = json.loads(path.read_text())["groups"] if path.exists() else {}
    for name, runs in groups().items():
        if len(known.get(name, [])) != len(runs):
            print(f"quality {name}", flush=True)
            known[name] = _measured(runs)
            write_json(path, {"machine": machine(), "rows": ROWS, "timed_rows": TIMED_ROWS, "rounds": ROUNDS,
                              "batch": BATCH, "groups": known})  # fmt: skip


def groups() -> dict[str, list[Run]]:
    """Runs that are compared with one another, the reference first. A run may be in several groups."""
    there = [run for run in longer() if run.is_there]

    def those(corpus: str, **fixed: Any) -> list[Run]:
        usual = {"size": "medium", "epochs": EPOCHS[corpus], "seed": 0, "pcs": None, "merge_dropout": 0.0} | fixed
        return [run for run in there if run.corpus == corpus and all(
            usual[name] is ... or getattr(run, name) == usual[name] for name in usual)]  # fmt: skip

    found = {f"budgets {corpus}": sorted(those(corpus), key=lambda run: run.budget) for corpus in EPOCHS}
    massive = "massive_en"
    for corpus, budget in (massive, 500), ("eurlex57k_short", 1000):
        by_epochs = [run for run in those(corpus, epochs=...) if run.budget in (0, budget)]
        found[f"epochs {corpus}"] = sorted(by_epochs, key=lambda run: (run.epochs, run.budget))
    found["family mistral"] = those("eurlex57k_short", size="mistral")
    found["seed 1 massive_en"] = those(massive, seed=1)
    plain = [run for run in those(massive) if run.budget == 500]
    found["pcs"] = plain + [run for run in those(massive, pcs=...) if run.pcs is not None]
    found["merge dropout"] = plain + [run for run in those(massive, merge_dropout=...) if run.merge_dropout]
    return {name: runs for name, runs in found.items() if len(runs) > 1}


def _measured(runs: Sequence[Run]) -> list[dict[str, Any]]:
    corpus = runs[0].corpus
    about = preset(corpus, runs[0].size)
    metric, headline, rows = metric_of(corpus, about), about.headline, drawn_rows(corpus, about, ROWS)
    systems = [System(run.name, completer(load_model(run.folder))) for run in runs]
    quality = measure_quality(systems, rows, metric=metric, headline=headline, batch_size=32)
    speeds = measure_speed(systems, rows[:TIMED_ROWS], batch_size=BATCH, rounds=ROUNDS)
    return [
        run.to_json() | {"headline": headline, "added": _added(run), "eval_nats_per_byte": _held_out_loss(run)}
        | to_json(system, found, [speed], comparable=True)
        for run, system, found, speed in zip(runs, systems, quality, speeds, strict=True)
    ]  # fmt: skip


def _added(run: Run) -> int:
    vocabulary = run.vocabulary()
    return len(vocabulary) if vocabulary else 0


def _held_out_loss(run: Run) -> float:
    """Nats per byte of the validation outputs after the last step."""
    return read_metrics(run.folder / "metrics.jsonl")["eval_nats_per_byte"]
