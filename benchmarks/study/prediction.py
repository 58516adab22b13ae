"""What was known before training, and the runtime that came out (the paper's section 6.1 and Appendix E).

A configuration is a corpus, a size of model, a longest n-gram and a seed; only the budget varies inside one. Its models take
turns, a few rows each, on the same test rows, greedy, one at a time: those that all of them complete in the task's form, since a
model after a short training does not always end, and then its runtime says nothing about its tokens. Predictors: the budget M
itself, which whatever else is said must beat; H2 of the merged training outputs, which should rise where runtime falls; steps of
*validation* outputs, alone and times the time of a step; and the same with the expected steps of `tasc enrich --budget auto`.
"""

import json
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _measuring import completer, drawn_rows, machine, metric_of
from numpy.typing import NDArray
from scipy.stats import binomtest
from transformers import AutoConfig, AutoModelForCausalLM

from study.corpora import BUDGETS, RESULTS, SIZES, Run, at_once, base_tokenizer, grid, preset, split, target
from tasc.bench import System, measure_speed
from tasc.corpus import TokenCorpus
from tasc.corpus.variability import ngram_counts, renyi_entropy
from tasc.decode import load_model
from tasc.decode.profile import profile
from tasc.evals import Metric, Ratio, kendall_tau
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary
from tasc.vocab.budget import cost_of

ROWS, ROUNDS, TURN = 80, 9, 4
TURNS, PASSES = 4, 20  # of each size of head; the fastest counts
# the sign of Kendall's tau with runtime, if the predictor is right
PREDICTORS = {"budget": -1, "h2_nats": -1, "steps": 1, "expected_steps": 1, "steps_ms": 1, "expected_ms": 1}
NOISE = 0.02  # runtimes that differ by less are not told apart


def measure(workers: int) -> None:
    """Every configuration that was trained; those measured before are kept."""
    path = RESULTS / "prediction.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    known = before.get("configurations", [])
    measured = {one["name"]: len(one["runs"]) for one in known}
    todo = [(runs,) for runs in configurations() if measured.get(name_of(runs)) != len(runs)]
    known = [one for one in known if one["name"] not in {name_of(runs) for (runs,) in todo}]
    if before and not todo:
        _write(path, before, known)  # the same measurements, summed up as this code does
    for found in at_once(_configuration, todo, workers):
        print(f"prediction {found['name']}", flush=True)
        known = sorted([*known, found], key=lambda one: one["name"])
        how = {"machine": machine(), "at_once": workers, "rows": ROWS, "rounds": ROUNDS, "turn": TURN, "noise": NOISE}
        # measurements in another way, with the reason
        _write(path, how | {"given_up": before.get("given_up", [])}, known)


def _write(path: Path, about: dict[str, Any], known: Sequence[dict[str, Any]]) -> None:
    by_tokens: dict[str, list[dict[str, Any]]] = {}
    for one in known:
        by_tokens.setdefault(SIZES[one["size"]].tokens, []).append(one)
    write_json(path, about | {"summary": {t: summary(some) for t, some in by_tokens.items()}, "configurations": known})


def name_of(runs: Sequence[Run]) -> str:
    last = runs[-1]
    return f"{last.corpus}-{last.size}-n{last.n_max}-s{last.seed}"


def _configuration(runs: Sequence[Run]) -> dict[str, Any]:
    corpus, size = runs[0].corpus, runs[0].size
    step_ms = step_times(corpus, size, [run.budget for run in runs])
    return {"name": name_of(runs), "corpus": corpus, "size": size, "step_ms": step_ms, **_measured(runs)}


def configurations() -> list[list[Run]]:
    """The trained runs by configuration, by rising budget; the baseline belongs to every longest n-gram."""
    there = [run for run in grid() if run.is_there]
    keys = dict.fromkeys((run.corpus, run.size, run.seed, run.n_max) for run in there if run.budget)
    return [
        sorted(
            (
                run
                for run in there
                if (run.corpus, run.size, run.seed) == key[:3] and (not run.budget or run.n_max == key[3])
            ),
            key=lambda run: run.budget,
        )
        for key in keys
    ]


def _measured(runs: Sequence[Run]) -> dict[str, Any]:
    """Runtimes on the rows that all models complete, and what each model did with all rows."""
    corpus = runs[0].corpus
    about = preset(corpus, runs[0].size)
    metric, rows = metric_of(corpus, about), drawn_rows(corpus, about, ROWS)
    known = known_before(runs)
    systems = [System(run.name, completer(load_model(run.folder))) for run in runs]
    completed = [system.complete(rows, 1, lambda n: None) for system in systems]  # also a warm-up
    ended = np.array([done.generated.ended for done in completed])
    wrong = np.array([_malformed(metric, done.texts, rows.completions) for done in completed])
    kept = np.flatnonzero((ended & ~wrong).all(axis=0))
    speeds = measure_speed(systems, [rows[int(i)] for i in kept], batch_size=1, rounds=ROUNDS, turn=TURN)
    found = [
        run.to_json() | before | {
            "ms_per_output": speed.ms.median,
            "ms_rounds": list(speed.ms.values),
            "passes_per_output": float(np.mean(np.array(done.generated.passes)[kept])),
            "base_tokens_per_output": float(np.mean(np.array(done.tokens)[kept])),
            "adoption": done.adoption,
            "malformed": float((wrong | ~np.array(done.generated.ended)).mean()),
        }
        for run, before, speed, done, wrong in zip(runs, known, speeds, completed, wrong, strict=True)
    ]  # fmt: skip
    return {"rows": len(kept), "runs": found}


def _malformed(metric: Metric, texts: Sequence[str], expected: Sequence[str]) -> NDArray[np.bool_]:
    """Which outputs are not of the task's form."""
    share = metric.measure(texts, expected).statistics["malformed"]
    assert isinstance(share, Ratio)
    return share.numerators > 0


def known_before(runs: Sequence[Run]) -> list[dict[str, float]]:
    """What can be said of each run without training: H2 of the training outputs, expected steps of validation outputs."""
    corpus = runs[0].corpus
    tokenizer = base_tokenizer(corpus, runs[0].size)
    train, held_out = (TokenCorpus.encode(split(corpus, s).completions, tokenizer) for s in ("train", "validation"))
    distinct, found = train.unique(), []
    for run in runs:
        vocabulary = run.vocabulary() or EnrichedVocabulary(len(tokenizer), (), fingerprint=train.fingerprint)
        counts = ngram_counts(vocabulary.merge_corpus(train), 1)
        point = cost_of(vocabulary, *distinct, held_out)
        found.append(
            {
                "h2_nats": renyi_entropy(counts, 2),
                "shannon_nats": renyi_entropy(counts),
                "steps": point.steps_per_output,
                "expected_steps": point.expected_steps,
            }
        )
    return found


def step_times(corpus: str, size: str, budgets: Sequence[int]) -> list[float]:
    """Milliseconds of a pass over one token with so many rows more in the head, from models of random weights.

    The models take turns. A line is fitted to the fastest pass of each; it does not fall, as more rows save no time.
    """
    config = AutoConfig.from_pretrained(target(corpus, size))
    base_size, models = config.vocab_size, []
    for budget in BUDGETS:
        config.vocab_size = base_size + budget
        models.append(AutoModelForCausalLM.from_config(config))
    turns = [
        [profile(one, tokens=(1, 2), batch_sizes=(1,), contexts=(64,), repeats=PASSES).ms[0][0][0] for one in models]
        for _ in range(TURNS)
    ]
    fastest = np.min(turns, axis=0)
    slope = max(float(np.polyfit(BUDGETS, fastest, 1)[0]), 0.0)
    begin = float(np.mean(fastest) - slope * np.mean(BUDGETS))
    return [begin + slope * budget for budget in budgets]


def summary(configurations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Adds `tau` to each configuration, and says how the predictors did over all of them."""
    for one in configurations:
        runs, step_ms = one["runs"], one["step_ms"]
        for run, ms in zip(runs, step_ms, strict=True):
            run["steps_ms"], run["expected_ms"] = run["steps"] * ms, run["expected_steps"] * ms
        measured = [run["ms_per_output"] for run in runs]
        one["tau"] = {name: _tau([run[name] for run in runs], measured) for name in PREDICTORS}
        one["tau_enriched"] = {name: _tau([run[name] for run in runs[1:]], measured[1:]) for name in PREDICTORS}
    return {name: _over_all(name, sign, configurations) for name, sign in PREDICTORS.items()}


def _tau(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    found = kendall_tau(predicted, measured)
    return {"tau": found.tau, "p": found.p}


def _over_all(name: str, sign: int, configurations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Taus turned so that 1 is right, and steps from one budget to the next whose direction was right."""
    taus = [sign * one["tau"][name]["tau"] for one in configurations]
    enriched = [sign * one["tau_enriched"][name]["tau"] for one in configurations]
    steps = [
        (sign * (b[name] - a[name]), b["ms_per_output"] / a["ms_per_output"] - 1)
        for one in configurations
        for a, b in pairwise(one["runs"])
    ]
    found = {
        "mean_tau": statistics.mean(taus),
        "lowest_tau": min(taus),
        "significant": _significant(sign, [one["tau"][name] for one in configurations]),
        "configurations": len(taus),
        "mean_tau_enriched": statistics.mean(enriched),
        "lowest_tau_enriched": min(enriched),
        "significant_enriched": _significant(sign, [one["tau_enriched"][name] for one in configurations]),
        "directions": _directions(steps),
        "clear_directions": _directions([step for step in steps if abs(step[1]) > NOISE]),
    }
    if not name.endswith("_ms"):
        return found
    errors = [
        abs((run[name] / one["runs"][0][name]) / (run["ms_per_output"] / one["runs"][0]["ms_per_output"]) - 1)
        for one in configurations
        for run in one["runs"][1:]
    ]
    return found | {"median_error": statistics.median(errors), "highest_error": max(errors)}


def _significant(sign: int, found: Sequence[dict[str, float]]) -> int:
    return sum(sign * one["tau"] > 0 and one["p"] < 0.05 for one in found)


def _directions(steps: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Of steps (predicted change, measured change of runtime), those with the right sign; p against a fair coin."""
    right = sum((predicted > 0) == (change > 0) for predicted, change in steps)
    return {"right": right, "of": len(steps), "p": float(binomtest(right, len(steps)).pvalue)}
