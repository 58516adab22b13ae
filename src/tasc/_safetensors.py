"""The layout of safetensors files: headers out and in, arrays mapped. It says what is wrong, not whose file it is.

A file is the header's length (8 bytes, little-endian), the header (JSON: `__metadata__`, then dtype, shape and place of each
array) and the arrays, one after the other without gaps. Nothing here trusts a file: sizes are bounded before they are used,
and an array never reaches beyond the file.
"""

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DTYPES = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER_BYTES = 1 << 20
MAX_DIMENSIONS = 4
_MAX_ITEMS = 1 << 40
_ALIGNMENT = 64


class MalformedError(Exception):
    """What is wrong with a file; callers turn it into their own error."""


class Entry(NamedTuple):
    """One array; `start` and `stop` are bytes from the beginning of the data."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """A mapped file. Its entries are unchecked until `entry` or `array` is asked for them.

    Attributes:
        header: the header's bytes with the length in front.
        metadata: `__metadata__`, not checked further; `{}` if there is none.
        entries: the rest of the JSON header, not checked further.
    """

    header: bytes
    metadata: dict[str, Any]
    entries: dict[str, Any]
    _map: np.memmap[Any, np.dtype[np.uint8]]

    @property
    def data_bytes(self) -> int:
        """Bytes after the header."""
        return len(self._map) - len(self.header)

    def entry(self, name: str) -> Entry:
        """The checked entry of an array, wholly inside the file.

        Raises:
            MalformedError: there is no such entry, it is none, or it does not fit the file.
        """
        try:
            dtype, shape, (start, stop) = (self.entries[name][key] for key in ("dtype", "shape", "data_offsets"))
            if not isinstance(dtype, str) or {type(number) for number in (*shape, start, stop)} != {int}:
                raise TypeError("a name and whole numbers")
        except (TypeError, ValueError, KeyError) as error:
            raise MalformedError(f"no array {name!r} in its header") from error
        fits = dtype in DTYPES and len(shape) <= MAX_DIMENSIONS and 0 <= start <= stop <= self.data_bytes
        # zeros count as ones in the bound: numpy multiplies the other dimensions
        fits = fits and all(size >= 0 for size in shape) and math.prod(size or 1 for size in shape) <= _MAX_ITEMS
        if not fits or stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
            raise MalformedError(f"array {name!r} does not fit the file ({self.data_bytes} bytes of data)")
        return Entry(DTYPES[dtype], tuple(shape), start, stop)

    def array(self, name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """A read-only view of one array in the map, which lives as long as the array does.

        Raises:
            MalformedError: as `entry`, or the array is of another dtype than the one given.
        """
        entry = self.entry(name)
        if dtype is not None and entry.dtype != dtype:
            raise MalformedError(f"array {name!r} does not fit: {entry.dtype}, expected {dtype}")
        if entry.start == entry.stop:
            empty = np.empty(entry.shape, entry.dtype)
            empty.setflags(write=False)
            return empty
        start = len(self.header)
        mapped = self._map[start + entry.start : start + entry.stop].view(entry.dtype).reshape(entry.shape)
        return np.asarray(mapped)  # plain: some libraries treat the memmap class apart

    def check_layout(self) -> dict[str, Entry]:
        """All entries in the order of their places.

        Raises:
            MalformedError: an entry is broken, or the arrays overlap, leave a gap or do not fill the file.
        """
        entries = {name: self.entry(name) for name in self.entries}
        ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))
        position = 0
        for name, entry in ordered.items():
            if entry.start != position:
                raise MalformedError(f"array {name!r} begins at byte {entry.start} of the data, expected {position}")
            position = entry.stop
        if position != self.data_bytes:
            raise MalformedError(f"{self.data_bytes} bytes of data, expected {position}")
        return ordered


def build_header(
    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    metadata: Mapping[str, str],
    *,
    n_bytes: int | None = None,
) -> bytes:
    """The length and the JSON header of arrays that follow one another in the given order.

    Args:
        n_bytes: bytes to fill, length included; the next multiple of 64 by default.

    Raises:
        MalformedError: the header would be too large to be read again.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, (dtype, shape) in arrays.items():
        stop = position + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header).encode()
    n_bytes = n_bytes or -(-(8 + len(text)) // _ALIGNMENT) * _ALIGNMENT
    assert 8 + len(text) <= n_bytes, "the header outgrew its place"
    if n_bytes > MAX_HEADER_BYTES:
        raise MalformedError(f"its header has {n_bytes} bytes, at most {MAX_HEADER_BYTES}")
    return (n_bytes - 8).to_bytes(8, "little") + text.ljust(n_bytes - 8)


def open_map(path: str | os.PathLike[str]) -> Contents:
    """Map a file and read its header.

    Raises:
        MalformedError: not a regular file, or no safetensors header.
        OSError: the file cannot be opened.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):  # before it is opened: that waits for ever on a named pipe
        raise MalformedError("not a regular file")
    with open(path, "rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(MAX_HEADER_BYTES, n_bytes - 8):
            raise MalformedError("no safetensors header")
        mapped = np.memmap(file, np.uint8, "r", shape=(n_bytes,))
    header = mapped[: 8 + length].tobytes()
    try:
        entries = parse_json(header[8:])
    except (ValueError, RecursionError) as error:
        raise MalformedError("its header is no JSON object") from error
    if not isinstance(entries, dict):
        raise MalformedError("its header is no JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise MalformedError("its metadata are no JSON object")
    return Contents(header, metadata, entries, mapped)


def parse_json(text: bytes) -> Any:
    """JSON without NaN, infinity and repeated keys.

    Raises:
        ValueError: it is not UTF-8 or not such JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(
        text.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refused, parse_float=_finite
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated key")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
