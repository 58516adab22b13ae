"""The paper's drafter against n-gram tables in plain Python."""

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft.index import Index
from tasc.draft.interface import SOURCES
from tasc.draft.paper import PaperDrafter
from tasc.errors import OptionError

EOS, START = 0, 9
TOKENS = st.integers(1, 4)  # few, so that n-grams repeat
TEXTS = st.lists(TOKENS, max_size=12)
OPTIONS = st.fixed_dictionaries(
    {"n_max": st.integers(1, 6), "p_min": st.integers(1, 6), "lam": st.sampled_from([0.0, 0.3, 0.5, 0.75, 0.9, 1.0])}
)


def corpus(rows):
    return Index.build(TokenCorpus.from_rows(rows), start_id=START, eos_id=EOS)


class Oracle:
    """Tables of counts: context -> next token -> count."""

    def __init__(self, rows, *, n_max=4, p_min=5, lam=0.75):
        self.n_max, self.lam = n_max, lam
        self.counts = tables([[*row, EOS] for row in rows], n_max)
        self.last_resort = self.counts.get((), Counter())
        for context, found in list(self.counts.items()):
            kept = {token: n for token, n in found.items() if n >= p_min}
            self.counts[context] = Counter(kept)

    def shares(self, counts, context, last_resort):
        for size in range(min(self.n_max - 1, len(context)), -1, -1):
            found = counts.get(tuple(context[len(context) - size :]))
            if found and (size or last_resort is not None):
                return {token: n / sum(found.values()) for token, n in found.items()}
        return {token: n / sum(last_resort.values()) for token, n in (last_resort or {}).items()}

    def chain(self, prompt, output, max_tokens):
        draft = []
        in_prompt = tables([prompt + output], self.n_max)
        while len(draft) < max_tokens and (output + draft)[-1:] != [EOS]:
            halves = [
                self.shares(self.counts, output + draft, self.last_resort) if self.lam > 0 else {},
                self.shares(in_prompt, prompt + output + draft, None) if self.lam < 1 else {},
            ]
            weights = [self.lam, 1.0 - self.lam] if all(halves) else [float(bool(half)) for half in halves]
            parts = {
                x: [w * half.get(x, 0) for w, half in zip(weights, halves, strict=True)]
                for x in {*halves[0], *halves[1]}
            }
            if not parts:
                break
            token = max(parts, key=lambda x: (sum(parts[x]), -x))
            draft.append(token)
            yield token, "prompt" if parts[token][1] > parts[token][0] else "corpus", sum(parts[token])


def tables(texts, n_max):
    counts = defaultdict(Counter)
    for text in texts:
        for place, token in enumerate(text):
            for size in range(min(n_max - 1, place) + 1):
                counts[tuple(text[place - size : place])][token] += 1
    return counts


def check(draft, expected):
    assert draft.tokens.tolist() == [token for token, _, _ in expected]
    assert [SOURCES[code] for code in draft.sources] == [source for _, source, _ in expected]
    np.testing.assert_array_equal(draft.probabilities, np.array([value for *_, value in expected], np.float32))
    assert (draft.tokens.dtype, draft.sources.dtype) == (np.int32, np.uint8)


@settings(max_examples=500)
@given(st.lists(TEXTS, max_size=12), OPTIONS, TEXTS, st.lists(TEXTS, max_size=4), st.integers(0, 12))
def test_drafts_equal_those_of_plain_tables(rows, options, prompt, passes, max_tokens):
    oracle, state = Oracle(rows, **options), PaperDrafter(corpus(rows), **options).start(prompt)
    output = []
    for produced in ([], *passes):
        state.extend(produced)
        output += produced
        for _ in range(2):  # a draft changes nothing
            check(state.propose(max_tokens), list(oracle.chain(prompt, output, max_tokens)))


@settings(max_examples=200)
@given(st.lists(TEXTS, min_size=1, max_size=12), st.lists(st.tuples(TEXTS, TEXTS), max_size=8), OPTIONS)
def test_requests_share_a_drafter_without_touching_each_other(rows, requests, options):
    shared = PaperDrafter(corpus(rows), **options)
    states = [shared.start(prompt) for prompt, _ in requests]
    for state, (_, output) in zip(states, requests, strict=True):
        state.extend(output)
    for state, (prompt, output) in zip(states, requests, strict=True):
        check(state.propose(10), list(Oracle(rows, **options).chain(prompt, output, 10)))


def test_crowded_memo_gives_the_same_drafts(monkeypatch):
    """With four lines every context drives another out."""
    monkeypatch.setattr("tasc.draft.paper._MEMO_LINES", 4)
    random = np.random.default_rng(0)
    rows = [random.integers(1, 9, 20).tolist() for _ in range(60)]
    drafter, oracle = PaperDrafter(corpus(rows), p_min=2), Oracle(rows, p_min=2)
    for _ in range(50):
        prompt, output = random.integers(1, 9, 5).tolist(), random.integers(1, 9, 6).tolist()
        state = drafter.start(prompt)
        state.extend(output)
        check(state.propose(10), list(oracle.chain(prompt, output, 10)))


def test_long_prompts_and_outputs_grow_the_memory():
    random = np.random.default_rng(0)
    rows = [random.integers(1, 9, 30).tolist() for _ in range(20)]
    prompt, output = random.integers(1, 9, 700).tolist(), []
    state, oracle = PaperDrafter(corpus(rows)).start(np.array(prompt, np.int64)), Oracle(rows)
    for size in (1, 300, 7, 900):
        produced = random.integers(1, 9, size).tolist()
        output += produced
        state.extend(np.array(produced))
        check(state.propose(200), list(oracle.chain(prompt, output, 200)))


def test_ids_that_are_not_the_vocabularys_are_never_drafted():
    state = PaperDrafter(corpus([[5, 6]] * 5), lam=0.1).start([5, START, 5, START, 5, -3, 5, 2**31 - 1])
    state.extend([5])
    assert state.propose(3).tokens.tolist() == [6, EOS]


def test_nothing_known_drafts_nothing():
    assert PaperDrafter(corpus([])).start([1, 2]).propose(5).tokens.tolist() == []
    assert PaperDrafter(corpus([])).start([1, 2, 1]).propose(2).tokens.tolist() == [2, 1]


def test_hostile_suffixes_give_some_draft_and_no_crash():
    random = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        for _ in range(200):
            tokens = random.integers(0, START + 1, size).astype(np.int32)
            suffixes = random.integers(0, size, size).astype(np.int32)
            index = dataclasses.replace(corpus([]), tokens=tokens, suffixes=suffixes)
            draft = PaperDrafter(index, p_min=1).start(random.integers(0, 9, 9)).propose(20).tokens
            assert np.all((draft >= 0) & (draft < START))


@pytest.mark.parametrize("options", [{"n_max": 0}, {"n_max": 17}, {"p_min": 0}, {"lam": -0.1}, {"lam": float("nan")}])
def test_options_out_of_range(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        PaperDrafter(corpus([]), **options)
