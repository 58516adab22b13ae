"""Kernels compiled by numba and kept on disk, also where the package cannot be written to.

With `cache=True` numba keeps machine code in the first of these folders that it can write to (the same order in numba
0.65 to 0.68): `NUMBA_CACHE_DIR`, the `__pycache__` beside the source file, the user's cache folder (`$XDG_CACHE_HOME/numba`
or `~/.cache/numba`). So a read-only site-packages needs nothing from us. Where none of the three is writable (a container
under an unknown user id, say) numba refuses to compile at all and `import` would fail; here the kernel is then compiled
anew in each process.

numba renews a cached kernel when the kernel's own file changes, not when a file it calls into does: a kernel calls only
kernels of its own file.
"""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import numba

F = TypeVar("F", bound=Callable[..., Any])


@overload
def njit(function: F, **options: Any) -> F: ...
@overload
def njit(function: None = None, **options: Any) -> Callable[[F], F]: ...
def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`numba.njit` with `cache=True`, which falls back to no cache where no cache folder can be written to.

    Args:
        function: The kernel, when used as a bare decorator.
        **options: Options of `numba.njit`; `cache` is on unless given.
    """
    if function is None:
        return lambda decorated: njit(decorated, **options)
    options.setdefault("cache", True)
    try:
        return numba.njit(**options)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        options["cache"] = False
        return numba.njit(**options)(function)
