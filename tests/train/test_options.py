"""Options out of range, and how a run falls into batches."""

import pytest

from tasc.errors import OptionError
from tasc.train.options import Batches, Options


@pytest.mark.parametrize(
    "changes",
    [
        dict(method="prompt"),
        dict(train_rows="some"),
        dict(init="zero"),
        dict(precision="fp16"),
        dict(lr=0),
        dict(epochs=-1),
        dict(batch_size=0),
        dict(lora_dropout=1.0),
        dict(merge_dropout=-0.1),
        dict(max_length=-5),
        dict(save_every=-1),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes):
    with pytest.raises(OptionError, match=next(iter(changes))):
        Options(**changes)


def test_the_defaults_are_the_papers():
    options = Options()
    assert (options.lora_r, options.lora_alpha, options.lora_dropout) == (16, 16, 0.2)
    assert (options.lr, options.batch_size, options.effective_batch, options.epochs) == (2e-4, 8, 64, 3)
    assert (options.method, options.train_rows) == ("lora", "all")


def test_how_often_a_run_evaluates_and_saves_does_not_decide_its_result():
    assert Options(eval_every=3, save_every=5, eval_rows=7).deciding() == Options().deciding()
    assert Options(seed=1).deciding() != Options().deciding()


@pytest.mark.parametrize(
    ("changes", "rows", "processes", "expected"),
    [
        (dict(epochs=3), 1000, 1, (3000, 8, 8, 47)),
        (dict(epochs=0.5), 1000, 1, (500, 8, 8, 8)),
        (dict(max_steps=10), 3, 1, (640, 8, 8, 10)),
        (dict(epochs=1), 1000, 2, (1000, 8, 4, 16)),
        (dict(epochs=1, effective_batch=4), 10, 1, (10, 4, 1, 3)),
        (dict(epochs=1, effective_batch=4), 10, 2, (10, 2, 1, 3)),
    ],
)
def test_batches(changes, rows, processes, expected):
    batches = Batches.of(Options(**changes), rows=rows, processes=processes)
    assert (batches.visits, batches.size, batches.accumulation, batches.steps) == expected


def test_an_effective_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(OptionError, match="64 is none of 8 x 3"):
        Batches.of(Options(), rows=100, processes=3)
