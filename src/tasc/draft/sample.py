"""The rows that teach the weights: chosen by a number made from their content, so that shards choose what the whole would."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import _rows as kernels

TOKENS = 160_000  # of their outputs together, for memory and time
PROMPT = 256  # tokens kept of a prompt
PROMPT_TOKENS = 300_000  # of their prompts together


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows in falling order of preference.

    Attributes:
        rows: int32, shape (n,): their places among the outputs.
        prompts: their prompts, the first PROMPT tokens.
    """

    rows: NDArray[np.int32]
    prompts: TokenCorpus

    @classmethod
    def merge(cls, samples: "Sequence[Sample]", outputs: TokenCorpus, firsts: Sequence[int]) -> "Sample":
        """The sample of all rows from those of their shards; shard k's rows begin at `firsts[k]` of the outputs."""
        rows = np.concatenate([one.rows + first for one, first in zip(samples, firsts, strict=True)])
        order = np.argsort(rows, kind="stable")
        prompts = joined([one.prompts for one in samples]).take(order)
        chosen = choose(outputs.take(rows[order]), prompts)
        return cls(rows[order][chosen.rows].astype(np.int32), chosen.prompts)


def choose(outputs: TokenCorpus, prompts: TokenCorpus) -> Sample:
    """One of each row content, those with the lowest numbers, up to TOKENS tokens of output and PROMPT_TOKENS of prompts.

    Examples:
        >>> outputs, prompts = TokenCorpus.from_rows([[1], [1], [2]]), TokenCorpus.from_rows([[7], [7], [7]])
        >>> sorted(choose(outputs, prompts).rows.tolist())
        [0, 2]
    """
    hashes = np.zeros(len(outputs), np.uint64)
    kernels.hash_rows(prompts.tokens, prompts.offsets, PROMPT, hashes)
    kernels.hash_rows(outputs.tokens, outputs.offsets, 1 << 31, hashes)
    _, first = np.unique(hashes, return_index=True)  # ascending by hash; the first row of each content
    fit = np.cumsum(outputs.lengths[first] + 1) <= TOKENS
    fit &= np.cumsum(np.minimum(prompts.lengths[first], PROMPT)) <= PROMPT_TOKENS
    rows = first[: max(int(fit.sum()), 1)].astype(np.int32)
    return Sample(rows, cut(prompts.take(rows), PROMPT))


def cut(rows: TokenCorpus, length: int) -> TokenCorpus:
    """The first tokens of each row."""
    place = _places(rows)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(rows.lengths, length))]).astype(np.int64)
    return TokenCorpus(rows.tokens[place < length], offsets, rows.fingerprint)


def behind(rows: TokenCorpus, n: int) -> TokenCorpus:
    """The tokens of each row that come after its first `n`; no row is shorter."""
    return TokenCorpus(rows.tokens[_places(rows) >= n], rows.offsets - n * np.arange(len(rows) + 1), rows.fingerprint)


def preceded(rows: TokenCorpus, prefix: NDArray[np.int32]) -> TokenCorpus:
    """The rows with `prefix` in front of each: what `behind` took away.

    Examples:
        >>> whole = TokenCorpus.from_rows([[1, 2, 3], [1, 2], [1, 2, 4, 5]])
        >>> [row.tolist() for row in preceded(behind(whole, 2), whole[1])]
        [[1, 2, 3], [1, 2], [1, 2, 4, 5]]
    """
    tokens = np.insert(rows.tokens, np.repeat(rows.offsets[:-1], len(prefix)), np.tile(prefix, len(rows)))
    return TokenCorpus(tokens, rows.offsets + len(prefix) * np.arange(len(rows) + 1), rows.fingerprint)


def _places(rows: TokenCorpus) -> NDArray[np.int64]:
    """Where in its row each token stands."""
    return np.arange(rows.n_tokens) - np.repeat(rows.offsets[:-1], rows.lengths)


def joined(parts: Sequence[TokenCorpus]) -> TokenCorpus:
    """The rows of all parts, one part behind the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenCorpus(np.concatenate([part.tokens for part in parts]), offsets, parts[0].fingerprint)
