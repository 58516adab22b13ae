"""Kernels of the index: which part of the suffix array begins with a context, and what follows there.

A part is suffixes[low:high], all with the same first `depth` tokens. Two tables of the process remember what was asked
last: `memo` the most frequent followers of a part, `steps` the part that is left with one token more. The answers do not
depend on them. A question has one line where its answer belongs. Several indexes share the tables: each has a `mark` of its
own, a multiple of DEPTHS (the corpus 0), and asks for `mark + depth` where a line holds the depth.

The file's arrays are checked when they are loaded: `suffixes` holds positions of `tokens`; positions made from them are
compared with the length here.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from tasc._numba import inner

KEPT = 8  # followers that are remembered of a part, most frequent first
SAMPLES = 64  # suffixes looked at in a larger part: a follower with 1 / SAMPLES of it is found for certain
# a line of `memo`: low, high, depth, distinct followers, number kept, then their tokens, counts, and the lows of their parts;
# as long as two lines of the processor's cache, one of `steps` as half of one
LOW, HIGH, DEPTH, DISTINCT, N_KEPT, TOKENS = 0, 1, 2, 3, 4, 8
COUNTS = TOKENS + KEPT
LOWS = COUNTS + KEPT
LINE = LOWS + KEPT
DEPTHS = 32  # above every depth
# an index as one array: numbers of tokens and of different ids, mark, then tokens, suffixes, ids and starts
N_TOKENS, N_IDS, MARK, PACKED = range(4)
STEP = 8  # numbers in a line of `steps`: low, high, depth, token, then low and high of the child


@inner
def narrow(tokens, suffixes, low, high, depth, token):
    """The part of suffixes[low:high], all with the same first `depth` tokens, where `token` comes next: (low, high)."""
    n = len(tokens)
    a, b = low, high
    while a < b:
        middle = (a + b) >> 1
        place = suffixes[middle] + depth
        if place < n and tokens[place] >= token:
            b = middle
        else:
            a = middle + 1
    return a, _end(tokens, suffixes, a, high, depth, token)


@inner
def _end(tokens, suffixes, low, high, depth, token):
    """Where the suffixes with `token` at `depth` end, given that those before `low` are smaller."""
    n = len(tokens)
    # gallop: most parts are small
    a, step = low, 1
    b = high
    while a < high:
        probe = a + step - 1 if a + step - 1 < high - 1 else high - 1
        place = suffixes[probe] + depth
        if place < n and tokens[place] > token:
            b = probe
            break
        a = probe + 1
        step *= 2
    while a < b:
        middle = (a + b) >> 1
        place = suffixes[middle] + depth
        if place < n and tokens[place] > token:
            b = middle
        else:
            a = middle + 1
    return a


@inner
def _begin(tokens, suffixes, low, high, depth, token):
    """Where the suffixes with `token` at `depth` begin, given that the one at `high` has it."""
    n = len(tokens)
    b, step = high, 1
    a = low
    while b > low:
        probe = max(b - step, low)
        place = suffixes[probe] + depth
        if place >= n or tokens[place] < token:
            a = probe + 1
            break
        b = probe
        step *= 2
    while a < b:
        middle = (a + b) >> 1
        place = suffixes[middle] + depth
        if place >= n or tokens[place] < token:
            a = middle + 1
        else:
            b = middle
    return b


@inner
def first_part(ids, starts, token):
    """The suffixes that begin with `token`: (low, high). `ids` are the tokens that occur, ascending."""
    a, b = 0, len(ids)
    while a < b:
        middle = (a + b) >> 1
        if ids[middle] < token:
            a = middle + 1
        else:
            b = middle
    if a == len(ids) or ids[a] != token:
        return 0, 0
    return starts[a], starts[a + 1]


@inner
def unpack(packed):
    """Tokens, suffixes, ids, starts and the mark of an index that is one array; see `Index.pack`."""
    n, n_ids = packed[N_TOKENS], packed[N_IDS]
    at_ids = PACKED + 2 * n
    at_starts = at_ids + n_ids
    return (
        packed[PACKED : PACKED + n],
        packed[PACKED + n : at_ids],
        packed[at_ids:at_starts],
        packed[at_starts : at_starts + n_ids + 1],
        packed[MARK],
    )


@inner
def line_at(memo, low, high, marked):
    """The line of `memo` where the followers of this part belong; `marked`: the depth and the index's mark."""
    mixed = ((low * 0x9E3779B1 + high) * 0x85EBCA77 + marked) * 0xC2B2AE3D
    return (mixed >> 20) & (len(memo) - 1)


@inner
def prefetch(memo, low, high, marked):
    """Have the processor fetch that line, both halves of it, and go on meanwhile."""
    at = LINE * line_at(memo, low, high, marked)
    _prefetch(memo, at)  # pyright: ignore[reportCallIssue] (numba passes the first)
    _prefetch(memo, at + LINE // 2)  # pyright: ignore[reportCallIssue]


@intrinsic
def _prefetch(_, array, at):
    """LLVM's instruction, for the number at a place of an array's memory."""

    def call(context, builder, signature, args):
        place = builder.gep(make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
        to_read, keep, data = flag(0), flag(3), flag(1)
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind), [place, to_read, keep, data]
        )
        return context.get_dummy_value()

    return types.none(array, types.int64), call


@inner
def is_listed(memo, at, low, high, marked):
    """Whether the line holds the followers of this part."""
    return memo[at, LOW] == low and memo[at, HIGH] == high and memo[at, DEPTH] == marked


@inner
def list_followers(tokens, suffixes, mark, memo, at, low, high, depth):
    """Write the most frequent followers of a part into a line, ties in order of the ids.

    The number of distinct followers is exact up to SAMPLES suffixes, else a lower bound.
    """
    line = memo[at]
    n = len(tokens)
    stride = max((high - low) // SAMPLES, 1)
    kept = distinct = 0
    end = sample = low
    while sample < high:
        place = suffixes[sample] + depth
        if place >= n:
            sample += 1
            continue
        token = tokens[place]
        first = _begin(tokens, suffixes, end, sample, depth, token)
        end = _end(tokens, suffixes, sample, high, depth, token)
        distinct += 1
        kept = _keep(line, kept, token, end - first, first)
        sample = max(end, sample + stride)
    line[LOW], line[HIGH], line[DEPTH], line[DISTINCT], line[N_KEPT] = low, high, mark + depth, distinct, kept


@inner
def _keep(line, kept, token, count, low):
    """Insert a follower into the line, which stays sorted by falling count; returns how many are kept."""
    if kept == KEPT and count <= line[COUNTS + KEPT - 1]:
        return kept
    at = kept if kept < KEPT else KEPT - 1
    while at > 0 and line[COUNTS + at - 1] < count:
        line[TOKENS + at] = line[TOKENS + at - 1]
        line[COUNTS + at] = line[COUNTS + at - 1]
        line[LOWS + at] = line[LOWS + at - 1]
        at -= 1
    line[TOKENS + at], line[COUNTS + at], line[LOWS + at] = token, count, low
    return kept + 1 if kept < KEPT else kept


@inner
def step_at(steps, low, high, marked, token):
    """The line of `steps` where the answer to this question belongs."""
    mixed = (((low * 0x9E3779B1 + high) * 0x85EBCA77 + marked) * 0xC2B2AE3D + token) * 0x27D4EB2F
    return (mixed >> 24) & (len(steps) - 1)


@inner
def is_known(steps, at, low, high, marked, token):
    """Whether the line answers this question."""
    return steps[at, 0] == low and steps[at, 1] == high and steps[at, 2] == marked and steps[at, 3] == token


@inner
def answer(tokens, suffixes, ids, starts, mark, steps, at, low, high, depth, token):
    """Find the part of suffixes[low:high] with `token` next and write it into the line.

    steps[at, 4:6] are then its low and high, 0 and 0 if `token` never follows.
    """
    if depth == 0:
        first, end = first_part(ids, starts, token)
    else:
        first, end = narrow(tokens, suffixes, low, high, depth, token)
    if first == end:
        first = end = 0
    steps[at, 0], steps[at, 1], steps[at, 2], steps[at, 3] = low, high, mark + depth, token
    steps[at, 4], steps[at, 5] = first, end
