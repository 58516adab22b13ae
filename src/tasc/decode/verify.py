"""What is kept of a draft: pure functions on ids, the same whatever engine ran the pass.

The target says, for every drafted token and one more, which token it would have written there. The draft stands as
far as it agrees; the target's own token follows. With sampling its tokens are samples: a draft is a point mass, so a
sample that equals the draft is an accepted one, and what is kept is distributed exactly as without drafts.
"""

from collections.abc import Collection, Sequence


def n_accepted(draft: Sequence[int], chosen: Sequence[int]) -> int:
    """How many leading tokens of a draft the target chose too.

    Args:
        draft: the drafted ids.
        chosen: the target's ids for the same places, as far as they were asked for; more may follow.

    Examples:
        >>> n_accepted([5, 6, 7], [5, 6, 9, 4])
        2
    """
    n = min(len(draft), len(chosen))
    for place in range(n):
        if draft[place] != chosen[place]:
            return place
    return n


def kept(draft: Sequence[int], chosen: Sequence[int]) -> list[int]:
    """The ids that a pass brings: the accepted part of the draft and the target's own next token.

    Args:
        draft: n drafted ids.
        chosen: the target's ids: n for the places of the draft and one for the place after it; more are ignored.

    Examples:
        >>> kept([5, 6, 7], [5, 6, 9, 4]), kept([5], [5, 8]), kept([], [3])
        ([5, 6, 9], [5, 8], [3])
    """
    return list(chosen[: n_accepted(draft, chosen) + 1])


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
