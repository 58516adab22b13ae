"""Whose tokens stand in which slot of a server's batch, known by their content alone. Ids only; no engine.

vLLM hands a proposer the tokens of all slots, with neither the requests' names nor their prompts' lengths, and moves
rows between slots, sets them aside and brings them back. So each call is compared with the one before, token by token:
a slot goes on only if it holds exactly what it held and then the new tokens. Every other row is looked up, by its whole
content, among the requests that lost their slot; one that is not there is new, and what it held before its new tokens
is its prompt. No request is ever taken for another unless both hold the same tokens.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasc._numba import njit
from tasc.draft.interface import DraftState

Key = tuple[int, bytes]  # whose drafts a request gets, and all its tokens


@njit
def follow(
    tokens: NDArray[np.int32],
    lengths: NDArray[np.int64],
    n_new: NDArray[np.int64],
    seen: NDArray[np.int32],
    n_seen: NDArray[np.int64],
    follows: NDArray[np.bool_],
) -> None:
    """Which slots go on with what was seen there; `seen` gets what is new in them."""
    for slot in range(len(lengths)):
        before = lengths[slot] - n_new[slot]
        same = n_new[slot] > 0 and n_seen[slot] == before
        if same:
            differs = 0
            for at in range(before):  # no early end: this runs on whole registers, and nearly all rows are the same
                differs |= seen[slot, at] ^ tokens[slot, at]
            same = differs == 0
        if same:
            for place in range(before, lengths[slot]):
                seen[slot, place] = tokens[slot, place]
            n_seen[slot] = lengths[slot]
        follows[slot] = same


class Request:
    """A request that was seen.

    Attributes:
        n_prompt: tokens of its prompt.
        drafter: whose drafts it gets, -1: nobody's.
        n_new: tokens that the last call brought it, 0 if it took no part.
        n_kept: of these, those up to the end id; all of them if there is none.
        ended: whether the last call brought the end id. It need not be the last that it brought: the target adds an id of
            its own to every draft that it takes as a whole.
        state: its drafter's memory, made when it is first asked for.
        fed: its tokens that the memory knows.
        sources: of the tokens drafted for its next pass.
        was_aside: whether it ever lost its slot in a call that did not bring it back.
    """

    __slots__ = ("drafter", "ended", "fed", "n_kept", "n_new", "n_prompt", "sources", "state", "was_aside")

    def __init__(self, n_prompt: int, drafter: int) -> None:
        self.n_prompt, self.drafter = n_prompt, drafter
        self.fed = n_prompt
        self.state: DraftState | None = None
        self.sources: bytes = b""
        self.was_aside = False
        self.bring((), -1)

    def bring(self, new: Sequence[int], end_id: int) -> None:
        """What a call brought it."""
        self.n_new, self.ended = len(new), end_id in new
        self.n_kept = list(new).index(end_id) + 1 if self.ended else self.n_new


class Finished(NamedTuple):
    """A request that left its slot: int32 ids, none behind an end token, whose drafts it got, and `Request.was_aside`."""

    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    drafter: int
    was_aside: bool


class Requests:
    """The requests of a batch and, bounded, those that lost their slot and may come back.

    Args:
        end_ids: of each drafter, the id that ends an output: a row that leaves after a pass that brought it is finished.
        most_parked: requests out of the batch that are remembered; the one that left first is forgotten first, and
            counts as a new one should it come back.
        most_tokens: their tokens together.

    Attributes:
        rows: by slot; None where nothing can be drafted.
        finished: those that the last call showed to be finished.
        set_aside: those that it showed, for the first time, without a slot and without an end token: at their limit, given
            up, or to come back.

    Examples:
        >>> requests, tokens = Requests([0]), np.array([[5, 6, 7, 0]], np.int32)
        >>> requests.update([[7]], np.array([3]), tokens)  # a prompt of two tokens and the first of its output
        >>> requests.rows[0].n_prompt
        2
    """

    def __init__(self, end_ids: Sequence[int], *, most_parked: int = 256, most_tokens: int = 1 << 20) -> None:
        self.end_ids, self.most_parked, self.most_tokens = list(end_ids), most_parked, most_tokens
        self.rows: list[Request | None] = []
        self.finished: list[Finished] = []
        self.set_aside: dict[Request, Finished] = {}
        self._seen = np.zeros((0, 0), np.int32)
        self._n_seen = np.zeros(0, np.int64)
        self._parked: OrderedDict[Key, list[Request]] = OrderedDict()
        self._n_parked = self._parked_tokens = 0

    def __len__(self) -> int:
        """Requests that are remembered, in the batch or out of it."""
        return self._n_parked + sum(row is not None for row in self.rows)

    def ids(self, slot: int, begin: int = 0, end: int | None = None) -> NDArray[np.int32]:
        """The tokens of a slot from `begin` to `end`, default: all that it holds; a view."""
        return self._seen[slot, begin : self._n_seen[slot] if end is None else end]

    def content(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The tokens of all slots, int32, shape (n_slots, width), and how many each holds; views."""
        return self._seen, self._n_seen

    def update(
        self,
        new_ids: Sequence[Sequence[int]],
        lengths: NDArray[np.integer],
        tokens: NDArray[np.int32],
        drafters: Sequence[int] | None = None,
    ) -> None:
        """Take in a call.

        Args:
            new_ids: of each row in use, the ids that the pass brought; none of a prompt that is not read to its end.
            lengths: int[n_slots]: tokens of each slot, the new ones included.
            tokens: int32[n_slots, width].
            drafters: of each row, whose drafts it gets; default: the first's.
        """
        n_rows = len(new_ids)
        self.finished, self.set_aside = [], {}
        self._fit(tokens)
        for slot, row in enumerate(self.rows[:n_rows]):
            if row is not None and drafters is not None and row.drafter != drafters[slot]:
                self._leave(slot, row)
        n_new = np.fromiter(map(len, new_ids), np.int64, n_rows)
        totals = np.asarray(lengths[:n_rows], np.int64)
        follows = np.zeros(n_rows, np.bool_)
        follow(tokens, totals, n_new, self._seen, self._n_seen, follows)
        if not (len(self.rows) == n_rows and follows.all()):
            self._reseat(follows, totals, n_new, tokens, drafters)
        for row, new in zip(self.rows, new_ids, strict=True):
            if row is not None:
                row.bring(new, self.end_ids[row.drafter] if row.drafter >= 0 else -1)

    def _reseat(
        self,
        follows: NDArray[np.bool_],
        totals: NDArray[np.int64],
        n_new: NDArray[np.int64],
        tokens: NDArray[np.int32],
        drafters: Sequence[int] | None,
    ) -> None:
        """Find each row that does not go on in its slot, after those of other slots have left theirs."""
        n_rows = len(follows)
        for slot, row in enumerate(self.rows):
            if row is not None and not (slot < n_rows and follows[slot]):
                self._leave(slot, row)
        self.rows = (self.rows + [None] * n_rows)[:n_rows]
        for slot in np.flatnonzero(~follows & (n_new > 0)).tolist():
            drafter, end = 0 if drafters is None else drafters[slot], int(totals[slot])
            begin = end - int(n_new[slot])
            found = self._unpark((drafter, tokens[slot, :begin].tobytes()))
            if found is not None:
                self.set_aside.pop(found, None)
            self.rows[slot] = found or Request(begin, drafter)
            self._seen[slot, :end] = tokens[slot, :end]
            self._n_seen[slot] = end
        for row in self.set_aside:
            row.was_aside = True
        while self._n_parked > self.most_parked or self._parked_tokens > self.most_tokens:
            self._unpark(next(iter(self._parked)))

    def _leave(self, slot: int, row: Request) -> None:
        """Take a request out of its slot: it is finished, or may come back."""
        held = self.ids(slot)
        held = held[: len(held) - row.n_new + row.n_kept].copy() if row.ended else held.copy()
        request = Finished(held[: row.n_prompt], held[row.n_prompt :], row.drafter, row.was_aside)
        if row.ended:
            self.finished.append(request)
        else:
            if not row.was_aside:
                self.set_aside[row] = request
            self._parked.setdefault((row.drafter, held.tobytes()), []).append(row)
            self._n_parked += 1
            self._parked_tokens += len(held)
        row.bring((), -1)
        self.rows[slot], self._n_seen[slot] = None, 0

    def _unpark(self, key: Key) -> Request | None:
        """The request that left first with this content; it is no longer parked."""
        rows = self._parked.get(key)
        if rows is None:
            return None
        row = rows.pop(0)
        if not rows:
            del self._parked[key]
        self._n_parked -= 1
        self._parked_tokens -= len(key[1]) // 4
        return row

    def _fit(self, tokens: NDArray[np.int32]) -> None:
        """Have room for a batch of this shape; an engine keeps it, so what was seen in another is not worth keeping."""
        if self._seen.shape == tokens.shape:
            return
        for slot, row in enumerate(self.rows):
            if row is not None:
                self._leave(slot, row)
        # pages that are never written to take no memory
        self._seen, self._n_seen = np.zeros(tokens.shape, np.int32), np.zeros(len(tokens), np.int64)
