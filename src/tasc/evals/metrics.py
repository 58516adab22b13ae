"""The metrics by name. Each compares output texts with references and gives values that a bootstrap can resample.

intent-slots  intent accuracy, slot F1, joint accuracy
multilabel    micro and macro F1, precision, recall
text          ROUGE-L, chrF, BERTScore
exact         exact match
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from tasc.errors import OptionError
from tasc.evals._intent_slots import Frame, IntentSlots, parse_frame
from tasc.evals._metric import Measured, Metric, share
from tasc.evals._multilabel import MultiLabel, read_labels, split_labels
from tasc.evals._text import Text

__all__ = [
    "METRICS",
    "Exact",
    "Frame",
    "IntentSlots",
    "Measured",
    "Metric",
    "MultiLabel",
    "Text",
    "make_metric",
    "parse_frame",
    "read_labels",
    "split_labels",
]


class Exact(Metric):
    r"""Exact match; white space around the text does not count. An empty output is malformed.

    Examples:
        >>> Exact().score(["yes", " no\n", ""], ["yes", "no", "no"])["exact_match"]
        0.6666666666666666
    """

    name = "exact"

    def _measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        pairs = zip(predictions, references, strict=True)
        return Measured(
            {
                "exact_match": share([got.strip() == expected.strip() for got, expected in pairs]),
                "malformed": share([not text.strip() for text in predictions]),
            }
        )


METRICS: dict[str, Callable[[], Metric]] = {
    "intent-slots": IntentSlots,
    "multilabel": MultiLabel,
    "text": Text,
    "exact": Exact,
}


def make_metric(
    name: str,
    *,
    labels: str | Path | None = None,
    bert_model: str | Path | None = None,
    bert_layer: int | None = None,
) -> Metric:
    """A metric by name, with the options that it has.

    Args:
        name: a key of `METRICS`.
        labels: file of known labels, for `multilabel`.
        bert_model: folder of an encoder model, for `text`.
        bert_layer: its layer, for `text`.

    Raises:
        OptionError: no such metric, or an option that it does not have.
    """
    if name not in METRICS:
        raise OptionError(f"metric must be one of {', '.join(METRICS)}, got {name!r}")
    if labels is not None and name != "multilabel":
        raise OptionError(f"labels belong to metric multilabel, got them with {name!r}")
    if (bert_model is not None or bert_layer is not None) and name != "text":
        raise OptionError(f"a BERTScore model belongs to metric text, got one with {name!r}")
    if bert_layer is not None and bert_model is None:
        raise OptionError(f"bert_layer {bert_layer} needs bert_model, the folder of the model")
    if labels is not None:
        return MultiLabel(read_labels(labels))
    return Text(bert_model=bert_model, bert_layer=bert_layer) if name == "text" else METRICS[name]()
