"""Outputs seen at run time: what is remembered, what drafts make of it, how it gets into the file."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from built import EOS, SIZE, build, drafts_of, keyed_rows, many_rows, same_drafters
from tasc.draft import SOURCES, Memory, Options
from tasc.draft import memory as module
from tasc.errors import OptionError

IDS = st.lists(st.integers(1, 30), max_size=6)
# a request with a key that the corpus does not hold, and values that it holds for other keys
PROMPT, OUTPUT = [7, 8, 39, 5], [9, 3, 10, 4, 12, 4, 11, EOS]


@given(st.lists(st.tuples(IDS, IDS)), st.integers(1, 12), st.integers(1, 5))
def test_the_oldest_rows_leave_first(rows, max_tokens, max_rows):
    memory, expected = Memory(max_tokens=max_tokens, max_rows=max_rows), []
    for prompt, output in rows:
        memory.add(prompt, output)
        if 0 < len(output) <= max_tokens:
            expected.append((prompt, output))
        while len(expected) > max_rows or sum(len(output) for _, output in expected) > max_tokens:
            del expected[0]
        assert memory.rows() == expected
        assert len(memory) == len(expected)


@given(st.lists(st.tuples(IDS, st.lists(st.integers(1, 30), min_size=1, max_size=4))), IDS, st.integers(1, 12))
def test_the_rows_found_are_those_whose_prompts_share_most(rows, prompt, max_rows):
    memory = Memory(max_rows=max_rows)
    for row in rows:
        memory.add(*row)
    asked, scored = set(prompt), []
    for age, (known, output) in enumerate(reversed(memory.rows())):  # of equal ones the newest first
        longer = max(len(asked), len(set(known))) or 1
        shared = len(asked & set(known))
        scored += [(-shared / (len(asked) * longer) ** 0.5, age, output)] if shared else []
    weight_of = {}  # rows with the same output are one
    for score, _, output in sorted(scored):
        weight_of[tuple(output)] = weight_of.get(tuple(output), 0) + score**2
    best = list(weight_of.items())[::-1]
    text, starts, weights = memory.find(np.array(prompt, np.int32), None, 99)
    found = [text[begin:end].tolist() for begin, end in pairwise(starts)]
    assert found == [[99, *output] for output, _ in best]
    assert weights.tolist() == pytest.approx([weight * (1 << 16) for _, weight in best], abs=1)


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_rows": 0}, {"max_tokens": -1}])
def test_limits_below_one_are_refused(limits):
    with pytest.raises(OptionError, match="at least 1"):
        Memory(**limits)


def test_a_request_that_comes_again_is_drafted_from_the_memory():
    drafter, memory, row = build(keyed_rows()), Memory(), (PROMPT, OUTPUT[:-1])
    before = drafts_of(drafter, [row], memory=memory)
    assert before == drafts_of(drafter, [row])  # an empty memory makes no difference
    assert before[2][0][0] != OUTPUT[2]
    memory.add(PROMPT, OUTPUT)
    after = drafts_of(drafter, [row], memory=memory)
    assert after[2][0][:2] == OUTPUT[2:4]
    memory_code = SOURCES.index("memory")
    assert after[2][1][0] == memory_code
    assert not any(memory_code in sources for _, sources, _ in before)
    assert drafts_of(drafter, [row]) == before  # the drafter itself has learnt nothing


def test_memories_with_the_same_rows_give_the_same_drafts():
    drafter, rows = build(many_rows()), many_rows(60, seed=1)
    memories = [Memory(max_tokens=150), Memory(max_tokens=150)]
    for prompt, output in rows:
        memories[0].add(prompt, [*output, EOS])
    for prompt, output in many_rows(80, seed=2) + rows:  # what went before has left
        memories[1].add(np.array(prompt), np.array([*output, EOS]))
    assert memories[0].rows() == memories[1].rows()
    first, second = (drafts_of(drafter, many_rows(20, seed=3), memory=memory) for memory in memories)
    assert first == second


def test_a_request_keeps_what_it_began_with():
    drafter, memory = build(keyed_rows()), Memory(max_rows=1)
    memory.add(PROMPT, OUTPUT)
    state = drafter.start(PROMPT, memory=memory)
    memory.add([5], [6, 6, 6, EOS])
    assert len(memory) == 1
    state.extend(OUTPUT[:2])
    assert state.propose(10).tokens.tolist()[:2] == OUTPUT[2:4]


def test_seen_rows_can_be_saved_with_an_update():
    drafter, memory, seen = build(many_rows()), Memory(), many_rows(30, seed=4)
    for prompt, output in seen:
        memory.add(prompt, [*output, EOS])
    same_drafters(drafter.update(memory.rows()), drafter.update(seen))
    assert drafter.update(memory.rows()).index.n_rows == 180


def test_a_request_drafts_from_so_many_rows_and_tokens(monkeypatch):
    """Of equally similar rows the newest; one that does not fit makes room for shorter ones."""
    memory = Memory()
    for k in range(6):
        memory.add([7], [10 + k] * (4 if k == 4 else 2))
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    monkeypatch.setattr(module, "MOST_TOKENS", 5)
    text, starts, weights = memory.find(np.array([7], np.int32), None, 99)
    assert text.tolist() == [99, 13, 13, 99, 15, 15]
    assert starts.tolist() == [0, 3, 6]
    assert len(weights) == 2


def test_rows_with_the_same_output_leave_room_for_others(monkeypatch):
    """Newest first: 5 comes three times and takes one of the two places; a longer output that begins alike is another."""
    memory = Memory()
    for output in ([6], [5, 5], [5], [5], [5]):
        memory.add([7], output)
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    text, starts, weights = memory.find(np.array([7], np.int32), None, 99)
    assert text.tolist() == [99, 5, 5, 99, 5]
    assert starts.tolist() == [0, 3, 5]
    assert weights.tolist() == [1 << 16, 3 << 16]


def test_outputs_without_an_end_and_prompts_never_seen_are_fine():
    drafter, memory = build(many_rows()), Memory()
    for output in ([1], [SIZE - 1] * 40, [EOS], [2, 2, 2]):
        memory.add([], output)
        memory.add([SIZE - 1, 10**6], output)
    assert all(max(tokens, default=0) < SIZE for tokens, _, _ in drafts_of(drafter, many_rows(5), memory=memory))


def test_the_published_method_has_no_memory():
    drafter, memory = build(many_rows(), options=Options(preset="paper")), Memory()
    memory.add(PROMPT, OUTPUT)
    assert drafts_of(drafter, [(PROMPT, OUTPUT[:-1])], memory=memory) == drafts_of(drafter, [(PROMPT, OUTPUT[:-1])])
