from collections import Counter

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
    low, high, context = parts_of(text, suffixes, data)
    token = data.draw(st.integers(0, START))
    follows = [
        k for k in range(low, high) if text[suffixes[k] + len(context) : suffixes[k] + len(context) + 1] == [token]
    ]
    first, last = kernels.narrow(index.tokens, index.suffixes, low, high, len(context), token)
    assert list(range(first, last)) == follows


def parts_of(text, suffixes, data):
    """A part of the suffix array and the context that it begins with."""
    place = data.draw(st.integers(0, len(text) - 1))
    context = text[place : place + data.draw(st.integers(0, 4))]
    begins = [text[start : start + len(context)] == context for start in suffixes]
    return begins.index(True), len(begins) - begins[::-1].index(True), context


@given(st.lists(st.lists(st.integers(1, 30), max_size=25), min_size=1, max_size=12), st.data())
def test_followers_are_listed_by_count_then_id(rows, data):
    index = Index.build(TokenCorpus.from_rows(rows), start_id=40, eos_id=0)
    text, suffixes = index.tokens.tolist(), index.suffixes.tolist()
    low, high, context = parts_of(text, suffixes, data)
    ends = [start + len(context) for start in suffixes[low:high]]
    counts = Counter(text[end] for end in ends if end < len(text))
    memo = np.full((4, kernels.LINE), -1, np.int32)
    at = kernels.line_at(memo, low, high, len(context))
    assert not kernels.is_listed(memo, at, low, high, len(context))
    kernels.list_followers(index.tokens, index.suffixes, 0, memo, at, low, high, len(context))
    assert kernels.is_listed(memo, at, low, high, len(context))
    n_kept = memo[at, kernels.N_KEPT]
    found = memo[at, kernels.TOKENS :][:n_kept].tolist(), memo[at, kernels.COUNTS :][:n_kept].tolist()
    expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: kernels.KEPT]
    assert list(zip(*found, strict=True)) == expected
    lows = memo[at, kernels.LOWS :][:n_kept].tolist()
    assert lows == [low + [text[end : end + 1] for end in ends].index([token]) for token, _ in expected]
    if high - low <= kernels.SAMPLES:
        assert memo[at, kernels.DISTINCT] == len(counts)
    else:
        assert memo[at, kernels.DISTINCT] <= len(counts)
    np.testing.assert_array_equal(np.delete(memo, at, axis=0), -1)


def test_frequent_followers_of_a_large_part_are_all_found():
    """Sampled, but a follower with 1 / SAMPLES of the part cannot be missed, and its count is exact."""
    rare = [[1, 100 + k] for k in range(2000)]
    frequent = [[1, token] for token, count in ((3000, 40), (50, 60), (900, 50)) for _ in range(count)]
    index = Index.build(TokenCorpus.from_rows(rare + frequent), start_id=4000, eos_id=0)
    low, high = kernels.first_part(index.ids, index.starts, 1)
    memo = np.zeros((1, kernels.LINE), np.int32)
    kernels.list_followers(index.tokens, index.suffixes, 0, memo, 0, low, high, 1)
    assert memo[0, kernels.TOKENS :][:3].tolist() == [50, 900, 3000]
    assert memo[0, kernels.COUNTS :][:3].tolist() == [60, 51, 40]


@given(ROWS.filter(bool), st.integers(0, START), st.data())
def test_answers_are_the_parts_with_one_token_more(rows, token, data):
    index, text = index_of(rows), text_of(rows)
    low, high, context = parts_of(text, index.suffixes.tolist(), data)
    steps = np.full((8, kernels.STEP), -1, np.int32)
    at = kernels.step_at(steps, low, high, len(context), token)
    question = (low, high, len(context), token)
    assert not kernels.is_known(steps, at, *question)
    kernels.answer(index.tokens, index.suffixes, index.ids, index.starts, 0, steps, at, *question)
    assert kernels.is_known(steps, at, *question)
    starts = [index.suffixes[k] for k in range(*steps[at, 4:6])]
    longer = [*context, token]
    assert sorted(starts) == [k for k in range(len(text)) if text[k : k + len(longer)] == longer]


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
