"""Generations pass by pass, from a log and its drafter."""

from collections import Counter

import pytest

from drafters import Script, wrong_at
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.interface import SOURCES
from tasc.errors import DataError
from tasc.replay import replay
from tasc.replay.steps import passes_of

PROMPTS = [(20, 21), (22,), (23, 24, 25), (26,)]
OUTPUTS = [(*range(30, 30 + n), 0) for n in (9, 4, 14, 1)]
TABLE = dict(zip(PROMPTS, OUTPUTS, strict=True))


def control():
    return Control(StepCost.default("cpu"), max_draft=5)


def drafter(every: int = 4):
    return Script(TABLE, wrong_at(lambda place: place % every == 2))


@pytest.fixture
def log():
    """What decoding would have recorded."""
    result = replay(drafter(), PROMPTS, OUTPUTS, control=control(), before_prefill=True, limits=[20] * 4, batch_size=2)
    return result


def test_the_passes_bring_the_output_and_are_those_that_were_recorded(log):
    found = passes_of(drafter(), log.requests, control())
    for request, passes in zip(log.requests, found, strict=True):
        assert passes is not None
        assert sum((one.produced for one in passes), ()) == request.output_ids
        assert [len(one.draft.tokens) for one in passes] == list(request.drafted)
        assert [len(one.stand) for one in passes] == list(request.accepted)
    known = [passes for passes in found if passes is not None]
    assert sum(map(len, known)) == log.passes
    assert any(0 < len(one.stand) < len(one.draft.tokens) for passes in known for one in passes)


def test_sources_are_named_as_the_drafter_said(log):
    drafted, accepted = Counter(), Counter()
    for passes in passes_of(drafter(), log.requests, control()):
        for one in passes or ():
            assert len(one.sources) == len(one.draft.tokens)
            drafted.update(one.sources)
            accepted.update(one.sources[place] for place in one.stand)
    assert {name: [drafted[name], accepted[name]] for name in SOURCES if drafted[name]} == log.by_source


def test_a_request_that_another_drafter_decodes_otherwise_is_left_out(log):
    found = passes_of(drafter(every=3), log.requests, control())
    assert found[2] is None
    assert len(found) == len(log.requests)


def test_a_draft_that_ends_the_output_leaves_no_token_of_the_model_s_own():
    result = replay(Script(TABLE), [PROMPTS[3]], [OUTPUTS[3]], control=control(), before_prefill=True)
    (passes,) = passes_of(Script(TABLE), result.requests, control())
    assert passes is not None
    (only,) = passes
    assert (only.draft.tokens, only.sources) == ([30, 0], ("corpus", "neighbour"))
    assert (only.stand, only.own) == ((0, 1), None)


def test_an_empty_log_is_an_error():
    with pytest.raises(DataError, match="at least one row"):
        passes_of(drafter(), [], control())
