"""A drafter at work: its weights follow what the target writes.

The weights of the file were learnt on outputs of the training data. A model has habits of its own, it may repeat itself
for example, and these show in its first outputs. Only weights change, numbers that say how far each kind of
evidence is believed; those that tell of single tokens stay. No text of a request is kept.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np

from tasc.draft import _fit
from tasc.draft.drafter import Drafter
from tasc.draft.interface import DraftState, Ids
from tasc.draft.learning import first_squares, observe_row
from tasc.draft.memory import Memory
from tasc.draft.mixture import Mixture
from tasc.errors import OptionError

if TYPE_CHECKING:
    from tasc.draft.interface import Drafts

RATE, PASSES = 0.2, 3
# so many requests teach, then one in so many: following an output takes about as long as drafting it did
FIRST, EVERY = 128, 16
LONGEST = 1024  # tokens of an output that teach


class AdaptiveDrafter:
    """One drafter for the requests of one model, in their order; it does not change the drafter that it was made from.

    Whoever shows it the same requests in the same order gets the same drafts: it never looks at a clock.

    Args:
        drafter: preset "best".

    Attributes:
        drafter: as it was given.
        fingerprint, vocab_size, eos_id: the drafter's.
        requests: how many were shown to `learn`.

    Raises:
        OptionError: the preset has no weights.
    """

    def __init__(self, drafter: Drafter) -> None:
        self.drafter, self.fingerprint = drafter, drafter.fingerprint
        self.vocab_size, self.eos_id = drafter.vocab_size, drafter.eos_id
        mixture = drafter.proposer
        if not isinstance(mixture, Mixture):
            raise OptionError("preset paper has no weights to adapt; build the drafter with preset best")
        self._mixture = replace(mixture, weights=mixture.weights.copy())
        self._weights = mixture.weights.astype(np.float64)
        self._squares = first_squares(of_tokens=False)
        self.requests = 0

    def start(self, prompt_ids: Ids, *, memory: Memory | None = None) -> DraftState:
        """See `Drafter.start`; drafts of the request follow the weights as they change."""
        return self._mixture.start(prompt_ids, memory=memory)

    def learn(self, prompt_ids: Ids, output_ids: Ids, *, memory: Memory | None = None) -> None:
        """Take in a finished request.

        Args:
            prompt_ids: as `start` got them.
            output_ids: what the target wrote, end token included if it ended.
            memory: outputs seen at run time, which must not hold this one yet.
        """
        self.requests += 1
        if self.requests > FIRST and self.requests % EVERY:
            return
        prompt, output = np.asarray(prompt_ids, np.int32), np.asarray(output_ids, np.int32)[:LONGEST]
        observed = observe_row(self._mixture, prompt, output, memory=memory)
        order = np.arange(len(output))
        for _ in range(PASSES):
            _fit.fit(observed.n_found, observed.gold, observed.features, order, self._weights, self._squares, RATE)
        self._mixture.weights[:] = self._weights


@overload
def adaptive(drafter: Drafter) -> AdaptiveDrafter | Drafter: ...
@overload
def adaptive(drafter: "Drafts") -> "Drafts": ...
def adaptive(drafter: "Drafts") -> "Drafts":
    """`AdaptiveDrafter` of a drafter that has weights to adapt; any other as it is."""
    return AdaptiveDrafter(drafter) if isinstance(drafter, Drafter) and drafter.preset == "best" else drafter
