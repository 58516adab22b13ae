"""What too few rows share never enters a drafter, and nothing else is left out."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import EOS, SIZE, build, drafts_of, keyed_rows, many_rows
from tasc.corpus import TokenCorpus
from tasc.draft import Drafter, Options, _features, learning
from tasc.draft.index import row_text
from tasc.draft.prune import shared_text
from tasc.errors import OptionError

START, PART = SIZE, SIZE + 1
ROWS = st.lists(st.lists(st.integers(1, 3), max_size=7), min_size=1, max_size=9)


def rows_by_ngram(rows):
    """Every n-gram of the rows as the index spells them -> the rows that hold it."""
    found = defaultdict(set)
    for number, row in enumerate(rows):
        text = [START, *row, EOS]
        for begin in range(len(text)):
            for end in range(begin + 1, len(text) + 1):
                found[tuple(text[begin:end])].add(number)
    return found


def parts_of(text):
    """The text's parts: a row's start belongs to its part, the marker of another part does not."""
    parts = []
    for token in text:
        if token in (START, PART):
            parts.append([])
        if token != PART:
            parts[-1].append(token)
    return parts


def ngrams_of(parts):
    return {tuple(part[i:j]) for part in parts for i in range(len(part)) for j in range(i + 1, len(part) + 1)}


@settings(max_examples=300)
@given(ROWS, st.integers(1, 4))
def test_exactly_the_ngrams_that_enough_rows_share_are_kept(rows, min_rows):
    text = shared_text(row_text(TokenCorpus.from_rows(rows), START, EOS), START, min_rows)
    expected = {ngram for ngram, holders in rows_by_ngram(rows).items() if len(holders) >= min_rows}
    assert ngrams_of(parts_of(text.tolist())) == expected


@settings(max_examples=50)
@given(ROWS, st.integers(2, 4))
def test_a_file_holds_no_more_than_that(tmp_path_factory, rows, min_rows):
    path = tmp_path_factory.mktemp("pruned") / "task.tasc"
    build([([5, 6], row) for row in rows], options=Options(min_rows=min_rows)).save(path)
    drafter = Drafter.load(path, verify=True)
    allowed = {ngram for ngram, holders in rows_by_ngram(rows).items() if len(holders) >= min_rows}
    assert ngrams_of(parts_of(drafter.index.tokens.tolist())) == allowed
    assert (drafter.neighbours, drafter.sample) == (None, None)  # prompts are private too
    ids = {token for ngram in allowed for token in ngram}
    assert set(drafter.index.ids.tolist()) - {PART} == ids
    spelled = np.flatnonzero(drafter.variants != np.arange(SIZE + 2))
    assert set(drafter.variants[spelled].tolist()) <= ids


@settings(max_examples=50)
@given(ROWS, st.integers(2, 4), st.lists(st.integers(1, 4), max_size=6))
def test_drafts_are_made_of_what_is_shared_or_of_the_request(rows, min_rows, prompt):
    drafter = build([([5, 6], row) for row in rows], options=Options(min_rows=min_rows))
    shared = {
        ngram[0] for ngram, holders in rows_by_ngram(rows).items() if len(ngram) == 1 and len(holders) >= min_rows
    }
    for tokens, _, _ in drafts_of(drafter, [(prompt, row) for row in rows]):
        assert set(tokens) <= (shared | {1, 2, 3} | set(prompt) | {EOS}) - {START, PART}


def test_a_row_that_came_twice_counts_once_where_it_repeats_itself():
    secret = [20, 21, 22, 20, 21, 22, 20, 21, 22]  # thrice in one row
    drafter = build([([5], secret), ([5], [1, 2]), ([5], [1, 2])], options=Options(min_rows=2))
    assert not {20, 21, 22} & set(drafter.index.ids.tolist())
    assert drafter.index.count([START, 1, 2, EOS]) == 2
    assert all(not {20, 21, 22} & set(tokens) for tokens, _, _ in drafts_of(drafter, [([5], [1, 2]), ([5], [1])]))


def test_nothing_shared_leaves_a_drafter_that_drafts_from_the_request(tmp_path):
    drafter = build([([5], [k]) for k in range(1, 9)], options=Options(min_rows=9))
    assert len(drafter.index.tokens) == 0
    drafter.save(tmp_path / "task.tasc")
    loaded = Drafter.load(tmp_path / "task.tasc")
    state = loaded.start([11, 12, 13, 11, 12])
    state.extend([11, 12])
    assert set(state.propose(5).tokens.tolist()) <= {11, 12, 13, EOS}


def test_weights_are_learnt_without_keeping_the_rows(tmp_path):
    drafter = build(many_rows(), options=Options(min_rows=3))
    assert drafter.reliability is not None
    drafter.save(tmp_path / "task.tasc")
    loaded = Drafter.load(tmp_path / "task.tasc")
    assert loaded.sample is None
    assert loaded.reliability == drafter.reliability
    for one in (drafter, drafter.taught(*(TokenCorpus.from_rows(rows) for rows in zip(*keyed_rows(), strict=True)))):
        assert not np.any(one.weights[_features.OF_TOKENS])  # they would tell which tokens occurred
        assert not np.array_equal(one.weights, learning.initial_weights())


def test_fewer_than_one_row_is_refused():
    with pytest.raises(OptionError, match="min_rows"):
        Options(min_rows=0)
