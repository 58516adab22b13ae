"""The export to GGUF as far as it goes without llama.cpp: what is refused, and what the proof finds in a damaged file."""

import dataclasses
import json
import os
import sys

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
from tasc.export.sidecar import sha256
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


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Config"}}),
        ("config.json", {"configuration_files": ["config.json"]}),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}}),
        ("config.4.0.0.json", {"auto_map": {"AutoConfig": "evil.Config"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
        ("preprocessor_config.json", {"auto_map": {"AutoProcessor": "evil.Processor"}}),
    ],
)
def test_code_beside_the_model_is_not_run_unasked(tmp_path, monkeypatch, name, added):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    enriched_run(tmp_path, tiny_tokenizers.tiny_tokenizer("byte_level"), n=3)
    path = tmp_path / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | added))
    with pytest.raises(ModelError, match="auto_map" if "auto_map" in str(added) else "configuration_files"):
        export_gguf(tmp_path, tmp_path / "model.gguf")
    with pytest.raises(OptionError, match="converter is needed"):  # one step further
        export_gguf(tmp_path, tmp_path / "model.gguf", trust_remote_code=True)


def test_what_can_be_refused_at_once_is_refused_before_decoding(tmp_path, monkeypatch):
    def decode():
        raise AssertionError("decoded before all was checked")

    monkeypatch.delenv("LLAMA_CPP", raising=False)
    enriched_run(tmp_path / "run", tiny_tokenizers.tiny_tokenizer("byte_level"), n=3)
    with pytest.raises(OptionError, match="is a folder; pass the file to write"):
        export_gguf(tmp_path / "run", tmp_path, check=decode)
    with pytest.raises(OptionError, match="converter is needed"):
        export_gguf(tmp_path / "run", tmp_path / "model.gguf", check=decode)
    (tmp_path / "convert_hf_to_gguf.py").touch()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "gguf", None)
        with pytest.raises(MissingExtraError, match=r"tasc-lm\[gguf\]"):
            export_gguf(tmp_path / "run", tmp_path / "model.gguf", llama_cpp=tmp_path, check=decode)
    pytest.importorskip("gguf", reason="needs the gguf library")
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtraError, match="pip install llama-cpp-python"):
        export_gguf(tmp_path / "run", tmp_path / "model.gguf", llama_cpp=tmp_path, check=decode)
    assert not list(tmp_path.glob("*.gguf*"))


# a converter that writes a vocabulary of the right tokens, and fails if something can be read from standard input
CONVERTER = """
import sys
from pathlib import Path
import gguf, json, numpy

def main():
    assert sys.stdin.read() == ""
    folder, out = Path(sys.argv[1]), Path(sys.argv[sys.argv.index("--outfile") + 1])
    state = json.loads((folder / "tokenizer.json").read_text())
    tokens = dict(state["model"]["vocab"]) | {one["content"]: one["id"] for one in state["added_tokens"]}
    special = {one["content"] for one in state["added_tokens"] if one["special"]}
    tokens = sorted(tokens, key=tokens.get)
    writer = gguf.GGUFWriter(gguf.fill_templated_filename(str(out), "f16"), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    merges = state["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    eos = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
    writer.add_eos_token_id(tokens.index(eos))
    writer.add_tensor("token_embd.weight", numpy.zeros((len(tokens), 4), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
"""


@pytest.fixture
def answer_waiting():
    """Somebody's "y" on standard input, for whoever asks whether to run code."""
    theirs, ours = os.pipe()
    os.write(ours, b"y\n")
    os.close(ours)
    before = os.dup(0)
    os.dup2(theirs, 0)
    yield
    os.dup2(before, 0)
    os.close(before)
    os.close(theirs)


@pytest.fixture
def converted(tmp_path, answer_waiting):
    pytest.importorskip("gguf", reason="needs the gguf library")
    (tmp_path / "convert_hf_to_gguf.py").write_text(CONVERTER)
    tokenizer = tiny.byte_level_bpe()
    vocabulary = enriched_run(tmp_path / "run", tokenizer, n=3, spare=0)

    def run(name):
        return export_gguf(tmp_path / "run", tmp_path / "out" / name, llama_cpp=tmp_path)

    return run, vocabulary


def test_any_name_will_do_and_the_sidecar_names_what_was_converted(tmp_path, converted):
    run, vocabulary = converted
    (tmp_path / "run" / "chat_template.jinja").write_text("{{ messages }}")
    about = run("a{0}{b}.gguf")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a{0}{b}.gguf", "a{0}{b}.gguf.about.json"]
    assert about == json.loads((tmp_path / "out" / "a{0}{b}.gguf.about.json").read_text())
    assert about["counts"]["rows"] == vocabulary.size
    assert about["files"]["model"]["file"] == "a{0}{b}.gguf"
    assert about["files"]["model"]["sha256"] == sha256(tmp_path / "out" / "a{0}{b}.gguf")
    hashed = about["made_from"]["sha256"]
    assert set(hashed) >= {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert set(hashed) >= {"enriched.json", "model.safetensors", "chat_template.jinja"}
    assert hashed["chat_template.jinja"] == sha256(tmp_path / "run" / "chat_template.jinja")


def test_a_gguf_is_never_without_its_sidecar(tmp_path, converted, monkeypatch):
    run, _ = converted
    seen, replace = [], os.replace

    def watched(source, target):
        replace(source, target)
        seen.append({path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")})

    monkeypatch.setattr(os, "replace", watched)
    run("m.gguf")
    assert seen[-2:] == [{"m.gguf.about.json"}, {"m.gguf", "m.gguf.about.json"}]
    assert not any("m.gguf" in names for names in seen[:-1])


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
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"tasc-lm\[gguf\]"):
        read_gguf(tmp_path / "model.gguf")
