"""Write n-grams into tokenizers of every family, prove it, take them out again."""

import filecmp
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer, PreTrainedTokenizerFast, TextStreamer

import tiny
from tasc.corpus import encode_batch, fingerprint, load_tokenizer
from tasc.errors import FingerprintError, OptionError, TokenizerError, VocabularyError
from tasc.vocab import _proof
from tasc.vocab import tokenizer as room
from tasc.vocab._backend import added_tokens, read_backend, token_strings
from tasc.vocab._surgery import add_entries
from tasc.vocab.tokenizer import (
    Drift,
    check_prompts,
    load_base_tokenizer,
    remove_ngrams,
    speller,
    write_tokenizer,
)
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_tokenizers import MAKERS, TEXTS, byte_level, frequent_ngrams, tiny_tokenizer

REAL = [
    "gpt2",
    "mistral-v3-spm",
    pytest.param("smollm2", marks=pytest.mark.slow),
    pytest.param("qwen2.5", marks=pytest.mark.slow),
]
NAMES = [*MAKERS, *REAL]


class Case:
    """One base tokenizer, n-grams for it, and both in a folder."""

    def __init__(self, name: str, folder: Path, shared: Path | None):
        self.texts = list(TEXTS)
        self.source = folder / "base"
        if shared is not None:
            self.source = shared / "tokenizers" / name
            self.texts += outputs(shared, "massive_en", 300) + outputs(shared, "ud_ewt_pos", 60)
        else:
            MAKERS[name]().save_pretrained(self.source)
        self.base = load_tokenizer(self.source)
        self.vocabulary = frequent_ngrams(self.base, self.texts, 250)
        self.out = folder / "enriched"
        self.drift = write_tokenizer(self.base, self.vocabulary, self.out, texts=self.texts)
        self.enriched = AutoTokenizer.from_pretrained(self.out)
        self.rows = [row for row in encode_batch(self.base, self.texts) if self.base.unk_token_id not in row]


def outputs(shared: Path, corpus: str, n: int) -> list[str]:
    import gzip

    with gzip.open(shared / "data" / corpus / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["completion"] for _, line in zip(range(n), lines, strict=False)]


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory) -> Case:
    shared = None if request.param in MAKERS else request.getfixturevalue("shared")
    return Case(request.param, tmp_path_factory.mktemp(request.param), shared)


def same_files(a: Path, b: Path) -> None:
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert names
    assert names == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(a, b, [str(n) for n in names], shallow=False) == ([str(n) for n in names], [], [])


def test_prompts_are_encoded_as_before(case):
    assert case.drift.n_changed == 0
    assert case.drift.n_texts > len(case.texts)
    assert case.enriched.is_fast
    assert check_prompts(case.base, case.enriched, case.texts) == Drift(len(case.texts), 0)


def test_each_ngram_has_its_id_and_its_text(case):
    assert len(case.vocabulary) >= 50
    spell = speller(case.base)
    for k, ngram in enumerate(case.vocabulary.ngrams):
        assert case.enriched.convert_ids_to_tokens(case.vocabulary.base_size + k) == spell.spell(ngram.ids)
    assert len(case.enriched) == case.vocabulary.size
    assert case.enriched.vocab_size == case.vocabulary.size  # all of them are entries of the model


def test_merged_outputs_expand_and_decode_to_the_same(case):
    shorter = 0
    for row in case.rows:
        merged = case.vocabulary.merge(row).tolist()
        shorter += len(row) - len(merged)
        assert case.vocabulary.expand(merged).tolist() == row
        for skip in (False, True):
            expected = case.base.decode(row, skip_special_tokens=skip)
            assert case.enriched.decode(merged, skip_special_tokens=skip) == expected
    assert shorter > len(case.rows)


def test_streamed_decoding_gives_the_same_text(case, capsys):
    for row in case.rows[:40]:
        merged = case.vocabulary.merge(row).tolist()
        assert stream(case.enriched, merged) == stream(case.base, row)
        streamer = TextStreamer(case.enriched)
        for token in merged:
            streamer.put(one_token(token))
        streamer.end()
        assert capsys.readouterr().out == case.base.decode(row) + "\n"


def stream(tokenizer, ids) -> str:
    decoder = DecodeStream(skip_special_tokens=True)
    return "".join(decoder.step(tokenizer.backend_tokenizer, i) or "" for i in ids)


def one_token(token: int):
    import numpy as np

    return np.array([token])


def test_saved_loaded_and_saved_again_the_files_are_the_same_bytes(case, tmp_path):
    case.enriched.save_pretrained(tmp_path / "once")
    AutoTokenizer.from_pretrained(tmp_path / "once").save_pretrained(tmp_path / "twice")
    same_files(tmp_path / "once", tmp_path / "twice")
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (case.out / path.name).read_bytes()


def test_special_tokens_keep_their_ids(case):
    assert case.enriched.all_special_tokens == case.base.all_special_tokens
    assert case.enriched.all_special_ids == case.base.all_special_ids
    assert case.enriched.get_added_vocab() == case.base.get_added_vocab()
    assert case.enriched.eos_token_id == case.base.eos_token_id
    for i in case.base.get_added_vocab().values():
        assert case.enriched.convert_ids_to_tokens(i) == case.base.convert_ids_to_tokens(i)


def test_a_later_added_token_gets_a_fresh_id_and_leaves_the_ngrams_alone(case, tmp_path):
    later = AutoTokenizer.from_pretrained(case.out)
    assert later.add_tokens(["<later>"]) == 1
    assert later.convert_tokens_to_ids("<later>") == case.vocabulary.size
    later.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.convert_tokens_to_ids("<later>") == case.vocabulary.size
    assert again.decode([case.vocabulary.size - 1]) == case.enriched.decode([case.vocabulary.size - 1])


def test_uninstalling_gives_back_the_original_bytes(case, tmp_path):
    remove_ngrams(case.out, tmp_path / "restored")
    for path in (tmp_path / "restored").iterdir():
        assert path.read_bytes() == (case.source / path.name).read_bytes()
    tokenizer_files = {p.name for p in case.source.iterdir() if p.name.startswith(("tokenizer", "chat_template"))}
    assert {p.name for p in (tmp_path / "restored").iterdir()} == tokenizer_files
    assert fingerprint(load_base_tokenizer(case.out)) == case.vocabulary.fingerprint


def test_the_chat_template_and_a_chat_history_stay_in_base_ids(case):
    assert case.enriched.chat_template == case.base.chat_template
    if case.base.chat_template is None:
        return
    reply = case.enriched.decode(case.vocabulary.merge(case.rows[0]).tolist())
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": reply}]
    ours, theirs = (t.apply_chat_template(messages)["input_ids"] for t in (case.enriched, case.base))
    assert ours == theirs
    assert max(ours) < case.vocabulary.base_size


def test_the_vocabulary_is_stored_beside_the_tokenizer(case):
    loaded = EnrichedVocabulary.load(case.out)
    assert loaded.ngrams == case.vocabulary.ngrams
    assert loaded.options["style"] == "vocabulary"


def test_every_spelling_of_a_byte_level_ngram_stands_for_the_bytes_of_its_parts(case):
    """Constrained decoding (xgrammar, llguidance) reads bytes from the entries."""
    spell = speller(case.base)
    if spell.family != "byte-level":
        return
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # an independent table

    to_byte = {character: byte for byte, character in bytes_to_unicode().items()}
    pieces = spell.pieces()
    for k, ngram in enumerate(case.vocabulary.ngrams):
        entry = case.enriched.convert_ids_to_tokens(case.vocabulary.base_size + k)
        assert bytes(to_byte[c] for c in entry) == b"".join(pieces[i] for i in ngram.ids)


@cache
def tiny_case(name: str) -> Case:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return Case(name, Path(folder), None)


@pytest.mark.parametrize("name", MAKERS)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(data=st.data())
def test_any_text_is_encoded_as_before_and_any_output_survives_merging(name, data):
    case = tiny_case(name)
    fragments = st.sampled_from([n.text for n in case.vocabulary.ngrams] + list(TEXTS))
    text = "".join(
        data.draw(st.lists(fragments | st.text(max_size=6) | st.sampled_from([" ", "\n", "<|x|>"]), max_size=8))
    )
    assert case.enriched(text)["input_ids"] == case.base(text)["input_ids"]
    row = encode_batch(case.base, [text])[0]
    merged = case.vocabulary.merge(row).tolist()
    assert case.vocabulary.expand(merged).tolist() == row
    assert case.enriched.decode(merged) == case.base.decode(row)
    assert stream(case.enriched, merged) == stream(case.base, row)


@given(ids=st.lists(st.integers(0, 343), max_size=20))
def test_byte_level_decodes_any_ids_alike_also_what_no_text_encodes_to(ids):
    case = tiny_case("byte_level")
    assert case.enriched.decode(case.vocabulary.merge(ids).tolist()) == case.base.decode(ids)


# --- refusals: nothing is written -----------------------------------------------------------------------------------


def vocabulary_of(tokenizer, *texts, fingerprint=""):
    rows = [tuple(row) for row in encode_batch(tokenizer, texts)]
    return EnrichedVocabulary(speller(tokenizer).base_size, tuple(Ngram(r, r) for r in rows), "fewest", fingerprint)


def refused(error, match, tokenizer, vocabulary, folder, **options):
    with pytest.raises(error, match=match) as caught:
        write_tokenizer(tokenizer, vocabulary, folder, **options)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_another_tokenizers_vocabulary_is_refused_with_both_fingerprints(tmp_path):
    base, other = tiny_tokenizer("byte_level"), tiny_tokenizer("ignore_merges")
    vocabulary = vocabulary_of(base, " zebra", fingerprint=fingerprint(other))
    refused(FingerprintError, f"{fingerprint(other)}.*{fingerprint(base)}", base, vocabulary, tmp_path / "out")
    refused(VocabularyError, r"344 ids, this one has \d+", tiny_tokenizer("unigram"), vocabulary, tmp_path / "out")


def test_a_second_segmentation_of_the_same_spelling_is_refused(tmp_path):
    base = tiny_tokenizer("byte_level")
    vocab = base.get_vocab()
    rows = [tuple(vocab[s] for s in strings) for strings in (["z", "e", "b"], ["Ġ", "i", "n", "z"], ["Ġin", "z"])]
    ngrams = tuple(Ngram(row, row) for row in rows)
    vocabulary = EnrichedVocabulary(len(base), ngrams, "fewest")
    refused(TokenizerError, "n-grams 1 and 2 are both spelt 'Ġinz'", base, vocabulary, tmp_path / "out")


def test_an_ngram_that_may_not_become_a_token_is_refused(tmp_path):
    base = tiny_tokenizer("ignore_merges")
    refused(TokenizerError, "whole pre-token", base, vocabulary_of(base, " zebra"), tmp_path / "out")
    refused(OptionError, "'merges'", base, vocabulary_of(base, " zebra x"), tmp_path / "out", style="merges")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    base = tiny_tokenizer("byte_level")
    write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "before")

    def broken(*args):
        raise TokenizerError("broken promise")

    monkeypatch.setattr(room, "prove", broken)
    with pytest.raises(TokenizerError, match="broken promise"):
        write_tokenizer(base, vocabulary_of(base, " giraffe"), tmp_path / "out")
    same_files(tmp_path / "out", tmp_path / "before")


# --- the proof notices broken surgery -------------------------------------------------------------------------------


def operate(name: str, folder: Path, ngrams: list[tuple[int, ...]], spellings: list[str], change=None):
    """Surgery by hand, without the speller's bans, then `change` of the state; returns what `prove` says."""
    base = MAKERS[name]()
    state = read_backend(base)
    state = add_entries(state, token_strings(state, added_tokens(base)), spellings)
    if change is not None:
        change(state)
    base.save_pretrained(folder)
    Tokenizer.from_str(json.dumps(state)).save(str(folder / "tokenizer.json"))
    return _proof.prove(base, load_tokenizer(folder), ngrams, spellings)


def encoded(name: str, text: str) -> tuple[int, ...]:
    return tuple(encode_batch(tiny_tokenizer(name), [text])[0])


def test_the_proof_notices_a_leak_through_ignore_merges(tmp_path):
    ids = encoded("ignore_merges", " zebra")
    with pytest.raises(TokenizerError, match="encoded differently"):
        operate("ignore_merges", tmp_path, [ids], ["Ġzebra"])
    assert operate("byte_level", tmp_path, [encoded("byte_level", " zebra")], ["Ġzebra"]).n_changed == 0


def test_the_proof_notices_a_leak_of_one_character(tmp_path):
    ids = encoded("byte_fallback", "ส")[1:]  # without the metaspace in front
    with pytest.raises(TokenizerError, match="encoded differently"):
        operate("byte_fallback", tmp_path, [ids], ["ส"])


def set_score(score: float):
    """Give the last entry another score than the surgery does."""

    def change(state):
        state["model"]["vocab"][-1][1] = score

    return change


def test_the_proof_notices_a_leak_through_a_high_unigram_score(tmp_path):
    spell = speller(tiny_tokenizer("unigram"))
    pairs = ((a, b) for a in range(spell.base_size) for b in range(spell.base_size))
    ids = next(pair for pair in pairs if " " not in (spell.spell(pair) or " "))
    entry = spell.spell(ids) or ""
    with pytest.raises(TokenizerError, match="encoded differently"):
        operate("unigram", tmp_path, [ids], [entry], set_score(-1.0))
    assert operate("unigram", tmp_path, [ids], [entry]).n_changed == 0


def test_a_score_of_minus_20_leaks_where_the_parts_are_rarer(tmp_path):
    """Why the speller refuses an n-gram without a space by the scores of its parts."""
    ids, entry = encoded("unigram", "{x" * 6), "▁" + "{x" * 6
    assert "rare" in (speller(tiny_tokenizer("unigram")).refusal(ids) or "")
    for score in (-20.0, None):  # None: the lowest of the vocabulary
        with pytest.raises(TokenizerError, match="encoded differently"):
            operate("unigram", tmp_path, [ids], [entry], score and set_score(score))


def test_a_score_below_the_lowest_of_a_unigram_vocabulary_changes_texts_with_unknown_characters(tmp_path):
    """It lowers the score of unknown characters with it, and then ties between other tokens are rounded otherwise."""
    vocabulary = frequent_ngrams(tiny_tokenizer("unigram"), TEXTS, 60)
    spell = speller(tiny_tokenizer("unigram"))
    spellings = [spell.spell(ids) or "" for ids in vocabulary.expansions]
    assert operate("unigram", tmp_path, vocabulary.expansions, spellings).n_changed == 0
    with pytest.raises(TokenizerError, match="encoded differently"):
        operate("unigram", tmp_path, vocabulary.expansions, spellings, set_score(-5000.0))


def test_the_proof_notices_special_tokens_that_moved(tmp_path):
    """`tokenizers` ignores the ids that a file gives added tokens."""

    def unpinned(state):
        del state["model"]["vocab"]["<|im_end|>"]

    with pytest.raises(TokenizerError, match=r"lost their id, such as '<\|im_end\|>'"):
        operate("byte_level", tmp_path, [encoded("byte_level", " zebra")], ["Ġzebra"], unpinned)


def test_the_proof_notices_an_ngram_that_decodes_wrongly(tmp_path):
    with pytest.raises(TokenizerError, match="decodes to"):
        operate("byte_level", tmp_path, [encoded("byte_level", " zebra")], ["Ġzebrb"])
    with pytest.raises(TokenizerError, match="decodes to"):  # the decoder drops the inner metaspace of a first token
        operate("unigram", tmp_path, [encoded("unigram", "a b")], ["▁a▁b"])


def test_check_prompts_reports_what_changed():
    base, other = tiny_tokenizer("byte_level"), byte_level()
    other.add_tokens(["the thesis"])
    drift = check_prompts(base, other, iter(["in the thesis", "rain", "the thesis"]), max_examples=1)
    assert (drift.n_texts, drift.n_changed, drift.ratio) == (3, 2, 2 / 3)
    ((text, old, new),) = drift.examples
    assert text == "in the thesis"
    assert new[-1] == len(base)
    assert base.decode(list(old)) == other.decode(list(new)) == text
    assert "2 of 3 texts" in drift.describe()
    assert "in the thesis" in drift.describe()
    assert Drift(0, 0).ratio == 0


# --- odd bases and folders ------------------------------------------------------------------------------------------


def test_gaps_between_ids_are_filled_so_that_no_id_is_given_out_twice(tmp_path):
    vocab = {"a": 0, "b": 1, "c": 3, "d": 6}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    base = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    vocabulary = EnrichedVocabulary(7, (Ngram((0, 1), (0, 1)), Ngram((3, 6), (3, 6))), "fewest")
    assert speller(base).base_size == 7
    assert {2, 4, 5} <= speller(base).specials
    write_tokenizer(base, vocabulary, tmp_path)
    enriched = AutoTokenizer.from_pretrained(tmp_path)
    assert enriched.convert_ids_to_tokens([7, 8]) == ["ab", "cd"]
    assert enriched("abcd")["input_ids"] == [0, 1, 3, 6]
    assert len(enriched) == 9
    assert enriched.add_tokens(["new"]) == 1
    assert enriched.convert_tokens_to_ids("new") == 9


def test_a_tokenizer_changed_in_memory_is_kept_as_it_is(tmp_path):
    byte_level().save_pretrained(tmp_path / "source")
    base = load_tokenizer(tmp_path / "source")
    base.add_tokens(["<mine>"])
    write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path / "out")
    remove_ngrams(tmp_path / "out", tmp_path / "restored")
    assert fingerprint(load_tokenizer(tmp_path / "restored")) == fingerprint(base)
    assert load_tokenizer(tmp_path / "out").convert_tokens_to_ids("<mine>") == base.convert_tokens_to_ids("<mine>")


def test_the_base_tokenizer_itself_is_not_changed(tmp_path):
    base = byte_level()
    before = base.backend_tokenizer.to_str()
    write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path)
    assert base.backend_tokenizer.to_str() == before


def test_files_that_other_engines_would_read_instead_are_replaced_and_can_be_had_back(tmp_path):
    byte_level().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    original = (tmp_path / "tokenizer.json").read_bytes()
    base = load_tokenizer(tmp_path)
    write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    assert (tmp_path / "config.json").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(base) + 1
    remove_ngrams(tmp_path, tmp_path / "restored")
    assert (tmp_path / "restored" / "tokenizer.json").read_bytes() == original
    assert (tmp_path / "restored" / "vocab.json").read_text() == "{}"


def test_writing_again_replaces_the_earlier_ngrams(tmp_path):
    base = tiny_tokenizer("byte_level")
    write_tokenizer(base, vocabulary_of(base, " zebra", " giraffe"), tmp_path)
    write_tokenizer(base, vocabulary_of(base, " panther"), tmp_path)
    assert load_tokenizer(tmp_path).decode([len(base)]) == " panther"
    assert len(load_tokenizer(tmp_path)) == len(base) + 1


def test_a_config_that_makes_transformers_load_another_class_is_noticed(tmp_path):
    """Beside a config of type qwen2, AutoTokenizer rebuilds every tokenizer with Qwen 2's pre-tokenizer."""
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    base = tiny.byte_level_bpe()
    with pytest.raises(TokenizerError, match="loaded as Qwen2Tokenizer, not TokenizersBackend"):
        write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_empty_vocabulary_changes_nothing(tmp_path):
    base = tiny_tokenizer("byte_level")
    assert write_tokenizer(base, EnrichedVocabulary(len(base)), tmp_path).n_changed == 0
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == base.get_vocab()


def test_uninstalling_checks_what_was_kept(tmp_path):
    base = tiny_tokenizer("byte_level")
    write_tokenizer(base, vocabulary_of(base, " zebra"), tmp_path / "out")
    with pytest.raises(OptionError, match="folder of its own"):
        remove_ngrams(tmp_path / "out", tmp_path / "out")
    with pytest.raises(TokenizerError, match="no such file"):
        remove_ngrams(tmp_path, tmp_path / "restored")
    kept = tmp_path / "out" / "base_tokenizer"
    sums = (kept / "SHA256SUMS").read_text()
    (tmp_path / "out" / "stranger").write_text("x")
    (kept / "SHA256SUMS").write_text(sums + f"{'0' * 64}  ../stranger\n")
    with pytest.raises(TokenizerError, match="outside its folder"):
        remove_ngrams(tmp_path / "out", tmp_path / "restored")
    (kept / "SHA256SUMS").write_text(sums)
    (kept / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="missing or changed"):
        remove_ngrams(tmp_path / "out", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


# --- the paper's way, for comparison --------------------------------------------------------------------------------


def test_added_tokens_style_is_labelled_and_its_drift_is_measured(tmp_path):
    base = tiny_tokenizer("byte_level")
    spell = speller(base, style="added-tokens")
    vocabulary = frequent_ngrams(base, list(TEXTS), 20, spell=spell)
    texts = ["set an alarm, slot fills: nine", "nothing of the kind"]
    drift = write_tokenizer(base, vocabulary, tmp_path, style="added-tokens", texts=texts)
    assert (drift.style, drift.n_texts, drift.n_changed) == ("added-tokens", 2, 1)
    assert "added-tokens" in drift.describe()
    assert EnrichedVocabulary.load(tmp_path).options["style"] == "added-tokens"
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tasc_style"] == "added-tokens"
    enriched = AutoTokenizer.from_pretrained(tmp_path)
    assert enriched.convert_tokens_to_ids(vocabulary.ngrams[3].text) == vocabulary.base_size + 3
    assert enriched.decode(vocabulary.merge(encode_batch(base, TEXTS[:1])[0]).tolist()) == TEXTS[0]


def test_added_tokens_style_refuses_what_it_cannot_hold(tmp_path):
    base = tiny_tokenizer("byte_level")
    half = tuple(encode_batch(base, ["鿿"])[0][:2])
    vocabulary = EnrichedVocabulary(len(base), (Ngram(half, half),), "fewest")
    refused(TokenizerError, "UTF-8", base, vocabulary, tmp_path / "out", style="added-tokens")
    assert write_tokenizer(base, vocabulary, tmp_path / "ours").n_changed == 0
