"""A server's batch as vLLM V1 keeps it: slots, moves between them, prompts in chunks, requests set aside.

A pass writes its ids behind what a slot held, drafts and stale text of earlier rows stay behind them, a request that
leaves makes a hole, and holes are filled by those that come and then by the last rows. A draft that is accepted to its
end is followed by one more id of the target, also behind an end id: the slot holds it, the request's output does not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

END = 0


@dataclass(eq=False)
class Served:
    """A request.

    Attributes:
        drafter: whose drafts it gets.
        unread: passes that only read its prompt.
        new: the ids of its last pass, those behind its end included.
        ended: it is done, by its end id.
    """

    prompt: list[int]
    drafter: int = 0
    unread: int = 0
    output: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def content(self) -> list[int]:
        return self.prompt + self.output


class Server:
    """Slots and what stands in them; `step` is one pass."""

    def __init__(self, n_slots: int, width: int) -> None:
        self.width = width
        self.tokens = np.full((n_slots, width), -7, np.int32)
        self.lengths = np.zeros(n_slots, np.int32)
        self.slots: list[Served | None] = []
        self.coming: list[Served] = []
        self.aside: list[Served] = []

    @property
    def rows(self) -> list[Served]:
        """The rows in use."""
        return [row for row in self.slots if row is not None]

    @property
    def has_room(self) -> bool:
        return len(self.rows) + len(self.coming) < len(self.tokens)

    def come(self, request: Served) -> None:
        self.coming.append(request)

    def leave(self, request: Served) -> None:
        """Finished or aborted: a hole, with the text still in it."""
        self.slots[self.slots.index(request)] = None

    def set_aside(self, request: Served) -> None:
        self.leave(request)
        request.draft = []
        self.aside.append(request)

    def bring_back(self, request: Served, unread: int = 0) -> None:
        """Its prompt and its outputs are read again."""
        self.aside.remove(request)
        request.unread = unread
        self.come(request)

    def swap(self, one: int, other: int) -> None:
        slots = self.slots
        if slots[one] is not None and slots[other] is not None:
            slots[one], slots[other] = slots[other], slots[one]
            self.tokens[[one, other]] = self.tokens[[other, one]]
            self.lengths[[one, other]] = self.lengths[[other, one]]

    def step(self, brought: Callable[[Served], Sequence[int]] | Iterator[Sequence[int]]) -> list[list[int]]:
        """A pass: the new ids of each row; `brought` says what a row whose prompt is read gets."""
        self._settle()
        new_ids: list[list[int]] = []
        for slot, row in enumerate(self.rows):
            row.new = []
            if row.unread:
                row.unread -= 1
            else:
                begin = int(self.lengths[slot])
                row.new = list(brought(row) if callable(brought) else next(brought))[: self.width - begin]
                self.tokens[slot, begin : begin + len(row.new)] = row.new
                self.lengths[slot] = begin + len(row.new)
                row.ended = END in row.new
                row.output += row.new[: row.new.index(END) + 1] if row.ended else row.new
            new_ids.append(row.new)
        return new_ids

    def take(self, drafts: Sequence[Sequence[int]]) -> None:
        """What is to be verified in the next pass; it stands behind the text, as in vLLM."""
        for slot, (row, draft) in enumerate(zip(self.rows, drafts, strict=True)):
            row.draft = list(draft)
            begin = int(self.lengths[slot])
            assert begin + len(draft) < self.width or not draft
            self.tokens[slot, begin : begin + len(draft)] = draft

    def sweep(self) -> None:
        """Those that are done leave."""
        for row in self.rows:
            if row.ended or len(row.prompt) + len(row.output) >= self.width:
                self.leave(row)

    def _settle(self) -> None:
        for request in self.coming:
            if None in self.slots:
                slot = self.slots.index(None)
                self.slots[slot] = request
            else:
                slot = len(self.slots)
                self.slots.append(request)
            content = request.content
            self.tokens[slot, : len(content)] = content
            self.lengths[slot] = len(content)
        self.coming = []
        while None in self.slots:
            last = self.slots.pop()
            if last is not None:
                hole, old = self.slots.index(None), len(self.slots)
                n = int(self.lengths[old])
                self.slots[hole] = last
                self.tokens[hole, :n] = self.tokens[old, :n]
                self.lengths[hole] = n
