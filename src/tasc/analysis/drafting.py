"""How well do the training outputs predict held-out outputs? A lower bound of what an n-gram drafter will reach.

The drafter here is the corpus half of TASC-spec (paper, section on speculative decoding): the longest context of the
last tokens seen in training names its most frequent next token. For greedy decoding a chain of such tokens is accepted
exactly as long as each equals the true next token, so the passes of a whole decoding run follow from one array: was the
next token predicted? A full TASC-spec also drafts from the prompt, and does better than this.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus

N_MAX = 4
CHAIN = 10
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class DraftEstimate:
    """Replay of a corpus-only n-gram drafter over held-out outputs.

    Attributes:
        tokens_per_pass: held-out tokens (EOS included, the prefill's first token left out) per target pass.
        top1_accuracy: share of these tokens that were predicted from the true context.
        n_max: longest n-gram used, the predicted token included.
        chain: longest draft per pass.
    """

    tokens_per_pass: float
    top1_accuracy: float
    n_max: int
    chain: int


def estimate_drafting(
    train: TokenCorpus,
    held_out: TokenCorpus,
    *,
    n_max: int = N_MAX,
    chain: int = CHAIN,
    advance: Callable[[int], None] | None = None,
) -> DraftEstimate:
    """Replay the drafter.

    Args:
        train: outputs the n-grams are counted in, repeated rows included.
        held_out: outputs to decode.
        n_max: longest n-gram, context and predicted token together; at least 2.
        chain: most tokens drafted in one pass.
        advance: called with 1 for each n done, `n_max - 1` times.
    """
    end = 1 + max(int(corpus.tokens.max(initial=0)) for corpus in (train, held_out))
    tokens, places = _with_end(held_out, end)
    train_tokens, train_places = _with_end(train, end)
    predicted = np.full(len(tokens), -1, dtype=np.int64)
    for context in range(n_max - 1, 0, -1):
        contexts, best = _most_frequent_next(train_tokens, train_places, context)
        # places are counted from the start of a row: a context must not reach into the row before
        open_places = np.flatnonzero((predicted < 0) & (places >= context))
        predicted[open_places] = _look_up(contexts, best, _hashes(tokens, open_places, context))
        if advance is not None:
            advance(1)
    hits = predicted == tokens
    passes = _passes(hits, places, chain)
    drafted = places > 0
    n_drafted = int(drafted.sum())
    return DraftEstimate(
        tokens_per_pass=n_drafted / passes if passes else 1.0,
        top1_accuracy=float(hits[drafted].mean()) if n_drafted else 0.0,
        n_max=n_max,
        chain=chain,
    )


def _with_end(corpus: TokenCorpus, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All rows with an end token behind each, and each token's place in its row."""
    n_rows = len(corpus)
    row = np.repeat(np.arange(n_rows), corpus.lengths)
    tokens = np.full(corpus.n_tokens + n_rows, end, dtype=np.int64)
    tokens[np.arange(corpus.n_tokens) + row] = corpus.tokens
    starts = corpus.offsets[:-1] + np.arange(n_rows)
    places = np.arange(len(tokens)) - np.repeat(starts, corpus.lengths + 1)
    return tokens, places


def _hashes(tokens: NDArray[np.int64], positions: NDArray[np.int64], context: int) -> NDArray[np.uint64]:
    """64-bit hash of the `context` tokens before each position; a collision would only blur an estimate."""
    hashes = np.zeros(len(positions), dtype=np.uint64)
    for back in range(1, context + 1):
        hashes = _mix(hashes ^ tokens[positions - back].astype(np.uint64))
    return hashes


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values + np.uint64(1)) * _MIX
    return values ^ (values >> np.uint64(29))


def _most_frequent_next(
    tokens: NDArray[np.int64], places: NDArray[np.int64], context: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Context hashes in ascending order, and the token that most often follows each; of equals the lowest id."""
    positions = np.flatnonzero(places >= context)
    hashes, following = _hashes(tokens, positions, context), tokens[positions]
    order = np.lexsort((following, hashes))
    hashes, following = hashes[order], following[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (following[1:] != following[:-1])
    firsts = np.flatnonzero(new)
    counts = np.diff(firsts, append=len(order))
    hashes, following = hashes[firsts], following[firsts]
    # stable: among equal counts the lower id stays in front
    order = np.lexsort((-counts, hashes))
    contexts, first = np.unique(hashes[order], return_index=True)
    return contexts, following[order][first]


def _look_up(contexts: NDArray[np.uint64], best: NDArray[np.int64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The predicted token for each wanted context, -1 where it was never seen."""
    if len(contexts) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    where = np.minimum(np.searchsorted(contexts, wanted), len(contexts) - 1)
    return np.where(contexts[where] == wanted, best[where], -1)


def _passes(hits: NDArray[np.bool_], places: NDArray[np.int64], chain: int) -> int:
    """Target passes after prefill: each yields the accepted draft tokens and one of the target's own.

    The jump from every position is known in advance; only the positions really visited are followed.
    """
    misses = np.flatnonzero(~hits | (places == 0))
    following = np.append(misses, len(hits))[np.searchsorted(misses, np.arange(len(hits)))]
    accepted = np.minimum(following - np.arange(len(hits)), chain)
    jumps = (np.arange(len(hits)) + accepted + 1).tolist()
    ends = np.flatnonzero(np.append(places[1:] == 0, True)) if len(places) else np.empty(0, np.int64)
    passes = 0
    for start, end in zip(np.flatnonzero(places == 0).tolist(), ends.tolist(), strict=True):
        position = start + 1
        while position <= end:
            position = jumps[position]
            passes += 1
    return passes
