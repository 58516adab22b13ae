"""TASC-ft on real tasks: quality and speed of enriched models against the baseline, fine-tuned with the same steps.

    python benchmarks/tasc_ft.py [--corpora massive_en eurlex57k_short] [--stage train|measure|all] [--work .work/tasc_ft]

`train` makes the target models and fine-tunes them (resumes where it stopped; about an hour on two idle cores), `measure`
evaluates quality on the test split and times all models in turns. Writes benchmarks/results/tasc_ft.json and docs/results/tasc_ft.md.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from _target_models import PRESETS, _print_record, shared_split, train_target

from tasc.corpus import load_tokenizer
from tasc.train import finetune
from tasc.vocab import EnrichedVocabulary, enrich

BUDGETS = (0, 150, 500, 1000)
HEADLINE_BUDGETS = (0, 500)  # these get a second seed


@dataclass(frozen=True, slots=True)
class Variant:
    """One fine-tuned model: `budget` 0 is the baseline."""

    corpus: str
    budget: int
    seed: int

    @property
    def name(self) -> str:
        return f"M={self.budget} seed {self.seed}" if self.budget else f"baseline seed {self.seed}"

    def folder(self, work: Path) -> Path:
        return work / self.corpus / f"m{self.budget}-s{self.seed}"


def variants(corpus: str) -> list[Variant]:
    first = [Variant(corpus, budget, 0) for budget in BUDGETS]
    return first + [Variant(corpus, budget, 1) for budget in HEADLINE_BUDGETS]


def train(corpus: str, work: Path) -> None:
    print(f"target model of {corpus}", flush=True)
    preset = PRESETS[corpus]
    target = train_target(corpus, work / corpus / "target")
    tokenizer = load_tokenizer(target)
    tasks, validation = (shared_split(corpus, split, preset) for split in ("train", "validation"))
    for variant in variants(corpus):
        print(f"{corpus} {variant.name}", flush=True)
        vocabulary = None
        if variant.budget:
            folder = work / corpus / f"vocab{variant.budget}"
            if not (folder / "enriched.json").exists():
                report = enrich(tasks, tokenizer, budget=variant.budget, eval_tasks=validation, out=folder)
                (folder / "report.json").write_text(json.dumps(report.to_json()))
            vocabulary = EnrichedVocabulary.load(folder)
        finetune(
            target, tasks, out=variant.folder(work), eval_tasks=validation, vocabulary=vocabulary, method="full",
            lr=7e-4, warmup=0.05, max_steps=preset.tuning_steps, batch_size=32, effective_batch=64, template="plain",
            seed=variant.seed, on_record=_print_record,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--stage", choices=["train", "measure", "all"], default="all")
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / ".work" / "tasc_ft")
    args = parser.parse_args()
    if args.stage in ("train", "all"):
        for corpus in args.corpora:
            train(corpus, args.work)
    if args.stage in ("measure", "all"):
        from _tasc_ft_measure import measure_all

        measure_all(args.corpora, args.work)


if __name__ == "__main__":
    sys.exit(main())
