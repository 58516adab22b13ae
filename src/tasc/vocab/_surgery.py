"""Edit a serialised tokenizer: entries without merges, special tokens pinned to their ids. Plain data in, plain data out."""

from collections.abc import Sequence
from typing import Any


def add_entries(state: dict[str, Any], strings: Sequence[str | None], spellings: Sequence[str]) -> dict[str, Any]:
    """A copy of a `tokenizer.json` whose model also holds `spellings`, from id `len(strings)` on.

    Every base id gets its entry in the model too. `tokenizers` ignores the ids that a file gives added tokens and counts
    them on from the model's size, so a special token would move behind the n-grams otherwise; and an id that stands for
    nothing would later be given out twice.

    Args:
        state: the parsed `tokenizer.json`.
        strings: the entry of each base id, None where it stands for nothing.
        spellings: the new entries, none of them in `strings`.
    """
    assert len({*strings, *spellings} - {None}) == len(spellings) + sum(s is not None for s in strings)
    # encoded text never holds a plain space, so these names cannot match a prompt
    entries = [string if string is not None else f"unused id {i}" for i, string in enumerate(strings)] + [*spellings]
    model = dict(state["model"])
    model["vocab"] = _scored(model["vocab"], entries) if isinstance(model["vocab"], list) else _numbered(entries)
    return state | {"model": model}


def _numbered(entries: Sequence[str]) -> dict[str, int]:
    return {string: i for i, string in enumerate(entries)}


def _scored(vocab: list[list[Any]], entries: Sequence[str]) -> list[list[Any]]:
    # a lower score than the lowest would lower that of unknown characters too, which changes how texts with them are
    # encoded; the speller refuses n-grams that could win with the lowest
    lowest = min(score for _, score in vocab)
    return [*vocab, *([string, lowest] for string in entries[len(vocab) :])]
