"""File formats: a path or Hub name in, a stream of records out, each with the place it came from."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tasc.errors import DataError, OptionError, first_line

MAX_LINE_BYTES = 10_000_000
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.+-]+)?")
_ALIASES = {"validation": ("validation", "valid", "val", "dev"), "train": ("train", "training")}


class Record(NamedTuple):
    """One record and where it stands, such as `rows.jsonl:12`."""

    place: str
    value: dict[str, Any]


class BadRecord(NamedTuple):
    """A record that could not be read, and why; the ones after it can."""

    place: str
    reason: str


Records = Iterator[Record | BadRecord]


def open_records(name: str, split: str | None) -> tuple[str, Records]:
    """The source as shown in messages, and its records.

    Raises:
        DataError: no such file, unknown format, or the file as a whole is damaged (raised while reading, too).
        OptionError: a split asked of a single file.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        files = _split_files(path, split or "train")
        return ", ".join(map(str, files)), (record for file in files for record in _read(file))
    if path.exists():
        if split is not None:
            raise OptionError(f"{path} is a single file and has no split {split!r}; leave --split out")
        return str(path), _read(path)
    if _HUB_NAME.fullmatch(name) and _reader(path) is None:
        return f"{name} ({split or 'train'})", read_hub(name, split or "train")
    raise DataError(f"{path}: no such file or folder; check the path")


def read_jsonl(path: Path) -> Records:
    """Objects, one a line; blank lines are passed over."""
    with closing(_open(path)) as file:
        for number, line in enumerate(_lines(file), 1):
            place = f"{path}:{number}"
            if len(line) > MAX_LINE_BYTES:
                yield BadRecord(place, f"line above {MAX_LINE_BYTES // 1_000_000} MB")
            elif line.strip():
                yield _parse(place, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def read_json(path: Path) -> Records:
    """Objects of one array, as many data sets have them; or one a line."""
    with closing(_open(path)) as file:
        if not _begins_array(file):
            yield from read_jsonl(path)
            return
        text = file.read()
    try:
        values = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1}); write it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: broken JSON array ({error.msg}, character {error.colno}); write it again, or one object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON array ({error}); write one object a line") from error
    for number, value in enumerate(values, 1):
        yield _record(f"{path}: row {number}", value)


def _begins_array(file: "gzip.GzipFile | io.BufferedReader") -> bool:
    """Whether the first character is a bracket; the file stands at its beginning afterwards."""
    begin = b""
    while not begin and (line := file.readline(64)):
        begin = line.removeprefix(b"\xef\xbb\xbf").strip()
    file.seek(0)
    return begin.startswith(b"[")


def read_csv(path: Path) -> Records:
    """Rows under a header line, quoted as RFC 4180 says."""
    with (
        closing(_open(path)) as file,
        io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        reader = csv.DictReader(text, strict=True)
        _check_header(path, reader.fieldnames or ())
        # the limit belongs to the module, not to the reader, so it is put back
        old_limit = csv.field_size_limit(MAX_LINE_BYTES)
        try:
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield BadRecord(f"{path}:{reader.reader.line_num}", f"broken CSV ({error})")
                    continue
                if None in row:
                    yield BadRecord(f"{path}:{reader.line_num}", "more cells than the header has columns")
                    continue
                # a short row has None where cells are missing
                yield Record(f"{path}:{reader.line_num}", {k: v for k, v in row.items() if v is not None})
        finally:
            csv.field_size_limit(old_limit)


def _check_header(path: Path, names: Sequence[str]) -> None:
    """Refuse cells that are parted by something else than commas, which would be one column."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise DataError(
                f"{path}:1: its columns are parted by {name} ({names[0]!r}), expected commas; write it again"
            )


def read_parquet(path: Path) -> Records:
    """Rows of a Parquet file, a row group's batch at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}: row {number}", value)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged Parquet file ({error}); write it again") from error


def read_hub(name: str, split: str) -> Records:
    """Rows of a data set on the Hub (or of a local folder), through `datasets`. Its code is never run."""
    import datasets

    repository, _, config = name.partition(":")
    try:
        rows = datasets.load_dataset(repository, config or None, split=split)
    except Exception as error:  # datasets, huggingface_hub, httpx and fsspec each raise their own kinds
        raise DataError(
            f"{name}: no such file, and split {split!r} could not be loaded from the Hub ({first_line(error)}); check the name"
        ) from error
    for number, value in enumerate(rows, 1):
        yield Record(f"{name} ({split}): row {number}", dict(value))


_READERS: dict[str, Callable[[Path], Records]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
_ENDINGS = tuple(ending + gz for ending in _READERS for gz in ("", ".gz") if not (ending == ".parquet" and gz))


def _reader(path: Path) -> Callable[[Path], Records] | None:
    name = path.name.lower()
    if not name.endswith(_ENDINGS):
        return None
    return _READERS[Path(name.removesuffix(".gz")).suffix]


def _read(path: Path) -> Records:
    reader = _reader(path)
    if reader is None:
        raise DataError(f"{path}: unknown format; expected one of {', '.join(_ENDINGS)}")
    try:
        yield from reader(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); compress it again") from error


def _open(path: Path) -> "gzip.GzipFile | io.BufferedReader":
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")


def _lines(file: "gzip.GzipFile | io.BufferedReader") -> Iterator[bytes]:
    """Lines; of one above the limit only the beginning, so that memory stays bounded."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        yield line


def _parse(place: str, line: bytes) -> Record | BadRecord:
    try:
        # without its end, which would be named as the error where a line is cut
        value = json.loads(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRecord(place, f"not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1})")
    except json.JSONDecodeError as error:
        return BadRecord(place, f"broken JSON ({error.msg}, character {error.pos + 1})")
    except (ValueError, RecursionError) as error:
        return BadRecord(place, f"broken JSON ({error})")
    return _record(place, value)


def _record(place: str, value: Any) -> Record | BadRecord:
    if not isinstance(value, dict):
        return BadRecord(place, f"expected a JSON object, found {type(value).__name__}")
    return Record(place, value)


def _split_files(folder: Path, split: str) -> list[Path]:
    """The file or shards of a split: `train.jsonl.gz`, `train-00000-of-00002.parquet`, in the folder or `data/`."""
    for place, found in split_places(folder, split):
        kinds = {match[3] + ("" if match[2] else file.name) for file, match in found.items()}
        if len(kinds) > 1:
            raise DataError(
                f"{place}: several files for split {split!r} ({', '.join(p.name for p in found)}); name one"
            )
        if found:
            _check_shards(place, split, [match[2] for match in found.values() if match[2]])
            return list(found)
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
    raise DataError(f"{folder}: no file for split {split!r}; expected {split}.jsonl or the like, found: {there}")


def _check_shards(place: Path, split: str, numbers: list[str]) -> None:
    """Refuse a split of which a shard is missing, or that has shards of another one among its own: `-00000-of-00002`."""
    there = [tuple(map(int, number[1:].split("-of-"))) for number in numbers]
    if there and sorted(there) != [(k, there[0][1]) for k in range(there[0][1])]:
        raise DataError(
            f"{place}: {len(there)} files of {there[0][1]} for split {split!r}, the first {split}{numbers[0]}; a shard is missing or of "
            "another set"
        )


def split_places(folder: Path, split: str) -> Iterator[tuple[Path, dict[Path, re.Match[str]]]]:
    """Where a split's files may stand, and those there: the split's name, the number of a shard, the ending."""
    names = next((names for names in _ALIASES.values() if split in names), (split,))
    stems = "|".join(map(re.escape, names))
    endings = "|".join(map(re.escape, _ENDINGS))
    wanted = re.compile(rf"({stems})(-\d+-of-\d+)?({endings})", re.IGNORECASE)
    for place in (folder, folder / "data"):
        files = sorted(place.iterdir()) if place.is_dir() else []
        yield place, {file: match for file in files if (match := wanted.fullmatch(file.name))}
