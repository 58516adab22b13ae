"""Warm-up, repetitions, median."""

import pytest

from tasc.decode import Timing, measure, timed_generate
from tasc.errors import OptionError
from tiny_models import tiny_model


def test_timing():
    timing = Timing((4.0, 1.0, 2.0, 3.0))
    assert (timing.median, timing.low, timing.high) == (2.5, 1.0, 4.0)


def test_measure_leaves_the_warm_up_out(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) ** 2)
    calls: list[int] = []
    timing = measure(lambda: calls.append(1), repeats=3, warm_up=2)
    assert len(calls) == 5
    assert timing.values == (1, 5, 9)  # 1-0, 9-4, 25-16: the clock is read twice a run, not during the warm-up


def test_the_middle_repetition_is_given_back():
    model = tiny_model("llama")
    generated, timing = timed_generate(
        model, [[5, 6], [7]], repeats=3, batch_size=2, max_new_tokens=6, eos_id=63, pad_id=0
    )
    assert generated.ms_per_output == timing.median
    assert len(timing.values) == 3


@pytest.mark.parametrize(
    "call",
    [
        lambda: measure(list, repeats=0),
        lambda: timed_generate(tiny_model("llama"), [[1]], repeats=0, max_new_tokens=1, eos_id=0),
    ],
)
def test_refusals(call):
    with pytest.raises(OptionError, match="repeats must be at least 1, got 0"):
        call()
