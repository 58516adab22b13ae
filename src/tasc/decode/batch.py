"""Drafts for the rows of a server's batch, pass by pass. Ids only; no engine, no torch.

Decides by what it is shown and never by a clock, so that every process that is shown the same calls drafts the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasc.decode._requests import Request, Requests
from tasc.draft.control import Control
from tasc.draft.drafter import Drafter
from tasc.draft.interface import SOURCES, Draft
from tasc.draft.memory import Memory
from tasc.vocab.vocabulary import EnrichedVocabulary


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
        memory_tokens: tokens of finished outputs that new requests of the same drafter draft from as well; 0 keeps
            every request to itself.

    Attributes:
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
    ) -> None:
        self.drafters, self.control = list(drafters), control
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
    ) -> list[list[int]]:
        """Take in what a pass brought and draft for the next.

        Args:
            new_ids, lengths, tokens, drafters: see `Requests.update`.

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
        proposed = [self._propose(slot, int(lengths[slot])) if wanted else None for slot in slots]
        chances = [() if draft is None else draft.probabilities for draft in proposed]
        mean_length = int(sum(int(lengths[slot]) for slot in slots)) // len(slots)
        kept = self.control.lengths(chances, context=mean_length)
        self._planned = []
        for slot, draft, n in zip(slots, proposed, kept, strict=True):
            row = self.requests.rows[slot]
            assert row is not None
            self._planned.append(row)
            row.sources = b"" if draft is None else draft.sources[:n].tobytes()
            if draft is not None:
                drafts[slot] = draft.tokens[:n].tolist()
        return drafts

    def _observe(self) -> None:
        """Tell the control and the counts what became of the last drafts."""
        if not self._planned:
            return
        # what stands behind an end was not needed
        beyond = {row: self.requests.beyond(slot) for slot, row in enumerate(self.requests.rows) if row is not None}
        self.control.observe([row.n_new - beyond.get(row, 0) for row in self._planned])
        for row in self._planned:
            if not row.n_new:  # out of the batch, so its draft was not verified
                continue
            for place, source in enumerate(row.sources):
                self.stats.drafted[source] += 1
                self.stats.accepted[source] += place < row.n_new - 1
        self._planned = []

    def _remember(self) -> None:
        """Let new requests draft from finished ones, where that is wanted."""
        for done in self.requests.finished:
            memory = self.memories[done.drafter]
            if memory is not None:
                memory.add(self._shown(done.prompt), done.output)

    def _propose(self, slot: int, length: int) -> Draft | None:
        row = self.requests.rows[slot]
        assert row is not None
        room = min(self.control.max_draft, self.max_length - length - 1)
        if row.drafter < 0 or room < 1 or self.requests.end(slot):
            return None
        if row.state is None:
            prompt = self._shown(self.requests.ids(slot, 0, row.n_prompt))
            row.state = self.drafters[row.drafter].start(prompt, memory=self.memories[row.drafter])
        row.state.extend(self.requests.ids(slot, row.fed))
        row.fed = length
        return row.state.propose(room)

    def _shown(self, prompt: NDArray[np.int32]) -> NDArray[np.int32]:
        """A prompt as the drafter knows it; it may hold an earlier output of the model."""
        return prompt if self.vocabulary is None else self.vocabulary.remerge(prompt)
