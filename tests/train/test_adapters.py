"""What learns, and that one plain checkpoint says the same as the model that was trained: every architecture, both ties."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasc.errors import ModelError, OptionError
from tasc.train import add_rows
from tasc.train.adapters import cast_parameters, load_trainable_state, merge, prepare, row_parameters, trainable_state
from tasc.train.surgery import embedding_and_head, is_tied
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import ARCHITECTURES, tiny_model

BASE, NEW = 60, range(60, 63)
VOCABULARY = EnrichedVocabulary(BASE, (Ngram((5, 6), (5, 6)), Ngram((5, 6, 7), (BASE, 7)), Ngram((9, 9), (9, 9))))
IDS = torch.tensor([[3, 4, 60, 5, 61, 6, 62, 7], [8, 62, 61, 60, 9, 10, 11, 12]])

both_ties = pytest.mark.parametrize("tied", [True, False])


def enriched(architecture, tied, *, rows=BASE, dtype=torch.float32):
    model = tiny_model(architecture, rows=rows, tied=tied)
    add_rows(model, VOCABULARY)
    return cast_parameters(model, dtype)


def dressed(model, *, method="lora", train_rows="all"):
    torch.manual_seed(0)
    return prepare(model, method=method, train_rows=train_rows, new_rows=NEW, lora_dropout=0.0)


def steps(learner, n=2, *, autocast=False):
    """Two steps, because LoRA's first matrix has no gradient in the first."""
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=0.05, weight_decay=0.0)
    learner.train()
    for _ in range(n):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = learner(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
    return learner.eval()


@torch.no_grad()
def logits(model):
    return model(IDS).logits


@both_ties
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("method", "train_rows"), [("lora", "all"), ("lora", "new"), ("lora", "none"), ("full", "new")]
)
def test_the_saved_checkpoint_gives_the_logits_of_the_live_model(architecture, tied, method, train_rows, tmp_path):
    base = enriched(architecture, tied)
    untrained = logits(base)
    learner = steps(dressed(base, method=method, train_rows=train_rows))
    live = logits(learner)
    assert not torch.allclose(live, untrained, atol=1e-2)
    merged = merge(learner, dtype=torch.float32)
    merged.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(stock), live, rtol=1e-4, atol=1e-5)
    assert is_tied(stock) == is_tied(merged) == stock.config.tie_word_embeddings == tied


@both_ties
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_with_new_rows_alone_base_rows_stay_bit_equal_and_new_ones_learn(architecture, tied, method):
    model = enriched(architecture, tied, rows=66)
    before = [p.detach().clone() for p in row_parameters(model)]
    merged = merge(steps(dressed(model, method=method, train_rows="new")), dtype=torch.float32)
    after = row_parameters(merged)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        kept = [*range(BASE), *range(63, 66)]
        torch.testing.assert_close(new[kept], old[kept], rtol=0, atol=0)
        assert not torch.equal(new[60:63], old[60:63])


@both_ties
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_all_rows_embedding_and_head_learn_together(architecture, tied):
    model = enriched(architecture, tied)
    before = [p.detach().clone() for p in row_parameters(model)]
    learner = steps(dressed(model))
    for old, new in zip(before, row_parameters(model), strict=True):
        assert not torch.equal(new, old)
    assert is_tied(model) == tied
    assert len(trainable_state(learner)) == len({id(p) for p in learner.parameters() if p.requires_grad})


@both_ties
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("train_rows", ["all", "new"])
def test_a_trained_state_put_into_a_fresh_model_is_the_trained_model(architecture, tied, train_rows):
    trained = steps(dressed(enriched(architecture, tied), train_rows=train_rows))
    fresh = dressed(enriched(architecture, tied), train_rows=train_rows).eval()
    load_trainable_state(fresh, trainable_state(trained))
    torch.testing.assert_close(logits(fresh), logits(trained), rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_reaches_every_projection_and_not_the_head(architecture):
    model = enriched(architecture, tied=False)
    n_projections = sum(type(m).__name__ in ("Linear", "Conv1D") for m in model.modules()) - 1
    learner = dressed(model, train_rows="none")
    adapted = {name.split(".lora_")[0] for name in trainable_state(learner)}
    assert len(adapted) == n_projections
    assert embedding_and_head(model)[1] is model.get_output_embeddings()
    assert not any(name.endswith(("lm_head", "embed_out")) for name in adapted)


@both_ties
@pytest.mark.parametrize("train_rows", ["all", "new"])
def test_a_bfloat16_checkpoint_trains_in_float32_and_is_saved_in_bfloat16(tied, train_rows, tmp_path):
    model = cast_parameters(enriched("llama", tied, dtype=torch.bfloat16), torch.float32)
    base_rows = [p.detach()[:BASE].clone() for p in row_parameters(model)]
    merged = merge(steps(dressed(model, train_rows=train_rows)), dtype=torch.bfloat16)
    merged.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert stock.dtype == torch.bfloat16
    torch.testing.assert_close(logits(stock), logits(merged), rtol=0, atol=0)
    if train_rows == "new":
        for old, new in zip(base_rows, row_parameters(stock), strict=True):
            torch.testing.assert_close(new[:BASE].float(), old, rtol=0, atol=0)


@both_ties
@pytest.mark.parametrize("train_rows", ["all", "new"])
def test_frozen_bfloat16_with_float32_rows_runs_under_autocast(tied, train_rows):
    """What a GPU does: the frozen base stays in bfloat16, what learns is float32."""
    model = enriched("llama", tied, dtype=torch.bfloat16)
    learner = dressed(model, train_rows=train_rows)
    assert {p.dtype for p in learner.parameters() if p.requires_grad} == {torch.float32}
    steps(learner, autocast=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        live = logits(learner)
    merged = merge(learner, dtype=torch.bfloat16)
    torch.testing.assert_close(logits(merged).float(), live.float(), rtol=0.1, atol=0.1)


def test_a_state_of_another_run_is_refused():
    state = trainable_state(dressed(enriched("llama", tied=True)))
    with pytest.raises(ModelError, match="does not fit the model"):
        load_trainable_state(dressed(enriched("llama", tied=True), train_rows="new"), state)


def test_nothing_to_train_is_refused():
    model = enriched("llama", tied=True)
    model.model.layers, model.model.norm = torch.nn.ModuleList(), torch.nn.Identity()
    with pytest.raises(OptionError, match="nothing is left to train"):
        prepare(model, method="full", train_rows="none", new_rows=NEW)
