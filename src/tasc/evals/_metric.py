"""What every metric is: predictions and references in, named values and the statistics behind them out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from tasc.errors import DataError
from tasc.evals.stats import Interval, Ratio, Statistic, bootstrap_all, mean_of, value_of


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of one metric family on one set of predictions.

    Attributes:
        statistics: what each value is made of, row by row, for intervals and paired tests.
        fixed: further values that are not made of rows, so have no interval.
    """

    statistics: Mapping[str, Statistic]
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """All values by name."""
        return {name: value_of(statistic) for name, statistic in self.statistics.items()} | dict(self.fixed)

    def intervals(self, *, n: int = 2000, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
        """A bootstrap interval for each value that is made of rows.

        Args:
            n: resamples.
            seed: of the resamples.
            level: of the intervals, between 0 and 1.
        """
        return bootstrap_all(self.statistics, n=n, seed=seed, level=level)


class Metric(ABC):
    """Scores predictions against references. Every value lies in [0, 1] unless its name says otherwise."""

    name: str

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Values by name; see `measure` for the rows behind them."""
        return self.measure(predictions, references).values

    def measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        """Compare row by row.

        Args:
            predictions: output of each row.
            references: what it should have been.

        Raises:
            DataError: there are no rows, the numbers differ, or a reference is not of the metric's form.
        """
        if len(predictions) != len(references) or not references:
            raise DataError(
                f"metric {self.name} needs one prediction for each reference and at least one row, "
                f"got {len(predictions)} and {len(references)}"
            )
        return self._measure(predictions, references)

    @abstractmethod
    def _measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured: ...


def share(flags: Sequence[bool]) -> Ratio:
    """The share of rows whose flag is set."""
    return mean_of(np.asarray(flags, np.float64))


def precision_recall_f1(
    true_positives: ArrayLike, predicted: ArrayLike, expected: ArrayLike, *, empty: float = 0.0
) -> tuple[Ratio, Ratio, Ratio]:
    """Micro-averaged precision, recall and F1 from each row's counts.

    F1 = 2 tp / (predicted + expected), the harmonic mean of both.
    """
    tp, n_predicted, n_expected = (np.asarray(x, np.float64) for x in (true_positives, predicted, expected))
    return (
        Ratio(tp, n_predicted, empty),
        Ratio(tp, n_expected, empty),
        Ratio(2 * tp, n_predicted + n_expected, empty),
    )
