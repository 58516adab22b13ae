"""Candidates, their numbers and the drafts made of them, against direct recursions and sums."""

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plain_request import EOS, OUTPUT, START, UNUSED, USED, PlainRequest, look, mixture
from tasc.draft import _candidates, _features, _fit, _index, _request, _sources
from tasc.draft.interface import SOURCES
from tasc.draft.memory import NOTHING_SEEN
from tasc.draft.mixture import extend_and_propose
from tasc.draft.verify import accepted

TOKENS = st.integers(1, 5)
ROWS = st.lists(st.lists(TOKENS, max_size=10), min_size=1, max_size=8)
MANY_TOKENS = st.integers(1, START - 1)  # more than the followers that are kept of a context
MANY_ROWS = st.lists(st.lists(MANY_TOKENS, max_size=10), min_size=10, max_size=30)
VARIANTS = st.sampled_from([{}, {4: 3}, {1: 2, 5: 2}])
ANY_ID = st.integers(0, 5) | st.sampled_from([-1, -3, START, START + 1, START + 2, 10**6, 2**31 - 1, -(2**31)])
NUMBERS = ("corpus", "votes", "prompt", "output")  # lines of `numbers`


def own_bin(length):
    return sum(length >= edge for edge in (1, 2, 3, 4, 6, 9, 15))


def loop_bin(repeats):
    return 0 if repeats < 4 else 7 + sum(repeats >= edge for edge in (4, 8, 16))


@st.composite
def requests(draw, ids=TOKENS, rows=ROWS):
    """A drafter's rows and options (similar rows, spellings), a prompt, and what was generated."""
    rows = draw(rows)
    chosen = draw(st.lists(st.integers(0, len(rows) - 1), unique=True, max_size=4))
    similar = [(row, draw(st.integers(1, 1000))) for row in chosen]
    options = {"similar": similar, "variants": draw(VARIANTS)}
    prompt = draw(st.lists(ids, max_size=8))
    # mostly what rows begin with, so that long contexts stand in the corpus
    output = draw(st.sampled_from(rows).map(lambda row: row[:4]) | st.lists(ids, max_size=6))
    return rows, options, prompt, output


def both(request, **more):
    """The drafter, its memory after the output, and the plain request."""
    rows, options, prompt, output = request
    drafter, plain = mixture(rows, **options, **more), PlainRequest(rows, prompt, **options)
    state = drafter.start(prompt)
    state.extend(output)
    for token in output:
        plain.take(token)
    return drafter, state, plain


def by_token(seen, line):
    return dict(zip(seen.found[: seen.n].tolist(), seen.numbers[line, : seen.n].tolist(), strict=True))


def levels_of(plain):
    """(occurrences, what follows them) of the contexts that are mixed, the longest first."""
    levels = []
    for order in range(plain.top, 0 if plain.top else -1, -1):
        places = plain.occurrences(order)
        if not levels or len(places) != levels[-1][0]:
            after = [plain.corpus[place + order] for place in places if place + order < len(plain.corpus)]
            levels.append((len(places), Counter(after)))
    return levels[: _sources.LEVELS]


def witten_bell(levels, token):
    """Interpolated with what the shorter contexts say; unknown tokens share FLOOR each."""
    if not levels:
        return _sources.FLOOR
    (size, after), shorter = levels[0], levels[1:]
    return (after[token] + len(after) * witten_bell(shorter, token)) / (size + len(after))


def next_in_prompt(plain):
    """The place that the cursor points at, or None."""
    place = plain.cursor + 1 if plain.cursor >= 0 else plain.prompt_at
    return plain.text[place] if place < plain.prompt_end else None


@settings(max_examples=300)
@given(requests())
def test_probabilities_in_the_corpus_are_witten_bell(request):
    drafter, state, plain = both(request)
    levels = levels_of(plain)
    assume(all(len(after) <= _index.KEPT and size <= _index.SAMPLES for size, after in levels))  # all are listed
    found = by_token(look(drafter, state._memory), 0)
    assert found == pytest.approx({token: witten_bell(levels, token) for token in found}, rel=1e-12)


@given(requests(MANY_TOKENS, MANY_ROWS))
def test_followers_that_are_not_listed_count_too_little_never_too_much(request):
    drafter, state, plain = both(request)
    levels = levels_of(plain)
    assume(all(size <= _index.SAMPLES for size, _ in levels))
    for token, p in by_token(look(drafter, state._memory), 0).items():
        assert p <= witten_bell(levels, token) * (1 + 1e-12)


@given(requests())
def test_candidates_come_from_the_cursor_the_text_and_the_corpus(request):
    drafter, state, plain = both(request)
    seen = look(drafter, state._memory)
    expected = {token for _, after in levels_of(plain) for token in after}
    if at_cursor := next_in_prompt(plain):
        expected |= {at_cursor.token, at_cursor.variant}
    longest = longest_similar(plain)
    for place, length in plain.matches:
        if place + 1 < len(plain.text) and (plain.text[place + 1].kind < 0 or length >= longest - 1):
            expected.add(plain.text[place + 1].token)
    assert sorted(seen.found[: seen.n].tolist()) == sorted(token for token in expected if token < START)


def longest_similar(plain):
    """Length of the longest match in the outputs of similar rows."""
    followed = [(place, length) for place, length in plain.matches if place + 1 < len(plain.text)]
    return max((length for place, length in followed if plain.text[place + 1].kind > 0), default=0)


@given(requests())
def test_votes_are_the_weights_of_the_rows_with_the_longest_matches(request):
    drafter, state, plain = both(request)
    longest, expected = longest_similar(plain), Counter()
    for place, length in plain.matches:
        if place + 1 < len(plain.text) and plain.text[place + 1].kind > 0 and length >= longest - 1:
            expected[plain.text[place + 1].token] += plain.text[place + 1].kind * (
                _sources.FAVOUR if length == longest else 1
            )
    found = by_token(look(drafter, state._memory), 1)
    assert found == {token: expected[token] for token in found}


@given(requests())
def test_lengths_of_the_matches_in_prompt_and_output(request):
    drafter, state, plain = both(request)
    expected, repeats = {"prompt": Counter(), "output": Counter()}, Counter()
    for place, length in sorted(plain.matches, reverse=True):  # of matches as long the newest counts
        if place + 1 < len(plain.text) and plain.text[place + 1].kind < 0:
            token, where = plain.text[place + 1].token, "prompt" if place < plain.prompt_end else "output"
            if length > expected[where][token]:
                expected[where][token] = length
                if where == "output":
                    repeats[token] = length // (len(plain.text) - 1 - place)
    seen = look(drafter, state._memory)
    for name, lengths in expected.items():
        found = by_token(seen, NUMBERS.index(name))
        assert found == {token: lengths[token] for token in found}
    found = by_token(seen, _sources.REPEATS)
    assert found == {token: repeats[token] for token in found}
    assert seen.features[: seen.n, 3].tolist() == [
        11 * own_bin(expected["prompt"][token]) + (loop_bin(repeats[token]) or own_bin(expected["output"][token]))
        for token in seen.found[: seen.n].tolist()
    ]


@pytest.mark.parametrize("period", [1, 2, 3])
def test_an_output_that_repeats_itself_is_known_for_a_loop(period):
    loop, drafter = [4, 5, 6][:period], mixture([[7, 8]])
    for times in range(3, 20):
        state = drafter.start([9])
        state.extend(loop * times)
        seen = look(drafter, state._memory)
        expected = loop_bin(times - 1) or own_bin(period * (times - 1))
        assert seen.features[seen.found.tolist().index(4), 3] == expected
        # behind a drafted loop what matches lies two loops back
        frame = state._memory[: _request.FRAME].copy()
        for token in loop:
            _request.advance(*drafter.lookup(), NOTHING_SEEN, state._memory, frame, token)
        ahead = look(drafter, state._memory, frame)
        expected = loop_bin((times - 1) // 2) or own_bin(period * (times - 1))
        assert ahead.features[ahead.found.tolist().index(4), 3] == expected


@given(requests())
def test_whether_the_prompt_holds_it_and_was_it_copied(request):
    drafter, state, plain = both(request)
    seen = look(drafter, state._memory)
    for token, flag in zip(seen.found[: seen.n].tolist(), seen.features[: seen.n, 1] // _features.P_BINS, strict=True):
        variant = plain.variant(token)
        kinds = [place.kind for place in plain.text[plain.prompt_at :] if place.variant == variant]
        assert flag == (2 if UNUSED in kinds else 1 if USED in kinds else 0)
        assert set(kinds) <= {UNUSED, USED, OUTPUT}


@given(requests())
def test_what_stands_at_the_cursor_is_marked(request):
    """As it is spelled usually, or else as it stands there; with how far the cursor was left behind and its run."""
    drafter, state, plain = both(request)
    seen, at_cursor = look(drafter, state._memory), next_in_prompt(plain)
    where = 4 * min(plain.since, 3) + min(plain.run, 3)
    for k, token in enumerate(seen.found[: seen.n].tolist()):
        if at_cursor is not None and token == at_cursor.variant:
            expected = 1 + where
        elif at_cursor is not None and token == at_cursor.token:
            expected = 17 + where
        else:
            expected = 0
        assert seen.features[k, 2] == expected
        assert (seen.features[k, 5] > 0) == (expected > 0)
        assert seen.features[k, 9] % 3 == (0 if expected == 0 else 1 if expected < 17 else 2)


@given(requests())
def test_tokens_that_differ_are_told_apart_with_where_they_stand(request):
    """Candidates by themselves and whether the prompt holds them; what stands at the cursor by the token before."""
    drafter, state, plain = both(request)
    seen = look(drafter, state._memory)
    for k, token in enumerate(seen.found[: seen.n].tolist()):
        held = seen.features[k, 1] // _features.P_BINS
        assert seen.features[k, 8] == 3 * _features.hashed(token, _features.TOKENS) + held
        assert seen.features[k, 9] // 3 == _features.hashed(plain.history[-1], _features.LAST_TOKENS)


@given(requests())
def test_matches_in_the_output_are_weighed_by_the_corpus(request):
    drafter, state, _ = both(request)
    seen = look(drafter, state._memory)
    context = seen.features[_sources.MOST, 0]
    lengths = seen.numbers[_sources.IN_OUTPUT, : seen.n].tolist()
    for (p_and_context, _, _, _, *others), length in zip(seen.features[: seen.n].tolist(), lengths, strict=True):
        p, in_output = p_and_context // _features.CONTEXTS, own_bin(length)
        assert others[3] == (in_output * _features.P_BINS + p) * _features.LENGTH_BINS + context // _features.SIZE_BINS


@settings(max_examples=300)
@given(requests(ANY_ID), st.integers(0, 100))
def test_features_stay_in_their_tables_whatever_comes(request, seed):
    drafter, state, _ = both(request, seed=seed)
    memory = state._memory
    frame = memory[: _request.FRAME].copy()
    for token in (None, *request[3]):
        if token is not None:
            _request.advance(*drafter.lookup(), NOTHING_SEEN, memory, frame, token)
        seen = look(drafter, memory, frame)
        assert 0 <= seen.n <= _sources.MOST
        features = seen.features[: seen.n]
        assert np.all(features >= 0)
        assert np.all(features < np.array(_features.SIZES[:-1]))
        assert 0 <= seen.features[_sources.MOST, 0] < _features.SIZES[-1]
        found = seen.found[: seen.n].tolist()
        assert len(set(found)) == seen.n
        assert all(0 <= token < START for token in found)
        assert np.all((seen.numbers[0, : seen.n] >= 0) & (seen.numbers[0, : seen.n] <= 1))


def test_tables_of_features_lie_one_behind_the_other():
    ends = [start + size for start, size in zip(_features.STARTS, _features.SIZES, strict=False)]
    assert [0, *ends] == [*_features.STARTS, _features.NONE_AT]
    assert _features.NONE_AT + _features.SIZES[-1] == len(mixture([[1]]).weights)


@given(st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([10, 12, _features.P_BINS]))
def test_bins_of_probabilities(p, bins):
    """The last for 1, one less for each half octave below it, the first for 0."""
    found = _features.p_bin(p, bins)
    if p <= 0:
        assert found == 0
    elif p >= 1:
        assert found == bins - 1
    else:
        exact = bins - 1 + 2 * np.log2(p)
        assert found in {int(np.clip(np.floor(exact + shift), 1, bins - 2)) for shift in (-1e-9, 1e-9)}


@given(requests(), st.integers(0, 1000))
def test_chances_are_a_softmax_with_none_of_them(request, seed):
    drafter, state, _ = both(request, seed=seed)
    seen = look(drafter, state._memory)
    assume(seen.n > 0)
    weights = drafter.weights.astype(np.float64)
    totals = [
        sum(weights[start + k] for start, k in zip(_features.STARTS, line, strict=True))
        for line in seen.features[: seen.n]
    ]
    totals.append(weights[_features.NONE_AT + seen.features[_sources.MOST, 0]])
    expected = np.exp(np.array(totals) - np.max(totals))
    scores = np.empty(_sources.MOST + 1)
    best, chance = _features.score(drafter.weights, seen.features, seen.n, scores)
    np.testing.assert_allclose(scores[: seen.n + 1], expected / expected.sum(), rtol=1e-9)
    assert scores[: seen.n + 1].sum() == pytest.approx(1)
    assert best == np.argmax(totals[:-1])
    assert chance == scores[best]


@settings(max_examples=300)
@given(requests(ANY_ID), st.integers(0, 1000), st.integers(0, 30), st.floats(0, 1))
def test_drafts_are_chains_of_real_tokens_that_end_where_they_should(request, seed, max_tokens, least):
    _, state, _ = both(request, seed=seed)
    draft = state.propose(max_tokens)
    assert len(draft.tokens) == len(draft.sources) == len(draft.probabilities) <= max_tokens
    assert (draft.tokens.dtype, draft.sources.dtype, draft.probabilities.dtype) == (np.int32, np.uint8, np.float32)
    assert np.all((draft.tokens >= 0) & (draft.tokens < START))
    assert EOS not in draft.tokens[:-1]
    assert np.all((draft.probabilities > 0) & (draft.probabilities <= 1))
    assert np.all(draft.sources < len(SOURCES))
    reached = np.cumprod(draft.probabilities.astype(np.float64))
    assume(np.all(np.abs(reached - least) > 1e-5))
    likely = state.propose(max_tokens, min_probability=least)
    assert likely.tokens.tolist() == draft.tokens[: int((reached >= least).sum())].tolist()


@given(requests(), st.integers(0, 1000), st.integers(0, 12))
def test_a_shorter_draft_is_the_beginning_of_a_longer_one(request, seed, max_tokens):
    _, state, _ = both(request, seed=seed)
    short, long = state.propose(max_tokens), state.propose(20)
    assert short.parents is long.parents is None
    for one, other in zip(short[:3], long[:3], strict=True):
        np.testing.assert_array_equal(one, other[:max_tokens])


def grown(drafter, memory, wanted, deepest, least):
    """The likeliest tokens, each branch followed from the beginning on a copy of the memory."""
    tree, reached, open_, every = [], {(): 1.0}, {}, []

    def look_behind(path):
        own = memory.copy()
        for token in path:
            _request.advance(*drafter.lookup(), NOTHING_SEEN, own, own[: _request.FRAME], token)
        seen, scores = look(drafter, own), np.empty(_sources.MOST + 1)
        if seen.n:
            _features.score(drafter.weights, seen.features, seen.n, scores)
        for k in range(seen.n):
            chance = reached[path] * scores[k]
            every.append(chance)
            if chance >= least:
                source = _features.source_of(seen.features, seen.numbers, k)
                open_[(*path, int(seen.found[k]))] = chance, source

    look_behind(())
    while open_ and len(tree) < wanted:
        path = max(open_, key=lambda path: open_[path][0])
        reached[path], source = open_.pop(path)
        tree.append((path, source))
        if path[-1] != EOS and len(path) < deepest:
            look_behind(path)
    return tree, [reached[path] for path, _ in tree], every


@settings(max_examples=300)
@given(requests(ANY_ID), st.integers(0, 1000), st.integers(0, 14), st.integers(1, 6), st.sampled_from([0.0, 0.05, 0.3]))
def test_a_tree_holds_the_likeliest_tokens(request, seed, wanted, deepest, least):
    drafter, state, plain = both(request, seed=seed)
    before = state._memory.copy()
    draft = state.propose_tree(wanted, deepest, min_probability=least)
    np.testing.assert_array_equal(state._memory, before)
    paths = []
    for token, parent in zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True):
        assert -1 <= parent < len(paths)
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    if plain.text[-1].token == EOS:
        assert not paths
        return
    tree, chances, every = grown(drafter, before, wanted, deepest, least)
    np.testing.assert_allclose(np.cumprod(draft.probabilities.astype(np.float64)), chances, rtol=1e-5)
    assert all(0 < p <= 1 for p in draft.probabilities)
    # which of several tokens that are just as likely comes first is left open
    assume(all(abs(a - b) > 1e-9 * a for a, b in pairwise(sorted(every, reverse=True))))
    assert paths == [path for path, _ in tree]
    assert draft.sources.tolist() == [source for _, source in tree]
    assert (draft.tokens.dtype, draft.parents.dtype, draft.sources.dtype) == (np.int32, np.int32, np.uint8)


@given(requests(), st.integers(0, 1000), st.integers(1, 12))
def test_the_likeliest_branch_of_a_tree_is_the_chain_as_far_as_it_goes(request, seed, wanted):
    _, state, _ = both(request, seed=seed)
    tree, chain = state.propose_tree(wanted, wanted), state.propose(wanted)
    planned = tree.planned(wanted)
    first = [planned.tokens[place] for place in accepted(planned, chain.tokens.tolist())]
    assert first[:1] == chain.tokens[:1].tolist()
    assert len(tree.tokens) >= len(first)
    # as many tokens of a tree bring no less than those of the chain, by the drafter's own chances
    n = min(len(tree.tokens), len(chain.tokens))
    brings = [np.cumprod(draft.probabilities[:n].astype(np.float64)).sum() for draft in (tree, chain)]
    assert len(tree.tokens) >= len(chain.tokens)
    assert brings[0] >= brings[1] - 1e-5


@given(st.lists(st.sampled_from([-1, 0, 1, 2, 127, 128, 129, 256, 257, 600, 2**31 - 1]) | st.integers(0, 600)))
def test_each_token_is_a_candidate_once_even_where_slots_are_shared(tokens):
    found, slots = np.full(_sources.MOST, -1, np.int32), np.zeros(_sources.SLOTS, np.uint8)
    expected, n = [], 0
    for token in tokens:
        at, n = _sources.add(found, slots, n, token, 600)
        allowed = 0 <= token < 600
        if allowed and token not in expected and len(expected) < _sources.MOST:
            expected.append(token)
        assert at == (expected.index(token) if token in expected else -1)
        assert found[:n].tolist() == expected
    for token in set(tokens) - {-1}:
        assert _sources.find(found, slots, token) == (expected.index(token) if token in expected else -1)


@given(requests(), st.integers(0, 1000), st.booleans())
def test_learning_sees_what_drafting_drafts(request, seed, ended):
    """`observe` and `rank` over a whole output name the token and chance of `propose(1)` before each of its tokens."""
    rows, options, prompt, output = request
    drafter = mixture(rows, **options, seed=seed)
    output = np.array(output + [EOS] * ended, np.int32)
    n = len(output)
    n_found, gold, best, chances = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n)
    features = np.zeros((n, _sources.MOST + 1, _features.FEATURES), np.int32)
    memory = drafter.begin(np.array(prompt, np.int32), room=n)
    _candidates.observe(*drafter.lookup(), NOTHING_SEEN, memory, START, output, n_found, gold, features)
    _fit.rank(n_found, features, drafter.weights, best, chances)
    state = drafter.start(prompt)
    for t, token in enumerate(output.tolist()):
        seen, draft = look(drafter, state._memory), state.propose(1)
        found = seen.found[: seen.n].tolist()
        assert n_found[t] == seen.n
        assert gold[t] == (found.index(token) if token in found else seen.n)
        assert draft.tokens.tolist() == ([found[best[t]]] if found else [])
        if found:
            assert draft.probabilities[0] == np.float32(chances[t])
            assert (best[t] == gold[t]) == (draft.tokens[0] == token)
        state.extend([token])


@pytest.mark.parametrize("threads", [1, 3])
@given(
    requests(),
    st.lists(st.tuples(st.lists(ANY_ID, max_size=6), st.integers(1, 12), st.integers(0, 3)), min_size=1),
    st.data(),
)
def test_many_requests_in_one_call_get_what_each_gets_alone(threads, request, several, data):
    """Whatever is new to each, wherever it stands, also where a memory has to grow first, and in several threads."""
    rows, options, prompt, _ = request
    drafter = mixture(rows, **options, seed=1)
    alone, together = ([drafter.start(prompt) for _ in several] for _ in range(2))
    for state, (_, _, room) in zip(together, several, strict=True):
        state._room = room
    text, slots = np.full((len(several), 9), 77, np.int32), data.draw(st.permutations(range(len(several))))
    begins = [data.draw(st.integers(0, 3)) for _ in several]
    ends = [begin + len(new) for begin, (new, _, _) in zip(begins, several, strict=True)]
    for slot, begin, end, (new, _, _) in zip(slots, begins, ends, several, strict=True):
        text[slot, begin:end] = new
    for least in (0.0, 0.3):
        with mock.patch.multiple("tasc.draft.mixture", THREADS=threads, ROWS_PER_THREAD=1):
            tokens, sources, chances, made = extend_and_propose(
                together,
                text,
                *np.array([slots, begins, ends, [most for _, most, _ in several]]),
                min_probability=least,
            )
        for k, (new, most, _) in enumerate(several):
            alone[k].extend(new)
            draft, n = alone[k].propose(most, min_probability=least), int(made[k])
            for found, expected in zip((tokens, sources, chances), draft[:3], strict=True):
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found[k, :n], expected)


def test_rows_of_a_thread_that_finds_no_core_are_drafted_for_by_the_caller():
    drafter = mixture([[1, 2, 3], [1, 2, 4], [5, 6]])
    alone, together = ([drafter.start([7]) for _ in range(4)] for _ in range(2))
    text = np.array([[1], [5], [1], [2]], np.int32)
    asked = np.array([[0, 1, 2, 3], [0] * 4, [1] * 4, [5] * 4])
    busy, free = ThreadPoolExecutor(1), Event()
    other_work = busy.submit(free.wait, 20)
    try:
        with mock.patch.multiple("tasc.draft.mixture", THREADS=2, ROWS_PER_THREAD=1, _threads=lambda _: busy):
            tokens, _, _, made = extend_and_propose(together, text, *asked)
        assert not other_work.done()
    finally:
        free.set()
        busy.shutdown()
    for k, state in enumerate(alone):
        state.extend(text[k])
        assert tokens[k, : made[k]].tolist() == state.propose(5).tokens.tolist() != []


def test_a_worked_example_of_back_off():
    """After 9 1 comes 2 (twice) and 3; all else has FLOOR in 1's four followers, of which one is 1 0.

    The rows 1 2, 1 2, 1 3 and 4 1: 9 1 stands 3 times with 2 kinds of followers, 1 stands 4 times with 3 kinds.
    """
    drafter = mixture([[1, 2], [1, 2], [1, 3], [4, 1]])
    state = drafter.start([])
    state.extend([1])
    floor = _sources.FLOOR
    shorter = {2: (2 + 3 * floor) / 7, 3: (1 + 3 * floor) / 7, EOS: (1 + 3 * floor) / 7}
    expected = {2: (2 + 2 * shorter[2]) / 5, 3: (1 + 2 * shorter[3]) / 5, EOS: 2 * shorter[EOS] / 5}
    assert by_token(look(drafter, state._memory), 0) == pytest.approx(expected, rel=1e-12)
    assert state.propose(3).tokens.tolist() == [2, EOS]


def test_what_stands_at_the_cursor_is_counted_even_if_it_follows_rarely():
    """It is looked up where more followers than are kept are more frequent; another token of the prompt is not."""
    rows = [[1, 10 + k] for k in range(_index.KEPT)] * 3 + [[1, 98], [1, 99]]
    drafter = mixture(rows, start_id=1000)
    state = drafter.start([99, 98])
    state.extend([1])
    found, kinds = by_token(look(drafter, state._memory), 0), _index.KEPT + 2
    assert found[99] == pytest.approx((1 + kinds * _sources.FLOOR) / (len(rows) + kinds), rel=1e-12)
    assert found[10] == pytest.approx((3 + kinds * _sources.FLOOR) / (len(rows) + kinds), rel=1e-12)
    assert 98 not in found


def test_a_worked_example_of_votes():
    """After 1 2: row 0 goes on with 3 and matches longest; row 1 (5 1 2 4) is one token behind, row 2 two."""
    drafter = mixture([[1, 2, 3], [5, 1, 2, 4], [6, 2, 8]], similar=[(2, 100), (1, 10), (0, 1)])
    state = drafter.start([7])
    state.extend([1, 2])
    found = by_token(look(drafter, state._memory), 1)
    assert {token: votes for token, votes in found.items() if votes} == {3: _sources.FAVOUR, 4: 10.0}


def test_an_empty_corpus_drafts_from_the_prompt():
    """`min_rows` may leave nothing of the outputs."""
    drafter = mixture([])
    assert drafter.start([]).propose(5).tokens.tolist() == []
    state = drafter.start([3, 4, 5])
    state.extend([3])
    assert state.propose(2).tokens.tolist() == [4, 5]


def test_more_candidates_than_there_is_room_for():
    """Similar rows first, then the prompt; the corpus keeps the places that are left."""
    rows = [[1, 2 + k % 7] for k in range(70)]
    prompt = [token for k in range(2, 9) for token in (1, k)]
    drafter = mixture(rows, similar=[(k, 1) for k in range(7)])
    state = drafter.start(prompt)
    state.extend([1])
    seen = look(drafter, state._memory)
    assert set(range(2, 9)) <= set(seen.found[: seen.n].tolist())
    assert seen.n <= _sources.MOST


def test_hostile_order_and_weights_draft_tokens_all_the_same():
    """A file whose suffixes are in no order, and weights of any size."""
    random = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        for _ in range(100):
            one = mixture(
                [[1, 2]], weights=random.normal(0, random.choice([1, 1e30]), _features.N_WEIGHTS).astype(np.float32)
            )
            index = dataclasses.replace(
                one.index,
                tokens=random.integers(0, START + 2, size).astype(np.int32),
                suffixes=random.integers(0, size, size).astype(np.int32),
                starts=np.linspace(0, size, len(one.index.starts)).astype(np.int32),
            )
            one = type(one)(index, index.row_starts, None, one.variants, one.weights)
            state = one.start(random.integers(0, 9, 9))
            for _ in range(3):
                draft = state.propose(20)
                assert np.all((draft.tokens >= 0) & (draft.tokens < START))
                assert np.all((draft.probabilities >= 0) & (draft.probabilities <= 1))
                state.extend(random.integers(0, 9, 4))
