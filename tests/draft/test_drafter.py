"""The drafter as a whole: what it learns, what it proposes, and that processes agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import EOS, SIZE, build, drafts_of, many_rows, same_drafters
from tasc.corpus import Row, TokenCorpus, fingerprint, make_template
from tasc.draft import SOURCES, Drafter, Options, Origin, build_drafter, learning, update_drafter
from tasc.errors import DataError, FingerprintError, OptionError
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny import byte_fallback_bpe, byte_level_bpe
from tiny_models import make_tasks

IDS = st.integers(0, SIZE + 5)  # end tokens, and ids that the drafter has never heard of
TOKENS = st.integers(1, 5)
ROWS = st.lists(st.tuples(st.lists(TOKENS, max_size=5), st.lists(TOKENS, max_size=5)), min_size=1, max_size=12)
PRESETS = st.sampled_from(["best", "paper"])


@settings(max_examples=150)
@given(ROWS, PRESETS, st.lists(IDS, max_size=12), st.lists(st.lists(IDS, max_size=5), max_size=4), st.integers(1, 20))
def test_drafts_hold_no_marker_and_nothing_behind_an_end(rows, preset, prompt, output, max_tokens):
    state = build(rows, options=Options(preset=preset, p_min=1)).start(prompt)
    for new in output:
        state.extend(new)
        draft = state.propose(max_tokens)
        tokens = draft.tokens.tolist()
        assert len(tokens) <= max_tokens
        assert EOS not in tokens[:-1]
        assert not {SIZE, SIZE + 1} & set(tokens)
        assert (draft.tokens.dtype, draft.sources.dtype, draft.probabilities.dtype) == (np.int32, np.uint8, np.float32)
        assert len(draft.sources) == len(draft.probabilities) == len(tokens)
        assert ((draft.probabilities >= 0) & (draft.probabilities <= 1)).all()
        assert (draft.sources < len(SOURCES)).all()


@settings(max_examples=60)
@given(ROWS, PRESETS, st.lists(TOKENS, max_size=6), st.lists(TOKENS, max_size=12))
def test_a_proposal_changes_nothing_and_pieces_do_not_matter(rows, preset, prompt, output):
    drafter = build(rows, options=Options(preset=preset, p_min=1))
    whole, pieces = drafter.start(prompt), drafter.start(np.array(prompt, np.int64))
    if output:
        whole.extend(output)
    for token in output:
        pieces.propose(7)
        pieces.extend([token])
    for wanted in (1, 5, 5, 12):
        found, expected = pieces.propose(wanted), whole.propose(wanted)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=60)
@given(ROWS, PRESETS, st.lists(TOKENS, max_size=6), st.integers(1, 8))
def test_a_shorter_draft_is_the_beginning_of_a_longer_one(rows, preset, prompt, length):
    drafter = build(rows, options=Options(preset=preset, p_min=1))
    long, short = (drafter.start(prompt).propose(n).tokens.tolist() for n in (10, length))
    assert short == long[:length]


def test_a_draft_ends_where_it_becomes_unlikely():
    drafter = build(many_rows())
    whole = drafter.start([7, 8, 9, 20, 21]).propose(10)
    reached = np.cumprod(whole.probabilities.astype(float))
    for n in range(1, len(reached) + 1):
        cut = drafter.start([7, 8, 9, 20, 21]).propose(10, min_probability=float(reached[n - 1]) * 0.999)
        assert len(cut.tokens) >= n
        assert len(cut.tokens) == (reached >= reached[n - 1] * 0.999).sum()


def test_long_outputs_have_room():
    drafter, rng = build(many_rows()), np.random.default_rng(0)
    text = rng.integers(1, SIZE, 5000)
    at_once, slowly = drafter.start([7, 8]), drafter.start([7, 8])
    at_once.extend(text)
    for part in np.array_split(text, 37):
        slowly.extend(part)
    assert at_once.propose(10).tokens.tolist() == slowly.propose(10).tokens.tolist()


def test_outputs_teach_the_weights_and_their_reliability():
    drafter, rows = build(many_rows(400)), many_rows(60, seed=9)
    assert drafter.reliability is not None
    assert sum(drafter.reliability.counts) > 50
    assert drafter.reliability.error < 0.2
    untaught = Drafter(
        drafter.index, drafter.options, drafter.origin, drafter.neighbours, drafter.variants,
        learning.initial_weights(), None, None,
    )  # fmt: skip

    def right(one):
        return sum(
            token == wanted
            for k, (_, output) in enumerate(rows)
            for token, wanted in zip(_first_tokens(one, rows[k]), [*output, EOS], strict=True)
        )

    assert right(drafter) > 1.1 * right(untaught)


def _first_tokens(drafter, row):
    return [tokens[0] for tokens, _, _ in drafts_of(drafter, [row], max_tokens=1)]


def test_few_rows_teach_nothing():
    drafter = build(many_rows(30))
    assert drafter.reliability is None
    np.testing.assert_array_equal(drafter.weights, learning.initial_weights())


def test_building_twice_gives_the_same_file(tmp_path):
    for name in "ab":
        build(many_rows()).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


DRAFTS = """
import json, sys
sys.path.insert(0, sys.argv[2])
from built import drafts_of, many_rows
from tasc.draft import Drafter
print(json.dumps(drafts_of(Drafter.load(sys.argv[1]), many_rows(20, seed=5))))
"""


def test_two_processes_draft_the_same(tmp_path):
    drafter = build(many_rows())
    drafter.save(tmp_path / "task.tasc")
    tests = str(Path(__file__).resolve().parent.parent)
    outputs = [
        subprocess.run(
            [sys.executable, "-c", DRAFTS, str(tmp_path / "task.tasc"), tests],
            capture_output=True, text=True, timeout=600, check=True, env=os.environ | {"PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    here = drafts_of(drafter, many_rows(20, seed=5))
    assert json.loads(outputs[0]) == json.loads(json.dumps(here))


def test_what_was_looked_up_before_changes_no_draft():
    drafter, rows = build(many_rows()), many_rows(30, seed=6)
    expected = drafts_of(drafter, rows)
    drafts_of(drafter, many_rows(200, seed=7), max_tokens=20)
    assert drafts_of(drafter, rows) == expected


@pytest.mark.parametrize(
    ("outputs", "prompts", "options", "error"),
    [
        ([], None, {}, "at least one output"),
        ([[1]], [[1], [2]], {}, "2 prompts for 1 outputs"),
        ([[SIZE]], None, {}, f"token id {SIZE} in the outputs"),
        ([[1]], [[2, SIZE]], {}, f"token id {SIZE} in the prompts, expected ids below {SIZE}"),
        ([[1]], [[2**31 - 1]], {}, f"token id {2**31 - 1} in the prompts"),
        ([[1]], [[1]], {"eos_id": SIZE}, "eos_id"),
        ([[1]], [[1]], {"eos_id": -1}, "eos_id"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(outputs, prompts, options, error):
    with pytest.raises((DataError, OptionError), match=error):
        Drafter.build(
            TokenCorpus.from_rows(outputs),
            None if prompts is None else TokenCorpus.from_rows(prompts),
            **({"eos_id": EOS, "vocab_size": SIZE} | options),
        )


def test_another_tokenizer_is_refused():
    drafter = build(many_rows(5), origin=Origin("sha256:1"))
    drafter.require("sha256:1")
    with pytest.raises(FingerprintError, match=r"sha256:1.*sha256:2.*tasc draft build"):
        drafter.require("sha256:2")
    build(many_rows(5)).require("sha256:2")  # without a fingerprint it fits any


# from rows and a tokenizer


def test_rows_become_ids_as_in_training(tmp_path):
    tokenizer, tasks = byte_level_bpe(chat=True), make_tasks(50)
    tokenizer.save_pretrained(tmp_path)
    drafter = build_drafter(tasks, tmp_path)
    template = make_template(tokenizer, "chat")
    expected = Drafter.build(
        TokenCorpus.from_rows(template.encode_completions(tasks.completions)),
        TokenCorpus.from_rows(template.encode_prompts(tasks.rows)),
        eos_id=tokenizer.eos_token_id,
        vocab_size=1 + max(tokenizer.get_vocab().values()),
        spellings=drafter.variants[:-2],
        origin=Origin(fingerprint(tokenizer), str(tmp_path), "chat"),
    )
    same_drafters(drafter, expected)
    assert build_drafter(tasks, tokenizer, template="none").template == "none"


def test_words_are_joined_with_their_usual_spelling():
    tokenizer = byte_level_bpe(["Kitchen kitchen Kitchen"] * 9 + [" kitchen kitchen", "KITCHEN"] * 3)
    ids = {word: tokenizer.get_vocab()[word] for word in ("Kitchen", "Ġkitchen")}
    drafter = build_drafter([Row("turn on", "the kitchen, the kitchen")], tokenizer)
    assert drafter.variants[ids["Kitchen"]] == ids["Ġkitchen"]
    # as a paper drafter it has no use for them
    assert build_drafter([Row("turn on", "the kitchen")], tokenizer, preset="paper").neighbours is None


@pytest.fixture
def ngrams():
    tokenizer = byte_level_bpe()
    ids = tuple(tokenizer("intent: dim", add_special_tokens=False)["input_ids"])
    return tokenizer, EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids),), fingerprint=fingerprint(tokenizer))


def test_ngrams_are_merged_in_prompts_and_outputs(ngrams):
    tokenizer, vocabulary = ngrams
    tasks = make_tasks(60)
    drafter = build_drafter(tasks, tokenizer, vocabulary=vocabulary, vocabulary_folder="ngrams")
    assert (drafter.vocab_size, drafter.origin.vocabulary) == (vocabulary.size, "ngrams")
    assert drafter.fingerprint == fingerprint(tokenizer)
    outputs = vocabulary.merge_corpus(TokenCorpus.encode(tasks.completions, tokenizer))
    np.testing.assert_array_equal(drafter.index.outputs().tokens, outputs.tokens)
    assert vocabulary.base_size in outputs.tokens


def test_an_update_from_rows_is_a_build_from_all(ngrams):
    tokenizer, vocabulary = ngrams
    tasks = make_tasks(70)
    for merger, folder in ((None, ""), (vocabulary, "ngrams")):
        options = {"vocabulary": merger, "vocabulary_folder": folder}
        whole = build_drafter(tasks, tokenizer, **options)
        same_drafters(
            update_drafter(build_drafter(tasks[:60], tokenizer, **options), tasks[60:], tokenizer, vocabulary=merger),
            whole,
        )
    with pytest.raises(FingerprintError, match="n-grams"):
        update_drafter(whole, tasks, tokenizer)
    with pytest.raises(FingerprintError, match="n-grams"):
        update_drafter(build_drafter(tasks, tokenizer), tasks, tokenizer, vocabulary=vocabulary)
    with pytest.raises(FingerprintError, match="sha256"):
        update_drafter(build_drafter(tasks, tokenizer), tasks, byte_fallback_bpe())
    with pytest.raises(DataError, match="min_rows"):  # before anything is read
        update_drafter(build_drafter(tasks, tokenizer, min_rows=2), tasks, "no-such-tokenizer")


def test_ngrams_of_another_tokenizer_are_refused(ngrams, tmp_path):
    _, vocabulary = ngrams
    (tmp_path / "base_tokenizer").mkdir()
    with pytest.raises(FingerprintError, match="base_tokenizer"):
        build_drafter(make_tasks(5), byte_fallback_bpe(), vocabulary=vocabulary, vocabulary_folder=str(tmp_path))


def test_no_rows_and_wrong_options_are_refused():
    with pytest.raises(DataError, match="at least one row"):
        build_drafter([], byte_level_bpe())
    for wrong in ({"preset": "good"}, {"min_rows": 0}, {"preset": "paper", "n_max": 0}, {"preset": "paper", "lam": 2}):
        with pytest.raises(OptionError):
            build_drafter(make_tasks(5), byte_level_bpe(), **wrong)
