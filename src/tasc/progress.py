"""How long work reports how far it is, without knowing who shows it.

A `Progress` is a function `progress(description, total=..., unit=...)` that returns a context manager; it yields a function
to call with the number of units done since its last call. The command line passes its bars, a library user nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Progress = Callable[..., AbstractContextManager[Callable[[int], None]]]


@contextmanager
def silent(_description: str, **_options: Any) -> Iterator[Callable[[int], None]]:
    """The `Progress` that shows nothing."""
    yield lambda _n: None
