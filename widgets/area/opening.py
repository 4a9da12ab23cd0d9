"""Opening a cube from the panel: what is said while it lasts, how far it is, Stop, and what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import xarray as xr

from timo.cancel import CancelledError
from timo.errors import TimoError
from timo.sizes import size_text

from .panel import Controls
from .work import LARGEST_BYTES, Opening, is_lazy

# What was opened: source, options, cube, and whether its pixels were fetched.
Opened = Callable[[str, dict[str, Any], xr.DataArray, bool], Any]


class Opener:
    """Open one cube at a time in a thread, and tell in the panel how it goes.

    Parameters
    ----------
    turn : threading.Lock
        Held while a service is asked.
    controls : Controls
        The button that opens, the one that cancels, the bar and the message.
    opened : callable
        Called with the source, the options, the cube, and whether its pixels were fetched.
    """

    def __init__(self, turn: threading.Lock, controls: Controls, opened: Opened) -> None:
        self._controls, self._opened = controls, opened
        self.work = Opening(turn, self._done, self._failed, self._fetching, controls.bar.show)

    def run(self, source: str, options: dict[str, Any]) -> None:
        """Begin.

        Raises
        ------
        TimoError
            If a cube is being opened already.
        """
        if self.work.busy:
            raise TimoError("A cube is being opened. Wait for it, or press Cancel")
        self._asked = source, options
        self._busy(True)
        self._controls.message.busy("Opening ...")
        self.work.run(source, options, pixels=self._controls.fetch.value)

    def cancel(self) -> None:
        """Stop opening or fetching; chunks that came are kept in the cache."""
        if self.work.busy:
            self._controls.message.busy("Stopping: requests under way are waited for ...")
            self.work.cancel()

    def drop(self) -> None:
        """Stop, and hear nothing more of it."""
        self.work.drop()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end."""
        self.work.wait(seconds)

    def _fetching(self, cube: xr.DataArray) -> None:
        sizes = " x ".join(f"{cube.sizes[dim]:,}" for dim in cube.dims)
        self._controls.message.busy(f"Fetching {sizes} values, {size_text(cube.nbytes)} ...")

    def _done(self, cube: xr.DataArray, fetched: bool) -> None:
        self._busy(False)
        self._controls.message.info(told(cube))
        self._opened(*self._asked, cube, fetched)

    def _failed(self, error: Exception) -> None:
        self._busy(False)
        message = self._controls.message
        if isinstance(error, CancelledError):
            message.info(str(error))
        elif isinstance(error, TimoError):
            message.error(error)
        else:
            message.error(f"{type(error).__name__}: {error}", "Please report this.")

    def _busy(self, busy: bool) -> None:
        c = self._controls
        c.open.disabled, c.cancel.disabled = busy, not busy
        c.bar.hide()


def told(cube: xr.DataArray) -> str:
    """What is said of a cube that was opened."""
    first, last = (str(cube.time.values[i])[:10] for i in (0, -1))
    text = (
        f"The cube is open: {cube.sizes['time']} dates, {first} to {last}; {cube.sizes['band']} bands, "
        f"{cube.sizes['y']:,} x {cube.sizes['x']:,} pixels."
    )
    if is_lazy(cube):
        large = cube.nbytes > LARGEST_BYTES
        text += " Its pixels are fetched when they are used" + (
            f", because {size_text(cube.nbytes)} are too much for memory." if large else "."
        )
    return text
