"""TASC: make a small language model faster at one task, by tokens that fit the task's outputs.

    import tasc

    tasks = tasc.load_tasks("train.jsonl")
    tokenizer = tasc.load_tokenizer("Qwen/Qwen2.5-0.5B")
    print(tasc.analyze(tasks, tokenizer).recommendation)

The public names below are imported when they are first used: `import tasc` itself loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasc.analysis import analyze
    from tasc.corpus import TokenCorpus, load_tasks, load_tokenizer
    from tasc.decode import generate, speculative
    from tasc.draft import Drafter, build_drafter
    from tasc.draft.cost import StepCost
    from tasc.draft.recorded import Recorded
    from tasc.errors import TascError
    from tasc.train import finetune
    from tasc.vocab import EnrichedVocabulary, enrich

    __version__: str

__all__ = [
    "Drafter",
    "EnrichedVocabulary",
    "Recorded",
    "StepCost",
    "TascError",
    "TokenCorpus",
    "__version__",
    "analyze",
    "build_drafter",
    "enrich",
    "finetune",
    "generate",
    "load_tasks",
    "load_tokenizer",
    "speculative",
]

_ROOMS = {
    "Drafter": "tasc.draft",
    "EnrichedVocabulary": "tasc.vocab",
    "Recorded": "tasc.draft.recorded",
    "StepCost": "tasc.draft.cost",
    "TascError": "tasc.errors",
    "TokenCorpus": "tasc.corpus",
    "analyze": "tasc.analysis",
    "build_drafter": "tasc.draft",
    "enrich": "tasc.vocab",
    "finetune": "tasc.train",
    "generate": "tasc.decode",
    "load_tasks": "tasc.corpus",
    "load_tokenizer": "tasc.corpus",
    "speculative": "tasc.decode",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("tasc-lm")
    elif name in _ROOMS:
        value = getattr(import_module(_ROOMS[name]), name)
    else:
        raise AttributeError(f"module 'tasc' has no attribute {name!r}")
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
