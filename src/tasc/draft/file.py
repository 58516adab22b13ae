"""The drafter file `NAME.tasc`: named arrays and JSON metadata in one memory-mapped file. Knows no drafter.

It is a safetensors file. The arrays stand by falling item size, so that each is aligned to its items. In the header's
`__metadata__` (all strings, as safetensors demands):

    format, version   "tasc-drafter", "1"
    package           the version of tasc that wrote the file
    metadata          the caller's metadata as JSON
    crc32             JSON: the CRC-32 of each array's bytes
    header_crc32      CRC-32 of the header, its length included, with these eight hexadecimal digits as zeros

Loading checks the header and the layout always, the data of files up to 64 MiB too; larger files stay unread until
`verify=True` or until their pages are used. So whoever uses an array as indices checks their bounds.
"""

import json
import os
import re
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasc import _safetensors as safetensors
from tasc._safetensors import Contents, MalformedError
from tasc.errors import DrafterFileError
from tasc.files import atomic_write

FORMAT, VERSION = "tasc-drafter", "1"
# read in full at each load up to here: about 20 ms
ALWAYS_VERIFIED_BYTES = 64 << 20
_ZEROS = b"00000000"
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_Arrays = dict[str, NDArray[Any]]


def write_file(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a drafter file, atomically. The same arrays and metadata give the same bytes.

    Args:
        arrays: by name (`[a-z][a-z0-9_.]*`), of up to 4 dimensions; int64, int32, uint32, uint16, uint8, float32 or float16.
        metadata: whatever JSON can hold; NaN and infinity it cannot.

    Raises:
        DrafterFileError: an array or the metadata are not of this kind.
        OSError: the file cannot be written; what stood at `path` is unchanged.

    Examples:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "task.tasc"
        >>> write_file(path, {"tokens": np.array([5, 6], dtype=np.int32)}, {"eos_id": 6})
        >>> read_file(path)
        ({'eos_id': 6}, {'tokens': array([5, 6], dtype=int32)})
    """
    try:
        _check_arrays(arrays)
        # without the widest items first, an int64 array could begin at any byte
        names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
        ordered = {name: np.asarray(arrays[name], order="C") for name in names}
        text = _json(dict(metadata))
        safetensors.parse_json(text.encode())  # 1 and "1" as keys would be the same key in JSON
        header = _header(ordered, text)
    except (ValueError, TypeError, RecursionError, MalformedError) as error:
        raise DrafterFileError(f"{os.fspath(path)}: cannot be written: {error}; change what is stored") from error
    with atomic_write(path, "wb") as file:
        file.write(header)
        for array in ordered.values():
            file.write(_raw(array))


def read_file(path: str | os.PathLike[str], *, verify: bool = False) -> tuple[dict[str, Any], _Arrays]:
    """Map a drafter file.

    Args:
        verify: check the data of large files too, which reads them in full.

    Returns:
        The metadata and the arrays: read-only, shared with all processes that map the file.

    Raises:
        DrafterFileError: no drafter file, of another version, cut short or damaged.
        OSError: the file cannot be opened.
    """
    try:
        contents = safetensors.open_map(path)
        _check_format(contents)
        _check_header_crc(contents)
        metadata, crcs = (_object(contents.metadata, key) for key in ("metadata", "crc32"))
        arrays = _arrays(contents)
        if crcs.keys() != arrays.keys():
            raise MalformedError(f"checksums of {_short(sorted(crcs))}, arrays {_short(sorted(arrays))}")
        if verify or contents.data_bytes <= ALWAYS_VERIFIED_BYTES:
            _check_data_crcs(arrays, crcs)
    except MalformedError as error:
        raise DrafterFileError(f"{os.fspath(path)}: {error}; rebuild it with 'tasc draft build'") from error
    return metadata, arrays


def _check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        if not _NAME.fullmatch(name):
            raise MalformedError(f"array name {name!r}, expected {_NAME.pattern}")
        if array.dtype not in safetensors.NAMES:
            known = ", ".join(str(dtype) for dtype in safetensors.NAMES)
            raise MalformedError(f"array {name!r} is {array.dtype}, expected one of {known}")
        if array.ndim > safetensors.MAX_DIMENSIONS:
            raise MalformedError(f"array {name!r} has {array.ndim} dimensions, at most {safetensors.MAX_DIMENSIONS}")


def _header(arrays: _Arrays, metadata: str) -> bytes:
    crcs = {name: zlib.crc32(_raw(array)) for name, array in arrays.items()}
    fixed = {
        "format": FORMAT,
        "version": VERSION,
        "package": version("tasc-lm"),
        "metadata": metadata,
        "crc32": _json(crcs),
    }
    shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    header = safetensors.build_header(shapes, fixed | {"header_crc32": _ZEROS.decode()})
    return _with_crc(header, b"%08x" % zlib.crc32(header))


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _raw(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


_CRC = re.compile(rb'"header_crc32": "([0-9a-f]{8})"')


def _with_crc(header: bytes, digits: bytes) -> bytes:
    """The header with other digits in the place of its checksum; the caller knows that there is one such place."""
    start, stop = next(_CRC.finditer(header)).span(1)
    return header[:start] + digits + header[stop:]


def _check_format(contents: Contents) -> None:
    found = (contents.metadata.get("format"), contents.metadata.get("version"))
    if found[0] != FORMAT:
        raise MalformedError(f"not a drafter file: its format is {_short(found[0])}, expected {FORMAT!r}")
    if found[1] != VERSION:
        raise MalformedError(f"version {_short(found[1])} of the drafter file, expected {VERSION!r}")
    wrong = [key for key, value in contents.metadata.items() if not isinstance(value, str)]
    if wrong:
        raise MalformedError(f"{_short(wrong[0])} in its metadata is no string")


def _check_header_crc(contents: Contents) -> None:
    found = [match.group(1) for match in _CRC.finditer(contents.header)]
    if len(found) != 1:
        raise MalformedError(f"{len(found)} checksums in its header, expected 1")
    expected = b"%08x" % zlib.crc32(_with_crc(contents.header, _ZEROS))
    if found[0] != expected:
        raise MalformedError(f"the header's checksum is {expected.decode()}, it says {found[0].decode()}")


def _object(metadata: dict[str, Any], key: str) -> dict[str, Any]:
    text = metadata.get(key, "")
    try:
        found = safetensors.parse_json(text.encode())
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise MalformedError(f"{key!r} in its metadata is no JSON object: {_short(text)}")


def _arrays(contents: Contents) -> _Arrays:
    for name, entry in contents.check_layout().items():
        if (len(contents.header) + entry.start) % entry.dtype.itemsize:
            raise MalformedError(f"array {name!r} of {entry.dtype} begins at byte {entry.start}, which is not aligned")
    return {name: contents.array(name) for name in contents.entries}


def _check_data_crcs(arrays: _Arrays, crcs: dict[str, Any]) -> None:
    for name, array in arrays.items():
        found = zlib.crc32(_raw(array))
        if crcs.get(name) != found:
            raise MalformedError(f"the checksum of array {name!r} is {found}, the header says {_short(crcs.get(name))}")


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
