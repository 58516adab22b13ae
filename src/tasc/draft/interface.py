"""What every drafter offers, ours and the rivals': a state per request that proposes the tokens to come. Knows ids only."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tasc.draft.verify import Planned

# where a drafted token came from; `Draft.sources` holds the places in this tuple
SOURCES = ("corpus", "neighbour", "prompt", "output", "memory")

Ids = Sequence[int] | NDArray[np.integer]


class Draft(NamedTuple):
    """Drafted tokens: a chain, or a tree whose first tokens make a tree as well, however many are taken.

    Attributes:
        tokens: int32, shape (n,).
        sources: uint8, shape (n,), places in `SOURCES`.
        probabilities: float32, shape (n,): their running product is the chance of each token to be accepted. So of a chain
            each is the chance of its token given that all before it were; a tree has its likeliest tokens first.
        parents: int32, shape (n,): the place of the token that each follows, before it; -1: the last token there is. None of
            a chain.
    """

    tokens: NDArray[np.int32]
    sources: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    parents: NDArray[np.int32] | None = None

    def planned(self, n: int) -> Planned:
        """The first n tokens, as a pass verifies them."""
        tokens, sources = self.tokens[:n].tolist(), self.sources[:n].tobytes()
        if self.parents is None:
            return Planned.chain(tokens, sources)
        return Planned(tokens, self.parents[:n].tolist(), sources)


def by_source(passes: Iterable[tuple[Planned, Sequence[int]]]) -> dict[str, list[int]]:
    """Name of the source -> [drafted, accepted] tokens, in the order of `SOURCES`; of those that drafted.

    Args:
        passes: what each verified, and the places of the tokens that stood.
    """
    counts = [[0, 0] for _ in SOURCES]
    for draft, stand in passes:
        for code in draft.sources:
            counts[code][0] += 1
        for place in stand:
            counts[draft.sources[place]][1] += 1
    return {source: count for source, count in zip(SOURCES, counts, strict=True) if count[0]}


class DraftState(Protocol):
    """The memory of one request."""

    def extend(self, ids: Ids) -> None:
        """Append what the target produced, in order, its end token included."""
        ...

    def propose(self, max_tokens: int = 10) -> Draft:
        """A chain of at most `max_tokens` tokens, none behind an end token. The state stays as it is."""
        ...


class TreeState(DraftState, Protocol):
    """One that drafts trees as well."""

    def propose_tree(self, max_tokens: int, max_depth: int, *, min_probability: float = 0.0) -> Draft:
        """The most likely tokens to come, alternatives to each other among them.

        Args:
            max_tokens: most tokens.
            max_depth: most tokens one behind the other.
            min_probability: tokens that are reached with a smaller chance may be left out.
        """
        ...


def propose(state: DraftState, max_tokens: int, max_depth: int, *, tree: bool, min_probability: float = 0.0) -> Draft:
    """What a state drafts for a pass: a tree where that is wanted and it can, else a chain."""
    grow: Any = getattr(state, "propose_tree", None) if tree else None  # isinstance takes longer than a short draft
    if grow is None:
        return state.propose(min(max_tokens, max_depth))
    return grow(max_tokens, max_depth, min_probability=min_probability)


class Drafts(Protocol):
    """A drafter, shared by all requests; read-only unless it is a `Learner`.

    Attributes:
        fingerprint: the tokenizer whose ids it speaks; `""` fits any.
        vocab_size: its ids are below this.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 (said above)
    @property
    def vocab_size(self) -> int: ...  # noqa: D102

    def start(self, prompt_ids: Ids) -> DraftState:
        """The memory of one request, which begins with this prompt."""
        ...


@runtime_checkable
class Learner(Protocol):
    """What a drafter that learns from request to request has beside what `Drafts` asks for."""

    def learn(self, prompt_ids: Ids, output_ids: Ids) -> None:
        """Take in a finished request: the prompt as `start` got it, and all that the target produced."""
        ...
