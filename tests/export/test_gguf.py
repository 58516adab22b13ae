"""The export to GGUF as far as it goes without llama.cpp: what is refused, and what the proof finds in a damaged file."""

import dataclasses
import json

import pytest

import tiny
import tiny_tokenizers
from ggufs import enriched_run, llama_3
from tasc.corpus import load_tokenizer
from tasc.errors import MissingExtraError, ModelError, OptionError, TascError, TokenizerError
from tasc.export.gguf import export_gguf, find_converter, read_gguf
from tasc.export.gguf.convert import last_message
from tasc.export.gguf.proof import BYTE_LEVEL, TokenType, Written, check_vocabulary
from tasc.export.gguf.refusal import parsed, refuse_whole_words
from tasc.export.gguf.splitting import named_split, require_split
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram


@pytest.mark.parametrize("family", ["byte_fallback", "llama", "unigram"])
def test_vocabularies_that_llama_cpp_merges_by_itself_are_refused(tmp_path, family):
    tokenizer = tiny_tokenizers.tiny_tokenizer(family)
    enriched_run(tmp_path / "run", tokenizer, architecture="llama", n=5)
    with pytest.raises(TokenizerError, match=r"prompts would be encoded with the n-grams|whatever entry scores best"):
        export_gguf(tmp_path / "run", tmp_path / "out" / "model.gguf")
    assert not (tmp_path / "out").exists()


def test_added_tokens_are_refused(tmp_path):
    tokenizer = tiny_tokenizers.tiny_tokenizer("byte_level")
    vocabulary = enriched_run(tmp_path, tokenizer, n=5)
    write_tokenizer(tokenizer, vocabulary, tmp_path, style="added-tokens")
    with pytest.raises(TokenizerError, match="--style added-tokens"):
        export_gguf(tmp_path, tmp_path / "model.gguf")


def test_an_ngram_that_reads_like_a_special_token_is_refused(tmp_path):
    tokenizer = tiny.byte_level_bpe(["</ s> </ s> the end"] * 3, vocab_size=270)
    ids = tuple(tokenizer.encode("</s>"))
    assert len(ids) > 1
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids, text="</s>"),))
    enriched_run(tmp_path, tokenizer, vocabulary=vocabulary)
    with pytest.raises(TokenizerError, match=r"takes the n-gram '</s>' for a special token"):
        export_gguf(tmp_path, tmp_path / "model.gguf")


def test_whole_words_are_refused_where_llama_cpp_looks_them_up():
    tokenizer = tiny_tokenizers.byte_level()
    word, phrase = (tuple(tokenizer.encode(text)) for text in (" thermometer", " in the"))
    assert len(word) > 1
    alone = EnrichedVocabulary(len(tokenizer), (Ngram(phrase, phrase),))
    both = EnrichedVocabulary(len(tokenizer), (Ngram(phrase, phrase), Ngram(word, word, text=" thermometer")))
    refuse_whole_words(tokenizer, alone, "llama-bpe")
    refuse_whole_words(tokenizer, both, "dbrx")
    with pytest.raises(TokenizerError, match="n-gram ' thermometer'"):
        refuse_whole_words(tokenizer, both, "llama-bpe")
    assert not tokenizer.backend_tokenizer.model.ignore_merges


def test_code_beside_the_model_is_not_run_unasked(tmp_path):
    enriched_run(tmp_path, tiny_tokenizers.tiny_tokenizer("byte_level"), n=3)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(ModelError, match="auto_map"):
        export_gguf(tmp_path, tmp_path / "model.gguf")


def test_bad_options(tmp_path, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    with pytest.raises(ModelError, match=r"no config\.json"):
        export_gguf(tmp_path, tmp_path / "model.gguf")
    with pytest.raises(OptionError, match="outtype must be one of"):
        export_gguf(tmp_path, tmp_path / "model.gguf", outtype="q4_0")
    with pytest.raises(OptionError, match="which no Python package installs"):
        find_converter()
    with pytest.raises(OptionError, match=r"no convert_hf_to_gguf\.py there"):
        find_converter(tmp_path)


@pytest.mark.parametrize("place", ["", "vendor/llama.cpp"])
def test_the_converter_is_found(tmp_path, monkeypatch, place):
    script = tmp_path / place / "convert_hf_to_gguf.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.touch()
    assert find_converter(tmp_path) == find_converter(script) == script
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    assert find_converter() == script


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("INFO:hf-to-gguf:Loading model: x\nERROR:hf-to-gguf:Model X is not supported\n", "Model X is not supported"),
        ("Traceback:\n  File ...\nKeyError: 'n_ctx'\n\nWriting:  10%|#\rWriting:  20%|##\n", "KeyError: 'n_ctx'"),
        ("INFO:hf-to-gguf:Loading model: x\n", ""),
    ],
)
def test_the_last_message_of_a_log(stderr, message):
    assert last_message(stderr) == message


@pytest.mark.parametrize(("name", "split"), [("qwen2.5", "qwen2"), ("gpt2", "gpt-2"), ("smollm2", "smollm")])
def test_real_tokenizers_split_as_llama_cpp_says(shared, name, split):
    assert named_split(json.loads((shared / "tokenizers" / name / "tokenizer.json").read_text())) == split


def test_a_split_is_named_only_where_it_is_certain():
    plain, as_llama_3 = parsed(tiny.byte_level_bpe()), parsed(llama_3())
    assert named_split(plain) == "gpt-2"
    assert named_split(as_llama_3) == "llama-bpe"
    assert named_split(as_llama_3 | {"model": {"ignore_merges": False}}) == "dbrx"
    assert named_split(plain | {"model": {"ignore_merges": True}}) is None
    assert named_split(plain | {"normalizer": {"type": "Lowercase"}}) is None
    assert named_split(plain | {"pre_tokenizer": plain["pre_tokenizer"] | {"add_prefix_space": True}}) is None


def test_a_name_for_the_split_needs_proof():
    plain = parsed(tiny.byte_level_bpe())
    unknown = plain | {"normalizer": {"type": "Lowercase"}}
    require_split(plain, "gpt-2", checked=False)
    require_split(unknown, "falcon", checked=True)
    with pytest.raises(OptionError, match="pass --pre gpt-2"):
        require_split(plain, "qwen2", checked=True)
    with pytest.raises(OptionError, match=r"let llama\.cpp prove it"):
        require_split(unknown, "falcon", checked=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    base = tiny_tokenizers.tiny_tokenizer("byte_level")
    vocabulary = enriched_run(folder, base, n=6)
    return base, load_tokenizer(folder), vocabulary


@pytest.fixture
def faithful(made):
    base, tokenizer, _ = made
    added = base.backend_tokenizer.get_added_tokens_decoder()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) + ["[PAD]"] * 3
    types = [TokenType.NORMAL] * len(tokenizer) + [TokenType.UNUSED] * 3
    for i, token in added.items():
        types[i] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    merges = [" ".join(pair) for pair in parsed(base)["model"]["merges"]]
    special = {"eos": base.eos_token_id}
    return Written("qwen2", BYTE_LEVEL, "dbrx", tokens, types, merges, special, None, len(tokens), None)


def check(made, written):
    base, tokenizer, vocabulary = made
    check_vocabulary(written, tokenizer, parsed(base), vocabulary)


def test_a_faithful_one_passes(made, faithful):
    check(made, faithful)
    check(made, dataclasses.replace(faithful, add_bos=False, head_rows=faithful.rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, v: {"tokens": swapped(w.tokens, 5, 6)}, "as token 5"),
        (lambda w, v: {"tokens": swapped(w.tokens, v.base_size, v.base_size + 1)}, "as token 3"),
        (lambda w, v: {"types": replaced(w.types, v.base_size, TokenType.USER_DEFINED)}, "USER_DEFINED"),
        (lambda w, v: {"types": replaced(w.types, v.base_size, TokenType.CONTROL)}, "CONTROL"),
        (lambda w, v: {"types": replaced(w.types, w.special_ids["eos"], TokenType.NORMAL)}, "NORMAL"),
        (lambda w, v: {"types": replaced(w.types, len(w.types) - 1, TokenType.NORMAL)}, "NORMAL"),
        (lambda w, v: {"merges": w.merges[:-1]}, "merges"),
        (lambda w, v: {"merges": swapped(w.merges, 0, 1)}, "merges"),
        (lambda w, v: {"special_ids": {"eos": 7}}, "names 7 as EOS"),
        (lambda w, v: {"special_ids": {}}, "names None as EOS"),
        (lambda w, v: {"special_ids": w.special_ids | {"eot": v.base_size}}, "n-gram .* as eot"),
        (lambda w, v: {"add_bos": True}, "put a BOS token in front"),
        (lambda w, v: {"pre": "llama-bpe"}, "put a BOS token in front"),
        (lambda w, v: {"rows": w.rows - 1}, "its embedding has"),
        (lambda w, v: {"head_rows": w.rows + 1}, "its head"),
        (lambda w, v: {"model": "llama", "add_bos": False}, "merges n-grams in prompts"),
    ],
)
def test_a_difference_is_found(made, faithful, change, message):
    with pytest.raises(TascError, match=message):
        check(made, dataclasses.replace(faithful, **change(faithful, made[2])))


def test_a_merge_to_an_ngram_is_found(made, faithful):
    base, tokenizer, vocabulary = made
    state = parsed(base)
    first, *_ = tokenizer.convert_ids_to_tokens(list(vocabulary.expansions[0]))
    entry = faithful.tokens[vocabulary.base_size]
    pair = [first, entry.removeprefix(first)]
    state["model"]["merges"].append(pair)
    changed = dataclasses.replace(faithful, merges=[*faithful.merges, " ".join(pair)])
    with pytest.raises(TokenizerError, match="leads to an n-gram"):
        check_vocabulary(changed, tokenizer, state, vocabulary)


def swapped(items, a, b):
    items = list(items)
    items[a], items[b] = items[b], items[a]
    return items


def replaced(items, at, value):
    return [*items[:at], value, *items[at + 1 :]]


def test_what_is_no_gguf(tmp_path):
    pytest.importorskip("gguf", reason="needs the gguf library")
    (tmp_path / "model.gguf").write_bytes(b"no model at all, but long enough to be read" * 3)
    with pytest.raises(ModelError, match="no GGUF"):
        read_gguf(tmp_path / "model.gguf")


def test_a_gguf_is_read(tmp_path):
    gguf = pytest.importorskip("gguf", reason="needs the gguf library")
    numpy = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(["a", "Ġb", "é"])
    writer.add_token_types([1, 1, 3])
    writer.add_token_merges(["Ġ b"])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_tensor("token_embd.weight", numpy.zeros((3, 4), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_gguf(tmp_path / "model.gguf") == Written(
        "qwen2", "gpt2", "qwen2", ["a", "Ġb", "é"], [1, 1, 3], ["Ġ b"], {"eos": 2}, False, 3, None
    )


def test_without_the_gguf_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"tasc-lm\[gguf\]"):
        read_gguf(tmp_path / "model.gguf")
