"""Kernels of the default drafter: draft a chain or a tree of the likeliest candidates, and observe known outputs to learn from.

`_sources.py` names the candidates, `_features.py` describes and ranks them.
"""

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from tasc._numba import inner, njit
from tasc.draft._features import FEATURES, describe, score, source_of
from tasc.draft._request import (
    FRAME,
    N_TEXT,
    OUTPUT,
    PLACE,
    UNUSED,
    USED,
    advance,
    append,
    extend,
    look_up_again,
    text_at,
    variant_of,
)
from tasc.draft._sources import (
    LEVELS,
    MOST,
    NUMBERS,
    SLOTS,
    add,
    after_cursor,
    expect_corpus,
    from_corpus,
    from_seen,
    from_text,
)


@inner
def candidates(
    tokens,
    suffixes,
    ids,
    starts,
    steps,
    variants,
    memo,
    seen,
    state,
    frame,
    start_id,
    found,
    slots,
    features,
    numbers,
    counts,
    masses,
):
    """Fill `found` (int32[MOST]) and `features` (int16[MOST + 1, FEATURES]); how many candidates there are."""
    expect_corpus(memo, frame)
    slots[:] = 0
    for k in range(MOST):
        found[k] = -1
        for line in range(NUMBERS):
            numbers[line, k] = 0.0
    n = 0
    usual, raw = after_cursor(state, frame)
    if usual >= 0:
        _, n = add(found, slots, n, usual, start_id)
        _, n = add(found, slots, n, raw, start_id)
    n, longest, votes = from_text(state, frame, start_id, found, slots, n, numbers)
    n = from_seen(seen, steps, memo, frame, start_id, found, slots, n, numbers, counts, masses)
    n = from_corpus(
        tokens, suffixes, ids, starts, steps, memo, frame, start_id, found, slots, n, numbers, counts, masses
    )
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
    seen,
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
    look_up_again(seen, steps, memo, state)
    frame = state[:FRAME].copy()
    found, slots = np.empty(MOST, np.int32), np.empty(SLOTS, np.uint8)
    features = np.empty((MOST + 1, FEATURES), np.int16)
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
            seen,
            state,
            frame,
            start_id,
            found,
            slots,
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
        place = advance(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, frame, token)
        if place >= 0:
            copied[n_copied] = place
            n_copied += 1
    for k in range(n_copied):  # what was drafted is not copied yet
        state[text_at(state) + PLACE * copied[k] + 2] = UNUSED
    return made


@njit
def propose_tree(
    tokens, suffixes, ids, starts, steps, variants, memo, seen, weights, state, start_id, eos_id, wanted, deepest, least, drafted,
    parents, sources, chances,
):  # fmt: skip
    """Draft a tree of the `wanted` tokens that are likeliest to be accepted, likeliest first; how many there are.

    `parents` gets the place of the token that each follows (-1: the last token there is), `chances` the chance to be accepted
    over that of the token before it in this order, so that their running product is the chance itself. No token is deeper
    than `deepest`, less likely than `least` or behind an end token.
    """
    if wanted < 1 or state[text_at(state) + PLACE * (state[N_TEXT] - 1)] == eos_id:
        return 0
    # of every token in the tree, and of the last one there is at 0: its frame, chance, depth, and the prompt place it copied
    frames, reached = np.empty((wanted, FRAME), np.int32), np.empty(wanted)
    depths, copied = np.zeros(wanted, np.int32), np.full(wanted, -1, np.int64)
    # what could be drafted next: token, place of what it follows, source, chance
    n_open, room = 0, wanted * MOST
    open_tokens, open_parents = np.empty(room, np.int32), np.empty(room, np.int32)
    open_sources, open_chances = np.empty(room, np.uint8), np.empty(room)
    found, slots = np.empty(MOST, np.int32), np.empty(SLOTS, np.uint8)
    features = np.empty((MOST + 1, FEATURES), np.int16)
    numbers = np.empty((NUMBERS, MOST))
    counts, masses = np.zeros((LEVELS, MOST), np.int32), np.empty((LEVELS, 2))
    scores = np.empty(MOST + 1)
    look_up_again(seen, steps, memo, state)
    made, last = 0, 1.0
    frames[0], reached[0] = state[:FRAME], 1.0
    while True:
        if made == 0 or (drafted[made - 1] != eos_id and depths[made] < deepest):
            if made > 0:
                parent = parents[made - 1] + 1
                frames[made] = frames[parent]
                _mark(state, parents, copied, parent, USED)
                copied[made] = advance(
                    tokens, suffixes, ids, starts, steps, variants, memo, seen, state, frames[made], drafted[made - 1]
                )
            n = candidates(
                tokens, suffixes, ids, starts, steps, variants, memo, seen, state, frames[made], start_id, found, slots, features,
                numbers, counts, masses,
            )  # fmt: skip
            # what was drafted is not copied yet, and on other branches not at all
            _mark(state, parents, copied, made, UNUSED)
            if n > 0:
                score(weights, features, n, scores)
            for k in range(n):
                chance = reached[made] * scores[k]
                if chance >= least:
                    open_tokens[n_open], open_parents[n_open] = found[k], made - 1
                    open_sources[n_open], open_chances[n_open] = source_of(features, numbers, k), chance
                    n_open += 1
        if n_open == 0:
            return made
        best = 0
        for k in range(1, n_open):
            if open_chances[k] > open_chances[best]:
                best = k
        chance = open_chances[best]
        drafted[made], parents[made], sources[made] = open_tokens[best], open_parents[best], open_sources[best]
        chances[made] = chance / last
        last = chance
        made += 1
        if made == wanted:
            return made
        reached[made], depths[made] = chance, depths[parents[made - 1] + 1] + 1
        n_open -= 1
        open_tokens[best], open_parents[best] = open_tokens[n_open], open_parents[n_open]
        open_sources[best], open_chances[best] = open_sources[n_open], open_chances[n_open]


@inner
def _mark(state, parents, copied, node, kind):
    """Say of the prompt places that a token of the tree and those before it on its branch copied whether they are copied."""
    while node > 0:
        if copied[node] >= 0:
            state[text_at(state) + PLACE * copied[node] + 2] = kind
        node = parents[node - 1] + 1


@intrinsic
def _int32_at(_, address):
    """The address as a pointer for `carray`: so the memories of many requests, of any sizes, go into one call."""

    def as_pointer(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int32)(types.int64), as_pointer


@njit(nogil=True)
def extend_and_propose(
    tokens, suffixes, ids, starts, steps, variants, memo, seen, weights, places, sizes, start_id, eos_id, text, rows, begins,
    ends, most, least, drafted, sources, chances, made,
):  # fmt: skip
    """`extend` and `propose` of each of many requests, whose memories lie at the addresses `places`; see `mixture.py`."""
    for k in range(len(places)):
        state = carray(_int32_at(places[k]), sizes[k])  # pyright: ignore[reportCallIssue] (numba passes the first)
        extend(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, text[rows[k], begins[k] : ends[k]])
        made[k] = propose(
            tokens, suffixes, ids, starts, steps, variants, memo, seen, weights, state, start_id, eos_id, most[k], least,
            drafted[k], sources[k], chances[k],
        )  # fmt: skip


@njit
def observe(
    tokens, suffixes, ids, starts, steps, variants, memo, seen, state, start_id, output, n_found, gold, all_features
):
    """Follow a known output and write down what `propose` would see at each of its tokens.

    `n_found[t]`, `gold[t]` (place of the true token among the candidates, their number if it is none of them) and
    `all_features[t]` describe token t.
    """
    found, slots = np.empty(MOST, np.int32), np.empty(SLOTS, np.uint8)
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
            seen,
            state,
            frame,
            start_id,
            found,
            slots,
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
        advance(tokens, suffixes, ids, starts, steps, variants, memo, seen, state, frame, token)
        append(state, token, variant_of(variants, token), OUTPUT)
