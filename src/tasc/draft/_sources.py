"""Kernels of the default drafter's sources: each names candidates for the next token and says what speaks for them.

`found` (int32[MOST], -1 where free) holds the candidates, `slots` (uint8[SLOTS]) says where. `numbers`
(float64[NUMBERS, MOST]) says what speaks for each, see below.
"""

from tasc._numba import inner
from tasc.draft._index import (
    COUNTS,
    DISTINCT,
    N_KEPT,
    TOKENS,
    answer,
    is_known,
    is_listed,
    line_at,
    list_followers,
    prefetch,
    step_at,
    unpack,
)
from tasc.draft._request import (
    ACTIVE,
    CURSOR,
    HIGHS,
    IN_SEEN,
    LOWS,
    MATCHES,
    N_ACTIVE,
    N_TEXT,
    NOW,
    PLACE,
    PROMPT_AT,
    PROMPT_END,
    TOP,
    TURN,
    text_at,
)

MOST = 16  # candidates
SLOTS = 128  # by the last bits of an id: the place, and 1, of the first candidate that has them; 0: none
FROM_TEXT = 10  # candidates when outputs seen at run time have their turn
FROM_BOTH = 13  # when the corpus has
LEVELS = 6  # contexts of different frequency that are mixed
SEEN_LEVELS = 2  # of outputs seen at run time
SPECIAL = 2  # first candidates whose counts are looked up where they are not among the followers kept
FLOOR = 1e-6  # probability of a token that the corpus never saw
# lines of `numbers`: probability in the corpus, votes of similar rows, longest match in the prompt, and in the output so far;
# how often that match in the output repeats the text since it; probability in the outputs seen at run time
CORPUS, VOTES, IN_PROMPT, IN_OUTPUT, REPEATS, SEEN = range(6)
NUMBERS = 6
FAVOUR = 4.0  # what a vote counts for the longest match, against one token less


@inner
def find(found, slots, token):
    """The place of a token among the candidates, or -1."""
    at = slots[token & (SLOTS - 1)] - 1
    if at < 0 or found[at] == token:
        return at
    at = -1  # another candidate has the slot
    for k in range(MOST):  # no early end: this runs on whole registers
        if found[k] == token:
            at = k
    return at


@inner
def add(found, slots, n, token, start_id):
    """The place of a token among the candidates, added if new: (place or -1, how many there are)."""
    if token >= start_id or token < 0:
        return -1, n
    at = find(found, slots, token)
    if at >= 0:
        return at, n
    if n == MOST:
        return -1, n
    if slots[token & (SLOTS - 1)] == 0:
        slots[token & (SLOTS - 1)] = n + 1
    found[n] = token
    return n, n + 1


@inner
def after_cursor(state, frame):
    """The prompt's next token after the one copied last, as its usual variant and as it is: -1 and -1 at the end."""
    place = frame[CURSOR] + 1 if frame[CURSOR] >= 0 else state[PROMPT_AT]
    if place >= state[PROMPT_END]:
        return -1, -1
    line = text_at(state) + PLACE * place
    return state[line + 1], state[line]


@inner
def from_text(state, frame, start_id, found, slots, n, numbers):
    """What followed the context in the request's own text: (candidates, longest match in similar rows, all their votes)."""
    text = text_at(state)
    n_active, last = frame[N_ACTIVE], state[N_TEXT] - 1
    places = MATCHES + 2 * ACTIVE * frame[TURN]
    lengths = places + ACTIVE
    longest = 0
    for k in range(n_active):
        place = frame[places + k]
        if place < last and state[text + PLACE * (place + 1) + 2] > 0 and frame[lengths + k] > longest:
            longest = frame[lengths + k]
    votes = 0.0
    for shorter in range(2):  # the longest matches choose candidates first
        for k in range(n_active):
            place, length = frame[places + k], frame[lengths + k]
            if place >= last:
                continue
            line = text + PLACE * (place + 1)
            kind = state[line + 2]
            if kind > 0:
                if length != longest - shorter:
                    continue
                weight = kind if shorter else kind * FAVOUR
                votes += weight
                at, n = _place(found, slots, n, state[line], start_id, FROM_TEXT)
                if at >= 0:
                    numbers[VOTES, at] += weight
            elif not shorter and n < FROM_TEXT:
                at, n = add(found, slots, n, state[line], start_id)
                if at >= 0:
                    if place < state[PROMPT_END]:
                        numbers[IN_PROMPT, at] = max(numbers[IN_PROMPT, at], length)
                    elif length > numbers[IN_OUTPUT, at]:
                        numbers[IN_OUTPUT, at] = length
                        numbers[REPEATS, at] = length // (frame[NOW] - place)
    return n, longest, votes


@inner
def _place(found, slots, n, token, start_id, most):
    """`add` that leaves places free for later sources."""
    if n < most:
        return add(found, slots, n, token, start_id)
    return (find(found, slots, token) if token >= 0 else -1), n


@inner
def expect_corpus(memo, frame):
    """Have the memory bring what will be looked up in the corpus."""
    size, n = -1, 0
    for order in range(frame[TOP], -1, -1):
        low, high = frame[LOWS + order], frame[HIGHS + order]
        if high - low != size:
            if n == LEVELS:
                break
            size = high - low
            if size > 1:
                prefetch(memo, low, high, order)
            n += 1


@inner
def from_corpus(tokens, suffixes, ids, starts, steps, memo, frame, start_id, found, slots, n, numbers, counts, masses):
    """`from_index` of the corpus."""
    return from_index(
        tokens, suffixes, ids, starts, 0, steps, memo, frame, start_id, found, slots, n, MOST, LEVELS, numbers[CORPUS], counts,
        masses,
    )  # fmt: skip


@inner
def from_seen(seen, steps, memo, frame, start_id, found, slots, n, numbers, counts, masses):
    """`from_index` of the outputs seen at run time, if there are any."""
    tokens, suffixes, ids, starts, mark = unpack(seen)
    if len(tokens) == 0:
        return n
    return from_index(
        tokens, suffixes, ids, starts, mark, steps, memo, frame[IN_SEEN : 2 * IN_SEEN], start_id, found, slots, n, FROM_BOTH,
        SEEN_LEVELS, numbers[SEEN], counts, masses,
    )  # fmt: skip


@inner
def from_index(
    tokens, suffixes, ids, starts, mark, steps, memo, frame, start_id, found, slots, n, most, levels, chances, counts, masses
):  # fmt: skip
    """What follows the context in an index, and how likely each candidate is there (Witten-Bell); how many there are.

    The longest context chooses candidates first, up to `most` of them; then probabilities are mixed from the shortest
    context on, into `chances` (float64[MOST]). `counts` (int32[LEVELS, MOST]) and `masses` (float64[LEVELS, 2]) are scratch.
    """
    n_special, n_levels = min(n, SPECIAL), 0
    order, size = frame[TOP], -1
    lowest = 1 if order > 0 else 0  # a context that was never seen leaves the most frequent tokens
    while order >= lowest and n_levels < levels:
        low, high = frame[LOWS + order], frame[HIGHS + order]
        if high - low != size:
            size = high - low
            here = counts[n_levels]
            for k in range(MOST):  # a shorter context is followed at least as often by what follows the longer one
                here[k] = counts[n_levels - 1, k] if n_levels > 0 else 0
            masses[n_levels, 0], masses[n_levels, 1] = size, 0
            if size == 1:  # its one follower is found sooner in the text than in the table
                place = suffixes[low] + order
                if place < len(tokens):
                    masses[n_levels, 1] = 1
                    at, n = _place(found, slots, n, tokens[place], start_id, most)
                    if at >= 0:
                        here[at] = 1
            else:
                line = line_at(memo, low, high, mark + order)
                if not is_listed(memo, line, low, high, mark + order):
                    list_followers(tokens, suffixes, mark, memo, line, low, high, order)
                masses[n_levels, 1] = memo[line, DISTINCT]
                listed = 0
                for k in range(memo[line, N_KEPT]):
                    listed += memo[line, COUNTS + k]
                    at, n = _place(found, slots, n, memo[line, TOKENS + k], start_id, most)
                    if at >= 0:
                        here[at] = memo[line, COUNTS + k]
                if listed < size:
                    for i in range(n_special):
                        if here[i] == 0:
                            at = step_at(steps, low, high, mark + order, found[i])
                            if not is_known(steps, at, low, high, mark + order, found[i]):
                                answer(tokens, suffixes, ids, starts, mark, steps, at, low, high, order, found[i])
                            here[i] = steps[at, 5] - steps[at, 4]
            n_levels += 1
        order -= 1
    for i in range(n):
        chances[i] = FLOOR
    for level in range(n_levels - 1, -1, -1):
        distinct = masses[level, 1]
        scale = 1.0 / max(masses[level, 0] + distinct, 1.0)  # 0 in an empty index
        for i in range(n):
            chances[i] = (counts[level, i] + distinct * chances[i]) * scale
    return n
