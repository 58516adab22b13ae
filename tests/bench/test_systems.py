import math

import pytest

from tasc.bench import System, are_comparable, measure_quality, measure_speed, to_json
from tasc.corpus import Row, Tasks
from tasc.decode import Completions, Generated, Timing
from tasc.evals import make_metric

METRIC = {"metric": make_metric("intent-slots"), "headline": "joint_accuracy"}
RIGHT = "intent: light_on, slot fills: {room: attic}"
ROWS = Tasks(tuple(Row(f"request {k}", RIGHT) for k in range(10)))


class Recorder:
    """A progress that writes down what it was told."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int, int]] = []

    def __call__(self, description, *, total, unit):
        recorder, done = self, 0

        class Bar:
            def __enter__(self):
                def advance(n):
                    nonlocal done
                    done += n

                return advance

            def __exit__(self, *error):
                recorder.shown.append((description, total, done))

        return Bar()


def fake(name: str, text: str, *, passes: int, seconds: float, calls: list | None = None) -> System:
    def complete(rows, batch_size, advance):
        n = len(rows)
        advance(n)
        if calls is not None:
            calls.append((name, n, batch_size))
        generated = Generated([[1] * (passes - 1)] * n, [passes] * n, [seconds * 1000] * n, [True] * n, [seconds * n])
        return Completions([text] * n, [12] * n, generated, Timing((seconds * 1000,)), None, {})

    return System(name, complete)


def test_quality_is_scored_with_intervals_and_paired_differences():
    systems = [fake("a", RIGHT, passes=13, seconds=0.1), fake("b", "nonsense", passes=5, seconds=0.05)]
    progress = Recorder()
    a, b = measure_quality(systems, ROWS, **METRIC, batch_size=8, progress=progress)
    assert a.difference is None
    assert (a.values["joint_accuracy"].value, b.values["joint_accuracy"].value) == (1.0, 0.0)
    assert b.difference is not None
    assert b.difference.value == -1.0
    assert [(total, done) for _, total, done in progress.shown] == [(10, 10), (10, 10)]


def test_systems_take_turns_and_ratios_are_taken_round_by_round():
    calls = []
    systems = [
        fake("a", RIGHT, passes=13, seconds=0.1, calls=calls),
        fake("b", RIGHT, passes=5, seconds=0.04, calls=calls),
    ]
    progress = Recorder()
    a, b = measure_speed(systems, ROWS.rows[:4], batch_size=2, rounds=3, progress=progress)
    assert calls == [("a", 4, 2), ("b", 4, 2)] * 3
    calls.clear()
    c, d = measure_speed(systems, ROWS.rows[:4], batch_size=2, rounds=2, turn=3)
    assert calls == [("a", 3, 2), ("b", 3, 2), ("a", 1, 2), ("b", 1, 2)] * 2
    assert math.isclose(c.ms.median, a.ms.median)
    assert math.isclose(d.ms.median, b.ms.median)
    assert a.ratio.values == (1.0, 1.0, 1.0)
    assert all(math.isclose(ratio, 2.5) for ratio in b.ratio.values)
    assert math.isclose(b.ms.median, 40.0)
    assert progress.shown == [("timing in turns, batch 2", 24, 24)]


@pytest.mark.parametrize(("text", "comparable"), [(RIGHT, True), ("intent: light_on", False)])
def test_malformed_outputs_are_not_compared_in_time(text, comparable):
    systems = [fake("a", RIGHT, passes=13, seconds=0.1), fake("b", text, passes=5, seconds=0.05)]
    reference, other = measure_quality(systems, ROWS, **METRIC, batch_size=8, progress=Recorder())
    assert are_comparable(other, reference) is comparable
    assert are_comparable(reference, other) is comparable


def test_the_json_row_has_all_figures():
    system = fake("a", RIGHT, passes=13, seconds=0.1)
    (quality,) = measure_quality([system], ROWS, **METRIC, batch_size=8, progress=Recorder())
    speeds = measure_speed([system], ROWS.rows, batch_size=8, rounds=2, progress=Recorder())
    row = to_json(system, quality, speeds, comparable=True)
    assert row["quality"]["joint_accuracy"] == 1.0
    assert row["intervals"]["joint_accuracy"] == [1.0, 1.0]
    assert row["tokens_per_output"] == 12
    assert row["passes_per_output"] == 13
    assert row["headline_difference"] is None
    assert row["speed"][0]["batch_size"] == 8
    assert row["speed"][0]["speed_up"] == 1.0
    assert len(row["speed"][0]["ms_per_output_rounds"]) == 2
