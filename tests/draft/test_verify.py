"""Acceptance on ids alone, against the definition."""

from hypothesis import given
from hypothesis import strategies as st

from tasc.draft.verify import Planned, accepted, by_position, kept, until_end

IDS = st.lists(st.integers(0, 3), max_size=8)


@st.composite
def trees(draw) -> Planned:
    """Trees of few tokens, so that they and what is chosen meet often."""
    tokens, parents = [], []
    for _ in range(draw(st.integers(0, 9))):
        parent = draw(st.integers(-1, len(tokens) - 1))
        taken = {token for token, other in zip(tokens, parents, strict=True) if other == parent}
        if left := sorted(set(range(4)) - taken):
            tokens.append(draw(st.sampled_from(left)))
            parents.append(parent)
    return Planned(tokens, parents)


def branches(draft: Planned) -> dict[tuple[int, ...], list[int]]:
    """The tokens from the root to every place -> the places."""
    found = {(): []}
    for place in range(len(draft.tokens)):
        places = draft.path(place)
        found[tuple(draft.tokens[each] for each in places)] = places
    return found


@given(trees(), st.data())
def test_what_is_kept_is_what_the_target_would_have_written(draft, data):
    n = len(draft.tokens) + 1
    chosen = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n + 2))
    ids, known = kept(draft, chosen), branches(draft)
    # each id is the choice behind the branch of those before it, and only the last one was not drafted there
    for n in range(len(ids)):
        place = known[tuple(ids[:n])][-1] if n else -1
        assert ids[n] == chosen[place + 1]
    assert tuple(ids) not in known
    assert accepted(draft, ids) == known[tuple(ids[:-1])]


@given(trees(), IDS)
def test_the_accepted_tokens_are_the_longest_branch_that_the_output_has(draft, ids):
    known = branches(draft)
    longest = max(n for n in range(len(ids) + 1) if tuple(ids[:n]) in known)
    assert accepted(draft, ids) == known[tuple(ids[:longest])]


@given(IDS, IDS)
def test_a_chain_stands_up_to_the_first_other_token(draft, others):
    chosen = (others + [1] * 9)[: len(draft) + 1]
    ids = kept(Planned.chain(draft), chosen)
    n = len(ids) - 1
    assert ids == chosen[: n + 1]
    assert draft[:n] == chosen[:n]
    assert n == len(draft) or draft[n] != chosen[n]
    assert accepted(Planned.chain(draft), chosen) == list(range(n))


@given(trees())
def test_depths_and_branches(draft):
    assert draft.depth == max(map(len, branches(draft)))
    assert draft.branches == (
        draft.depth < len(draft.tokens) or list(draft.parents) != list(range(-1, draft.depth - 1))
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_places_are_counted_by_the_passes_that_got_there(passes):
    depths, n_accepted = [max(pair) for pair in passes], [min(pair) for pair in passes]
    expected = [
        [sum(depth >= place for depth in depths), sum(n >= place for n in n_accepted)]
        for place in range(1, max(depths, default=0) + 1)
    ]
    assert by_position(depths, n_accepted) == expected


@given(IDS, st.sets(st.integers(0, 3)), st.integers(0, 9))
def test_an_output_ends_at_its_first_end_id_or_its_limit(ids, end_ids, room):
    n, ended = until_end(ids, end_ids, room)
    assert n <= min(len(ids), room)
    assert not any(token in end_ids for token in ids[: max(n - 1, 0)])
    assert ended == (n > 0 and ids[n - 1] in end_ids)
    assert ended or n == min(len(ids), room)
