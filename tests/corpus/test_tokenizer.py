import json

import pytest
from tokenizers import decoders, normalizers, processors

import tiny
from tasc.corpus import encode_batch, fingerprint, load_tokenizer
from tasc.errors import TokenizerError

REAL = ("qwen2.5", "smollm2", "gpt2", "mistral-v3-spm")


@pytest.mark.parametrize("kind", tiny.TOKENIZERS)
def test_load_gives_the_same_tokenizer(tmp_path, kind):
    made = tiny.TOKENIZERS[kind]()
    made.save_pretrained(tmp_path)
    for place in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(place)
        assert fingerprint(loaded) == fingerprint(made)
        assert encode_batch(loaded, tiny.TEXTS) == encode_batch(made, tiny.TEXTS)
    assert load_tokenizer(made) is made


def test_encode_batch_is_the_tokenizer_without_special_tokens():
    tokenizer = tiny.byte_fallback_bpe()
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in tiny.TEXTS]
    assert encode_batch(tokenizer, tiny.TEXTS) == expected
    assert encode_batch(tokenizer, []) == []


def test_what_cannot_be_loaded_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match=r"nowhere: no such folder; pass a folder with a tokenizer\.json"):
        load_tokenizer("nowhere")
    with pytest.raises(TokenizerError, match="no such folder"):
        load_tokenizer(tmp_path / "a" / "b")
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenizerError, match="file: not a folder"):
        load_tokenizer(tmp_path / "file")
    with pytest.raises(TokenizerError, match=r"^nobody/nothing: no tokenizer could be loaded \(.*\)$") as caught:
        load_tokenizer("nobody/nothing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}}'])
def test_a_damaged_tokenizer_file_is_one_clear_line(tmp_path, content):
    tiny.byte_level_bpe().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"\(.+\)") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_fingerprints_differ_between_kinds():
    assert len({fingerprint(make()) for make in tiny.TOKENIZERS.values()}) == len(tiny.TOKENIZERS)
    assert fingerprint(tiny.byte_level_bpe()) == fingerprint(tiny.byte_level_bpe(chat=True))


def changed(change):
    tokenizer = tiny.byte_level_bpe()
    change(tokenizer)
    return fingerprint(tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.backend_tokenizer.enable_truncation(5),
        lambda t: t.backend_tokenizer.enable_padding(),
        lambda t: setattr(t, "chat_template", "x"),
        lambda t: setattr(t.backend_tokenizer, "decoder", decoders.Fuse()),
        lambda t: setattr(t.backend_tokenizer, "post_processor", processors.ByteLevel()),
    ],
)
def test_what_does_not_decide_ids_does_not_change_the_fingerprint(change):
    assert changed(change) == fingerprint(tiny.byte_level_bpe())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_tokens(["new"]),
        lambda t: t.add_special_tokens({"unk_token": "<new>"}),
        lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase()),
        lambda t: setattr(t.backend_tokenizer.model, "dropout", 0.1),
        lambda t: setattr(t.backend_tokenizer.pre_tokenizer, "add_prefix_space", True),
        lambda t: setattr(t.backend_tokenizer.model, "ignore_merges", True),
    ],
)
def test_what_decides_ids_changes_the_fingerprint(change):
    assert changed(change) != fingerprint(tiny.byte_level_bpe())


def test_both_spellings_of_merges_and_of_defaults_have_one_fingerprint(tmp_path):
    tokenizer = tiny.byte_level_bpe()
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["model"]["merges"] = [" ".join(merge) for merge in stored["model"]["merges"]]
    stored["model"]["continuing_subword_prefix"] = ""
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert fingerprint(load_tokenizer(tmp_path)) == fingerprint(tokenizer)


def test_an_unknown_token_with_id_0_is_not_a_missing_one():
    with_unknown, without = tiny.unigram(), tiny.unigram()
    stored = json.loads(without.backend_tokenizer.to_str())
    assert stored["model"]["unk_id"] == 0
    stored["model"]["unk_id"] = None
    without._tokenizer = type(without.backend_tokenizer).from_str(json.dumps(stored))
    assert fingerprint(with_unknown) != fingerprint(without)


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(shared, name):
    tokenizer = load_tokenizer(shared / "tokenizers" / name)
    text = "intent: alarm_set, café 東京"
    assert encode_batch(tokenizer, [text]) == [tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert fingerprint(tokenizer) == fingerprint(load_tokenizer(shared / "tokenizers" / name))
