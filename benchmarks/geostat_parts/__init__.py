"""What is promised of `timo.geostat`, measured; `benchmarks/geostat.py` runs it all and prints the table."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of the table: what is promised, the figure that was reached, and whether it keeps the promise.

    `met` is None where nothing was promised and the figure is reported either way.
    """

    section: str
    must: str
    reached: str
    met: bool | None

    def __post_init__(self) -> None:
        # A bool of NumPy would be neither True nor False to `is`.
        object.__setattr__(self, "met", None if self.met is None else bool(self.met))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result of a call, and the seconds that it took."""
    start = perf_counter()
    result = work()
    return result, perf_counter() - start
