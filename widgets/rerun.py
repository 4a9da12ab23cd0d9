"""A cell that is run again: what it showed before is closed, so that nothing piles up in the kernel."""

from __future__ import annotations

import weakref
from typing import Any

# What each cell shows, with the run of the cell that made it. Weak: it keeps nothing alive.
_shown: weakref.WeakKeyDictionary[Any, tuple[str, str]] = weakref.WeakKeyDictionary()


def replace_earlier(shown: Any) -> None:
    """Close what earlier runs of the current cell registered here, and register this.

    Two things that one run of a cell shows live side by side. Outside of a notebook, and in one whose front end does
    not tell cells apart, nothing is done.

    Parameters
    ----------
    shown : object
        Something with a ``close`` method.
    """
    place = _cell_and_run()
    if place is None:
        return
    cell, run = place
    for other, (its_cell, its_run) in list(_shown.items()):
        if its_cell == cell and its_run != run:
            other.close()
            _shown.pop(other, None)
    _shown[shown] = place


def _cell_and_run() -> tuple[str, str] | None:
    from IPython import get_ipython

    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    if not parent:
        return None
    cell = parent.get("metadata", {}).get("cellId")
    return (cell, parent["header"]["msg_id"]) if cell else None
