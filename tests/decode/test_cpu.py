"""Passes over a few tokens on a CPU: weights that lie otherwise, attention without copies, and the same results."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tasc.decode import generate, lay_out_for_cpu
from tasc.decode.cpu import grouped_attention, with_grouped_attention
from tiny_models import DEVICE, tiny_model

on_cpu = pytest.mark.skipif(
    DEVICE != "cpu" or not torch.backends.mkl.is_available(), reason="weights are laid out on a CPU, for MKL"
)


def linear_layers(model):
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]


@on_cpu
def test_weights_lie_input_first_and_are_the_same():
    model = tiny_model("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert lay_out_for_cpu(model) is model
    assert linear_layers(model)
    assert all(layer.weight.t().is_contiguous() for layer in linear_layers(model))
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@on_cpu
def test_tied_weights_stay_tied():
    model = tiny_model("qwen2", tied=True)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding is head
    lay_out_for_cpu(model)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert embedding.data_ptr() == head.data_ptr()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_outputs_are_those_of_the_other_layout(family):
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9]]
    model = tiny_model(family)
    plain = generate(model, prompts, max_new_tokens=12, eos_id=1).outputs
    assert generate(lay_out_for_cpu(model), prompts, max_new_tokens=12, eos_id=1).outputs == plain


def test_a_saved_model_is_the_one_that_was_laid_out(tmp_path):
    model = lay_out_for_cpu(tiny_model("llama"))
    model.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in model.state_dict().items())


def test_other_types_are_left_alone():
    model = tiny_model("llama").to(torch.bfloat16)
    lay_out_for_cpu(model)
    assert all(layer.weight.is_contiguous() for layer in linear_layers(model))


class Grouped(torch.nn.Module):
    """What transformers' attention asks of a layer: 4 heads, 2 of which share keys and values."""

    num_key_value_groups, is_causal, training = 2, True, False


@pytest.mark.parametrize("n_tokens", [1, 5])
@pytest.mark.parametrize("masked", [True, False])
def test_grouped_attention_is_that_of_transformers(n_tokens, masked):
    torch.manual_seed(0)
    query = torch.randn(3, 4, n_tokens, 8)
    key, value = torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8)
    mask = torch.randn(3, 1, n_tokens, 7) if masked else None
    options = {"scaling": 0.3, "is_causal": False}
    found, _ = grouped_attention(Grouped(), query, key, value, mask, **options)
    stock, _ = sdpa_attention_forward(Grouped(), query, key, value, mask, **options)
    torch.testing.assert_close(found, stock)


def test_a_model_has_grouped_attention_while_a_pass_lasts():
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    with with_grouped_attention(), with_grouped_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is grouped_attention
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    with pytest.raises(ZeroDivisionError), with_grouped_attention():
        _ = 1 / 0
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward


def test_an_attention_of_somebody_else_stays(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", print)
    with with_grouped_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is print
