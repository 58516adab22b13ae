"""What only a GPU can show. The other tests of decoding run there, too: `TASC_TEST_DEVICE=cuda pytest tests/decode`."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from drafters import SHAPES, Script, wrong_at
from hf_drafts import CHANGES, GREEDY, PROMPTS, eager_to_draft, one, oracle, padded, wide_model
from tasc.decode import generate, load_model
from tasc.decode.profile import profile
from tasc.draft.cost import StepCost

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def llama() -> Any:
    return wide_model("llama").to("cuda")


def on_gpu(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to("cuda") for name, tensor in inputs.items()}


def waits(run: Callable[[], Any]) -> int:
    """How often the host waits for the device during a call."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"do_sample": True, "top_k": 1}], ids=str)
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["one row", "rows"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_host_waits_per_pass_and_not_per_drafted_token(llama, shape, prompts, options):
    """The same passes with drafts of two tokens and of ten, none of them right."""
    table = {tuple(prompt): [50] * 40 for prompt in prompts}
    plain = llama.generate(**on_gpu(padded(prompts)), **GREEDY | options)
    found = {}
    for longest in (2, 10):
        drafting = eager_to_draft(SHAPES[shape](table, wrong_at(lambda place: True), vocab_size=12), max_draft=longest)

        def run(drafting: Any = drafting) -> None:
            out = llama.generate(**on_gpu(padded(prompts)), custom_generate=drafting, **GREEDY | options)
            assert out.tolist() == plain.tolist()

        run()
        found[longest] = waits(run), max(r.passes for r in drafting.requests), sum(r.drafted for r in drafting.requests)
    assert found[2][1] == found[10][1], "the same passes"
    assert found[2][2] * 3 < found[10][2], "with many more drafted tokens"
    assert found[10][0] == found[2][0]


def test_waits_are_counted(llama):
    assert waits(lambda: torch.ones(3, device="cuda").sum().item()) == 1


def test_generate_equals_the_cpu(llama):
    cpu = wide_model("llama").to("cpu")
    drafter = oracle(wide_model("llama"), PROMPTS, CHANGES["later wrong"])
    for batch_size in (1, 3, 5):
        expected = generate(cpu, PROMPTS, eos_id=[1, 2], max_new_tokens=30, batch_size=batch_size)
        for drafting in (None, eager_to_draft(drafter)):
            got = generate(llama, PROMPTS, eos_id=[1, 2], max_new_tokens=30, batch_size=batch_size, drafter=drafting)
            assert got.outputs == expected.outputs
            assert (sum(got.passes) < sum(expected.passes)) == (drafting is not None)


def test_bfloat16_keeps_nearly_all_outputs(llama):
    """Rounding may decide between two close logits; most rows have none."""
    model = wide_model("llama").to("cuda", torch.bfloat16)
    same = 0
    for prompt in PROMPTS:
        plain = model.generate(**on_gpu(one(prompt)), **GREEDY)
        drafting = eager_to_draft(Script({tuple(prompt): plain[0, len(prompt) :].tolist()}))
        got = model.generate(**on_gpu(one(prompt)), custom_generate=drafting, **GREEDY)
        assert drafting.requests[0].accepted > 0
        same += got.tolist() == plain.tolist()
    assert same >= len(PROMPTS) - 1


def test_the_profile_names_the_device(llama, tmp_path):
    cost = profile(llama, tokens=(1, 4), batch_sizes=(1, 4), contexts=(8,), repeats=3)
    assert cost.about["device"] == f"cuda ({torch.cuda.get_device_name()})"
    cost.save(tmp_path / "cost.json")
    assert StepCost.load(tmp_path / "cost.json").about == cost.about


def test_models_are_loaded_onto_the_gpu_in_their_own_precision(tmp_path):
    from tiny import byte_level_bpe

    tokenizer = byte_level_bpe()
    model = wide_model("qwen2").to("cpu", torch.bfloat16)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.model.device.type, loaded.model.dtype) == ("cuda", torch.bfloat16)
    assert load_model(tmp_path, device="cpu").model.dtype == torch.float32
