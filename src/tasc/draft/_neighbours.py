"""Kernels that find the rows of the corpus whose prompts are like a given one: tf-idf over a few terms of each prompt."""

import math

import numpy as np

from tasc._numba import inner, njit

TERMS = 16  # terms kept of a prompt
READ = 64  # distinct tokens of a prompt that compete for them
VISITED = 5_000  # postings read for a query; the rarest terms come first
SURE = 0.999  # for what floats round off


@inner
def _behind(prompt, prefix):
    """Where a prompt goes on behind the prefix; 0 if it was not made with the template of the rows."""
    begin = 0
    while begin < len(prefix) and begin < len(prompt) and prefix[begin] == prompt[begin]:
        begin += 1
    return begin if begin == len(prefix) else 0


@njit
def _keep_highest(distinct, most, terms):
    """The highest ids, ascending, into `terms`; how many."""
    kept = min(len(distinct), most)
    terms[:kept] = np.sort(distinct)[len(distinct) - kept :]
    return kept


@njit
def terms_of(prompt, prefix, most, seen, stamp, terms):
    """The distinct tokens with the highest ids among the first ones of a prompt: fills `terms`, ascending; how many.

    They are rare ones, as a tokenizer learns frequent tokens first. No statistics are needed, so shards choose alike.
    `seen[token] == stamp` says that a token was met.
    """
    distinct = np.empty(READ, np.int32)
    n = 0
    for at in range(_behind(prompt, prefix), len(prompt)):
        token = prompt[at]
        if token < 0 or token >= len(seen) or seen[token] == stamp:
            continue
        seen[token] = stamp
        distinct[n] = token
        n += 1
        if n == READ:
            break
    return _keep_highest(distinct[:n], most, terms)


@njit
def terms_of_rows(tokens, offsets, limits, prefix, seen, terms, per_row, counts):
    """The terms of each row (int32[n_rows, TERMS]), how many, and how many rows have each term. `seen` holds -1."""
    for row in range(len(offsets) - 1):
        prompt = tokens[offsets[row] : offsets[row + 1]]
        n = terms_of(prompt, prefix, min(TERMS, limits[row]), seen, row, terms[row])
        per_row[row] = n
        for k in range(n):
            counts[terms[row, k]] += 1


@njit
def fill_postings(terms, per_row, places, postings):
    """`places[term]`: where its rows begin in `postings`; moved on."""
    for row in range(len(per_row)):
        for k in range(per_row[row]):
            term = terms[row, k]
            postings[places[term]] = row
            places[term] += 1


@inner
def idf(n_rows, rows_with_term):
    """Inverse document frequency, smoothed."""
    return math.log(1.0 + n_rows / (1.0 + rows_with_term))


@njit
def norms_of(term_starts, postings, n_rows, norms):
    """Length of each row's tf-idf vector."""
    for term in range(len(term_starts) - 1):
        weight = idf(n_rows, term_starts[term + 1] - term_starts[term]) ** 2
        for k in range(term_starts[term], term_starts[term + 1]):
            norms[postings[k]] += weight
    for row in range(n_rows):
        norms[row] = math.sqrt(norms[row])


@njit
def query_terms(prompt, prefix, terms):
    """`terms_of` for one prompt, without a table over all ids."""
    distinct = np.empty(READ, np.int32)
    n = 0
    for at in range(_behind(prompt, prefix), len(prompt)):
        token, known = prompt[at], token_in(distinct, n, prompt[at])
        if known or token < 0:
            continue
        distinct[n] = token
        n += 1
        if n == READ:
            break
    return _keep_highest(distinct[:n], TERMS, terms)


@inner
def token_in(distinct, n, token):
    """Whether the token is among the first n."""
    known = False
    for k in range(n):
        if distinct[k] == token:
            known = True
    return known


@njit
def similar(term_ids, term_starts, postings, norms, prefix, prompt, sums, touched, rows, cosines):
    """The most similar rows, best first, ties by row: fills `rows` and `cosines`, returns how many.

    `sums` is zero for all rows, and left so; `touched` is room for as many numbers as there are rows.
    """
    n_rows = len(norms)
    terms = np.empty(TERMS, np.int32)
    n_terms = query_terms(prompt, prefix, terms)
    found = np.empty(n_terms, np.int64)
    n_found = 0
    for k in range(n_terms):
        at = np.searchsorted(term_ids, terms[k])
        if at < len(term_ids) and term_ids[at] == terms[k]:
            found[n_found] = at
            n_found += 1
    sizes = np.empty(n_found, np.int64)
    query_norm = 0.0
    for k in range(n_found):
        sizes[k] = term_starts[found[k] + 1] - term_starts[found[k]]
        query_norm += idf(n_rows, sizes[k]) ** 2
    query_norm = math.sqrt(query_norm)
    n_touched = visited = 0
    for k in np.argsort(sizes, kind="mergesort"):
        if visited > 0 and visited + sizes[k] > VISITED:
            break
        visited += sizes[k]
        gain = idf(n_rows, sizes[k]) ** 2 / query_norm
        for place in range(term_starts[found[k]], term_starts[found[k] + 1]):
            row = postings[place]
            if sums[row] == 0.0:
                touched[n_touched] = row
                n_touched += 1
            sums[row] += gain
    n = 0
    least = 0.0
    for k in range(n_touched):
        row = touched[k]
        total = sums[row]
        sums[row] = 0.0
        if total < least:
            continue
        cosine = np.float32(total / norms[row]) if norms[row] > 0.0 else np.float32(0.0)
        if n == len(rows) and (cosine < cosines[n - 1] or (cosine == cosines[n - 1] and row > rows[n - 1])):
            continue
        at = n if n < len(rows) else n - 1
        while at > 0 and (cosines[at - 1] < cosine or (cosines[at - 1] == cosine and rows[at - 1] > row)):
            rows[at], cosines[at] = rows[at - 1], cosines[at - 1]
            at -= 1
        rows[at], cosines[at] = row, cosine
        n = min(n + 1, len(rows))
        if n == len(rows):  # a row's vector is at least as long as the part of it that it shares with the prompt
            least = SURE * query_norm * cosines[n - 1] ** 2
    return n


@njit
def best_rows(
    term_ids, term_starts, postings, norms, prefix, prompt, sums, touched, row_starts, most_tokens, scale, rows, weights
):
    """The most similar rows, best last, with their weights: fills both, returns how many.

    The row with which their outputs hold `most_tokens` tokens is the last that is taken.
    """
    found, cosines = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
    n_found = similar(term_ids, term_starts, postings, norms, prefix, prompt, sums, touched, found, cosines)
    n = n_tokens = 0
    while n < n_found and (n == 0 or n_tokens < most_tokens):
        n_tokens += row_starts[found[n] + 1] - row_starts[found[n]]
        n += 1
    for k in range(n):
        cosine = min(cosines[n - 1 - k], np.float32(1))
        rows[k] = found[n - 1 - k]
        weights[k] = max(np.int32(cosine * cosine * np.float32(scale)), 1)
    return n
