"""Drafters of shards, merged or updated, against the drafter of all rows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import EOS, SIZE, SPELLINGS, build, many_rows, same_drafters
from tasc.corpus import TokenCorpus
from tasc.draft import Drafter, Options, Origin, learning, sample
from tasc.draft import drafter as module
from tasc.errors import DataError, FingerprintError, OptionError

TOKENS = st.integers(1, 8)  # few, so that rows share prompts, prefixes and n-grams
ROWS = st.lists(st.tuples(st.lists(TOKENS, max_size=6), st.lists(TOKENS, max_size=6)), min_size=1, max_size=14)


@settings(max_examples=200)
@given(ROWS, st.lists(st.integers(0, 14), max_size=3), st.sampled_from(["best", "paper"]))
def test_merged_shards_equal_the_whole(rows, cuts, preset):
    options = Options(preset=preset)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    shards = [build(rows[a:b], options=options) for a, b in pairwise(bounds)]
    same_drafters(Drafter.merge(shards), build(rows, options=options))


@pytest.mark.parametrize("parts", [(75, 150), (1, 150), (149, 150), (10, 17, 150), (33, 66, 99, 150)])
def test_merged_shards_learn_what_the_whole_learns(parts):
    rows = many_rows()
    whole = build(rows)
    assert whole.reliability is not None
    assert not np.array_equal(whole.weights, learning.initial_weights())
    shards = [build(rows[a:b]) for a, b in zip((0, *parts), parts, strict=False)]
    same_drafters(Drafter.merge(shards), whole)


def test_a_sample_that_leaves_rows_out_is_the_same_from_shards(monkeypatch):
    monkeypatch.setattr(sample, "TOKENS", 300)
    rows = many_rows()
    whole = build(rows)
    assert len(whole.sample.rows) < len(rows) / 2
    same_drafters(Drafter.merge([build(rows[:70]), build(rows[70:])]), whole)


def test_merging_twice_is_merging_once():
    rows = many_rows()
    parts = [build(rows[a:b]) for a, b in ((0, 40), (40, 90), (90, 150))]
    same_drafters(Drafter.merge([Drafter.merge(parts[:2]), parts[2]]), Drafter.merge(parts))


def test_a_drafter_of_one_merges_to_itself():
    drafter = build(many_rows())
    same_drafters(Drafter.merge([drafter]), drafter)


@settings(max_examples=60)
@given(ROWS, ROWS, st.booleans())
def test_an_update_is_a_build_from_all_rows(old, new, with_end):
    ended = [(prompt, [*output, EOS] if with_end else output) for prompt, output in new]
    same_drafters(build(old).update(ended, spellings=SPELLINGS), build(old + new))


def test_an_update_without_spellings_keeps_those_the_file_knows():
    # 4 spells 1 and both occurred; 6 spells 2 and neither did
    updated = build([([5], [1, 1, 4])]).update([([5], [4, 4, 4, 6, 6])])
    assert updated.variants[[1, 4, 2, 6]].tolist() == [4, 4, 2, 6]


def test_origin_and_options_survive():
    origin = Origin("sha256:1", "tok", "plain", "ngrams")
    rows = many_rows(40)
    options = Options(preset="paper", n_max=3, p_min=2, lam=0.5)
    merged = Drafter.merge(
        [build(rows[:9], origin=origin, options=options), build(rows[9:], origin=origin, options=options)]
    )
    assert (merged.origin, merged.options) == (origin, options)
    updated = merged.update(rows[:3])
    assert (updated.origin, updated.options, updated.index.n_rows) == (origin, options, 43)


def test_what_does_not_belong_together_is_refused():
    rows = many_rows(30)
    one = build(rows)
    with pytest.raises(OptionError, match="at least one"):
        Drafter.merge([])
    for changes in ({"options": Options(preset="paper")}, {"vocab_size": SIZE + 1}, {"eos_id": 6}):
        with pytest.raises(OptionError, match="different options"):
            Drafter.merge([one, build(rows, **changes)])
    for origin in (Origin(vocabulary="ngrams"), Origin(template="chat")):
        with pytest.raises(OptionError, match="different options"):
            Drafter.merge([one, build(rows, origin=origin)])
    with pytest.raises(FingerprintError, match="sha256:1"):
        Drafter.merge([build(rows, origin=Origin("sha256:1")), build(rows, origin=Origin("sha256:2"))])
    with pytest.raises(FingerprintError, match="sha256:1"):
        Drafter.merge([one, build(rows, origin=Origin("sha256:1"))])
    with pytest.raises(DataError, match="min_rows"):
        Drafter.merge([build(rows, options=Options(min_rows=2))] * 2)
    with pytest.raises(DataError, match="min_rows"):
        build(rows, options=Options(min_rows=2)).update([([5], [6])])


def test_shards_without_prompts_merge():
    rows = many_rows(50)
    outputs = [output for _, output in rows]

    def bare(part):
        return Drafter.build(TokenCorpus.from_rows(part), eos_id=EOS, vocab_size=SIZE)

    same_drafters(Drafter.merge([bare(outputs[:20]), bare(outputs[20:])]), bare(outputs))
    assert int(module.HELD_SHARE * 150) >= module.FEWEST_HELD  # the rows above are enough to learn from
