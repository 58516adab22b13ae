"""Acceptance on ids alone, against the definition."""

from hypothesis import given
from hypothesis import strategies as st

from tasc.decode.verify import kept, n_accepted, until_end

IDS = st.lists(st.integers(0, 3), max_size=8)


@given(IDS, IDS)
def test_what_is_kept_is_what_the_target_would_have_written(draft, others):
    chosen = (others + [1] * 9)[: len(draft) + 1]
    ids = kept(draft, chosen)
    assert ids == chosen[: len(ids)]
    n = n_accepted(draft, chosen)
    assert len(ids) == n + 1
    assert draft[:n] == chosen[:n]
    assert n == len(draft) or draft[n] != chosen[n]


@given(IDS, st.sets(st.integers(0, 3)), st.integers(0, 9))
def test_an_output_ends_at_its_first_end_id_or_its_limit(ids, end_ids, room):
    n, ended = until_end(ids, end_ids, room)
    assert n <= min(len(ids), room)
    assert not any(token in end_ids for token in ids[: max(n - 1, 0)])
    assert ended == (n > 0 and ids[n - 1] in end_ids)
    assert ended or n == min(len(ids), room)
