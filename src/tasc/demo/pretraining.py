"""The base model's training text: the same domain in other forms than the task's.

Requests alone, requests said in another way, notes about a request in plain English, and questions about one with their answers.
The base so learns the domain's words, also `intent` and `slot`, and how to find a value in a request. It never sees the name
of an intent, a brace, or an `intent: ..., slot fills: ...` line: those are what fine-tuning has to teach.
"""

from collections.abc import Iterator, Mapping
from random import Random

from tasc.demo.generator import grammar, requests, reserved_for_base
from tasc.demo.grammar import Utterance
from tasc.demo.phrases import TOPICS

_MAX_REPHRASINGS = 8


def pretraining_texts(seed: int) -> Iterator[str]:
    """Draw short texts without end; one seed, one sequence."""
    rng = Random(seed)
    forms = (_notes, _questions, _request_of_notes, _rephrased, _plain)
    for intent, utterance in requests(seed, reserved=True):
        form = forms[int(len(forms) * rng.random())]
        yield form(intent, utterance, rng)


def _plain(intent: str, utterance: Utterance, rng: Random) -> str:
    return utterance.text


def _rephrased(intent: str, utterance: Utterance, rng: Random) -> str:
    """The request, then the same wish in other words, as far as a few draws find some with the same values."""
    other = _draw_with(intent, dict(utterance.slots), utterance.text, rng)
    return f"{utterance.text}\nin other words, {other}" if other else utterance.text


def _draw_with(intent: str, values: Mapping[str, str], said: str, rng: Random) -> str | None:
    for _ in range(_MAX_REPHRASINGS):
        other = grammar().sample(intent, rng, given=values)
        if dict(other.slots) == values and other.text != said and reserved_for_base(other.text):
            return other.text
    return None


def _notes(intent: str, utterance: Utterance, rng: Random) -> str:
    facts = [f"the {_spoken(name)} is {value}" for name, value in utterance.slots]
    return f"{utterance.text}\n" + _sentence([f"the intent is {TOPICS[intent]}", *facts], rng)


def _request_of_notes(intent: str, utterance: Utterance, rng: Random) -> str:
    facts = [f"{value} fills the {_spoken(name)} slot" for name, value in utterance.slots]
    return _sentence([f"someone thinks of {TOPICS[intent]}", *facts], rng) + f"\n{utterance.text}"


def _questions(intent: str, utterance: Utterance, rng: Random) -> str:
    answers = [f"which {_spoken(name)}? {value}" for name, value in utterance.slots]
    return "\n".join([utterance.text, f"intent? {TOPICS[intent]}", *answers])


def _sentence(facts: list[str], rng: Random) -> str:
    joint = ("; ", ", ", " and ")[int(3 * rng.random())]
    return joint.join(facts)


def _spoken(slot: str) -> str:
    return slot.replace("item_2", "other item").replace("ingredient_2", "other ingredient").replace("_", " ")
