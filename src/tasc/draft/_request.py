"""Kernels of one request's memory: where its context stands in the corpus, in its own text and in its prompt.

`seen` are outputs seen at run time, an index as one array (`_index.unpack`) that all requests share; it may be empty, and
another one at each call.

The memory is one int32 array: a frame (what changes with every token), a table of the tokens in its text, and the text:
outputs of similar rows, then the prompt, then what was generated, newest last. `advance` takes one token; on a copy of the
frame it looks ahead without touching the rest.

Tokens are compared by their variant (" Paris", "Paris", "paris" are one), `variants[token]`.
"""

import numpy as np

from tasc._numba import inner, njit
from tasc.draft._index import (
    COUNTS,
    DISTINCT,
    N_KEPT,
    SAMPLES,
    TOKENS,
    answer,
    is_known,
    is_listed,
    line_at,
    step_at,
    unpack,
)
from tasc.draft._index import LOWS as FOLLOWERS_LOWS

ORDERS = 16  # tokens of the longest context that is looked up in the corpus
NEWEST = 64  # occurrences of a token that may match the context
ACTIVE = NEWEST + 16  # places that match at a time; older ones are at most a token shorter than any newer one
LONG = 32  # tokens of a match; while one so long goes on no new one begins, which would say little and cost most
WALKED = 192  # occurrences of a token that are looked at, newest first
LONGEST = 1 << 20
REPEATED = 8  # how often, at first guess, a token stands in the outputs of similar rows

# frame
# the contexts of the corpus: TOP tokens of the longest that stands there, and the parts of the suffix array, by their number
# of tokens; at IN_SEEN the same of the outputs seen at run time
TOP, LOWS = 0, 1
HIGHS = LOWS + ORDERS + 1
IN_SEEN = HIGHS + ORDERS + 1
# CURSOR: the prompt position copied last, -1: none; LAST: the token taken last, NOW: its place, should it be kept; MATCHED:
# tokens of the longest match
CURSOR, SINCE, RUN, N_ACTIVE, TURN, LAST, NOW, MATCHED = range(2 * IN_SEEN, 2 * IN_SEEN + 8)
MATCHES = MATCHED + 1  # two lists of places with lengths, in turns: the matches now and those before
FRAME = MATCHES + 4 * ACTIVE
# constants of the request, behind the frame
# SEEN_MARK: of the index that the contexts at IN_SEEN are of
N_TEXT, PROMPT_AT, PROMPT_END, CAPACITY, BUCKETS, N_ENTRIES, WEIGHT_SUM, SEEN_MARK = range(FRAME, FRAME + 8)
HEAD = FRAME + 8
# the table has room for BUCKETS entries, at most half of them taken, of: variant + 1 (0: free), newest place, weight of the
# similar rows that hold it, last such row
ENTRY = 4
# each place of the text has: token, variant, kind, next older place with the same variant (-1: none)
PLACE = 4
UNUSED, USED, OUTPUT = (
    -1,
    -2,
    -3,
)  # kinds: prompt not yet copied, prompt copied, generated; above 0: weight of a similar row


@inner
def variant_of(variants, token):
    """What a token is compared by; an id beyond the vocabulary stands for itself."""
    return variants[token] if 0 <= token < len(variants) else token


@inner
def text_at(state):
    """Where the text begins."""
    return HEAD + ENTRY * state[BUCKETS]


@inner
def entry_of(state, variant):
    """The place of a variant's entry in the table, or that of the free entry where it belongs."""
    mask = state[BUCKETS] - 1
    key = np.int32(variant + 1)  # as it is stored, should an id be the largest there is
    bucket = ((key * 0x9E3779B1) >> 12) & mask
    while True:
        at = HEAD + ENTRY * bucket
        if state[at] == 0 or state[at] == key:
            return at
        bucket = (bucket + 1) & mask


@inner
def append(state, token, variant, kind):
    """Put a token at the end of the text."""
    place = state[N_TEXT]
    at = entry_of(state, variant)
    if state[at] == 0:
        state[at], state[at + 1] = variant + 1, -1
        state[at + 2], state[at + 3] = 0, -1
        state[N_ENTRIES] += 1
    line = text_at(state) + PLACE * place
    state[line], state[line + 1], state[line + 2], state[line + 3] = token, variant, kind, state[at + 1]
    state[at + 1] = place
    state[N_TEXT] = place + 1
    return at


@njit
def new_memory(capacity, n_entries):
    """A zeroed memory with room for so many places of text and so many different tokens."""
    buckets = 1
    while buckets < 2 * n_entries:  # a full table would be searched without end
        buckets *= 2
    state = np.zeros(HEAD + ENTRY * buckets + PLACE * capacity, np.int32)
    state[CAPACITY], state[BUCKETS] = capacity, buckets
    return state


@njit
def grown(state, capacity, n_more):
    """The same memory with room for so many places of text and for `n_more` tokens that it does not hold yet."""
    bigger = new_memory(capacity, state[N_ENTRIES] + n_more)
    buckets = bigger[BUCKETS]
    bigger[:HEAD] = state[:HEAD]
    bigger[CAPACITY], bigger[BUCKETS] = capacity, buckets
    text = text_at(state)
    for old in range(HEAD, text, ENTRY):
        if state[old] != 0:
            at = entry_of(bigger, state[old] - 1)
            bigger[at : at + ENTRY] = state[old : old + ENTRY]
    n_kept = PLACE * state[N_TEXT]
    bigger[text_at(bigger) : text_at(bigger) + n_kept] = state[text : text + n_kept]
    return bigger


@njit
def add_similar(state, tokens, starts, variants, rows, weights):
    """Append the outputs of similar rows, best last; row k of `tokens` begins at starts[k].

    Returns the memory, which may be another one with a larger table.
    """
    for k in range(len(rows)):
        first, end = starts[rows[k]], starts[rows[k] + 1]
        if 2 * (state[N_ENTRIES] + end - first) > state[BUCKETS]:
            state = grown(state, state[CAPACITY], end - first)
        _add_row(state, tokens, first, end, variants, weights[k], k + 1)
    return state


@inner
def _add_row(state, tokens, first, end, variants, weight, number):
    """Append tokens[first:end], the output of a similar row; its number, from 1 on, tells it from the others."""
    state[WEIGHT_SUM] += weight
    for place in range(first, end):
        token = tokens[place]
        at = append(state, token, variant_of(variants, token), weight)
        if state[at + 3] != number:
            state[at + 3] = number
            state[at + 2] += weight


@inner
def add_prompt(state, variants, prompt, start_id):
    """Append the prompt; the output begins behind it."""
    append(state, start_id, start_id, OUTPUT)  # nothing continues across it
    state[PROMPT_AT] = state[N_TEXT]
    for token in prompt:
        append(state, token, variant_of(variants, token), UNUSED)
    state[PROMPT_END] = state[N_TEXT]


@inner
def advance(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, frame, token):
    """Move the frame over one token. Returns the prompt place that was copied for the first time, or -1."""
    _narrow_contexts(tokens, suffixes, ids, starts, 0, steps, memo, frame, token)
    _narrow_seen(seen, steps, memo, frame, token)
    frame[LAST] = token
    frame[NOW] += 1
    variant = variant_of(variants, token)
    at = entry_of(state, variant)
    newest = state[at + 1] if state[at] else -1
    _match(state, frame, newest)
    return _move_cursor(state, frame, variant, newest)


@inner
def _narrow_seen(seen, steps, memo, frame, token):
    """`_narrow_contexts` in the outputs seen at run time."""
    tokens, suffixes, ids, starts, mark = unpack(seen)
    if len(tokens) > 0:
        _narrow_contexts(tokens, suffixes, ids, starts, mark, steps, memo, frame[IN_SEEN : 2 * IN_SEEN], token)


@inner
def look_up_again(seen, steps, memo, state):
    """Find the context in the outputs seen at run time, should they be others than at the last call."""
    tokens, _, _, _, mark = unpack(seen)
    if state[SEEN_MARK] == mark:
        return
    state[SEEN_MARK] = mark
    state[IN_SEEN + TOP], state[IN_SEEN + LOWS], state[IN_SEEN + HIGHS] = 0, 0, len(tokens)
    text = text_at(state)
    for place in range(max(state[PROMPT_AT], state[N_TEXT] - ORDERS), state[N_TEXT]):
        _narrow_seen(seen, steps, memo, state[:FRAME], state[text + PLACE * place])


@inner
def _narrow_contexts(tokens, suffixes, ids, starts, mark, steps, memo, frame, token):
    """The parts of an index that begin with the last tokens, for every number of them.

    Parts of one size hold suffixes that end the same contexts, in the same order, so one look answers for all of them.
    """
    top = frame[TOP]
    size = asked = -1  # asked: where the part begins whose answer counts for all of its size, -1: not asked yet
    longest = shift = left = 0
    for k in range(top, -1, -1):
        low, high = frame[LOWS + k], frame[HIGHS + k]
        if high - low != size:
            size, asked, longest = high - low, -1, k
        if k == ORDERS:
            continue
        if asked < 0:  # the longest context of this size: its followers are listed as a rule
            asked = frame[LOWS + longest]
            first, end = _child(tokens, suffixes, ids, starts, mark, steps, memo, asked, asked + size, longest, token)
            shift, left = first - asked, end - first
        if left > 0:
            frame[LOWS + k + 1], frame[HIGHS + k + 1] = low + shift, low + shift + left
        else:
            frame[LOWS + k + 1] = frame[HIGHS + k + 1] = 0
    top = min(top + 1, ORDERS)
    while top > 0 and frame[HIGHS + top] <= frame[LOWS + top]:
        top -= 1
    frame[TOP] = top


@inner
def _child(tokens, suffixes, ids, starts, mark, steps, memo, low, high, depth, token):
    """The part of suffixes[low:high] with `token` next: (low, high), equal if it never follows."""
    if high - low == 1:
        place = suffixes[low] + depth
        return low, low + (1 if place < len(tokens) and tokens[place] == token else 0)
    line = line_at(memo, low, high, mark + depth)
    if is_listed(memo, line, low, high, mark + depth):  # what was drafted is among the followers as a rule
        for i in range(memo[line, N_KEPT]):
            if memo[line, TOKENS + i] == token:
                return memo[line, FOLLOWERS_LOWS + i], memo[line, FOLLOWERS_LOWS + i] + memo[line, COUNTS + i]
        if high - low <= SAMPLES and memo[line, N_KEPT] == memo[line, DISTINCT]:  # all are listed
            return low, low
    at = step_at(steps, low, high, mark + depth, token)
    if not is_known(steps, at, low, high, mark + depth, token):
        answer(tokens, suffixes, ids, starts, mark, steps, at, low, high, depth, token)
    return steps[at, 4], steps[at, 5]


@inner
def _match(state, frame, newest):
    """The places that hold the token now, each with the length of its match; both lists fall, so they are merged.

    A token may occur often, so only its newest places begin a match, and none while a LONG one goes on. One that has begun
    goes on at older places too: what is drafted follows the longest matches, and those one token shorter
    (`_sources.from_text`).
    """
    text = text_at(state)
    n_old = frame[N_ACTIVE]
    old_at = MATCHES + 2 * ACTIVE * frame[TURN]
    frame[TURN] = 1 - frame[TURN]
    at = MATCHES + 2 * ACTIVE * frame[TURN]
    if (
        newest >= 0
        and frame[MATCHED] >= LONG
        and _go_on(state, frame, text, old_at, at, state[text + PLACE * newest + 1])
    ):
        return
    old = n = longest = 0
    place = newest
    while place >= 0 and n < NEWEST:
        while old < n_old and frame[old_at + old] > place - 1:
            old += 1
        length = 1
        if old < n_old and frame[old_at + old] == place - 1:
            length += frame[old_at + ACTIVE + old]
        frame[at + n], frame[at + ACTIVE + n] = place, length
        longest = max(longest, length)
        n += 1
        place = state[text + PLACE * place + 3]
    if place >= 0:
        variant = state[text + PLACE * place + 1]
        while old < n_old and n < ACTIVE:
            older, length = frame[old_at + old] + 1, frame[old_at + ACTIVE + old] + 1
            if older <= place and length >= longest - 1 and state[text + PLACE * older + 1] == variant:
                frame[at + n], frame[at + ACTIVE + n] = older, length
                longest = max(longest, length)
                n += 1
            old += 1
    frame[N_ACTIVE], frame[MATCHED] = n, longest


@inner
def _go_on(state, frame, text, old_at, at, variant):
    """Let the matches that go on with a token be all there are; False, and nothing said, where no LONG one does."""
    n = longest = 0
    for k in range(frame[N_ACTIVE]):
        place = frame[old_at + k] + 1
        if place < state[N_TEXT] and state[text + PLACE * place + 1] == variant:
            length = frame[old_at + ACTIVE + k] + 1
            frame[at + n], frame[at + ACTIVE + n] = place, length
            longest = max(longest, length)
            n += 1
    if longest <= LONG:
        return False
    frame[N_ACTIVE], frame[MATCHED] = n, longest
    return True


@inner
def _move_cursor(state, frame, variant, newest):
    """Let the cursor follow a copied token: to the next place, else the nearest after it, else the first not yet copied."""
    text, begin_, end = text_at(state), state[PROMPT_AT], state[PROMPT_END]
    after = frame[CURSOR] + 1 if frame[CURSOR] >= 0 else begin_
    goal = -1
    if after < end and state[text + PLACE * after + 1] == variant and frame[CURSOR] >= 0:
        goal = after
        frame[RUN] += 1
    else:
        nearest = unused = -1
        place, walked = newest, 0
        while place >= begin_ and walked < WALKED:
            if place < end:
                if place >= after:
                    nearest = place
                elif state[text + PLACE * place + 2] == UNUSED:
                    unused = place
            walked += 1
            place = state[text + PLACE * place + 3]
        goal = nearest if nearest >= 0 else unused
        if goal >= 0:
            frame[RUN] = 1
    if goal < 0:
        frame[SINCE] = min(frame[SINCE] + 1, LONGEST)
        return -1
    frame[CURSOR], frame[SINCE] = goal, 0
    line = text + PLACE * goal + 2
    if state[line] == USED:
        return -1
    state[line] = USED
    return goal


@inner
def extend(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, new_ids):
    """Take tokens that the target produced."""
    look_up_again(seen, steps, memo, state)
    for token in new_ids:
        advance(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, state[:FRAME], token)
        append(state, token, variant_of(variants, token), OUTPUT)


@njit
def begin(
    tokens, suffixes, ids, starts, steps, variants, memo, seen, row_starts, rows, weights, prompt, room, start_id
):
    """The memory of a request before the first token of its output, with room for `room` of them.

    `rows` of the corpus are the similar ones, best last.
    """
    n_similar = 0
    for row in rows:
        n_similar += row_starts[row + 1] - row_starts[row]
    own = len(prompt) + room + 2  # two start markers
    state = new_memory(n_similar + own, own + n_similar // REPEATED)
    state[CURSOR], state[SINCE] = -1, LONGEST
    state[HIGHS] = len(tokens)
    state = add_similar(state, tokens, row_starts, variants, rows, weights)
    if 2 * (state[N_ENTRIES] + own) > state[BUCKETS]:
        state = grown(state, state[CAPACITY], own)
    add_prompt(state, variants, prompt, start_id)
    look_up_again(seen, steps, memo, state)
    state[NOW] = state[N_TEXT] - 1
    advance(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, state[:FRAME], start_id)
    append(state, start_id, variant_of(variants, start_id), OUTPUT)
    return state
