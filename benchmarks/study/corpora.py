"""The tasks, the sizes of models, and every run that the study trains."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _models import Preset, fine_tune, shared_split, train_target

from tasc.corpus import Tasks, load_tokenizer
from tasc.vocab import EnrichedVocabulary, enrich

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "study"
WORK = Path(os.environ.get("TASC_STUDY_WORK", ROOT / ".work" / "study"))

CORPORA = {
    # metric, headline, words of a prompt
    "massive_en": ("intent-slots", "joint_accuracy", 0),
    "snips": ("intent-slots", "joint_accuracy", 0),
    "eurlex57k_short": ("multilabel", "micro_f1", 16),
    "ud_ewt_pos": ("exact", "exact_match", 0),
}


class Size(NamedTuple):
    """A model: its width and layers, steps of the target and of a run that gives no epochs, its family, whose tokens."""

    width: int
    layers: int
    target_steps: int
    steps: int
    family: str = "qwen2"
    tokens: str = "own"


SIZES = {
    "small": Size(128, 2, 600, 200),
    "medium": Size(128, 4, 1000, 200),
    "mistral": Size(128, 4, 1000, 200, "mistral"),
    "qwen-tokens": Size(128, 2, 400, 150, tokens="qwen2.5"),
}
VOCABULARY = 2000  # base tokens of every task's own tokenizer
BUDGETS = (0, 50, 150, 300, 500, 1000)
SMALL_BUDGETS = (0, 25, 50, 100, 150, 250, 350)  # where H2 of Qwen2.5's tokens falls
ROWS = 12_800  # runs are trained on the first so many rows: encoding all of EUR-LEX takes longer than a short run
EPOCHS = {"massive_en": 3.0, "eurlex57k_short": 2.0}  # of the runs whose quality counts: 1,080 and 800 steps
ABLATIONS: tuple[dict[str, Any], ...] = ({"pcs": 0.002}, {"merge_dropout": 0.2})
NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Run:
    """One trained model; budget 0 is the baseline, without n-grams."""

    corpus: str
    size: str
    budget: int
    n_max: int = 4
    seed: int = 0
    epochs: float = 0.0
    pcs: float | None = None
    merge_dropout: float = 0.0

    @property
    def name(self) -> str:
        parts = [self.corpus, self.size, f"m{self.budget}"]
        if self.budget:
            parts.append(f"n{self.n_max}")
            parts += [] if self.pcs is None else [f"pcs{self.pcs:g}"]
            parts += [f"dropout{self.merge_dropout:g}"] if self.merge_dropout else []
        parts += [f"e{self.epochs:g}"] if self.epochs else []
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def folder(self) -> Path:
        return WORK / "runs" / self.name

    @property
    def is_there(self) -> bool:
        return (self.folder / "model.safetensors").exists()

    @property
    def vocabulary_folder(self) -> Path:
        limit = "" if self.pcs is None else f"-pcs{self.pcs:g}"
        tokens = SIZES[self.size].tokens
        tokens = "" if tokens == "own" else f"-{tokens}"
        return WORK / "vocabularies" / f"{self.corpus}{tokens}-m{self.budget}-n{self.n_max}{limit}"

    def vocabulary(self) -> EnrichedVocabulary | None:
        """The n-grams of Algorithm 1, mined now unless they are there."""
        if not self.budget:
            return None
        if not (self.vocabulary_folder / "enriched.json").exists():
            enrich(
                split(self.corpus, "train"), base_tokenizer(self.corpus, self.size), budget=self.budget, n_max=self.n_max,
                method="paper", pcs=self.pcs, out=self.vocabulary_folder,
            )  # fmt: skip
        return EnrichedVocabulary.load(self.vocabulary_folder)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def grid() -> list[Run]:
    """The runs of the prediction: corpus x size x longest n-gram x budget x seed. Runtime counts, so they are short."""
    two = ("massive_en", "eurlex57k_short")
    lengths = {"massive_en": (4, 3, 2), "eurlex57k_short": (4, 2), "snips": (4, 2), "ud_ewt_pos": (4,)}
    return [
        *[Run(c, "small", m, n if m else 4) for c in CORPORA for n in lengths[c] for m in BUDGETS if m or n == 4],
        *[Run(c, "small", m, seed=1) for c in two for m in BUDGETS],
        *[Run(c, "medium", m) for c in two for m in BUDGETS],
        *[Run(c, "qwen-tokens", m) for c in ("massive_en", "snips") for m in SMALL_BUDGETS],
    ]


def longer() -> list[Run]:
    """The runs whose quality counts: by budget, by family, again with another seed, by epochs, by PCS and merge dropout."""
    massive = [Run("massive_en", "medium", m, epochs=EPOCHS["massive_en"]) for m in (0, 500, 1000, 250, 150)]
    eurlex = [Run("eurlex57k_short", "medium", m, epochs=EPOCHS["eurlex57k_short"]) for m in (0, 1000, 500, 250)]
    family = [Run("eurlex57k_short", "mistral", m, epochs=EPOCHS["eurlex57k_short"]) for m in (0, 1000)]
    again = [Run("massive_en", "medium", m, seed=1, epochs=EPOCHS["massive_en"]) for m in (0, 500)]
    by_epochs = [Run("massive_en", "medium", m, epochs=e) for e in (6.0, 1.0, 10.0) for m in (0, 500)]
    by_epochs += [Run("eurlex57k_short", "medium", m, epochs=e) for e in (10.0, 5.0, 3.0, 1.0) for m in (0, 1000)]
    ablations = [Run("massive_en", "medium", 500, epochs=EPOCHS["massive_en"], **one) for one in ABLATIONS]
    return [*massive, *eurlex, *family, *again, *by_epochs, *ablations]


def preset(corpus: str, size: str) -> Preset:
    metric, headline, words = CORPORA[corpus]
    model = SIZES[size]
    return Preset(
        metric, headline, words, model.target_steps, model.steps, hidden_size=model.width, layers=model.layers,
        vocab_size=VOCABULARY, family=model.family, tokens=model.tokens,
    )  # fmt: skip


def split(corpus: str, name: str) -> Tasks:
    return shared_split(corpus, name, preset(corpus, "small"))


def target(corpus: str, size: str) -> Path:
    return WORK / "targets" / f"{corpus}-{size}"


def base_tokenizer(corpus: str, size: str) -> Any:
    """Of a size's target, or of another one's with the same tokens: they are made from the same texts, so they are the same."""
    alike = [target(corpus, name) for name, other in SIZES.items() if other.tokens == SIZES[size].tokens]
    return load_tokenizer(next(folder for folder in alike if (folder / "tokenizer.json").exists()))


def train_all(runs: Iterable[Run], *, workers: int) -> None:
    """Targets, then vocabularies, then runs, in so many processes of one thread each."""
    todo = [run for run in runs if not run.is_there]
    targets = dict.fromkeys((run.corpus, run.size) for run in todo)
    missing = [pair for pair in targets if not (target(*pair) / "model.safetensors").exists()]
    for name in at_once(_train_target, missing, workers):
        print(f"target {name}", flush=True)
    vocabularies = {run.vocabulary_folder: run for run in todo if run.budget}  # two processes must not write one folder
    missing = [(run,) for folder, run in vocabularies.items() if not (folder / "enriched.json").exists()]
    for name in at_once(_mine, missing, workers):
        print(f"vocabulary {name}", flush=True)
    for name in at_once(_train, [(run,) for run in todo], workers):
        print(f"run {name}", flush=True)


def at_once(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """What `work` returns for each tuple, as it comes, from so many processes; the first that fails ends them all."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = [pool.submit(work, *each) for each in arguments]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)


def _train_target(corpus: str, size: str) -> str:
    train_target(corpus, target(corpus, size), preset=preset(corpus, size), eval_every=NEVER, save_every=NEVER)
    return f"{corpus} {size}"


def _mine(run: Run) -> str:
    run.vocabulary()
    return run.vocabulary_folder.name


def _train(run: Run) -> str:
    length = {"epochs": run.epochs, "steps": -1} if run.epochs else {}
    fine_tune(
        run.corpus, target(run.corpus, run.size), run.folder, preset=preset(run.corpus, run.size), vocabulary=run.vocabulary(),
        seed=run.seed, n_rows=ROWS, merge_dropout=run.merge_dropout, eval_every=NEVER, save_every=NEVER, **length,
    )  # fmt: skip
    return run.name
