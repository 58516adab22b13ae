"""The whole method on the built-in task: analyse, enrich, fine-tune twice, build drafters, evaluate, compare.

Both models start from the same base and get the same rows in the same order for the same number of steps; the only
difference is that one of them learns outputs in which the task's n-grams are one token each. Each is then decoded
without drafts and with them, which changes the time and not the outputs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.bench import Quality, Speed, System, are_comparable, measure_quality, measure_speed, to_json
from tasc.bench.systems import Advance
from tasc.corpus import Row, Tasks
from tasc.demo.base import load_base
from tasc.demo.generator import make_splits
from tasc.errors import OptionError
from tasc.files import read_json, write_json
from tasc.progress import Progress, silent
from tasc.report import write_report
from tasc.report.shared import MODELS, file_name

if TYPE_CHECKING:
    from tasc.analysis import Analysis
    from tasc.decode import Completions, Drafting, LoadedModel
    from tasc.train import TrainReport
    from tasc.vocab import EnrichedVocabulary, EnrichReport
    from tasc.vocab.budget import BudgetPoint

RUN_FILE, RESULTS_FILE, REPORT_FILE = "run.json", "results.json", "report.html"
QUALITY_BATCH = 8
# other budgets to predict the cost of, as shares of the one that is used
BUDGET_SHARES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 1, 5 / 3)
DRAFTED = {"baseline": "drafts", "enriched": "enriched + drafts"}  # model -> the system that decodes it with drafts


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much the demo does. `FULL` and `QUICK` are the two that the command offers.

    Attributes:
        train_rows, validation_rows, test_rows: rows of each split.
        budget: n-grams to add.
        steps: optimizer steps of each of the two fine-tuning runs.
        batch_size: rows per step.
        lr: highest learning rate.
        timed: batch size -> (rows, rounds) of the timing.
    """

    train_rows: int
    validation_rows: int
    test_rows: int
    budget: int
    steps: int
    batch_size: int = 32
    lr: float = 2e-3
    timed: dict[int, tuple[int, int]] = field(default_factory=dict)


FULL = Scale(
    train_rows=8000, validation_rows=500, test_rows=1000, budget=300, steps=800, timed={8: (256, 5), 1: (32, 5)}
)
QUICK = Scale(
    train_rows=1000,
    validation_rows=100,
    test_rows=48,
    budget=100,
    steps=60,
    batch_size=16,
    timed={8: (32, 2), 1: (8, 2)},
)


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found; `results.json` is its `to_json()`.

    Attributes:
        out: the run folder.
        seed: of the task's rows and of the training.
        scale: how much was done.
        quick: whether it was the short version, whose quality says nothing.
        analysis: of the training outputs.
        enriched: of the mining run.
        budgets: expected decoding cost of this budget and others, on the validation outputs.
        training: one report for each fine-tuned model, by system name.
        systems: the reference first.
        changed: system with drafts -> test rows whose output is not that of the same model without drafts.
        quality: one entry for each system.
        speeds: for each system one entry for each batch size.
        seconds: wall time by stage.
    """

    out: Path
    seed: int
    scale: Scale
    quick: bool
    analysis: "Analysis"
    enriched: "EnrichReport"
    budgets: "Sequence[BudgetPoint]"
    training: "dict[str, TrainReport]"
    systems: Sequence[System]
    changed: dict[str, int]
    quality: Sequence[Quality]
    speeds: Sequence[Sequence[Speed]]
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        rows = zip(self.systems, self.quality, self.speeds, strict=True)
        return {
            "out": str(self.out),
            "seed": self.seed,
            "quick": self.quick,
            "quality_is_meaningful": not self.quick,
            "scale": asdict(self.scale),
            "analysis": self.analysis.to_dict(),
            "enriched": self.enriched.to_json(),
            "budgets": [asdict(point) for point in self.budgets],
            "training": {name: report.to_json() for name, report in self.training.items()},
            "systems": [
                to_json(*row, comparable=are_comparable(row[1], self.quality[0]))
                | {"outputs_changed_by_drafts": self.changed.get(row[0].name)}
                for row in rows
            ],
            "seconds": self.seconds,
        }


def run_demo(
    *,
    out: str | Path,
    seed: int = 0,
    quick: bool = False,
    scale: Scale | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] | None = None,
) -> DemoReport:
    """Run the demo and write its run folder.

    `out` then holds `run.json` (options, versions, machine), `results.json`, `report.html`, `data/`, `vocab/`, a run
    folder of `tasc train` and a drafter for each model, `outputs-<system>.jsonl`, and `requests-<system>.jsonl` of those
    with drafts. The same call over an interrupted run goes on with it.

    Args:
        out: the run folder; a folder that holds something else is refused.
        seed: of the task's rows, of training and of bootstrap intervals.
        quick: the scale `QUICK`: every stage, but too few steps for quality to mean anything.
        scale: another scale than `FULL` or `QUICK`.
        progress: see `tasc.progress.Progress`.
        note: called with a line for people after each stage.

    Raises:
        OptionError: `out` holds something else than an unfinished or finished demo with the same options.
    """
    demo = _Demo(Path(out), seed, scale or (QUICK if quick else FULL), progress, note or (lambda line: None))
    with one_thread():
        return demo.run(quick=quick)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one core inside the block.

    A second thread gains a factor of 1.7 in training and nothing in decoding on an idle machine of two cores. Where
    another process wants the second core, the threads wait for each other: 530 instead of 14,000 training tokens a
    second, 5,000 instead of 2 ms for a pass. One thread also gives the same numbers whatever the number of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def model_system(name: str, loaded: "LoadedModel", drafting: "Drafting | None" = None) -> System:
    """A fine-tuned model, decoded greedily: one token a pass, or with drafts."""
    from tasc.decode import complete

    def run(rows: Sequence[Row], batch_size: int, advance: Advance) -> "Completions":
        return complete(
            loaded.model,
            loaded.tokenizer,
            rows,
            vocabulary=loaded.vocabulary,
            batch_size=batch_size,
            drafting=drafting,
            progress=advance,
        )

    return System(name, run)


@dataclass(frozen=True, slots=True)
class _Demo:
    """One run of the demo: what its stages share."""

    out: Path
    seed: int
    scale: Scale
    progress: Progress
    note: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, *, quick: bool) -> DemoReport:
        """All stages in turn."""
        self.open()
        with self.stage("data"):
            splits = self.make_data()
        with self.stage("analyse"):
            analysis = self.analyse(splits)
        with self.stage("enrich"):
            enriched = self.enrich(splits)
        with self.stage("budgets"):
            budgets = self.compare_budgets(splits)
        training = {}
        for name, ngrams in zip(MODELS, (None, enriched.vocabulary), strict=True):
            with self.stage(f"train {name}"):
                training[name] = self.finetune(name, splits, ngrams)
        with self.stage("drafters"):
            systems, drafting = self.make_systems(splits)
        with self.stage("quality"):
            quality = self.measure_quality(systems, splits["test"])
        for one in drafting:
            one.record = None  # the rounds of the timing would repeat the log
        changed = self.compare_outputs(systems, quality)
        with self.stage("speed"):
            speeds = self.measure_speed(systems, splits["test"])
        report = DemoReport(
            out=self.out,
            seed=self.seed,
            scale=self.scale,
            quick=quick,
            analysis=analysis,
            enriched=enriched,
            budgets=budgets,
            training=training,
            systems=systems,
            changed=changed,
            quality=quality,
            speeds=speeds,
            seconds=self.seconds,
        )
        write_json(self.out / RESULTS_FILE, report.to_json())
        write_report([self.out], self.out / REPORT_FILE, progress=self.progress)
        return report

    def open(self) -> None:
        """Check the folder and write run.json."""
        from tasc.train.folder import machine, versions

        options = {"seed": self.seed} | asdict(self.scale)
        options["timed"] = {str(batch): list(much) for batch, much in self.scale.timed.items()}
        path = self.out / RUN_FILE
        if path.is_file():
            stored = read_json(path)
            if stored.get("demo") != options:
                raise OptionError(f"{self.out} holds another run; choose another folder with -o")
        elif self.out.is_dir() and any(self.out.iterdir()):
            raise OptionError(f"{self.out} is not empty and no run of the demo; choose another folder with -o")
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(path, {"demo": options, "versions": versions(), "machine": machine()})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 2)

    def make_data(self) -> dict[str, Tasks]:
        """Draw the splits and keep them as files."""
        from tasc.demo.generator import write_splits

        splits = make_splits(
            self.seed,
            train=self.scale.train_rows,
            validation=self.scale.validation_rows,
            test=self.scale.test_rows,
        )
        write_splits(splits, self.out / "data")
        known = set(splits["train"].completions)
        unseen = sum(text not in known for text in splits["test"].completions) / len(splits["test"])
        self.note(
            f"{len(splits['train']):,} training rows with {len(known):,} distinct outputs, {len(splits['test']):,} test "
            f"rows ({unseen:.0%} of their outputs are not in the training rows)"
        )
        return splits

    def analyse(self, splits: dict[str, Tasks]) -> "Analysis":
        """What `tasc analyze` does."""
        from tasc.analysis import analyze

        _, tokenizer = load_base()
        analysis = analyze(
            splits["train"],
            tokenizer,
            eval_tasks=splits["validation"],
            budgets=(self.scale.budget,),
            seed=self.seed,
            progress=self.progress,
        )
        self.note(analysis.recommendation.text)
        return analysis

    def enrich(self, splits: dict[str, Tasks]) -> "EnrichReport":
        """What `tasc enrich` does."""
        from tasc.vocab import enrich

        _, tokenizer = load_base()
        report = enrich(
            splits["train"],
            tokenizer,
            budget=self.scale.budget,
            eval_tasks=splits["validation"],
            out=self.out / "vocab",
            progress=self.progress,
        )
        assert report.eval is not None
        self.note(
            f"{len(report.vocabulary)} n-grams added: held-out outputs are {report.eval.ratio:.2f}x shorter in tokens; "
            f"prompts whose tokenisation changed: {report.prompt_drift}"
        )
        return report

    def compare_budgets(self, splits: dict[str, Tasks]) -> "Sequence[BudgetPoint]":
        """What `tasc enrich --budget auto` chooses by; the demo keeps its own budget."""
        from tasc.vocab import enrich

        _, tokenizer = load_base()
        grid = sorted({max(1, round(share * self.scale.budget)) for share in BUDGET_SHARES})
        return enrich(
            splits["train"], tokenizer, eval_tasks=splits["validation"], grid=grid, progress=self.progress
        ).curve

    def finetune(self, name: str, splits: dict[str, Tasks], vocabulary: "EnrichedVocabulary | None") -> "TrainReport":
        """What `tasc train` does: all weights of a fresh copy of the base, the same rows in the same order."""
        from tasc.train import finetune

        base, tokenizer = load_base()
        done = 0
        with self.progress(f"fine-tuning: {name}", total=self.scale.steps, unit="steps") as advance:

            def on_record(record: dict[str, Any]) -> None:
                nonlocal done
                advance(record["step"] - done)  # a run that goes on begins with the steps that it has
                done = record["step"]

            report = finetune(
                base,
                splits["train"],
                out=self.out / name,
                eval_tasks=splits["validation"],
                vocabulary=vocabulary,
                tokenizer=tokenizer,
                template="plain",
                method="full",
                lr=self.scale.lr,
                warmup=0.05,
                max_steps=self.scale.steps,
                batch_size=self.scale.batch_size,
                effective_batch=self.scale.batch_size,
                max_length=256,
                seed=self.seed,
                cpu=True,
                on_record=on_record,
            )
        self.note(
            f"{name}: {report.tokens_per_output:.1f} target tokens per output, validation loss "
            f"{report.eval_nats_per_byte:.4f} nats per byte"
        )
        return report

    def make_systems(self, splits: dict[str, Tasks]) -> "tuple[list[System], list[Drafting]]":
        """Each model as it is, then each with a drafter of the training outputs in its own ids; and the latter's drafts."""
        from tasc.decode import load_model

        loaded = {name: load_model(self.out / name, device="cpu") for name in MODELS}
        plain = [model_system(name, model) for name, model in loaded.items()]
        drafting = [self.make_drafts(name, model, splits) for name, model in loaded.items()]
        drafted = [
            model_system(DRAFTED[name], model, drafts)
            for (name, model), drafts in zip(loaded.items(), drafting, strict=True)
        ]
        return plain + drafted, drafting

    def make_drafts(self, name: str, loaded: "LoadedModel", splits: dict[str, Tasks]) -> "Drafting":
        """What `tasc profile` and `tasc draft build` do: the cost of a pass, and an index of the training outputs."""
        from tasc.decode import speculative
        from tasc.decode.profile import profile
        from tasc.draft.build import build_drafter

        _, tokenizer = load_base()
        drafter = build_drafter(
            splits["train"].rows,
            tokenizer,
            vocabulary=loaded.vocabulary,
            template="plain",
            progress=self.progress,
        )
        drafter.save(self.out / f"{name}.tasc")
        cost = profile(loaded.model)
        cost.save(self.out / f"cost-{name}.json")
        log = self.out / f"requests-{file_name(DRAFTED[name])}.jsonl"
        log.unlink(missing_ok=True)  # of an interrupted run
        return speculative(drafter, cost=cost, vocabulary=loaded.vocabulary, record=log)

    def compare_outputs(self, systems: Sequence[System], found: Sequence[Quality]) -> dict[str, int]:
        """How many outputs drafts changed; none but for a tie between two tokens in floating point."""
        outputs = {s.name: q.completions.generated.outputs for s, q in zip(systems, found, strict=True)}
        return {
            drafted: sum(a != b for a, b in zip(outputs[name], outputs[drafted], strict=True))
            for name, drafted in DRAFTED.items()
        }

    def measure_quality(self, systems: Sequence[System], test: Tasks) -> list[Quality]:
        """Quality on all test rows; the outputs go to files."""
        from tasc.evals import Prediction, make_metric, write_predictions

        found = measure_quality(
            systems,
            test,
            metric=make_metric("intent-slots"),
            headline="joint_accuracy",
            batch_size=QUALITY_BATCH,
            progress=self.progress,
            seed=self.seed,
        )
        for system, quality in zip(systems, found, strict=True):
            done = quality.completions
            taken = zip(done.texts, done.tokens, done.generated.passes, done.generated.ms, strict=True)
            rows = [
                Prediction(row.prompt, text, row.completion, tokens, passes, round(ms, 4))
                for row, (text, tokens, passes, ms) in zip(test, taken, strict=True)
            ]
            write_predictions(self.out / f"outputs-{file_name(system.name)}.jsonl", rows)
        return found

    def measure_speed(self, systems: Sequence[System], test: Tasks) -> list[list[Speed]]:
        """For each system its speed at each batch size."""
        by_batch = [
            measure_speed(systems, test[:n_rows].rows, batch_size=batch, rounds=rounds, progress=self.progress)
            for batch, (n_rows, rounds) in self.scale.timed.items()
        ]
        return [list(speeds) for speeds in zip(*by_batch, strict=True)]
