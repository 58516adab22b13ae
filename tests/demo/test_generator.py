import hashlib
import json
from collections import defaultdict
from itertools import islice

import pytest

from tasc.corpus import load_tasks
from tasc.demo import completion, make_splits, write_splits
from tasc.demo.generator import requests, reserved_for_base
from tasc.demo.phrases import INTENTS, TOPICS
from tasc.errors import OptionError
from tasc.evals import parse_frame


@pytest.fixture(scope="module")
def splits():
    return make_splits(0)


def digest(tasks) -> str:
    return hashlib.sha256(json.dumps([[row.prompt, row.completion] for row in tasks]).encode()).hexdigest()[:16]


def test_the_same_seed_gives_the_same_rows_on_every_platform(splits):
    # a change of the grammar changes these; the shipped base model must then be trained again
    assert {name: digest(tasks) for name, tasks in splits.items()} == {
        "train": "160429dda4b6da13",
        "validation": "2da925af4368717f",
        "test": "208639ddebd6e109",
    }


def test_another_seed_gives_other_rows(splits):
    other = make_splits(1, train=1000, validation=100, test=100)
    assert len(set(other["train"].prompts) - set(splits["train"].prompts)) > 500


def test_sizes_are_as_asked(splits):
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 8000, "validation": 500, "test": 1000}


def test_fewer_training_rows_leave_the_test_rows_as_they_are(splits):
    assert make_splits(0, train=10)["test"].rows == splits["test"].rows


def test_no_prompt_stands_twice(splits):
    prompts = [row.prompt for tasks in splits.values() for row in tasks]
    assert len(set(prompts)) == len(prompts)


def test_no_prompt_is_one_that_the_base_model_has_read(splits):
    assert not any(reserved_for_base(row.prompt) for tasks in splits.values() for row in tasks)
    share = sum(reserved_for_base(u.text) for _, u in islice(requests(3, reserved=True), 100))
    assert share == 100


def test_the_task_is_neither_trivial_nor_all_new(splits):
    known = set(splits["train"].completions)
    assert 3000 < len(known) < 8000
    unseen = sum(text not in known for text in splits["test"].completions) / len(splits["test"])
    assert 0.3 < unseen < 0.8


def test_every_output_is_read_back_by_the_metric(splits):
    for _, utterance in islice(requests(5), 2000):
        frame = parse_frame(completion("x", utterance.slots))
        assert frame is not None
        assert frame.slots == utterance.slots
    assert {frame.intent for text in splits["train"].completions if (frame := parse_frame(text))} == set(INTENTS)


def test_a_request_has_one_meaning():
    meanings = defaultdict(set)
    for intent, utterance in islice(requests(7), 15_000):
        meanings[utterance.text].add(completion(intent, utterance.slots))
    assert {text: found for text, found in meanings.items() if len(found) > 1} == {}


def test_slots_stand_in_the_request_in_their_order_and_once():
    for _, utterance in islice(requests(11), 5000):
        names = [name for name, _ in utterance.slots]
        assert len(set(names)) == len(names)
        position = 0
        for _, value in utterance.slots:
            position = utterance.text.index(value, position) + len(value)


def test_about_thirty_intents_and_forty_slots():
    slots = {name for _, utterance in islice(requests(13), 8_000) for name, _ in utterance.slots}
    assert len(INTENTS) == 28
    assert len(slots) == 40
    assert TOPICS.keys() == INTENTS.keys()


def test_files_read_back_as_written(tmp_path, splits):
    small = {name: tasks[:7] for name, tasks in splits.items()}
    paths = write_splits(small, tmp_path / "data")
    assert [path.name for path in paths] == ["train.jsonl", "validation.jsonl", "test.jsonl"]
    for name in small:
        assert load_tasks(tmp_path / "data", split=name).rows == small[name].rows


@pytest.mark.parametrize("size", [0, -3])
def test_an_empty_split_is_refused(size):
    with pytest.raises(OptionError, match="at least one row"):
        make_splits(0, test=size)
