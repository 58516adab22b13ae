import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.draft.suffix import suffix_array
from tasc.errors import DataError


def oracle(ids):
    """Sorted suffixes in plain Python: lists compare lexicographically, a proper prefix first."""
    return sorted(range(len(ids)), key=lambda start: ids[start:])


def check_order(tokens, suffixes):
    """Proves a suffix array without sorting: neighbours rise by first id, then by the rank of what follows."""
    n = len(tokens)
    np.testing.assert_array_equal(np.sort(suffixes), np.arange(n))
    ranks = np.empty(n + 1, np.int64)
    ranks[suffixes] = np.arange(n)
    ranks[n] = -1
    first, second = suffixes[:-1], suffixes[1:]
    rises = tokens[first] < tokens[second]
    ties = tokens[first] == tokens[second]
    assert np.all(rises | (ties & (ranks[first + 1] < ranks[second + 1])))


ALPHABETS = st.sampled_from([1, 2, 3, 4, 20, 150_000, 2**31 - 1])
RANDOM_IDS = ALPHABETS.flatmap(lambda size: st.lists(st.integers(0, size - 1), max_size=60))
REPEATED_IDS = st.builds(lambda part, times, tail: part * times + tail, RANDOM_IDS, st.integers(0, 8), RANDOM_IDS)


@settings(deadline=None, max_examples=400)
@given(RANDOM_IDS | REPEATED_IDS)
def test_equals_sorted_suffixes(ids):
    assert suffix_array(np.array(ids, dtype=np.int32)).tolist() == oracle(ids)


def test_equals_sorted_suffixes_for_all_short_rows():
    """Every row of up to 7 ids from three: each mix of types, buckets and recursion at this size."""
    for length in range(8):
        for ids in np.ndindex(*(3,) * length):
            assert suffix_array(np.array(ids, dtype=np.int32)).tolist() == oracle(list(ids)), ids


def fibonacci(n):
    shorter, longer = np.zeros(1, np.int32), np.array([0, 1], np.int32)
    while len(longer) < n:
        shorter, longer = longer, np.concatenate([longer, shorter])
    return longer[:n]


@pytest.mark.parametrize("case", ["one id", "two copies", "period", "fibonacci", "rows", "falling", "wide"])
def test_hard_inputs_are_ordered(case):
    """What makes quadratic sorters blow up; 300,000 ids would keep one of them busy for hours."""
    n = 300_000
    random = np.random.default_rng(0)
    row = random.integers(0, 50, n // 2)
    tokens = {
        "one id": np.zeros(n),
        "two copies": np.concatenate([row, row]),
        "period": np.tile([3, 1, 2, 1, 1], n // 5),
        "fibonacci": fibonacci(n),
        "rows": random.integers(0, 4, (8, 40))[random.integers(0, 8, n // 40)].ravel(),
        "falling": np.arange(n)[::-1],
        "wide": random.integers(0, 2**31, n),
    }[case].astype(np.int32)
    check_order(tokens, suffix_array(tokens))


def test_does_not_write_to_its_input():
    tokens = np.array([4, 1, 4, 1, 5], dtype=np.int32)
    tokens.setflags(write=False)
    assert suffix_array(tokens[::-1]).tolist() == oracle([5, 1, 4, 1, 4])
    assert suffix_array(tokens).tolist() == oracle([4, 1, 4, 1, 5])


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (np.zeros(3, np.int64), "int64"),
        (np.zeros((2, 2), np.int32), r"shape \(2, 2\)"),
        (np.array([3, -1], np.int32), "token id -1"),
    ],
)
def test_other_arrays_are_refused(tokens, reason):
    with pytest.raises(DataError, match=reason):
        suffix_array(tokens)
