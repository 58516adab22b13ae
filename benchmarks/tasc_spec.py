"""TASC-spec on real tasks: decoding with drafts against plain decoding and against other drafters, wall clock, same outputs.

    OMP_NUM_THREADS=1 python benchmarks/tasc_spec.py [--corpora massive_en eurlex57k_short medquad] [--rounds 5] [--work .work]

The models are those that `benchmarks/tasc_ft.py --stage train` made. All systems of a corpus take turns (A B A B) on the same
rows; every output must equal that of plain decoding with the same model, else the run ends with an error. Writes
benchmarks/results/tasc_spec.json and docs/results/tasc_spec.md with its figure.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _measuring import machine
from _models import PRESETS
from _tasc_spec_page import write_page
from _tasc_spec_systems import ADAPT, Contender, Setup, contenders, lambda_contenders, replayed

from tasc.bench import Speed, System, measure_speed
from tasc.corpus import Tasks
from tasc.files import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tasc_spec.json"
BATCH_SIZES = (1, 8)
# rows that are timed at each batch size: free text takes long
TIMED_ROWS = {"massive_en": (96, 192), "eurlex57k_short": (96, 192), "medquad": (16, 32)}
LAMBDA_ROUNDS = 3


def measure(corpus: str, work: Path, rounds: int) -> dict[str, Any]:
    """All that is known of one corpus, ready for JSON."""
    load = [os.getloadavg()[0]]
    setup = Setup.make(corpus, work)
    found = contenders(setup)
    speeds = {
        batch: time_in_turns(found, setup.rows(n_rows), batch, rounds)
        for batch, n_rows in zip(BATCH_SIZES, TIMED_ROWS[corpus], strict=True)
    }
    sweep = lambda_contenders(setup)
    swept = time_in_turns(sweep, setup.rows(TIMED_ROWS[corpus][0]), 1, LAMBDA_ROUNDS)
    again = [
        replayed(setup, name, setup.rows(n_rows), batch)
        for name in setup.targets
        for batch, n_rows in zip(BATCH_SIZES, TIMED_ROWS[corpus], strict=True)
    ]
    load.append(os.getloadavg()[0])
    return {
        "machine": machine() | {"load_before_and_after": load},
        "preset": asdict(PRESETS[corpus]),
        "models": {name: target.about() for name, target in setup.targets.items()},
        "max_new_tokens": setup.limit,
        "rounds": rounds,
        "adapt": ADAPT,
        "rows": dict(zip(map(str, BATCH_SIZES), TIMED_ROWS[corpus], strict=True)),
        "systems": [system_json(c, {b: s[c.name] for b, s in speeds.items() if c.name in s}) for c in found],
        "replay": again,
        "lambda": [{"lambda": c.weight} | system_json(c, {1: swept[c.name]}) for c in sweep],
    }  # fmt: skip


def time_in_turns(found: Sequence[Contender], rows: Tasks, batch: int, rounds: int) -> dict[str, Speed]:
    """Time those that work at this batch size; every output is compared with that of the contender's reference."""
    chosen = [c for c in found if batch in c.batch_sizes]
    expected: dict[str, list[list[int]]] = {}

    def watched(contender: Contender) -> System:
        def run(rows: Any, batch_size: int, advance: Any) -> Any:
            done = contender.complete(rows, batch_size, advance)
            same = expected.setdefault(contender.target, done.generated.outputs)
            wrong = [k for k, (a, b) in enumerate(zip(same, done.generated.outputs, strict=True)) if a != b]
            if wrong:
                k = wrong[0]
                raise SystemExit(
                    f"{contender.name}, batch {batch_size}: {len(wrong)} outputs differ from plain decoding, first row {k}: "
                    f"{done.generated.outputs[k]} instead of {same[k]}"
                )
            contender.done[batch_size] = done
            print(f"  batch {batch_size} {contender.name}: {done.generated.ms_per_output:.2f} ms", flush=True)
            return done

        return System(contender.name, run)

    speeds = measure_speed([watched(c) for c in chosen], rows.rows, batch_size=batch, rounds=rounds)
    return {c.name: speed for c, speed in zip(chosen, speeds, strict=True)}


def system_json(contender: Contender, speeds: dict[int, Speed]) -> dict[str, Any]:
    """One system's figures; the drafts' are those of the last round at each batch size."""
    return {
        "system": contender.name,
        "kind": contender.kind,
        "target": contender.target,
        "speed": [
            {
                "batch_size": batch,
                "ms_per_output": speed.ms.median,
                "ms_per_output_rounds": list(speed.ms.values),
                "speed_up": speed.ratio.median,
                "speed_up_range": [speed.ratio.low, speed.ratio.high],
            }
            | contender.drafts(batch)
            for batch, speed in speeds.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(TIMED_ROWS), choices=list(TIMED_ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / ".work")
    parser.add_argument("--page", action="store_true", help="only write the page from the results that are there")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for corpus in [] if args.page else args.corpora:
        print(corpus, flush=True)
        results[corpus] = measure(corpus, args.work, args.rounds)
        write_json(RESULTS, results)
    write_page({corpus: results[corpus] for corpus in TIMED_ROWS if corpus in results}, ROOT / "docs" / "results")


if __name__ == "__main__":
    sys.exit(main())
