"""Outputs seen at run time: what is remembered, what drafts make of it, how it gets into the file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import EOS, SIZE, build, drafts_of, keyed_rows, many_rows, same_drafters
from plain_request import START, look, mixture
from tasc.draft import SOURCES, Memory, Options, _features, _index, _request, _sources
from tasc.draft import memory as memory_module
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


def unpacked(packed):
    """`_index.unpack` without the mark."""
    n, n_ids = packed[[_index.N_TOKENS, _index.N_IDS]].tolist()
    return np.split(packed[_index.PACKED :], np.cumsum([n, n, n_ids]))


def text_of(memory):
    """What is indexed, and the order of its suffixes."""
    tokens, suffixes, ids, starts = unpacked(memory.index(SIZE, EOS))
    assert [starts[-1]] == [len(tokens)]
    assert [tokens[suffixes[first]] for first in starts[:-1]] == ids.tolist()
    return tokens.tolist(), suffixes.tolist()


def test_outputs_are_indexed_behind_the_ends_of_their_prompts():
    memory = Memory(max_rows=2)
    assert text_of(memory) == ([], [])
    memory.add([1], [2, EOS])
    memory.add(range(1, 30), [5, EOS])
    memory.add([SIZE, -1, 10**6], [SIZE + 1, 6])  # ids that the drafter does not know
    tokens, suffixes = text_of(memory)
    other, begin = SIZE + 1, SIZE
    assert tokens == [other, *range(15, 30), begin, 5, EOS, other, begin, other, other, begin, other, 6]
    assert suffixes == sorted(range(len(tokens)), key=lambda place: tokens[place:])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 20))
def test_at_most_an_eighth_of_the_rows_are_not_indexed(outputs, max_rows):
    """And each is indexed about nine times, or the index would be made anew for each of many rows."""
    memory, made, before = Memory(max_rows=max_rows), 0, memory_module.NOTHING_SEEN
    for n, output in enumerate(outputs, 1):
        memory.add([], [output])
        index = memory.index(SIZE, EOS)
        made += index is not before
        before = index
        held = unpacked(index)[0].tolist()[2::3]
        newest = [row for _, (row,) in memory.rows()]
        missing = next(k for k in range(n + 1) if outputs[: n - k][-len(held) :] == held)
        assert 8 * missing < len(newest)
    assert made <= 8 + 9 * max(1, len(outputs) // max_rows) + 8 * np.log(max(len(outputs), 8) / 8)


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=8),
    st.lists(st.integers(1, 4), max_size=18),
    st.lists(st.tuples(st.lists(st.integers(1, 4), max_size=5), st.lists(st.integers(1, 4), max_size=9)), max_size=6),
    st.booleans(),
)
def test_a_request_drafts_from_what_is_seen_while_it_runs(rows, prompt, passes, tree):
    """As one does that begins when all of it was seen; the tables of answers know which index was asked."""
    drafter, memory, output = mixture(rows, seed=1), Memory(), []
    running = drafter.start(prompt, memory=memory)
    for produced, other in passes:
        running.extend(produced)
        output += produced
        memory.add(prompt[:2], other)
        late = mixture(rows, seed=1).start(prompt, memory=memory)
        late.extend(output)
        asked = [state.propose_tree(8, 8) if tree else state.propose(8) for state in (running, late)]
        for found, expected in zip(*asked, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_requests_of_one_drafter_can_have_memories_of_their_own():
    """Also where a place means something else in each: answers about one are no answers about the other."""
    drafter = build(many_rows())
    memories = [Memory(), Memory(max_rows=2), None]
    for k, (prompt, output) in enumerate(many_rows(40, seed=5)):
        for memory in memories[:2]:
            memory.add(prompt, output if memory is memories[0] else [1 + k % 3] * 40)
    asked = many_rows(10, seed=6)
    alone = [drafts_of(build(many_rows()), asked, memory=memory) for memory in memories]
    for _ in range(2):
        for memory, expected in zip(memories, alone, strict=True):
            assert drafts_of(drafter, asked, memory=memory) == expected


def test_chances_among_seen_outputs_are_witten_bell():
    drafter, memory = mixture([[8]]), Memory()
    for output in ([5, 6, 7], [5, 6, 7], [5, 6, 4], [3, 6, 2]):
        memory.add([1, 9], output)
    state = drafter.start([1, 9], memory=memory)
    state.extend([5, 6])
    seen = look(drafter, state._memory, seen=memory.index(START, 0))
    found = dict(zip(seen.found[: seen.n].tolist(), seen.numbers[_sources.SEEN].tolist(), strict=False))
    # behind 5 6: 7 twice, 4 once; behind 6 alone also 2
    shorter = {token: (n + 3 * _sources.FLOOR) / (4 + 3) for token, n in {7: 2, 4: 1, 2: 1}.items()}
    expected = {token: (n + 2 * shorter[token]) / (3 + 2) for token, n in {7: 2, 4: 1, 2: 0}.items()}
    assert {token: found[token] for token in expected} == pytest.approx(expected)
    assert found[8] == 0  # the corpus alone names it
    context = _features.context_bin(state._memory[_request.IN_SEEN :][: _request.IN_SEEN])
    assert context == _features.length_bin(5) * _features.SIZE_BINS + _features.size_bin(3)  # 1 9 START 5 6
    for place, token in enumerate(seen.found[: seen.n].tolist()):
        p = _features.p_bin(found[token], _features.P_BINS)
        assert seen.features[place, 10] == 1 + p * _features.CONTEXTS + context


def test_seen_rows_can_be_saved_with_an_update():
    drafter, memory, seen = build(many_rows()), Memory(), many_rows(30, seed=4)
    for prompt, output in seen:
        memory.add(prompt, [*output, EOS])
    same_drafters(drafter.update(memory.rows()), drafter.update(seen))
    assert drafter.update(memory.rows()).index.n_rows == 180


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
