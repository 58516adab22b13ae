"""TASC-spec on real tasks: decoding with drafts against plain decoding and against other drafters, wall clock, same outputs.

    OMP_NUM_THREADS=1 python benchmarks/tasc_spec.py [--corpora massive_en eurlex57k_short medquad] [--rounds 5] [--work .work]
                                                     [--scale cpu|qwen2.5-0.5b]

The models are those that `benchmarks/tasc_ft.py --stage train` made, EUR-LEX's with the 2,000 n-grams that `tasc enrich --budget
auto` chooses too (`--corpora eurlex57k_short --budgets 2000 --seeds 0`). All systems of a corpus take turns (A B A B) on the same
rows; every output must equal that of plain decoding with the same model, else the run ends with an error. Writes
benchmarks/results/tasc_spec.json and docs/results/tasc_spec.md with its figure. At another scale than "cpu" models compute in
bfloat16, where passes of other widths round otherwise: outputs that differ are counted, with the widest gap between the two
logits where they part, and only the JSON in that scale's folder is written (benchmarks/gpu/page.py makes its page).
"""

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from _measuring import completer, drawn_rows, machine, metric_of
from _models import RESULTS as FOLDER
from _models import SCALES, Scale, stored
from _tasc_spec_page import write_page
from _tasc_spec_systems import ADAPT, Contender, Setup, contenders, gap_between, in_float32, lambda_contenders, replayed

from tasc.bench import Speed, System, measure_quality, measure_speed
from tasc.files import write_json

ROOT = Path(__file__).parents[1]
RESULTS = FOLDER / "tasc_spec.json"
# rows that are timed at each batch size: free text takes long, and so does a model of half a billion parameters
TIMED_ROWS = {"massive_en": (96, 192), "eurlex57k_short": (96, 192), "medquad": (16, 32)}
TIMED_ROWS_ON_A_GPU = (8, 32, 64)
LAMBDA_ROUNDS = 3


def measure(corpus: str, work: Path, scale: Scale, rounds: int, left_out: Collection[str]) -> dict[str, Any]:
    """All that is known of one corpus, ready for JSON."""
    load = [os.getloadavg()[0]]
    setup = Setup.make(corpus, work, scale)
    n_rows = dict(zip(scale.batch_sizes, TIMED_ROWS[corpus] if scale.exact else TIMED_ROWS_ON_A_GPU, strict=True))
    found = contenders(setup, left_out)
    speeds = {b: time_in_turns(found, setup, n_rows[b], b, rounds) for b in scale.batch_sizes}
    sweep = lambda_contenders(setup) if scale.exact else []
    swept = time_in_turns(sweep, setup, n_rows[1], 1, LAMBDA_ROUNDS)
    again = [replayed(setup, name, setup.rows(n_rows[b]), b) for name in setup.targets for b in scale.batch_sizes]
    load.append(os.getloadavg()[0])
    return {
        "machine": machine() | {"load_before_and_after": load},
        "preset": asdict(scale.presets[corpus]),
        "models": {name: target.about() for name, target in setup.targets.items()},
        "quality": quality(setup),
        "max_new_tokens": setup.limit,
        "rounds": rounds,
        "adapt": ADAPT,
        "rows": {str(batch): n for batch, n in n_rows.items()},
        "float32": None if scale.exact else compared(Setup.make(corpus, work, replace(scale, dtype="float32")), n_rows),
        "systems": [system_json(c, {b: s[c.name] for b, s in speeds.items() if c.name in s}) for c in found],
        "replay": again,
        "lambda": [{"lambda": c.weight} | system_json(c, {1: swept[c.name]}) for c in sweep],
    }  # fmt: skip


def quality(setup: Setup) -> dict[str, Any] | None:
    """Of each model without drafts, which change no output; None where there is but one."""
    if len(setup.targets) == 1:
        return None
    preset = setup.scale.presets[setup.corpus]
    rows, metric = drawn_rows(setup.corpus, preset, setup.scale.quality_rows), metric_of(setup.corpus, preset)
    systems = [System(name, completer(target.loaded)) for name, target in setup.targets.items()]
    found = measure_quality(
        systems, rows, metric=metric, headline=preset.headline, batch_size=setup.scale.quality_batch
    )  # fmt: skip
    return {
        "rows": len(rows),
        "headline": preset.headline,
        "models": {
            system.name: {name: asdict(interval) for name, interval in one.values.items()}
            | {"difference": one.difference and asdict(one.difference)}
            for system, one in zip(systems, found, strict=True)
        },
    }


def compared(setup: Setup, n_rows: dict[int, int]) -> dict[str, int]:
    """In float32: rows decoded with drafts in batches, by each model, and how many differ from plain decoding."""
    found = {"rows": 0, "differ": 0}
    for batch, n in [(batch, n) for batch, n in n_rows.items() if batch > 1]:
        for plain, drafted in in_float32(setup, setup.rows(n), batch):
            found["rows"] += n
            found["differ"] += sum(a != b for a, b in zip(plain, drafted, strict=True))
    return found


def time_in_turns(found: Sequence[Contender], setup: Setup, n_rows: int, batch: int, rounds: int) -> dict[str, Speed]:
    """Time those that work at this batch size; every output is compared with that of the contender's reference."""
    chosen = [c for c in found if c.batch_sizes is None or batch in c.batch_sizes]
    if not chosen:
        return {}
    rows = setup.rows(n_rows)
    expected: dict[str, list[list[int]]] = {}

    def watched(contender: Contender) -> System:
        def run(rows: Any, batch_size: int, advance: Any) -> Any:
            done = contender.complete(rows, batch_size, advance)
            same = expected.setdefault(contender.target, done.generated.outputs)
            wrong = [k for k, (a, b) in enumerate(zip(same, done.generated.outputs, strict=True)) if a != b]
            if wrong and not setup.scale.exact:
                pairs = [(rows[k], same[k], done.generated.outputs[k]) for k in wrong]
                contender.differing[batch] = len(wrong), gap_between(setup.targets[contender.target], pairs)
            elif wrong:
                k = wrong[0]
                raise SystemExit(
                    f"{contender.name}, batch {batch_size}: {len(wrong)} outputs differ from plain decoding, first row {k}: "
                    f"{done.generated.outputs[k]} instead of {same[k]}"
                )
            contender.done[batch_size] = done
            print(f"  batch {batch_size} {contender.name}: {done.generated.ms_per_output:.2f} ms", flush=True)
            return done

        return System(contender.name, run)

    systems = [watched(c) for c in chosen]
    for system in [] if setup.scale.exact else systems:
        system.complete(rows.rows, batch, lambda _: None)  # a GPU loads its kernels when it first meets a shape
    speeds = measure_speed(systems, rows.rows, batch_size=batch, rounds=rounds)
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
                "differ": contender.differing.get(batch),
            }
            | contender.drafts(batch)
            for batch, speed in speeds.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(TIMED_ROWS), choices=list(TIMED_ROWS))
    parser.add_argument("--scale", choices=list(SCALES), default="cpu", help="size of the models")
    parser.add_argument("--without", nargs="*", default=[], metavar="RIVAL", help="rivals to leave out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / ".work")
    parser.add_argument("--page", action="store_true", help="only write the page from the results that are there")
    args = parser.parse_args()
    scale: Scale = SCALES[args.scale]
    path = scale.results / RESULTS.name
    for corpus in [] if args.page else args.corpora:
        print(corpus, flush=True)
        measured = measure(corpus, args.work, scale, args.rounds, args.without)
        write_json(path, stored(path) | {corpus: measured})  # another process may have measured another corpus
    results = stored(path)
    if path == RESULTS:
        write_page({corpus: results[corpus] for corpus in TIMED_ROWS if corpus in results}, ROOT / "docs" / "results")


if __name__ == "__main__":
    sys.exit(main())
