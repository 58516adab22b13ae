"""Kernels compiled by numba and kept on disk: also where the package is read-only, and never out of date.

With `cache=True` numba keeps machine code in the first of these folders that it can write to (the same order in numba
0.65 to 0.68): `NUMBA_CACHE_DIR`, the `__pycache__` beside the source file, the user's cache folder (`$XDG_CACHE_HOME/numba`
or `~/.cache/numba`). So a read-only site-packages needs nothing from us. Three things do:

- Where no folder is writable (a container under an unknown user id, say) numba refuses the kernel and `import` would fail.
  Here it is compiled anew in each process instead.
- numba writes its index before the code that the index names. A process that starts beside another then reads what an
  older numba, or an older version of the kernels, left under that name. Here the names tell them apart.
- numba renews a kernel when its own file changes: not when a kernel in another file that it calls does, and in numba 0.65
  not when time and size of the file stay the same, which wheels make likely (all their files carry one date). Here the
  contents of the private modules (`_*.py`) beside the kernel decide, so a kernel calls only kernels in those.
"""

import hashlib
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

import numba

F = TypeVar("F", bound=Callable[..., Any])


@overload
def njit(function: F, **options: Any) -> F: ...
@overload
def njit(function: None = None, **options: Any) -> Callable[[F], F]: ...
def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`numba.njit` with a cache that is on unless `cache=False` and that behaves as said above.

    Args:
        function: The kernel, when used as a bare decorator.
        **options: Options of `numba.njit`.
    """
    if function is None:
        return lambda decorated: njit(decorated, **options)
    if options.setdefault("cache", True):
        try:
            kernel = numba.njit(**options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        else:
            if kernel is function or _stamp(kernel, function):  # NUMBA_DISABLE_JIT=1 gives the function back
                return kernel
        options["cache"] = False
    return numba.njit(**options)(function)


def inner(function: F) -> F:
    """A kernel that other kernels call and that allocates nothing: compiled into each of them, without reference counts.

    numba counts the references to every array that is handed over or sliced, by atomic instructions: two fifths of the time
    of a draft (dev/LOG.md, 2026-11-27). `_nrt=False` is what numba itself marks such functions with.
    """
    return njit(function, forceinline=True, _nrt=False)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends, in Python's main thread.

    A kernel that ends while a KeyboardInterrupt is on its way raises SystemError, or crashes where it returns a named tuple:
    numba makes that by a call of Python. For kernels that run for long; setting the signal takes microseconds.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():  # None: another program's handler
        yield
        return
    pending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending:
            signal.raise_signal(signal.SIGINT)


def _stamp(kernel: Any, function: Callable[..., Any]) -> bool:
    """Makes the cached code depend on the folder's kernels; False where this numba offers no way to."""
    cache_file: Any = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if not all(hasattr(cache_file, name) for name in ("_source_stamp", "_data_name_pattern")):
        return False
    digest = _digest(Path(inspect.getfile(function)))
    cache_file._source_stamp = (cache_file._source_stamp, digest)
    made_by = f".{numba.__version__}-{digest[:12]}" + ".{number"
    cache_file._data_name_pattern = cache_file._data_name_pattern.replace(".{number", made_by)
    return True


@cache
def _digest(source: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({source, *source.parent.glob("_*.py")}):
        digest.update(path.read_bytes())
    return digest.hexdigest()
