"""Targets, masks, cutting, merge dropout, and the order of a run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasc.corpus import Row, Tasks, make_template
from tasc.errors import DataError, OptionError
from tasc.train.examples import IGNORED, PlannedVisits, collate, encode_examples, plan

CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


@pytest.fixture
def template(tokenizer):
    return make_template(tokenizer, "plain")


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_target_is_the_merged_completion_and_eos(tokenizer, template, vocabulary, tasks):
    examples = encode_examples(tasks, template, vocabulary=vocabulary)
    for row, task in enumerate(tasks):
        example = examples.example(row)
        prompt, target = example.ids[: example.n_prompt], example.ids[example.n_prompt :]
        assert prompt.tolist() == ids_of(tokenizer, task.prompt + "\n")
        expected = vocabulary.merge(ids_of(tokenizer, task.completion))
        np.testing.assert_array_equal(target, [*expected, tokenizer.eos_token_id])
        assert examples.lengths[row] == len(example.ids)
        assert examples.n_bytes[row] == len(task.completion.encode())
    assert (examples.n_cut, examples.n_left_out) == (0, 0)


def test_prompts_are_in_base_ids_even_where_they_spell_an_ngram(tokenizer, template, vocabulary):
    tasks = Tasks((Row("intent: dim kitchen: ", "intent: dim"),))
    example = encode_examples(tasks, template, vocabulary=vocabulary).example(0)
    assert (example.ids[: example.n_prompt] < vocabulary.base_size).all()
    assert example.ids[example.n_prompt :].tolist() == [vocabulary.base_size, tokenizer.eos_token_id]


def test_without_a_vocabulary_targets_are_base_ids(tokenizer, template, tasks):
    example = encode_examples(tasks, template).example(0)
    assert example.ids[example.n_prompt : -1].tolist() == ids_of(tokenizer, tasks[0].completion)


def test_only_the_target_is_in_the_loss(template, vocabulary, tasks):
    examples = encode_examples(tasks, template, vocabulary=vocabulary)
    several = [examples.example(row) for row in range(5)]
    batch = collate(several, pad_id=1)
    longest = max(len(e.ids) for e in several)
    for i, example in enumerate(several):
        n = len(example.ids)
        assert batch["labels"][i, : example.n_prompt].eq(IGNORED).all()
        assert batch["labels"][i, n:].eq(IGNORED).all()
        assert batch["labels"][i, example.n_prompt : n].tolist() == example.ids[example.n_prompt :].tolist()
        assert batch["input_ids"][i, :n].tolist() == example.ids.tolist()
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * (longest - n)
    assert {t.dtype for t in batch.values()} == {torch.int64}


def test_long_prompts_lose_their_left_end_and_keep_what_the_tokenizer_puts_in_front(tokenizer):
    template = make_template(tokenizer, "plain")
    object.__setattr__(template, "prefix", (0,))  # as of a tokenizer that adds BOS
    tasks = Tasks((Row("0123456789", "ab"), Row("01", "ab")))
    examples = encode_examples(tasks, template, max_length=8)
    cut = examples.example(0)
    assert len(cut.ids) == 8
    assert cut.ids[: cut.n_prompt].tolist() == [0, *ids_of(tokenizer, "789\n")]
    assert examples.example(1).ids.tolist() == [0, *ids_of(tokenizer, "01\nab"), 1]
    assert (examples.n_cut, examples.n_left_out) == (1, 0)


def test_rows_whose_output_does_not_fit_are_left_out_and_counted(template):
    tasks = Tasks((Row("p", "x" * 30), Row("p", "ok")))
    examples = encode_examples(tasks, template, max_length=10)
    assert (len(examples), examples.n_left_out) == (1, 1)
    assert examples.n_bytes.tolist() == [2]
    with pytest.raises(DataError, match="no output fits into 3 tokens"):
        encode_examples(tasks, template, max_length=3)


def test_merge_dropout_is_drawn_per_epoch_and_row_from_the_seed(template, vocabulary, tasks):
    def targets(seed, epoch):
        examples = encode_examples(tasks, template, vocabulary=vocabulary, merge_dropout=0.5, seed=seed)
        return [examples.example(row, epoch=epoch).ids.tolist() for row in range(len(tasks))]

    first = targets(seed=0, epoch=0)
    assert first == targets(seed=0, epoch=0)
    assert first != targets(seed=0, epoch=1)
    assert first != targets(seed=1, epoch=0)
    merged = encode_examples(tasks, template, vocabulary=vocabulary)
    full = [merged.example(row).ids.tolist() for row in range(len(tasks))]
    longer = [len(a) > len(b) for a, b in zip(first, full, strict=True)]
    assert sum(longer) > 0
    for a, b in zip(first, full, strict=True):
        np.testing.assert_array_equal(vocabulary.expand(a), vocabulary.expand(b))


def test_evaluation_merges_every_ngram_whatever_the_dropout(template, vocabulary, tasks):
    dropped = encode_examples(tasks, template, vocabulary=vocabulary, merge_dropout=0.9)
    full = encode_examples(tasks, template, vocabulary=vocabulary)
    assert [dropped.example(r).ids.tolist() for r in range(9)] == [full.example(r).ids.tolist() for r in range(9)]


def test_with_dropout_the_longest_possible_target_decides_what_fits(template, vocabulary):
    tasks = Tasks((Row("p" * 40, "intent: dim"),))
    examples = encode_examples(tasks, template, vocabulary=vocabulary, merge_dropout=0.99, max_length=20)
    assert len(examples.example(0, epoch=0).ids) <= 20
    assert len(examples.example(0).ids) == 20 - len("intent: dim") + 1


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_merge_dropout_out_of_range_is_refused(template, tasks, p):
    with pytest.raises(OptionError, match="merge_dropout"):
        encode_examples(tasks, template, merge_dropout=p)


def test_a_chat_template_is_applied_once_and_not_to_the_completion(tokenizer, vocabulary, tmp_path):
    (tmp_path / "t.jinja").write_text(CHAT)
    template = make_template(tokenizer, str(tmp_path / "t.jinja"))
    example = encode_examples(Tasks((Row("hi", "intent: dim"),)), template, vocabulary=vocabulary).example(0)
    assert example.ids.tolist() == [0, *ids_of(tokenizer, "user: hi\nassistant: "), vocabulary.base_size, 1]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    epochs=st.floats(0.1, 4),
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 3),
)
def test_a_plan_visits_every_row_once_per_epoch(lengths, epochs, batch_size, seed):
    n, n_visits = len(lengths), max(1, round(epochs * len(lengths)))
    order = plan(np.array(lengths), n_visits=n_visits, batch_size=batch_size, seed=seed)
    assert len(order) == n_visits
    assert len(set(order.tolist())) == n_visits
    for epoch in range(n_visits // n):
        assert sorted(order[order // n == epoch] % n) == list(range(n))
    np.testing.assert_array_equal(order, plan(np.array(lengths), n_visits=n_visits, batch_size=batch_size, seed=seed))


@pytest.mark.parametrize(("n", "batch_size"), [(48, 4), (50, 4), (1000, 8)])
def test_epochs_follow_each_other_but_for_rows_that_fill_no_batch(n, batch_size):
    order = plan(np.arange(1, n + 1), n_visits=3 * n, batch_size=batch_size, seed=0)
    late = [(order[(epoch + 1) * n :] // n == epoch).sum() for epoch in range(3)]
    assert max(late) < batch_size
    assert max(late) == 0 or n % batch_size


def test_batches_of_a_plan_have_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 500, 4000)
    order = plan(lengths, n_visits=4000, batch_size=8, seed=0)
    grouped = lengths[order].reshape(-1, 8)
    shuffled = np.random.default_rng(1).permutation(lengths).reshape(-1, 8)
    padding = [(batches.max(1, keepdims=True) - batches).mean() for batches in (grouped, shuffled)]
    assert padding[0] < 0.05 * padding[1]
    assert abs(np.corrcoef(np.arange(500), grouped.mean(1))[0, 1]) < 0.2  # batches come in no order of length


def test_a_visit_is_an_epoch_and_a_row(template, vocabulary, tasks):
    examples = encode_examples(tasks, template, vocabulary=vocabulary, merge_dropout=0.5)
    visits = PlannedVisits(examples, np.array([2, 2 + len(tasks)]))
    assert visits[0].ids.tolist() == examples.example(2, epoch=0).ids.tolist()
    assert visits[1].ids.tolist() == examples.example(2, epoch=1).ids.tolist()
