"""Timing that can be repeated: warm up first, measure several times, report the median and the spread."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasc.decode.generate import Generated, generate
from tasc.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tasc.decode.drafting import Drafting

WARM_UP_PASSES = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        values: one measurement a repetition, in order.

    Examples:
        >>> timing = Timing((3.0, 1.0, 2.0))
        >>> timing.median, timing.low, timing.high
        (2.0, 1.0, 3.0)
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle measurement."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest measurement."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest measurement."""
        return max(self.values)


def measure(run: Callable[[], Any], *, repeats: int = 3, warm_up: int = 1) -> Timing:
    """Seconds of `run()`, without the first `warm_up` calls.

    Args:
        run: what is measured.
        repeats: calls that are measured.
        warm_up: calls before them.

    Examples:
        >>> calls = []
        >>> len(measure(lambda: calls.append(0), repeats=3, warm_up=2).values), len(calls)
        (3, 5)
    """
    if repeats < 1:
        raise OptionError(f"repeats must be at least 1, got {repeats}")
    for _ in range(warm_up):
        run()
    return Timing(tuple(_seconds(run) for _ in range(repeats)))


def timed_generate(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    repeats: int = 1,
    batch_size: int = 8,
    max_new_tokens: int,
    drafting: "Drafting | None" = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> tuple[Generated, Timing]:
    """Generate after a warm-up that is not counted: a few passes over the largest batch.

    Args:
        model: decoder-only; on its device, in its dtype.
        prompts: token ids of each row, none empty.
        batch_size: most rows in one forward pass.
        max_new_tokens: most ids to generate for a row, end token included.
        repeats: how often all prompts are generated; greedy outputs are the same each time.
        drafting: drafts to decode with; each repetition begins with a fresh copy of it.
        progress: called with the rows finished, `repeats * len(prompts)` in all.
        options: see `tasc.decode.generate`.

    Returns:
        The repetition with the median time, and the milliseconds per output of all.
    """
    if repeats < 1:
        raise OptionError(f"repeats must be at least 1, got {repeats}")
    longest = sorted(prompts, key=len, reverse=True)[:batch_size]
    settings: dict[str, Any] = {"batch_size": batch_size, **options}
    warm_up = settings if drafting is None else dict(settings, drafter=drafting.fresh())
    generate(model, longest, max_new_tokens=min(WARM_UP_PASSES, max_new_tokens), **warm_up)
    runs = []
    for repeat in range(repeats):
        if drafting is not None:  # each repetition learns anew how well drafts pay, and only the first is recorded
            settings["drafter"] = drafting.fresh(record=None if repeat else drafting.record)
        runs.append(generate(model, prompts, max_new_tokens=max_new_tokens, progress=progress, **settings))
    typical = sorted(runs, key=lambda run: run.ms_per_output)[(repeats - 1) // 2]
    return typical, Timing(tuple(run.ms_per_output for run in runs))


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
