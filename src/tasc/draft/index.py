"""The outputs of a task as one text with its suffix array: what every drafter looks contexts up in. Knows ids only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import _index as kernels
from tasc.draft.suffix import suffix_array
from tasc.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Every row as `start_id`, its tokens, `eos_id`, one behind the other, and the order of all suffixes.

    Attributes:
        tokens: int32, shape (n,).
        suffixes: int32, shape (n,): the starts of the suffixes of `tokens` in lexicographic order.
        start_id: stands before each row; larger than every token.
        eos_id: ends each row.

    Example:
        >>> index = Index.build(TokenCorpus.from_rows([[5, 6], [5, 7]]), start_id=9, eos_id=8)
        >>> index.tokens.tolist(), index.count([5]), index.count([9, 5, 6])
        ([9, 5, 6, 8, 9, 5, 7, 8], 2, 1)
    """

    tokens: NDArray[np.int32]
    suffixes: NDArray[np.int32]
    start_id: int
    eos_id: int

    @classmethod
    def build(cls, outputs: TokenCorpus, *, start_id: int, eos_id: int) -> "Index":
        """Index outputs that come without end tokens.

        Raises:
            DataError: an id of the outputs is not below `start_id`.
        """
        if outputs.n_tokens and int(outputs.tokens.max()) >= start_id:
            raise DataError(
                f"token id {outputs.tokens.max()} in the outputs, expected ids below {start_id}; use the tokenizer of the model"
            )
        tokens = row_text(outputs, start_id, eos_id)
        return cls(tokens, suffix_array(tokens), start_id, eos_id)

    def count(self, ngram: list[int]) -> int:
        """How often the n-gram occurs."""
        low, high = 0, len(self.suffixes)
        for depth, token in enumerate(ngram):
            low, high = kernels.narrow(self.tokens, self.suffixes, low, high, depth, token)
        return int(high - low)


def row_text(outputs: TokenCorpus, start_id: int, eos_id: int) -> NDArray[np.int32]:
    """The rows as one text, int32, shape (n_tokens + 2 * n_rows,)."""
    tokens = np.empty(outputs.n_tokens + 2 * len(outputs), np.int32)
    kept = np.ones(len(tokens), bool)
    starts = outputs.offsets[:-1] + 2 * np.arange(len(outputs))
    ends = outputs.offsets[1:] + 2 * np.arange(len(outputs)) + 1
    tokens[starts], tokens[ends] = start_id, eos_id
    kept[starts] = kept[ends] = False
    tokens[kept] = outputs.tokens
    return tokens
