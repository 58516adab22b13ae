"""TokenCorpus: the token ids of many texts, flat and memory-mapped. Knows ids only, no text.

The file is a safetensors file with `tokens` (int32), `padding` (no or one int32, so that what follows is aligned)
and `offsets` (int64). Its metadata hold the format's name and version and the tokenizer's fingerprint.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tasc._safetensors import Contents, MalformedError, build_header, open_map
from tasc.corpus.tokenizer import encode_batch, fingerprint
from tasc.errors import DataError, FingerprintError
from tasc.files import atomic_write

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT, VERSION = "tasc-corpus", "1"
# room for the header in front of the data, written last; a multiple of 8 keeps the arrays aligned
_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class TokenCorpus(Sequence[NDArray[np.int32]]):
    """Token ids of many rows without padding: row `i` is `tokens[offsets[i]:offsets[i + 1]]`.

    Attributes:
        tokens: int32, shape (n_tokens,).
        offsets: int64, shape (n_rows + 1,), starts with 0, never falls, ends with n_tokens.
        fingerprint: the tokenizer that made the ids; `""` if there was none.

    Examples:
        >>> corpus = TokenCorpus.from_rows([[5, 6], [], [7]])
        >>> len(corpus), corpus.n_tokens, corpus[0].tolist()
        (3, 3, [5, 6])
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self.tokens, self.offsets)
        if problem:
            raise DataError(f"token corpus: {problem}; build it with TokenCorpus.encode or TokenCorpus.from_rows")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:  # type: ignore[override]
        """A view of one row; use `take` for several rows."""
        n_rows = len(self)
        if not -n_rows <= row < n_rows:
            raise IndexError(f"row {row} of a corpus of {n_rows} rows")
        row %= n_rows
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    @property
    def n_tokens(self) -> int:
        """Tokens in all rows."""
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, shape (n_rows,)."""
        return np.diff(self.offsets)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> "TokenCorpus":
        """A corpus of the given rows, in the given order."""
        chosen = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[chosen]
        offsets = _offsets(lengths)
        # position of each wanted token: start of its row plus its place in the row
        where = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TokenCorpus(self.tokens[where], offsets, self.fingerprint)

    def unique(self) -> "tuple[TokenCorpus, NDArray[np.int64]]":
        """Equal rows once, in order of first appearance, with how often each stood: int64, shape (n_unique,)."""
        first: dict[bytes, int] = {}
        counts: list[int] = []
        rows: list[int] = []
        raw = np.ascontiguousarray(self.tokens).view(np.uint8).data
        bounds = (self.offsets * self.tokens.itemsize).tolist()
        for row, (start, stop) in enumerate(pairwise(bounds)):
            place = first.setdefault(bytes(raw[start:stop]), len(rows))
            if place == len(rows):
                rows.append(row)
                counts.append(0)
            counts[place] += 1
        return self.take(rows), np.asarray(counts, dtype=np.int64)

    def require(self, expected: str) -> None:
        """Raise FingerprintError unless the corpus was made with the tokenizer of that fingerprint."""
        if self.fingerprint != expected:
            raise FingerprintError(
                f"token corpus made with tokenizer {self.fingerprint or '(unknown)'}, used with {expected}; encode it again"
            )

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int] | NDArray[np.integer]], fingerprint: str = "") -> Self:
        """A corpus in memory from rows of ids, which are read one at a time.

        Raises:
            DataError: an id is below 0 or above 2**31 - 1.
        """
        tokens, lengths = array("i"), array("q")
        for ids in rows:
            tokens.frombytes(_int32(ids).tobytes())
            lengths.append(len(ids))
        return cls(np.frombuffer(tokens, np.int32), _offsets(np.array(lengths, dtype=np.int64)), fingerprint)

    @classmethod
    def encode(
        cls,
        texts: Iterable[str],
        tokenizer: "PreTrainedTokenizerFast",
        *,
        path: str | os.PathLike[str] | None = None,
        batch_size: int = 1024,
        progress: Callable[[int], None] | None = None,
    ) -> Self:
        """Tokenise texts without special tokens, in batches that the tokenizer spreads over the cores.

        Args:
            texts: read once, a batch at a time.
            tokenizer: its ids are kept, and its fingerprint with them.
            path: stream the ids into this file and map it; memory then holds one batch and the offsets.
            batch_size: texts that are tokenised at a time.
            progress: called with the number of rows done since the last call.
        """
        batches = (_flat(encode_batch(tokenizer, batch)) for batch in _batched(texts, batch_size))
        if progress is not None:
            batches = _reporting(batches, progress)
        made_with = fingerprint(tokenizer)
        if path is None:
            parts = list(batches)
            tokens = np.concatenate([np.empty(0, np.int32), *(part for part, _ in parts)])
            lengths = np.concatenate([np.empty(0, np.int64), *(lengths for _, lengths in parts)])
            return cls(tokens, _offsets(lengths), made_with)
        with atomic_write(path, "wb") as file:
            _write(file, batches, made_with)
        return cls.load(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the corpus to one file, atomically."""
        with atomic_write(path, "wb") as file:
            _write(file, [(np.ascontiguousarray(self.tokens), self.lengths)], self.fingerprint)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Map a file that `save` or `encode` wrote. Every offset and id is checked, so reading is safe afterwards.

        Raises:
            DataError: not a token corpus, of another version, cut short or damaged.
            OSError: the file cannot be opened.
        """
        try:
            contents = open_map(path)
            _check_format(contents.metadata)
            tokens, _, offsets = (_array(contents, name) for name in _DTYPES)
            problem = _problem(tokens, offsets)
            if problem:
                raise MalformedError(problem)
            contents.check_layout()
        except MalformedError as error:
            raise DataError(f"{os.fspath(path)}: not a usable token corpus: {error}; encode the texts again") from error
        return cls(tokens, offsets, contents.metadata.get("fingerprint", ""))


_DTYPES = {"tokens": np.dtype("<i4"), "padding": np.dtype("<i4"), "offsets": np.dtype("<i8")}
_Flat = tuple[NDArray[np.int32], NDArray[np.int64]]


def _batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, size)):
        yield batch


def _int32(ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int32]:
    try:
        row = np.asarray(ids, dtype=np.int32)
        fits = row is ids or not isinstance(ids, np.ndarray) or bool((row == ids).all())
    except OverflowError:
        fits = False
    if not fits:
        raise DataError(
            f"token ids from {min(ids)} to {max(ids)} in a row, expected 0 to 2**31 - 1; check the tokenizer"
        )
    return row


def _flat(rows: list[list[int]]) -> _Flat:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    tokens = np.empty(int(lengths.sum()), dtype=np.int32)
    position = 0
    for ids in rows:
        tokens[position : position + len(ids)] = ids
        position += len(ids)
    return tokens, lengths


def _reporting(batches: Iterator[_Flat], progress: Callable[[int], None]) -> Iterator[_Flat]:
    for tokens, lengths in batches:
        yield tokens, lengths
        progress(len(lengths))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _problem(tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> str:
    """What is wrong with a pair of arrays, or an empty string."""
    if tokens.dtype != np.int32 or offsets.dtype != np.int64:
        return f"tokens are {tokens.dtype} and offsets {offsets.dtype}, expected int32 and int64"
    if tokens.ndim != 1 or offsets.ndim != 1 or len(offsets) == 0:
        return f"tokens have shape {tokens.shape} and offsets {offsets.shape}, expected (n_tokens,) and (n_rows + 1,)"
    if offsets[0] != 0 or offsets[-1] != len(tokens):
        return f"offsets run from {offsets[0]} to {offsets[-1]}, expected 0 to {len(tokens)}"
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falls):
        return f"offsets fall after row {falls[0]}"
    if len(tokens) and tokens.min() < 0:
        return f"token id {tokens.min()} at position {int(np.argmin(tokens))}, expected none below 0"
    return ""


def _write(file: IO[bytes], batches: Iterable[_Flat], made_with: str) -> None:
    """Data first, header last: the sizes are known only when the last batch has been written."""
    file.write(b" " * _HEADER_BYTES)
    lengths = array("q")
    n_tokens = 0
    for tokens, row_lengths in batches:
        file.write(tokens.astype("<i4", copy=False).tobytes())
        lengths.frombytes(row_lengths.tobytes())
        n_tokens += len(tokens)
    n_padding = n_tokens % 2
    file.write(b"\0\0\0\0" * n_padding)
    offsets = _offsets(np.array(lengths, dtype=np.int64))
    file.write(offsets.astype("<i8", copy=False).tobytes())
    file.seek(0)
    file.write(_header({"tokens": n_tokens, "padding": n_padding, "offsets": len(offsets)}, made_with))


def _header(sizes: dict[str, int], made_with: str) -> bytes:
    metadata = {"format": FORMAT, "version": VERSION, "fingerprint": made_with}
    arrays = {name: (_DTYPES[name], (size,)) for name, size in sizes.items()}
    return build_header(arrays, metadata, n_bytes=_HEADER_BYTES)


def _check_format(metadata: dict[str, Any]) -> None:
    if "format" not in metadata or "version" not in metadata:
        raise MalformedError("its header is not that of a token corpus")
    found = (metadata["format"], metadata["version"])
    if found != (FORMAT, VERSION) or not isinstance(metadata.get("fingerprint", ""), str):
        raise MalformedError(f"format {found[0]!r} version {found[1]!r}, expected {FORMAT!r} version {VERSION!r}")


def _array(contents: Contents, name: str) -> NDArray[Any]:
    array = contents.array(name, _DTYPES[name])
    if array.ndim != 1:
        raise MalformedError(f"no array {name!r} in its header with one dimension")
    return array
