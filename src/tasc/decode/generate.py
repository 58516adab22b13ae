"""Greedy batched generation: token ids in, token ids out, with forward passes and time counted per row.

It knows nothing of text, templates or n-grams. A row takes part in forward passes until its end token comes; then it
leaves the batch, so that neither its passes nor its share of the time grow while longer rows finish.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasc.decode._signature import own_model
from tasc.errors import DataError, ModelError, OptionError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tasc.decode.drafting import Drafting
    from tasc.decode.speculate import RequestStats, Row
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
        DataError: there is no prompt, an empty one, or one with ids that the model does not have.
        ModelError: a prompt does not fit into the model, or the model cannot be decoded this way.

    Examples:
        ```python
        generated = generate(model, [[5, 6], [7]], eos_id=2, max_new_tokens=20)
        generated.outputs, generated.passes  # ([[9, 12], [4]], [3, 2])
        ```
    """
    import torch

    end_ids = frozenset([eos_id] if isinstance(eos_id, int) else eos_id or ())
    _check_options(max_new_tokens, batch_size, end_ids)
    _check_model(model, vocabulary)
    limits = _limits(model, prompts, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    finished: dict[int, tuple[Row, RequestStats | None]] = {}
    seconds: list[float] = []
    decode = _decoder(model, drafter, vocabulary, pad_id)
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            begin = time.perf_counter()
            done = decode([prompts[row] for row in rows], [limits[row] for row in rows], end_ids)
            finished.update(zip(rows, done, strict=True))
            seconds.append(time.perf_counter() - begin)
            if progress is not None:
                progress(len(rows))
    rows, stats = zip(*(finished[row] for row in range(len(prompts))), strict=True)
    return Generated(
        outputs=[row.ids[:-1] if row.ended else row.ids for row in rows],
        passes=[len(row.verified) for row in rows],
        ms=[1000 * (row.draft_seconds + row.verify_seconds) for row in rows],
        ended=[row.ended for row in rows],
        seconds=seconds,
        requests=[of_row for of_row in stats if of_row is not None],
        prefill_ms=[1000 * row.prefill_seconds for row in rows],
    )


# prompts, most ids for each, end ids -> what became of each, in order
_Decode = Callable[[Sequence[Sequence[int]], list[int], Collection[int]], "list[tuple[Row, RequestStats | None]]"]


def _decoder(
    model: "PreTrainedModel",
    drafter: "Drafts | Drafting | None",
    vocabulary: "EnrichedVocabulary | None",
    pad_id: int,
) -> _Decode:
    """How to decode with a model: in our loop, with drafts or not; by transformers where its cache cannot be rolled back."""
    from tasc.decode._stock import decode_by_transformers
    from tasc.decode.drafting import Drafting
    from tasc.decode.forward import Forward
    from tasc.decode.speculate import Greedy, Row, speculate

    drafting = Drafting(drafter, vocabulary=vocabulary) if not isinstance(drafter, Drafting | None) else drafter
    target = _rolled_back(model) if drafting is None else drafting.target(model)
    control = None if drafting is None else drafting.control(model)

    def decode(
        prompts: Sequence[Sequence[int]], limits: list[int], end_ids: Collection[int]
    ) -> "list[tuple[Row, RequestStats | None]]":
        longest = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        greedy = Greedy(end_ids, check=_check_finite)
        if drafting is None:
            rows = [Row(k, list(prompt), n) for k, (prompt, n) in enumerate(zip(prompts, limits, strict=True))]
            if target is None or not target.holds(longest):
                decode_by_transformers(model, rows, greedy, pad_id)
            else:
                speculate(Forward(target, longest, 1), rows, greedy, None, pad_id=pad_id)
            return [(row, None) for row in rows]
        assert target is not None and control is not None
        rows = drafting.rows(prompts, limits)
        speculate(Forward(target, longest, 1 + control.max_draft), rows, greedy, control, pad_id=pad_id)
        return list(zip(rows, drafting.finish(rows), strict=True))

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
    n_rows = model.config.get_text_config().vocab_size
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = []
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise DataError(f"prompt {row} has no tokens; give every row a prompt or use a template with a BOS token")
        if not 0 <= min(prompt) <= max(prompt) < n_rows:
            raise DataError(
                f"prompt {row} has ids from {min(prompt)} to {max(prompt)}, the model those from 0 to {n_rows - 1}; encode it "
                "with the model's tokenizer"
            )
        # the last generated id is never fed back, so it needs no position
        room = positions - len(prompt) + 1 if positions and positions > 0 else max_new_tokens  # XLNet says -1
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


def _check_finite(logits: "torch.Tensor") -> None:
    if not bool(logits.amax(dim=-1).isfinite().all()):
        raise ModelError("the model's logits are not finite; load it in another precision, e.g. --dtype float32")
