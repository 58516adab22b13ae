"""One request's memory in plain Python, by searching the whole text for every answer; and small drafters to compare with.

Imports the kernels' limits, so that it says the same as they do where they cut something off.
"""

from typing import Any, NamedTuple

import numpy as np

from tasc.corpus import TokenCorpus
from tasc.draft import _candidates, _features, _index, _request, _sources, learning
from tasc.draft.index import Index
from tasc.draft.memory import NOTHING_SEEN
from tasc.draft.mixture import Mixture

EOS, START = 0, 9
UNUSED, USED, OUTPUT = _request.UNUSED, _request.USED, _request.OUTPUT


class Place(NamedTuple):
    """A place of the text; kinds above 0 are weights of similar rows."""

    token: int
    variant: int
    kind: int


class Chosen:
    """Stands for `Neighbours`: the same similar rows for every prompt, best last."""

    def __init__(self, rows, weights):
        self.rows, self.weights = np.array(rows, np.int32), np.array(weights, np.int32)

    def find(self, prompt, row_starts):
        return self.rows, self.weights


def mixture(rows, *, similar=(), variants=None, weights=None, seed=None, start_id=START) -> Mixture:
    """A drafter of outputs.

    Args:
        rows: outputs, ids from 1 to 8, or below `start_id`.
        similar: (row, weight) of the rows that every prompt finds, best last.
        variants: token -> its usual spelling.
        weights: default: those before learning; random ones where `seed` is given.
    """
    index = Index.build(TokenCorpus.from_rows(rows), start_id=start_id, eos_id=EOS)
    table = np.arange(start_id + 2, dtype=np.int32)
    for token, usual in (variants or {}).items():
        table[token] = usual
    if weights is None:
        weights = learning.initial_weights()
        if seed is not None:
            weights = np.random.default_rng(seed).normal(0, 2, len(weights)).astype(np.float32)
    found: Any = Chosen(*zip(*similar, strict=True)) if similar else None
    return Mixture(index, index.row_starts, found, table, weights)


def crowded(one: Mixture, lines: int = 1) -> Mixture:
    """The same with tables so small that every question drives another one's answer out."""
    one._scratch[:] = [(np.zeros((lines, _index.STEP), np.int32), np.zeros((lines, _index.LINE), np.int32))]
    return one


class PlainRequest:
    """What `_request.py` holds after the same calls.

    Attributes:
        corpus: the text of all rows.
        text: list of Place.
        history: the tokens that the contexts are made of: START, then what was generated.
        matches: (place, length) of what stands in the text like the end of the history, newest first.
        cursor, since, run: as in the frame.
    """

    def __init__(self, rows, prompt, *, similar=(), variants=None):
        self.corpus = [token for row in rows for token in (START, *row, EOS)]
        self.variants = variants or {}
        self.text, self.history, self.matches = [], [], []
        self.held = []  # (variants of a similar row, its weight)
        self.cursor, self.since, self.run = -1, _request.LONGEST, 0
        for row, weight in similar if len(prompt) else ():
            tokens = [START, *rows[row], EOS]
            self.held.append(({self.variant(token) for token in tokens}, weight))
            self.text += [Place(token, self.variant(token), weight) for token in tokens]
        self.text.append(Place(START, START, OUTPUT))
        self.prompt_at = len(self.text)
        self.text += [Place(token, self.variant(token), UNUSED) for token in prompt]
        self.prompt_end = len(self.text)
        self.take(START)

    def variant(self, token):
        return self.variants.get(token, token)

    def take(self, token):
        """A token that the target produced."""
        self.advance(token)
        self.text.append(Place(token, self.variant(token), OUTPUT))

    def advance(self, token):
        """A token drafted: it does not enter the text."""
        self.history.append(token)
        places = self.places_of(self.variant(token))
        self.matches = self.matches_at(places)
        self.move_cursor(self.variant(token), places)

    def matches_at(self, places):
        """While a long match goes on those that do.

        Else of the newest places all; of older ones those where a match goes on, at most a token shorter than any newer one.
        """
        before = dict(self.matches)
        going_on = [(place + 1, length + 1) for place, length in self.matches if place + 1 in places]
        if any(length > _request.LONG for _, length in going_on):
            return going_on
        matches = [(place, 1 + before.get(place - 1, 0)) for place in places[: _request.NEWEST]]
        for place in places[_request.NEWEST :]:
            longest = max(length for _, length in matches)
            if place - 1 in before and 1 + before[place - 1] >= longest - 1 and len(matches) < _request.ACTIVE:
                matches.append((place, 1 + before[place - 1]))
        return matches

    def places_of(self, variant):
        """Newest first; -1 is the one id that is not looked up."""
        if variant == -1:
            return []
        return [k for k in reversed(range(len(self.text))) if self.text[k].variant == variant]

    def move_cursor(self, variant, places):
        after = self.cursor + 1 if self.cursor >= 0 else self.prompt_at
        if self.cursor >= 0 and after < self.prompt_end and self.text[after].variant == variant:
            goal, self.run = after, self.run + 1
        else:
            looked_at = [place for place in places if place >= self.prompt_at][: _request.WALKED]
            seen = [place for place in looked_at if place < self.prompt_end]
            ahead = [place for place in seen if place >= after]
            fresh = [place for place in seen if self.text[place].kind == UNUSED]
            goal = min(ahead or fresh, default=None)
            self.run = self.run if goal is None else 1
        if goal is None:
            self.since = min(self.since + 1, _request.LONGEST)
        else:
            self.cursor, self.since = goal, 0
            self.text[goal] = self.text[goal]._replace(kind=USED)

    def occurrences(self, order):
        """Where the last `order` tokens stand in the corpus."""
        context = self.history[len(self.history) - order :]
        if len(self.history) < order:
            return []
        return [k for k in range(len(self.corpus)) if self.corpus[k : k + order] == context]

    @property
    def top(self):
        """Tokens of the longest context that stands in the corpus, ORDERS at most."""
        return max(order for order in range(_request.ORDERS + 1) if order == 0 or self.occurrences(order))

    def longest_match(self, place):
        """Tokens before and at the place that end the history as well; -1 ends a match."""
        history = [self.variant(token) for token in self.history]
        for length in range(min(len(history), place + 1)):
            if self.text[place - length].variant != history[-1 - length] or history[-1 - length] == -1:
                return length
        return min(len(history), place + 1)


class Look(NamedTuple):
    """What `_candidates.candidates` makes of a frame."""

    n: int
    found: Any
    features: Any
    numbers: Any


def look(one: Mixture, memory, frame=None, seen=NOTHING_SEEN) -> Look:
    """The candidates for the next token; `seen`: an index as one array."""
    found, slots = np.full(_sources.MOST, 77, np.int32), np.full(_sources.SLOTS, 77, np.uint8)
    features = np.full((_sources.MOST + 1, _features.FEATURES), 30_000, np.int16)
    numbers = np.full((_sources.NUMBERS, _sources.MOST), np.nan)
    counts, masses = np.zeros((_sources.LEVELS, _sources.MOST), np.int32), np.zeros((_sources.LEVELS, 2))
    n = _candidates.candidates(
        *one.lookup(), seen, memory, memory[: _request.FRAME] if frame is None else frame, one.index.start_id,
        found, slots, features, numbers, counts, masses,
    )  # fmt: skip
    return Look(n, found, features, numbers)


def text_of(memory):
    """The text as the kernels keep it: int32, shape (n, PLACE)."""
    begin = _request.text_at(memory)
    return memory[begin : begin + _request.PLACE * memory[_request.N_TEXT]].reshape(-1, _request.PLACE)


def matches_of(memory):
    """(place, length), newest first."""
    at = _request.MATCHES + 2 * _request.ACTIVE * memory[_request.TURN]
    n = memory[_request.N_ACTIVE]
    return list(zip(memory[at : at + n].tolist(), memory[at + _request.ACTIVE :][:n].tolist(), strict=True))
