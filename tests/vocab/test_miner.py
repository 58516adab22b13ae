"""The incremental miner equals a full recount after every merge, overlaps and ties included."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.errors import DataError, OptionError
from tasc.vocab.miner import Merge, mine


def replace(row: list[int], parts: tuple[int, ...], new_id: int) -> list[int]:
    out, i = [], 0
    while i < len(row):
        if tuple(row[i : i + len(parts)]) == parts:
            out.append(new_id)
            i += len(parts)
        else:
            out.append(row[i])
            i += 1
    return out


def recount(rows, weights, *, budget, base_size, n_max, accept=lambda ids: True, min_count=2) -> list[Merge]:
    """Algorithm 1 by the book: count everything again after each merge."""
    rows = [list(r) for r in rows]
    merges, expansions, used = [], {}, set()
    while len(merges) < budget:
        counts = Counter()
        for row, weight in zip(rows, weights, strict=True):
            for n in range(2, n_max + 1):
                for i in range(len(row) - n + 1):
                    counts[tuple(row[i : i + n])] += weight
        left = {g: c for g, c in counts.items() if g not in used and c >= min_count}
        if not left:
            break
        parts = min(left, key=lambda g: (-left[g] * (len(g) - 1), len(g), g))
        used.add(parts)
        whole = tuple(t for p in parts for t in expansions.get(p, (p,)))
        if whole in expansions.values() or not accept(whole):
            continue
        new_id = base_size + len(merges)
        merges.append(Merge(whole, parts, left[parts], left[parts] * (len(parts) - 1)))
        expansions[new_id] = whole
        rows = [replace(row, parts, new_id) for row in rows]
    return merges


rows_of = st.lists(st.lists(st.integers(0, 4), max_size=18), min_size=1, max_size=14)


@settings(max_examples=300, deadline=None)
@given(rows=rows_of, n_max=st.integers(2, 5), budget=st.integers(1, 25), min_count=st.integers(1, 3), data=st.data())
def test_equals_a_recount_after_every_merge(rows, n_max, budget, min_count, data):
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(rows), max_size=len(rows)))
    options = dict(budget=budget, base_size=5, n_max=n_max, min_count=min_count)
    found = list(mine(TokenCorpus.from_rows(rows), np.array(weights), **options))
    assert found == recount(rows, weights, **options)


@settings(max_examples=100, deadline=None)
@given(rows=rows_of, refused=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_a_refused_ngram_costs_no_budget_and_is_not_offered_again(rows, refused):
    offered = []

    def accept(ids):
        offered.append(ids)
        return ids[:2] not in refused

    options = dict(budget=6, base_size=5, n_max=4)
    found = list(mine(TokenCorpus.from_rows(rows), accept=accept, **options))
    assert found == recount(rows, [1] * len(rows), accept=lambda ids: ids[:2] not in refused, **options)
    assert not any(m.ids[:2] in refused for m in found)


def test_overlapping_occurrences_count_as_windows_and_merge_from_the_left():
    (merge,) = mine(TokenCorpus.from_rows([[1, 1, 1, 1, 1]]), budget=1, base_size=2, n_max=2)
    assert merge == Merge((1, 1), (1, 1), 4, 4)


def test_weights_equal_repeated_rows():
    rows = [[1, 2, 3, 1, 2], [3, 1, 2], [2, 2, 2, 3]]
    weighted = list(mine(TokenCorpus.from_rows(rows), np.array([3, 1, 2]), budget=8, base_size=4))
    repeated = list(mine(TokenCorpus.from_rows([rows[0]] * 3 + [rows[1]] + [rows[2]] * 2), budget=8, base_size=4))
    assert weighted == repeated


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="mine a sample"):
        list(mine(TokenCorpus.from_rows([[1, 2], [3, 4]]), np.array([2**32 + 3, 5]), budget=1, base_size=9))


def test_ngrams_never_cross_rows():
    assert list(mine(TokenCorpus.from_rows([[1], [2], [1], [2]]), budget=3, base_size=3, min_count=1)) == []


@pytest.mark.parametrize("options", [{"budget": -1}, {"budget": 1, "n_max": 1}, {"budget": 1 << 30}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        list(mine(TokenCorpus.from_rows([[1, 2]]), base_size=3, **options))
