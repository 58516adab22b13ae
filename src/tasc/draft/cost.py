"""What a forward pass costs: milliseconds over the tokens fed per row, the rows and the context.

A draft pays while the tokens it is expected to bring outweigh what they add to the pass. `StepCost` holds the measured
curve (`tasc profile` writes it) or a default one, and answers the one question: how much of a draft to verify. It is the
only clock that decoding and replay decide by, so both decide the same, on every machine.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasc._numba import njit
from tasc.errors import DataError, OptionError
from tasc.files import read_json, write_json

FORMAT, VERSION = "tasc-step-cost", 1
DRAFT_MS = 0.03
MOST = {"tokens": 1 << 14, "batch_sizes": 1 << 20, "contexts": 1 << 30}  # the curve is kept for each number of tokens
CONTEXT_STEP = 64  # the curve is looked up in steps of so many tokens of context

# Milliseconds of a pass by tokens per row, at batch 1 and 8. CPU: for 2, 4, 8 and 16 tokens a 0.5B model takes 1.2, 1.2, 1.2
# and 1.4 times as long as for one, a 4M one 1.1, 1.2, 1.4 and 1.8; a large one with weights as torch has them 2.0, 2.5, 2.5
# and 2.5 times, on another machine 1.0, 2.1, 2.5 and 2.9 (docs/decisions/0014). CUDA: a roofline. Reading the weights
# bounds a pass up to as many tokens as the chip does multiplications per weight read (an H100: 990 TFLOP/s at 2 per weight
# and token, 3.35 TB/s at 2 bytes per weight), so tokens are free there and are paid for in full beyond.
_TOKENS = (1, 2, 4, 8, 16)
_RIDGE = 295
_CUDA_ROWS = (1, 8, 32, 128, 512)
_DEFAULTS: dict[str, dict[int, tuple[float, ...]]] = {
    "cpu": {1: (3.0, 3.4, 3.7, 4.1, 5.1), 8: (4.2, 5.7, 8.1, 13.2, 22.8)},
    "cpu, as torch has it": {1: (3.0, 4.5, 6.9, 7.5, 8.1), 8: (6.0, 7.2, 9.0, 12.9, 21.0)},
    "mps": {1: (10.0, 10.6, 11.5, 13.0, 15.5), 8: (12.0, 13.5, 15.5, 19.0, 26.0)},
    "cuda": {n: tuple(12.0 * max(1.0, n * k / _RIDGE) for k in _TOKENS) for n in _CUDA_ROWS},
}


@dataclass(frozen=True, eq=False)
class StepCost:
    """Milliseconds of a forward pass, piecewise linear between the measured points and beyond the last ones.

    Attributes:
        tokens: tokens fed per row in one pass, ascending from 1.
        batch_sizes: rows in the pass, ascending.
        contexts: tokens already in the cache of each row, ascending.
        ms: float64[n_batch_sizes, n_contexts, n_tokens].
        draft_ms: milliseconds to propose one row's draft.
        about: where it was measured: model, device, dtype, threads.

    Raises:
        OptionError: an axis is empty, does not ascend or goes too far, or a time is not a positive number.

    Examples:
        >>> cost = StepCost((1, 2, 3), (1,), (0,), [[[10.0, 12.0, 20.0]]])
        >>> cost.step_ms(2)
        12.0
        >>> cost.best_length([0.9, 0.6])  # 1 / 10 < (1 + 0.9) / 12 > (1 + 0.9 + 0.54) / 20
        1
    """

    tokens: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    contexts: tuple[int, ...]
    ms: NDArray[np.float64]
    draft_ms: float = DRAFT_MS
    about: dict[str, Any] = field(default_factory=dict)
    _curves: dict[tuple[int, int], list[float]] = field(default_factory=dict, init=False, repr=False)

    def __init__(
        self,
        tokens: Sequence[int],
        batch_sizes: Sequence[int],
        contexts: Sequence[int],
        ms: ArrayLike,
        draft_ms: float = DRAFT_MS,
        about: dict[str, Any] | None = None,
    ) -> None:
        axes = {"tokens": tuple(tokens), "batch_sizes": tuple(batch_sizes), "contexts": tuple(contexts)}
        measured = np.array(ms, np.float64)
        _check(axes, measured, draft_ms)
        # a pass over more tokens never costs less: what says so is noise, and would favour needless drafts
        smoothed = np.maximum.accumulate(measured, axis=2)
        smoothed.flags.writeable = False
        values = {**axes, "ms": smoothed, "draft_ms": float(draft_ms), "about": dict(about or {}), "_curves": {}}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def default(cls, device: str = "cpu", *, packed: bool = True) -> "StepCost":
        """The curve to go by where nothing was measured.

        Args:
            device: `"cpu"`, `"mps"` or `"cuda"`, with or without an index; others are taken for `"cuda"`.
            packed: False for a large model on a CPU whose weights are as torch has them, see `tasc.decode.lay_out_for_cpu`.

        Examples:
            >>> StepCost.default("cuda").best_length([0.1] * 10), StepCost.default("cpu").best_length([0.1] * 10)
            (10, 0)
        """
        kind = device.partition(":")[0]
        name = "cpu, as torch has it" if kind == "cpu" and not packed else kind
        by_rows = _DEFAULTS.get(name, _DEFAULTS["cuda"])
        about = {"device": kind, "default": True}
        return cls(_TOKENS, tuple(by_rows), (128,), [[ms] for ms in by_rows.values()], about=about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "StepCost":
        """Read what `save` wrote.

        Raises:
            DataError: the file is not a step-cost file, of another version, or its values make no curve.
            OSError: the file cannot be opened.
        """
        return cls.from_json(read_json(path), source=os.fspath(path))

    @classmethod
    def from_json(cls, found: Any, *, source: str = "step costs") -> "StepCost":
        """The curve of what `to_json` gave, for example in the first line of a log.

        Raises:
            DataError: see `load`; the message begins with `source`.
        """
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise DataError(f"{source}: not a step-cost file; write one with 'tasc profile'")
        if found.get("version") != VERSION:
            raise DataError(
                f"{source}: version {found.get('version')}, expected {VERSION}; write it again with 'tasc profile'"
            )
        try:
            tokens, batch_sizes, contexts = (_integers(found[name]) for name in ("tokens", "batch_sizes", "contexts"))
            return cls(tokens, batch_sizes, contexts, found["ms"], float(found["draft_ms"]), dict(found["about"]))
        except (KeyError, TypeError, ValueError, OverflowError, OptionError) as error:
            raise DataError(f"{source}: {error}; write it again with 'tasc profile'") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the curve as JSON, atomically."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "about": self.about,
            "tokens": list(self.tokens),
            "batch_sizes": list(self.batch_sizes),
            "contexts": list(self.contexts),
            "ms": self.ms.tolist(),
            "draft_ms": self.draft_ms,
        }

    def step_ms(self, tokens: int, *, batch_size: int = 1, context: int = 128) -> float:
        """Milliseconds of one pass.

        Args:
            tokens: of each row in the pass, at least 1.
            batch_size: rows in the pass.
            context: tokens in the cache of each row.
        """
        return self.costs(0, batch_size=batch_size, context=context, fed=tokens)[0]

    def best_length(
        self,
        probabilities: ArrayLike,
        *,
        batch_size: int = 1,
        context: int = 128,
        fed: int = 1,
        tokens_per_ms: float | None = None,
    ) -> int:
        """How much of a draft to verify: `best_width` for one row.

        Args:
            probabilities: float[n]: the chance of each drafted token to be accepted given that all before it were.
            batch_size: rows that share the pass.
            context: tokens in the cache.
            fed: tokens of the row that the pass reads anyway.
            tokens_per_ms: the pace to beat; default: that of plain decoding.
        """
        return self.best_width(
            [probabilities], batch_size=batch_size, context=context, fed=fed, tokens_per_ms=tokens_per_ms
        )

    def best_width(
        self,
        probabilities: Sequence[ArrayLike],
        *,
        batch_size: int | None = None,
        context: int = 128,
        fed: int = 1,
        tokens_per_ms: float | None = None,
    ) -> int:
        """The most drafted tokens per row that pay, for rows that share a pass.

        A pass costs by its longest row, shorter drafts are padded: so the rows decide together. Width w is expected to
        bring, of a row with probabilities p, `1 + p[0] + p[0] p[1] + ...` tokens (w products at most).

        Args:
            probabilities: of each row, float[n_drafted]: the chance of each token to be accepted given that all before
                it were.
            batch_size: rows that count for the cost; default: as many as are given.
            context: tokens in the cache.
            fed: tokens per row that are fed anyway: 1, or the prompt's.
            tokens_per_ms: the pace to beat. By default the width maximises expected tokens per millisecond of this
                pass. With the pace of the passes around it, it maximises expected tokens minus pace x milliseconds,
                which makes the whole run fastest: a token that one pass misses is brought by another at that pace.

        Returns:
            0 where no draft pays. Of widths that are worth the same the longest.
        """
        gains: list[float] = []  # of each width over the one before: expected tokens, all rows together
        for row in probabilities:
            reached = 1.0
            for width, probability in enumerate(listed(row)):
                reached *= probability
                if width < len(gains):
                    gains[width] += reached
                else:
                    gains.append(reached)
        if not gains:
            return 0
        costs = self.costs(len(gains), batch_size=batch_size or len(probabilities), context=context, fed=fed)
        expected, best = float(len(probabilities)), 0
        best_worth = expected / costs[0] if tokens_per_ms is None else expected - tokens_per_ms * costs[0]
        for width, gain in enumerate(gains, 1):
            expected += gain
            worth = expected / costs[width] if tokens_per_ms is None else expected - tokens_per_ms * costs[width]
            if worth >= best_worth:
                best, best_worth = width, worth
        return best

    def best_total(
        self,
        probabilities: Sequence[Sequence[float] | NDArray[np.floating]],
        *,
        context: int = 128,
        tokens_per_ms: float,
        min_gain: float = 0.0,
    ) -> list[int]:
        """How many drafted tokens of each row pay where rows of a pass are not padded to the longest (vLLM).

        A pass then costs by all its tokens together. The likeliest are taken first, whichever row they are of, and as
        many as maximise expected tokens minus pace x milliseconds, see `best_width`.

        Args:
            probabilities: of each row, float[n_drafted], see `best_width`.
            context: tokens in the cache of each row, on average.
            tokens_per_ms: the pace to beat, of all rows together.
            min_gain: by what share the pass must beat a plain one in expected tokens per millisecond.

        Returns:
            Tokens of each row's draft, its first ones.
        """
        n_drafted = np.array([len(row) for row in probabilities], np.int64)
        lengths = np.zeros(len(n_drafted), np.int64)
        if n_drafted.any():
            chances = np.concatenate(probabilities, dtype=np.float64)
            costs = np.array(self.costs(int(n_drafted.max()) + 1, batch_size=len(n_drafted), context=context))
            _most_worth(chances, n_drafted, costs, float(tokens_per_ms), float(min_gain), lengths)
        return lengths.tolist()

    def ragged_ms(self, drafted: ArrayLike, *, batch_size: int, context: int = 128) -> NDArray[np.float64]:
        """Milliseconds of passes over one token per row and drafted tokens: the curve at their mean.

        Args:
            drafted: int[n]: drafted tokens of all rows together, one entry a pass.
            batch_size: rows in a pass.
            context: tokens in the cache of each row.

        Returns:
            float64[n].
        """
        per_row = np.asarray(drafted, np.float64) / batch_size
        costs = self.costs(math.ceil(per_row.max()) + 1, batch_size=batch_size, context=context)
        return np.interp(per_row, np.arange(len(costs)), costs)

    def cheapest_ms(self, longest: int, *, batch_size: int, context: int = 128, fed: int = 1) -> float:
        """Milliseconds of the cheapest drafted token: the curve's smallest slope.

        Args:
            longest: most drafted tokens per row.
            batch_size: rows in a pass.
            context: tokens in the cache of each row.
            fed: tokens of each row that a pass reads anyway.
        """
        costs = self.costs(longest, batch_size=batch_size, context=context, fed=fed)[: longest + 1]
        return min(after - before for before, after in pairwise(costs)) / batch_size

    def costs(self, longest: int, *, batch_size: int = 1, context: int = 128, fed: int = 1) -> list[float]:
        """Milliseconds of passes over `fed + w` tokens per row, for w = 0, 1, ..., `longest` at least.

        Args:
            longest: most drafted tokens per row.
            batch_size: rows in a pass.
            context: tokens in the cache of each row.
            fed: tokens of each row that a pass reads anyway.
        """
        curve = self._curve(batch_size, context)
        if fed + longest < len(curve):
            return curve[fed:]
        last, slope = len(curve) - 1, curve[-1] - curve[-2]
        return [curve[k] if k <= last else curve[last] + (k - last) * slope for k in range(fed, fed + longest + 1)]

    def _curve(self, batch_size: int, context: int) -> list[float]:
        """Milliseconds of 0, 1, 2, ... tokens up to one past the last measured; the first entry is never asked for."""
        # contexts beyond the last measured count as that one: a server that runs for weeks keeps few curves
        key = (batch_size, min(context // CONTEXT_STEP, -(-self.contexts[-1] // CONTEXT_STEP)))
        if key not in self._curves:
            at_context = _along(self.contexts, np.moveaxis(self.ms, 1, 0), key[1] * CONTEXT_STEP, beyond=False)
            at_batch = _along(self.batch_sizes, at_context, batch_size, beyond=True)
            steps = range(max(self.tokens[-1], 2) + 1)
            curve = [float(_along(self.tokens, at_batch, k, beyond=True)) for k in steps]
            # extrapolation must not turn a falling measurement into nothing
            self._curves[key] = [max(value, 1e-6) for value in curve]
        return self._curves[key]


@njit
def _most_worth(
    chances: NDArray[np.float64],
    n_drafted: NDArray[np.int64],
    costs: NDArray[np.float64],
    tokens_per_ms: float,
    min_gain: float,
    lengths: NDArray[np.int64],
) -> None:
    """See `StepCost.best_total`: `lengths` gets the answer. `costs` are those of 0, 1, ... drafted tokens per row."""
    n_rows, total = len(n_drafted), len(chances)
    begins = np.cumsum(n_drafted) - n_drafted
    reached, losses, rows = np.ones(n_rows), np.empty(total), np.empty(total, np.int64)
    n = 0
    for place in range(n_drafted.max()):  # so that of equal gains the earlier place comes first
        for row in range(n_rows):
            if place < n_drafted[row]:
                reached[row] *= chances[begins[row] + place]
                losses[n], rows[n] = -reached[row], row
                n += 1
    order = np.argsort(losses, kind="mergesort")
    expected = float(n_rows)
    best, best_worth, pays = 0, expected - tokens_per_ms * costs[0], True
    for k in range(total):
        expected -= losses[order[k]]
        width = (k + 1) // n_rows
        share = (k + 1) / n_rows - width
        ms = costs[width] + share * (costs[width + 1] - costs[width])
        worth = expected - tokens_per_ms * ms
        if worth >= best_worth:  # of those worth the same the longest
            best, best_worth = k + 1, worth
            pays = expected * costs[0] >= (1 + min_gain) * n_rows * ms
    if pays:
        for k in range(best):
            lengths[rows[order[k]]] += 1


def _along(axis: tuple[int, ...], values: NDArray[np.float64], x: int, *, beyond: bool) -> Any:
    """`values`, measured at the points `axis`, at x: linear between and, with `beyond`, past the last two points."""
    if len(axis) == 1:
        return values[0]
    x = x if beyond else min(max(x, axis[0]), axis[-1])
    right = min(max(int(np.searchsorted(axis, x)), 1), len(axis) - 1)
    share = (x - axis[right - 1]) / (axis[right] - axis[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])


def listed(probabilities: ArrayLike) -> list[float]:
    """Chances as plain numbers, which loops over a few of them are fastest with."""
    return probabilities if isinstance(probabilities, list) else np.asarray(probabilities, np.float64).tolist()


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise OptionError(f"an axis must be a list of whole numbers, got {str(values)[:60]}")
    return tuple(values)


def _check(axes: dict[str, tuple[int, ...]], ms: NDArray[np.float64], draft_ms: float) -> None:
    for name, axis in axes.items():
        lowest = 0 if name == "contexts" else 1
        if not axis or axis[0] < lowest or any(a >= b for a, b in pairwise(axis)):
            raise OptionError(f"{name} must ascend from at least {lowest}, got {axis}")
    if axes["tokens"][0] != 1:
        raise OptionError(f"tokens must begin with 1, got {axes['tokens']}")
    for name, axis in axes.items():
        if axis[-1] > MOST[name]:
            raise OptionError(f"{name} must be at most {MOST[name]}, got {str(axis[-1])[:60]}")
    shape = (len(axes["batch_sizes"]), len(axes["contexts"]), len(axes["tokens"]))
    if ms.shape != shape:
        raise OptionError(f"ms must have the shape {shape} (batch sizes, contexts, tokens), got {ms.shape}")
    if not (np.isfinite(ms).all() and (ms > 0).all() and (ms < 1e9).all()):
        raise OptionError("ms must be positive, finite and below 1e9")
    if not (math.isfinite(draft_ms) and draft_ms >= 0):
        raise OptionError(f"draft_ms must be a number of at least 0, got {draft_ms}")
