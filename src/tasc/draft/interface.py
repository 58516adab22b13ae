"""What every drafter offers, ours and the rivals': a state per request that proposes the tokens to come. Knows ids only."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# where a drafted token came from; `Draft.sources` holds the places in this tuple
SOURCES = ("corpus", "neighbour", "prompt", "output", "memory")

Ids = Sequence[int] | NDArray[np.integer]


class Draft(NamedTuple):
    """A chain of drafted tokens.

    Attributes:
        tokens: int32, shape (n,).
        sources: uint8, shape (n,), places in `SOURCES`.
        probabilities: float32, shape (n,): the chance of each token to be accepted given that all before it were.
    """

    tokens: NDArray[np.int32]
    sources: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


class DraftState(Protocol):
    """The memory of one request."""

    def extend(self, ids: Ids) -> None:
        """Append what the target produced, in order, its end token included."""
        ...

    def propose(self, max_tokens: int = 10) -> Draft:
        """At most `max_tokens` tokens, none behind an end token. The state stays as it is."""
        ...


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
