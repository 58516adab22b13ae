"""Numbers of rows' contents, and what rows share, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft import _rows as kernels
from tasc.draft.sample import choose
from tasc.draft.suffix import suffix_array

IDS = st.integers(0, 3) | st.sampled_from([2**31 - 2, 150_000])
ROWS = st.lists(st.lists(IDS, max_size=6), max_size=12)
ALL = 1 << 31


def hashes_of(rows, most=ALL, before=None):
    corpus = TokenCorpus.from_rows(rows)
    hashes = np.zeros(len(rows), np.uint64) if before is None else before.copy()
    kernels.hash_rows(corpus.tokens, corpus.offsets, most, hashes)
    return hashes


def plain_hash(row, before=0):
    """FNV-1a with whole tokens for bytes, and a last mix, in integers of any size."""
    value, limit = before ^ 0xCBF29CE484222325, 1 << 64
    for token in row:
        value = (value ^ (token + 1)) * 0x100000001B3 % limit
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 % limit
    return value ^ value >> 32


@given(ROWS, st.integers(0, 7), st.integers(0, 2**64 - 1))
def test_hashes_equal_those_in_plain_integers(rows, most, before):
    start = np.full(len(rows), before, np.uint64)
    assert hashes_of(rows, most, start).tolist() == [plain_hash(row[:most], before) for row in rows]


@given(ROWS, ROWS)
def test_a_row_has_the_same_number_wherever_it_stands(rows, others):
    assert hashes_of(others + rows).tolist()[len(others) :] == hashes_of(rows).tolist()


def test_different_rows_have_different_numbers():
    """All rows of up to 7 ids from 5, as one part and as two: prompts and outputs do not run into each other."""
    rows = [[int(digit) for digit in np.base_repr(k, 5)] for k in range(5**7)]
    rows += [[0] * n for n in range(2, 8)] + [[]]
    hashes = hashes_of(rows)
    assert len(set(hashes.tolist())) == len(rows)
    pairs = [([1] * k, [1] * (9 - k)) for k in range(10)]
    both = hashes_of([output for _, output in pairs], before=hashes_of([prompt for prompt, _ in pairs]))
    assert len(set(both.tolist())) == len(pairs)
    # spread over the whole range, as rows are chosen by the lowest numbers
    counts = np.bincount((hashes >> np.uint64(60)).astype(np.int64), minlength=16)
    assert counts.min() > 0.9 * len(rows) / 16
    assert counts.max() < 1.1 * len(rows) / 16


@given(st.lists(st.tuples(st.lists(IDS, max_size=4), st.lists(IDS, max_size=4)), min_size=1, max_size=12))
def test_one_row_of_each_content_is_chosen(rows):
    prompts, outputs = (TokenCorpus.from_rows(part) for part in zip(*rows, strict=True))
    sample = choose(outputs, prompts)
    contents = [tuple(map(tuple, rows[row])) for row in sample.rows]
    assert len(contents) == len(set(contents))
    assert set(contents) == {tuple(map(tuple, row)) for row in rows}
    assert [prompt.tolist() for prompt in sample.prompts] == [list(prompt) for prompt, _ in contents]
    assert [rows.index(rows[row]) for row in sample.rows] == sample.rows.tolist()  # the first of each
    order = [plain_hash(output, plain_hash(prompt)) for prompt, output in contents]
    assert order == sorted(order)


@settings(max_examples=300)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=8), max_size=8), st.integers(1, 4))
def test_shared_ends_equal_a_search_through_all_rows(rows, min_rows):
    text = [token for row in rows for token in row]
    owner = [number for number, row in enumerate(rows) for _ in row]
    ends = []
    for position in range(len(text)):
        last = len(text) - owner[::-1].index(owner[position])  # where its row ends
        end = position
        while end < last and sum(holds(row, text[position : end + 1]) for row in spans(text, rows)) >= min_rows:
            end += 1
        ends.append(end)
    tokens = np.array(text, np.int32)
    found, seen = np.empty(len(text), np.int64), np.zeros(len(rows), np.int64)
    kernels.shared_ends(tokens, suffix_array(tokens), np.array(owner, np.int64), min_rows, seen, found)
    assert found.tolist() == ends


def spans(text, rows):
    """For each row the starts of n-grams in it, with the text that follows them."""
    begin = 0
    for row in rows:
        yield [text[start:] for start in range(begin, begin + len(row))]
        begin += len(row)


def holds(starts, ngram):
    """Whether the n-gram begins in the row; the text's rows begin with their own marker, so none runs on into the next."""
    return any(start[: len(ngram)] == ngram for start in starts)


def test_a_worked_example_of_what_rows_share():
    """9 1 2 0, 9 1 3 0, 9 2 0: from 9 on 9 1 stands in two rows; 2 0 does, and 3 in one only."""
    text = np.array([9, 1, 2, 0, 9, 1, 3, 0, 9, 2, 0], np.int32)
    rows = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], np.int64)
    ends = np.empty(len(text), np.int64)
    kernels.shared_ends(text, suffix_array(text), rows, 2, np.zeros(3, np.int64), ends)
    assert ends.tolist() == [2, 2, 4, 4, 6, 6, 6, 8, 9, 11, 11]
