from collections import Counter
from random import Random

import pytest

from tasc.demo.grammar import Grammar


def draws(grammar: Grammar, rule: str, n: int = 400):
    rng = Random(0)
    return [grammar.sample(rule, rng) for _ in range(n)]


def test_slots_come_in_the_order_of_the_text():
    grammar = Grammar({"city": "rome", "day": "friday"}, {"go": "({city} on {day}|on {day} to {city})"})
    found = {(u.text, u.slots) for u in draws(grammar, "go")}
    assert found == {
        ("rome on friday", (("city", "rome"), ("day", "friday"))),
        ("on friday to rome", (("day", "friday"), ("city", "rome"))),
    }


def test_optional_parts_are_left_out_half_of_the_time():
    counts = Counter(u.text for u in draws(Grammar({}, {"ask": "go [now|at once|soon]"}), "ask", 2000))
    assert set(counts) == {"go", "go now", "go at once", "go soon"}
    assert 900 < counts["go"] < 1100


def test_values_prefer_the_head_of_their_list_and_phrases_do_not():
    grammar = Grammar({"value": "a|b|c|d"}, {"phrase": "a|b|c|d"})
    skewed, even = (Counter(u.text for u in draws(grammar, rule, 2000)) for rule in ("value", "phrase"))
    assert skewed["a"] > 2 * skewed["b"] > 2 * skewed["d"] > 0
    assert min(even.values()) > 400


def test_a_given_value_is_used():
    grammar = Grammar({"city": "rome|oslo"}, {"go": "to {city} or {other=city}"})
    for utterance in (grammar.sample("go", Random(seed), given={"city": "lima"}) for seed in range(9)):
        assert utterance.text.startswith("to lima or ")
        assert utterance.slots[0] == ("city", "lima")
        assert utterance.slots[1][1] in ("rome", "oslo")


def test_values_may_be_made_of_values():
    grammar = Grammar({"name": "ada", "person": "aunt <name>"}, {"call": "call  {person}"})
    assert grammar.sample("call", Random(0)).text == "call aunt ada"
    assert grammar.sample("call", Random(0)).slots == (("person", "aunt ada"),)


@pytest.mark.parametrize("pattern", ["(a|b", "a)b", "[a|b", "{slot", "a]"])
def test_a_broken_pattern_is_refused(pattern):
    with pytest.raises(AssertionError):
        Grammar({}, {"rule": pattern})
