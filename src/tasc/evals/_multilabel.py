"""Multi-label classification: outputs that list labels, separated by `, `."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc.errors import DataError
from tasc.evals._metric import Measured, Metric, precision_recall_f1, share
from tasc.files import read_json

SEPARATOR = ", "


def read_labels(path: str | Path) -> frozenset[str]:
    """Read the known labels: a JSON list, a JSON object (its values), or a text file with one label a line.

    Raises:
        DataError: the file is damaged, has another form or no labels.
    """
    source = Path(path)
    if source.suffix == ".json":
        content = read_json(source)
        labels = list(content.values()) if isinstance(content, dict) else content
    else:
        try:
            labels = [line.strip() for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: not UTF-8 at byte {error.start}; write the file again") from error
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{source}: expected labels as text, in a JSON list, a JSON object or one a line")
    return frozenset(label.strip() for label in labels)


def split_labels(text: str, labels: Collection[str] = ()) -> list[str]:
    """The labels of an output, in their order.

    Args:
        text: labels separated by commas.
        labels: known labels; one that holds a comma itself is then found as a whole (the longest match wins).

    Examples:
        >>> split_labels("tax, freedom, security and justice, trade", {"tax", "freedom, security and justice"})
        ['tax', 'freedom, security and justice', 'trade']
    """
    pieces = [piece.strip() for piece in text.strip().split(SEPARATOR)]
    longest = 1 + max((label.count(SEPARATOR) for label in labels), default=0)
    found: list[str] = []
    start = 0
    while start < len(pieces):
        size = next(
            (n for n in range(longest, 1, -1) if SEPARATOR.join(pieces[start : start + n]) in labels),
            1,
        )
        found.append(SEPARATOR.join(pieces[start : start + size]))
        start += size
    return [label for label in found if label]


class MultiLabel(Metric):
    """Micro and macro precision, recall and F1 over label sets, and the share of exactly right sets.

    The values are scikit-learn's `precision_recall_fscore_support`; they are put together here from row counts because a
    bootstrap needs thousands of them.

    Repeated labels count once; order does not count. Macro averages run over the labels that occur in the references,
    so that two models are averaged over the same labels. An output is malformed when it has no label, or one that is
    not among `labels`.

    Args:
        labels: the known labels; without them any text between commas is a label.
    """

    name = "multilabel"

    def __init__(self, labels: Collection[str] = ()) -> None:
        self.labels = frozenset(labels)

    def _measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        from sklearn.preprocessing import MultiLabelBinarizer

        whole = frozenset(label for label in self.labels if SEPARATOR in label)  # only these need looking up
        got = [split_labels(text, whole) for text in predictions]
        expected = [split_labels(text, whole) for text in references]
        binarizer = MultiLabelBinarizer(sparse_output=True).fit([*got, *expected])
        true, predicted = binarizer.transform(expected), binarizer.transform(got)
        hits = true.multiply(predicted)
        precision, recall, f1 = precision_recall_f1(_row_sums(hits), _row_sums(predicted), _row_sums(true))
        kept = np.flatnonzero(_column_sums(true))
        per_label = _Counts(*(m.tocsc()[:, kept].tocsr().astype(np.float64) for m in (hits, predicted, true)))
        return Measured(
            {
                "micro_f1": f1,
                "micro_precision": precision,
                "micro_recall": recall,
                "macro_f1": _Macro(per_label, "f1"),
                "macro_precision": _Macro(per_label, "precision"),
                "macro_recall": _Macro(per_label, "recall"),
                "exact_match": share([set(g) == set(e) for g, e in zip(got, expected, strict=True)]),
                "malformed": share([not g or not (not self.labels or self.labels.issuperset(g)) for g in got]),
            }
        )


class _Counts(NamedTuple):
    """Sparse matrices float64[n_rows, n_labels] of zeros and ones."""

    hits: Any
    predicted: Any
    true: Any


@dataclass(frozen=True, slots=True)
class _Macro:
    """A macro average as a statistic. Labels that a resample's references do not hold are left out of its average."""

    counts: _Counts
    what: Literal["f1", "precision", "recall"]

    def __len__(self) -> int:
        return self.counts.hits.shape[0]

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values float64[b] for row weights float64[b, n_rows]."""
        # a slice of the resamples at a time: n_labels columns may be thousands
        return np.concatenate([self._averages(part) for part in np.array_split(weights, 1 + len(weights) // 64)])

    def _averages(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        tp, n_predicted, n_true = (weights @ matrix for matrix in self.counts)
        above, below = {
            "f1": (2 * tp, n_predicted + n_true),
            "precision": (tp, n_predicted),
            "recall": (tp, n_true),
        }[self.what]
        each = np.divide(above, below, out=np.zeros_like(tp), where=below != 0)
        present = n_true > 0
        return (each * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def _row_sums(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1), np.float64).ravel()


def _column_sums(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=0), np.float64).ravel()
