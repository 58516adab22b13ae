"""What `tasc tune` found is what decoding goes by, unless the caller says otherwise."""

from typing import Any

import pytest

from drafters import Script
from tasc.decode import generate, speculative
from tasc.decode.drafting import MAX_DRAFT
from tasc.draft.cost import StepCost
from tasc.draft.options import Tuned
from tiny_models import tiny_model

CURVE = StepCost((1, 2, 40), (1,), (0,), [[[10.0, 10.0, 10.5]]], about={"device": "cpu"})
OTHER = StepCost((1, 2), (1,), (0,), [[[1.0, 3.0]]])


def tuned_drafter(output: Any = (), **about: Any) -> Any:
    drafter: Any = Script({(20, 21): list(output)}, probability=0.999)
    cost = CURVE.to_json() | ({"about": about} if about else {})
    drafter.tuned = Tuned(16, cost, 50, (1.0, 1.5, 2.0))
    return drafter


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("qwen2", rows=96, initializer_range=0.5)


def step_ms(model: Any, drafter: Any, **options: Any) -> float:
    return speculative(drafter, **options).control(model).cost.step_ms(2)


def test_drafts_are_as_long_as_the_drafter_was_tuned_to(model):
    plain = generate(model, [[20, 21]], eos_id=1, max_new_tokens=40).outputs[0]
    done = generate(model, [[20, 21]], eos_id=1, max_new_tokens=40, drafter=tuned_drafter(plain))
    assert done.outputs[0] == plain
    assert len(plain) == 40
    assert done.passes == [3]  # 17 + 17 + 6 tokens
    assert len(done.requests[0].by_position) == 16


def test_the_caller_decides_before_the_drafter(model):
    assert speculative(tuned_drafter()).max_draft == 16
    assert speculative(tuned_drafter()).fresh().max_draft == 16
    assert speculative(tuned_drafter(), max_draft=4).max_draft == 4
    assert speculative(Script({})).max_draft == MAX_DRAFT
    assert step_ms(model, tuned_drafter()) == CURVE.step_ms(2)
    assert step_ms(model, tuned_drafter(), cost=OTHER) == OTHER.step_ms(2)
    assert step_ms(model, Script({})) == StepCost.default("cpu").step_ms(2)


def test_a_curve_of_another_kind_of_device_is_not_used(model):
    assert step_ms(model, tuned_drafter(device="cuda (NVIDIA H200)")) == StepCost.default("cpu").step_ms(2)
    assert step_ms(model, tuned_drafter(model="unknown machine")) == CURVE.step_ms(2)
