"""A key-value cache whose rows have lengths of their own, so that each row keeps just what was accepted of its draft.

Every row has a next column; a pass writes its tokens from there on, over whatever a rejected draft left. Rolling back is
therefore only not advancing: nothing is cut or moved. Which columns a token may see is said by a mask of ours
(`tasc.decode.forward`). The buffers grow in steps, so that a pass copies its own tokens and not the whole past.
"""

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from tasc.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPARE_COLUMNS = 128


class Columns:
    """Where the coming pass writes, shared by the layers.

    Attributes:
        start: the column of every row's first token; used where `index` is None.
        index: int64[n_rows * width], places in the buffer seen as (row, column) pairs; None where the rows are in step.
        end: columns in use after the pass.
        capacity: columns of the buffers.
    """

    __slots__ = ("capacity", "end", "index", "start")

    def __init__(self) -> None:
        self.start = self.end = self.capacity = 0
        self.index: torch.Tensor | None = None


class RowLayer(CacheLayerMixin):
    """Keys and values of one layer: [n_rows, n_heads, capacity, head_dim].

    In memory a column's heads lie side by side, so that a token's states are one piece, whatever row they belong to.
    """

    is_sliding = False
    keys: Any  # tensors from the first pass on
    values: Any

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the buffers."""
        self.keys, self.values = (_zeros(states, self.columns.capacity) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states; returns all in use, [n_rows, n_heads, columns.end, head_dim]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        elif self.keys.shape[2] < self.columns.capacity:
            self.keys, self.values = (_grown(states, self.columns.capacity) for states in (self.keys, self.values))
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, buffer: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        columns = self.columns
        if columns.index is None:
            buffer.narrow(2, columns.start, states.shape[2]).copy_(states)
        else:
            places, new = buffer.transpose(1, 2).flatten(0, 1), states.transpose(1, 2).flatten(0, 1)
            places.index_copy_(0, columns.index, new)
        return buffer.narrow(2, 0, columns.end)

    def move(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """Write the states at some places of the buffer, seen as (row, column) pairs, to others: int64[n] each."""
        for states in (self.keys, self.values):
            places = states.transpose(1, 2).flatten(0, 1)
            places.index_copy_(0, new, places.index_select(0, old))

    def select(self, rows: torch.Tensor, n_columns: int) -> None:
        """Keep only these rows, in ascending order, and of them the first columns."""
        if self.is_initialized:
            self.keys, self.values = (_moved_up(states, rows, n_columns) for states in (self.keys, self.values))

    def get_seq_length(self) -> int:
        """Columns before the pass."""
        return self.columns.start

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Columns that the pass may see, and the first of them."""
        return self.columns.end, 0

    def get_max_length(self) -> int:
        """There is none."""
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.20


class RowCache(Cache):
    """What a model takes as its cache, with one `RowLayer` per layer."""

    def __init__(self, n_layers: int) -> None:
        self.columns = Columns()
        self.row_layers = [RowLayer(self.columns) for _ in range(n_layers)]
        super().__init__(layers=list(self.row_layers))

    def reserve(self, end: int) -> None:
        """Make room for `end` columns, and some more if room has to be made."""
        if end > self.columns.capacity:
            self.columns.capacity = end + max(SPARE_COLUMNS, end // 2)

    def select(self, rows: torch.Tensor, n_columns: int) -> None:
        """Keep only these rows, int64[n], in ascending order, and of them the first columns."""
        for layer in self.row_layers:
            layer.select(rows, n_columns)

    def move(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """Move what tokens left in the cache: int64[n] each, places as in `Columns.index`; all are read before any is written."""
        for layer in self.row_layers:
            if layer.is_initialized:
                layer.move(old, new)

    def to_dynamic(self, n_columns: int) -> DynamicCache:
        """The first columns as the cache that transformers uses itself."""
        data = [
            (layer.keys[:, :, :n_columns], layer.values[:, :, :n_columns])
            for layer in self.row_layers
            if layer.is_initialized
        ]
        return DynamicCache(data)


def cache_layers(model: "PreTrainedModel") -> tuple[int, int | None]:
    """What the model's cache consists of.

    Returns:
        The number of layers, and the shortest sliding window among them, None without one.

    Raises:
        ModelError: the cache cannot be rolled back, because of recurrent states, alone or in a mixture; or the model's
            attention takes no mask of ours, or makes positions of it.
    """
    name = type(model).__name__
    rollback = f"drafts need a cache that can be rolled back, {name} has"
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"drafts need a decoder-only model, got {name} (encoder-decoder); pass no drafter")
    if getattr(model, "_is_stateful", False):
        raise ModelError(f"{rollback} a recurrent state; pass no drafter for this model")
    config = model.config.get_text_config(decoder=True)
    implementation = getattr(config, "_attn_implementation", None) or "eager"
    if implementation not in ("eager", "sdpa"):
        raise ModelError(
            f"drafts need attention 'sdpa' or 'eager', {name} has {implementation!r}; load it with "
            "attn_implementation='sdpa'"
        )
    if getattr(config, "alibi", False):
        raise ModelError(
            f"drafts need a mask of ours, {name} makes positions of its own from the mask (ALiBi); pass no drafter"
        )
    layers = DynamicCache(config=config).layers
    # GPT-Neo's windows count columns of the cache, ours have gaps between rows of different lengths
    windows = [int(config.window_size)] if "local" in getattr(config, "attention_layers", ()) else []
    for layer in layers:
        if type(layer) is DynamicSlidingWindowLayer:
            windows.append(int(layer.sliding_window))
        elif type(layer) is not DynamicLayer:
            raise ModelError(f"{rollback} a {type(layer).__name__}; pass no drafter for this model")
    return len(layers) or config.num_hidden_layers, min(windows, default=None)


def _zeros(like: torch.Tensor, capacity: int) -> torch.Tensor:
    # zeros, because whatever a masked column holds is multiplied by 0, and 0 times NaN is NaN
    n_rows, n_heads, _, head_dim = like.shape
    return like.new_zeros(n_rows, capacity, n_heads, head_dim).transpose(1, 2)


def _moved_up(states: torch.Tensor, rows: torch.Tensor, n_columns: int) -> torch.Tensor:
    # within the buffer, and only what is in use: a new buffer would be most of the cost
    left = states.narrow(0, 0, len(rows))
    left.narrow(2, 0, n_columns).copy_(states.narrow(2, 0, n_columns).index_select(0, rows))
    return left


def _grown(states: torch.Tensor, capacity: int) -> torch.Tensor:
    grown = _zeros(states, capacity)
    grown[:, :, : states.shape[2]] = states
    return grown
