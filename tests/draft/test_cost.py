"""The step-cost curve: interpolation, the best length against trying all, and files."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.draft.cost import StepCost
from tasc.errors import DataError, OptionError

CURVE = StepCost((1, 2, 4), (1, 8), (0, 128), [[[1, 2, 4], [2, 3, 5]], [[8, 16, 32], [9, 17, 33]]])
PROBABILITIES = st.lists(st.floats(0, 1, width=32), max_size=12)


def test_between_the_points_it_is_linear_and_beyond_them_too():
    assert CURVE.step_ms(1, context=0) == 1
    assert CURVE.step_ms(3, context=0) == 3
    assert CURVE.step_ms(6, context=0) == 6
    assert CURVE.step_ms(100, context=0) == 100
    assert CURVE.step_ms(1, batch_size=8, context=0) == 8
    assert CURVE.step_ms(1, batch_size=15, context=0) == 15
    assert CURVE.step_ms(2, context=64) == 2.5
    assert CURVE.step_ms(2, context=127) == 2.5, "the context is looked up in steps of 64"
    assert CURVE.step_ms(2, context=10_000) == 3, "contexts beyond those measured count as the last"


def test_costs_are_those_of_single_passes():
    for fed, batch_size, context in itertools.product((1, 2, 3, 9), (1, 3, 8, 20), (0, 64, 500)):
        costs = CURVE.costs(12, batch_size=batch_size, context=context, fed=fed)
        expected = [CURVE.step_ms(fed + w, batch_size=batch_size, context=context) for w in range(13)]
        assert costs[:13] == pytest.approx(expected)


def expected_tokens(rows: list[list[float]], width: int) -> float:
    return sum(1 + sum(float(np.prod(row[:k])) for k in range(1, min(width, len(row)) + 1)) for row in rows)


@given(st.lists(PROBABILITIES, min_size=1, max_size=4), st.integers(1, 5), st.floats(0, 4) | st.none())
def test_the_best_width_beats_every_other(rows, fed, pace):
    width = CURVE.best_width(rows, context=0, fed=fed, tokens_per_ms=pace)
    longest = max(map(len, rows))
    assert 0 <= width <= longest

    def worth(w: int) -> float:
        cost = CURVE.step_ms(fed + w, batch_size=len(rows), context=0)
        return expected_tokens(rows, w) / cost if pace is None else expected_tokens(rows, w) - pace * cost

    assert worth(width) == pytest.approx(max(worth(w) for w in range(longest + 1)), rel=1e-6, abs=1e-6)


def test_arrays_and_lists_are_alike():
    probabilities = [0.9, 0.5, 0.8]
    as_array = np.array(probabilities, np.float32)
    cost = StepCost.default("cpu")
    assert cost.best_length(as_array) == cost.best_length(as_array.tolist())
    assert cost.best_length([]) == cost.best_length(np.zeros(0, np.float32)) == 0


def test_a_gpu_is_bound_by_arithmetic_in_large_batches():
    cost = StepCost.default("cuda")
    assert cost.step_ms(11, batch_size=8) == cost.step_ms(1, batch_size=8)
    assert cost.step_ms(8, batch_size=128) > 3 * cost.step_ms(1, batch_size=128)
    assert cost.best_total([[0.3] * 8] * 128, tokens_per_ms=128 / cost.step_ms(1, batch_size=128)).count(8) < 64


def test_defaults_free_on_cuda_and_dear_on_a_cpu():
    unlikely = [0.02] * 10
    assert StepCost.default("cuda:1").best_length(unlikely) == 10
    assert StepCost.default("cpu").best_length(unlikely) == 0
    assert StepCost.default("cpu").best_length([0.95] * 10) >= 8
    assert StepCost.default("cpu").best_width([[0.95] * 10] + [[]] * 7) < 4, "seven rows would wait for one"


def test_noise_never_makes_a_wider_pass_cheaper():
    cost = StepCost((1, 2, 4), (1,), (0,), [[[2.0, 1.0, 3.0]]])
    assert [cost.step_ms(k) for k in (1, 2, 4)] == [2, 2, 3]


def test_a_falling_batch_axis_does_not_reach_zero():
    cost = StepCost((1, 2), (1, 8), (0,), [[[5.0, 6.0]], [[1.0, 2.0]]])
    assert cost.step_ms(1, batch_size=64) > 0


def test_a_file_comes_back(tmp_path):
    cost = StepCost((1, 2, 4), (1, 8), (0, 128), CURVE.ms, 0.07, {"model": "m", "threads": 2})
    cost.save(tmp_path / "cost.json")
    again = StepCost.load(tmp_path / "cost.json")
    assert again.to_json() == cost.to_json()
    assert again.step_ms(3, batch_size=4, context=70) == cost.step_ms(3, batch_size=4, context=70)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "not a step-cost file"),
        ({"version": 2}, "version 2, expected 1"),
        ({"tokens": [2, 4]}, "must begin with 1"),
        ({"tokens": [1, 4, 2]}, "must ascend"),
        ({"tokens": [1, 2.5, 4]}, "whole numbers"),
        ({"tokens": "1,2,4"}, "whole numbers"),
        ({"batch_sizes": []}, "must ascend"),
        ({"tokens": [1, 4, 2_000_000_000]}, "tokens must be at most 16384, got 2000000000"),
        ({"batch_sizes": [1, 1 << 70]}, "batch_sizes must be at most"),
        ({"contexts": [0, 1 << 70]}, "contexts must be at most"),
        ({"ms": [[[1, 2, 4]]]}, "shape"),
        ({"ms": [[[1, 2, 4], [2, 3, 5]], [[8, 16, 32], [9, 17, -1]]]}, "positive"),
        ({"ms": [[[1, 2, 4], [2, 3, 5]], [[8, 16, 32], [9, 17]]]}, "cost.json"),
        ({"ms": "x"}, "cost.json"),
        ({"draft_ms": -1}, "draft_ms"),
        ({"draft_ms": None}, "cost.json"),
        ({"about": None}, "cost.json"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, says):
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(CURVE.to_json() | change))
    with pytest.raises(DataError, match=says):
        StepCost.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"format": "tasc-step-cost", "version": 1}', "\x00"])
def test_anything_else_is_refused(tmp_path, text):
    path = tmp_path / "cost.json"
    path.write_text(text)
    with pytest.raises(DataError):
        StepCost.load(path)


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match="positive"):
        StepCost((1,), (1,), (0,), [[[float("nan")]]])
    with pytest.raises(OptionError, match="contexts must ascend from at least 0"):
        StepCost((1,), (1,), (-1,), [[[1.0]]])


RAGGED = st.lists(st.lists(st.floats(0, 1, width=32), max_size=4), min_size=1, max_size=3)


@given(RAGGED, st.floats(1, 4))
def test_the_best_lengths_of_rows_that_are_not_padded_beat_all_others(rows, faster):
    pace = faster * len(rows) / CURVE.step_ms(1, batch_size=len(rows), context=0)

    def worth(lengths) -> float:
        expected = sum(expected_tokens([row], n) for row, n in zip(rows, lengths, strict=True))
        return expected - pace * float(CURVE.ragged_ms(sum(lengths), batch_size=len(rows), context=0))

    lengths = CURVE.best_total(rows, context=0, tokens_per_ms=pace)
    every = itertools.product(*(range(len(row) + 1) for row in rows))
    assert all(0 <= n <= len(row) for n, row in zip(lengths, rows, strict=True))
    assert worth(lengths) == pytest.approx(max(map(worth, every)), rel=1e-6, abs=1e-6)


@given(st.lists(PROBABILITIES, min_size=1, max_size=8), st.floats(0, 4))
def test_the_likeliest_tokens_are_taken_as_many_as_pay(rows, pace):
    """The brute force over all totals, for batches that are too large to try every combination."""
    lengths = CURVE.best_total(rows, context=0, tokens_per_ms=pace)
    gains = sorted((float(np.prod(row[: k + 1])) for row in rows for k in range(len(row))), reverse=True)
    expected = len(rows) + np.cumsum([0.0, *gains])
    ms = CURVE.ragged_ms(np.arange(len(expected)), batch_size=len(rows), context=0)
    worth = expected - pace * ms
    total = sum(lengths)
    taken = sum(float(np.prod(row[: k + 1])) for row, n in zip(rows, lengths, strict=True) for k in range(n))
    assert taken == pytest.approx(expected[total] - len(rows), rel=1e-6, abs=1e-6)
    if total:
        assert worth[total] == pytest.approx(worth.max(), rel=1e-6, abs=1e-6)
        assert expected[total] / ms[total] >= len(rows) / ms[0] * (1 - 1e-9)
        assert (worth[total + 1 :] <= worth[total] + 1e-6).all(), "the longest of those worth the same"


def test_tokens_that_cost_nothing_are_all_taken():
    assert StepCost.default("cuda").best_total([[0.1] * 3, [], [0.0, 0.5]], tokens_per_ms=1.0) == [3, 0, 2]


def test_rows_without_drafts_get_nothing():
    assert CURVE.best_total([[], []], tokens_per_ms=1.0) == [0, 0]
    assert CURVE.best_total([], tokens_per_ms=1.0) == []


def test_a_sure_draft_beside_rows_without_one_gets_its_length():
    """Unlike where rows are padded, it pays for its own tokens only."""
    rows = [[0.95] * 10, *[[]] * 7]
    pace = 8 / StepCost.default("cpu").step_ms(1, batch_size=8)
    assert StepCost.default("cpu").best_total(rows, tokens_per_ms=pace)[0] > StepCost.default("cpu").best_width(rows)


def test_least_gains_are_of_the_whole_pass():
    """1.5 tokens in 1.2 ms for 1 in 1 ms: a quarter more per millisecond."""
    cost = StepCost((1, 2), (1,), (0,), [[[1.0, 1.2]]])
    assert cost.best_total([[0.5]], tokens_per_ms=1.0, min_gain=0.24) == [1]
    assert cost.best_total([[0.5]], tokens_per_ms=1.0, min_gain=0.26) == [0]


def test_ragged_arrays_and_lists_are_alike():
    rows = [np.array([0.9, 0.5], np.float32), np.zeros(0, np.float32), np.array([0.7], np.float32)]
    as_lists = [row.tolist() for row in rows]
    assert CURVE.best_total(rows, tokens_per_ms=0.5) == CURVE.best_total(as_lists, tokens_per_ms=0.5)


def test_a_ragged_pass_costs_what_its_mean_length_does():
    for batch_size, context, width in itertools.product((1, 3, 8, 20), (0, 64, 500), (0, 1, 2, 7)):
        even = CURVE.ragged_ms(width * batch_size, batch_size=batch_size, context=context)
        assert even == pytest.approx(CURVE.step_ms(1 + width, batch_size=batch_size, context=context))
    some = CURVE.ragged_ms([0, 4, 8], batch_size=8, context=0)
    np.testing.assert_allclose(some, [8, 12, 16])
