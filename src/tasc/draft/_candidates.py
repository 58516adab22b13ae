"""Kernels of the default drafter: candidates for the next token, their features, and the softmax that ranks them.

Each candidate gets a few small integers (see FEATURES); a table of learnt weights turns each into a number, their sum is
the candidate's score. "None of them" competes with a score of its own, so that the softmax gives honest probabilities.
"""

import math

import numpy as np

from tasc._numba import njit
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
    step_at,
)
from tasc.draft._request import (
    ACTIVE,
    CURSOR,
    FRAME,
    HIGHS,
    MATCHES,
    N_ACTIVE,
    N_TEXT,
    PLACE,
    PROMPT_AT,
    PROMPT_END,
    RUN,
    SINCE,
    TOP,
    TURN,
    UNUSED,
    USED,
    WEIGHT_SUM,
    advance,
    append,
    entry_of,
    text_at,
)
from tasc.draft._request import LOWS as LOWS_OF_ORDERS

MOST = 16  # candidates
FROM_SIMILAR = 10  # candidates when the corpus has its turn
LEVELS = 6  # contexts of different frequency that are mixed
FLOOR = 1e-6
HALF_OCTAVE = math.sqrt(0.5)
SPECIAL = 2  # first candidates whose counts are looked up where they are not among the followers kept

# bins of the features, and where each feature's weights begin
LENGTH_BINS, SIZE_BINS, P_BINS = 7, 4, 24
CONTEXTS = LENGTH_BINS * SIZE_BINS
SIZES = (
    P_BINS * CONTEXTS,  # probability in the corpus x length and frequency of the context
    3 * P_BINS,  # in the prompt (not, copied already, not yet copied) x probability in the corpus
    33,  # next in the prompt after the cursor: as it is or as its usual variant x distance x run
    64,  # length of the best match in the prompt x in the output so far
    6 * 12,  # share among the similar rows with the longest match x its length
    2 * CONTEXTS,  # at the cursor x context
    1 + P_BINS,  # at the cursor x probability in the corpus
    10 * P_BINS,  # share of the similar rows that hold it x probability in the corpus
    CONTEXTS,  # none of the candidates x context
)
FEATURES = len(SIZES) - 1  # of a candidate
NONE_AT = sum(SIZES[:-1])
N_WEIGHTS = sum(SIZES)
STARTS = tuple(sum(SIZES[:k]) for k in range(FEATURES))

# sources, as places in interface.SOURCES
CORPUS, SIMILAR, PROMPT, GENERATED = 0, 1, 2, 3


@njit
def p_bin(p, bins):
    """Half octaves of a probability: bins - 1 for 1, 1 for tiny ones, 0 for 0."""
    if p <= 0.0:
        return 0
    mantissa, exponent = math.frexp(p)
    place = bins - 3 + 2 * exponent + (1 if mantissa >= HALF_OCTAVE else 0)
    if place < 1:
        return 1
    return place if place < bins - 1 else bins - 1


@njit
def _add(found, n, token, start_id):
    """The place of a token among the candidates, added if new: (place or -1, how many there are)."""
    if token >= start_id or token < 0:
        return -1, n
    at = -1
    for k in range(MOST):  # no early end: this runs on whole registers
        if found[k] == token:
            at = k
    if at >= 0:
        return at, n
    if n == MOST:
        return -1, n
    found[n] = token
    return n, n + 1


@njit
def candidates(
    tokens,
    suffixes,
    ids,
    starts,
    steps,
    variants,
    memo,
    state,
    frame,
    start_id,
    found,
    features,
    numbers,
    counts,
    masses,
):
    """Fill `found` (token ids) and `features` (int32[MOST + 1, FEATURES]; last line: the context); how many there are."""
    text = text_at(state)
    found[:] = -1
    n = 0
    usual = raw = -1
    cursor = frame[CURSOR]
    if cursor >= 0 and cursor + 1 < state[PROMPT_END]:
        raw = state[text + PLACE * (cursor + 1)]
        usual = state[text + PLACE * (cursor + 1) + 1]
    elif cursor < 0 and state[PROMPT_AT] < state[PROMPT_END]:
        raw = state[text + PLACE * state[PROMPT_AT]]
        usual = state[text + PLACE * state[PROMPT_AT] + 1]
    if usual >= 0:
        _, n = _add(found, n, usual, start_id)
        _, n = _add(found, n, raw, start_id)
    # matches in the request's own text; numbers[0]: corpus, [1]: votes, [2]: prompt match, [3]: output match
    numbers[:] = 0.0
    n_active, last = frame[N_ACTIVE], state[N_TEXT] - 1
    places = MATCHES + 2 * ACTIVE * frame[TURN]
    lengths = places + ACTIVE
    longest = 0
    for k in range(n_active):
        place = frame[places + k]
        if place < last and state[text + PLACE * (place + 1) + 2] > 0 and frame[lengths + k] > longest:
            longest = frame[lengths + k]
    votes = 0.0
    for wanted in range(2):  # the longest matches choose candidates first
        for k in range(n_active):
            place, length = frame[places + k], frame[lengths + k]
            if place >= last:
                continue
            line = text + PLACE * (place + 1)
            kind = state[line + 2]
            if kind > 0:
                if length < longest - 1 or (length == longest) != (wanted == 0):
                    continue
                weight = kind * (4.0 if length == longest else 1.0)
                votes += weight
                if n < FROM_SIMILAR:
                    at, n = _add(found, n, state[line], start_id)
                else:
                    at = -1
                    for i in range(n):
                        if found[i] == state[line]:
                            at = i
                if at >= 0:
                    numbers[1, at] += weight
            elif wanted == 0:
                at, n = _add(found, n, state[line], start_id) if n < FROM_SIMILAR else (-1, n)
                if at >= 0:
                    own = 2 if place < state[PROMPT_END] else 3
                    numbers[own, at] = max(numbers[own, at], length)
    # the corpus: the longest context first chooses candidates, then probabilities from the shortest on
    n_special = n
    top = frame[TOP]
    n_levels = 0
    order, size = top, -1
    lowest = 1 if top > 0 else 0  # a context that was never seen leaves the most frequent tokens
    while order >= lowest and n_levels < LEVELS:
        low, high = frame[LOWS_OF_ORDERS + order], frame[HIGHS + order]
        if high - low != size:
            size = high - low
            line = line_at(memo, low, high, order)
            if not is_listed(memo, line, low, high, order):
                list_followers(tokens, suffixes, memo, line, low, high, order)
            here = counts[n_levels]
            listed = 0
            if n_levels > 0:  # a shorter context is followed at least as often by what follows the longer one
                here[:] = counts[n_levels - 1]
            else:
                here[:] = 0
            for k in range(memo[line, N_KEPT]):
                listed += memo[line, COUNTS + k]
                at, n = _add(found, n, memo[line, TOKENS + k], start_id)
                if at >= 0:
                    here[at] = memo[line, COUNTS + k]
            if listed < size:
                for i in range(min(n_special, SPECIAL)):
                    if here[i] == 0:
                        at = step_at(steps, low, high, order, found[i])
                        if not is_known(steps, at, low, high, order, found[i]):
                            answer(tokens, suffixes, ids, starts, steps, at, low, high, order, found[i])
                        here[i] = steps[at, 5] - steps[at, 4]
            masses[n_levels, 0], masses[n_levels, 1] = size, memo[line, DISTINCT]
            n_levels += 1
        order -= 1
    for i in range(n):
        numbers[0, i] = FLOOR
    for level in range(n_levels - 1, -1, -1):
        distinct = masses[level, 1]
        scale = 1.0 / max(masses[level, 0] + distinct, 1.0)  # 0 in an empty corpus
        for i in range(n):
            numbers[0, i] = (counts[level, i] + distinct * numbers[0, i]) * scale
    # features
    size = frame[HIGHS + top] - frame[LOWS_OF_ORDERS + top]
    length_bin = (
        0
        if top <= 1
        else 1
        if top == 2
        else 2
        if top == 3
        else 3
        if top <= 5
        else 4
        if top <= 8
        else 5
        if top <= 14
        else 6
    )
    size_bin = 0 if size <= 1 else 1 if size < 4 else 2 if size < 32 else 3
    context = length_bin * SIZE_BINS + size_bin
    match_bin = (
        0
        if longest == 0
        else 1
        if longest == 1
        else 2
        if longest == 2
        else 3
        if longest <= 4
        else 4
        if longest <= 8
        else 5
    )
    since, run = min(frame[SINCE], 3), min(frame[RUN], 3)
    for i in range(n):
        token = found[i]
        p = p_bin(numbers[0, i], P_BINS)
        variant = variants[token] if token < len(variants) else token
        at = entry_of(state, variant)
        held = weight = 0
        if state[at] != 0:
            weight = state[at + 2]
            place, walked = state[at + 1], 0
            while place >= state[PROMPT_AT] and walked < 16:
                kind = state[text + PLACE * place + 2]
                if kind == UNUSED:
                    held = 2
                    break
                if kind == USED:
                    held = 1
                walked += 1
                place = state[text + PLACE * place + 3]
        at_cursor = 0
        if token == usual:
            at_cursor = 1 + since * 4 + run
        elif token == raw:
            at_cursor = 17 + since * 4 + run
        line = features[i]
        line[0] = p * CONTEXTS + context
        line[1] = held * P_BINS + p
        line[2] = at_cursor
        line[3] = min(int(numbers[2, i]), 7) * 8 + min(int(numbers[3, i]), 7)
        line[4] = match_bin * 12 + (p_bin(numbers[1, i] / votes, 12) if votes > 0 else 0)
        line[5] = (CONTEXTS if at_cursor else 0) + context
        line[6] = 1 + p if at_cursor else 0
        line[7] = (p_bin(weight / state[WEIGHT_SUM], 10) if state[WEIGHT_SUM] > 0 else 0) * P_BINS + p
    features[MOST, 0] = context
    return n


@njit
def score(weights, features, n, scores):
    """The best candidate and its probability; `scores` gets the probabilities, "none of them" at n."""
    best = 0
    highest = scores[n] = weights[NONE_AT + features[MOST, 0]]
    for i in range(n):
        total = 0.0
        for f in range(FEATURES):
            total += weights[STARTS[f] + features[i, f]]
        scores[i] = total
        if total > scores[best]:
            best = i
        highest = max(highest, total)
    norm = 0.0
    for i in range(n + 1):
        scores[i] = math.exp(scores[i] - highest)
        norm += scores[i]
    for i in range(n + 1):
        scores[i] /= norm
    return best, scores[best]


@njit
def source_of(features, numbers, best):
    """Where a candidate came from: what else than the corpus spoke for it, if the corpus did not expect it."""
    p = features[best, 1] % P_BINS
    if p >= P_BINS - 3:
        return CORPUS
    if numbers[2, best] > 0 or features[best, 2] > 0 or features[best, 1] >= P_BINS:
        return PROMPT
    if numbers[1, best] > 0:
        return SIMILAR
    return GENERATED if numbers[3, best] > 0 else CORPUS


@njit
def propose(
    tokens,
    suffixes,
    ids,
    starts,
    steps,
    variants,
    memo,
    weights,
    state,
    start_id,
    eos_id,
    wanted,
    least,
    drafted,
    chances,
):
    """Draft a chain: `drafted` gets tokens and sources, int32[2, wanted], `chances` probabilities; how many there are.

    The chain ends at the end token, or when all of it together is less likely than `least`. Nothing follows an end token.
    """
    if state[text_at(state) + PLACE * (state[N_TEXT] - 1)] == eos_id:
        return 0
    frame = state[:FRAME].copy()
    found = np.empty(MOST, np.int32)
    features = np.empty((MOST + 1, FEATURES), np.int32)
    numbers = np.empty((4, MOST))
    counts, masses = np.zeros((LEVELS, MOST), np.int32), np.empty((LEVELS, 2))
    scores = np.empty(MOST + 1)
    copied = np.empty(wanted, np.int64)
    n_copied = made = 0
    reached = 1.0
    while made < wanted:
        n = candidates(
            tokens,
            suffixes,
            ids,
            starts,
            steps,
            variants,
            memo,
            state,
            frame,
            start_id,
            found,
            features,
            numbers,
            counts,
            masses,
        )
        if n == 0:
            break
        best, chance = score(weights, features, n, scores)
        reached *= chance
        if reached < least:
            break
        token = found[best]
        drafted[0, made], drafted[1, made], chances[made] = token, source_of(features, numbers, best), chance
        made += 1
        if token == eos_id or made == wanted:
            break
        place = advance(tokens, suffixes, ids, starts, steps, variants, memo, state, frame, token)
        if place >= 0:
            copied[n_copied] = place
            n_copied += 1
    for k in range(n_copied):  # what was drafted is not copied yet
        state[text_at(state) + PLACE * copied[k] + 2] = UNUSED
    return made


@njit
def observe(tokens, suffixes, ids, starts, steps, variants, memo, state, start_id, output, n_found, gold, all_features):
    """Follow a known output and write down what `propose` would see at each of its tokens.

    `n_found[t]`, `gold[t]` (place of the true token among the candidates, their number if it is none of them) and
    `all_features[t]` describe token t.
    """
    found = np.empty(MOST, np.int32)
    numbers = np.empty((4, MOST))
    counts, masses = np.zeros((LEVELS, MOST), np.int32), np.empty((LEVELS, 2))
    for t in range(len(output)):
        frame = state[:FRAME]
        n = candidates(
            tokens,
            suffixes,
            ids,
            starts,
            steps,
            variants,
            memo,
            state,
            frame,
            start_id,
            found,
            all_features[t],
            numbers,
            counts,
            masses,
        )
        n_found[t] = gold[t] = n
        token = output[t]
        for i in range(n):
            if found[i] == token:
                gold[t] = i
        advance(tokens, suffixes, ids, starts, steps, variants, memo, state, frame, token)
        append(state, token, variants[token] if token < len(variants) else token, -3)
