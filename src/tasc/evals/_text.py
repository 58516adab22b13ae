"""Free text: ROUGE-L, chrF, and BERTScore from a model on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasc.errors import MissingExtraError, ModelError, OptionError
from tasc.evals._metric import Measured, Metric, share
from tasc.evals.stats import mean_of

_LONGEST_INPUT = 1_000_000  # transformers stands in 1e30 where a tokenizer names none


class Text(Metric):
    """Mean ROUGE-L F1 (`rouge-score`, no stemming) and mean chrF (`sacrebleu`, sentence level), both over rows.

    Corpus-level chrF as papers quote it stands beside them as `chrf_corpus`, without an interval. All are in [0, 1].
    The tokenizer of ROUGE-L knows ASCII letters and digits only; for other scripts look at chrF. An empty output is
    malformed.

    Args:
        bert_model: folder of an encoder model; adds `bertscore_f1`, not rescaled. Needs `pip install bert-score`.
        bert_layer: the layer to take; default the last. Published BERTScores name theirs, e.g. 17 of roberta-large.
    """

    name = "text"

    def __init__(self, *, bert_model: str | Path | None = None, bert_layer: int | None = None) -> None:
        self.bert_model = None if bert_model is None else Path(bert_model)
        self.bert_layer = bert_layer

    def _measure(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.chrf import CHRF

        rouge, chrf = RougeScorer(["rougeL"]), CHRF()
        pairs = list(zip(predictions, references, strict=True))
        statistics = {
            "rouge_l": mean_of([rouge.score(expected, got)["rougeL"].fmeasure for got, expected in pairs]),
            "chrf": mean_of([chrf.sentence_score(got, [expected]).score / 100 for got, expected in pairs]),
            "malformed": share([not text.strip() for text in predictions]),
        }
        if self.bert_model is not None:
            statistics["bertscore_f1"] = mean_of(_bertscore(pairs, self.bert_model, self.bert_layer))
        corpus = chrf.corpus_score(list(predictions), [list(references)]).score / 100
        return Measured(statistics, {"chrf_corpus": corpus})


def _bertscore(pairs: Sequence[tuple[str, str]], model: Path, layer: int | None) -> NDArray[np.float64]:
    """BERTScore F1 of each pair; 0 for a blank text, which bert-score 0.3.13 cannot encode with transformers 5."""
    try:
        from bert_score import score  # pyright: ignore[reportMissingImports] - an extra
    except ImportError:
        raise MissingExtraError("bert-score is not installed: pip install 'tasc-lm[bertscore]'") from None
    n_layers = _checked_layer(model, layer)
    written = [row for row, (got, expected) in enumerate(pairs) if got.strip() and expected.strip()]
    values = np.zeros(len(pairs))
    if written:
        got, expected = [pairs[row][0] for row in written], [pairs[row][1] for row in written]
        _, _, f1 = score(got, expected, model_type=str(model), num_layers=n_layers)
        values[written] = f1.tolist()
    return values


def _checked_layer(model: Path, layer: int | None) -> int:
    """The layer to take, default the last; refuses what bert-score would stumble over."""
    from transformers import AutoConfig, AutoTokenizer

    if not (model / "config.json").is_file():
        raise ModelError(f"{model}: no config.json; BERTScore needs the folder of an encoder model")
    longest = AutoTokenizer.from_pretrained(model).model_max_length
    if longest > _LONGEST_INPUT:
        raise ModelError(
            f"{model}: the tokenizer names no longest input; set model_max_length in tokenizer_config.json"
        )
    n_layers: int = AutoConfig.from_pretrained(model).num_hidden_layers
    if layer is not None and not 1 <= layer <= n_layers:
        raise OptionError(f"bert_layer must lie between 1 and {n_layers}, the layers of {model}; got {layer}")
    return layer or n_layers
