"""Weights that follow what the target writes: what they learn, and that nothing else changes."""

import numpy as np
import pytest

from built import SIZE, build, drafts_of, keyed_rows, many_rows
from tasc.draft import Options, _features
from tasc.draft import adaptive as module
from tasc.draft.adaptive import AdaptiveDrafter, adaptive
from tasc.draft.interface import Learner
from tasc.draft.memory import Memory

LOOPS = [([7, 8, 20 + k % 30], [9, 11 + k % 5] * 8) for k in range(40)]


@pytest.fixture(scope="module")
def drafter():
    return build(keyed_rows())


def right(drafter, rows) -> float:
    """Share of the drafted tokens of these outputs that are right."""
    drafted = correct = 0
    for prompt, output in rows:
        state = drafter.start(prompt)
        for place in range(len(output) - 1):
            state.extend(output[place : place + 1])
            tokens = state.propose(3).tokens.tolist()
            expected = output[place + 1 : place + 1 + len(tokens)]
            drafted += len(expected)
            correct += sum(a == b for a, b in zip(tokens, expected, strict=False))
    return correct / drafted


def test_what_the_model_writes_is_drafted_better_and_the_drafter_stays_as_it_is(drafter):
    before, at_work = drafts_of(drafter, many_rows(5)), AdaptiveDrafter(drafter)
    first = right(at_work, LOOPS[20:])
    for row in LOOPS[:20]:
        at_work.learn(*row)
    assert right(at_work, LOOPS[20:]) > first + 0.2
    assert right(AdaptiveDrafter(drafter), LOOPS[20:]) == first == right(drafter, LOOPS[20:])
    assert drafts_of(drafter, many_rows(5)) == before


def test_weights_that_tell_of_single_tokens_stay(drafter):
    """Drafts of one request would show what tokens another one's output holds."""
    at_work = AdaptiveDrafter(drafter)
    for row in LOOPS:
        at_work.learn(*row)
    changed = at_work._mixture.weights != drafter.weights
    assert np.any(drafter.weights[_features.OF_TOKENS])
    assert np.any(changed)
    assert not np.any(changed[_features.OF_TOKENS])


def test_chances_become_honest(drafter):
    """Of a model that begins as it should and goes on with anything, no draft is believed any more."""
    at_work, rng = AdaptiveDrafter(drafter), np.random.default_rng(0)
    prompt, output = keyed_rows()[0]

    def chance() -> float:
        state = at_work.start(prompt)
        state.extend(output[:2])
        return float(state.propose(1).probabilities[0])

    first = chance()
    for _ in range(40):
        at_work.learn(prompt, [*output[:2], *rng.integers(1, SIZE, 3)])
    assert first > 0.5 > 0.2 > chance()


def test_the_same_requests_in_the_same_order_give_the_same_drafts(drafter):
    one, other = AdaptiveDrafter(drafter), AdaptiveDrafter(drafter)
    for row in LOOPS:
        one.learn(*row)
    for prompt, output in LOOPS:
        other.learn(np.array(prompt), tuple(output))
    assert drafts_of(one, LOOPS) == drafts_of(other, LOOPS)


def test_requests_that_run_follow_the_weights(drafter):
    at_work = AdaptiveDrafter(drafter)
    state = at_work.start(LOOPS[0][0])
    state.extend(LOOPS[0][1][:6])
    before = state.propose(4).probabilities.tolist()
    for row in LOOPS[1:]:
        at_work.learn(*row)
    assert state.propose(4).probabilities.tolist() != before


def test_later_only_some_requests_teach(drafter, monkeypatch):
    monkeypatch.setattr(module, "FIRST", 3)
    monkeypatch.setattr(module, "EVERY", 4)
    at_work, taught = AdaptiveDrafter(drafter), []
    for k in range(1, 13):
        before = at_work.start([7]).propose(1).probabilities.tolist()
        at_work.learn(*LOOPS[k])
        if at_work.start([7]).propose(1).probabilities.tolist() != before:
            taught.append(k)
    assert taught == [1, 2, 3, 4, 8, 12]


def test_long_outputs_teach_by_their_beginning(drafter, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 6)
    whole, cut = AdaptiveDrafter(drafter), AdaptiveDrafter(drafter)
    whole.learn([7], LOOPS[0][1])
    cut.learn([7], LOOPS[0][1][:6])
    assert drafts_of(whole, LOOPS[:3]) == drafts_of(cut, LOOPS[:3])


def test_an_empty_output_teaches_nothing(drafter):
    at_work = AdaptiveDrafter(drafter)
    at_work.learn([7], [])
    assert drafts_of(at_work, LOOPS[:3]) == drafts_of(drafter, LOOPS[:3])


def test_a_memory_speaks_while_learning_as_it_does_while_drafting(drafter):
    memory = Memory(max_tokens=100)
    memory.add(*LOOPS[0])
    with_memory, without = AdaptiveDrafter(drafter), AdaptiveDrafter(drafter)
    with_memory.learn(*LOOPS[0], memory=memory)
    without.learn(*LOOPS[0])
    assert drafts_of(with_memory, LOOPS[:3]) != drafts_of(without, LOOPS[:3])


def test_what_has_no_weights_is_left_as_it_is():
    paper = build(many_rows(30), options=Options(preset="paper"))
    assert adaptive(paper) is paper
    assert not isinstance(paper, Learner)
    assert isinstance(adaptive(build(many_rows(30))), Learner)
