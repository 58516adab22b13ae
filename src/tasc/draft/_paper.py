"""Kernels of the paper's drafter.

`tokens` and `suffixes` may be a hostile file's: every position is checked against their length, every loop moves on.
The memory of a request is int32: `memory[0]` its ids, `memory[1]` the slot of each id in `table`, `memory[2]` the
previous position of the same id, plus one, `memory[3]` room for candidates. `table[0]` holds the ids, `table[1]` their last positions plus one (0: free
slot), `table[2]` zeros to count in.

A line of `memo` is what was found once for a context, found again by its hash: [length + 1, its ids, then low, high,
depth, floor, best, best count, total]. The GIL is held, so lines are never half written when they are read.
"""

from tasc._numba import njit
from tasc.draft._index import narrow

LOW, HIGH, DEPTH, FLOOR, BEST, BEST_COUNT, TOTAL = range(7)  # behind the ids of a memo line
N_FOUND = 7
CORPUS, PROMPT = 0, 2  # places in SOURCES


@njit
def _slot(table, token):
    """Where the id stands in the table, or the free slot where it would."""
    mask = table.shape[1] - 1
    slot = ((token * 0x9E3779B1) >> 15) & mask
    while table[1, slot] and table[0, slot] != token:
        slot = (slot + 1) & mask
    return slot


@njit
def append(memory, table, n_text, ids):
    """Remember ids behind the first `n_text`; both arrays have room."""
    for k in range(len(ids)):
        position = n_text + k
        slot = _slot(table, ids[k])
        memory[0, position] = ids[k]
        memory[1, position] = slot
        memory[2, position] = table[1, slot]
        table[0, slot] = ids[k]
        table[1, slot] = position + 1


@njit
def _run_end(tokens, suffixes, low, high, depth, token):
    """The end of the run of suffixes from `low` on that have `token` at `depth`; at least `low + 1`."""
    n = len(tokens)
    inside, step = low, 1
    outside = high
    while inside + step < high:
        place = suffixes[inside + step] + depth
        if place >= n or tokens[place] != token:
            outside = inside + step
            break
        inside += step
        step *= 2
    while outside - inside > 1:
        middle = (inside + outside) >> 1
        place = suffixes[middle] + depth
        if place < n and tokens[place] == token:
            inside = middle
        else:
            outside = middle
    return inside + 1


@njit
def _scan(tokens, suffixes, low, high, depth, floor, start_id, found):
    """Fill `found` with the continuations seen at least `floor` times; False where there is none."""
    n = len(tokens)
    best, best_count, total = -1, 0, 0
    while low < high:
        place = suffixes[low] + depth
        if place >= n:
            low += 1
            continue
        token = tokens[place]
        end = _run_end(tokens, suffixes, low, high, depth, token)
        if end - low >= floor and 0 <= token < start_id:
            total += end - low
            if end - low > best_count:  # tokens ascend: of ties the lowest stays
                best, best_count = token, end - low
        low = end
    found[FLOOR], found[BEST], found[BEST_COUNT], found[TOTAL] = floor, best, best_count, total
    return total > 0


@njit
def _line(memo, context):
    """The memo line of a context; the first one is the empty context's own, which is the dearest to find."""
    if len(context) == 0:
        return memo[0]
    mixed = len(context)
    for token in context:
        mixed = (mixed ^ token) * 0x5851F42D4C957F2D
        mixed ^= mixed >> 29
    return memo[1 + ((mixed >> 7) & (memo.shape[0] - 2))]


@njit
def _is_known(line, context):
    known = line[0] == len(context) + 1
    for k in range(len(context)):
        known = known and line[1 + k] == context[k]
    return known


@njit
def _search(tokens, suffixes, context, p_min, start_id, found):
    """Fill `found` if the whole context begins an n-gram that counts; the last resort is every token."""
    low, high, depth = 0, len(suffixes), len(context)
    for k in range(depth):
        low, high = narrow(tokens, suffixes, low, high, k, context[k])
    found[LOW], found[HIGH], found[DEPTH] = low, high, depth
    if high - low >= p_min and _scan(tokens, suffixes, low, high, depth, p_min, start_id, found):
        return True
    return depth == 0 and (_scan(tokens, suffixes, low, high, 0, 1, start_id, found) or True)


@njit
def _corpus(tokens, suffixes, memo, context, p_min, start_id):
    """What the corpus knows of the longest end of a context that it has: the last `N_FOUND` entries of a memo line."""
    skipped = 0
    line = _line(memo, context)
    found = line[len(line) - N_FOUND :]
    while not _is_known(line, context[skipped:]):
        line[0] = 0  # nobody's until it is filled
        if _search(tokens, suffixes, context[skipped:], p_min, start_id, found):
            break
        skipped += 1
        line = _line(memo, context[skipped:])
        found = line[len(line) - N_FOUND :]
    # each longer context gets a line too, so that a large part of the corpus is scanned for one context only
    while True:
        line[0] = 1 + len(context) - skipped
        line[1 : line[0]] = context[skipped:]
        if skipped == 0:
            return found
        skipped -= 1
        line = _line(memo, context[skipped:])
        line[len(line) - N_FOUND :] = found
        found = line[len(line) - N_FOUND :]


@njit
def _continuations(memory, table, n_text, end, longest, candidates):
    """Count what followed the longest end of memory[0, :end] that is in the first `n_text` ids: (n candidates, total).

    Slots of the continuations go to `candidates`, their counts to table[2], which the caller sets to zeros again.
    """
    text, previous = memory[0], memory[2]
    slot = _slot(table, text[end - 1])
    n_candidates, total, length = 0, 0, 1
    position = table[1, slot] - 1
    while position >= 0:
        matched = 0
        if position + 1 < n_text:
            matched = 1
            while matched < longest and position >= matched and text[position - matched] == text[end - 1 - matched]:
                matched += 1
        if matched > length:
            for k in range(n_candidates):
                table[2, candidates[k]] = 0
            n_candidates, total, length = 0, 0, matched
        if matched == length:
            follower = memory[1, position + 1]
            if table[2, follower] == 0:
                candidates[n_candidates] = follower
                n_candidates += 1
            table[2, follower] += 1
            total += 1
        position = previous[position] - 1
    return n_candidates, total


@njit
def _count(tokens, suffixes, found, token):
    """How often the n-gram of the found context and `token` counts."""
    low, high = narrow(tokens, suffixes, found[LOW], found[HIGH], found[DEPTH], token)
    return high - low if high - low >= found[FLOOR] else 0


@njit
def propose(
    tokens, suffixes, memo, memory, table, n_prompt, n_text, options, lam, drafted, sources, probabilities
):  # fmt: skip
    """Fill the last three arrays with a greedy chain, behind the first `n_text` ids; returns its length.

    `options` = (n_max, p_min, start_id, eos_id). memory has room for the chain, which is written behind the text.
    """
    n_max, p_min, start_id, eos_id = options
    text, candidates = memory[0], memory[3]
    n_drafted = 0
    end = n_text
    while n_drafted < len(drafted) and not (end > n_prompt and text[end - 1] == eos_id):
        token, top, share, best, source = -1, -1, 0.0, 0.0, CORPUS
        found = memo[0][:0]
        corpus_weight, prompt_weight = lam, 1.0 - lam
        n_candidates, total = 0, 0
        if prompt_weight > 0 and end > 0 and n_max > 1:
            n_candidates, total = _continuations(memory, table, n_text, end, n_max - 1, candidates)
        if corpus_weight > 0:
            found = _corpus(tokens, suffixes, memo, text[max(end - n_max + 1, n_prompt) : end], p_min, start_id)
            if found[TOTAL] > 0:
                if total == 0:
                    corpus_weight = 1.0  # alone
                top, share = found[BEST], found[BEST_COUNT] / found[TOTAL]
                token, best = top, corpus_weight * share
        if len(found) == 0 or found[TOTAL] == 0:
            corpus_weight, prompt_weight = 0.0, 1.0
        # no token but the corpus's best has more of the corpus than this
        bound = corpus_weight * min(share, 1.0 - share) + 1e-9
        for k in range(n_candidates):
            slot = candidates[k]
            candidate = table[0, slot]
            part = prompt_weight * (table[2, slot] / total)
            table[2, slot] = 0
            if not 0 <= candidate < start_id or (candidate != top and part + bound < best):
                continue
            value, of_corpus = part, 0.0
            if corpus_weight > 0:
                of_corpus = corpus_weight * (_count(tokens, suffixes, found, candidate) / found[TOTAL])
                value = of_corpus + part
            if value > best or (value == best and (candidate <= token or token < 0)):
                token, best, source = candidate, value, PROMPT if part > of_corpus else CORPUS
        if token < 0:
            break
        drafted[n_drafted], sources[n_drafted], probabilities[n_drafted] = token, source, best
        n_drafted += 1
        text[end] = token
        end += 1
    return n_drafted
