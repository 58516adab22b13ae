"""Rows for new tokens in a causal language model: input embedding, head and head bias, tied or not.

Checkpoints are often padded (Qwen2.5 has 271 rows more than its tokenizer has ids). Those spare rows are used first, and
the matrices grow only when they do not suffice; they never shrink. Nothing here trains and nothing here knows how the
new tokens are spelt.

Sources: TASC (arXiv 2602.24174, section 3.1) for the mean, AdaptiVocab (arXiv 2503.19693) for exponential weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from tasc.errors import ModelError, OptionError
from tasc.vocab.vocabulary import EnrichedVocabulary

Init = Literal["mean", "exp", "ends", "first"]
DEFAULT_INIT: Init = "exp"

EXP_RATE = 2.0  # AdaptiVocab weighs constituent i by exp(2 i) at the input and exp(-2 i) at the head

Side = Literal["input", "head"]
Weights = torch.Tensor  # float64[n_constituents], sums to 1


@dataclass(frozen=True, slots=True)
class RowsReport:
    """What `add_rows` did.

    Attributes:
        added: new tokens that have a row now.
        spare_used: how many of them took a padding row of the checkpoint.
        rows_before: rows of the input embedding before.
        rows_after: rows now; equal to `rows_before` where the spare rows sufficed.
        tied: input embedding and head are one matrix.
        head_bias: the head has a bias, which was initialised as well.
        init: how the rows were initialised.
    """

    added: int
    spare_used: int
    rows_before: int
    rows_after: int
    tied: bool
    head_bias: bool
    init: str


def embedding_and_head(model: PreTrainedModel) -> tuple[nn.Embedding, nn.Linear]:
    """The modules that hold the input rows and the output rows of a decoder (or modules that look like these).

    Raises:
        ModelError: the model has no language-model head, is an encoder-decoder, or both sides have unequal rows.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder; TASC needs a decoder-only causal language model")
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    if embedding is None or head is None:
        raise ModelError(f"{name} has no language-model head; load it with AutoModelForCausalLM")
    if embedding.weight.shape[0] != head.weight.shape[0]:
        raise ModelError(
            f"{name} has {embedding.weight.shape[0]} input rows but {head.weight.shape[0]} head rows; "
            "both must have one row per token id"
        )
    return embedding, head


def is_tied(model: PreTrainedModel) -> bool:
    """Whether input embedding and head are one matrix."""
    embedding, head = embedding_and_head(model)
    return embedding.weight is head.weight


def add_rows(model: PreTrainedModel, vocabulary: EnrichedVocabulary, *, init: Init = DEFAULT_INIT) -> RowsReport:
    """Give every n-gram of a vocabulary its input and head row, made from the rows of its base ids.

    Afterwards `config.vocab_size`, the rows of the embedding and those of the head are equal and at least
    `vocabulary.size`; the rows of base ids are untouched, bit for bit.

    Args:
        model: any decoder-only model of transformers; changed in place.
        vocabulary: n-gram k gets row `base_size + k`.
        init: "mean" of the constituents' rows (the paper); "exp", the default, input weighted exponentially to the last constituent
            and head to the first; "ends", input = last and head = first constituent; "first", both = first. Where both
            sides are one matrix, the row is the mean of what either side would get.

    Raises:
        ModelError: the model lacks rows for base ids, or has no usable head.
        OptionError: no such init.
    """
    if init not in get_args(Init):
        raise OptionError(f"init must be one of {', '.join(get_args(Init))}, not {init!r}")
    embedding, _ = embedding_and_head(model)
    rows_before = embedding.weight.shape[0]
    if rows_before < vocabulary.base_size:
        raise ModelError(
            f"the vocabulary's tokenizer has ids up to {vocabulary.base_size - 1} but the model only {rows_before} rows; "
            "use the tokenizer that belongs to the model"
        )
    if vocabulary.size > rows_before:
        # transformers' own initialisation would cost a covariance of the whole matrix, and ours follows anyway
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    bias = _initialise(model, vocabulary, init)
    return RowsReport(
        added=len(vocabulary),
        spare_used=min(len(vocabulary), rows_before - vocabulary.base_size),
        rows_before=rows_before,
        rows_after=embedding_and_head(model)[0].weight.shape[0],
        tied=is_tied(model),
        head_bias=bias,
        init=init,
    )


@torch.no_grad()
def _initialise(model: PreTrainedModel, vocabulary: EnrichedVocabulary, init: Init) -> bool:
    embedding, head = embedding_and_head(model)
    bias: torch.Tensor | None = getattr(head, "bias", None)
    if embedding.weight is head.weight:
        _fill(embedding.weight, vocabulary, lambda n: (weights(n, "input", init) + weights(n, "head", init)) / 2)
    else:
        _fill(embedding.weight, vocabulary, lambda n: weights(n, "input", init))
        _fill(head.weight, vocabulary, lambda n: weights(n, "head", init))
    if bias is not None:
        _fill(bias, vocabulary, lambda n: weights(n, "head", init))
    return bias is not None


def weights(n: int, side: Side, init: Init) -> Weights:
    """How much each of `n` constituents counts in a new row: float64[n], sums to 1.

    Examples:
        >>> weights(2, "head", "ends").tolist()
        [1.0, 0.0]
    """
    position = torch.arange(n, dtype=torch.float64)
    if init == "mean":
        return torch.full((n,), 1 / n, dtype=torch.float64)
    if init == "exp":
        return torch.softmax(EXP_RATE * position * (1 if side == "input" else -1), dim=0)
    chosen = n - 1 if init == "ends" and side == "input" else 0
    return (position == chosen).double()


def _fill(matrix: torch.Tensor, vocabulary: EnrichedVocabulary, weights_of: Callable[[int], Weights]) -> None:
    """Write the n-grams' rows of `matrix` (rows by width, or a bias of rows) as weighted sums of base rows."""
    for k, ids in enumerate(vocabulary.expansions):
        constituents = matrix[list(ids)].double()
        row = torch.tensordot(weights_of(len(ids)).to(matrix.device), constituents, dims=1)
        matrix[vocabulary.base_size + k] = row.to(matrix.dtype)
