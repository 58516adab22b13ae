"""What the tests of drafts in transformers share: models, prompts, plain outputs as drafters."""

from typing import Any

import numpy as np
import torch

from drafters import Script, wrong_at
from tasc.decode import Speculative, speculative
from tasc.draft.cost import StepCost
from tiny_models import DEVICE, tiny_model

ROWS = 96
FREE = StepCost((1, 2), (1,), (0,), [[[1.0, 1.0]]])  # a pass costs the same whatever its rows and tokens
RNG = np.random.default_rng(5)
PROMPTS = [RNG.integers(12, ROWS, size).tolist() for size in (7, 1, 12, 3, 12)]
GREEDY = dict(max_new_tokens=30, do_sample=False, eos_token_id=[1, 2], pad_token_id=0)
CHANGES = {
    "right": None,
    "first wrong": wrong_at(lambda place: place % 4 == 0),
    "later wrong": wrong_at(lambda place: place % 4 == 3),
    "always wrong": wrong_at(lambda place: True),
}


def wide_model(architecture: str, **changes: Any) -> Any:
    """Logits far apart: where two are nearly equal, rounding decides, and passes of other widths round differently."""
    return tiny_model(architecture, rows=ROWS, initializer_range=0.5, **changes)


def eager_to_draft(drafter: Any, **options: Any) -> Speculative:
    """Drafts always, and as much as there is."""
    return speculative(drafter, **{"cost": FREE, "switch_off": False} | options)


def padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=DEVICE), "attention_mask": torch.tensor(mask, device=DEVICE)}


def one(prompt: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([prompt], device=DEVICE)}


def oracle(model: Any, prompts: list[list[int]], change: Any = None, **options: Any) -> Script:
    """Knows what plain decoding writes."""
    table = {}
    for prompt in prompts:
        written = model.generate(**one(prompt), **GREEDY | options)[0, len(prompt) :].tolist()
        table[tuple(prompt)] = written
    return Script(table, change)
