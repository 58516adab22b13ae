"""The outputs of a task as one text with its suffix array: what every drafter looks contexts up in. Knows ids only."""

from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import _index as kernels
from tasc.draft.suffix import suffix_array
from tasc.errors import DataError

MARKS = (1 << 26) - 1  # marks are int32
_PACKS = count()


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Every row as `start_id`, its tokens, `eos_id`, one behind the other, and the order of all suffixes.

    Attributes:
        tokens: int32, shape (n,).
        suffixes: int32, shape (n,): the starts of the suffixes of `tokens` in lexicographic order.
        start_id: stands before each row; larger than every token.
        eos_id: ends each row.
        ids: int32, shape (n_ids,): the ids that occur, ascending.
        starts: int32, shape (n_ids + 1,): the suffixes that begin with ids[k] are suffixes[starts[k]:starts[k + 1]].

    Examples:
        >>> index = Index.build(TokenCorpus.from_rows([[5, 6], [5, 7]]), start_id=9, eos_id=8)
        >>> index.tokens.tolist(), index.count([5]), index.count([9, 5, 6])
        ([9, 5, 6, 8, 9, 5, 7, 8], 2, 1)
    """

    tokens: NDArray[np.int32]
    suffixes: NDArray[np.int32]
    start_id: int
    eos_id: int
    ids: NDArray[np.int32]
    starts: NDArray[np.int32]

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
        return cls.from_text(row_text(outputs, start_id, eos_id), start_id=start_id, eos_id=eos_id)

    @classmethod
    def from_text(cls, tokens: NDArray[np.int32], *, start_id: int, eos_id: int) -> "Index":
        """Index a text of rows, int32, shape (n,); `start_id + 1` stands before what does not begin a row."""
        counts = np.bincount(tokens, minlength=1)
        ids = np.flatnonzero(counts).astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(counts[ids])]).astype(np.int32)
        return cls(tokens, suffix_array(tokens), start_id, eos_id, ids, starts)

    def pack(self) -> NDArray[np.int32]:
        """All of it as one array for the kernels, see `_index.unpack`; its mark is one of its own in this process."""
        head = [len(self.tokens), len(self.ids), kernels.DEPTHS * (next(_PACKS) % MARKS + 1)]
        return np.concatenate([head, self.tokens, self.suffixes, self.ids, self.starts], dtype=np.int32)

    @property
    def n_rows(self) -> int:
        """Rows in the text, parts of rows not counted."""
        low, high = kernels.first_part(self.ids, self.starts, self.start_id)
        return int(high - low)

    @property
    def row_starts(self) -> NDArray[np.int32]:
        """Where each row begins in `tokens`, and the end: int32, shape (n_rows + 1,)."""
        low, high = (int(x) for x in kernels.first_part(self.ids, self.starts, self.start_id))
        return np.append(np.sort(self.suffixes[low:high]), np.int32(len(self.tokens)))

    def outputs(self) -> TokenCorpus:
        """The rows as they were given to `build`."""
        markers = self.tokens >= self.start_id
        begins = np.flatnonzero(markers)
        ends = np.append(begins, len(self.tokens))[1:]
        # rows end with the end token, parts of rows need not
        lengths = ends - begins - 1
        ended = (lengths > 0) & (self.tokens[ends - 1] == self.eos_id)
        kept = ~markers
        kept[ends[ended] - 1] = False
        offsets = np.concatenate([[0], np.cumsum(lengths - ended)]).astype(np.int64)
        return TokenCorpus(self.tokens[kept], offsets)

    def count(self, ngram: list[int]) -> int:
        """How often the n-gram occurs."""
        return len(self.places(ngram))

    def places(self, ngram: list[int]) -> NDArray[np.int32]:
        """Where in `tokens` the n-gram occurs, in no useful order."""
        low, high = 0, len(self.suffixes)
        for depth, token in enumerate(ngram):
            low, high = kernels.narrow(self.tokens, self.suffixes, low, high, depth, token)
        return self.suffixes[low:high]


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
