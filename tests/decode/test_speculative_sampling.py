"""Sampling with drafts against the exact distribution."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from drafters import SHAPES
from hf_drafts import CHANGES, GREEDY, PROMPTS, eager_to_draft, one, oracle, padded, wide_model
from tasc.decode._choice import HFChoice
from tiny_models import DEVICE, tiny_model


@pytest.fixture(scope="module")
def llama() -> Any:
    return wide_model("llama")


@pytest.fixture(params=["cpu", "as on a GPU"])
def ahead(request, monkeypatch) -> bool:
    """On a GPU places are scored and criteria asked before the host looks at any: the same must come out."""
    if request.param == "cpu":
        return False
    init = HFChoice.__init__

    def ahead_of_the_host(self: HFChoice, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.ahead = self.ask_ahead = True

    monkeypatch.setattr(HFChoice, "__init__", ahead_of_the_host)
    return True


def exact_distribution(
    model: Any, prompt: list[int], n: int, eos_id: int, process: Any
) -> dict[tuple[int, ...], float]:
    """Probability of every output of at most n ids."""
    chances: dict[tuple[int, ...], float] = {}
    unfinished: dict[tuple[int, ...], float] = {(): 1.0}
    for place in range(n):
        longer: dict[tuple[int, ...], float] = {}
        for ids, chance in unfinished.items():
            full = torch.tensor([[*prompt, *ids]], device=DEVICE)
            with torch.no_grad():
                scores = process(full, model(full).logits[:, -1].float())
            for token, p in enumerate(torch.softmax(scores, dim=-1)[0].tolist()):
                target = chances if token == eos_id or place == n - 1 else longer
                target[(*ids, token)] = target.get((*ids, token), 0.0) + chance * p
        unfinished = longer
    return chances


SAMPLING = {
    "plain": {},
    "temperature and top-k": dict(temperature=0.7, top_k=4),
    "top-p": dict(top_p=0.8),
    "repetition penalty": dict(repetition_penalty=1.5, temperature=1.2),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("drafts", ["right", "random"])
@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_keeps_the_distribution(name, drafts, shape, ahead):
    n_ids, n_new, n_samples, eos_id = 5, 3, 4000, 4
    model = tiny_model("llama", rows=n_ids, initializer_range=0.3, seed=3)
    prompt = [1, 2, 3]
    options = dict(do_sample=True, top_k=0, max_new_tokens=n_new, eos_token_id=eos_id, pad_token_id=0) | SAMPLING[name]
    seen: list[Any] = []

    def note(*_: Any, logits_processor: Any, **__: Any) -> torch.Tensor:
        seen.append(logits_processor)
        return torch.zeros(1, 1, dtype=torch.int64, device=DEVICE)

    model.generate(**one(prompt), custom_generate=lambda model, input_ids, **rest: note(**rest), **options)
    chances = exact_distribution(model, prompt, n_new, eos_id, seen[0])
    assert sum(chances.values()) == pytest.approx(1)
    likely = max(chances, key=chances.__getitem__)
    rng = np.random.default_rng(0)
    table = (lambda _: likely) if drafts == "right" else (lambda _: rng.integers(0, n_ids, n_new).tolist())
    drafting = eager_to_draft(SHAPES[shape](table, vocab_size=n_ids))
    torch.manual_seed(1 + ahead)
    counts: dict[tuple[int, ...], int] = {}
    accepted = 0
    for _ in range(n_samples // 500):
        out = model.generate(**one(prompt), num_return_sequences=500, custom_generate=drafting, **options)
        accepted += sum(request.accepted for request in drafting.requests)
        for line in out[:, len(prompt) :].tolist():
            ids = tuple(line[: line.index(eos_id) + 1] if eos_id in line else line)
            counts[ids] = counts.get(ids, 0) + 1
    assert accepted > n_samples / 20
    assert set(counts) <= {ids for ids, chance in chances.items() if chance > 0}
    cells = sorted((chance, counts.get(ids, 0)) for ids, chance in chances.items() if chance > 0)
    # rare outputs together, so that each cell has enough expected counts
    rare = [cell for cell in cells if cell[0] * n_samples < 8]
    frequent = [cell for cell in cells if cell[0] * n_samples >= 8]
    merged = frequent + ([tuple(map(sum, zip(*rare, strict=True)))] if sum(c for c, _ in rare) * n_samples >= 8 else [])
    expected = np.array([chance for chance, _ in merged])
    found = np.array([count for _, count in merged], float)
    assert chisquare(found, expected / expected.sum() * found.sum()).pvalue > 1e-3


def test_a_wrong_acceptance_rule_would_be_found_by_the_test_above():
    """Accepting every draft shifts the counts by far more than the test allows."""
    found, expected = np.array([4000.0, 0.0]), np.array([3700.0, 300.0])
    assert chisquare(found, expected).pvalue < 1e-20


@pytest.mark.parametrize("shape", SHAPES)
def test_sampled_rows_of_a_batch_do_not_depend_on_each_other(llama, shape):
    """With one allowed id per place there is only one sample: rows at different paces must find it."""
    right = oracle(llama, PROMPTS)
    options = GREEDY | dict(do_sample=True, top_k=1)
    plain = llama.generate(**padded(PROMPTS), **GREEDY)
    for change in CHANGES.values():
        drafting = eager_to_draft(SHAPES[shape](right.table, change))
        assert llama.generate(**padded(PROMPTS), custom_generate=drafting, **options).tolist() == plain.tolist()
