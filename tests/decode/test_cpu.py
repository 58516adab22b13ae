"""Passes over a few tokens on a CPU: weights that lie otherwise, attention without copies, and the same results."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from drafters import Script
from tasc.decode import cpu, generate, lay_out_for_cpu, speculative
from tasc.decode.cpu import PackedLinear, grouped_attention, with_grouped_attention
from tasc.draft.cost import StepCost
from tiny_models import DEVICE, tiny_model

on_cpu = pytest.mark.skipif(
    DEVICE != "cpu" or not torch.backends.mkl.is_available(), reason="weights are laid out on a CPU, for MKL"
)


can_pack = pytest.mark.skipif(
    DEVICE != "cpu" or not PackedLinear.can_be(torch.nn.Linear(1, 1)), reason="weights are packed on x86, by oneDNN"
)


@pytest.fixture
def all_are_large(monkeypatch):
    monkeypatch.setattr(cpu, "PACKED_FROM", 1)


def packed(*, bias=True):
    """A layer that is packed, and one of the same weights that is not."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 20, bias=bias)
    return lay_out_for_cpu(copy.deepcopy(layer)), layer


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


@can_pack
def test_large_layers_are_packed_and_multiply_by_that(all_are_large, monkeypatch):
    model = tiny_model("llama")
    other = lay_out_for_cpu(copy.deepcopy(model))
    layers = linear_layers(other)
    assert layers
    assert all(type(layer) is PackedLinear for layer in layers)
    assert all(torch.equal(other.state_dict()[name], weight) for name, weight in model.state_dict().items())
    ids = torch.arange(12).view(2, 6)
    with torch.inference_mode():
        expected = model(ids).logits
        torch.testing.assert_close(other(ids).logits, expected)
        monkeypatch.setattr(torch.nn.functional, "linear", None)  # what is left to itself is not called
        monkeypatch.setattr(cpu, "linear", None)
        torch.testing.assert_close(other(ids).logits, expected)


@can_pack
def test_the_default_curve_is_that_of_how_the_weights_lie(all_are_large, monkeypatch):
    model = tiny_model("llama")

    def cost_of(model):
        return speculative(Script({}, vocab_size=8)).control(model).cost.to_json()

    assert cost_of(model) == StepCost.default("cpu", packed=False).to_json()
    assert cost_of(copy.deepcopy(model).to(torch.bfloat16)) == StepCost.default("cpu").to_json()
    assert cost_of(lay_out_for_cpu(copy.deepcopy(model))) == StepCost.default("cpu").to_json()
    monkeypatch.setattr(cpu, "PACKED_FROM", 1 << 19)
    assert cost_of(model) == StepCost.default("cpu").to_json(), "small layers make no difference"
    rare = [[0.4] * 10]
    assert StepCost.default("cpu", packed=False).best_width(rare) < StepCost.default("cpu").best_width(rare)


@can_pack
def test_a_model_with_too_many_weights_keeps_one_copy_of_them(all_are_large, monkeypatch):
    model = tiny_model("llama")
    n_weights = sum(layer.weight.numel() for layer in linear_layers(model))
    monkeypatch.setattr(cpu, "MOST_PACKED", n_weights - 1)
    laid_out = lay_out_for_cpu(copy.deepcopy(model))
    assert all(type(layer) is torch.nn.Linear and layer.weight.t().is_contiguous() for layer in linear_layers(laid_out))
    monkeypatch.setattr(cpu, "MOST_PACKED", n_weights)
    assert all(type(layer) is PackedLinear for layer in linear_layers(lay_out_for_cpu(model)))


@can_pack
@pytest.mark.parametrize("bias", [True, False])
def test_weights_that_change_count(all_are_large, bias):
    laid_out, layer = packed(bias=bias)
    x = torch.randn(3, 12)

    def same() -> bool:
        return torch.allclose(laid_out(x), layer(x), atol=1e-5)

    with torch.no_grad():
        assert same()
        laid_out.weight.mul_(2)
        assert not same()
        layer.weight.mul_(2)
        assert same()
        layer.weight.data = torch.randn(20, 12)
        laid_out.weight.data = layer.weight.data.clone()
        assert same()
        lay_out_for_cpu(laid_out)
        assert same()
        laid_out.load_state_dict({name: weight + 1 for name, weight in layer.state_dict().items()})
        assert not same()


@can_pack
def test_gradients_and_other_types_go_the_usual_way(all_are_large):
    layer, other = packed()
    x = torch.randn(3, 12)
    for one in (layer, other):
        one(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, other.weight.grad)
    with torch.inference_mode():
        assert torch.equal(layer.to(torch.bfloat16)(x.bfloat16()), other.to(torch.bfloat16)(x.bfloat16()))
        assert torch.equal(layer.float()(x), other.float()(x)), "not the copy of the weights before they were rounded"


@can_pack
def test_copies_of_a_layer_are_the_layer_without_the_packed_copy(all_are_large):
    layer, other = packed()
    x = torch.randn(3, 12)
    made = copy.deepcopy(layer)
    with torch.inference_mode():
        assert torch.equal(made(x), other(x))
        lay_out_for_cpu(made)
        torch.testing.assert_close(made(x), other(x))
    assert made.packed is not None
    assert copy.copy(made.packed) is None, "what pickle does"


@on_cpu
def test_tied_weights_stay_tied():
    model = tiny_model("qwen2", tied=True)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding is head
    lay_out_for_cpu(model)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert embedding.data_ptr() == head.data_ptr()


@pytest.mark.parametrize("packed_from", [1, cpu.PACKED_FROM])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_outputs_are_those_of_the_other_layout(family, packed_from, monkeypatch):
    monkeypatch.setattr(cpu, "PACKED_FROM", packed_from)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9]]
    model = tiny_model(family)
    plain = generate(model, prompts, max_new_tokens=12, eos_id=1).outputs
    assert generate(lay_out_for_cpu(model), prompts, max_new_tokens=12, eos_id=1).outputs == plain


@pytest.mark.parametrize("packed_from", [1, cpu.PACKED_FROM])
def test_a_saved_model_is_the_one_that_was_laid_out(tmp_path, packed_from, monkeypatch):
    monkeypatch.setattr(cpu, "PACKED_FROM", packed_from)
    model = lay_out_for_cpu(tiny_model("llama"))
    model.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in model.state_dict().items())


def test_other_types_are_left_alone(all_are_large):
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
