"""One forward pass over the next tokens of rows that have lengths of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tasc.decode._signature import arguments_of, cache_name
from tasc.decode.cache import RowCache, cache_layers
from tasc.decode.cpu import with_grouped_attention
from tasc.draft.verify import Planned
from tasc.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# CUDA's attention reads masks in pieces of so many elements: torch copies a mask whose rows are not a multiple of them apart,
# in every layer, and fails ("misaligned address") where the first does not begin at one (torch 2.11)
ALIGNMENT = 8


class Target:
    """What passes need to know of a model; looked up once.

    Args:
        model: decoder-only.

    Raises:
        ModelError: its cache cannot be rolled back (`tasc.decode.cache.cache_layers`), or it takes no positions or no cache.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        self.model: Any = model
        self.n_layers, window = cache_layers(model)
        accepted = arguments_of(model)
        self.cache_name = cache_name(accepted)
        for name in ("position_ids", self.cache_name):
            if name not in accepted:
                raise ModelError(f"drafts need a model that takes {name}, {type(model).__name__} does not")
        self.keeps_logits = "logits_to_keep" in accepted
        limits = {"a sliding window of": window, "position encodings that change beyond": _rope_limit(model.config)}
        # tokens of the longest row whose cache can be rolled back, and what limits it
        self._limit, self._limited_by = min(
            ((n, what) for what, n in limits.items() if n is not None), default=(None, "")
        )

    def holds(self, longest: int) -> bool:
        """Whether rows of so many tokens can be rolled back."""
        return self._limit is None or longest <= self._limit

    def require(self, longest: int) -> None:
        """Raise ModelError unless rows of so many tokens can be rolled back."""
        if not self.holds(longest):
            raise ModelError(
                f"drafts need a cache that can be rolled back, {type(self.model).__name__} has {self._limited_by} "
                f"{self._limit} tokens and rows of up to {longest}; keep prompt and output within that, or pass no drafter"
            )


class Forward:
    """A model with a key-value cache for some rows: tokens in, logits out.

    Rows lie in the cache column by column. The prompts end in one column (their fronts are padded), so that the last
    logits of the first pass are what is asked for; from there each row goes on at its own pace.

    Args:
        target: the model.
        longest: tokens of the longest row at its end.
        widest: most tokens that a pass after the first feeds of a row.

    Raises:
        ModelError: the rows would outgrow what can be rolled back.
    """

    def __init__(self, target: Target, longest: int, widest: int) -> None:
        target.require(longest)
        self.target, self.device, self._dtype = target, target.model.device, target.model.dtype
        self.cache = RowCache(target.n_layers)
        # padding behind a short draft may lie beyond the model's last position
        self.last_position = longest - 1
        self.positions = torch.arange(longest + widest, device=self.device).clamp_(max=self.last_position)
        self.steps = torch.arange(widest, device=self.device)
        self.first: list[int] = []  # per row: the column of its first token
        self.next: list[int] = []  # per row: the column that its next token takes
        self._first: torch.Tensor | None = None
        self._bands: torch.Tensor | None = None  # float[ALIGNMENT, widest, columns]
        self._last_start = 0  # the last column at which they let a pass begin

    def prefill(self, prompts: Sequence[Sequence[int]], drafts: Sequence[Planned], pad_id: int) -> torch.Tensor:
        """The first pass.

        Args:
            prompts: ids of each row.
            drafts: what follows each; the last token of a prompt is the draft's root.
            pad_id: any id the model knows.

        Returns:
            float[n_rows, 1 + longest draft, n_ids]: what follows the last columns; the rows' ends are aligned.
        """
        rows = [[*prompt, *draft.tokens] for prompt, draft in zip(prompts, drafts, strict=True)]
        width, fed = max(map(len, rows)), 1 + max(len(draft.tokens) for draft in drafts)
        self.first = [width - len(row) for row in rows]
        padded = [[pad_id] * n + row for n, row in zip(self.first, rows, strict=True)]
        ids = torch.tensor(padded, device=self.device)
        # as if the last token of each prompt had been fed in a pass of its own
        self.next = [width - 1 - len(draft.tokens) for draft in drafts]
        mask, positions = None, self.positions[:width].expand(len(rows), -1)
        every = torch.arange(width, device=self.device)
        if any(self.first):
            self._first = torch.tensor(self.first, device=self.device)[:, None]
        if any(draft.branches for draft in drafts):
            begin = width - fed
            unseen, depths = self._tree(drafts, fed, ends_aligned=True)
            hidden = (torch.arange(_aligned(width), device=self.device) > every[:, None]).repeat(len(rows), 1, 1)
            hidden[:, begin:, begin:width] = unseen
            if self._first is not None:
                hidden[:, :, :width] |= every < self._first[:, :, None]
            mask = self._mask(hidden)[:, None, :, :width]
            positions = torch.cat([positions[:, :begin], depths + begin], dim=1)
        elif self._first is not None:
            mask = (every >= self._first).to(torch.int64)
        if self._first is not None:
            positions = (positions - self._first).clamp_(min=0)
        columns = self.cache.columns
        columns.start, columns.end, columns.index = 0, width, None
        self.cache.reserve(width)
        return self._call(ids, mask, positions, fed)

    def step(self, last: Sequence[int], drafts: Sequence[Planned]) -> torch.Tensor:
        """A later pass.

        Args:
            last: the last token of each row.
            drafts: what follows each.

        Returns:
            float[n_rows, 1 + longest draft, n_ids]: what follows the last token and the drafted ones. Columns past a row's own
            ids mean nothing.
        """
        width = 1 + max(len(draft.tokens) for draft in drafts)
        fed = [[token, *draft.tokens] for token, draft in zip(last, drafts, strict=True)]
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in fed], device=self.device)
        start = max(self.next)
        columns = self.cache.columns
        columns.start, columns.end, columns.index = start, start + width, None
        self.cache.reserve(columns.end)
        in_step, trees = min(self.next) == start, any(draft.branches for draft in drafts)
        if in_step and self._first is None:
            if trees:
                mask, positions = self._branching(start, width, drafts)
            else:
                positions = self.positions.narrow(0, start, width).expand(len(fed), -1)
                mask = None if width == 1 else self._causal(start, width)
        else:
            mask, positions = self._ragged(start, width, in_step, drafts if trees else None)
        return self._call(ids, mask, positions, width)

    def advance(self, n_tokens: Sequence[int], stand: Sequence[Sequence[int]]) -> None:
        """What each row keeps of what it was last fed.

        Args:
            n_tokens: how many tokens it got. All but the last have their states in the cache.
            stand: the places of the drafted tokens among them; their states move to where a chain has them.
        """
        capacity = self.cache.columns.capacity
        moved = [
            (slot * capacity + column + 1 + place, slot * capacity + column + 1 + n)
            for slot, (column, places) in enumerate(zip(self.next, stand, strict=True))
            for n, place in enumerate(places)
            if place != n
        ]
        if moved:
            old, new = torch.tensor(moved, device=self.device).unbind(1)
            self.cache.move(old, new)
        self.next = [column + n for column, n in zip(self.next, n_tokens, strict=True)]

    def select(self, slots: Sequence[int]) -> None:
        """Keep only these rows."""
        rows = torch.tensor(slots, device=self.device)
        self.cache.select(rows, max(self.next))
        self.first, self.next = [self.first[slot] for slot in slots], [self.next[slot] for slot in slots]
        self._first = None if self._first is None or not any(self.first) else self._first[rows]

    def _call(self, ids: torch.Tensor, mask: Any, positions: torch.Tensor, n_logits: int) -> torch.Tensor:
        options: dict[str, Any] = {self.target.cache_name: self.cache}
        if self.target.keeps_logits:
            options["logits_to_keep"] = n_logits
        with with_grouped_attention():
            output = self.target.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                **options,
            )
        return output.logits if self.target.keeps_logits else output.logits[:, -n_logits:]

    def _causal(self, start: int, width: int) -> torch.Tensor:
        """Mask of rows in step, float[1, 1, width, start + width]: a window of a band matrix, so nothing is computed."""
        if self._bands is None or self._last_start < start:
            self._last_start = _aligned(2 * start + len(self.steps))
            # one matrix for each place of the window's edge between two aligned columns
            edge = self._last_start + torch.arange(ALIGNMENT, device=self.device)[:, None, None]
            span = self._last_start + ALIGNMENT + _aligned(len(self.steps))
            hidden = torch.arange(span, device=self.device) > edge + self.steps[:, None]
            self._bands = self._mask(hidden)
        off = start % ALIGNMENT
        left = self._last_start + off - start
        return self._bands[None, None, off, :width, left : left + start + width]

    def _branching(self, start: int, width: int, drafts: Sequence[Planned]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of rows in step that feed trees: mask, float[n_rows, 1, width, start + width], positions, int64[n_rows, width]."""
        unseen, depths = self._tree(drafts, width, ends_aligned=False)
        mask = torch.zeros(len(drafts), 1, width, _aligned(start + width), dtype=self._dtype, device=self.device)
        mask = mask[..., : start + width]
        mask[..., start:].masked_fill_(unseen[:, None], torch.finfo(self._dtype).min)
        return mask, (depths + start).clamp_(max=self.last_position)

    def _ragged(
        self, start: int, width: int, in_step: bool, drafts: Sequence[Planned] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of rows with their own columns: mask, float[n_rows, 1, width, columns], and positions, int64[n_rows, width]."""
        n_rows = len(self.next)
        starts = torch.tensor(self.next, device=self.device)[:, None]
        own = starts + self.steps[:width]  # the column of every token
        columns = self.cache.columns
        if not in_step:
            lines = torch.arange(n_rows, device=self.device)[:, None] * columns.capacity
            columns.index = (own + lines).flatten()
        every = torch.arange(_aligned(start + width), device=self.device)
        positions = own
        if drafts is None:
            hidden = every > own[:, :, None]
        else:
            unseen, depths = self._tree(drafts, width, ends_aligned=False)
            hidden = (every >= starts)[:, None].repeat(1, width, 1)
            hidden.scatter_(2, own[:, None].expand(-1, width, -1), unseen)
            positions = starts + depths
        if self._first is not None:
            hidden |= every < self._first[:, :, None]
            positions = positions - self._first
        mask = self._mask(hidden)[:, None, :, : start + width]
        return mask, positions.clamp(max=self.last_position)

    def _tree(self, drafts: Sequence[Planned], width: int, *, ends_aligned: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """How the tokens of trees stand to each other.

        Args:
            drafts: of each row, below its last token.
            width: tokens of each row that count: from its last one on, with padding behind the draft, or up to the draft's end.
            ends_aligned: the latter.

        Returns:
            unseen: bool[n_rows, width, width]: whether a token does not stand on the branch of another, nor is it.
            depths: int64[n_rows, width]: tokens before each on its branch.
        """
        size = -(-width // 8)
        lines, depths = [], []
        for draft in drafts:
            root = width - 1 - len(draft.tokens) if ends_aligned else 0
            # of each token, those that it sees as the bits of a number: numpy is slow on rows of a few
            seen, depth = [(2 << place) - 1 for place in range(root + 1)], list(range(root + 1))
            for place, parent in enumerate(draft.parents, root + 1):
                seen.append(seen[root + 1 + parent] | 1 << place)
                depth.append(depth[root + 1 + parent] + 1)
            rest = width - len(seen)
            lines += [bits.to_bytes(size, "little") for bits in (*seen, *[0] * rest)]
            depths.append(depth + [0] * rest)
        packed = np.frombuffer(b"".join(lines), np.uint8).reshape(len(drafts), width, size)
        unseen = np.unpackbits(packed, axis=2, count=width, bitorder="little") == 0
        return torch.from_numpy(unseen).to(self.device), torch.tensor(depths, device=self.device)

    def _mask(self, hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self.device)
        return mask.masked_fill_(hidden, torch.finfo(self._dtype).min)


def _rope_limit(config: Any) -> int | None:
    """Tokens up to which a model's rotary positions are encoded in one way; None where they always are.

    "dynamic" and "longrope" encode every position of a pass otherwise as soon as one of them lies beyond the length that the
    model was first trained for. A draft would get there earlier than plain decoding does.
    """
    config = config.get_text_config(decoder=True)
    found = getattr(config, "rope_parameters", None) or {}
    # one kind for all layers, or one for each type of layer
    kinds = [found, *(value for value in found.values() if isinstance(value, dict))]
    return min(
        (
            kind.get("original_max_position_embeddings") or config.max_position_embeddings
            for kind in kinds
            if kind.get("rope_type") in ("dynamic", "longrope")
        ),
        default=None,
    )


def _aligned(n: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-n // ALIGNMENT) * ALIGNMENT
