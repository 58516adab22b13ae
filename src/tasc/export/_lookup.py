"""Kernel of the lookup caches of llama.cpp: records of n-grams and their followers, read off a suffix array."""

from tasc._numba import njit

KEY = 4  # tokens in the key of a record; unused ones are -1
HEADER = KEY + 1  # the key, then the number of followers
# places in `stats`
KEYS, KEPT, FOLLOWERS = 0, 1, 2


@njit
def _begins_alike(tokens, a, b, n, limit):
    """Whether the n tokens at both places are the same and below `limit`."""
    if a + n > len(tokens) or b + n > len(tokens):
        return False
    for k in range(n):  # noqa: SIM110 (numba compiles no generators)
        if tokens[a + k] != tokens[b + k] or tokens[a + k] >= limit:
            return False
    return True


@njit
def _write_followers(tokens, suffixes, first, n, limit, out, used):
    """Write (token, count) of what follows the n-gram at suffixes[first] behind out[used:], followers ascending.

    Returns (end of the n-gram's suffixes, end of what was written, sum of the counts, largest count); the second is -1
    where `out` is too small.
    """
    place = suffixes[first]
    at = used
    total = top = 0
    k = first
    while k < len(suffixes) and _begins_alike(tokens, place, suffixes[k], n, limit):
        behind = suffixes[k] + n
        k += 1
        if behind == len(tokens) or tokens[behind] >= limit:
            continue
        if at > used and out[at - 2] == tokens[behind]:
            out[at - 1] += 1
        else:
            if at + 2 > len(out):
                return k, -1, 0, 0
            out[at], out[at + 1] = tokens[behind], 1
            at += 2
        total += 1
        top = max(top, out[at - 1])
    return k, at, total, top


@njit
def _scale(out, begin, end, top, most):
    """Scale counts so that the largest is `most`, without those that become zero; returns the new end.

    Rounding down keeps the share of the largest or raises it.
    """
    at = begin
    for k in range(begin, end, 2):
        count = out[k + 1] * most // top
        if count > 0:
            out[at], out[at + 1] = out[k], count
            at += 2
    return at


@njit
def fill(tokens, suffixes, first, n, limit, least, percent, most, out, stats):
    """Write the records of n-grams with n tokens from suffixes[first:] on, in the order of the suffixes, until `out` is full.

    An n-gram and its followers hold no token from `limit` on. It is left out if it was followed fewer than `least` times or
    its most frequent follower has less than `percent` of them; its counts are scaled down if one exceeds `most`.
    `stats` (int64) counts n-grams seen and kept, and followers kept.

    Returns (suffix to go on with, numbers written): nothing was written if `out` is too small for a single record.
    """
    used = 0
    while first < len(suffixes):
        place = suffixes[first]
        if not _begins_alike(tokens, place, place, n + 1, limit):
            first += 1
            continue
        if used + HEADER > len(out):
            break
        end, at, total, top = _write_followers(tokens, suffixes, first, n, limit, out, used + HEADER)
        if at < 0:
            break
        first = end
        stats[KEYS] += 1
        if total < least or 100 * top < percent * total:
            continue
        if top > most:
            at = _scale(out, used + HEADER, at, top, most)
        for k in range(KEY):
            out[used + k] = tokens[place + k] if k < n else -1
        out[used + KEY] = (at - used - HEADER) // 2
        stats[KEPT] += 1
        stats[FOLLOWERS] += out[used + KEY]
        used = at
    return first, used
