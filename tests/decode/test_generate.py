"""tasc.decode.generate against decoding without cache, batch or padding, and against transformers' own generate."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BambaConfig, FalconMambaConfig, LlamaConfig, MambaConfig, OpenAIGPTConfig

from tasc.decode import generate
from tasc.errors import DataError, ModelError, OptionError
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import ARCHITECTURES, DEVICE, POSITIONS, tiny_model

ROWS = 96
END_IDS = frozenset(range(12))
CASES = [*((name, {}) for name in ARCHITECTURES), ("mistral", {"sliding_window": 6}), ("qwen2", {"tied": True})]

RNG = np.random.default_rng(3)
PROMPTS = [RNG.integers(12, 96, size).tolist() for size in (1, 9, 3, 3, 17, 2, 9, 5, 12, 4, 7)]


def wide_model(architecture: str, **changes: Any) -> Any:
    """Logits far apart: where two are nearly equal, rounding decides, and batches round differently."""
    return tiny_model(architecture, rows=ROWS, initializer_range=0.5, **changes)


@pytest.fixture(scope="module")
def llama() -> Any:
    return wide_model("llama")


def naive(model: Any, prompt: list[int], end_ids: frozenset[int], limit: int) -> tuple[list[int], int, bool]:
    """One row, the whole sequence in every pass: ids, passes, ended."""
    ids: list[int] = []
    for n in range(1, limit + 1):
        with torch.no_grad():
            token = int(model(torch.tensor([prompt + ids], device=DEVICE), use_cache=False).logits[0, -1].argmax())
        if token in end_ids:
            return ids, n, True
        ids.append(token)
    return ids, limit, False


@pytest.mark.parametrize(("architecture", "changes"), CASES, ids=lambda case: str(case))
def test_equals_decoding_without_cache_and_batch(architecture, changes):
    model = wide_model(architecture, **changes)
    expected = [naive(model, prompt, END_IDS, 20) for prompt in PROMPTS]
    assert len({passes for _, passes, _ in expected}) > 2, "rows must end at different passes for a meaningful test"
    for batch_size in (1, 2, 4, 64):
        got = generate(model, PROMPTS, eos_id=END_IDS, max_new_tokens=20, batch_size=batch_size)
        assert list(zip(got.outputs, got.passes, got.ended, strict=True)) == expected


def test_equals_transformers_generate(llama):
    for prompt in PROMPTS[:4]:
        theirs = llama.generate(
            torch.tensor([prompt], device=DEVICE),
            max_new_tokens=15,
            do_sample=False,
            eos_token_id=sorted(END_IDS),
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        ours = generate(llama, [prompt], eos_id=END_IDS, max_new_tokens=15)
        assert ours.outputs[0] == [token for token in theirs if token not in END_IDS]
        assert ours.passes[0] == len(theirs)


def recurrent(config: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    options = dict(vocab_size=ROWS, initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return AutoModelForCausalLM.from_config(config(**options)).to(DEVICE).eval()


OTHERS = {
    "mamba": lambda **options: MambaConfig(hidden_size=32, num_hidden_layers=2, **options),
    "falcon mamba": lambda **options: FalconMambaConfig(hidden_size=32, num_hidden_layers=2, **options),
    "mamba and attention": lambda **options: BambaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, **options,
    ),
    "no cache": lambda **options: OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, **options),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_models_whose_cache_is_not_rolled_back_write_what_transformers_does(name):
    for seed in range(2):
        model = recurrent(OTHERS[name], seed)
        model.generation_config.repetition_penalty = 3.0  # nothing of the model's own settings is followed
        before = model.generation_config
        outputs = {n: generate(model, PROMPTS, eos_id=95, max_new_tokens=12, batch_size=n) for n in (1, 4)}
        assert model.generation_config is before
        model.generation_config.repetition_penalty = 1.0
        for row, prompt in enumerate(PROMPTS):
            ids = torch.tensor([prompt], device=DEVICE)
            theirs = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=95, pad_token_id=0)
            theirs = theirs[0, len(prompt) :].tolist()
            for found in outputs.values():
                assert found.outputs[row] == [token for token in theirs if token != 95]
                assert found.passes[row] == len(theirs)
                assert found.ended[row] == (95 in theirs)
                assert found.ms[row] > found.prefill_ms[row] > 0 or found.passes[row] == 1


def test_order_of_prompts_does_not_matter(llama):
    straight = generate(llama, PROMPTS, eos_id=END_IDS, max_new_tokens=10, batch_size=3)
    backward = generate(llama, PROMPTS[::-1], eos_id=END_IDS, max_new_tokens=10, batch_size=3)
    assert straight.outputs == backward.outputs[::-1]
    assert straight.passes == backward.passes[::-1]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_row_gets_the_positions_its_prompt_leaves(architecture):
    model = wide_model(architecture)
    prompts = [[20] * POSITIONS, [20] * (POSITIONS - 4), [20]]
    got = generate(model, prompts, eos_id=95, max_new_tokens=30, batch_size=3)
    alone = [generate(model, [prompt], eos_id=95, max_new_tokens=30) for prompt in prompts]
    assert got.outputs == [one.outputs[0] for one in alone]
    assert got.passes[:2] == [1, 5]
    assert got.ended[:2] == [False, False]


def test_a_model_may_have_any_number_of_positions(llama, monkeypatch):
    expected = generate(llama, PROMPTS[:2], eos_id=95, max_new_tokens=9).outputs
    monkeypatch.setattr(llama.config, "max_position_embeddings", -1)  # as XLNet says it
    assert generate(llama, PROMPTS[:2], eos_id=95, max_new_tokens=9).outputs == expected


class Scripted(torch.nn.Module):
    """A model that writes what its script says, row by row: the prompt's last id names the row. Records its passes."""

    __module__ = "transformers.scripted"  # only models of transformers are decoded in the loop of our own

    def __init__(self, scripts: dict[int, list[int]], n_ids: int = 50) -> None:
        super().__init__()
        self.scripts, self.n_ids = scripts, n_ids
        self.config = LlamaConfig(vocab_size=n_ids, num_hidden_layers=1)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.batches: list[list[int]] = []

    def forward(self, input_ids: Any, position_ids: Any = None, past_key_values: Any = None, **_: Any) -> Any:
        cache = past_key_values
        if not hasattr(cache, "rows"):
            cache.rows, cache.step = [row[-1] for row in input_ids.tolist()], 0
            cache.select = lambda index, _: setattr(cache, "rows", [cache.rows[i] for i in index.tolist()])
        self.batches.append(list(cache.rows))
        logits = torch.full((len(cache.rows), 1, self.n_ids), -1.0)
        for slot, row in enumerate(cache.rows):
            logits[slot, 0, self.scripts[row][cache.step]] = 1.0
        cache.step += 1
        return SimpleNamespace(logits=logits, past_key_values=cache)


def test_passes_are_those_a_row_took_part_in():
    model = Scripted({10: [30, 0], 11: [31, 32, 33, 0], 12: [0], 13: [34, 35, 36, 37]})
    got = generate(model, [[10], [11], [12], [13]], eos_id=0, max_new_tokens=4, batch_size=4)  # type: ignore[arg-type]
    assert got.outputs == [[30], [31, 32, 33], [], [34, 35, 36, 37]]
    assert got.passes == [2, 4, 1, 4]
    assert got.ended == [True, True, True, False]
    assert model.batches == [[10, 11, 12, 13], [10, 11, 13], [11, 13], [11, 13]], "finished rows leave the batch"
    assert got.passes_per_output == 11 / 4


def test_longest_prompts_first_and_progress():
    model = Scripted({10: [0], 11: [0], 12: [0]})
    seen: list[int] = []
    got = generate(model, [[10], [5, 5, 11], [5, 12]], eos_id=0, max_new_tokens=3, batch_size=2, progress=seen.append)  # type: ignore[arg-type]
    assert model.batches == [[11, 12], [10]]
    assert seen == [2, 1]
    assert len(got.seconds) == 2


@given(st.lists(st.lists(st.integers(1, 49), max_size=6), min_size=1, max_size=9), st.integers(1, 9), st.integers(1, 8))
def test_any_script_comes_back(scripts, batch_size, limit):
    rows = {10 + row: [*ids, *[0] * 9] for row, ids in enumerate(scripts)}
    model = Scripted(rows)
    got = generate(model, [[row] for row in rows], eos_id=0, max_new_tokens=limit, batch_size=batch_size)  # type: ignore[arg-type]
    assert got.outputs == [ids[:limit] for ids in scripts]
    assert got.passes == [min(len(ids) + 1, limit) for ids in scripts]
    assert got.ended == [len(ids) < limit for ids in scripts]
    assert sum(map(len, model.batches)) == sum(got.passes), "no row takes part in a pass that is not counted"


def test_time_is_shared_without_loss(llama):
    got = generate(llama, PROMPTS, eos_id=END_IDS, max_new_tokens=10, batch_size=4)
    assert all(ms > 0 for ms in got.ms)
    assert sum(got.ms) <= 1000 * sum(got.seconds)
    assert got.ms_per_output == pytest.approx(1000 * sum(got.seconds) / len(PROMPTS))


def test_training_mode_comes_back(llama):
    llama.train()
    try:
        generate(llama, [[20]], eos_id=0, max_new_tokens=2)
        assert llama.training
    finally:
        llama.eval()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"max_new_tokens": 0}, OptionError, "max_new_tokens must be at least 1, got 0"),
        ({"batch_size": 0}, OptionError, "batch_size must be at least 1, got 0"),
        ({"eos_id": []}, OptionError, "needs an end token"),
        ({"eos_id": None}, OptionError, "needs an end token"),
        ({"prompts": [[20], [3, ROWS]]}, DataError, "prompt 1 has ids from 3 to 96, the model those from 0 to 95"),
        ({"prompts": [[-1]]}, DataError, "prompt 0 has ids from -1 to -1"),
        ({"prompts": []}, DataError, "at least one prompt"),
        ({"prompts": [[20], []]}, DataError, "prompt 1 has no tokens"),
        ({"prompts": [[20] * 129]}, ModelError, "129 tokens, the model has 128 positions"),
    ],
)
def test_refusals(llama, change, error, says):
    options = {"prompts": [[20]], "eos_id": 0, "max_new_tokens": 4} | change
    with pytest.raises(error, match=says):
        generate(llama, options.pop("prompts"), **options)


def test_a_vocabulary_larger_than_the_model_is_refused(llama):
    fits = EnrichedVocabulary(95, (Ngram((1, 2), (1, 2)),))
    generate(llama, [[20]], eos_id=0, max_new_tokens=1, vocabulary=fits)
    larger = EnrichedVocabulary(96, (Ngram((1, 2), (1, 2)),))
    with pytest.raises(ModelError, match="97 ids, the model 96 rows"):
        generate(llama, [[20]], eos_id=0, max_new_tokens=1, vocabulary=larger)


@pytest.mark.parametrize("broken", [wide_model("llama"), recurrent(OTHERS["mamba"], 0)], ids=["ours", "transformers'"])
def test_meaningless_logits_stop_at_once(broken):
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        generate(broken, [[20]], eos_id=0, max_new_tokens=4)


def test_a_model_that_cannot_generate_is_refused(llama):
    bare = torch.nn.Linear(1, 1)
    bare.config, bare.device = llama.config, llama.device  # type: ignore[assignment]
    with pytest.raises(ModelError, match="Linear has no method 'generate'"):
        generate(bare, [[20]], eos_id=0, max_new_tokens=4)  # type: ignore[arg-type]


def test_encoder_decoder_models_are_refused(llama, monkeypatch):
    monkeypatch.setattr(llama.config, "is_encoder_decoder", True)
    with pytest.raises(ModelError, match="decoder-only"):
        generate(llama, [[20]], eos_id=0, max_new_tokens=4)


def test_models_wrapped_by_peft(llama):
    from peft import LoraConfig, get_peft_model

    wrapped: Any = get_peft_model(wide_model("llama"), LoraConfig(target_modules=["q_proj"]))
    plain = generate(llama, PROMPTS, eos_id=END_IDS, max_new_tokens=10, batch_size=4)
    assert generate(wrapped, PROMPTS, eos_id=END_IDS, max_new_tokens=10, batch_size=4).outputs == plain.outputs
