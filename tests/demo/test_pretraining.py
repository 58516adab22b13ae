from itertools import islice

import pytest

from tasc.demo import make_splits
from tasc.demo.phrases import INTENTS, TOPICS
from tasc.demo.pretraining import pretraining_texts


@pytest.fixture(scope="module")
def texts():
    return list(islice(pretraining_texts(2), 4000))


def test_same_seed_same_texts(texts):
    assert list(islice(pretraining_texts(2), 50)) == texts[:50]
    assert list(islice(pretraining_texts(3), 50)) != texts[:50]


def test_the_output_form_is_never_shown(texts):
    for text in texts:
        assert not set("{}_:") & set(text)
        assert "slot fills" not in text
        assert not any(intent in text for intent in INTENTS)


def test_no_request_of_the_task_is_shown(texts):
    prompts = {row.prompt for tasks in make_splits(0).values() for row in tasks}
    lines = {line.removeprefix("in other words, ") for text in texts for line in text.split("\n")}
    assert not prompts & lines


def test_every_topic_and_form_occurs(texts):
    joint = "\n".join(texts)
    assert all(topic in joint for topic in TOPICS.values())
    assert all(mark in joint for mark in ("in other words, ", "intent? ", "the intent is ", "someone thinks of "))
