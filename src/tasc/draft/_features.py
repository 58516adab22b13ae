"""Kernels that describe candidates by a few small integers, and rank them by learnt weights.

A table of weights turns each integer into a number, their sum is the candidate's score. "None of them" competes with a
score of its own, so that the softmax gives honest probabilities.
"""

import math

import numpy as np

from tasc._numba import inner
from tasc.draft._request import (
    HIGHS,
    IN_SEEN,
    LAST,
    LOWS,
    PLACE,
    PROMPT_AT,
    RUN,
    SINCE,
    TOP,
    UNUSED,
    USED,
    WEIGHT_SUM,
    entry_of,
    text_at,
    variant_of,
)
from tasc.draft._sources import CORPUS, IN_OUTPUT, IN_PROMPT, MOST, REPEATS, SEEN, VOTES

MANTISSA = (1 << 52) - 1
HALF_OCTAVE = int(np.float64(math.sqrt(0.5)).view(np.int64)) & MANTISSA
LOOKED_AT = 16  # places of a token in the prompt

# bins of the features, and where each feature's weights begin
LENGTH_BINS, SIZE_BINS, P_BINS = 7, 4, 24
CONTEXTS = LENGTH_BINS * SIZE_BINS
SEEN_BINS = 1 + P_BINS * CONTEXTS
OWN_BINS = 8
OUTPUT_BINS = OWN_BINS + 3  # the last ones for loops
TOKENS, LAST_TOKENS = 1024, 512  # tokens have no bins of their own but share these, by a hash
SIZES = (
    P_BINS * CONTEXTS,  # probability in the corpus x length and frequency of the context
    3 * P_BINS,  # in the prompt (not, copied already, not yet copied) x probability in the corpus
    33,  # next in the prompt after the cursor: as it is or as its usual variant x distance x run
    OWN_BINS * OUTPUT_BINS,  # length of the best match in the prompt x in the output so far, or its loop
    6 * 12,  # share among the similar rows with the longest match x its length
    1 + P_BINS,  # at the cursor x probability in the corpus
    10 * P_BINS,  # share of the similar rows that hold it x probability in the corpus
    OWN_BINS * P_BINS * LENGTH_BINS,  # match in the output so far x probability in the corpus x length of the context
    3 * TOKENS,  # in the prompt, as above x the token itself
    3 * LAST_TOKENS,  # at the cursor (not, as its usual variant, as it is) x the token before
    SEEN_BINS,  # probability in the outputs seen at run time x the context there; 0: none were seen
    CONTEXTS,  # none of the candidates x context
)
FEATURES = len(SIZES) - 1  # of a candidate
NONE_AT = sum(SIZES[:-1])
N_WEIGHTS = sum(SIZES)
STARTS = tuple(sum(SIZES[:k]) for k in range(FEATURES))
NO_SEEN = STARTS[FEATURES - 1]  # weight of every candidate while no output was seen, so it says nothing
OF_TOKENS = slice(STARTS[FEATURES - 3], NO_SEEN)  # weights that tell of single tokens, which other weights do not
# sources, as places in interface.SOURCES
FROM_CORPUS, FROM_SIMILAR, FROM_PROMPT, FROM_OUTPUT, FROM_SEEN = 0, 1, 2, 3, 4


@inner
def p_bin(p, bins):
    """Half octaves of a probability: bins - 1 for 1, 1 for tiny ones, 0 for 0."""
    if p <= 0.0:
        return 0
    bits = np.float64(p).view(np.int64)  # exponent and mantissa as they stand there: `frexp` is a call
    place = bins - 3 + 2 * ((bits >> 52) - 1022) + (1 if bits & MANTISSA >= HALF_OCTAVE else 0)
    if place < 1:
        return 1
    return place if place < bins - 1 else bins - 1


@inner
def length_bin(n):
    """Contexts of 0-1, 2, 3, 4-5, 6-8, 9-14 and more tokens."""
    if n <= 3:
        return max(n - 1, 0)
    return 3 if n <= 5 else 4 if n <= 8 else 5 if n <= 14 else 6


@inner
def size_bin(n):
    """Contexts seen once, 2-3, 4-31 times and more often."""
    return 0 if n <= 1 else 1 if n < 4 else 2 if n < 32 else 3


@inner
def context_bin(frame):
    """The bin of the longest context that stands in an index."""
    top = frame[TOP]
    return length_bin(top) * SIZE_BINS + size_bin(frame[HIGHS + top] - frame[LOWS + top])


@inner
def match_bin(n):
    """Matches of 0, 1, 2, 3-4, 5-8 tokens and longer ones."""
    if n <= 2:
        return n
    return 3 if n <= 4 else 4 if n <= 8 else 5


@inner
def own_bin(n):
    """Matches of 0, 1, 2, 3, 4-5, 6-8, 9-14 tokens and longer ones."""
    if n <= 3:
        return n
    return 4 if n <= 5 else 5 if n <= 8 else 6 if n <= 14 else 7


@inner
def loop_bin(n):
    """Behind `own_bin`'s: outputs that go on with what they repeated 4-7, 8-15 times and more often; 0 for other matches."""
    if n < 4:
        return 0
    return OWN_BINS + (0 if n < 8 else 1 if n < 16 else 2)


@inner
def hashed(token, bins):
    """The bin of a token; `bins` is a power of two."""
    return ((token * 0x9E3779B1) >> 12) & (bins - 1)


@inner
def held_in_prompt(state, entry):
    """Whether a variant stands in the prompt: 0 no, 1 copied already, 2 not copied yet. `entry`: its place in the table."""
    if state[entry] == 0:
        return 0
    text, held = text_at(state), 0
    place, looked = state[entry + 1], 0
    while place >= state[PROMPT_AT] and looked < LOOKED_AT:
        kind = state[text + PLACE * place + 2]
        if kind == UNUSED:
            return 2
        if kind == USED:
            held = 1
        looked += 1
        place = state[text + PLACE * place + 3]
    return held


@inner
def describe(variants, state, frame, found, n, usual, raw, longest, votes, numbers, features):
    """Fill `features` (int16[MOST + 1, FEATURES]): a line per candidate; the last one begins with the context."""
    context, seen_context = context_bin(frame), context_bin(frame[IN_SEEN : 2 * IN_SEEN])
    any_seen = frame[IN_SEEN + HIGHS] > 0  # where the part of the context of no tokens ends, all of it
    since, run = min(frame[SINCE], 3), min(frame[RUN], 3)
    last = 3 * hashed(frame[LAST], LAST_TOKENS)
    for i in range(n):
        token = found[i]
        entry = entry_of(state, variant_of(variants, token))
        p = p_bin(numbers[CORPUS, i], P_BINS)
        at_cursor = 0
        if token == usual:
            at_cursor = 1 + since * 4 + run
        elif token == raw:
            at_cursor = 17 + since * 4 + run
        share = numbers[VOTES, i] / votes if votes > 0 else 0.0
        weight = state[entry + 2] if state[entry] != 0 else 0
        presence = weight / state[WEIGHT_SUM] if state[WEIGHT_SUM] > 0 else 0.0
        held, in_output = held_in_prompt(state, entry), own_bin(int(numbers[IN_OUTPUT, i]))
        line = features[i]
        line[0] = p * CONTEXTS + context
        line[1] = held * P_BINS + p
        line[2] = at_cursor
        loop = loop_bin(int(numbers[REPEATS, i]))
        line[3] = own_bin(int(numbers[IN_PROMPT, i])) * OUTPUT_BINS + (loop if loop else in_output)
        line[4] = match_bin(longest) * 12 + p_bin(share, 12)
        line[5] = 1 + p if at_cursor else 0
        line[6] = p_bin(presence, 10) * P_BINS + p
        line[7] = (in_output * P_BINS + p) * LENGTH_BINS + context // SIZE_BINS
        line[8] = 3 * hashed(token, TOKENS) + held
        line[9] = last + (0 if at_cursor == 0 else 1 if at_cursor < 17 else 2)
        line[10] = 1 + p_bin(numbers[SEEN, i], P_BINS) * CONTEXTS + seen_context if any_seen else 0
    features[MOST, 0] = context


@inner
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


@inner
def source_of(features, numbers, best):
    """Where a candidate came from: what else than the corpus spoke for it, if the corpus did not expect it."""
    p = features[best, 1] % P_BINS
    if p >= P_BINS - 3:
        return FROM_CORPUS
    if numbers[IN_PROMPT, best] > 0 or features[best, 2] > 0 or features[best, 1] >= P_BINS:
        return FROM_PROMPT
    if p_bin(numbers[SEEN, best], P_BINS) >= P_BINS - 3:
        return FROM_SEEN
    if numbers[VOTES, best] > 0:
        return FROM_SIMILAR
    return FROM_OUTPUT if numbers[IN_OUTPUT, best] > 0 else FROM_CORPUS
