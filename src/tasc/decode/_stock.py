"""Greedy decoding by transformers' own `generate`, with passes and time counted per row.

For models whose caches go by rules of their own: recurrent states, windows that slide, code that is not transformers'.
A row that has ended stays in the batch there, so the rows still at work share the whole of the time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from tasc.decode._signature import own_model
from tasc.decode.speculate import Greedy, Row, take
from tasc.draft.verify import NOTHING
from tasc.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def decode_by_transformers(model: "PreTrainedModel", rows: Sequence[Row], greedy: Greedy, pad_id: int) -> None:
    """Decode rows until each has ended or met its limit; the result stands in the rows.

    Args:
        model: decoder-only.
        rows: none finished; they share passes.
        greedy: the end tokens, and the check of the first logits.
        pad_id: any id the model knows.

    Raises:
        ModelError: the model has no `generate`.
    """
    own: Any = own_model(model)
    if not hasattr(own, "generate"):
        raise ModelError(f"{type(own).__name__} has no method 'generate'; load it with AutoModelForCausalLM")
    width = max(len(row.prompt) for row in rows)
    padding = [width - len(row.prompt) for row in rows]
    ids = [[pad_id] * n + row.prompt for n, row in zip(padding, rows, strict=True)]
    mask = [[0] * n + [1] * len(row.prompt) for n, row in zip(padding, rows, strict=True)]
    config = GenerationConfig(max_new_tokens=max(row.limit for row in rows), do_sample=False, pad_token_id=pad_id)
    with _only(own, config):
        own.generate(
            torch.tensor(ids, device=own.device),
            attention_mask=torch.tensor(mask, device=own.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([_Check(greedy)]),
            stopping_criteria=StoppingCriteriaList([_Watch(rows, greedy)]),
        )


@contextmanager
def _only(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Nothing of the model's own settings, a repetition penalty for example, fills what `config` leaves open."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


class _Check(LogitsProcessor):
    """Looks at the first logits and changes none."""

    def __init__(self, greedy: Greedy) -> None:
        self.greedy = greedy

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        self.greedy.check_first(scores)
        return scores


class _Watch(StoppingCriteria):
    """Writes down what each pass brought, and ends rows."""

    def __init__(self, rows: Sequence[Row], greedy: Greedy) -> None:
        self.rows, self.greedy, self.last = rows, greedy, time.perf_counter()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # type: ignore[override]
        tokens = input_ids[:, -1].tolist()  # waits for the device, so the clock below is honest
        now = time.perf_counter()
        live = [(row, token) for row, token in zip(self.rows, tokens, strict=True) if not row.done]
        for row, token in live:
            take(row, NOTHING, [token], self.greedy)
            row.verify_seconds += (now - self.last) / len(live)
            row.prefill_seconds = row.prefill_seconds or row.verify_seconds  # the prompt's pass is the first
        self.last = now
        return torch.tensor([row.done for row in self.rows], device=input_ids.device)
