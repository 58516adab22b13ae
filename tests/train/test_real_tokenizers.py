"""Runs with real tokenizers: spare rows of a padded checkpoint, and stock loading beside a model's config."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasc.corpus import fingerprint, load_tokenizer
from tasc.train import finetune
from tasc.train.loading import check_stock_tokenizer
from tasc.vocab import enrich
from tiny_models import make_tasks, tiny_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("qwen2.5", "qwen2"), ("smollm2", "llama"), ("gpt2", "gpt2"), ("mistral-v3-spm", "mistral")],
)
def test_real_tokenizers_load_alike_beside_their_models(shared, name, architecture):
    tokenizer = load_tokenizer(shared / "tokenizers" / name)
    check_stock_tokenizer(tokenizer, tiny_model(architecture).config)


def test_a_padded_qwen_checkpoint_takes_the_ngrams_into_its_spare_rows(shared, tmp_path):
    base = load_tokenizer(shared / "tokenizers/qwen2.5")
    tasks = make_tasks(32)
    vocabulary = enrich(tasks, base, budget=20).vocabulary
    model = tiny_model("qwen2", rows=151936, tied=True)  # Qwen2.5: 151,665 ids in 151,936 rows
    out = tmp_path / "run"
    report = finetune(model, tasks, out=out, tokenizer=base, vocabulary=vocabulary, max_steps=1, effective_batch=8)
    rows = report.rows_report
    assert (rows.added, rows.spare_used, rows.rows_before, rows.rows_after) == (20, 20, 151936, 151936)
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == 151936
    stock = AutoTokenizer.from_pretrained(out)
    for text in (*tasks.prompts, *tasks.completions, "  def f(x):\n\treturn 'naïve 東京'"):
        assert stock(text)["input_ids"] == base(text)["input_ids"]
    for k, ngram in enumerate(vocabulary.ngrams):
        assert stock.decode([vocabulary.base_size + k]) == base.decode(list(ngram.ids)) == ngram.text
    assert fingerprint(load_tokenizer(out / "base_tokenizer")) == fingerprint(base)
