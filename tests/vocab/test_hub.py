"""N-grams of a model by its Hub name, from a cache as huggingface_hub lays it out; nothing is downloaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from tasc.corpus import Row, Tasks, fingerprint, load_tokenizer
from tasc.decode import load_model
from tasc.draft.build import build_drafter
from tasc.vocab import EnrichedVocabulary, hub
from tasc.vocab.tokenizer import base_of, holds_ngrams, write_tokenizer
from tasc.vocab.vocabulary import Ngram
from tiny_models import tiny_model

NAME, COMMIT = "somebody/intents", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of a model with n-grams, in a cache that stands for the Hub."""
    repository = tmp_path / "hub" / "models--somebody--intents"
    folder = repository / "snapshots" / COMMIT
    tokenizer = tiny.byte_level_bpe()
    ids = tuple(tokenizer("alarm_set", add_special_tokens=False)["input_ids"])
    assert len(ids) > 1
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids),), fingerprint=fingerprint(tokenizer))
    tiny_model("llama", rows=vocabulary.size).save_pretrained(folder)
    write_tokenizer(tokenizer, vocabulary, folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    hub._fetched.cache_clear()
    yield folder
    hub._fetched.cache_clear()


def test_the_ngrams_of_a_hub_name_are_those_of_its_folder(cached):
    vocabulary = EnrichedVocabulary.load(NAME)
    assert vocabulary.expansions == EnrichedVocabulary.load(cached).expansions
    assert holds_ngrams(NAME)
    assert fingerprint(load_tokenizer(base_of(NAME))) == vocabulary.fingerprint
    loaded = load_model(NAME, device="cpu")
    assert loaded.vocabulary is not None
    assert loaded.vocabulary.expansions == vocabulary.expansions


def test_a_drafter_for_a_hub_name(cached):
    rows = Tasks(tuple(Row(f"wake me {k}", "alarm_set") for k in range(30)))
    vocabulary = EnrichedVocabulary.load(NAME)
    drafter = build_drafter(rows, base_of(NAME), vocabulary=vocabulary, vocabulary_folder=NAME)
    assert drafter.origin.vocabulary == NAME
    assert drafter.vocab_size == vocabulary.size


def test_a_hub_name_without_ngrams(cached):
    (cached / "enriched.json").unlink()
    assert not holds_ngrams(NAME)
    assert base_of(NAME) == NAME
    assert load_model(NAME, device="cpu").vocabulary is None


def test_a_folder_of_that_name_comes_first(cached, tmp_path):
    shutil.copytree(cached, tmp_path / NAME)
    assert hub.local_folder(NAME) == Path(NAME)


@pytest.mark.parametrize("name", ["base", "./no/where", "no/such", "runs/a/b", "vocab/enriched.json"])
def test_other_names_stay_as_they_are(cached, name):
    assert hub.local_folder(name) == Path(name)
