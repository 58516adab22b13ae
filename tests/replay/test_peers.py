"""The rivals: each against an oracle of its own, and all against what the interface promises."""

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from tasc.errors import OptionError
from tasc.replay.peers import NGrammys, PromptLookup, SuffixDecoding

EOS = 0
TOKENS = st.integers(1, 4)  # few, so that matches are many
TEXT = st.lists(TOKENS, min_size=1, max_size=30)
TABLE = np.array([0, 2, 3, 0, 1])


def has_arctic() -> bool:
    return importlib.util.find_spec("arctic_inference") is not None


def peers():
    made = {
        "lookup": PromptLookup(eos_id=EOS, max_ngram=3),
        "bigrams": NGrammys(TABLE, eos_id=EOS),
        "mixed": NGrammys(TABLE, eos_id=EOS, max_ngram=3),
    }
    if has_arctic():
        made["suffix"] = SuffixDecoding([[1, 2, 3, EOS], [2, 2, 4, EOS]], min_token_prob=0.0, max_spec_factor=4.0)
    return made


@given(prompt=TEXT, more=st.lists(TOKENS | st.just(EOS), max_size=10), n=st.integers(1, 12), size=st.integers(1, 4))
def test_prompt_lookup_proposes_what_transformers_does(prompt, more, n, size):
    theirs = PromptLookupCandidateGenerator(torch.tensor([EOS]), n, size, max_length=10_000)
    state = PromptLookup(eos_id=EOS, max_ngram=size).start(prompt)
    state.extend(more)
    ids = torch.tensor([prompt + more])
    expected = theirs.get_candidates(ids)[0][0, ids.shape[1] :].tolist()
    assert state.propose(n).tokens.tolist() == expected


def test_bigrams_follow_the_table_and_end_with_the_end_token():
    state = NGrammys(TABLE, eos_id=EOS).start([4])
    assert state.propose(10).tokens.tolist() == [1, 2, 3, EOS]
    assert state.propose(2).tokens.tolist() == [1, 2]
    state.extend([2])
    assert state.propose(10).tokens.tolist() == [3, EOS]
    state.extend([EOS])
    assert state.propose(10).tokens.tolist() == []


def test_mixed_bigrams_come_behind_the_prompt_and_where_it_has_no_match():
    state = NGrammys(TABLE, eos_id=EOS, max_ngram=2).start([1, 4, 3, 1])
    assert state.propose(10).tokens.tolist() == [4, 3, 1, 2, 3, EOS]
    state.extend([2])
    assert state.propose(10).tokens.tolist() == [3, EOS]


@pytest.mark.parametrize("table", [[], [1], [0, -1], [[0]]])
def test_a_table_that_is_none_is_refused(table):
    with pytest.raises(OptionError, match="table"):
        NGrammys(table, eos_id=EOS)


@pytest.mark.parametrize("name", ["lookup", "bigrams", "mixed", "suffix"])
@settings(deadline=None, max_examples=50)
@given(prompt=TEXT, more=TEXT, n=st.integers(1, 12))
def test_every_rival_keeps_the_promises_of_the_interface(name, prompt, more, n):
    made = peers()
    if name not in made:
        pytest.skip("arctic-inference is not installed")
    at_once = made[name].start(prompt)
    at_once.extend(more)
    draft = at_once.propose(n)
    tokens = draft.tokens.tolist()
    assert len(tokens) == len(draft.sources) == len(draft.probabilities) <= n
    assert EOS not in tokens[:-1]
    assert ((draft.probabilities > 0) & (draft.probabilities <= 1)).all()
    assert at_once.propose(n).tokens.tolist() == tokens  # proposing changes nothing

    in_pieces = made[name].start(np.array(prompt, np.int32))
    for token in more:
        in_pieces.propose(n)
        in_pieces.extend(np.array([token], np.int32))
    assert in_pieces.propose(n).tokens.tolist() == tokens


@pytest.mark.skipif(not has_arctic(), reason="arctic-inference is not installed")
def test_suffix_decoding_knows_the_outputs_and_forgets_the_requests():
    peer = SuffixDecoding([[1, 2, 3, 4, EOS]] * 3)
    state = peer.start([9, 1, 2])
    assert state.propose(10).tokens.tolist() == [3, 4]  # as many as the context that matched
    state.extend([7, 8])
    del state
    assert len(peer.cache.active_requests) == 0
    assert peer.start([5, 7]).propose(10).tokens.tolist() == []
    assert len(peer.cache.cached_requests) == 3


@pytest.mark.skipif(not has_arctic(), reason="arctic-inference is not installed")
def test_suffix_decoding_gives_the_chance_of_each_token_given_those_before():
    outputs = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 5], *[[1, 2, 6, 7]] * 3, *[[1, 8, 8, 8]] * 2]
    draft = SuffixDecoding(outputs, max_spec_factor=8.0, min_token_prob=0.0).start([9, 1]).propose(8)
    assert draft.tokens.tolist()[0] == 2
    np.testing.assert_allclose(draft.probabilities, [6 / 8, 3 / 6, {6: 3 / 3, 3: 2 / 3}[draft.tokens[1]]])


@pytest.mark.skipif(not has_arctic(), reason="arctic-inference is not installed")
def test_suffix_decoding_drafts_trees_where_asked_to():
    outputs = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 5], *[[1, 2, 6, 7]] * 3, *[[1, 8, 8, 8]] * 2]
    options = {"max_spec_factor": 8.0, "min_token_prob": 0.0}
    state: Any = SuffixDecoding(outputs, **options, tree=True).start([9, 1])
    draft = state.propose_tree(8, 8)
    planned = draft.planned(8)
    branches = [tuple(planned.tokens[place] for place in planned.path(last)) for last in range(len(planned.tokens))]
    reached = dict(zip(branches, np.cumprod(draft.probabilities), strict=True))
    expected = {(2,): 6 / 8, (2, 3): 3 / 8, (2, 6): 3 / 8, (2, 6, 7): 3 / 8, (8,): 2 / 8, (2, 3, 5): 2 / 8}
    assert {branch: reached[branch] for branch in expected} == pytest.approx(expected)
    assert not hasattr(SuffixDecoding(outputs, **options).start([9, 1]), "propose_tree")


@pytest.mark.skipif(not has_arctic(), reason="arctic-inference is not installed")
def test_suffix_decoding_can_learn():
    peer = SuffixDecoding([[1, 2]], learns=True)
    peer.start([5]).extend([7, 8, EOS])
    assert peer.start([5, 7]).propose(10).tokens.tolist() == [8]
