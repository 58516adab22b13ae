"""Bootstrap and rank correlation against worked examples and against known distributions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.errors import OptionError
from tasc.evals import Ratio, bootstrap_all, bootstrap_ci, kendall_tau, mean_of, paired_bootstrap, value_of

VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


def test_ratio_of_sums_is_not_the_mean_of_ratios():
    f1 = Ratio(np.array([2.0, 0.0, 4.0]), np.array([2.0, 3.0, 5.0]))
    assert value_of(f1) == 6 / 10
    assert f1(np.array([[1.0, 0.0, 2.0]])).tolist() == [10 / 12]


def test_ratio_with_nothing_below():
    assert value_of(Ratio(np.zeros(2), np.zeros(2), empty=1.0)) == 1.0
    assert value_of(Ratio(np.zeros(2), np.zeros(2))) == 0.0


def test_interval_of_every_possible_resample():
    """Three rows have 27 equally likely resamples; many draws must come close to their exact quantiles."""
    values = [0.0, 1.0, 5.0]
    exact = sorted(sum(draw) / 3 for draw in itertools.product(values, repeat=3))
    interval = bootstrap_ci(values, n=40_000, level=0.8)
    assert interval.value == 2.0
    low, high = np.quantile(exact, [0.1, 0.9], method="inverted_cdf")
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_interval_agrees_with_the_normal_approximation():
    accuracy = np.r_[np.ones(300), np.zeros(100)]
    interval = bootstrap_ci(accuracy, n=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (interval.low, interval.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)


def test_intervals_cover():
    """A 90% interval misses the truth in about 10% of samples."""
    rng = np.random.default_rng(0)
    missed = 0
    for sample in rng.normal(3.0, 2.0, size=(300, 60)):
        interval = bootstrap_ci(sample, n=400, level=0.9)
        missed += not interval.low <= 3.0 <= interval.high
    assert 0.05 < missed / 300 < 0.17


@given(VALUES, st.integers(0, 5))
def test_interval_lies_within_the_values_and_repeats(values, seed):
    first = bootstrap_ci(values, n=50, seed=seed)
    assert first == bootstrap_ci(values, n=50, seed=seed)
    assert min(values) - 1e-9 <= first.low <= first.high <= max(values) + 1e-9
    assert first.value == pytest.approx(np.mean(values))


def test_resamples_do_not_depend_on_the_chunk_size(monkeypatch):
    values = np.arange(10.0)
    whole = bootstrap_ci(values, n=100)
    monkeypatch.setattr("tasc.evals.stats._CHUNK_CELLS", 35)
    assert bootstrap_ci(values, n=100) == whole


def test_statistics_share_resamples():
    a, b = mean_of(np.arange(30)), Ratio(np.arange(30.0), np.arange(30.0) + 1)
    assert bootstrap_all({"a": a, "b": b}, n=80, seed=3) == {
        "a": bootstrap_ci(a, n=80, seed=3),
        "b": bootstrap_ci(b, n=80, seed=3),
    }
    with pytest.raises(OptionError, match=r"same rows, got \[2, 30\]"):
        bootstrap_all({"a": a, "c": mean_of([1, 2])})


def test_pairs_see_the_same_resamples():
    """Rows of very different difficulty: the systems differ by exactly 1 on each, which only pairing can see."""
    hard = np.linspace(0, 1000, 40)
    difference = paired_bootstrap(hard + 1, hard)
    assert (difference.low, difference.high) == pytest.approx((1.0, 1.0))
    assert difference.p < 0.01


def test_paired_p_value_of_a_fair_coin():
    """One row in four better, one in four worse: no evidence."""
    a = np.array([1, 0, 1, 0] * 10)
    b = np.array([0, 1, 1, 0] * 10)
    difference = paired_bootstrap(a, b)
    assert difference.value == 0.0
    assert difference.p > 0.9
    assert difference.low < 0 < difference.high


@given(VALUES.flatmap(lambda a: st.tuples(st.just(a), st.lists(st.floats(-5, 5), min_size=len(a), max_size=len(a)))))
def test_paired_bootstrap_is_antisymmetric(pair):
    a, b = pair
    forward, backward = paired_bootstrap(a, b, n=60), paired_bootstrap(b, a, n=60)
    assert forward.value == pytest.approx(-backward.value)
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low), abs=1e-9)
    assert 0 < forward.p <= 1


def test_paired_micro_average():
    a = Ratio(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    b = Ratio(np.array([1.0, 1.0]), np.array([1.0, 4.0]))
    assert paired_bootstrap(a, b).value == pytest.approx(3 / 5 - 2 / 5)


def test_kendall_by_hand():
    """1 2 3 4 against 1 3 2 4: five concordant pairs, one discordant: (5 - 1) / 6. P of tau >= 4/6 is 4/24 a side."""
    result = kendall_tau([1, 2, 3, 4], [1, 3, 2, 4])
    assert result.tau == pytest.approx(4 / 6)
    assert result.p == pytest.approx(2 * 4 / 24)


def test_kendall_with_ties():
    """tau-b: 2 concordant, 0 discordant, one tie in x: 2 / sqrt(3 * 2)."""
    assert kendall_tau([1, 2, 3], [1, 1, 2]).tau == pytest.approx(2 / np.sqrt(6))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_ci([]),
        lambda: bootstrap_ci([1.0], n=0),
        lambda: bootstrap_ci([1.0], level=1.0),
        lambda: paired_bootstrap([1.0], [1.0, 2.0]),
        lambda: kendall_tau([1.0], [1.0]),
        lambda: kendall_tau([1.0, 2.0], [1.0, 2.0, 3.0]),
    ],
)
def test_refusals(call):
    with pytest.raises(OptionError):
        call()


def test_mean_of_counts_rows():
    assert len(mean_of([1, 2, 3])) == 3
