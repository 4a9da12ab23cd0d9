"""How far a fetch is: told to a bar, or to a function of the caller's."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from timo.errors import TimoError

Report = Callable[[int, int], Any]


class Progress:
    """Counts chunks for many threads at once, and tells one listener, one call at a time.

    Parameters
    ----------
    listener : bool or callable
        True: a bar. A callable: called with the chunks done and with all of them, first with 0 done. When it raises
        something it is not called again: `close` warns of it.

    Attributes
    ----------
    done, total : int
        Chunks.

    Raises
    ------
    TimoError
        If the listener is none of these.
    """

    def __init__(self, listener: bool | Report) -> None:
        if not isinstance(listener, bool | np.bool_) and not callable(listener):
            raise TimoError(
                "progress is True, False, or a function that takes the chunks done and all of them; got "
                f"{listener!r}"
            )
        self.done, self.total = 0, 0
        self._report: Report | None = listener if callable(listener) else None
        self._bar: Any = None
        self._shown = not callable(listener) and bool(listener)
        self._error: Exception | None = None
        # Held while the listener is told, so that what it hears only grows.
        self._lock = threading.RLock()

    def begin(self, total: int) -> None:
        """Say how many chunks there are."""
        with self._lock:
            self.total = total
            if self._shown:
                self._bar = tqdm(total=total, unit="chunk", desc="fetching")
            self._tell()

    def step(self) -> None:
        """Count one more chunk."""
        with self._lock:
            self.done += 1
            # More than was counted, where Dask computes a chunk twice.
            self.total = max(self.total, self.done)
            if self._bar is not None:
                self._bar.update()
            self._tell()

    def _tell(self) -> None:
        if self._report is None:
            return
        try:
            self._report(self.done, self.total)
        except Exception as error:  # noqa: BLE001 - a warning at the end: what is fetched counts more than who watches
            self._report, self._error = None, error

    def close(self) -> None:
        """Leave the terminal as it should be, and warn the caller of `fetch` if the listener failed."""
        if self._bar is not None:
            self._bar.close()
        if self._error is not None:
            warnings.warn(
                f"progress= raised {type(self._error).__name__}: {self._error}. The fetch went on without it.",
                stacklevel=3,
            )
