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
        self.states.append(ScriptState(script, self.probability))
        return self.states[-1]


def wrong_at(places: Callable[[int], bool], vocab_size: int = 96) -> Callable[[int, int], int]:
    """A `change` that proposes another id at these places of the output."""
    return lambda place, token: (token + 1) % vocab_size if places(place) else token


def random_drafter(seed: int, *, vocab_size: int = 96, length: int = 200, probability: float = 0.9) -> Script:
    """Proposes ids drawn at random."""
    rng = np.random.default_rng(seed)
    return Script(
        lambda _: rng.integers(0, vocab_size, length).tolist(), probability=probability, vocab_size=vocab_size
    )
