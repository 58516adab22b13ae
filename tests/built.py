"""Drafters built from small rows, and what it means that two are the same."""

from dataclasses import fields
from typing import Any

import numpy as np

from tasc.corpus import TokenCorpus
from tasc.draft import Drafter

EOS, SIZE = 0, 40
SPELLINGS = np.array([0, 1, 2, 3, 1, 5, 2, 7, 8], np.int32)  # 4 spells 1, 6 spells 2


def build(rows, **changes: Any) -> Drafter:
    """A drafter of (prompt, output) rows."""
    options = {"eos_id": EOS, "vocab_size": SIZE, "spellings": SPELLINGS} | changes
    prompts, outputs = (TokenCorpus.from_rows(part) for part in zip(*rows, strict=True))
    return Drafter.build(outputs, prompts, **options)


def many_rows(n: int = 150, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Rows whose outputs follow from their prompts; from about 100 rows on, weights are learnt."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        kind, name = int(rng.integers(9, 12)), rng.integers(12, SIZE, 2).tolist()
        prompt = [7, 8, kind, *name, *rng.integers(9, 12, 3).tolist()]
        rows.append((prompt, [kind, 3, *name, 4, int(rng.integers(1, 7))]))
    return rows


def keyed_rows(n=160):
    """Rows of 20 keys; a key tells the three values of an output, so that similar prompts are worth believing."""
    table = np.random.default_rng(0).integers(10, 14, (20, 3)).tolist()
    rows = []
    for k in range(n):
        first, second, third = table[k % 20]
        rows.append(([7, 8, 16 + k % 20, 5, 10 + k // 20], [9, 3, first, 4, second, 4, third]))
    return rows


def same_drafters(found: Drafter, expected: Drafter) -> None:
    """Both hold the same arrays, weights, options and table of reliability, and so draft the same.

    Where the sample's ids came from says the origin; files do not say it twice.
    """
    _same("drafter", found, expected)


def _same(name: str, found: Any, expected: Any) -> None:
    assert type(found) is type(expected), name
    if isinstance(found, np.ndarray):
        assert found.dtype == expected.dtype, name
        np.testing.assert_array_equal(found, expected, err_msg=name)
    elif hasattr(found, "__dataclass_fields__"):
        for field in fields(found):
            if field.init and not (field.name == "fingerprint" and "sample" in name):
                _same(f"{name}.{field.name}", getattr(found, field.name), getattr(expected, field.name))
    else:
        assert found == expected, name


def drafts_of(drafter: Drafter, rows, *, max_tokens: int = 10, memory: Any = None) -> list[tuple[Any, ...]]:
    """Every draft on the way through the rows, as a decoder would ask for them."""
    found = []
    for prompt, output in rows:
        state = drafter.start(prompt) if memory is None else drafter.start(prompt, memory=memory)
        for token in [*output, drafter.eos_id]:
            draft = state.propose(max_tokens)
            found.append((draft.tokens.tolist(), draft.sources.tolist(), draft.probabilities.tolist()))
            state.extend([token])
    return found
