"""Drafts for the rows of a server's batch, pass by pass. Ids only; no engine, no torch.

Decides by what it is shown and never by a clock, so that every process that is shown the same calls drafts the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc.decode._requests import Request, Requests
from tasc.draft.adaptive import AdaptiveDrafter, adaptive
from tasc.draft.control import Control
from tasc.draft.drafter import Drafter
from tasc.draft.interface import SOURCES, Draft, DraftState
from tasc.draft.memory import LED_BY, Memory
from tasc.draft.mixture import MixtureState, extend_and_propose
from tasc.vocab.vocabulary import EnrichedVocabulary


class Asked(NamedTuple):
    """A row that is to be drafted for: `text[slot, begin:end]` is new to its state."""

    slot: int
    state: DraftState
    begin: int
    end: int
    room: int


@dataclass(slots=True)
class BatchStats:
    """Counts since the start.

    Attributes:
        passes: calls in which drafts were wanted, and those in which drafting paused.
        drafted, accepted: tokens by source, in the order of `tasc.draft.interface.SOURCES`.
    """

    passes: list[int] = field(default_factory=lambda: [0, 0])
    drafted: list[int] = field(default_factory=lambda: [0] * len(SOURCES))
    accepted: list[int] = field(default_factory=lambda: [0] * len(SOURCES))


class BatchDrafts:
    """Drafts for a batch whose rows come, go, move and come back.

    Args:
        drafters: whose drafts rows can get.
        control: decides how much of each row's draft is verified; a ragged one.
        max_length: tokens that a row can hold; drafts leave room for the target's own token.
        vocabulary: the n-grams the model was trained with. Prompts are in base ids and outputs are not, so drafters
            are shown prompts in merged form.
        memory_tokens: tokens of outputs that new requests of the same drafter draft from as well; 0 keeps
            every request to itself.
        adapt: let each drafter's weights follow what the model writes (`tasc.draft.adaptive.AdaptiveDrafter`).

    Attributes:
        drafters: at work: `AdaptiveDrafter` those that adapt.
        stats: what was drafted and accepted.
        requests: what is known of the rows.
    """

    def __init__(
        self,
        drafters: Sequence[Drafter],
        control: Control,
        *,
        max_length: int,
        vocabulary: EnrichedVocabulary | None = None,
        memory_tokens: int = 0,
        adapt: bool = True,
    ) -> None:
        self.drafters: list[AdaptiveDrafter | Drafter] = [adaptive(one) if adapt else one for one in drafters]
        self.control = control
        self.max_length, self.vocabulary = max_length, vocabulary
        self.memories = [Memory(max_tokens=memory_tokens) if memory_tokens else None for _ in drafters]
        self.stats = BatchStats()
        self.requests = Requests([drafter.eos_id for drafter in drafters])
        self._planned: list[Request] = []

    def propose(
        self,
        new_ids: Sequence[Sequence[int]],
        lengths: NDArray[np.integer],
        tokens: NDArray[np.int32],
        drafters: Sequence[int] | None = None,
        longest: Mapping[int, int] | None = None,
    ) -> list[list[int]]:
        """Take in what a pass brought and draft for the next.

        Args:
            new_ids, lengths, tokens, drafters: see `Requests.update`.
            longest: by slot, the most tokens that its draft may have; others may be as long as the control says.

        Returns:
            The ids to verify of each row, none where nothing pays.
        """
        self.requests.update(new_ids, lengths, tokens, drafters)
        self._observe()
        self._remember()
        drafts: list[list[int]] = [[] for _ in new_ids]
        slots = [slot for slot, row in enumerate(self.requests.rows) if row is not None and row.n_new]
        if not slots:
            return drafts
        wanted = self.control.drafting
        self.stats.passes[not wanted] += 1
        context = int(lengths[slots].sum()) // len(slots)
        least = self.control.least(len(slots), context=context)
        # above 1 not even a sure token is worth its time
        proposed = self._proposed(slots, least, longest or {}) if wanted and least <= 1 else {}
        chances = [proposed[slot].probabilities if slot in proposed else () for slot in slots]
        kept = self.control.lengths(chances, context=context, asked=len(proposed))
        self._planned = []
        for slot, n in zip(slots, kept, strict=True):
            row = self.requests.rows[slot]
            assert row is not None
            self._planned.append(row)
            row.sources = b""
            if n:
                drafts[slot] = proposed[slot].tokens[:n].tolist()
                row.sources = proposed[slot].sources[:n].tobytes()
        return drafts

    def _observe(self) -> None:
        """Tell the control and the counts what became of the last drafts."""
        if not self._planned:
            return
        # what stands behind an end was not needed
        self.control.observe([row.n_kept for row in self._planned])
        verified = [row for row in self._planned if row.n_new]  # the others are out of the batch
        _count(self.stats.drafted, [row.sources for row in verified])
        _count(self.stats.accepted, [row.sources[: row.n_new - 1] for row in verified])
        self._planned = []

    def _remember(self) -> None:
        """Let drafters learn from the requests that left, as far as that is wanted."""
        for request in (*self.requests.finished, *self.requests.set_aside.values()):
            if request.drafter < 0 or request.was_aside:  # of one that came back, a part was taught when it left
                continue
            drafter, memory = self.drafters[request.drafter], self.memories[request.drafter]
            prompt = self._shown(request.prompt)
            if isinstance(drafter, AdaptiveDrafter):
                drafter.learn(prompt, request.output, memory=memory)
            if memory is not None:
                memory.add(prompt[-LED_BY:], request.output)  # drafts need no more of it

    def _proposed(self, slots: Sequence[int], least: float, longest: Mapping[int, int]) -> dict[int, Draft]:
        """By slot, what its drafter proposes, see `propose_each`; no rows that have ended, or have no room or drafter."""
        rows, (text, held) = self.requests.rows, self.requests.content()
        asked: dict[int, list[Asked]] = {}
        for slot, length in zip(slots, held[slots].tolist(), strict=True):
            row = rows[slot]
            assert row is not None
            most = self.control.max_draft
            room = min(most, self.max_length - length - 1, longest.get(slot, most))
            if row.drafter < 0 or room < 1 or row.ended:
                continue
            if row.state is None:
                prompt = self._shown(text[slot, : row.n_prompt])
                row.state = self.drafters[row.drafter].start(prompt, memory=self.memories[row.drafter])
            asked.setdefault(row.drafter, []).append(Asked(slot, row.state, row.fed, length, room))
            row.fed = length
        return {
            one.slot: draft
            for some in asked.values()
            for one, draft in zip(some, propose_each(some, text, least), strict=True)
        }

    def _shown(self, prompt: NDArray[np.int32]) -> NDArray[np.int32]:
        """A prompt as the drafter knows it; it may hold an earlier output of the model."""
        return prompt if self.vocabulary is None else self.vocabulary.remerge(prompt)


def propose_each(asked: Sequence[Asked], text: NDArray[np.int32], least: float) -> list[Draft]:
    """The draft of each row, whose states are of one drafter.

    Those of the default drafter are made in one call for all, and end before the token with which all of a draft is less
    likely than `least`.
    """
    if not isinstance(asked[0].state, MixtureState):
        for one in asked:
            one.state.extend(text[one.slot, one.begin : one.end])
        return [one.state.propose(one.room) for one in asked]
    slots, states, *numbers = zip(*asked, strict=True)
    tokens, sources, chances, made = extend_and_propose(
        states, text, *np.array([slots, *numbers], np.int64), min_probability=least
    )
    return [Draft(tokens[k, :n], sources[k, :n], chances[k, :n]) for k, n in enumerate(made.tolist())]


def _count(counts: list[int], sources: Sequence[bytes]) -> None:
    """Add up drafted tokens by their sources."""
    all_sources = b"".join(sources)
    for source in range(len(SOURCES)):
        counts[source] += all_sources.count(source)
