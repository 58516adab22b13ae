"""Large parts of the suffix array, which are sampled, and the two tables of answers. (The rest: test_index.py)"""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft import _index as kernels
from tasc.draft.index import Index

EOS, START = 0, 5000
# how often each follower comes after the same token: many rare ones and some frequent ones make a part that is sampled
COUNTS = st.lists(st.sampled_from([1, 1, 1, 2, 3, 7, 20, kernels.SAMPLES]), min_size=1, max_size=300)


def followers_of_one(counts, *, last=()):
    """A text in which token 1 is followed by token 10 + k counts[k] times, and the part of its suffixes."""
    rows = [[1, 10 + k] for k, count in enumerate(counts) for _ in range(count)]
    index = Index.build(TokenCorpus.from_rows(rows), start_id=START, eos_id=EOS)
    if last:
        index = Index.from_text(np.append(index.tokens, np.array(last, np.int32)), start_id=START, eos_id=EOS)
    return index, *kernels.first_part(index.ids, index.starts, 1)


def listed(index, low, high, depth):
    """(distinct, {token: (count, low)} in order) of a part, from a memo of one line."""
    memo = np.full((1, kernels.LINE), 77, np.int32)
    kernels.list_followers(index.tokens, index.suffixes, 0, memo, 0, low, high, depth)
    n = memo[0, kernels.N_KEPT]
    columns = (memo[0, at : at + n].tolist() for at in (kernels.TOKENS, kernels.COUNTS, kernels.LOWS))
    return int(memo[0, kernels.DISTINCT]), [(token, count, first) for token, count, first in zip(*columns, strict=True)]


@settings(max_examples=200)
@given(COUNTS, st.sampled_from([(), (1,)]))
def test_followers_of_parts_of_any_size(counts, last):
    """Exact while every suffix is looked at; above that, what has 1 / SAMPLES of the part is found, with its exact count.

    Also where one suffix of the part ends with the text: nothing follows it.
    """
    index, low, high = followers_of_one(counts, last=last)
    assert high - low == sum(counts) + len(last)
    exact = {10 + k: count for k, count in enumerate(counts)}
    firsts = {token: low + len(last) + sum(counts[: token - 10]) for token in exact}
    distinct, found = listed(index, low, high, 1)
    assert all(count == exact[token] and first == firsts[token] for token, count, first in found)
    order = [(-count, token) for token, count, _ in found]
    assert order == sorted(order)
    ranking = sorted(exact, key=lambda token: (-exact[token], token))[: kernels.KEPT]
    if high - low <= kernels.SAMPLES:
        assert distinct == len(counts)
        assert [token for token, _, _ in found] == ranking
    else:
        frequent = {token for token in ranking if exact[token] * kernels.SAMPLES >= high - low}
        assert frequent <= {token for token, _, _ in found}
        assert len(found) == min(distinct, kernels.KEPT)
        assert max(len(frequent), 1) <= distinct <= len(counts)


def test_a_suffix_that_ends_with_the_text_has_no_follower():
    """It stands first in its part; what follows the others is counted without it."""
    index, low, high = followers_of_one([3, 2], last=[1])
    assert index.suffixes[low] == len(index.tokens) - 1
    assert listed(index, low, high, 1) == (2, [(10, 3, low + 1), (11, 2, low + 4)])
    # nothing but that suffix
    assert listed(index, low, low + 1, 1) == (0, [])


@given(COUNTS, st.data())
def test_where_a_followers_part_begins_and_ends(counts, data):
    index, low, high = followers_of_one(counts, last=[1])
    place = data.draw(st.integers(low + 1, high - 1))
    token = index.tokens[index.suffixes[place] + 1]
    inside = [k for k in range(low + 1, high) if index.tokens[index.suffixes[k] + 1] == token]
    begin = data.draw(st.integers(low, inside[0]))  # all before are smaller or end with the text
    assert kernels._begin(index.tokens, index.suffixes, begin, place, 1, token) == inside[0]
    assert kernels._end(index.tokens, index.suffixes, place, high, 1, token) == inside[-1] + 1


@given(st.lists(st.lists(st.integers(1, 3), max_size=8), min_size=1, max_size=8), st.data())
def test_a_line_is_asked_for_exactly_its_question(rows, data):
    """Two parts that share a line of either table do not answer for each other."""
    index = Index.build(TokenCorpus.from_rows(rows), start_id=9, eos_id=EOS)
    text = index.tokens.tolist()
    memo, steps = np.zeros((1, kernels.LINE), np.int32), np.zeros((1, kernels.STEP), np.int32)
    questions = data.draw(st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=3), st.integers(0, 9)), max_size=6))
    for context, token in questions:
        low, high = 0, len(text)
        for depth, given_token in enumerate(context):
            low, high = kernels.narrow(index.tokens, index.suffixes, low, high, depth, given_token)
        question, depth = (low, high, len(context), token), len(context)
        if low == high:
            continue
        assert kernels.line_at(memo, low, high, depth) == kernels.step_at(steps, *question) == 0
        if not kernels.is_listed(memo, 0, low, high, depth):
            kernels.list_followers(index.tokens, index.suffixes, 0, memo, 0, low, high, depth)
        if not kernels.is_known(steps, 0, *question):
            kernels.answer(index.tokens, index.suffixes, index.ids, index.starts, 0, steps, 0, *question)
        places = [k for k in range(len(text)) if text[k : k + depth] == context]
        follows = Counter(text[k + depth] for k in places if k + depth < len(text))
        assert memo[0, kernels.DISTINCT] == len(follows) or high - low > kernels.SAMPLES
        starts = index.suffixes[steps[0, 4] : steps[0, 5]].tolist()
        assert sorted(starts) == [k for k in places if text[k + depth : k + depth + 1] == [token]]


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 64), st.integers(-(2**31), 2**31 - 1))
def test_lines_lie_in_their_table(low, high, depth, token):
    for size in (1, 2, 1 << 14):
        memo, steps = np.empty((size, kernels.LINE), np.int32), np.empty((size, kernels.STEP), np.int32)
        assert 0 <= kernels.line_at(memo, low, high, depth) < size
        assert 0 <= kernels.step_at(steps, low, high, depth, token) < size


def test_questions_spread_over_the_lines():
    """Contexts of a real index: few of them share a line, so that answers stay."""
    steps, memo = np.empty((1 << 12, kernels.STEP), np.int32), np.empty((1 << 12, kernels.LINE), np.int32)
    random = np.random.default_rng(0)
    parts = {(low, low + size, depth) for low, size, depth in random.integers(1, [10**6, 50, 12], (400, 3)).tolist()}
    assert len({int(kernels.line_at(memo, *part)) for part in parts}) > 0.9 * len(parts)
    assert len({int(kernels.step_at(steps, *part, 7)) for part in parts}) > 0.9 * len(parts)
