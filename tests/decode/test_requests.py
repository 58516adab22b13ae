"""Whose tokens stand in which slot: the kernel against plain Python, and requests through all that a server does."""

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from served import END, Served, Server
from tasc.decode._requests import Request, Requests, follow

WIDTH = 6
IDS = st.integers(0, 2)  # so few that different requests often hold the same
TEXT = st.lists(IDS, min_size=WIDTH, max_size=WIDTH)


def plain_follow(tokens, lengths, n_new, seen, n_seen):
    """The oracle: which slots go on, and what is known of each slot afterwards."""
    follows, known = [], []
    for slot, (length, n) in enumerate(zip(lengths, n_new, strict=True)):
        before = seen[slot][: n_seen[slot]]
        goes_on = n > 0 and before == tokens[slot][: length - n]
        follows.append(goes_on)
        known.append(tokens[slot][:length] if goes_on else before)
    return follows, known


@st.composite
def slots(draw):
    """Tokens, lengths, new ids and what was seen of one slot; often with what was seen in front of the tokens."""
    tokens, seen, length = draw(TEXT), draw(TEXT), draw(st.integers(0, WIDTH))
    n_new = draw(st.integers(0, min(length, 3)))
    n_seen = draw(st.just(length - n_new) | st.integers(0, WIDTH))
    if draw(st.booleans()):
        seen[:n_seen] = tokens[:n_seen]
    return tokens, length, n_new, seen, n_seen


@given(st.lists(slots(), max_size=4))
def test_a_slot_goes_on_if_it_holds_what_it_held_and_then_the_new_ids(batch):
    columns: Any = zip(*batch, strict=True) if batch else [()] * 5
    tokens, lengths, n_new, seen, n_seen = map(list, columns)
    expected, known = plain_follow(tokens, lengths, n_new, seen, n_seen)
    kept = np.array(seen, np.int32).reshape(-1, WIDTH)
    n_kept, follows = np.array(n_seen, np.int64), np.ones(len(batch), np.bool_)
    follow(
        np.array(tokens, np.int32).reshape(-1, WIDTH), np.array(lengths, np.int64), np.array(n_new, np.int64),
        kept, n_kept, follows,
    )  # fmt: skip
    assert follows.tolist() == expected
    assert [row[:n].tolist() for row, n in zip(kept, n_kept, strict=True)] == known


PROMPTS = st.lists(IDS, min_size=1, max_size=4)
PLACES, UNREAD = st.integers(0, 3), st.integers(0, 2)
NEW = st.lists(IDS, min_size=1, max_size=3)
PASS = st.tuples(st.just("step"), st.lists(NEW, min_size=4, max_size=4), st.lists(IDS, max_size=3))
EVENT = st.one_of(
    PASS,
    PASS,
    st.tuples(st.just("come"), PROMPTS, st.integers(-1, 1), UNREAD),
    st.tuples(st.just("abort"), PLACES),
    st.tuples(st.just("set_aside"), PLACES),
    st.tuples(st.just("bring_back"), PLACES, UNREAD),
    st.tuples(st.just("swap"), PLACES, PLACES),
)
EVENTS = st.lists(EVENT, min_size=20, max_size=60)
END_IDS = [END, END]


class Watched:
    """A server with few slots and fewer ids, and `Requests` that watch it: they are checked after every pass.

    Their requests are known by the text of their slots and nothing else, as those of the oracle are.
    """

    def __init__(self, **limits):
        self.limits = limits  # without any, nothing is forgotten here
        self.server = Server(4, 12)
        self.requests = Requests(END_IDS, **limits)
        self.known: dict[Request, tuple[int, list[int]]] = {}  # drafter and text when it last took part
        self.took_part: set[Served] = set()
        self.ended: dict[Request, tuple[int, Served]] = {}  # in the pass before, with the slot
        self.given_away: Counter[tuple[int, ...]] = Counter()  # what requests held that another row was taken for

    @property
    def rows(self):
        return self.server.rows

    def come(self, prompt, drafter, unread):
        if self.server.has_room:
            self.server.come(Served(prompt, drafter, unread))

    def abort(self, place):
        if self.rows:
            self.server.leave(self.rows[place % len(self.rows)])

    def set_aside(self, place):
        if self.rows:
            self.server.set_aside(self.rows[place % len(self.rows)])

    def bring_back(self, place, unread):
        if self.server.aside and self.server.has_room:
            self.server.bring_back(self.server.aside[place % len(self.server.aside)], unread)

    def swap(self, one, other):
        n = len(self.server.slots)
        if n > 1:
            self.server.swap(one % n, other % n)

    def step(self, new, draft):
        server = self.server
        new_ids = server.step(iter(new))
        self.requests.update(new_ids, server.lengths, server.tokens, [row.drafter for row in self.rows])
        self.check_rows()
        self.check_finished()
        self.check_bounds()
        found_rows: list[Any] = self.requests.rows
        seated = [(slot, row, found_rows[slot]) for slot, row in enumerate(self.rows) if row.new]
        self.known |= {found: (row.drafter, self.text(slot)) for slot, row, found in seated}
        self.took_part |= {row for _, row, _ in seated}
        self.ended = {found: (slot, row) for slot, row, found in seated if row.ended and row.drafter >= 0}
        server.take([draft[: max(server.width - int(n) - 1, 0)] for n in server.lengths[: len(self.rows)]])
        server.sweep()

    def text(self, slot, n_less=0):
        return self.server.tokens[slot, : self.server.lengths[slot] - n_less].tolist()

    def check_rows(self):
        """Each row that took part has a request of its own: one that held the same if there is such, else a new one."""
        seated = self.requests.rows
        assert len(seated) == len(self.rows)
        assert len(set(seated) - {None}) == sum(bool(row.new) for row in self.rows)
        for slot, (row, found) in enumerate(zip(self.rows, seated, strict=True)):
            assert (found is not None) == bool(row.new)
            if found is None:
                continue
            before = self.text(slot, len(row.new))
            assert (found.drafter, found.n_new) == (row.drafter, len(row.new))
            assert self.requests.ids(slot).tolist() == self.text(slot)
            # what has ended is nobody's any more, unless its slot just goes on
            alike = {
                one
                for one, known in self.known.items()
                if known == (row.drafter, before) and (one not in self.ended or self.ended[one][0] == slot)
            }
            assert found in alike or (found not in self.known and found.n_prompt == len(before))
            if self.limits:
                continue
            key = (row.drafter, *before)
            if found in alike:
                self.given_away[key] += row not in self.took_part
            else:
                assert alike - self.ended.keys() <= set(seated)
                if row in self.took_part:  # another that held the same has got its request
                    self.given_away[key] -= 1
                    assert self.given_away[key] >= 0

    def check_finished(self):
        seated = set(self.requests.rows)
        expected = [
            (row.prompt, row.output, row.drafter, found)
            for found, (_, row) in self.ended.items()
            if found not in seated
        ]
        for *_, found in expected:
            del self.known[found]
        listed = [(done.prompt.tolist() + done.output.tolist(), done.drafter) for done in self.requests.finished]
        assert sorted(listed) == sorted((prompt + output, drafter) for prompt, output, drafter, _ in expected)
        assert sorted(len(done.prompt) for done in self.requests.finished) == sorted(
            found.n_prompt for *_, found in expected
        )

    def check_bounds(self):
        requests = self.requests
        parked = [key for key, rows in requests._parked.items() for _ in rows]
        assert len(requests) == len(parked) + sum(row is not None for row in requests.rows)
        assert len(parked) <= requests.most_parked
        assert sum(len(text) // 4 for _, text in parked) == requests._parked_tokens <= requests.most_tokens


def watch(events, **limits):
    watched = Watched(**limits)
    for name, *values in events:
        getattr(watched, name)(*values)


@settings(max_examples=100)
@given(EVENTS)
def test_requests_are_found_again_wherever_they_stand(events):
    watch(events)


@settings(max_examples=100)
@given(EVENTS)
def test_requests_out_of_the_batch_are_bounded(events):
    watch(events, most_parked=2, most_tokens=15)


def call(requests, *texts, n_new=1, width=WIDTH):
    """A call in which each slot holds a text, of which the last `n_new` ids are new."""
    tokens = np.full((4, width), -7, np.int32)
    for slot, text in enumerate(texts):
        tokens[slot, : len(text)] = text
    requests.update([text[-n_new:] for text in texts], np.array([len(text) for text in texts]), tokens)
    return requests.rows


def test_the_one_that_left_first_is_forgotten_first():
    requests = Requests([END], most_parked=2)
    call(requests, [1, 1], [2, 1], [3, 1])
    call(requests)
    assert len(requests) == 2
    assert [row.n_prompt for row in call(requests, [1, 1, 5], [2, 1, 5], [3, 1, 5])] == [2, 1, 1]


def test_a_row_that_goes_on_behind_its_end_id_is_not_finished():
    requests = Requests([END])
    [row] = call(requests, [1, END])
    assert call(requests, [1, END, 2]) == [row]
    assert call(requests, [1, END, 2, 3]) == [row]
    call(requests)
    assert requests.finished == []


def test_a_batch_of_another_shape_finds_its_requests_again():
    requests = Requests([END])
    one, other = call(requests, [1, 2], [3, 4])
    assert call(requests, [3, 4, 5], [1, 2, 5], width=WIDTH + 1) == [other, one]


def test_an_end_id_in_the_prompt_ends_nothing():
    requests = Requests([END])
    call(requests, [1, END, 2])
    call(requests)
    assert requests.finished == []
