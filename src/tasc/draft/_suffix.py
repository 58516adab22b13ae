"""Induced sorting of suffixes (SA-IS) over dense ids, for `suffix.py`. Linear in the number of ids whatever they are.

Source: Nong, Zhang, Chan, "Two Efficient Algorithms for Linear Time Suffix Array Construction", IEEE Trans. Computers 2011;
marking entries by their sign instead of keeping an array of types is from Mori's sais-lite.

The end of the ids sorts lowest. Suffix `i` is of type S if it is smaller than suffix `i + 1`, else of type L; it is LMS
(leftmost S) if it is of type S and suffix `i - 1` of type L. Buckets are the stretches of the suffix array whose suffixes
begin with one id; in each the L suffixes come first.

While a pass runs, an entry `v > 0` is a suffix whose predecessor `v - 1` this pass will place; `~v < 0` one whose
predecessor belongs to the other pass.
"""

from tasc._numba import njit


@njit(cache=True)
def count_ids(ids, counts):
    """Add up how often each id stands in `ids`."""
    for position in range(ids.size):
        counts[ids[position]] += 1


@njit(cache=True)
def densify(ids, table, counts, ranks):
    """Ranks of ids among those that occur, and their counts; `table` holds the counts by id and is used up.

    Returns:
        The number of different ids.
    """
    n_ids = 0
    for token in range(table.size):
        if table[token]:
            counts[n_ids] = table[token]
            table[token] = n_ids
            n_ids += 1
    for position in range(ids.size):
        ranks[position] = table[ids[position]]
    return n_ids


@njit(cache=True)
def find_lms(ids, lms):
    """Write the LMS positions, ascending, into `lms` and return how many there are."""
    n_lms = 0
    following = ids[ids.size - 1]
    follows_s = False
    for position in range(ids.size - 2, -1, -1):
        current = ids[position]
        if current < following:
            follows_s = True
        elif current > following:
            if follows_s:
                lms[n_lms] = position + 1
                n_lms += 1
            follows_s = False
        following = current
    lms[:n_lms] = lms[:n_lms][::-1].copy()
    return n_lms


@njit(cache=True)
def _bucket_starts(counts, buckets):
    total = 0
    for token in range(counts.size):
        buckets[token] = total
        total += counts[token]


@njit(cache=True)
def _bucket_ends(counts, buckets):
    total = 0
    for token in range(counts.size):
        total += counts[token]
        buckets[token] = total


@njit(cache=True)
def _place_last(ids, buckets, suffixes):
    """The last suffix is the smallest of its bucket: the end of the ids stands before it."""
    last = ids.size - 1
    token = ids[last]
    suffixes[buckets[token]] = last if last == 0 or ids[last - 1] >= token else ~last
    buckets[token] += 1


@njit(cache=True)
def sort_lms_substrings(ids, counts, buckets, lms, suffixes):
    """Put the LMS positions into `suffixes[:lms.size]`, ordered by the ids from each to the next LMS position."""
    n = ids.size
    suffixes[:] = 0  # also stands for "empty": suffix 0 is no LMS and needs no place here
    _bucket_ends(counts, buckets)
    for position in lms:
        token = ids[position]
        buckets[token] -= 1
        suffixes[buckets[token]] = position
    _bucket_starts(counts, buckets)
    _place_last(ids, buckets, suffixes)
    for rank in range(n):
        entry = suffixes[rank]
        if entry > 0:
            suffixes[rank] = 0
            position = entry - 1
            token = ids[position]
            place = buckets[token]
            buckets[token] = place + 1
            if position > 0:
                suffixes[place] = position if ids[position - 1] >= token else ~position
        elif entry < 0:
            suffixes[rank] = ~entry
    _bucket_ends(counts, buckets)
    for rank in range(n - 1, -1, -1):
        entry = suffixes[rank]
        if entry > 0:
            suffixes[rank] = 0
            position = entry - 1
            token = ids[position]
            place = buckets[token] - 1
            buckets[token] = place
            if position > 0:
                suffixes[place] = position if ids[position - 1] <= token else ~position
    n_sorted = 0
    for rank in range(n):
        if suffixes[rank] < 0:
            suffixes[n_sorted] = ~suffixes[rank]
            n_sorted += 1


@njit(cache=True)
def name_lms_substrings(ids, lms, suffixes, names):
    """Number the sorted LMS substrings, equal ones alike; the name of the one at position `p` goes to `names[p >> 1]`.

    Two LMS positions are never neighbours, so `p >> 1` tells them apart.

    Returns:
        The number of names.
    """
    n_lms = lms.size
    for row in range(n_lms - 1):
        names[lms[row] >> 1] = lms[row + 1] - lms[row]
    names[lms[n_lms - 1] >> 1] = 0  # runs to the end, so it equals no other
    n_names = 0
    previous = previous_length = 0
    for rank in range(n_lms):
        position = suffixes[rank]
        length = names[position >> 1]
        same = length > 0 and length == previous_length
        offset = 0
        while same and offset <= length:
            same = ids[position + offset] == ids[previous + offset]
            offset += 1
        if not same:
            n_names += 1
            previous = position
            previous_length = length
        names[position >> 1] = n_names - 1
    return n_names


@njit(cache=True)
def reduce_ids(lms, names, reduced, counts):
    """The names in the order of the text, and how often each occurs."""
    for row in range(lms.size):
        name = names[lms[row] >> 1]
        reduced[row] = name
        counts[name] += 1


@njit(cache=True)
def to_positions(lms, suffixes):
    """Turn the suffix array of the reduced ids, in `suffixes[:lms.size]`, into the sorted LMS suffixes."""
    for rank in range(lms.size):
        suffixes[rank] = lms[suffixes[rank]]


@njit(cache=True)
def induce(ids, counts, buckets, n_lms, suffixes):
    """Sort all suffixes, given the sorted LMS suffixes in `suffixes[:n_lms]`."""
    n = ids.size
    suffixes[n_lms:] = 0
    _bucket_ends(counts, buckets)
    for rank in range(n_lms - 1, -1, -1):  # from the right: a place is never left of the rank that is moved to it
        position = suffixes[rank]
        suffixes[rank] = 0
        token = ids[position]
        buckets[token] -= 1
        suffixes[buckets[token]] = position
    _bucket_starts(counts, buckets)
    _place_last(ids, buckets, suffixes)
    for rank in range(n):
        entry = suffixes[rank]
        suffixes[rank] = ~entry
        if entry > 0:
            position = entry - 1
            token = ids[position]
            place = buckets[token]
            buckets[token] = place + 1
            suffixes[place] = position if position == 0 or ids[position - 1] >= token else ~position
    _bucket_ends(counts, buckets)
    for rank in range(n - 1, -1, -1):
        entry = suffixes[rank]
        if entry > 0:
            position = entry - 1
            token = ids[position]
            place = buckets[token] - 1
            buckets[token] = place
            suffixes[place] = ~position if position == 0 or ids[position - 1] > token else position
        else:
            suffixes[rank] = ~entry
