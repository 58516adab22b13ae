"""Drafters for tests: they know the right continuation, and may be told where to be wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tasc.draft.interface import SOURCES, Draft


class ScriptState:
    """Proposes `script` from where the row stands; remembers its calls."""

    def __init__(self, script: Sequence[int], probability: float) -> None:
        self.script, self.probability = list(script), probability
        self.seen: list[int] = []
        self.asked: list[int] = []

    def extend(self, ids) -> None:
        assert len(ids) > 0
        self.seen += [int(i) for i in ids]

    def propose(self, max_tokens: int = 10) -> Draft:
        self.asked.append(max_tokens)
        tokens = np.array(self.script[len(self.seen) : len(self.seen) + max_tokens], np.int32)
        sources = (np.arange(len(tokens)) % len(SOURCES)).astype(np.uint8)
        return Draft(tokens, sources, np.full(len(tokens), self.probability, np.float32))


class BushState(ScriptState):
    """Proposes trees that hold the script along one of their branches, and random ids around it."""

    def __init__(self, script: Sequence[int], probability: float, vocab_size: int) -> None:
        super().__init__(script, probability)
        self.vocab_size = vocab_size

    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        assert max_tokens > 0
        assert max_depth > 0
        self.asked.append(max_tokens)
        rng = np.random.default_rng(len(self.seen))
        right = self.script[len(self.seen) : len(self.seen) + max_depth]
        tokens, parents, depths = [], [], {-1: 0}
        tip = -1  # of the branch that holds the script
        for _ in range(2 * max_tokens):
            place = len(tokens)
            parent = tip if depths[tip] < len(right) and rng.random() < 0.5 else int(rng.integers(-1, place))
            token = (
                right[depths[tip]] if parent == tip and depths[tip] < len(right) else int(rng.integers(self.vocab_size))
            )
            if (
                place == max_tokens
                or depths[parent] == max_depth
                or (token, parent) in zip(tokens, parents, strict=True)
            ):
                continue
            tokens.append(token)
            parents.append(parent)
            depths[place] = depths[parent] + 1
            if parent == tip and depths[tip] < len(right):
                tip = place
        sources = (np.arange(len(tokens)) % len(SOURCES)).astype(np.uint8)
        chances = np.full(len(tokens), self.probability, np.float32)
        return Draft(np.array(tokens, np.int32), sources, chances, np.array(parents, np.int32))


class Script:
    """Drafts from a table: prompt -> what to propose at each place of the output.

    Args:
        table: the right outputs, say.
        change: makes the proposal at (place, right id); default: the right one.
        probability: claimed for every token.
    """

    def __init__(
        self,
        table: Mapping[tuple[int, ...], Sequence[int]] | Callable[[tuple[int, ...]], Sequence[int]],
        change: Callable[[int, int], int] | None = None,
        *,
        probability: float = 0.9,
        vocab_size: int = 96,
        fingerprint: str = "",
    ) -> None:
        self.table: Any = table
        self.change, self.probability = change, probability
        self.vocab_size, self.fingerprint = vocab_size, fingerprint
        self.states: list[ScriptState] = []
        self.prompts: list[tuple[int, ...]] = []

    def start(self, prompt_ids) -> ScriptState:
        prompt = tuple(int(i) for i in prompt_ids)
        right = self.table(prompt) if callable(self.table) else self.table.get(prompt, ())
        script = [token if self.change is None else self.change(place, token) for place, token in enumerate(right)]
        self.prompts.append(prompt)
        self.states.append(self.state(script))
        return self.states[-1]

    def state(self, script: list[int]) -> ScriptState:
        return ScriptState(script, self.probability)


class Bush(Script):
    """Drafts trees, from the same kind of table."""

    def state(self, script: list[int]) -> BushState:
        return BushState(script, self.probability, self.vocab_size)


SHAPES = {"chains": Script, "trees": Bush}


def wrong_at(places: Callable[[int], bool], vocab_size: int = 96) -> Callable[[int, int], int]:
    """A `change` that proposes another id at these places of the output."""
    return lambda place, token: (token + 1) % vocab_size if places(place) else token


def random_drafter(seed: int, *, vocab_size: int = 96, length: int = 200, probability: float = 0.9) -> Script:
    """Proposes ids drawn at random."""
    rng = np.random.default_rng(seed)
    return Script(
        lambda _: rng.integers(0, vocab_size, length).tolist(), probability=probability, vocab_size=vocab_size
    )
