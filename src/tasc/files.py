"""Whole files, written atomically: what stands at a path is either the old file or the complete new one. And locks."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tasc.errors import DataError


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file in the folder of `path`; it takes the place of `path` when the block ends well.

    The file can be sought and rewritten inside the block. It is flushed to disk before the replacement, and removed
    when the block raises, so `path` keeps its old content then.

    Args:
        path: the file to write. Missing parent folders are made.
        mode: `"w"` (UTF-8, newlines untouched) or `"wb"`.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is unchanged.
    """
    assert mode in ("w", "wb"), mode
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    encoding, newline = (None, None) if mode == "wb" else ("utf-8", "")
    try:
        with open(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions(target))
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically. NaN and infinity are refused: they are not JSON."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON document.

    Raises:
        DataError: the file is not UTF-8 or not JSON; the message names the file, and the line where it breaks.
        OSError: the file cannot be opened.
    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; write the file again") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({error}); write the file again") from error


def lock(descriptor: int, *, wait: bool = True) -> bool | None:
    """Lock an open file or folder against other processes, until its last descriptor is closed, also by a kill.

    Args:
        descriptor: of the file; what holds it open keeps the lock.
        wait: for another process to let go of it.

    Returns:
        False if another process has it; None where the system or the file system has no locks.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _permissions(target: Path) -> int:
    """The mode an ordinary `open` would have left: that of the old file, else 0666 less the umask."""
    with suppress(OSError):
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
