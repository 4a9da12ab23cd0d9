"""What a run says while it goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import datetime as dt
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from tqdm.auto import tqdm

from timo.sizes import size_text
from timo.sources.millionst.quota import Tally


@dataclass
class Progress:
    """Reports to people.

    Parameters
    ----------
    places : int
        How many there are to be.
    tally : Tally
        What was fetched.
    every_s : float
        Seconds from one line to the next, where there is no terminal.
    out : text stream
        Where to.
    """

    places: int
    tally: Tally
    every_s: float = 5.0
    out: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        self.began = self.said = time.monotonic()
        self.first: int | None = None
        self.bar: tqdm | None = None

    def update(self, done: int, replaced: int) -> None:
        """Say how far it is, if it is time."""
        if self.first is None:
            self.first = done
            if self.out.isatty():
                self.bar = tqdm(
                    total=self.places, initial=done, unit="place", smoothing=0, file=self.out
                )
        if self.bar is not None:
            self.bar.set_postfix_str(self._details(replaced), refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.said >= self.every_s:
            self.said = time.monotonic()
            self.out.write(f"{self.line(done, replaced)}\n")
            self.out.flush()

    def line(self, done: int, replaced: int) -> str:
        """How far it is, how fast, and how long it will take."""
        first = done if self.first is None else self.first
        rate = (done - first) / max(time.monotonic() - self.began, 1e-9)
        left = dt.timedelta(seconds=round((self.places - done) / rate)) if rate else "unknown"
        return f"{done:,} of {self.places:,} places, {rate:.3g} a second, {left} to go; {self._details(replaced)}"

    def summary(self) -> str:
        """What was fetched, at the end."""
        took = dt.timedelta(seconds=round(time.monotonic() - self.began))
        return f"{self._fetched()} in {took}"

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.bar is not None:
            self.bar.close()

    def _details(self, replaced: int) -> str:
        return f"{self._fetched()}, {replaced} places replaced"

    def _fetched(self) -> str:
        again = ", ".join(f"{number} {kind}" for kind, number in sorted(self.tally.again.items()))
        tried = f"{self.tally.again.total()} tried again ({again})" if again else "none tried again"
        return f"{self.tally.requests:,} requests, {tried}, {size_text(self.tally.bytes)}"
