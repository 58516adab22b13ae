"""The file of outputs: round trip, what it refuses, and the speed it knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.errors import DataError
from tasc.evals import Prediction, read_predictions, speed_of, write_predictions

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.builds(
    Prediction,
    TEXTS,
    TEXTS,
    TEXTS,
    st.none() | st.integers(0, 99),
    st.none() | st.integers(1, 99),
    st.none() | st.floats(0, 1e6),
)


@given(st.lists(ROWS, min_size=1, max_size=8))
def test_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("out") / "rows.jsonl"
    write_predictions(path, rows)
    assert read_predictions(path) == rows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ('{"prompt": "a", "completion": "b", "reference": "c"}\n{"prompt": ', "line 2: broken JSON"),
        ('{"prompt": "a", "completion": "b"}', "line 1: no text in 'reference'"),
        ('{"prompt": "a", "completion": 3, "reference": "c"}', "line 1: no text in 'completion'"),
        ("[1]", "line 1: no text in 'prompt'"),
        ('{"prompt": "a", "completion": "b", "reference": "c", "ms": "fast"}', "line 1: 'ms' is 'fast'"),
    ],
)
def test_refusals(tmp_path, content, says):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


def test_half_a_character_is_no_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p", "completion": "\\ud83d", "reference": "r"}\n')
    with pytest.raises(DataError, match="line 1: 'completion' is no valid Unicode text"):
        read_predictions(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_predictions(path)


def test_speed_counts_bytes_and_says_what_it_does_not_know():
    speed = speed_of([Prediction("p", "é", "x", 1, 2, 3.0), Prediction("p", "", "x", 3, None, 5.0)])
    assert speed == {
        "tokens_per_output": 2.0,
        "passes_per_output": None,
        "ms_per_output": 4.0,
        "ms_per_byte": 4.0,
        "bytes_per_output": 1.0,
    }
