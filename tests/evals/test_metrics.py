"""Metrics against worked examples, the libraries they stand for, and what must hold for any input."""

import gzip
import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasc.errors import DataError, MissingExtraError, ModelError, OptionError
from tasc.evals import METRICS, IntentSlots, MultiLabel, Text, make_metric, parse_frame, read_labels, split_labels

WORDS = st.text("abcdefg ,:'", min_size=1, max_size=12).map(str.strip).filter(bool)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


def frame(intent: str, slots: list[tuple[str, str]]) -> str:
    inner = ", ".join(f"{name}: {value}" for name, value in slots)
    return f"intent: {intent}, slot fills: {{{inner}}}"


# intent-slots


def test_worked_example():
    """Row 0 right; row 1 right intent, one of two slots right, one invented; row 2 wrong intent; row 3 malformed."""
    references = [
        frame("play", [("artist", "queen"), ("artist", "abba")]),
        frame("alarm", [("time", "five am"), ("date", "today")]),
        frame("mute", []),
        frame("light", [("room", "hall")]),
    ]
    predictions = [
        frame("play", [("artist", "abba"), ("artist", "queen")]),
        frame("alarm", [("time", "five am"), ("date", "tomorrow")]),
        frame("unmute", []),
        "intent: light, slot fills: {room: hall",
    ]
    score = IntentSlots().score(predictions, references)
    # slots: 3 right, 4 predicted, 5 expected
    assert score == pytest.approx(
        {
            "intent_accuracy": 2 / 4,
            "slot_f1": 2 * 3 / (4 + 5),
            "joint_accuracy": 1 / 4,
            "slot_precision": 3 / 4,
            "slot_recall": 3 / 5,
            "malformed": 1 / 4,
        }
    )


def test_a_repeated_slot_counts_as_often_as_the_reference_has_it():
    score = IntentSlots().score([frame("a", [("x", "1")] * 3)], [frame("a", [("x", "1")] * 2)])
    assert score["slot_precision"] == pytest.approx(2 / 3)
    assert score["slot_recall"] == 1.0
    assert score["joint_accuracy"] == 0.0


def test_slots_of_a_wrong_intent_still_count():
    score = IntentSlots().score([frame("b", [("x", "1")])], [frame("a", [("x", "1")])])
    assert (score["intent_accuracy"], score["slot_f1"], score["joint_accuracy"]) == (0.0, 1.0, 0.0)


def test_invented_slots_where_none_belong():
    score = IntentSlots().score([frame("a", [("x", "1")])], [frame("a", [])])
    assert (score["slot_f1"], score["slot_precision"], score["joint_accuracy"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "intent: a",
        "intent: a, slot fills: {",
        "intent: a, slot fills: }",
        "intent: , slot fills: {}",
        "slot fills: {}, intent: a",
        "intent: a, slot fills: {x}",
        "intent: a, slot fills: {x: }",
        "intent: a, slot fills: {: y}",
        "intent: a, slot fills: {} and more",
        "intent: a, b, slot fills: {}",
        "Intent: a, slot fills: {}",
    ],
)
def test_malformed(text):
    assert parse_frame(text) is None
    assert IntentSlots().score([text], [frame("a", [("x", "1")])]) == {
        "intent_accuracy": 0.0,
        "slot_f1": 0.0,
        "joint_accuracy": 0.0,
        "slot_precision": 1.0,  # nothing was claimed
        "slot_recall": 0.0,
        "malformed": 1.0,
    }


@given(NAMES, st.lists(st.tuples(NAMES, WORDS), max_size=5))
def test_frames_come_back(intent, slots):
    values = [value for _, value in slots]
    # ", name: " inside a value is the next slot: the format cannot say otherwise
    assume(not any(": " in value or value.endswith((":", ",")) for value in values))
    parsed = parse_frame(frame(intent, slots))
    assert parsed is not None
    assert (parsed.intent, parsed.slots) == (intent, tuple(slots))


@pytest.mark.parametrize("corpus", ["massive_en", "snips"])
def test_every_real_reference_parses_and_comes_back(shared, corpus):
    for split in ("train", "validation", "test"):
        with gzip.open(shared / "data" / corpus / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["completion"]
                parsed = parse_frame(text)
                assert parsed is not None, text
                assert frame(parsed.intent, list(parsed.slots)) == text


def test_a_reference_that_does_not_parse_is_an_error():
    with pytest.raises(DataError, match="reference 1 is not 'intent: X"):
        IntentSlots().score(["", ""], [frame("a", []), "France, trade"])


# multilabel


def test_multilabel_worked_example():
    """tp 2, predicted 4, expected 4; per reference label a: 2/2, b: 0, c: 0; d is predicted only."""
    score = MultiLabel().score(["a, d", "a, c"], ["a, b", "a, c, c"])
    assert score["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert score["macro_f1"] == pytest.approx((1 + 0 + 1) / 3)
    assert score["exact_match"] == 0.5


LABEL_SETS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)


@given(st.lists(st.tuples(LABEL_SETS, LABEL_SETS), min_size=1, max_size=12))
def test_multilabel_equals_scikit_learn(rows):
    from sklearn.metrics import precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    got, expected = [row[0] for row in rows], [row[1] for row in rows]
    score = MultiLabel().score([", ".join(labels) for labels in got], [", ".join(labels) for labels in expected])
    # one more label that never occurs: scikit-learn takes a single column for the two classes of one label
    binarizer = MultiLabelBinarizer().fit([*got, *expected, ["none"]])
    true, predicted = binarizer.transform(expected), binarizer.transform(got)
    present = np.flatnonzero(true.sum(axis=0))
    zero: Any = 0
    for average, labels in (("micro", None), ("macro", present)):
        theirs = precision_recall_fscore_support(true, predicted, average=average, labels=labels, zero_division=zero)
        ours = [score[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(list(theirs[:3]))


@given(st.lists(st.tuples(LABEL_SETS, LABEL_SETS), min_size=2, max_size=8), st.data())
def test_multilabel_of_a_resample_is_that_of_its_rows(rows, data):
    """The statistic at a resample's counts equals the score of the rows written out so often."""
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)).filter(any))
    texts = [(", ".join(got), ", ".join(expected)) for got, expected in rows]
    measured = MultiLabel().measure(*map(list, zip(*texts, strict=True)))
    repeated = [pair for pair, count in zip(texts, counts, strict=True) for _ in range(count)]
    expected = MultiLabel().score(*map(list, zip(*repeated, strict=True)))
    weights = np.array([counts], np.float64)
    assert {name: float(s(weights)[0]) for name, s in measured.statistics.items()} == pytest.approx(expected)


def test_labels_with_commas(shared):
    path = shared / "data" / "eurlex57k_short" / "labels.json"
    labels = read_labels(path)
    text = "fisheries, area of freedom, security and justice, trade, Bonaire, Saint Eustatius and Saba"
    assert split_labels(text, labels) == [
        "fisheries",
        "area of freedom, security and justice",
        "trade",
        "Bonaire, Saint Eustatius and Saba",
    ]
    assert len(split_labels(text)) == 6


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_real_label_is_known(shared, split):
    folder = shared / "data" / "eurlex57k_short"
    metric = MultiLabel(read_labels(folder / "labels.json"))
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        references = [json.loads(line)["completion"] for line in file]
    score = metric.score(references, references)
    assert score["malformed"] == 0.0
    assert score["micro_f1"] == score["macro_f1"] == score["exact_match"] == 1.0


def test_the_longest_label_wins():
    labels = {"a", "b", "a, b", "a, b, c"}
    assert split_labels("a, b, c, b", labels) == ["a, b, c", "b"]
    assert split_labels("a, b, a", labels) == ["a, b", "a"]


def test_unknown_labels_are_malformed_but_still_counted():
    score = MultiLabel({"a", "b"}).score(["a, x", "b", ""], ["a", "b", "b"])
    assert score["malformed"] == pytest.approx(2 / 3)
    assert score["micro_precision"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [("l.json", '["a", "b, c"]'), ("l.json", '{"1": "a", "2": "b, c"}'), ("l.txt", "a\n\n b, c \n")],
)
def test_label_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_labels(tmp_path / name) == {"a", "b, c"}


@pytest.mark.parametrize(("name", "content"), [("l.json", "[1]"), ("l.json", "{"), ("l.json", '"a"'), ("l.txt", "")])
def test_bad_label_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"l\.(json|txt)"):
        read_labels(tmp_path / name)


# text


def test_rouge_by_hand():
    """ "the cat sat" against "the cat on the mat": longest common subsequence 2, so P 2/3, R 2/5, F1 1/2."""
    assert Text().score(["the cat sat"], ["the cat on the mat"])["rouge_l"] == pytest.approx(0.5)


def test_chrf_is_that_of_sacrebleu():
    from sacrebleu.metrics.chrf import CHRF

    predictions, references = ["a small house", "completely different"], ["the small house", "nothing alike"]
    score = Text().score(predictions, references)
    each = [CHRF().sentence_score(p, [r]).score for p, r in zip(predictions, references, strict=True)]
    assert score["chrf"] == pytest.approx(np.mean(each) / 100)
    assert score["chrf_corpus"] == pytest.approx(CHRF().corpus_score(predictions, [references]).score / 100)
    assert score["chrf"] != pytest.approx(score["chrf_corpus"])


def test_bertscore_needs_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tasc-lm\[bertscore\]'"):
        Text(bert_model=tmp_path).score(["a"], ["a"])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random BERT of two layers that knows seven words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "a", "dog"]
    vocab = {word: number for number, word in enumerate(words)}
    BertTokenizer(vocab=vocab, model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


def test_bertscore_passes_model_and_layer_on(monkeypatch, encoder, tmp_path):
    """With a stand-in for bert-score, whose signature this is; the real one is used below where it is installed."""
    asked: list[Any] = []

    def score(cands: list[str], refs: list[str], *, model_type: str, num_layers: int) -> Any:
        asked.append((cands, refs, model_type, num_layers))
        return np.zeros(2), np.zeros(2), np.array([0.5, 1.0])

    module = ModuleType("bert_score")
    module.score = score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bert_score", module)
    assert Text(bert_model=encoder).score(["p", " ", "q"], ["r", "s", "t"])["bertscore_f1"] == 0.5
    Text(bert_model=encoder, bert_layer=1).score(["p", "q"], ["r", "t"])
    assert asked == [(["p", "q"], ["r", "t"], str(encoder), layer) for layer in (2, 1)]
    with pytest.raises(OptionError, match="between 1 and 2"):
        Text(bert_model=encoder, bert_layer=3).score(["p"], ["r"])
    with pytest.raises(ModelError, match=r"no config\.json"):
        Text(bert_model=tmp_path).score(["p"], ["r"])


def test_bertscore(encoder):
    pytest.importorskip("bert_score", reason="needs the extra bertscore")
    values = [
        Text(bert_model=encoder).score([got], [expected])["bertscore_f1"]
        for got, expected in (("the cat sat", "the cat sat"), ("a dog sat", "the cat sat on the mat"), ("", "a dog"))
    ]
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    assert values[2] == 0.0 < values[1] < values[0]


# all


def references_of(name: str) -> st.SearchStrategy[list[str]]:
    row = {
        "intent-slots": st.builds(frame, NAMES, st.lists(st.tuples(NAMES, NAMES), max_size=3)),
        "multilabel": LABEL_SETS.map(", ".join),
        "text": st.lists(NAMES, min_size=1, max_size=6).map(" ".join).filter(lambda text: text.strip(" _") != ""),
        "exact": WORDS,
    }[name]
    return st.lists(row, min_size=1, max_size=6)


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_perfect_predictions(name, data):
    references = data.draw(references_of(name))
    score = make_metric(name).score(references, references)
    malformed = score.pop("malformed")
    assert malformed == 0.0
    assert score == pytest.approx(dict.fromkeys(score, 1.0))


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_empty_predictions(name, data):
    references = data.draw(references_of(name))
    score = make_metric(name).score([""] * len(references), references)
    assert score["malformed"] == 1.0
    best = {"intent-slots": "joint_accuracy", "multilabel": "micro_f1", "text": "rouge_l", "exact": "exact_match"}
    assert score[best[name]] == 0.0


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_any_predictions(name, data):
    references = data.draw(references_of(name))
    predictions = data.draw(st.lists(st.text(max_size=30), min_size=len(references), max_size=len(references)))
    measured = make_metric(name).measure(predictions, references)
    assert all(0 <= value <= 1 + 1e-9 for value in measured.values.values())
    for key, interval in measured.intervals(n=20).items():
        assert interval.low <= interval.high
        assert interval.value == measured.values[key]


@pytest.mark.parametrize("name", METRICS)
def test_row_counts_must_agree(name):
    with pytest.raises(DataError, match="got 1 and 2"):
        make_metric(name).score(["a"], ["a", "b"])
    with pytest.raises(DataError, match="got 0 and 0"):
        make_metric(name).score([], [])


def test_options_belong_to_their_metric(tmp_path):
    options: dict[str, Any]
    for options in ({"labels": "l.json"}, {"bert_model": tmp_path}, {"bert_layer": 1}):
        with pytest.raises(OptionError, match="exact"):
            make_metric("exact", **options)
    with pytest.raises(OptionError, match="needs bert_model"):
        make_metric("text", bert_layer=1)
    with pytest.raises(OptionError, match="one of intent-slots, multilabel, text, exact, got 'bleu'"):
        make_metric("bleu")
