"""The store that the expression under evaluation reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from timo.testing.earthengine.backing import Backing

_BACKING: ContextVar[Backing] = ContextVar("backing")


def backing() -> Backing:
    """The store of the request."""
    return _BACKING.get()


@contextmanager
def reading(store: Backing) -> Iterator[None]:
    """Within it, expressions read this store."""
    token = _BACKING.set(store)
    try:
        yield
    finally:
        _BACKING.reset(token)
