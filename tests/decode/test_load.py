"""Loading a folder: model, tokenizer, n-grams found by themselves, and what does not belong together."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from tasc.corpus import fingerprint
from tasc.decode import check_vocabulary, device_name, load_model, pick_device
from tasc.errors import FingerprintError, ModelError, OptionError, TascError, TokenizerError
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import tiny_model


def mined(tokenizer: Any) -> EnrichedVocabulary:
    ids = tokenizer("intent: alarm_set, slot fills", add_special_tokens=False)["input_ids"]
    pairs = dict.fromkeys(itertools.pairwise(ids))
    return EnrichedVocabulary(
        len(tokenizer), tuple(Ngram(pair, pair) for pair in pairs), fingerprint=fingerprint(tokenizer)
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tasc train` writes: model, enriched tokenizer, enriched.json, the base tokenizer's files."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny.byte_level_bpe()
    vocabulary = mined(tokenizer)
    tiny_model("llama", rows=vocabulary.size).save_pretrained(folder)
    write_tokenizer(tokenizer, vocabulary, folder)
    return folder


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def test_a_run_folder_brings_its_ngrams(run_folder):
    loaded = load_model(run_folder, device="cpu")
    base = tiny.byte_level_bpe()
    expected = mined(base)
    assert loaded.vocabulary is not None
    assert loaded.vocabulary.expansions == expected.expansions
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    for k, ids in enumerate(expected.expansions):
        assert loaded.tokenizer.decode([expected.base_size + k]) == base.decode(list(ids))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this build of torch has no MKL")
def test_weights_are_laid_out_for_passes_over_a_few_tokens(run_folder):
    head = load_model(run_folder, device="cpu").model.get_output_embeddings()
    assert head.weight.t().is_contiguous()
    assert not head.weight.is_contiguous()


def test_a_model_without_ngrams(copy):
    (copy / "enriched.json").unlink()
    assert load_model(copy, device="cpu").vocabulary is None


def test_the_base_tokenizer_beside_ngrams_is_fine_too(copy):
    tiny.byte_level_bpe().save_pretrained(copy)
    assert load_model(copy, device="cpu").vocabulary is not None


def test_ngrams_of_another_tokenizer_are_refused(copy):
    shutil.rmtree(copy / "base_tokenizer")
    tiny.byte_level_bpe(["quite other texts than those"]).save_pretrained(copy)
    with pytest.raises(FingerprintError, match=r"enriched\.json was made for tokenizer sha256:.* instead of"):
        load_model(copy, device="cpu")


def test_another_enriched_json_is_refused(copy):
    stored = json.loads((copy / "enriched.json").read_text())
    (copy / "enriched.json").write_text(json.dumps(stored | {"fingerprint": "sha256:other"}))
    with pytest.raises(FingerprintError, match="base_tokenizer is sha256:"):
        load_model(copy, device="cpu")


def test_two_ngrams_exchanged_are_noticed(run_folder):
    loaded = load_model(run_folder, device="cpu")
    assert loaded.vocabulary is not None
    first, second, *rest = loaded.vocabulary.ngrams
    exchanged = dataclasses.replace(loaded.vocabulary, ngrams=(second, first, *rest))
    with pytest.raises(FingerprintError, match=f"id {exchanged.base_size} is"):
        check_vocabulary(exchanged, loaded.tokenizer)


def test_a_damaged_enriched_json(copy):
    (copy / "enriched.json").write_text("{")
    with pytest.raises(TascError, match=r"enriched\.json"):
        load_model(copy, device="cpu")


def test_dtype_is_kept_or_chosen(copy):
    model: Any = tiny_model("llama", rows=600)
    model.to(torch.bfloat16).save_pretrained(copy)
    assert load_model(copy, device="cpu").model.dtype == torch.float32
    assert load_model(copy, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["missing/folder/deep", "/no/such/folder", "./none", "no-owner/no-model-of-this-name"])
def test_no_such_model(name):
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_model(tmp_path, copy):
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(tmp_path)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no model could be loaded"):
        load_model(copy)


def test_a_damaged_weights_file(copy):
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="no model could be loaded"):
        load_model(copy)


def test_weights_that_are_missing(copy):
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    kept = {key: value for key, value in weights.items() if key != name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"1 weights are missing .first {name}"):
        load_model(copy)


def test_a_model_without_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_model(copy)


def test_devices(run_folder):
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cuda", "mps", "cpu")
    assert device_name(tiny_model("llama")) == "cpu"
    with pytest.raises(OptionError, match="got 'gpu9'"):
        pick_device("gpu9")
    with pytest.raises(OptionError, match="dtype must be one of"):
        load_model(run_folder, dtype="int3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there():
    with pytest.raises(OptionError, match="'cuda' is not available"):
        pick_device("cuda")
