"""How sure a number is: bootstrap intervals, paired differences, rank correlation.

A statistic is a function of row weights: weights of one give the value itself, the counts of a resample give the value
of that resample. So a metric's value and its interval always come from the same arithmetic, micro-averaged ones too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasc.errors import OptionError

_CHUNK_CELLS = 1_000_000  # weights held at once: 8 MB


@runtime_checkable
class Statistic(Protocol):
    """A number computed from weighted rows."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values float64[b] for row weights float64[b, n_rows]."""
        ...


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of sums over rows: means, accuracies, micro-averaged precision, recall and F1.

    Attributes:
        numerators: float64[n_rows].
        denominators: float64[n_rows].
        empty: the value where the denominators sum to zero.

    Examples:
        >>> accuracy = Ratio(np.array([1.0, 0.0, 1.0]), np.ones(3))
        >>> accuracy(np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]])).tolist()
        [0.6666666666666666, 0.0]
    """

    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]
    empty: float = 0.0

    def __len__(self) -> int:
        return len(self.numerators)

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values float64[b] for row weights float64[b, n_rows]."""
        above, below = weights @ self.numerators, weights @ self.denominators
        return np.divide(above, below, out=np.full_like(above, self.empty), where=below != 0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its confidence interval.

    Attributes:
        value: of the rows as they are.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference `a - b`, its confidence interval, and how often chance alone would give one as large.

    Attributes:
        value: of the rows as they are.
        low: lower end.
        high: upper end.
        p: two-sided bootstrap p-value: twice the smaller share of resamples at or beyond zero, at most 1.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rank correlation and its two-sided p-value.

    Attributes:
        tau: from -1 to 1.
        p: for the hypothesis that there is none.
    """

    tau: float
    p: float


def mean_of(values: ArrayLike) -> Ratio:
    """The mean of per-row values as a statistic."""
    array = np.asarray(values, np.float64)
    return Ratio(array, np.ones_like(array))


def value_of(statistic: Statistic) -> float:
    """The statistic of the rows as they are.

    Examples:
        >>> value_of(mean_of([1, 2, 6]))
        3.0
    """
    return float(statistic(np.ones((1, len(statistic))))[0])


def bootstrap_ci(values: Statistic | ArrayLike, *, n: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval over rows (Efron).

    Args:
        values: a statistic, or per-row values whose mean is meant.
        n: number of resamples.
        seed: the same seed gives the same interval.
        level: coverage, e.g. 0.95.

    Raises:
        OptionError: there are no rows, or an option is out of range.

    Examples:
        >>> interval = bootstrap_ci([0, 1, 1, 1, 0, 1, 1, 1, 1, 1])
        >>> interval.value, interval.low, interval.high
        (0.8, 0.5, 1.0)
    """
    return bootstrap_all({"": _as_statistic(values)}, n=n, seed=seed, level=level)[""]


def bootstrap_all(
    statistics: Mapping[str, Statistic], *, n: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """`bootstrap_ci` of several statistics of the same rows, on the same resamples: drawing them is most of the work.

    Args:
        statistics: by name, all of the same rows.
        n: resamples.
        seed: of the resamples.
        level: of the intervals, between 0 and 1.

    Raises:
        OptionError: there are no rows, their numbers differ, or an option is out of range.
    """
    sizes = {len(statistic) for statistic in statistics.values()}
    if len(sizes) != 1:
        raise OptionError(f"statistics bootstrapped together need the same rows, got {sorted(sizes)} rows")
    _check(min(sizes), n, level)
    resampled: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for weights in _resamples(min(sizes), n, seed):
        for name, statistic in statistics.items():
            resampled[name].append(statistic(weights))
    return {
        name: Interval(value_of(statistic), *_bounds(np.concatenate(resampled[name]), level))
        for name, statistic in statistics.items()
    }


def paired_bootstrap(
    a: Statistic | ArrayLike, b: Statistic | ArrayLike, *, n: int = 2000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Difference `a - b` of two systems on the same rows; both see the same resamples.

    Args:
        a: a statistic or per-row values of one system.
        b: the same of the other, row for row.
        n: number of resamples.
        seed: the same seed gives the same result.
        level: coverage of the interval.

    Raises:
        OptionError: the systems have different numbers of rows, or an option is out of range.

    Examples:
        >>> paired_bootstrap([1, 1, 1, 0], [0, 0, 0, 0]).value
        0.75
        >>> paired_bootstrap([1, 0, 1], [1, 0, 1])
        Difference(value=0.0, low=0.0, high=0.0, p=1.0)
    """
    first, second = _as_statistic(a), _as_statistic(b)
    if len(first) != len(second):
        raise OptionError(f"a paired bootstrap needs the same rows on both sides, got {len(first)} and {len(second)}")
    _check(len(first), n, level)
    differences = np.concatenate([first(w) - second(w) for w in _resamples(len(first), n, seed)])
    low, high = _bounds(differences, level)
    # one is added on either side, so that p is never zero: no number of resamples proves that
    below, above = np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)
    p = min(1.0, 2 * (1 + min(below, above)) / (n + 1))
    return Difference(value_of(first) - value_of(second), low, high, p)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927); (0, 1) without trials.

    Examples:
        >>> [round(end, 3) for end in wilson(8, 10)]
        [0.49, 0.943]
    """
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def kendall_tau(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Kendall's rank correlation (tau-b, which allows for ties) and its p-value.

    Raises:
        OptionError: fewer than two pairs, or different lengths.

    Examples:
        >>> kendall_tau([1, 2, 3, 4], [40, 30, 20, 10]).tau
        -1.0
    """
    from scipy.stats import kendalltau

    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise OptionError(
            f"Kendall's tau needs two equally long lists of at least 2, got {first.shape}, {second.shape}"
        )
    result: Any = kendalltau(first, second)
    return Correlation(float(result.statistic), float(result.pvalue))


def _as_statistic(values: Statistic | ArrayLike) -> Statistic:
    return values if isinstance(values, Statistic) else mean_of(values)


def _resamples(n_rows: int, n: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Row counts of `n` resamples with replacement, a bounded number at a time: float64[b, n_rows]."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK_CELLS // n_rows)
    for start in range(0, n, at_once):
        size = min(at_once, n - start)
        drawn = rng.integers(n_rows, size=(size, n_rows)) + n_rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_rows).reshape(size, n_rows).astype(np.float64)


def _bounds(resampled: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(n_rows: int, n: int, level: float) -> None:
    if n_rows < 1 or n < 1:
        raise OptionError(f"a bootstrap needs at least one row and one resample, got {n_rows} and {n}")
    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1, got {level}")
