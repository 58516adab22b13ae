"""GGUFs by llama.cpp's own converter, run by llama.cpp. Skipped where either is absent; building it takes some 20 minutes:

pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xzf llama_cpp_python-0.3.36.tar.gz
pip install llama_cpp_python-0.3.36.tar.gz 'tasc-lm[gguf,dev]'
LLAMA_CPP=llama_cpp_python-0.3.36 python -m pytest tests/export/test_gguf_llama_cpp.py
"""

import json

import numpy as np
import pytest
from tokenizers import pre_tokenizers

import tiny
import tiny_tokenizers
from ggufs import converter, enriched_run, llama_3
from tasc.corpus import Row, load_tokenizer, make_template
from tasc.decode import generate, load_model
from tasc.errors import ModelError, OptionError, TokenizerError
from tasc.export import export_gguf
from tasc.export.gguf import Check, read_gguf, refusal
from tasc.export.gguf.proof import TokenType
from tasc.export.gguf.running import check_ngrams, opened
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

pytestmark = pytest.mark.slow
LIMIT = 24
PROMPTS = [
    *(f"{text} and {n}" for n, text in enumerate(tiny.TEXTS)),
    *tiny_tokenizers.TEXTS,
    "<|im_start|>user\nplay the news<|im_end|>\n",
    "  two  spaces,\ttabs\n\n\nand 12345 lines don't I'LL ",
]


def gpt_2():
    return tiny.byte_level_bpe(tiny_tokenizers.TEXTS)


# each with the name that llama.cpp has for how the tokenizer splits text
MODELS = {
    "llama": ("llama", tiny_tokenizers.byte_level, "dbrx"),
    "llama_3": ("llama", llama_3, "llama-bpe"),
    "qwen3": ("qwen3", gpt_2, "gpt-2"),
    "mistral": ("mistral", gpt_2, "gpt-2"),
}


@pytest.fixture(scope="module")
def llama_cpp():
    place = converter()
    pytest.importorskip("gguf", reason="needs the gguf library")
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
    return place


def reference(folder, n=None, **changes) -> Check:
    loaded = load_model(folder, device="cpu", dtype="float32")
    template = make_template(loaded.tokenizer, "plain")
    rows = [Row(text, "") for text in PROMPTS]
    ids = template.encode_prompts(rows)
    done = generate(loaded.model, ids[:n], eos_id=template.eos_id, max_new_tokens=LIMIT, vocabulary=loaded.vocabulary)
    texts = [template.render_prompt(row) for row in rows]
    known = dict(outputs=done.outputs, end_ids={template.eos_id}, max_new_tokens=LIMIT, add_bos=bool(template.prefix))
    return Check(texts, ids, **(known | changes))


@pytest.mark.parametrize(("architecture", "make", "pre"), MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("tied", [False, True])
def test_the_same_ids_as_transformers(tmp_path, llama_cpp, architecture, make, pre, tied):
    vocabulary = enriched_run(tmp_path, make(), architecture=architecture, tied=tied)
    check = reference(tmp_path)
    emitted = np.concatenate([np.asarray(ids, np.int64) for ids in check.outputs])
    # with tied matrices and random weights a model only repeats what it read last
    assert tied or (emitted >= vocabulary.base_size).any()
    about = export_gguf(tmp_path, tmp_path / "m.gguf", llama_cpp=llama_cpp, outtype="f32", pre=pre, check=check)
    found = about["counts"]["check"]
    assert found["outputs"]["same"] == found["outputs"]["prompts"] == found["prompts"] == len(PROMPTS)
    assert found["ngram_texts"] == 5 * len(vocabulary)
    assert about == json.loads((tmp_path / "m.gguf.about.json").read_text())
    written = read_gguf(tmp_path / "m.gguf")
    assert written.pre == pre
    assert written.rows == vocabulary.size + 3
    kinds = written.types[vocabulary.base_size :]
    assert kinds == [TokenType.NORMAL] * len(vocabulary) + [TokenType.UNUSED] * 3


def test_a_model_without_ngrams(tmp_path, llama_cpp):
    tokenizer = gpt_2()
    enriched_run(tmp_path, tokenizer, n=0)
    (tmp_path / "enriched.json").unlink()
    about = export_gguf(
        tmp_path, tmp_path / "m.gguf", llama_cpp=llama_cpp, outtype="f32", pre="gpt-2", check=reference(tmp_path)
    )
    assert about["counts"]["ngrams"] == 0
    assert about["tokenizer"]["fingerprint"] == about["tokenizer"]["base_fingerprint"]
    assert about["counts"]["check"]["outputs"]["differing"] == []


def test_an_unknown_tokenizer_needs_a_name(tmp_path, llama_cpp):
    enriched_run(tmp_path / "run", gpt_2())
    with pytest.raises(
        TokenizerError, match=r"by its hash; it splits text as llama.cpp's gpt-2 does: pass --pre gpt-2"
    ):
        export_gguf(tmp_path / "run", tmp_path / "out" / "m.gguf", llama_cpp=llama_cpp)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wrong_name_is_found_by_llama_cpp(tmp_path, llama_cpp):
    tokenizer = gpt_2()
    split = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.backend_tokenizer.pre_tokenizer = split
    enriched_run(tmp_path / "run", tokenizer)
    options = dict(llama_cpp=llama_cpp, pre="gpt-2")
    with pytest.raises(OptionError, match="let llama"):
        export_gguf(tmp_path / "run", tmp_path / "m.gguf", **options)
    with pytest.raises(TokenizerError, match="prompts otherwise than the tokenizer, the first"):
        export_gguf(tmp_path / "run", tmp_path / "m.gguf", check=reference(tmp_path / "run", 1), **options)
    assert not (tmp_path / "m.gguf").exists()


def test_other_outputs_are_found(tmp_path, llama_cpp):
    enriched_run(tmp_path / "run", gpt_2())
    check = reference(tmp_path / "run")
    outputs = [list(ids) for ids in check.outputs]
    outputs[3][2] += 1
    wrong = Check(check.texts, check.ids, outputs=outputs, end_ids=check.end_ids, max_new_tokens=LIMIT)
    options = dict(llama_cpp=llama_cpp, pre="gpt-2", check=wrong)
    with pytest.raises(ModelError, match=r"1 of .* outputs differ .* row 3 after 2 tokens"):
        export_gguf(tmp_path / "run", tmp_path / "m.gguf", outtype="f32", **options)
    about = export_gguf(tmp_path / "run", tmp_path / "m.gguf", outtype="f16", **options)
    assert {"row": 3, "position": 2} in about["counts"]["check"]["outputs"]["differing"]


def test_a_checkpoint_that_cannot_be_converted(tmp_path, llama_cpp):
    enriched_run(tmp_path / "run", gpt_2())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(ModelError, match="Model NoSuchModel is not supported"):
        export_gguf(tmp_path / "run", tmp_path / "m.gguf", llama_cpp=llama_cpp, pre="gpt-2")


def test_llama_cpp_ends_at_what_the_refusal_names(tmp_path, llama_cpp, monkeypatch):
    """Why an n-gram that spells `</s>` is refused, and that the check with llama.cpp would find one of another name."""
    monkeypatch.setattr(refusal, "_SPECIAL_TEXTS", frozenset())
    tokenizer = tiny.byte_level_bpe(["</ s> </ s> the end"] * 3, vocab_size=270)
    ids = tuple(tokenizer.encode("</s>"))
    vocabulary = EnrichedVocabulary(len(tokenizer), (Ngram(ids, ids, text="</s>"),))
    enriched_run(tmp_path, tokenizer, vocabulary=vocabulary)
    export_gguf(tmp_path, tmp_path / "m.gguf", llama_cpp=llama_cpp, pre="gpt-2")
    with opened(tmp_path / "m.gguf", n_ctx=8) as engine, pytest.raises(TokenizerError, match="special token"):
        check_ngrams(engine, vocabulary)


@pytest.mark.parametrize(("name", "split"), [("qwen2.5", "qwen2"), ("smollm2", "smollm"), ("gpt2", "gpt-2")])
def test_real_tokenizers(tmp_path, llama_cpp, shared, name, split):
    """llama.cpp knows them by their hash, with n-grams too."""
    architecture = "qwen2" if name == "qwen2.5" else "llama"
    tokenizer = load_tokenizer(shared / "tokenizers" / name)
    vocabulary = enriched_run(tmp_path, tokenizer, architecture=architecture, n=12)
    about = export_gguf(tmp_path, tmp_path / "m.gguf", llama_cpp=llama_cpp, outtype="f32", check=reference(tmp_path, 4))
    assert about["counts"]["pre"] == split
    assert about["counts"]["ngrams"] == len(vocabulary) == 12
