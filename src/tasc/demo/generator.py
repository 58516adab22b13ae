"""The demo's task: home-assistant requests -> intent and slots, drawn from a grammar with a seed.

    turn on the ceiling light in the kitchen
    -> intent: light_on, slot fills: {lamp: ceiling light, room: kitchen}

About a quarter of all possible requests is set aside, by a hash of their text, for the base model's training
(`pretraining.py`); no seed of the task can draw one of them, so the demo never tests on text that the base has read.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from tasc.corpus import Row, Tasks
from tasc.demo.grammar import Grammar, Utterance
from tasc.demo.phrases import INTENTS, SHARED
from tasc.demo.values import VALUES
from tasc.errors import OptionError
from tasc.files import atomic_write

SPLITS = {"train": 8000, "validation": 500, "test": 1000}
_MAX_DRAWS_PER_ROW = 50


@cache
def grammar() -> Grammar:
    """The task's grammar; each intent is a rule of its own name."""
    phrases = {name: "|".join(patterns) for name, patterns in INTENTS.items()}
    return Grammar(VALUES, SHARED | phrases)


def completion(intent: str, slots: tuple[tuple[str, str], ...]) -> str:
    """Write the expected output of a request, slots in the order in which they were said.

    >>> completion("light_on", (("room", "kitchen"),))
    'intent: light_on, slot fills: {room: kitchen}'
    """
    return f"intent: {intent}, slot fills: {{{', '.join(f'{name}: {value}' for name, value in slots)}}}"


def reserved_for_base(prompt: str) -> bool:
    """Tell whether a request belongs to the base model's training text, and so to no demo data set."""
    return hashlib.sha256(prompt.encode()).digest()[0] % 4 == 0


def requests(seed: int, *, reserved: bool = False) -> Iterator[tuple[str, Utterance]]:
    """Draw (intent, utterance) pairs without end: of the task's requests, or of those reserved for the base model."""
    rng = Random(seed)
    intents = tuple(INTENTS)
    while True:
        intent = intents[int(len(intents) * rng.random())]
        utterance = grammar().sample(intent, rng)
        if reserved_for_base(utterance.text) == reserved:
            yield intent, utterance


def make_splits(
    seed: int = 0,
    *,
    train: int = SPLITS["train"],
    validation: int = SPLITS["validation"],
    test: int = SPLITS["test"],
) -> dict[str, Tasks]:
    """Draw train, validation and test rows; all prompts are distinct, within a split and between splits.

    The test rows are drawn first: with one seed they stay the same however many training rows are asked for.

    Args:
        seed: The same seed gives the same rows on every platform.
        train: Number of training rows.
        validation: Number of validation rows.
        test: Number of test rows.

    Raises:
        OptionError: If a size is below 1, or more rows are asked for than the grammar can tell apart in time.
    """
    sizes = {"test": test, "validation": validation, "train": train}
    for name, n_rows in sizes.items():
        if n_rows < 1:
            raise OptionError(f"a split needs at least one row, {name} asks for {n_rows}; give a positive number")
    rows = _distinct_rows(seed, sum(sizes.values()))
    splits = {name: Tasks(tuple(islice(rows, n_rows)), source=f"demo {name}") for name, n_rows in sizes.items()}
    return {name: splits[name] for name in SPLITS}


def _distinct_rows(seed: int, n_rows: int) -> Iterator[Row]:
    seen: set[str] = set()
    for n_drawn, (intent, utterance) in enumerate(requests(seed)):
        if n_drawn > n_rows * _MAX_DRAWS_PER_ROW:
            raise OptionError(f"the demo grammar has too few distinct requests for {n_rows} rows; ask for fewer")
        if utterance.text not in seen:
            seen.add(utterance.text)
            yield Row(utterance.text, completion(intent, utterance.slots))


def write_splits(splits: dict[str, Tasks], folder: str | Path) -> list[Path]:
    """Write each split as `folder/<split>.jsonl` with the columns prompt and completion; return the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, tasks in splits.items():
        paths.append(folder / f"{name}.jsonl")
        with atomic_write(paths[-1]) as file:
            for row in tasks:
                file.write(json.dumps({"prompt": row.prompt, "completion": row.completion}) + "\n")
    return paths
