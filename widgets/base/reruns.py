"""A cell that is run again replaces the widgets that it made before."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol


class Closable(Protocol):
    """Anything with a ``close()``."""

    def close(self) -> None:
        """Give everything back."""


# Cell -> its latest run, and what that made.
_made: dict[str, tuple[str, list[weakref.ref[Any]]]] = {}


def replace_earlier(widget: Closable) -> None:
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
    """The cell that runs now, and which run of it this is."""
    # Without a notebook nobody has imported IPython, and it need not be.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel: Any = getattr(shell, "kernel", None)
    message: dict[str, Any] = {}
    if hasattr(kernel, "get_parent"):
        message = kernel.get_parent("shell") or {}
    if message.get("header", {}).get("msg_type") != "execute_request":
        return "", ""
    return str(message.get("metadata", {}).get("cellId", "")), str(message["header"]["msg_id"])
