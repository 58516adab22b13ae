"""What is kept of a draft: pure functions on ids, the same whatever ran the pass, a model or a replay.

The target says, behind the row's last token and behind every drafted one, which token it would have written there. The
draft stands as far as it agrees; the target's own token follows. With sampling its tokens are samples: what is drafted
depends on no sample of this pass, so a sample that equals a drafted token is an accepted one, and what is kept is
distributed exactly as without drafts. That holds for a tree as for a chain: it only asks at more places.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Planned(NamedTuple):
    """What a pass verifies of a row's draft: a tree whose root is the row's last token.

    Attributes:
        tokens: ids; those that follow the same token differ.
        parents: of each token the place of the one it follows, somewhere before it; -1: the row's last token.
        sources: the source code of each token (`tasc.draft.interface.SOURCES`).
    """

    tokens: Sequence[int] = ()
    parents: Sequence[int] = ()
    sources: bytes = b""

    @classmethod
    def chain(cls, tokens: Sequence[int], sources: bytes = b"") -> "Planned":
        """Tokens that each follow the one before."""
        return cls(tokens, range(-1, len(tokens) - 1), sources)

    @property
    def branches(self) -> bool:
        """Whether it is no chain."""
        return any(parent != place - 1 for place, parent in enumerate(self.parents))

    @property
    def depth(self) -> int:
        """The most tokens one behind the other."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths, default=0)

    def path(self, place: int) -> list[int]:
        """The places from the first drafted token to this one, in order; none of -1."""
        places: list[int] = []
        while place >= 0:
            places.append(place)
            place = self.parents[place]
        return places[::-1]

    def child(self, place: int, token: int) -> int:
        """Where a token stands behind the one at a place, -1: the row's last; -1 if it was not drafted there."""
        for later in range(place + 1, len(self.tokens)):
            if self.parents[later] == place and self.tokens[later] == token:
                return later
        return -1


NOTHING = Planned()


@dataclass(slots=True)
class Verified:
    """What was verified of a row, pass by pass.

    Attributes:
        drafts: of each pass.
        stand: of each pass the places of the drafted tokens that stand.
    """

    drafts: list[Planned] = field(default_factory=list)
    stand: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.drafts)

    def add(self, draft: Planned, stand: list[int]) -> None:
        """Note a pass."""
        self.drafts.append(draft)
        self.stand.append(stand)

    @property
    def drafted(self) -> tuple[int, ...]:
        """Tokens that each pass verified."""
        return tuple(len(draft.tokens) for draft in self.drafts)

    @property
    def depths(self) -> tuple[int, ...]:
        """The most of them one behind the other."""
        return tuple(draft.depth for draft in self.drafts)

    @property
    def accepted(self) -> tuple[int, ...]:
        """How many of them stand."""
        return tuple(map(len, self.stand))


def accepted(draft: Planned, ids: Sequence[int]) -> list[int]:
    """The places of the drafted tokens that stand where the output has them.

    Args:
        draft: what was verified.
        ids: what the output has behind the row's last token, as far as it is known.

    Examples:
        >>> accepted(Planned([5, 8, 6, 7], [-1, -1, 0, 2]), [5, 6, 9]), accepted(Planned([5, 8], [-1, -1]), [8, 8])
        ([0, 2], [1])
    """
    places: list[int] = []
    place = -1
    for token in ids:
        place = draft.child(place, token)
        if place < 0:
            break
        places.append(place)
    return places


def kept(draft: Planned, chosen: Sequence[int]) -> list[int]:
    """The ids that a pass brings: the accepted part of the draft and the target's own next token.

    Args:
        draft: n tokens.
        chosen: the target's ids: behind the row's last token, then behind each drafted one; n + 1 of them, more are ignored.

    Examples:
        >>> kept(Planned.chain([5, 6, 7]), [5, 6, 9, 4]), kept(Planned([5, 8], [-1, -1]), [8, 1, 3]), kept(Planned(), [3])
        ([5, 6, 9], [8, 3], [3])
    """
    ids = [chosen[0]]
    place = draft.child(-1, ids[0])
    while place >= 0:
        ids.append(chosen[place + 1])
        place = draft.child(place, ids[-1])
    return ids


def by_position(depths: Sequence[int], n_accepted: Sequence[int]) -> list[list[int]]:
    """How far drafts got: of the first, second, ... place behind a row's last token, in how many passes.

    Args:
        depths: of each pass the most drafted tokens one behind the other.
        n_accepted: of each pass the accepted tokens.

    Returns:
        [passes that drafted a token for this place, passes that accepted one there].

    Examples:
        >>> by_position([2, 3, 0], [2, 1, 0])
        [[2, 2], [2, 1], [1, 0]]
    """
    places = range(max(depths, default=0))
    return [[sum(n > place for n in of) for of in (depths, n_accepted)] for place in places]


def until_end(ids: Sequence[int], end_ids: Collection[int], room: int) -> tuple[int, bool]:
    """How many of the ids still belong to the output, and whether it ends with them.

    Args:
        ids: what a pass brought.
        end_ids: the first of these ends the output and belongs to it.
        room: most ids the output may still get.

    Examples:
        >>> until_end([5, 2, 6], {2}, 10), until_end([5, 6, 2], {2}, 2), until_end([5, 6], {2}, 10)
        ((2, True), (2, False), (2, False))
    """
    for place, token in enumerate(ids[:room]):
        if token in end_ids:
            return place + 1, True
    return min(len(ids), room), False
