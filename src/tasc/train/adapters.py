"""What learns during a fine-tuning run, and how it becomes one plain checkpoint again.

Projections learn through LoRA (PEFT) or in full. Input embedding and head never go through PEFT: `modules_to_save` copies
one side of a tied pair and loses the other at the merge (transformers #45127, peft #2777), and PEFT's trainable tokens
leave out the bias of a head that has one. Here both sides keep the parameters that the model came with, so a tied pair
stays one matrix whatever happens; where only new rows learn they are a parameter of their own, laid over the frozen
matrix, and base rows cannot change. docs/decisions/0006-training-rows.md has the reasons.
"""

import warnings
from typing import Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tasc.errors import ModelError, OptionError
from tasc.train.surgery import embedding_and_head

Method = Literal["lora", "qlora", "full"]
TrainRows = Literal["all", "new", "none"]


class _NewRows(nn.Module):
    """Lays trainable rows over rows `start..start+len` of a frozen matrix or bias (a torch parametrization)."""

    def __init__(self, rows: nn.Parameter, start: int) -> None:
        super().__init__()
        self.rows = rows
        self.start = start

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        stop = self.start + self.rows.shape[0]
        return torch.cat((matrix[: self.start], self.rows.to(matrix.dtype), matrix[stop:]))


def prepare(
    model: PreTrainedModel,
    *,
    method: Method,
    train_rows: TrainRows,
    new_rows: range,
    lora_r: int = 16,
    lora_alpha: int = 16,
    lora_dropout: float = 0.2,
) -> PreTrainedModel | PeftModel:
    """Decide what learns: everything else is frozen.

    Args:
        model: changed in place; its rows are complete (`tasc.train.surgery.add_rows`).
        method: "full" trains every projection; "lora" and "qlora" train low-rank updates of all linear layers of
            attention and MLP, the head excepted.
        train_rows: "all" trains embedding and head (the paper's setting), "new" only `new_rows` of both, "none" neither.
        new_rows: ids of the n-grams.

    Returns:
        The model to train: a `PeftModel` for LoRA, `model` itself for "full".
    """
    model.requires_grad_(method == "full")
    wrapped = model if method == "full" else _with_lora(model, lora_r, lora_alpha, lora_dropout)
    for parameter in row_parameters(model):
        parameter.requires_grad_(train_rows == "all")
        if train_rows == "all":
            parameter.data = parameter.data.float()  # steps of 2e-4 are lost in bfloat16's 8 bits
    if train_rows == "new" and new_rows:
        _lay_new_rows(model, new_rows)
    if not any(p.requires_grad for p in wrapped.parameters()):
        raise OptionError("nothing is left to train; choose another method or --train-rows")
    return wrapped


def _with_lora(model: PreTrainedModel, r: int, alpha: int, dropout: float) -> PeftModel:
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",  # PEFT leaves the head out by itself
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2 stores weights transposed
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by a deprecated name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def row_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """The parameters that hold one entry per token id: embedding, head if not tied to it, bias of the head if any."""
    embedding, head = embedding_and_head(model)
    found = [embedding.weight, head.weight, getattr(head, "bias", None)]
    return list({id(p): p for p in found if p is not None}.values())


def _lay_new_rows(model: PreTrainedModel, new_rows: range) -> None:
    """Tied sides share one parameter of rows, as they share the matrix below it."""
    shared: dict[int, nn.Parameter] = {}
    for module, name in _row_places(model):
        matrix = getattr(module, name)
        if id(matrix) not in shared:
            rows = matrix.detach()[new_rows.start : new_rows.stop].float().clone()
            shared[id(matrix)] = nn.Parameter(rows)
        parametrize.register_parametrization(module, name, _NewRows(shared[id(matrix)], new_rows.start))


def _row_places(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    embedding, head = embedding_and_head(model)
    bias = [(head, "bias")] if getattr(head, "bias", None) is not None else []
    return [(embedding, "weight"), (head, "weight"), *bias]


@torch.no_grad()
def merge(wrapped: PreTrainedModel | PeftModel, *, dtype: torch.dtype) -> PreTrainedModel:
    """Fold everything that was trained into one plain model, in place.

    Args:
        wrapped: what `prepare` returned.
        dtype: of the checkpoint to be written.

    Returns:
        The model without adapters or overlays; rows that did not train are bit-equal to what they were.
    """
    model = cast(PreTrainedModel, wrapped.get_base_model()) if isinstance(wrapped, PeftModel) else wrapped
    for module, name in _row_places(model):
        if parametrize.is_parametrized(module, name):
            _fold_rows(module, name)
    if isinstance(wrapped, PeftModel):
        # after the rows, because PEFT unties the config of a model whose two sides look different
        model = cast(PreTrainedModel, wrapped.merge_and_unload())
    return cast_parameters(model.requires_grad_(True), dtype)


def cast_parameters(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Change the dtype of a model's parameters, in place, and not of its buffers: rotary angles need float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def _fold_rows(module: nn.Module, name: str) -> None:
    overlays = cast(nn.ModuleDict, module.parametrizations)[name]
    new, matrix = cast(_NewRows, cast(nn.ModuleList, overlays)[0]), cast(nn.Parameter, overlays.original)
    matrix.data[new.start : new.start + new.rows.shape[0]] = new.rows.to(matrix.dtype)
    parametrize.remove_parametrizations(module, name, leave_parametrized=False)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every trained tensor by name, shared ones once: what a checkpoint of a run needs besides the base model."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_trainable_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put a `trainable_state` back.

    Raises:
        ModelError: the state belongs to another model or method.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    odd = sorted(parameters.keys() ^ state.keys())
    odd += [name for name in parameters.keys() & state.keys() if parameters[name].shape != state[name].shape]
    if odd:
        raise ModelError(
            f"the checkpoint does not fit the model ({len(odd)} tensors differ, e.g. {odd[0]}); start again"
        )
    for name, parameter in parameters.items():
        parameter.copy_(state[name])
