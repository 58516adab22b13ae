"""Tiny decoder-only models with random weights, made in memory, and a tiny task: what `tasc.train` is tested on."""

import os

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from tasc.corpus import Row, Tasks

WIDTH, POSITIONS = 16, 128
DEVICE = os.environ.get("TASC_TEST_DEVICE", "cpu")  # where the models of the tests lie, e.g. "cuda"
_COMMON = dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=WIDTH, intermediate_size=32)
_GROUPED = _COMMON | dict(num_key_value_heads=1)

ARCHITECTURES: dict[str, tuple[type[PretrainedConfig], dict]] = {
    "llama": (LlamaConfig, _GROUPED),
    "qwen2": (Qwen2Config, _GROUPED),
    "qwen3": (Qwen3Config, _GROUPED | dict(head_dim=8)),
    "mistral": (MistralConfig, _GROUPED),
    "gpt2": (GPT2Config, dict(n_embd=WIDTH, n_layer=2, n_head=2)),  # its projections are Conv1D
    "gpt_neox": (GPTNeoXConfig, _COMMON),
    "phi": (PhiConfig, _COMMON),  # its head has a bias
    "gemma": (GemmaConfig, _GROUPED | dict(head_dim=8)),  # its embedding scales what it looks up
}
SIX = tuple(ARCHITECTURES)[:6]


def tiny_model(architecture: str, *, rows: int = 64, tied: bool = False, seed: int = 0, **changes) -> PreTrainedModel:
    """A model of some thousand parameters whose matrices have `rows` rows; `changes` go into its config."""
    config_class, sizes = ARCHITECTURES[architecture]
    positions = "n_positions" if architecture == "gpt2" else "max_position_embeddings"
    special = dict(bos_token_id=0, eos_token_id=1, pad_token_id=None)
    config = config_class(
        vocab_size=rows, tie_word_embeddings=tied, **{positions: POSITIONS} | special | sizes | changes
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, so that a lost one shows
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval().to(DEVICE)


ROOMS = ("kitchen", "bedroom", "attic", "hall")


def make_tasks(n: int, seed: int = 0) -> Tasks:
    """Rows such as `set the attic to 3` -> `intent: dim, slots: {attic: 3}`."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        room, level = ROOMS[rng.integers(len(ROOMS))], int(rng.integers(10))
        rows.append(Row(f"set the {room} to {level}", f"intent: dim, slots: {{{room}: {level}}}"))
    return Tasks(tuple(rows), "made")
