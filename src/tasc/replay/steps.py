"""Recorded requests pass by pass: what was drafted, from which source, and what the target kept. Without a model.

A drafter is deterministic, so replaying it over a log makes the very drafts of that run again. Knows ids only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasc.draft.control import Control
from tasc.draft.interface import SOURCES, Draft, Drafts, DraftState, Ids, Learner, propose
from tasc.draft.recorded import Recorded
from tasc.draft.verify import NOTHING, Planned, accepted
from tasc.replay.simulate import replay_log


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of one request.

    Attributes:
        draft: what was verified.
        stand: the places of the drafted ids that the target would have written itself.
        own: the id that the target added; None where the drafted ids ended the output.
    """

    draft: Planned
    stand: tuple[int, ...]
    own: int | None

    @property
    def sources(self) -> tuple[str, ...]:
        """Where each drafted id came from, names of `tasc.draft.interface.SOURCES`."""
        return tuple(SOURCES[code] for code in self.draft.sources)

    @property
    def produced(self) -> tuple[int, ...]:
        """The ids that the pass brought."""
        return *(self.draft.tokens[place] for place in self.stand), *(() if self.own is None else (self.own,))


def passes_of(
    drafter: Drafts,
    requests: Sequence[Recorded],
    control: Control,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[tuple[Pass, ...] | None]:
    """The passes of each request of a log.

    Args:
        drafter: the one of that run, adaptive if it was so there.
        requests: the whole log, in its order: the control learns from request to request.
        control: fresh, with the options of that run.
        progress: called with the number of rows done since its last call.

    Returns:
        The passes of each request; None for one whose replay does not take the passes that were recorded, as with a
        drafter that was tuned since.

    Raises:
        DataError: see `replay_log`.
    """
    watched = _Watched(drafter)
    replayed = replay_log(watched, requests, control=control, progress=progress).requests
    found: list[tuple[Pass, ...] | None] = []
    for request, again, proposals in zip(requests, replayed, watched.proposals, strict=True):
        same = request.took_the_passes_of(again)
        found.append(_passes(request, proposals) if same else None)
    return found


def _passes(request: Recorded, proposals: "list[Draft | None]") -> tuple[Pass, ...]:
    passes, place = [], 0
    for n, draft in zip(request.drafted, proposals, strict=True):
        planned, left = NOTHING if draft is None else draft.planned(n), request.output_ids[place:]
        stand = accepted(planned, left)
        passes.append(Pass(planned, tuple(stand), left[len(stand)] if len(stand) < len(left) else None))
        place += len(passes[-1].produced)
    return tuple(passes)


class _Watched:
    """A drafter that remembers the last draft in front of each pass, request by request."""

    def __init__(self, drafter: Drafts) -> None:
        self.drafter, self.fingerprint, self.vocab_size = drafter, drafter.fingerprint, drafter.vocab_size
        self.proposals: list[list[Draft | None]] = []

    def start(self, prompt_ids: Ids) -> DraftState:
        """See `Drafts`."""
        self.proposals.append([])
        return _WatchedState(self.drafter.start(prompt_ids), self.proposals[-1])

    def learn(self, prompt_ids: Ids, output_ids: Ids) -> None:
        """See `Learner`."""
        if isinstance(self.drafter, Learner):
            self.drafter.learn(prompt_ids, output_ids)


class _WatchedState:
    def __init__(self, inner: DraftState, proposals: "list[Draft | None]") -> None:
        self.inner, self.proposals = inner, proposals
        self.last: Draft | None = None

    def extend(self, ids: Ids) -> None:
        self.proposals.append(self.last)
        self.last = None
        self.inner.extend(ids)

    def propose(self, max_tokens: int = 10) -> Draft:
        self.last = self.inner.propose(max_tokens)
        return self.last

    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        self.last = propose(self.inner, max_tokens, max_depth, tree=True, min_probability=min_probability)
        return self.last
