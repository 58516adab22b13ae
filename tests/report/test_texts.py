"""Outputs cut into tokens, and generations in text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from tasc.corpus import Row, TokenCorpus
from tasc.draft import build_drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import append_log
from tasc.errors import DataError
from tasc.evals import Prediction
from tasc.progress import silent
from tasc.replay import replay
from tasc.report import texts
from tasc.vocab import EnrichedVocabulary, Ngram

TOKENIZER = tiny.byte_level_bpe()
BASE_SIZE = 1 + max(TOKENIZER.get_vocab().values())


def vocabulary(*spelt: str) -> EnrichedVocabulary:
    ids = [tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"]) for text in spelt]
    return EnrichedVocabulary(BASE_SIZE, tuple(Ngram(one, one) for one in ids), "fewest")


def text_of(pieces):
    return "".join(piece.text for piece in pieces)


@given(st.text(max_size=40) | st.sampled_from(tiny.TEXTS))
def test_the_pieces_are_the_text(text):
    before, after = texts.cut(text, TOKENIZER, vocabulary("intent: alarm_set", ", slot fills: {"))
    assert text_of(before) == text_of(after) == text
    assert not any(piece.is_ngram for piece in before)
    assert len(after) <= len(before)
    assert len(before) == len(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def test_ngrams_are_one_piece():
    _, after = texts.cut(tiny.TEXTS[0], TOKENIZER, vocabulary("intent: alarm_set", ", slot fills: {"))
    assert [piece.text for piece in after if piece.is_ngram] == ["intent: alarm_set", ", slot fills: {"]


@pytest.fixture(scope="module")
def rows():
    rooms = ("attic", "hall", "kitchen", "cellar", "garage")
    return [
        Row(f"light in the {rooms[k % 5]} {k}", f"intent: light_on, room: {rooms[k % 5]}, n: {k}") for k in range(60)
    ]


@pytest.fixture
def recorded(rows, tmp_path):
    """A drafter file and the log of a run with it."""
    drafter = build_drafter(rows[:40], TOKENIZER, template="none")
    drafter.save(tmp_path / "task.tasc")
    prompts = TokenCorpus.encode([row.prompt for row in rows[40:]], TOKENIZER)
    outputs = [[*ids, drafter.eos_id] for ids in TokenCorpus.encode([row.completion for row in rows[40:]], TOKENIZER)]
    cost = StepCost.default("cpu")
    done = replay(drafter, prompts, outputs, control=Control(cost), before_prefill=True, limits=[60] * 20, batch_size=4)
    about = {"fingerprint": drafter.fingerprint, "max_draft": 10, "cost": cost.to_json()}
    append_log(tmp_path / "log.jsonl", done.requests, about=about)
    return tmp_path


def walks(folder, drafter="task.tasc"):
    return texts.walks("drafts", folder / drafter, folder / "log.jsonl", TOKENIZER, None, silent)


def test_a_generation_reads_like_its_output(recorded, rows):
    known = {row.prompt: row.completion for row in rows}
    found = walks(recorded)
    assert len(found) == texts.WALKS
    for walk in found:
        written = ""
        for step in walk.steps:
            assert step.before == written
            written += "".join(token.text for token in step.drafted if token.accepted) + (step.own or "")
            assert [token.accepted for token in step.drafted] == sorted(
                (token.accepted for token in step.drafted), reverse=True
            )
        assert written == known[walk.prompt] + TOKENIZER.eos_token
    assert {token.source for walk in found for step in walk.steps for token in step.drafted} >= {"corpus", "prompt"}


def test_generations_of_another_drafter_are_not_shown(recorded, rows):
    other = build_drafter(rows[:5], TOKENIZER, template="none", preset="paper")
    other.save(recorded / "other.tasc")
    assert walks(recorded, "other.tasc") == ()
    (recorded / "broken.tasc").write_bytes(b"no drafter")
    assert walks(recorded, "broken.tasc") == ()
    assert walks(recorded, "missing.tasc") == ()


def test_a_replay_that_breaks_off_shows_nothing(recorded, monkeypatch):
    def broken(*args, **options):
        raise DataError("no log of this drafter")

    monkeypatch.setattr(texts, "passes_of", broken)
    assert walks(recorded) == ()


def test_very_long_prompts_and_references_are_cut():
    (found,) = texts.samples([Prediction("p" * 5000, "x", "y" * 5000)], TOKENIZER, vocabulary("intent: alarm_set"))
    assert (found.prompt, found.reference) == ("p" * 1999 + "\u2026", "y" * 1999 + "\u2026")
    (found,) = texts.samples([Prediction("p" * 2000, "x", "y")], TOKENIZER, vocabulary("intent: alarm_set"))
    assert found.prompt == "p" * 2000


def test_samples_are_of_different_lengths_and_none_is_too_long():
    rows = [Prediction("p", "x" * n, "y") for n in (0, 3, 7, 50, 100, 5000)] * 2
    found = texts.samples(rows, TOKENIZER, vocabulary("intent: alarm_set"))
    assert [len(sample.output) for sample in found] == [3, 7, 50, 100]
