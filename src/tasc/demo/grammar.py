"""A small random grammar: patterns are parsed once, then sampled with a seeded generator.

Only `random.Random.random()` is drawn from, the one method whose sequence Python guarantees for a given seed,
so that the same seed gives the same text on every platform and version.

    >>> from random import Random
    >>> grammar = Grammar({"room": "kitchen|attic"}, {"light": "(turn on|light) the {room} [now]"})
    >>> grammar.sample("light", Random(1)).slots[0][0]
    'room'
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

_TOKEN = re.compile(r"[()\[\]|]|<\w+>|\{\w+(?:=\w+)?\}|[^()\[\]|<>{}]+")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One sampled text and its slots as (name, value), in the order in which they occur in the text."""

    text: str
    slots: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple["_Sequence", ...]
    skewed: bool = False


@dataclass(frozen=True, slots=True)
class _Reference:
    rule: str
    slot: str | None = None


_Sequence = tuple["str | _Choice | _Reference", ...]


class Grammar:
    """Value rules (early alternatives are drawn more often) and phrase rules (alternatives are equally likely)."""

    def __init__(self, values: Mapping[str, str], phrases: Mapping[str, str]) -> None:
        self._rules = {name: _parse(pattern, skewed=True) for name, pattern in values.items()}
        self._rules |= {name: _parse(pattern) for name, pattern in phrases.items()}

    def sample(self, rule: str, rng: Random, *, given: Mapping[str, str] | None = None) -> Utterance:
        """Draw one text from `rule`; slots named in `given` take that value instead of a drawn one."""
        slots: list[tuple[str, str]] = []
        text = self._expand(self._rules[rule], rng, slots, given or {})
        return Utterance(_squeeze(text), tuple(slots))

    def _expand(
        self, node: "_Choice | _Sequence", rng: Random, slots: list[tuple[str, str]], given: Mapping[str, str]
    ) -> str:
        parts = _pick(node, rng) if isinstance(node, _Choice) else node
        return "".join(part if isinstance(part, str) else self._fill(part, rng, slots, given) for part in parts)

    def _fill(
        self, part: _Choice | _Reference, rng: Random, slots: list[tuple[str, str]], given: Mapping[str, str]
    ) -> str:
        if isinstance(part, _Choice):
            return self._expand(part, rng, slots, given)
        if part.slot is None:
            return self._expand(self._rules[part.rule], rng, slots, given)
        value = given.get(part.slot) or _squeeze(self._expand(self._rules[part.rule], rng, slots, given))
        slots.append((part.slot, value))
        return value


def _pick(choice: _Choice, rng: Random) -> _Sequence:
    draw = rng.random()
    # products of doubles are exact to the bit everywhere; a power law would go through the platform's libm
    return choice.options[int(len(choice.options) * (draw * draw * draw if choice.skewed else draw))]


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _parse(pattern: str, *, skewed: bool = False) -> _Choice:
    tokens = _TOKEN.findall(pattern)
    assert "".join(tokens) == pattern, f"unreadable pattern {pattern!r}"
    tokens.reverse()
    choice = _parse_options(tokens, skewed=skewed)
    assert not tokens, f"unbalanced brackets in {pattern!r}"
    return choice


def _parse_options(tokens: list[str], *, skewed: bool = False, optional: bool = False) -> _Choice:
    options: list[_Sequence] = []
    sequence: list[str | _Choice | _Reference] = []
    while tokens and tokens[-1] not in ")]":
        token = tokens.pop()
        if token == "|":
            options.append(tuple(sequence))
            sequence = []
        elif token in "([":
            sequence.append(_parse_options(tokens, optional=token == "["))
            assert tokens and tokens.pop() == (")" if token == "(" else "]"), "unbalanced brackets"
        else:
            sequence.append(_parse_leaf(token))
    options.append(tuple(sequence))
    spoken = _Choice(tuple(options), skewed)
    # an optional phrase is left out as often as it is said, however many wordings it has
    return _Choice(((spoken,), ())) if optional else spoken


def _parse_leaf(token: str) -> str | _Reference:
    if token.startswith("<"):
        return _Reference(token[1:-1])
    if token.startswith("{"):
        slot, _, rule = token[1:-1].partition("=")
        return _Reference(rule or slot, slot)
    return token
