"""Kernels of the default drafter: drafts a chain of the likeliest candidates, and observes known outputs to learn from.

`_sources.py` names the candidates, `_features.py` describes and ranks them.
"""

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from tasc._numba import inner, njit
from tasc.draft._features import FEATURES, describe, score, source_of
from tasc.draft._request import FRAME, N_TEXT, OUTPUT, PLACE, UNUSED, advance, append, extend, text_at, variant_of
from tasc.draft._sources import LEVELS, MOST, NUMBERS, add, after_cursor, from_corpus, from_text


@inner
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
    """Fill `found` (int32[MOST]) and `features` (int32[MOST + 1, FEATURES]); how many candidates there are."""
    for k in range(MOST):
        found[k] = -1
        for line in range(NUMBERS):
            numbers[line, k] = 0.0
    n = 0
    usual, raw = after_cursor(state, frame)
    if usual >= 0:
        _, n = add(found, n, usual, start_id)
        _, n = add(found, n, raw, start_id)
    n, longest, votes = from_text(state, frame, start_id, found, n, numbers)
    n = from_corpus(tokens, suffixes, ids, starts, steps, memo, frame, start_id, found, n, numbers, counts, masses)
    describe(variants, state, frame, found, n, usual, raw, longest, votes, numbers, features)
    return n


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
    sources,
    chances,
):
    """Draft a chain: `drafted`, `sources` and `chances` get its tokens, where each is from and its probability; how many.

    The chain ends at the end token, or when all of it together is less likely than `least`. Nothing follows an end token.
    """
    if state[text_at(state) + PLACE * (state[N_TEXT] - 1)] == eos_id:
        return 0
    frame = state[:FRAME].copy()
    found = np.empty(MOST, np.int32)
    features = np.empty((MOST + 1, FEATURES), np.int32)
    numbers = np.empty((NUMBERS, MOST))
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
        drafted[made], sources[made], chances[made] = token, source_of(features, numbers, best), chance
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


@intrinsic
def _int32_at(_, address):
    """The address as a pointer for `carray`: so the memories of many requests, of any sizes, go into one call."""

    def as_pointer(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int32)(types.int64), as_pointer


@njit(nogil=True)
def extend_and_propose(
    tokens, suffixes, ids, starts, steps, variants, memo, weights, places, sizes, start_id, eos_id, text, rows, begins,
    ends, most, least, drafted, sources, chances, made,
):  # fmt: skip
    """`extend` and `propose` of each of many requests, whose memories lie at the addresses `places`; see `mixture.py`."""
    for k in range(len(places)):
        state = carray(_int32_at(places[k]), sizes[k])  # pyright: ignore[reportCallIssue] (numba passes the first)
        extend(tokens, suffixes, ids, starts, steps, variants, memo, state, text[rows[k], begins[k] : ends[k]])
        made[k] = propose(
            tokens, suffixes, ids, starts, steps, variants, memo, weights, state, start_id, eos_id, most[k], least,
            drafted[k], sources[k], chances[k],
        )  # fmt: skip


@njit
def observe(tokens, suffixes, ids, starts, steps, variants, memo, state, start_id, output, n_found, gold, all_features):
    """Follow a known output and write down what `propose` would see at each of its tokens.

    `n_found[t]`, `gold[t]` (place of the true token among the candidates, their number if it is none of them) and
    `all_features[t]` describe token t.
    """
    found = np.empty(MOST, np.int32)
    numbers = np.empty((NUMBERS, MOST))
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
        append(state, token, variant_of(variants, token), OUTPUT)
