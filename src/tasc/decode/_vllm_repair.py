"""Faults of vLLM 0.32's CPU build that sampled requests with drafts of any kind meet, found by trying and mended in place."""

from importlib import import_module
from typing import Any


def repair_sampling() -> None:
    """Have temperatures, top-k and top-p reach every drafted token's logits, and passes without any not fail.

    - They are computed in a copy that is then dropped, unless they are int64, so that sampled requests follow another
      distribution. Nothing is changed where a try comes out right.
    - Top-k of no logits at all, in a pass whose drafts were all empty, ends the engine.
    """
    import torch

    sampler: Any = import_module("vllm.v1.sample.rejection_sampler")
    tried = sampler.expand_batch_to_tokens(torch.tensor([0.5, 2.0]), torch.tensor([1, 3], dtype=torch.int32), 3)
    if tried.tolist() != [0.5, 2.0, 2.0]:
        sampler.expand_batch_to_tokens = expand_batch_to_tokens
    constrain = sampler.apply_sampling_constraints
    if not hasattr(constrain, "repaired"):
        sampler.apply_sampling_constraints = _unless_empty(constrain)


def _unless_empty(constrain: Any) -> Any:
    def apply_sampling_constraints(logits: Any, *rest: Any) -> Any:
        return constrain(logits, *rest) if len(logits) else logits

    apply_sampling_constraints.repaired = True  # type: ignore[attr-defined]
    return apply_sampling_constraints


def expand_batch_to_tokens(
    x: Any, cu_num_tokens: Any, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> Any:
    """Each row's value for each of its tokens; see vLLM's function of this name.

    Args:
        x: [n_rows].
        cu_num_tokens: int[n_rows], how many tokens the rows up to each have together.
        num_tokens: of all rows.
        replace_from, replace_to: a value and what stands for it.

    Returns:
        [num_tokens], of the type of `x`.
    """
    counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1)).long()
    values = x if replace_from == replace_to else x.masked_fill(x == replace_from, replace_to)
    return values.repeat_interleave(counts, output_size=num_tokens)
