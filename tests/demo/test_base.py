import filecmp
import json

from tasc.corpus import load_tokenizer, make_template
from tasc.demo import BASE_FOLDER, copy_base, load_base, make_splits


def test_the_shipped_model_is_small_and_safe():
    assert sum(file.stat().st_size for file in BASE_FOLDER.iterdir()) < 8_000_000
    assert {file.suffix for file in BASE_FOLDER.iterdir()} <= {".json", ".safetensors"}


def test_it_loads_as_a_qwen2_model_in_float32():
    model, tokenizer = load_base()
    assert model.config.model_type == "qwen2"
    assert str(model.dtype) == "torch.float32"
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().num_embeddings
    facts = json.loads((BASE_FOLDER / "base.json").read_text())
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())


def test_outputs_take_some_twenty_tokens_and_decode_to_themselves():
    tokenizer = load_tokenizer(BASE_FOLDER)
    template = make_template(tokenizer)
    assert template.name == "plain"
    completions = make_splits(0, train=1)["test"].completions
    encoded = template.encode_completions(completions)
    assert 20 <= sum(map(len, encoded)) / len(encoded) <= 30
    assert tokenizer.batch_decode(encoded) == completions


def test_a_copy_is_the_same(tmp_path):
    folder = copy_base(tmp_path / "a" / "base")
    assert filecmp.cmpfiles(BASE_FOLDER, folder, [file.name for file in BASE_FOLDER.iterdir()], shallow=False)[1:] == (
        [],
        [],
    )
