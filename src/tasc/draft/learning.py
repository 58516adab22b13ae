"""Learns the weights of the default drafter on outputs that its index does not hold, and checks their probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import _candidates, _features, _fit, _sources
from tasc.draft.memory import Memory
from tasc.draft.mixture import Mixture

EPOCHS = 3
RATE = 0.3  # of the first epoch; it falls evenly to 0
CHECKED = 5  # every fifth row checks the weights instead of teaching them
BINS = 10


@dataclass(frozen=True, slots=True)
class Observed:
    """What the drafter sees at each token of some outputs.

    Attributes:
        n_found: int32, shape (n,): candidates at each token.
        gold: int32, shape (n,): the place of the true token among them; `n_found` if it is none of them.
        features: int16, shape (n, MOST + 1, FEATURES).
        offsets: int64, shape (n_rows + 1,).
    """

    n_found: NDArray[np.int32]
    gold: NDArray[np.int32]
    features: NDArray[np.int16]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted against observed acceptance, by bins of the predicted probability (0.0-0.1, 0.1-0.2, ...).

    Attributes:
        counts: tokens in each bin; where there was no candidate, in the first.
        predicted: mean predicted probability.
        observed: share that would be accepted.
    """

    counts: tuple[int, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance between predicted and observed, by tokens."""
        total = sum(self.counts) or 1
        return sum(n * abs(p - o) for n, p, o in zip(self.counts, self.predicted, self.observed, strict=True)) / total


def initial_weights() -> NDArray[np.float32]:
    """Weights before learning: the corpus is believed, and a little the cursor."""
    weights = np.zeros(_features.N_WEIGHTS, np.float32)
    p = np.arange(_features.P_BINS)
    # the middle of each half octave
    log_p = np.where(p == 0, -12.0, (p - (_features.P_BINS - 1)) / 2) * np.log(2)
    weights[: _features.SIZES[0]] = np.repeat(log_p, _features.CONTEXTS)
    weights[_features.STARTS[1] + 2 * _features.P_BINS : _features.STARTS[2]] = 2.0
    # models repeat themselves more than the outputs they learnt from: long matches and loops count even where no row taught it
    in_prompt = np.array([0, 0, 0, 0.5, 1, 2, 4, 6])
    in_output = np.append(in_prompt, [6, 8, 10])  # a loop hardly ever ends
    weights[_features.STARTS[3] : _features.STARTS[4]] = np.maximum(in_prompt[:, None], in_output).ravel()
    # what was written before is written again
    believed = np.repeat(np.array([0, 0.2, 0.4, 0.6, 0.8, 1, 1]), _features.SIZE_BINS)
    seen = np.maximum(log_p, -4)[:, None] * believed
    weights[_features.NO_SEEN + 1 : _features.NONE_AT] = seen.ravel()
    weights[_features.NONE_AT :] = np.log(0.1)
    return weights


def first_squares(*, of_tokens: bool) -> NDArray[np.float64]:
    """What AdaGrad's sums of squares begin with; weights that are not to be learnt make no steps."""
    squares = np.ones(_features.N_WEIGHTS)
    squares[_features.NO_SEEN] = np.inf
    if not of_tokens:
        squares[_features.OF_TOKENS] = np.inf
    return squares


def observe(mixture: Mixture, prompts: TokenCorpus, outputs: TokenCorpus) -> Observed:
    """Follow outputs (without end tokens) and write down the candidates and their features at each token."""
    index = mixture.index
    lengths = outputs.lengths + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n = int(offsets[-1])
    all_rows = _unobserved(n, offsets)
    for row in range(len(outputs)):
        output = np.append(outputs[row], np.int32(index.eos_id))
        part = slice(int(offsets[row]), int(offsets[row + 1]))
        _observe(mixture, np.ascontiguousarray(prompts[row]), output, all_rows, part)
    return all_rows


def observe_row(
    mixture: Mixture, prompt: NDArray[np.int32], output: NDArray[np.int32], *, memory: Memory | None = None
) -> Observed:
    """`observe` for one output as it was written, end token included if it ended.

    Args:
        prompt, output: int32, shape (n,).
        memory: outputs seen at run time, to draft from as well.
    """
    row = _unobserved(len(output), np.array([0, len(output)]))
    _observe(mixture, prompt, output, row, slice(0, len(output)), memory)
    return row


def _unobserved(n: int, offsets: NDArray[np.int64]) -> Observed:
    features = np.zeros((n, _sources.MOST + 1, _features.FEATURES), np.int16)
    return Observed(np.empty(n, np.int32), np.empty(n, np.int32), features, offsets)


def _observe(
    mixture: Mixture, prompt: NDArray[np.int32], output: NDArray[np.int32], into: Observed, part: slice,
    memory: Memory | None = None,
) -> None:  # fmt: skip
    state = mixture.begin(prompt, memory=memory, room=len(output))
    _candidates.observe(
        *mixture.lookup(),
        mixture.seen(memory),
        state,
        mixture.index.start_id,
        output,
        into.n_found[part],
        into.gold[part],
        into.features[part],
    )


def learn(
    observed: Observed, chosen: NDArray[np.bool_], *, of_tokens: bool = True, epochs: int = EPOCHS, seed: int = 0
) -> NDArray[np.float32]:
    """Weights under which the true tokens at the chosen positions are likely; the same every time.

    Args:
        of_tokens: learn those that tell of single tokens too; else they stay 0.
    """
    weights = initial_weights().astype(np.float64)
    squares = first_squares(of_tokens=of_tokens)
    rng = np.random.default_rng(seed)
    positions = np.flatnonzero(chosen)
    for epoch in range(epochs):
        order, rate = rng.permutation(positions), RATE * (1 - epoch / epochs)
        _fit.fit(observed.n_found, observed.gold, observed.features, order, weights, squares, rate)
    return weights.astype(np.float32)


def check(observed: Observed, chosen: NDArray[np.bool_], weights: NDArray[np.float32]) -> Reliability:
    """How often the drafts at the chosen positions would be accepted, by their predicted probability."""
    best, chances = np.empty(len(chosen), np.int32), np.empty(len(chosen))
    _fit.rank(observed.n_found, observed.features, weights, best, chances)
    right = best == observed.gold  # without candidates best is -1
    chances, right = chances[chosen], right[chosen]
    places = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    predicted, accepted = (np.bincount(places, values, minlength=BINS) for values in (chances, right.astype(float)))
    some = np.maximum(counts, 1)
    return Reliability(tuple(counts.tolist()), tuple((predicted / some).tolist()), tuple((accepted / some).tolist()))


def teach(
    mixture: Mixture, prompts: TokenCorpus, outputs: TokenCorpus, *, of_tokens: bool
) -> tuple[NDArray[np.float32], Reliability]:
    """Weights learnt on most of the rows, and how reliable they are on the others.

    Args:
        mixture: its index must not hold these rows.
        prompts, outputs: of the rows; outputs without end tokens.
        of_tokens: see `learn`.
    """
    observed = observe(mixture, prompts, outputs)
    row = np.repeat(np.arange(len(outputs)), np.diff(observed.offsets))
    checked = row % CHECKED == 0
    weights = learn(observed, ~checked, of_tokens=of_tokens)
    return weights, check(observed, checked, weights)
