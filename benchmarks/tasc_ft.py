"""TASC-ft on real tasks: quality and speed of enriched models against the baseline, fine-tuned with the same steps.

    python benchmarks/tasc_ft.py [--corpora massive_en eurlex57k_short] [--stage train|measure|all] [--work .work/tasc_ft]

`train` makes the target models and fine-tunes them (resumes where it stopped; about an hour on two idle cores), `measure`
evaluates quality on the test split and times all models in turns. Writes benchmarks/results/tasc_ft.json and docs/results/tasc_ft.md.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from _models import PRESETS, fine_tune, shared_split, train_target

from tasc.corpus import load_tokenizer
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, enrich

BUDGETS = (0, 150, 500, 1000)
HEADLINE_BUDGETS = (0, 500)  # these get a second seed


@dataclass(frozen=True, slots=True)
class Variant:
    """One trained model: `budget` 0 is the baseline."""

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


def train(variant: Variant, work: Path) -> None:
    print(f"{variant.corpus} {variant.name}", flush=True)
    target = train_target(variant.corpus, work / variant.corpus / "target")
    vocabulary = None
    if variant.budget:
        folder = work / variant.corpus / f"vocab{variant.budget}"
        if not (folder / "enriched.json").exists():
            preset = PRESETS[variant.corpus]
            tasks, validation = (shared_split(variant.corpus, split, preset) for split in ("train", "validation"))
            tokenizer = load_tokenizer(target)
            report = enrich(tasks, tokenizer, budget=variant.budget, eval_tasks=validation, out=folder)
            write_json(folder / "report.json", report.to_json())
        vocabulary = EnrichedVocabulary.load(folder)
    fine_tune(variant.corpus, target, variant.folder(work), vocabulary=vocabulary, seed=variant.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="which seeds to train")
    parser.add_argument("--stage", choices=["train", "measure", "all"], default="all")
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / ".work" / "tasc_ft")
    args = parser.parse_args()
    if args.stage in ("train", "all"):
        for variant in [v for corpus in args.corpora for v in variants(corpus) if v.seed in args.seeds]:
            train(variant, args.work)
    if args.stage in ("measure", "all"):
        from _tasc_ft_measure import measure_all

        measure_all(args.corpora, args.work)


if __name__ == "__main__":
    sys.exit(main())
