"""Drafts for a batch: those of each request on its own, wherever its row stands, and counts that add up."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import SIZE, build, drafts_of, keyed_rows, many_rows
from drafters import Script
from served import END, Served, Server
from tasc.decode.batch import BatchDrafts
from tasc.draft import Drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.interface import SOURCES
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

MAX_DRAFT, WIDTH = 6, 24
FREE = StepCost.default("cuda")  # a pass costs the same whatever its length, so every draft is verified as a whole


def free(**options) -> Control:
    return Control(FREE, **{"max_draft": MAX_DRAFT, "switch_off": False, "ragged": True} | options)


def batch_of(*drafters, control: Control | None = None, max_length: int = WIDTH, adapt=False, **options) -> BatchDrafts:
    return BatchDrafts(drafters, control or free(), max_length=max_length, adapt=adapt, **options)


@pytest.fixture(scope="module")
def drafter() -> Drafter:
    return build(many_rows(60))


@pytest.fixture(scope="module")
def other() -> Drafter:
    return build([(prompt, output[::-1]) for prompt, output in many_rows(60, seed=1)])


class Traffic:
    """A server under requests that come, end, are aborted, set aside, brought back and moved, at random.

    Args:
        n_drafters: requests get one of them, or nobody's drafts.
        on_pass: called with the new ids and drafts of every pass.
    """

    def __init__(self, drafts: BatchDrafts, seed: int, *, n_drafters: int = 1) -> None:
        self.drafts, self.rng, self.n_drafters = drafts, np.random.default_rng(seed), n_drafters
        self.server = Server(5, WIDTH)
        self.right: dict[Served, list[int]] = {}
        self.pool = many_rows(200, seed=seed)

    def run(self, n_passes: int, on_pass: Callable[["Traffic", list[list[int]]], None]) -> None:
        for _ in range(n_passes):
            self.disturb()
            new_ids = self.server.step(self.brought)
            rows = self.server.rows
            whose = [row.drafter for row in rows]
            got = self.drafts.propose(new_ids, self.server.lengths, self.server.tokens, whose)
            on_pass(self, got)
            self.server.take(got)
            self.server.sweep()

    def brought(self, row: Served) -> list[int]:
        """What the target makes of the row's draft: as much of it as is right, and an id of its own."""
        right = self.right[row][len(row.output) :] + [9] * WIDTH  # the target goes on behind the end
        n = next((k for k, token in enumerate(row.draft) if token != right[k]), len(row.draft))
        return right[: n + 1]

    def disturb(self) -> None:
        rng, server = self.rng, self.server
        while server.has_room and rng.random() < 0.5:
            if server.aside and rng.random() < 0.5:
                server.bring_back(server.aside[0], int(rng.integers(3)))
            else:
                prompt, output = self.pool.pop()
                # the number keeps apart requests that are otherwise the same
                prompt = [len(self.pool) % 12 + 12, len(self.pool) // 12 + 12, *prompt]
                request = Served(prompt, int(rng.integers(-1, self.n_drafters)), int(rng.integers(3)))
                self.right[request] = [*output, END]
                server.come(request)
        for act, chance in ((server.leave, 0.03), (server.set_aside, 0.1)):
            if server.rows and rng.random() < chance:
                act(server.rows[rng.integers(len(server.rows))])
        if len(server.slots) > 1 and rng.random() < 0.2:
            server.swap(*rng.choice(len(server.slots), 2, replace=False).tolist())


def draft_alone(drafters, row: Served, max_length: int = WIDTH):
    """What a state of the request's own would propose, None: nothing."""
    room = min(MAX_DRAFT, max_length - len(row.content) - 1)
    if row.drafter < 0 or not row.new or row.ended or room < 1:
        return None
    state = drafters[row.drafter].start(row.prompt)
    state.extend(row.output)
    return state.propose(room)


SEEDS = st.integers(0, 1 << 32)
SOME = settings(max_examples=15)


@SOME
@given(SEEDS)
def test_drafts_are_those_of_each_request_on_its_own(drafter, other, seed):
    """None of rows whose prompts are being read, none behind an end id, none that the row has no room for."""
    seen = []

    def check(traffic, got):
        alone = [draft_alone((drafter, other), row) for row in traffic.server.rows]
        assert got == [[] if draft is None else draft.tokens.tolist() for draft in alone]
        seen.append(sum(map(len, got)))

    Traffic(batch_of(drafter, other), seed, n_drafters=2).run(60, check)
    assert sum(seen) > 0


@SOME
@given(SEEDS)
def test_counts_are_those_of_the_drafts_that_were_verified(drafter, seed):
    drafts = batch_of(drafter)
    planned: dict[Served, list[int]] = {}
    drafted, accepted, n_passes = [0] * len(SOURCES), [0] * len(SOURCES), 0

    def count(traffic, got):
        nonlocal planned, n_passes
        for row, sources in planned.items():
            if row in traffic.server.rows and row.new:
                for place, source in enumerate(sources):
                    drafted[source] += 1
                    accepted[source] += place < len(row.new) - 1
        alone = {row: draft_alone([drafter], row) for row in traffic.server.rows}
        planned = {row: draft.sources.tolist() for row, draft in alone.items() if draft is not None}
        n_passes += any(row.new for row in traffic.server.rows)
        assert (drafts.stats.drafted, drafts.stats.accepted) == (drafted, accepted)
        assert drafts.stats.passes == [n_passes, 0]

    Traffic(drafts, seed).run(60, count)
    assert sum(drafted) >= sum(accepted) > 0


@SOME
@given(SEEDS)
def test_all_who_are_shown_the_same_calls_draft_the_same(drafter, other, seed):
    """As the processes of one engine must; with a switch, lengths that are decided, and a memory."""

    def made():
        control = Control(StepCost.default("cpu"), max_draft=MAX_DRAFT, ragged=True)
        return batch_of(drafter, other, control=control, memory_tokens=50)

    one, rank = made(), made()

    def check(traffic, got):
        server = traffic.server
        new_ids, whose = [row.new for row in server.rows], [row.drafter for row in server.rows]
        assert rank.propose(new_ids, server.lengths, server.tokens, whose) == got
        assert rank.stats == one.stats

    Traffic(one, seed, n_drafters=2).run(60, check)
    assert sum(one.stats.drafted) > 0
    assert any(len(memory) for memory in one.memories)


def one_row(drafts: BatchDrafts, prompt, *passes) -> list[list[int]]:
    """The drafts after each pass of a server that has one request only, which then leaves."""
    server, got = Server(2, WIDTH), []
    server.come(Served(list(prompt)))
    for new in passes:
        new_ids = server.step(iter([new]))
        got += drafts.propose(new_ids, server.lengths, server.tokens)
    drafts.propose([], server.lengths, server.tokens)
    return got


# a key that the drafter does not know, and values that it knows for other keys
PROMPT, SECRET = [7, 8, 39, 5], [9, 3, 10, 4, 12, 4, 11, END]


@pytest.fixture(scope="module")
def believing() -> Drafter:
    """One that has learnt to believe outputs of similar prompts."""
    return build(keyed_rows())


def test_no_request_sees_another_s_text(believing):
    drafts = batch_of(believing)
    for bonus in ([], [9]):
        one_row(drafts, PROMPT, SECRET[:1], SECRET[1:] + bonus)
        one_row(drafts, PROMPT, SECRET[:3])  # aborted
        got = one_row(drafts, PROMPT, [9, 3])
        assert got == one_row(batch_of(believing), PROMPT, [9, 3])
        assert got[0][:2] != SECRET[2:4]


def test_weights_carry_no_text_from_request_to_request(believing):
    """Ids that stand in no training output are drafted for others with a memory only, however often the model writes them."""
    for memory_tokens, expected in ((0, False), (1000, True)):
        drafts = batch_of(believing, adapt=True, memory_tokens=memory_tokens)
        for k in range(20):
            one_row(drafts, [7, 8, 20 + k % 10, 5], [9], [3, 33, 34, 33, 34, END])
        drafted = [token for start in ([9, 3], [9, 3, 10]) for token in one_row(drafts, PROMPT, start)[0]]
        assert bool({33, 34} & set(drafted)) is expected


LOOP = [9, 11] * 5


@pytest.mark.parametrize("ends", [[END], []], ids=["finished", "at its limit"])
def test_a_model_that_repeats_itself_is_believed_after_some_requests(believing, ends):
    """Its weights were learnt from outputs without loops; the drafter itself stays as it is."""
    before, first = drafts_of(believing, keyed_rows()[:5]), one_row(batch_of(believing, adapt=True), PROMPT, LOOP[:6])
    drafts = batch_of(believing, adapt=True)
    for k in range(20):
        one_row(drafts, [7, 8, 20 + k], LOOP[:1], LOOP[1:] + ends)
    after = one_row(drafts, PROMPT, LOOP[:6])
    assert first != after == [[9, 11] * 3]
    assert drafts_of(believing, keyed_rows()[:5]) == before
    assert one_row(batch_of(believing, adapt=True), PROMPT, LOOP[:6]) == first


def test_what_moves_or_comes_back_at_once_does_not_teach(believing):
    drafts, server = batch_of(believing, adapt=True), Server(3, WIDTH)
    at_work: Any = drafts.drafters[0]
    requests = [Served([7, 8, 20 + k]) for k in range(2)]
    for request in requests:
        server.come(request)
    drafts.propose(server.step(lambda _: [9]), server.lengths, server.tokens)
    server.swap(0, 1)
    drafts.propose(server.step(lambda _: [11]), server.lengths, server.tokens)
    assert at_work.requests == 0
    server.leave(requests[0])
    drafts.propose(server.step(lambda _: [11]), server.lengths, server.tokens)
    assert at_work.requests == 1


@pytest.mark.parametrize("bonus", [[], [9]])
def test_with_a_memory_finished_outputs_are_drafted(believing, bonus):
    """Also those whose end id was drafted: the target's next id stands behind it."""
    drafts = batch_of(believing, memory_tokens=100)
    one_row(drafts, PROMPT, SECRET[:1], SECRET[1:] + bonus)
    assert drafts.memories[0].rows() == [(PROMPT, SECRET)]
    assert one_row(drafts, PROMPT, [9, 3])[0][:2] == SECRET[2:4]


def test_what_did_not_end_is_remembered_as_far_as_it_went(believing):
    drafts = batch_of(believing, memory_tokens=100)
    one_row(drafts, PROMPT, SECRET[:1], SECRET[1:-1])
    assert drafts.memories[0].rows() == [(PROMPT, SECRET[:-1])]


def test_a_request_that_comes_back_is_taught_once(believing):
    drafts, server = batch_of(believing, memory_tokens=100, adapt=True), Server(2, WIDTH)
    row = Served(PROMPT)
    server.come(row)
    drafts.propose(server.step(iter([SECRET[:2]])), server.lengths, server.tokens)
    server.set_aside(row)
    drafts.propose([], server.lengths, server.tokens)
    server.bring_back(row, 0)
    drafts.propose(server.step(iter([SECRET[2:]])), server.lengths, server.tokens)
    server.leave(row)
    drafts.propose([], server.lengths, server.tokens)
    assert drafts.memories[0].rows() == [(PROMPT, SECRET[:2])]
    [at_work] = drafts.drafters
    assert at_work.requests == 1  # type: ignore[union-attr]


def test_memories_of_two_drafters_are_kept_apart(believing):
    drafts, server = batch_of(believing, believing, memory_tokens=100), Server(2, WIDTH)
    server.come(Served(PROMPT, drafter=1))
    drafts.propose(server.step(iter([SECRET])), server.lengths, server.tokens, [1])
    drafts.propose([], server.lengths, server.tokens, [])
    assert [len(memory) for memory in drafts.memories] == [0, 1]


class Shown(Script):
    """Drafts the ids from 1 on, whatever the prompt; remembers the prompts."""

    eos_id = END

    def __init__(self, script=range(1, 20), **options):
        super().__init__(lambda _: list(script), vocab_size=SIZE, **options)

    def start(self, prompt_ids, *, memory=None):
        return super().start(prompt_ids)


def test_prompts_are_shown_as_the_model_would_write_them():
    vocabulary = EnrichedVocabulary(30, (Ngram((7, 8), (7, 8)), Ngram((7, 8, 9), (30, 9))))
    drafter = Shown()
    drafts = batch_of(drafter, vocabulary=vocabulary, memory_tokens=10)
    one_row(drafts, [5, 7, 8, 9, 30, 9, 7, 8], [31, 30], [7, 8, END])
    assert drafter.prompts == [(5, 31, 31, 30)]
    assert drafter.states[0].seen == [31, 30], "outputs are shown as they are, and nothing is asked behind the end"
    assert drafts.memories[0].rows() == [([5, 31, 31, 30], [31, 30, 7, 8, END])]


@pytest.mark.parametrize("n_left", [0, 1, 2, 3, 6, 7, 20])
def test_drafts_leave_room_for_the_target_s_own_id(n_left):
    drafts = batch_of(Shown(), max_length=len(PROMPT) + 1 + n_left)
    assert len(one_row(drafts, PROMPT, [1])[0]) == min(max(n_left - 1, 0), MAX_DRAFT)


def test_prompts_that_are_being_read_cost_nothing():
    drafter = Shown()
    drafts, server = batch_of(drafter), Server(2, WIDTH)
    server.come(Served(PROMPT, unread=2))
    for expected in ([], [], [2, 3, 4, 5, 6, 7]):
        assert drafts.propose(server.step(iter([[1]])), server.lengths, server.tokens) == [expected]
    assert drafts.stats.passes == [1, 0]
    assert len(drafter.states) == 1


def test_while_drafting_pauses_no_drafter_is_asked_and_afterwards_none_has_missed_anything():
    wrong = Shown(script=[3] * 99, probability=0.9)
    control = Control(StepCost.default("cpu"), max_draft=MAX_DRAFT, ragged=True)
    drafts, server, drafted = batch_of(wrong, control=control, max_length=99), Server(1, 99), []
    server.come(Served(PROMPT))
    for new in range(4, 64):
        got = drafts.propose(server.step(iter([[new]])), server.lengths, server.tokens)
        drafted.append(bool(got[0]))
        server.take(got)
    assert drafts.stats.passes == [sum(drafted), 60 - sum(drafted)]
    assert 32 <= drafts.stats.passes[1] < 60
    assert len(wrong.states[0].asked) == sum(drafted)
    assert wrong.states[0].seen == list(range(4, 4 + len(drafted) - drafted[::-1].index(True)))
