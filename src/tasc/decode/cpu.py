"""What makes a pass over a few tokens, the verification of drafts, cheap on a CPU: how weights lie in memory, and attention."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Model = TypeVar("Model", bound=torch.nn.Module)
SDPA = "sdpa"
# weights of a layer from which on packing pays: a call of oneDNN takes 10 microseconds longer than one of MKL
PACKED_FROM = 1 << 19
MOST_PACKED = 1 << 30  # weights of a model that are packed, which takes a second copy of them: 4 GiB


def lay_out_for_cpu(model: Model) -> Model:
    """Store the weights of linear layers as passes over a few tokens read them fastest.

    Large layers get a copy of their weights that oneDNN has packed, see `PackedLinear`; small ones, and all of a model with
    too many weights for that, hold theirs input first. With weights in torch's own order, output first, a pass of
    a 0.5B model takes 2 times as long for two tokens as for one and 2.5 times for eight; packed 1.2 times for either
    (`benchmarks/cpu_passes.py`). Shapes and values stay as they are, sums are taken in another order. Weights that are not float32 on a CPU are left alone, and so are
    all where torch has no MKL.

    Args:
        model: changed in place; weights that layers share stay shared.

    Returns:
        The model.
    """
    layers = _by_mkl(model)
    large = [layer for layer in layers if PackedLinear.can_be(layer) and layer.weight.numel() >= PACKED_FROM]
    if sum(layer.weight.numel() for layer in large) <= MOST_PACKED:
        for layer in large:
            PackedLinear.take_over(layer)
    for layer in layers:
        if not isinstance(layer, PackedLinear):
            layer.weight.data = layer.weight.data.t().contiguous().t()
    return model


def as_torch_has_it(model: torch.nn.Module) -> bool:
    """Whether MKL multiplies by the weights of large layers, stored as torch makes them, so that two tokens take twice as long as one."""
    return any(
        not isinstance(layer, PackedLinear) and layer.weight.numel() >= PACKED_FROM and layer.weight.is_contiguous()
        for layer in _by_mkl(model)
    )


def _by_mkl(model: torch.nn.Module) -> list[torch.nn.Linear]:
    """The linear layers whose weights MKL would multiply by."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear)
        and torch.backends.mkl.is_available()
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
    ]


class PackedLinear(torch.nn.Linear):
    """A linear layer that, beside its weights, has a copy of them that oneDNN has packed for few rows, and multiplies by that.

    With gradients, on another device, in another type, or when its weights were replaced or changed in place, it is the layer it was;
    only a change behind torch's back (of `weight.data`, in place) is not noticed. What is saved, copied or pickled is the layer without the copy.
    """

    packed: "_Packed | None"

    @staticmethod
    def can_be(layer: torch.nn.Linear) -> bool:
        """Whether a layer can be one of these: torch has oneDNN for x86 and the calls by which torch.compile packs weights."""
        return (
            type(layer) in (torch.nn.Linear, PackedLinear)
            and not layer.weight.is_inference()
            and torch.backends.mkldnn.is_available()
            and platform.machine() in ("x86_64", "AMD64")
            and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
        )

    @classmethod
    def take_over(cls, layer: torch.nn.Linear) -> None:
        """Make this layer one of these."""
        layer.__class__ = cls
        vars(layer)["packed"] = _Packed(layer.weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """See `torch.nn.Linear`."""
        packed, weight = self.packed, self._parameters["weight"]
        if packed is None or torch.is_grad_enabled() or not packed.is_of(weight):
            return linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise.default(input, packed.weight, self.bias, "none", [], "")


class _Packed:
    """A packed copy of weights, which knows of what; it is not copied itself."""

    __slots__ = ("_of", "_place", "_version", "weight")

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._of = weight.detach()  # held, so that no other weights come to lie there
        self._place, self._version = weight.data_ptr(), weight._version

    def is_of(self, weight: Any) -> bool:
        """Whether these are the weights that were packed, as they were."""
        return weight.data_ptr() == self._place and weight._version == self._version

    def __deepcopy__(self, _: Any) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


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
