"""TASC-ft on real tasks: quality and speed of enriched models against the baseline, fine-tuned with the same steps.

    python benchmarks/tasc_ft.py [--corpora massive_en eurlex57k_short] [--budgets 500 0 150 1000] [--seeds 0 1]
                                 [--scale cpu|qwen2.5-0.5b] [--stage train|measure|all] [--work .work/tasc_ft]

`train` makes the target models and fine-tunes them (resumes where it stopped), `measure` evaluates quality on the test split
and times all models that were trained in turns. Writes benchmarks/results/tasc_ft.json and docs/results/tasc_ft.md, or
with another scale than "cpu" the JSON in that scale's folder alone (benchmarks/gpu/page.py makes its page).
Set OMP_NUM_THREADS=1 where anything else runs on the machine.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _models import PRESETS, SCALES, Preset, Scale, fine_tune, shared_split, train_target

from tasc.corpus import load_tokenizer
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, enrich

BUDGETS = (500, 0, 150, 1000)  # trained if no others are asked for, in this order
HEADLINE_BUDGETS = (500, 0)  # these get further seeds


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


def variants(corpus: str, budgets: Sequence[int], seeds: Sequence[int]) -> list[Variant]:
    """The models of a corpus in the order of their training: every budget with the first seed, the headline with all."""
    return [Variant(corpus, b, s) for s in seeds for b in budgets if s == seeds[0] or b in HEADLINE_BUDGETS]


def trained_variants(corpus: str, work: Path) -> list[Variant]:
    """The models that are there, the baseline first, then by seed and budget."""
    names = [path.parent.name for path in (work / corpus).glob("m*-s*/model.safetensors")]
    numbers = [map(int, name[1:].split("-s")) for name in names]
    return sorted((Variant(corpus, budget, seed) for budget, seed in numbers), key=lambda v: (v.seed, v.budget))


def target_folder(corpus: str, work: Path) -> Path:
    return work / corpus / "target"


def make_target(corpus: str, work: Path, preset: Preset) -> Path:
    return train_target(corpus, target_folder(corpus, work), preset=preset, **checks(preset, preset.target_steps))


def checks(preset: Preset, steps: int) -> dict[str, int]:
    """Validation loss at the end alone; of a large model, whose checkpoint is gigabytes, the last checkpoint alone too."""
    return {"eval_every": steps} | ({"save_every": steps} if preset.shape else {})


def train(variant: Variant, work: Path, preset: Preset) -> None:
    print(f"{variant.corpus} {variant.name}", flush=True)
    target = make_target(variant.corpus, work, preset)
    vocabulary = None
    if variant.budget:
        folder = work / variant.corpus / f"vocab{variant.budget}"
        if not (folder / "enriched.json").exists():
            tasks, validation = (shared_split(variant.corpus, split, preset) for split in ("train", "validation"))
            tokenizer = load_tokenizer(target)
            report = enrich(tasks, tokenizer, budget=variant.budget, eval_tasks=validation, out=folder)
            write_json(folder / "report.json", report.to_json())
        vocabulary = EnrichedVocabulary.load(folder)
    often = checks(preset, preset.tuning_steps)
    fine_tune(
        variant.corpus, target, variant.folder(work), preset=preset, vocabulary=vocabulary, seed=variant.seed, **often
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=["massive_en", "eurlex57k_short"], choices=list(PRESETS))
    parser.add_argument("--budgets", nargs="*", type=int, default=list(BUDGETS), help="which to train; 0 adds nothing")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="which to train")
    parser.add_argument("--scale", choices=list(SCALES), default="cpu", help="size of the models")
    parser.add_argument("--stage", choices=["train", "measure", "all"], default="all")
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / ".work" / "tasc_ft")
    parser.add_argument("--note", default="", help="what readers of the times should know, for the page")
    args = parser.parse_args()
    scale: Scale = SCALES[args.scale]
    if args.stage in ("train", "all"):
        for corpus in args.corpora:
            preset = scale.presets[corpus]
            make_target(corpus, args.work, preset)
            for variant in variants(corpus, args.budgets, args.seeds) if preset.tuning_steps else []:
                train(variant, args.work, preset)
    if args.stage in ("measure", "all"):
        from _tasc_ft_measure import measure_all

        measured = [corpus for corpus in args.corpora if trained_variants(corpus, args.work)]
        measure_all(measured, args.work, scale, args.note)


if __name__ == "__main__":
    sys.exit(main())
