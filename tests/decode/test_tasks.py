"""From rows to texts and their cost: expansion, bytes, adoption, default limits, end tokens."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from tasc.corpus import Row, fingerprint, make_template
from tasc.decode import adoption, complete, default_max_new_tokens, end_ids, generate
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import tiny_model

ROWS = [
    Row("wake me up at seven", "intent: alarm_set"),
    Row("lights off", "intent: lights_off, slot fills: {place: kitchen}"),
    Row("play the beatles please", "intent: play_music"),
    Row("hello", "intent: greet"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.byte_level_bpe()


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> EnrichedVocabulary:
    """Pairs and triples of ids that the random model below likes to write."""
    base_size = len(tokenizer)
    ngrams = tuple(Ngram((i, i + 1), (i, i + 1)) for i in range(40, 60))
    return EnrichedVocabulary(base_size, ngrams, fingerprint=fingerprint(tokenizer))


@pytest.fixture(scope="module")
def model(vocabulary: EnrichedVocabulary) -> Any:
    return tiny_model("qwen2", rows=vocabulary.size, initializer_range=0.5)


class Biased:
    """Adds `bonus` to the logits of some ids of a model, so that a random one writes n-grams."""

    def __init__(self, model: Any, ids: range, bonus: float) -> None:
        self.handle = model.lm_head.register_forward_hook(
            lambda _module, _inputs, logits: logits.index_add(
                -1, torch.tensor(ids), torch.full((*logits.shape[:-1], len(ids)), bonus)
            )
        )

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def test_texts_and_counts_are_those_of_the_base_ids(model, tokenizer, vocabulary):
    with Biased(model, range(vocabulary.base_size, vocabulary.size), 1.0):
        done = complete(model, tokenizer, ROWS, vocabulary=vocabulary, max_new_tokens=12, batch_size=2)
        template = make_template(tokenizer)
        straight = generate(model, template.encode_prompts(ROWS), eos_id=end_ids(model, template), max_new_tokens=12)
    assert done.generated.outputs == straight.outputs
    base = [vocabulary.expand(ids).tolist() for ids in straight.outputs]
    assert any(len(a) > len(b) for a, b in zip(base, straight.outputs, strict=True)), "some n-gram must be written"
    assert done.tokens == [len(ids) for ids in base]
    assert done.texts == [tokenizer.decode(ids, skip_special_tokens=True) for ids in base]
    speed = done.speed()
    n_bytes = sum(len(text.encode()) for text in done.texts)
    assert speed["tokens_per_output"] == np.mean(done.tokens)
    assert speed["passes_per_output"] == np.mean(straight.passes)
    assert speed["passes_per_output"] < speed["tokens_per_output"]
    assert speed["ms_per_byte"] == pytest.approx(speed["ms_per_output"] * len(ROWS) / n_bytes)
    assert speed["adoption"] > 0
    assert (speed["n"], speed["batch_size"], speed["device"], speed["dtype"]) == (4, 2, "cpu", "float32")
    assert speed["threads"] == torch.get_num_threads()


def test_a_base_model_has_no_adoption(tokenizer, model):
    done = complete(model, tokenizer, ROWS, max_new_tokens=5)
    assert done.speed()["adoption"] is None
    assert done.tokens == [len(ids) for ids in done.generated.outputs]


def test_the_warm_up_is_not_counted(tokenizer, model):
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        done = complete(model, tokenizer, ROWS, max_new_tokens=8, batch_size=1, repeats=3)
    finally:
        handle.remove()
    assert sum(done.generated.passes) * 3 < len(passes), "three counted runs and a warm-up"
    assert sum(done.generated.passes) * 3 + 4 >= len(passes)
    assert len(done.timing.values) == 3
    assert done.timing.low <= done.timing.median <= done.timing.high


def test_progress_counts_every_repetition(tokenizer, model):
    seen: list[int] = []
    complete(model, tokenizer, ROWS, max_new_tokens=3, batch_size=3, repeats=2, progress=seen.append)
    assert sum(seen) == 2 * len(ROWS)


def test_outputs_do_not_depend_on_the_batch(tokenizer, model):
    one = complete(model, tokenizer, ROWS, max_new_tokens=20, batch_size=1)
    four = complete(model, tokenizer, ROWS, max_new_tokens=20, batch_size=4)
    assert (one.texts, one.generated.passes) == (four.texts, four.generated.passes)


def test_chat_rows_go_through_the_chat_template(model):
    tokenizer = tiny.byte_level_bpe(chat=True)
    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "on"},
    )
    row = Row("on", "intent: lights_on", turns)
    template = make_template(tokenizer)
    prompt = template.encode_prompts([row])
    assert "yes" in str(tokenizer.decode(prompt[0]))
    done = complete(model, tokenizer, [row], max_new_tokens=6)
    expected = generate(model, prompt, eos_id=end_ids(model, template), max_new_tokens=6)
    assert done.generated.outputs == expected.outputs
    assert done.settings["template"] == "chat"


def test_the_default_limit_is_in_base_tokens(tokenizer):
    template = make_template(tokenizer)
    longest = max(len(ids) for ids in template.encode_completions([row.completion for row in ROWS]))
    limit = default_max_new_tokens(template, ROWS)
    assert longest * 1.5 + 1 <= limit <= longest * 1.5 + 2


def test_the_models_own_end_tokens_end_too(tokenizer, model):
    template = make_template(tokenizer)
    own = tiny_model("qwen2", rows=64, eos_token_id=5)
    assert end_ids(own, template) == {template.eos_id, 5}
    own.generation_config.eos_token_id = [5, 6]
    assert end_ids(own, template) == {template.eos_id, 5, 6}
    own.generation_config.eos_token_id = None
    assert end_ids(own, template) == {template.eos_id}


# adoption


ALPHABET = st.lists(st.integers(0, 3), max_size=12)
TRIPLES = EnrichedVocabulary(4, (Ngram((0, 1), (0, 1)), Ngram((0, 1, 2), (4, 2)), Ngram((3, 3), (3, 3))))


def test_adoption_by_hand():
    """Base 0 1 2 3 3 merges to 2 ids, so 3 of 5 can be saved; 4 2 3 3 saves one."""
    assert TRIPLES.merge([0, 1, 2, 3, 3]).tolist() == [5, 6]
    assert adoption([[4, 2, 3, 3]], TRIPLES) == pytest.approx(1 / 3)
    assert adoption([[4, 2, 3, 3], [5, 6]], TRIPLES) == pytest.approx(4 / 6)


@given(st.lists(ALPHABET, min_size=1, max_size=5))
def test_adoption_is_one_for_merged_and_zero_for_base_outputs(rows):
    merged = [TRIPLES.merge(row).tolist() for row in rows]
    possible = sum(map(len, rows)) > sum(map(len, merged))
    assert adoption(merged, TRIPLES) == (1.0 if possible else None)
    assert adoption(rows, TRIPLES) == (0.0 if possible else None)


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=1, max_size=5))
def test_adoption_equals_its_definition(outputs):
    base = [TRIPLES.expand(row).tolist() for row in outputs]
    merged = [TRIPLES.merge(row).tolist() for row in base]
    e, b, m = (sum(map(len, rows)) for rows in (outputs, base, merged))
    assert adoption(outputs, TRIPLES) == (None if b == m else pytest.approx(1 - (e - m) / (b - m)))


def test_nothing_to_adopt():
    assert adoption([[0, 2]], TRIPLES) is None
    assert adoption([[0, 1]], None) is None
