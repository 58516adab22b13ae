"""Greedy batched generation: token ids in, token ids out, with forward passes and time counted per row.

It knows nothing of text, templates or n-grams. A row takes part in forward passes until its end token comes; then it
leaves the batch, so that neither its passes nor its share of the time grow while longer rows finish.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasc.decode._signature import arguments_of, cache_name, own_model
from tasc.errors import DataError, ModelError, OptionError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tasc.decode.drafting import Drafting
    from tasc.decode.speculate import RequestStats
    from tasc.draft.interface import Drafts
    from tasc.vocab.vocabulary import EnrichedVocabulary


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote, row by row in the order of the prompts, and what it took.

    Attributes:
        outputs: model ids of each row, n-grams as one id, without end token or padding.
        passes: forward passes of the target that each row took part in: prefill, one per further id, so the number of
            ids including the end token. With a drafter fewer: a pass brings the drafted ids that it accepts, too.
        ms: each row's share of the time in milliseconds; a pass is shared equally by the rows in it.
        ended: whether the row ended by itself; False where it ran into its limit.
        seconds: wall-clock seconds of each batch, from ids on the host to ids on the host.
        requests: with a drafter, what it did for each row; empty without one.
        prefill_ms: of `ms` what the prompt's pass took.
    """

    outputs: list[list[int]]
    passes: list[int]
    ms: list[float]
    ended: list[bool]
    seconds: list[float]
    requests: "list[RequestStats]" = field(default_factory=list)
    prefill_ms: list[float] = field(default_factory=list)

    @property
    def ms_per_output(self) -> float:
        """Wall-clock milliseconds of all batches by the number of outputs."""
        return 1000 * sum(self.seconds) / len(self.outputs)

    @property
    def passes_per_output(self) -> float:
        """Mean number of forward passes that a row took part in."""
        return sum(self.passes) / len(self.passes)


def generate(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    eos_id: int | Collection[int],
    max_new_tokens: int,
    batch_size: int = 8,
    pad_id: int = 0,
    vocabulary: "EnrichedVocabulary | None" = None,
    drafter: "Drafts | Drafting | None" = None,
    progress: Callable[[int], None] | None = None,
) -> Generated:
    """Continue each prompt greedily until an end token or the limit.

    Prompts of like length share a batch, longest first, so that little is padded (on the left) and a batch that does
    not fit into memory shows at once. In float32 the outputs do not depend on the batch size.

    Args:
        model: a decoder-only model; its device and dtype stay as they are.
        prompts: token ids of each row, none empty.
        eos_id: the id that ends an output, or several.
        max_new_tokens: most ids to generate for a row, end token included. They are ids of the model: an n-gram counts
            as one. A row whose prompt leaves fewer positions in the model's context gets those.
        batch_size: most rows in one forward pass.
        pad_id: any id the model knows; it is masked.
        vocabulary: the n-grams the model was trained with; only checked against the rows of the model.
        drafter: proposes ids that a pass verifies together; the outputs stay the same. `tasc.speculative(drafter, ...)`
            sets its options.
        progress: called with the number of rows finished since its last call.

    Raises:
        OptionError: `max_new_tokens` or `batch_size` below 1, no end token.
        DataError: there is no prompt, or an empty one.
        ModelError: a prompt does not fit into the model, or the model cannot be decoded this way.

    Examples:
        ```python
        generated = generate(model, [[5, 6], [7]], eos_id=2, max_new_tokens=20)
        generated.outputs, generated.passes  # ([[9, 12], [4]], [3, 2])
        ```
    """
    import torch

    end_ids = frozenset([eos_id] if isinstance(eos_id, int) else eos_id)
    _check_options(max_new_tokens, batch_size, end_ids)
    _check_model(model, vocabulary)
    limits = _limits(model, prompts, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    finished: dict[int, _Finished] = {}
    seconds: list[float] = []
    decode = _decoder(model, drafter, vocabulary, pad_id)
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            begin = time.perf_counter()
            finished.update(decode([prompts[row] for row in rows], {row: limits[row] for row in rows}, end_ids))
            seconds.append(time.perf_counter() - begin)
            if progress is not None:
                progress(len(rows))
    done = [finished[row] for row in range(len(prompts))]
    return Generated(
        outputs=[row.ids for row in done],
        passes=[row.passes for row in done],
        ms=[1000 * row.seconds for row in done],
        ended=[row.ended for row in done],
        seconds=seconds,
        requests=[row.stats for row in done if row.stats is not None],
        prefill_ms=[1000 * row.prefill_seconds for row in done],
    )


@dataclass(slots=True)
class _Finished:
    """One row's output while and after it is written."""

    ids: list[int]
    passes: int = 0
    seconds: float = 0.0
    ended: bool = False
    prefill_seconds: float = 0.0
    stats: "RequestStats | None" = None


# prompts, row -> most ids for it (in the same order), end ids -> row -> what became of it
_Decode = Callable[[Sequence[Sequence[int]], dict[int, int], Collection[int]], dict[int, _Finished]]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Inputs of the first pass: `ids` int64[n_rows, width]; `mask` int64[n_rows, width + room], None without padding."""

    ids: "torch.Tensor"
    mask: "torch.Tensor | None"
    positions: "torch.Tensor | None"


class _Forward:
    """Calls a model with those of our arguments that its `forward` takes."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self.model = model
        accepted = arguments_of(model)
        self.cache_name = cache_name(accepted)
        self.takes_positions = "position_ids" in accepted
        self.options: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in accepted:
            self.options["logits_to_keep"] = 1  # the head of a whole prompt would be most of its cost

    def __call__(
        self, ids: "torch.Tensor", mask: "torch.Tensor | None", positions: "torch.Tensor | None", cache: Any
    ) -> tuple["torch.Tensor", Any]:
        options = self.options | {self.cache_name: cache}
        if mask is not None:
            options["attention_mask"] = mask
            if self.takes_positions:
                options["position_ids"] = positions
        model: Any = self.model  # torch.nn.Module leaves the types of a call open
        output = model(input_ids=ids, **options)
        return output.logits[:, -1], getattr(output, self.cache_name, None)


def _decoder(
    model: "PreTrainedModel",
    drafter: "Drafts | Drafting | None",
    vocabulary: "EnrichedVocabulary | None",
    pad_id: int,
) -> _Decode:
    """The loop for a model: rows with lengths of their own, drafts or not; in step where its cache allows no other."""
    from tasc.decode.drafting import Drafting
    from tasc.decode.forward import Forward
    from tasc.decode.speculate import Greedy, Row, speculate

    drafting = Drafting(drafter, vocabulary=vocabulary) if not isinstance(drafter, Drafting | None) else drafter
    target = _rolled_back(model) if drafting is None else drafting.target(model)
    control = None if drafting is None else drafting.control(model)
    in_step = _Forward(model)

    def decode(
        prompts: Sequence[Sequence[int]], limits: dict[int, int], end_ids: Collection[int]
    ) -> dict[int, _Finished]:
        longest = max(len(prompt) + limit for prompt, limit in zip(prompts, limits.values(), strict=True))
        if target is None or (drafting is None and longest > (target.window or longest)):
            begin = time.perf_counter()
            batch = _left_padded(prompts, pad_id, max(limits.values()), model.device)
            return _decode(in_step, batch, limits, end_ids, begin)
        if drafting is None:
            rows = [Row(k, list(prompt), n) for k, (prompt, n) in enumerate(zip(prompts, limits.values(), strict=True))]
        else:
            rows = drafting.rows(prompts, list(limits.values()))
        forward = Forward(target, longest, 1 if control is None else 1 + control.max_draft)
        speculate(forward, rows, Greedy(end_ids, check=_check_finite), control, pad_id=pad_id)
        stats = [None] * len(rows) if drafting is None else drafting.finish(rows)
        return {
            number: _Finished(
                ids=row.ids[:-1] if row.ended else row.ids,
                passes=len(row.accepted),
                seconds=row.draft_seconds + row.verify_seconds,
                ended=row.ended,
                prefill_seconds=row.prefill_seconds,
                stats=of_row,
            )
            for number, row, of_row in zip(limits, rows, stats, strict=True)
        }

    return decode


def _rolled_back(model: "PreTrainedModel") -> Any:
    """The model as the loop for rows with lengths of their own needs it; None where it cannot use that loop."""
    from tasc.decode.forward import Target

    if not type(own_model(model)).__module__.startswith("transformers."):
        return None  # code of the model's own may expect other masks and caches
    try:
        return Target(model)
    except ModelError:
        return None


def _decode(
    forward: _Forward, batch: _Batch, limits: dict[int, int], end_ids: Collection[int], begin: float
) -> dict[int, _Finished]:
    """Decode one batch; `limits` maps the batch's rows, in its order, to the most ids each may get."""
    import torch

    done = {row: _Finished([]) for row in limits}
    rows = list(limits)
    ids, mask, positions, cache, width = batch.ids, batch.mask, batch.positions, None, batch.ids.shape[1]
    last = begin
    while True:
        logits, cache = forward(ids, None if mask is None else mask[:, :width], positions, cache)
        if width == batch.ids.shape[1]:
            _check_first(logits, cache)
        chosen = logits.argmax(dim=-1)
        tokens = chosen.tolist()  # waits for the device, so the clock below is honest
        now = time.perf_counter()
        share, last = (now - last) / len(rows), now
        for row, token in zip(rows, tokens, strict=True):
            _take(done[row], token, share, end_ids)
        stay = [slot for slot, row in enumerate(rows) if not done[row].ended and done[row].passes < limits[row]]
        if not stay:
            return done
        if len(stay) < len(rows):
            rows = [rows[slot] for slot in stay]
            index = torch.tensor(stay, device=chosen.device)
            chosen = chosen[index]
            cache.reorder_cache(index)
            mask = None if mask is None else mask[index]
            positions = None if positions is None else positions[index]
        ids, width = chosen[:, None], width + 1
        positions = None if positions is None else positions[:, -1:] + 1


def _take(row: _Finished, token: int, seconds: float, end_ids: Collection[int]) -> None:
    row.passes += 1
    row.seconds += seconds
    row.prefill_seconds = row.prefill_seconds or seconds
    if token in end_ids:
        row.ended = True
    else:
        row.ids.append(token)


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int, room: int, device: "torch.device") -> _Batch:
    """Prompts as one tensor, ends aligned. Without padding neither mask nor positions are needed, which saves time."""
    import torch

    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    padded = [[pad_id] * n + list(prompt) for n, prompt in zip(padding, prompts, strict=True)]
    ids = torch.tensor(padded, dtype=torch.int64, device=device)
    if not any(padding):
        return _Batch(ids, None, None)
    columns = torch.arange(width + room, device=device)[None]
    first = torch.tensor(padding, device=device)[:, None]
    positions = (columns[:, :width] - first).clamp(min=0)
    return _Batch(ids, (columns >= first).to(torch.int64), positions)


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Without dropout; the model's mode comes back."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _limits(model: "PreTrainedModel", prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[int]:
    """The most ids each row may get: `max_new_tokens`, or what its prompt leaves of the model's positions."""
    if not prompts:
        raise DataError("generation needs at least one prompt, got none; check the data file")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = []
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise DataError(f"prompt {row} has no tokens; give every row a prompt or use a template with a BOS token")
        # the last generated id is never fed back, so it needs no position
        room = max_new_tokens if positions is None else positions - len(prompt) + 1
        if room < 1:
            raise ModelError(
                f"prompt {row} has {len(prompt)} tokens, the model has {positions} positions; shorten the prompt or "
                "use a model with a longer context"
            )
        limits.append(min(max_new_tokens, room))
    return limits


def _check_options(max_new_tokens: int, batch_size: int, end_ids: Collection[int]) -> None:
    if max_new_tokens < 1:
        raise OptionError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, got {batch_size}")
    if not end_ids:
        raise OptionError("generation needs an end token, got none; pass eos_id")


def _check_model(model: "PreTrainedModel", vocabulary: "EnrichedVocabulary | None") -> None:
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"generation needs a decoder-only model, got {type(model).__name__} (encoder-decoder)")
    n_rows = model.config.get_text_config().vocab_size
    if vocabulary is not None and n_rows < vocabulary.size:
        raise ModelError(
            f"the vocabulary has {vocabulary.size} ids, the model {n_rows} rows; use the model that 'tasc train' made "
            "with this vocabulary"
        )


def _check_first(logits: "torch.Tensor", cache: Any) -> None:
    """Stop before hundreds of passes over numbers that mean nothing."""
    if cache is None:
        raise ModelError("the model returns no key-value cache, so it cannot be decoded step by step")
    _check_finite(logits)


def _check_finite(logits: "torch.Tensor") -> None:
    if not bool(logits.amax(dim=-1).isfinite().all()):
        raise ModelError("the model's logits are not finite; load it in another precision, e.g. --dtype float32")
