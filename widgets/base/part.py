"""A part of the workbench: it follows a state, shows what goes wrong, and leaves nothing behind when it is closed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets
import xarray as xr

from timo.errors import TimoError

from .state import State
from .style import Message, close_tree


class Part(ipywidgets.VBox):
    """A widget that shows a part of a state, and has a message that says what goes on and what went wrong.

    A state of its own is made where none is given; a cube that is given is put into it.
    """

    # Of what was refused there is nothing to close.
    _closed = True

    def __init__(self, state: State | None = None, cube: xr.DataArray | None = None) -> None:
        # First: a cube that is refused leaves no widget behind.
        state = State() if state is None else state
        if cube is not None:
            state.cube = cube
        super().__init__()
        self.add_class("timo")
        self.state = state
        self.message = Message()
        self._followed: list[tuple[Any, Callable[[Any], Any], tuple[str, ...]]] = []
        self._closed = False

    def follow(self, source: Any, react: Callable[[Any], Any], *names: str) -> None:
        """Call back when traits change, until this is closed."""
        self._followed.append((source, react, names))
        source.observe(react, names=list(names))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Follow nothing for a while: controls that are filled must not act."""
        for source, react, names in self._followed:
            source.unobserve(react, names=list(names))
        try:
            yield
        finally:
            for source, react, names in self._followed:
                source.observe(react, names=list(names))

    def attempt(self, action: Callable[[], Any]) -> bool:
        """Do something, and show what is wrong with it; return whether it was done."""
        try:
            action()
        except TimoError as error:
            self.message.error(error)
            return False
        except Exception as error:  # noqa: BLE001 - shown in the panel; in a callback it would be seen nowhere
            self.message.failure(error)
            return False
        return True

    def close(self) -> None:
        """Stop the threads, follow nothing any more, and close all widgets."""
        # ipywidgets calls it once more when the object is thrown away.
        if self._closed:
            return
        self._closed = True
        for source, react, names in self._followed:
            source.unobserve(react, names=list(names))
        self._stop()
        # Those that are not shown at the moment are no children.
        for part in (*self.children, *vars(self).values(), self.layout):
            if isinstance(part, ipywidgets.Widget):
                close_tree(part)
        super().close()

    def _stop(self) -> None:
        """Stop threads, and give back all but the widgets."""


# Cell -> its latest run, and what that made.
_made: dict[str, tuple[str, list[weakref.ref[Any]]]] = {}


def replace_earlier(widget: Any) -> None:
    """Close the widgets that an earlier run of the same cell made.

    Their output is gone from the page, but ipywidgets keeps every widget until the kernel ends, and with it the cube
    that it shows. Several widgets that one run makes stay all. Outside a notebook, or where the notebook's page does
    not say which cell runs, nothing is closed.
    """
    cell, run = _running_cell()
    if not cell:
        return
    earlier_run, earlier = _made.get(cell, ("", []))
    if earlier_run != run:
        for reference in earlier:
            old = reference()
            if old is not None:
                old.close()
        earlier = []
    _made[cell] = (run, [*earlier, weakref.ref(widget)])


def _running_cell() -> tuple[str, str]:
    """Return the cell that runs now, and which run of it this is."""
    # Outside a notebook IPython may not be imported, and need not be.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel: Any = getattr(shell, "kernel", None)
    message: dict[str, Any] = {}
    if hasattr(kernel, "get_parent"):
        message = kernel.get_parent("shell") or {}
    if message.get("header", {}).get("msg_type") != "execute_request":
        return "", ""
    return str(message.get("metadata", {}).get("cellId", "")), str(message["header"]["msg_id"])
