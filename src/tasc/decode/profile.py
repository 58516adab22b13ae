"""Measures what a forward pass costs: the curve that decides how long drafts are (`tasc.StepCost`)."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from tasc.decode.generate import evaluating
from tasc.decode.load import device_name
from tasc.draft.cost import StepCost
from tasc.draft.verify import NOTHING, Planned
from tasc.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tasc.decode.forward import Forward

TOKENS, BATCH_SIZES, CONTEXTS = (1, 2, 4, 8, 16), (1, 8), (64, 256)
# a CPU's narrow pass takes a quarter longer right behind a wide one; decoding has its like before it
SETTLE, IN_A_ROW = 2, 3


def profile(
    model: "PreTrainedModel",
    *,
    tokens: Sequence[int] = TOKENS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    contexts: Sequence[int] = CONTEXTS,
    repeats: int = 15,
    progress: Callable[[int], None] | None = None,
) -> StepCost:
    """Time passes of the loop that decodes with drafts, choice of the tokens included.

    The sizes take turns of a few passes, the first of which are not timed. Of each the fastest pass counts: what else runs on the
    machine only ever adds, and adds more to long passes than to short ones.

    Args:
        model: decoder-only, with a cache that can be rolled back.
        tokens: tokens fed per row, ascending from 1.
        batch_sizes: rows in a pass, ascending.
        contexts: tokens in the cache, ascending; those that do not fit into the model are left out.
        repeats: timed passes of each size.
        progress: called with the number of timed passes done, one per repeat and size in all.

    Raises:
        OptionError: `repeats` below 1, a list that does not ascend, or no context fits into the model.
        ModelError: the model cannot be decoded with drafts.
    """
    import torch

    from tasc.decode.forward import Forward, Target

    if repeats < 1:
        raise OptionError(f"repeats must be at least 1, got {repeats}")
    StepCost(tokens, batch_sizes, contexts, [[[1.0] * len(tokens)] * len(contexts)] * len(batch_sizes))
    fitting = fitting_contexts(model, contexts, tokens)
    target = Target(model)
    seconds: dict[tuple[int, int, int], list[float]] = {}
    with torch.inference_mode(), evaluating(model):
        forwards: dict[tuple[int, int], Forward] = {}
        for n_rows in batch_sizes:
            for context in fitting:
                forwards[n_rows, context] = forward = Forward(target, context + max(tokens), max(tokens))
                forward.prefill([[0] * context] * n_rows, [NOTHING] * n_rows, 0)
                forward.advance([1] * n_rows, [()] * n_rows)
        for done in range(0, repeats, IN_A_ROW):
            n = min(IN_A_ROW, repeats - done)
            for (n_rows, context), forward in forwards.items():
                for k in tokens:
                    seconds.setdefault((n_rows, context, k), []).extend(_passes(forward, n_rows, k, n))
                if progress is not None:
                    progress(n * len(tokens))
    ms = [[[1000 * min(seconds[b, c, k]) for k in tokens] for c in fitting] for b in batch_sizes]
    about = {
        "model": getattr(model.config, "_name_or_path", "") or type(model).__name__,
        "device": device_name(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return StepCost(tokens, batch_sizes, fitting, ms, about=about)


def fitting_contexts(model: "PreTrainedModel", contexts: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """The contexts that leave room for a pass in the model's positions.

    Raises:
        OptionError: none does.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    fitting = [context for context in contexts if positions is None or context + max(tokens) <= positions]
    if not fitting:
        raise OptionError(
            f"no context of {list(contexts)} and {max(tokens)} tokens fits the model's {positions} positions"
        )
    return fitting


def _passes(forward: "Forward", n_rows: int, k: int, n: int) -> list[float]:
    """Seconds of `n` passes over `k` tokens per row, behind SETTLE others like them."""
    from tasc.decode.speculate import most_likely

    drafts = [Planned.chain([0] * (k - 1))] * n_rows
    laps = [time.perf_counter()]
    for _ in range(SETTLE + n):
        most_likely(forward.step([0] * n_rows, drafts))  # the next pass writes over this one's columns
        laps.append(time.perf_counter())
    return [end - begin for begin, end in pairwise(laps)][SETTLE:]
