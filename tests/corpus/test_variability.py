import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.corpus.variability import (
    coverage_count,
    length_quantiles,
    ngram_counts,
    ngram_stats,
    renyi_entropy,
    word_ids,
)

COUNTS = st.lists(st.integers(1, 1000), min_size=1, max_size=30)


def brute_force(rows, n):
    return Counter(tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1))


@given(st.lists(st.lists(st.integers(0, 5) | st.integers(0, 10**6), max_size=9), max_size=9), st.integers(1, 9))
def test_ngram_counts_equal_a_plain_count(rows, n):
    counts = ngram_counts(TokenCorpus.from_rows(rows), n)
    assert sorted(counts.tolist()) == sorted(brute_force(rows, n).values())


def test_long_ngrams_over_a_large_alphabet_do_not_overflow():
    # 2,001 different ids need 11 bits each: 8 of them do not fit 64 bits at once
    rows = np.random.default_rng(0).integers(0, 2001, (40, 60)).tolist()
    rows += rows[:7]
    for n in (5, 6, 8, 12):
        counts = ngram_counts(TokenCorpus.from_rows(rows), n)
        assert sorted(counts.tolist()) == sorted(brute_force(rows, n).values())


@given(st.lists(st.text("ab \n\tc", max_size=12), max_size=8))
def test_word_bigrams_stay_within_a_text(texts):
    counts = ngram_counts(word_ids(texts), 2)
    assert sorted(counts.tolist()) == sorted(brute_force([text.split() for text in texts], 2).values())


def test_entropy_worked_example():
    # p = 1/2, 1/4, 1/8, 1/8: 0.5 + 0.5 + 0.375 + 0.375 bits; sum p^2 = 11/32
    counts = np.array([4, 2, 1, 0, 1])
    assert renyi_entropy(counts) == pytest.approx(1.75 * math.log(2))
    assert renyi_entropy(counts, 2) == pytest.approx(math.log(32 / 11))
    assert renyi_entropy(counts, 0) == pytest.approx(math.log(4))
    assert renyi_entropy(counts, math.inf) == pytest.approx(math.log(2))


@given(COUNTS, st.floats(0, 5))
def test_entropy_lies_between_none_and_the_uniform_and_falls_with_the_order(counts, order):
    entropy = renyi_entropy(counts, order)
    assert -1e-9 <= entropy <= math.log(len(counts)) + 1e-9
    assert renyi_entropy(counts, order + 0.5) <= entropy + 1e-9


@given(COUNTS)
def test_order_1_is_the_limit_of_its_neighbours(counts):
    assert renyi_entropy(counts, 1.0) == pytest.approx(renyi_entropy(counts, 1 + 1e-6), abs=1e-4)


def test_entropy_of_nothing_and_of_a_negative_order():
    assert renyi_entropy([]) == renyi_entropy([7]) == renyi_entropy([0, 7], 2) == 0.0
    with pytest.raises(ValueError, match="order must not be negative, got -1"):
        renyi_entropy([1], -1)


@given(COUNTS, st.floats(0.01, 1))
def test_coverage_is_the_fewest_that_reach_the_share(counts, share):
    needed = coverage_count(counts, share)
    ordered = sorted(counts, reverse=True)
    assert sum(ordered[:needed]) >= share * sum(counts) - 1e-6
    assert sum(ordered[: needed - 1]) < share * sum(counts)


def test_coverage_counts_exact_shares_without_rounding():
    assert coverage_count([1] * 10, 0.8) == 8
    assert coverage_count([1] * 1000, 0.8) == 800
    assert coverage_count([]) == 0


def test_stats_of_a_small_corpus():
    # bigrams: (1, 2) three times, (2, 1) once, (3, 3) not across rows
    stats = ngram_stats(TokenCorpus.from_rows([[1, 2, 1, 2], [1, 2], [3], [3]]), 2)
    entropy = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert (stats.n, stats.total, stats.distinct, stats.cdf80) == (2, 4, 2, 2)
    assert stats.entropy_bits == pytest.approx(entropy)
    assert stats.typical_set_size == pytest.approx(2**entropy)


def test_stats_without_any_ngram():
    stats = ngram_stats(TokenCorpus.from_rows([[1], []]), 2)
    assert (stats.total, stats.distinct, stats.entropy_bits, stats.cdf80, stats.typical_set_size) == (0, 0, 0.0, 0, 0.0)


def test_length_quantiles():
    quantiles = length_quantiles(TokenCorpus.from_rows([[0] * n for n in range(101)]))
    assert quantiles == {"p0": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "p100": 100}
    assert length_quantiles(TokenCorpus.from_rows([])) == {}
