"""What the area picker does beside the notebook: estimating, opening and fetching, each stopped at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from timo import fetch, open_cube
from timo.cancel import CancelledError, Stop, nap, obey, set_current_stop
from timo.compute import StepReport
from timo.errors import TimoError
from timo.sizes import size_text

from ..base.background import Background, Task, is_lazy
from .panel import Controls

# What is larger stays lazy, and is fetched chunk by chunk where it is used.
LARGEST_BYTES = 4_000_000_000
# Seconds of quiet before anything is asked of a service, and between two looks whether it is free.
_DELAY_S, _PIECE_S = 0.6, 0.05
# What was opened: source, options, cube, and whether its pixels were fetched.
Opened = Callable[[str, dict[str, Any], xr.DataArray, bool], Any]


class Estimates:
    """The newest estimate that was asked for, after nothing else was asked for a while.

    `turn` is held while a service is asked; then `done` is called with the text, or `failed` with the exception.
    """

    def __init__(
        self,
        turn: threading.Lock,
        done: Callable[[str], Any],
        failed: Callable[[Exception], Any],
    ) -> None:
        self._turn, self._done, self._background = turn, done, Background(failed)
        self.drop, self.wait = self._background.drop, self._background.wait

    def ask(self, source: str, options: dict[str, Any]) -> None:
        """Ask for the estimate of a source with these options, and forget what was asked before."""

        def work(task: Task) -> str:
            nap(_DELAY_S, task.stop)
            while not self._turn.acquire(timeout=_PIECE_S):
                obey(task.stop)
            try:
                obey(task.stop)
                return estimate_text(source, options, task.stop)
            finally:
                self._turn.release()

        self._background.run(work, self._done)


def estimate_text(source: str, options: dict[str, Any], stop: Stop) -> str:
    """Say what fetching takes, with the numbers of `timo.sources.earthengine.estimate`."""
    set_current_stop(stop)
    try:
        from timo.sources.earthengine import estimate
    except ImportError as error:
        raise TimoError(
            'An estimate needs earthengine-api and xee: pip install "timo[earthengine]"'
        ) from error
    if source == "emulator":
        from timo.sources.emulated import emulator

        options = {**options, "url": emulator().url}
    return f"To fetch: {estimate(**{k: v for k, v in options.items() if k != 'cache'})}."


class Opener:
    """Open one cube at a time in a thread, say in the panel how it goes, and call `opened`.

    `turn` is held while the cube is opened, and not while it is fetched.
    """

    def __init__(self, turn: threading.Lock, controls: Controls, opened: Opened) -> None:
        self._turn, self._controls, self._opened = turn, controls, opened
        self._background = Background(self._failed, self._progressed)
        self.drop, self.wait = self._background.drop, self._background.wait
        self._fetching = ""

    def run(self, source: str, options: dict[str, Any]) -> None:
        """Begin; a `TimoError` if a cube is being opened already."""
        if self._background.busy:
            raise TimoError("A cube is being opened. Wait for it, or press Cancel")
        self._busy(True)
        self._fetching = ""
        self._controls.message.busy("Opening ...")
        work = partial(self._open, source, options, self._controls.fetch.value)
        self._background.run(work, lambda found: self._done(source, options, *found))

    def _open(
        self, source: str, options: dict[str, Any], pixels: bool, task: Task
    ) -> tuple[xr.DataArray, bool]:
        set_current_stop(task.stop)
        with self._turn:
            cube = open_cube(source, **options)
        obey(task.stop, "Opening was stopped.")
        wanted = pixels and is_lazy(cube) and cube.nbytes <= LARGEST_BYTES
        if wanted:
            sizes = " x ".join(f"{cube.sizes[dim]:,}" for dim in cube.dims)
            self._fetching = f"Fetching {sizes} values, {size_text(cube.nbytes)} ..."
            cube = fetch(cube, progress=False, on_step=task.report, stop=task.stop)
        return cube, wanted

    def cancel(self) -> None:
        """Stop opening or fetching; chunks that came are kept in the cache."""
        if self._background.busy:
            self._controls.message.busy("Stopping: requests under way are waited for ...")
            self._background.cancel()

    def _progressed(self, report: StepReport) -> None:
        # Once: what is said when it is stopped stays.
        if self._fetching:
            self._controls.message.busy(self._fetching)
            self._fetching = ""
        self._controls.bar.show(report)

    def _done(
        self, source: str, options: dict[str, Any], cube: xr.DataArray, fetched: bool
    ) -> None:
        self._busy(False)
        self._controls.message.info(opened_text(cube))
        self._opened(source, options, cube, fetched)

    def _failed(self, error: Exception) -> None:
        self._busy(False)
        message = self._controls.message
        if isinstance(error, CancelledError):
            message.info(str(error))
        else:
            message.failure(error)

    def _busy(self, busy: bool) -> None:
        c = self._controls
        c.open.disabled, c.cancel.disabled = busy, not busy
        c.bar.hide()


def opened_text(cube: xr.DataArray) -> str:
    """Describe a cube that was opened."""
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
