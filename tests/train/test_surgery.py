"""Rows for new tokens: where they go, what they begin with, what stays as it was."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from tasc.errors import ModelError, OptionError
from tasc.train import add_rows
from tasc.train.surgery import embedding_and_head, is_tied, weights
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import ARCHITECTURES, SIX, tiny_model

BASE = 60
NGRAMS = (Ngram((5, 6), (5, 6)), Ngram((5, 6, 7), (BASE, 7)), Ngram((9, 9, 9, 9), (9, 9, 9, 9)))
VOCABULARY = EnrichedVocabulary(BASE, NGRAMS)

both_ties = pytest.mark.parametrize("tied", [True, False])


def rows_of(model):
    embedding, head = embedding_and_head(model)
    return embedding.weight.detach().clone(), head.weight.detach().clone()


@both_ties
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [BASE, BASE + 1, 64], ids=["none-spare", "one-spare", "all-spare"])
def test_rows_config_and_tie_afterwards(architecture, tied, rows):
    model = tiny_model(architecture, rows=rows, tied=tied)
    before = rows_of(model)
    report = add_rows(model, VOCABULARY)
    after = rows_of(model)
    expected = max(rows, BASE + 3)
    assert model.config.vocab_size == after[0].shape[0] == after[1].shape[0] == expected
    assert (report.rows_before, report.rows_after, report.spare_used) == (rows, expected, min(3, rows - BASE))
    assert report.added == 3
    assert report.tied == is_tied(model) == tied
    assert report.head_bias == (architecture == "phi")
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[:BASE], old[:BASE], rtol=0, atol=0)
        torch.testing.assert_close(new[BASE + 3 :], old[BASE + 3 :], rtol=0, atol=0)


def test_a_padded_checkpoint_never_shrinks():
    model = tiny_model("qwen2", rows=512)
    assert add_rows(model, VOCABULARY).rows_after == model.config.vocab_size == 512


@both_ties
@pytest.mark.parametrize("architecture", SIX)
def test_mean_is_the_mean_of_the_constituents_on_both_sides(architecture, tied):
    model = tiny_model(architecture, rows=BASE, tied=tied)
    before = rows_of(model)
    add_rows(model, VOCABULARY, init="mean")
    for old, new in zip(before, rows_of(model), strict=True):
        for k, ids in enumerate(VOCABULARY.expansions):
            torch.testing.assert_close(new[BASE + k], old[list(ids)].mean(0))


def test_exp_weighs_input_to_the_last_and_head_to_the_first_constituent():
    model = tiny_model("llama", rows=BASE)
    embedding, head = rows_of(model)
    add_rows(model, VOCABULARY, init="exp")
    new_embedding, new_head = rows_of(model)
    heavy, light = (
        torch.tensor([1.0, torch.e**2]) / (1 + torch.e**2),
        torch.tensor([torch.e**2, 1.0]) / (1 + torch.e**2),
    )
    torch.testing.assert_close(new_embedding[BASE], heavy @ embedding[[5, 6]])
    torch.testing.assert_close(new_head[BASE], light @ head[[5, 6]])


def test_ends_takes_the_last_input_row_and_the_first_head_row():
    model = tiny_model("llama", rows=BASE)
    embedding, head = rows_of(model)
    add_rows(model, VOCABULARY, init="ends")
    new_embedding, new_head = rows_of(model)
    torch.testing.assert_close(new_embedding[BASE + 1], embedding[7], rtol=0, atol=0)
    torch.testing.assert_close(new_head[BASE + 1], head[5], rtol=0, atol=0)


def test_a_tied_row_is_the_mean_of_what_both_sides_would_get():
    model = tiny_model("llama", rows=BASE, tied=True)
    before, _ = rows_of(model)
    add_rows(model, VOCABULARY, init="ends")
    torch.testing.assert_close(rows_of(model)[0][BASE + 1], (before[5] + before[7]) / 2)


def test_the_bias_of_a_head_is_initialised_like_its_rows():
    model = tiny_model("phi", rows=BASE)
    before = model.get_output_embeddings().bias.detach().clone()
    add_rows(model, VOCABULARY, init="mean")
    bias = model.get_output_embeddings().bias
    torch.testing.assert_close(bias[BASE + 1], before[[5, 6, 7]].mean())
    torch.testing.assert_close(bias[:BASE], before, rtol=0, atol=0)


@pytest.mark.parametrize("init", ["mean", "exp", "ends", "first"])
@pytest.mark.parametrize("side", ["input", "head"])
@pytest.mark.parametrize("n", [2, 3, 16])
def test_weights_are_a_distribution(init, side, n):
    found = weights(n, side, init)
    assert found.shape == (n,)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_stock_generation_still_gives_the_same_base_tokens():
    model = tiny_model("qwen2", rows=BASE)
    prompt = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        before = model(prompt).logits
        add_rows(model, VOCABULARY)
        after = model(prompt).logits
    torch.testing.assert_close(after[..., :BASE], before)


def test_a_model_with_too_few_rows_is_refused():
    with pytest.raises(ModelError, match="ids up to 59 but the model only 50 rows"):
        add_rows(tiny_model("llama", rows=50), VOCABULARY)


def test_an_encoder_decoder_is_refused():
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    with pytest.raises(ModelError, match="decoder-only"):
        add_rows(T5ForConditionalGeneration(config), VOCABULARY)  # type: ignore[arg-type]


def test_a_model_without_head_is_refused():
    with pytest.raises(ModelError, match="AutoModelForCausalLM"):
        add_rows(tiny_model("llama").model, VOCABULARY)


def test_an_unknown_init_is_refused():
    with pytest.raises(OptionError, match="not 'random'"):
        add_rows(tiny_model("llama"), VOCABULARY, init="random")  # type: ignore[arg-type]
