"""First half of serving.py: the models that are served, trained where `tasc_ft.py` has not trained them yet."""

from dataclasses import dataclass
from pathlib import Path

from _models import PRESETS, fine_tune, shared_split, train_target

from tasc.corpus import load_tokenizer
from tasc.draft.build import build_drafter
from tasc.files import read_json, write_json
from tasc.vocab import EnrichedVocabulary, enrich

BUDGET = 500


@dataclass(frozen=True, slots=True)
class Served:
    """A corpus's models and drafters, in one folder."""

    corpus: str
    folder: Path

    @property
    def models(self) -> dict[str, Path]:
        return {"base": self.folder / "base", "ft": self.folder / "ft"}

    @property
    def share_file(self) -> Path:
        return self.folder / "share.json"

    def drafter(self, model: str) -> Path:
        return self.folder / f"{model}.tasc"

    def cost(self, model: str) -> Path:
        return self.folder / f"cost-{model}.json"


def make(served: Served, share: float) -> None:
    """Train what is missing, with this share of the presets' steps, and build the drafters."""
    corpus, preset = served.corpus, PRESETS[served.corpus]
    if served.share_file.exists() and read_json(served.share_file) != share:
        raise SystemExit(
            f"{served.folder} holds models of another share, {read_json(served.share_file)}; choose --work"
        )
    served.folder.mkdir(parents=True, exist_ok=True)
    write_json(served.share_file, share)
    target = train_target(corpus, served.models["base"], steps=max(1, round(share * preset.target_steps)))
    train = shared_split(corpus, "train", preset)
    tokenizer = load_tokenizer(target)
    vocabulary_folder = served.folder / "vocab"
    if not (vocabulary_folder / "enriched.json").exists():
        validation = shared_split(corpus, "validation", preset)
        enrich(train, tokenizer, budget=BUDGET, eval_tasks=validation, out=vocabulary_folder)
    vocabulary = EnrichedVocabulary.load(vocabulary_folder)
    steps = max(1, round(share * (preset.tuning_steps or preset.target_steps)))
    fine_tune(corpus, target, served.models["ft"], vocabulary=vocabulary, steps=steps)
    for name, ngrams in (("base", None), ("ft", vocabulary)):
        if not served.drafter(name).exists():
            build_drafter(train.rows, tokenizer, vocabulary=ngrams, template="plain").save(served.drafter(name))
