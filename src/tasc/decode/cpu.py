"""What makes a pass over a few tokens, the verification of drafts, cheap on a CPU: the order of weights, and attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Model = TypeVar("Model", bound=torch.nn.Module)
SDPA = "sdpa"


def lay_out_for_cpu(model: Model) -> Model:
    """Store the weights of linear layers input first.

    With weights in torch's own order, output first, a layer takes up to 2.8 times as long for eight tokens as for one; with
    the input first 1.2 to 1.9 times, and for one token as long as before. A large model's pass over two or three tokens takes
    longer than before, by up to a half; one over 8 to 16 takes 5% to 34% less (`benchmarks/cpu_passes.py`). Shapes and values stay as they are; sums are taken in another order. Weights that are not
    float32 on a CPU, and builds of torch without MKL, are left alone.

    Args:
        model: changed in place; weights that layers share stay shared.

    Returns:
        The model.
    """
    if torch.backends.mkl.is_available():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                weight = layer.weight
                if weight.device.type == "cpu" and weight.dtype == torch.float32:
                    weight.data = weight.data.t().contiguous().t()
    return model


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention "sdpa" as transformers has it, but without copies of keys and values where a CPU has several tokens and a mask.

    With a mask and grouped queries, transformers first copies the whole cache, once for each query of a group, in every
    layer, on most devices. torch's kernel for CPUs takes both as they are.

    Args:
        query: float[n_rows, n_heads, n_tokens, size]; `key` and `value` have a head for each group.
        module, attention_mask, dropout, scaling, options: of transformers' `AttentionInterface`.
    """
    if (
        attention_mask is None
        or query.shape[2] == 1
        or query.shape[1] == key.shape[1]
        or query.device.type != "cpu"
        or options.get("softcap") is not None
        or options.get("position_bias") is not None
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2).contiguous(), None


@contextmanager
def with_grouped_attention() -> Iterator[None]:
    """Models that are called within use `grouped_attention` as their "sdpa"."""
    stock = ALL_ATTENTION_FUNCTIONS[SDPA]
    if stock is not sdpa_attention_forward:  # somebody's own
        yield
        return
    ALL_ATTENTION_FUNCTIONS[SDPA] = grouped_attention
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[SDPA] = stock
