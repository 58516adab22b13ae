"""Merging and expanding are inverse, both segmentations do what they say, and files survive nothing but a clean load."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.errors import DataError, FingerprintError, VocabularyError
from tasc.vocab import EnrichedVocabulary, Ngram, mine

BASE = 6
rows_of = st.lists(st.lists(st.integers(0, BASE - 1), max_size=20), min_size=1, max_size=8)


def ordered_from(rows, budget=12, n_max=4):
    merges = mine(TokenCorpus.from_rows(rows), budget=budget, base_size=BASE, n_max=n_max)
    return EnrichedVocabulary(BASE, tuple(Ngram(m.ids, m.parts, m.count, m.reward) for m in merges))


def as_fewest(vocabulary):
    return EnrichedVocabulary(BASE, tuple(Ngram(n.ids, n.ids) for n in vocabulary.ngrams), "fewest")


def merge_pass_by_pass(row, vocabulary):
    row = list(row)
    for k, ngram in enumerate(vocabulary.ngrams):
        out, i, n = [], 0, len(ngram.parts)
        while i < len(row):
            if tuple(row[i : i + n]) == ngram.parts:
                out.append(BASE + k)
                i += n
            else:
                out.append(row[i])
                i += 1
        row = out
    return row


def fewest_by_search(row, expansions):
    best = [0] * (len(row) + 1)
    for i in range(len(row) - 1, -1, -1):
        fits = [len(e) for e in expansions if tuple(row[i : i + len(e)]) == e]
        best[i] = 1 + min(best[i + n] for n in [1, *fits])
    return best[0]


@settings(max_examples=200, deadline=None)
@given(train=rows_of, row=st.lists(st.integers(0, BASE - 1), max_size=30))
def test_ordered_merge_equals_one_pass_per_ngram(train, row):
    vocabulary = ordered_from(train)
    assert vocabulary.merge(row).tolist() == merge_pass_by_pass(row, vocabulary)


@settings(max_examples=200, deadline=None)
@given(train=rows_of, row=st.lists(st.integers(0, BASE - 1), max_size=30))
def test_fewest_merge_is_as_short_as_an_exhaustive_search(train, row):
    vocabulary = as_fewest(ordered_from(train))
    assert vocabulary.merge(row).size == fewest_by_search(row, vocabulary.expansions)
    assert vocabulary.merge(row).size <= ordered_from(train).merge(row).size


@settings(max_examples=100, deadline=None)
@given(
    train=rows_of,
    row=st.lists(st.integers(0, BASE - 1), max_size=30),
    dropout=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_expand_undoes_merge(train, row, dropout, seed):
    for vocabulary in (ordered_from(train), as_fewest(ordered_from(train))):
        merged = vocabulary.merge(row, dropout=dropout, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(vocabulary.expand(merged), np.array(row, np.int32))


@settings(max_examples=50, deadline=None)
@given(train=rows_of)
def test_corpus_merges_row_by_row(train):
    vocabulary = as_fewest(ordered_from(train))
    merged = vocabulary.merge_corpus(TokenCorpus.from_rows(train))
    assert [row.tolist() for row in merged] == [vocabulary.merge(row).tolist() for row in train]


def test_dropout_leaves_about_that_share_in_base_ids():
    vocabulary = EnrichedVocabulary(BASE, (Ngram((1, 2), (1, 2)),))
    merged = vocabulary.merge([1, 2] * 2000, dropout=0.3, rng=np.random.default_rng(0))
    dropped = (merged < BASE).sum() / 2
    assert 540 < dropped < 660


def test_dropout_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="pass rng"):
        EnrichedVocabulary(BASE, (Ngram((1, 2), (1, 2)),)).merge([1, 2], dropout=0.5)


@settings(max_examples=30, deadline=None)
@given(train=rows_of)
def test_saved_and_loaded_it_is_the_same(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    vocabulary = ordered_from(train)
    vocabulary.save(folder)
    first = (folder / "enriched.json").read_bytes()
    loaded = EnrichedVocabulary.load(folder)
    assert loaded == vocabulary
    loaded.save(folder)
    assert (folder / "enriched.json").read_bytes() == first


@pytest.mark.parametrize(
    ("ngrams", "reason"),
    [
        ([Ngram((1,), (1,))], "two or more base ids"),
        ([Ngram((1, BASE), (1, BASE))], "two or more base ids"),
        ([Ngram((1, -1), (1, -1))], "two or more base ids"),
        ([Ngram((1, 2), (1, 2)), Ngram((1, 2), (1, 2))], "repeats"),
        ([Ngram((1, 2, 3), (BASE, 3))], "below"),
        ([Ngram((1, 2), (1, 3))], "do not spell"),
    ],
)
def test_impossible_ngrams_are_refused(ngrams, reason):
    with pytest.raises(VocabularyError, match=reason):
        EnrichedVocabulary(BASE, tuple(ngrams))


def test_unknown_segmentation_is_refused():
    with pytest.raises(VocabularyError, match="segmentation"):
        EnrichedVocabulary(BASE, (), "greedy")  # type: ignore[arg-type]


def test_corpus_of_another_tokenizer_is_refused():
    vocabulary = EnrichedVocabulary(BASE, (Ngram((1, 2), (1, 2)),), fingerprint="sha256:a")
    with pytest.raises(FingerprintError, match="sha256:b"):
        vocabulary.merge_corpus(TokenCorpus.from_rows([[1, 2]], "sha256:b"))


def stored(tmp_path, **changes):
    path = EnrichedVocabulary(BASE, (Ngram((1, 2), (1, 2)),)).save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 99},
        {"ngrams": [{}]},
        {"ngrams": [1]},
        {"ngrams": "ab"},
        {"base_size": "x"},
        {"base_size": float("inf")},
        {"base_size": 10.0},
        {"base_size": True},
        {"base_size": -1},
        {"base_size": 1 << 30},  # and one n-gram
        {"format": "other"},
        {"fingerprint": None},
        {"options": [["a", 1]]},
    ],
)
def test_damaged_files_are_refused(tmp_path, changes):
    path = stored(tmp_path, **changes)
    with pytest.raises(VocabularyError, match=str(path)):
        EnrichedVocabulary.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": [1.9, 2], "parts": [1, 2.9]},
        {"ids": [True, 2], "parts": [True, 2]},
        {"ids": [1 << 35, 2], "parts": [1 << 35, 2]},
        {"ids": "12", "parts": "12"},
        {"count": float("inf")},
        {"reward": "1"},
        {"pcs": "0.5"},
        {"pcs": float("nan")},
        {"text": None},
    ],
)
def test_damaged_ngrams_are_refused(tmp_path, changes):
    path = stored(tmp_path)
    found = json.loads(path.read_text())
    found["ngrams"][0] |= changes
    path.write_text(json.dumps(found))
    with pytest.raises(VocabularyError, match=str(path)):
        EnrichedVocabulary.load(path)


def test_a_vocabulary_of_more_ids_than_int32_holds_is_refused():
    with pytest.raises(VocabularyError, match="1073741824 ids, not 2147483648"):
        EnrichedVocabulary(1 << 31)


def test_truncated_and_missing_files_are_refused(tmp_path):
    with pytest.raises(VocabularyError, match="tasc enrich"):
        EnrichedVocabulary.load(tmp_path)
    path = stored(tmp_path)
    path.write_text(path.read_text()[:50])
    with pytest.raises((VocabularyError, DataError), match=str(path)):
        EnrichedVocabulary.load(tmp_path)
