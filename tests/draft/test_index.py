import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft import _index as kernels
from tasc.draft.index import Index, row_text
from tasc.errors import DataError

EOS, START = 0, 9
ROWS = st.lists(st.lists(st.integers(1, 4), max_size=10), max_size=10)


def index_of(rows):
    return Index.build(TokenCorpus.from_rows(rows), start_id=START, eos_id=EOS)


def text_of(rows):
    return [token for row in rows for token in (START, *row, EOS)]


@given(ROWS)
def test_rows_stand_between_markers_in_their_order(rows):
    index = index_of(rows)
    assert row_text(TokenCorpus.from_rows(rows), START, EOS).tolist() == index.tokens.tolist() == text_of(rows)
    text = text_of(rows)
    assert index.suffixes.tolist() == sorted(range(len(text)), key=lambda start: text[start:])


@given(ROWS, st.lists(st.integers(0, START), max_size=5))
def test_counts_equal_a_plain_search(rows, ngram):
    text = text_of(rows)
    places = range(len(text) - len(ngram) + 1) if ngram else range(len(text))
    assert index_of(rows).count(ngram) == sum(text[place : place + len(ngram)] == ngram for place in places)


@given(ROWS)
def test_rows_can_be_read_back(rows):
    index = index_of(rows)
    assert [row.tolist() for row in index.outputs()] == rows
    text = text_of(rows)
    assert index.row_starts.tolist() == [k for k, token in enumerate(text) if token == START] + [len(text)]


@given(ROWS, st.integers(0, START + 1))
def test_first_part_holds_the_suffixes_that_begin_with_a_token(rows, token):
    index = index_of(rows)
    firsts = [text_of(rows)[start] for start in index.suffixes]
    low, high = kernels.first_part(index.ids, index.starts, token)
    assert list(range(low, high)) == [k for k, first in enumerate(firsts) if first == token]


@given(ROWS.filter(bool), st.data())
def test_narrow_finds_the_part_where_a_token_follows(rows, data):
    index = index_of(rows)
    text, suffixes = text_of(rows), index.suffixes.tolist()
    place = data.draw(st.integers(0, len(text) - 1))
    context = text[place : place + data.draw(st.integers(0, 4))]
    token = data.draw(st.integers(0, START))
    begins = [text[start : start + len(context)] == context for start in suffixes]
    low, high = begins.index(True), len(begins) - begins[::-1].index(True)
    follows = [
        k for k in range(low, high) if text[suffixes[k] + len(context) : suffixes[k] + len(context) + 1] == [token]
    ]
    first, last = kernels.narrow(index.tokens, index.suffixes, low, high, len(context), token)
    assert list(range(first, last)) == follows


def test_hostile_suffixes_stay_in_bounds():
    """Order that is no order: any answer inside the part will do."""
    random = np.random.default_rng(0)
    for _ in range(2000):
        size = int(random.integers(1, 40))
        tokens = random.integers(0, 5, size).astype(np.int32)
        suffixes = random.integers(0, size, size).astype(np.int32)
        low, high = sorted(random.integers(0, size + 1, 2).tolist())
        first, last = kernels.narrow(
            tokens, suffixes, low, high, int(random.integers(0, 50)), int(random.integers(0, 5))
        )
        assert low <= first <= last <= high


def test_ids_of_another_vocabulary_are_refused():
    with pytest.raises(DataError, match="token id 9 in the outputs, expected ids below 9"):
        index_of([[1, 9]])


def test_no_rows():
    index = index_of([])
    assert (len(index.tokens), index.count([]), index.count([5])) == (0, 0, 0)
