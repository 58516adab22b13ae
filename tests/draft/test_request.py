"""A request's memory against plain searches of its whole text, and what drafting must leave as it was."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plain_request import EOS, OUTPUT, START, UNUSED, USED, Place, PlainRequest, crowded, matches_of, mixture, text_of
from tasc.draft import _request
from tasc.draft.memory import NOTHING_SEEN

TOKENS = st.integers(1, 4)  # few, so that contexts repeat
ROWS = st.lists(st.lists(TOKENS, max_size=12), min_size=1, max_size=10)
ANY_ID = st.integers(0, 5) | st.sampled_from([-1, -3, START, START + 1, START + 2, 10**6, 2**31 - 1, -(2**31)])
PROMPTS = st.lists(st.integers(0, 5), max_size=12) | st.lists(ANY_ID, max_size=12)
VARIANTS = st.sampled_from([{}, {4: 3}, {1: 2, 5: 2}, {8: 1}])
PASSES = st.lists(st.lists(TOKENS, min_size=1, max_size=5) | st.lists(ANY_ID, min_size=1, max_size=5), max_size=8)


@st.composite
def requests(draw):
    """Rows, the similar ones among them, spellings, a prompt and what is generated in each pass."""
    rows = draw(ROWS)
    chosen = draw(st.lists(st.integers(0, len(rows) - 1), unique=True, max_size=4))
    similar = [(row, draw(st.integers(1, 1000))) for row in chosen]
    return rows, similar, draw(VARIANTS), draw(PROMPTS), draw(PASSES)


def drafts_of(state, max_tokens=10):
    draft = state.propose(max_tokens)
    return draft.tokens.tolist(), draft.sources.tolist(), draft.probabilities.tolist()


def check_text(memory, plain):
    found = text_of(memory)
    assert [tuple(place) for place in found[:, :3].tolist()] == [tuple(place) for place in plain.text]
    assert [memory[at] for at in (_request.PROMPT_AT, _request.PROMPT_END)] == [plain.prompt_at, plain.prompt_end]


def check_table(memory, plain):
    """Each variant's newest place, the older ones behind it, and the weight of the similar rows that hold it."""
    assert memory[_request.WEIGHT_SUM] == sum(weight for _, weight in plain.held)
    for variant in {place.variant for place in plain.text} - {-1}:
        at = _request.entry_of(memory, variant)
        place, chain = memory[at + 1], []
        while place >= 0:
            chain.append(int(place))
            place = text_of(memory)[place, 3]
        assert chain == plain.places_of(variant)
        assert memory[at + 2] == sum(weight for held, weight in plain.held if variant in held)


def check_parts(memory, plain, index):
    """The parts of the corpus for contexts of every length."""
    assert memory[_request.TOP] == plain.top
    for order in range(plain.top + 1):
        part = index.suffixes[memory[_request.LOWS + order] : memory[_request.HIGHS + order]]
        assert sorted(part.tolist()) == plain.occurrences(order)


@settings(max_examples=300)
@given(requests())
def test_the_memory_equals_plain_searches(request):
    rows, similar, variants, prompt, passes = request
    drafter = mixture(rows, similar=similar, variants=variants)
    state, plain = drafter.start(prompt), PlainRequest(rows, prompt, similar=similar, variants=variants)
    for produced in ([], *passes):
        state.extend(produced)
        for token in produced:
            plain.take(token)
        memory = state._memory
        check_text(memory, plain)
        check_table(memory, plain)
        check_parts(memory, plain, drafter.index)
        assert matches_of(memory) == plain.matches
        cursor = [int(memory[at]) for at in (_request.CURSOR, _request.SINCE, _request.RUN)]
        assert cursor == [plain.cursor, plain.since, plain.run]


@given(requests())
def test_matches_are_the_longest_there_are(request):
    """Until a token stands in more places than are followed, `matches` are all matches at full length."""
    rows, similar, variants, prompt, passes = request
    state = mixture(rows, similar=similar, variants=variants).start(prompt)
    plain = PlainRequest(rows, prompt, similar=similar, variants=variants)
    for token in [token for produced in passes for token in produced]:
        expected = plain.places_of(plain.variant(token))
        assume(len(expected) <= _request.NEWEST)
        plain.advance(token)
        state.extend([token])
        assert matches_of(state._memory) == [(place, plain.longest_match(place)) for place in expected]
        plain.text.append(Place(token, plain.variant(token), OUTPUT))


@pytest.mark.parametrize("places", [_request.NEWEST // 2, _request.NEWEST, 3 * _request.ACTIVE])
def test_more_places_than_are_followed(places):
    """The newest places stay, here one older at most; a match is counted from where its place was followed."""
    row = [1, 2] * places
    state, plain = mixture([row]).start(row), PlainRequest([row], row)
    for token in [1, 2, 1, 1, 2, 1, 2, 2, 1, 2, 1, 2]:
        newest = plain.places_of(token)[: _request.NEWEST]
        state.extend([token])
        plain.take(token)
        found = matches_of(state._memory)
        assert [place for place, _ in found[: _request.NEWEST]] == newest
        assert len(found) - len(newest) in (0, 1)
        assert found == plain.matches
        assert all(length <= plain.longest_match(place) for place, length in found)


def test_a_long_match_goes_on_at_a_place_that_newer_ones_would_hide():
    """3 4 1 2 1 5 stands far back; 1 and 2 stand so often behind it that their newest places are all elsewhere."""
    prompt = [6, 3, 4, 1, 2, 1, 5] + [1, 2] * (2 * _request.NEWEST)
    state, plain = mixture([[7]]).start(prompt), PlainRequest([[7]], prompt)
    for token in prompt[1:6]:
        state.extend([token])
        plain.take(token)
    found = matches_of(state._memory)
    assert found == plain.matches
    assert len(found) == _request.NEWEST + 1
    place, length = found[-1]
    assert length == 5
    assert text_of(state._memory)[place + 1, 0] == 5


def test_while_a_long_match_goes_on_no_new_one_begins():
    """The output is the prompt, in which every token stands three times; then it breaks off."""
    prompt = [1, 2, 3, 4, 1, 2, *range(10, 10 + _request.LONG), 1, 2, 3, 5, 6]
    state, plain = mixture([[7]]).start(prompt), PlainRequest([[7]], prompt)
    lengths = []
    for token in [*prompt[3:-2], 1]:
        state.extend([token])
        plain.take(token)
        assert matches_of(state._memory) == plain.matches
        lengths.append(sorted((length for _, length in plain.matches), reverse=True))
    assert lengths[1] == [2, 1, 1]  # 4 1, and the other 1s of the prompt
    assert [len(some) for some in lengths[-4:-1]] == [1] * 3  # 1 2 3 once more, in the long match alone
    assert lengths[-1][0] == 1  # broken off: every 1 begins anew
    assert len(lengths[-1]) > 1


def test_a_worked_example_of_contexts():
    """In 9 1 2 3 0 9 1 2 4 0, the output 1 2 stands twice, at 0 and 5 with its start; 1 2 4 once."""
    drafter = mixture([[1, 2, 3], [1, 2, 4]])
    state = drafter.start([])
    parts = []
    for produced in ([1, 2], [4], [4]):
        state.extend(produced)
        memory, top = state._memory, state._memory[_request.TOP]
        low, high = memory[_request.LOWS + top], memory[_request.HIGHS + top]
        parts.append((int(top), sorted(drafter.index.suffixes[low:high].tolist())))
    assert parts == [(3, [0, 5]), (4, [5]), (1, [8])]


@pytest.mark.parametrize(
    ("produced", "cursor", "since", "run"),
    [
        ([], -1, _request.LONGEST, 0),
        ([8], -1, _request.LONGEST, 0),  # not in the prompt
        ([2], 1, 0, 1),  # the first place that holds it
        ([2, 3], 2, 0, 2),  # the next one
        ([2, 3, 2], 4, 0, 1),  # the nearest after it
        ([2, 3, 2, 8, 8], 4, 2, 1),  # stays where it was
        ([2, 3, 2, 8, 5], 5, 0, 2),  # a run goes on over what is no copy
        ([6, 1], 0, 0, 1),  # nothing after it: the first that was not copied
        ([6, 2, 6, 2], 4, 0, 1),
        ([1, 6, 1], 6, 1, 1),  # copied already, nowhere ahead
    ],
)
def test_where_the_cursor_goes(produced, cursor, since, run):
    prompt = [1, 2, 3, 4, 2, 5, 6]
    state = mixture([[7]]).start(prompt)
    state.extend(produced)
    memory = state._memory
    at = memory[_request.CURSOR] - memory[_request.PROMPT_AT] if memory[_request.CURSOR] >= 0 else -1
    assert (at, memory[_request.SINCE], memory[_request.RUN]) == (cursor, since, run)


def test_copied_places_are_marked():
    state = mixture([[7]]).start([1, 2, 3, 2])
    state.extend([2, 3, 8])
    begin = state._memory[_request.PROMPT_AT]
    assert text_of(state._memory)[begin:, 2].tolist() == [UNUSED, USED, USED, UNUSED, OUTPUT, OUTPUT, OUTPUT, OUTPUT]


@given(requests(), st.integers(0, 100), st.integers(0, 20))
def test_a_draft_changes_nothing(request, seed, max_tokens):
    rows, similar, variants, prompt, passes = request
    drafter = mixture(rows, similar=similar, variants=variants, seed=seed)
    asked, silent = drafter.start(prompt), drafter.start(prompt)
    for produced in passes:
        before = asked._memory.copy()
        first = drafts_of(asked, max_tokens)
        np.testing.assert_array_equal(asked._memory, before)
        assert drafts_of(asked, max_tokens) == first
        asked.extend(produced)
        silent.extend(produced)
    assert drafts_of(asked) == drafts_of(silent)
    np.testing.assert_array_equal(asked._memory, silent._memory)


@given(requests(), st.integers(0, 100))
def test_looking_ahead_on_a_copied_frame_moves_only_the_frame(request, seed):
    rows, similar, variants, prompt, passes = request
    drafter = mixture(rows, similar=similar, variants=variants, seed=seed)
    memory = drafter.begin(np.array(prompt, np.int32))
    plain = PlainRequest(rows, prompt, similar=similar, variants=variants)
    before, frame = memory.copy(), memory[: _request.FRAME].copy()
    copied = []
    for token in [token for produced in passes for token in produced]:
        place = _request.advance(*drafter.lookup(), NOTHING_SEEN, memory, frame, token)
        copied += [place] if place >= 0 else []
        plain.advance(token)
        assert (frame[_request.CURSOR], frame[_request.TOP]) == (plain.cursor, plain.top)
    fresh = text_of(before)[:, 2] == UNUSED
    assert sorted(copied) == [k for k, place in enumerate(plain.text) if place.kind == USED and fresh[k]]
    text_of(memory)[copied, 2] = UNUSED
    np.testing.assert_array_equal(memory, before)


@given(requests(), st.integers(0, 100), st.integers(0, 3))
def test_room_for_more_text_changes_nothing(request, seed, room):
    rows, similar, variants, prompt, passes = request
    drafter = mixture(rows, similar=similar, variants=variants, seed=seed)
    small, large = drafter.start(prompt), drafter.start(prompt)
    small._room = room  # grows at once and often
    for produced in passes:
        small.extend(produced)
        large.extend(produced)
        assert drafts_of(small) == drafts_of(large)
    np.testing.assert_array_equal(text_of(small._memory), text_of(large._memory))
    capacity = int(small._memory[_request.CAPACITY])
    assert len(small._memory) == _request.text_at(small._memory) + _request.PLACE * capacity


def test_outputs_with_many_different_ids():
    """More than the table had entries for when the request began."""
    state = mixture([[1, 2]]).start([])
    assert state._memory[_request.BUCKETS] < 3000
    state.extend(np.arange(100, 3100))
    state.extend([150, 151])
    assert [int(token) for token in text_of(state._memory)[:, 0]] == [START, START, *range(100, 3100), 150, 151]
    memory = state._memory
    assert matches_of(memory) == [(2 + 51, 2)]
    assert memory[_request.entry_of(memory, 3099) + 1] == 2 + 2999
    assert memory[_request.BUCKETS] >= 2 * memory[_request.CAPACITY]


@given(st.lists(requests(), max_size=3), requests(), st.integers(0, 100))
def test_tables_that_hold_next_to_nothing_give_the_same_drafts(others, request, seed):
    rows, similar, variants, prompt, passes = request
    options = {"similar": similar, "variants": variants, "seed": seed}
    fresh, tight, used = mixture(rows, **options), crowded(mixture(rows, **options)), mixture(rows, **options)
    for _, _, _, other, produced in others:  # answers to other questions
        state = used.start(other)
        for ids in produced:
            state.extend(ids)
            state.propose(10)
    states = [one.start(prompt) for one in (fresh, tight, used)]
    for produced in ([], *passes):
        found = []
        for state in states:
            state.extend(produced)
            found.append(drafts_of(state))
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("token", [1, START, START + 5, -1, 2**31 - 1])
def test_very_long_prompts_of_one_id(token):
    """Every place matches: what is walked must stay bounded."""
    rows, prompt = [[1, 1, 1, 2]] * 3, [token] * 20_000
    state, plain = mixture(rows).start(prompt), PlainRequest(rows, prompt)
    for _ in range(50):
        assert np.all(state.propose(10).tokens < START)
        state.extend([token, 1])
        plain.take(token)
        plain.take(1)
    memory = state._memory
    check_text(memory, plain)
    assert matches_of(memory) == plain.matches
    assert 0 < len(plain.matches) < _request.NEWEST  # long matches go on, so no new ones began
    assert memory[_request.CURSOR] == plain.cursor


def test_long_outputs_after_long_prompts():
    """The memory grows several times; the drafts are those of a memory that had room from the start."""
    random = np.random.default_rng(0)
    rows = [random.integers(1, 8, 30).tolist() for _ in range(20)]
    drafter = mixture(rows, seed=1)
    prompt, state, output = random.integers(1, 9, 700), None, []
    state = drafter.start(prompt)
    for size in (1, 300, 7, 900, 1, 2500):
        produced = random.integers(1, 9, size).tolist()
        output += produced
        state.extend(produced)
        roomy = drafter.start(prompt)
        roomy._memory, roomy._room = drafter.begin(prompt.astype(np.int32), room=5000), 5000
        roomy.extend(output)
        assert drafts_of(state, 30) == drafts_of(roomy, 30)


def test_nothing_follows_an_end_token():
    state = mixture([[1, 2]]).start([5, EOS, 6, 7, EOS, 6, 7])
    state.extend([5])
    assert len(drafts_of(state)[0]) > 0
    state.extend([EOS])
    assert drafts_of(state) == ([], [], [])
    state.extend([6])  # a decoder that goes on all the same
    assert len(drafts_of(state)[0]) > 0
