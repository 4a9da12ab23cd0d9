"""Bins of the distance between two places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np

from timo.checks import Range
from timo.errors import TimoError, warn

BinsOption = Literal["auto"] | Annotated[int, Range(1, 100_000)] | Sequence[float]
BINS = 20
# Fewer pairs than this are uncertain (Journel and Huijbregts 1978, Mining Geostatistics, p. 194).
ENOUGH_PAIRS = 30
# Few places have fewer pairs: they are shared among about six bins, of no less than 5.
_FEW_BINS, _LEAST_PAIRS = 6, 5
# Distances between the cells of a raster often fall on the edge of a bin; rounding must not decide.
_SLACK = 1e-9


@dataclass(frozen=True)
class Bins:
    """Bins (left, right] of a distance in metres, by their edges (n + 1,); pairs at distance 0 belong to none.

    With `pool`, bins of too few pairs may be joined with their neighbours.
    """

    edges: np.ndarray
    pool: bool = False

    def __post_init__(self) -> None:
        steps = np.diff(self.edges)
        if steps.size < 1 or not np.isfinite(self.edges).all():
            raise TimoError("The edges of the bins must be finite numbers, at least two.")
        if not (steps > 0).all() or self.edges[0] < 0:
            raise TimoError("The edges of the bins must ascend, from 0 or more.")

    def __len__(self) -> int:
        return self.edges.size - 1

    @property
    def max_lag(self) -> float:
        """Farthest distance that is in a bin."""
        return float(self.edges[-1])

    @cached_property
    def steps(self) -> np.ndarray | None:
        """Return the edges counted in one fine even step, if they are multiples of it."""
        for parts in (len(self), len(self) ** 2):
            count = self.edges / self.max_lag * parts
            if np.abs(count - np.rint(count)).max() < 1e-9 * parts:
                return np.rint(count).astype("intp")
        return None

    def fine_index(self, distance: np.ndarray) -> np.ndarray:
        """Return the number of the fine step of each distance, from 1; the first and the last are outside.

        Counting in even steps costs one multiplication a pair, where finding an edge costs a search.
        """
        if self.steps is None:
            return np.searchsorted(self.edges * (1 + _SLACK), distance, side="left")
        last = int(self.steps[-1])
        step = distance.dtype.type(last / self.max_lag * (1 - _SLACK))
        fine = distance * step
        np.ceil(fine, out=fine)
        return np.minimum(fine, last + 1, out=fine).astype("intp")

    @property
    def fine(self) -> int:
        """Number of fine steps, the two outside included."""
        return len(self) + 2 if self.steps is None else int(self.steps[-1]) + 2

    def coarse(self, sums: np.ndarray) -> np.ndarray:
        """Return the sums of the bins, (..., n), from those of the fine steps."""
        if self.steps is None:
            return sums[..., 1:-1]
        return np.add.reduceat(sums[..., 1:-1], self.steps[:-1], axis=-1)


def make_bins(bins: BinsOption, max_lag: float) -> Bins:
    """Return the bins that the caller asks for (see `timo.geostat.variogram`)."""
    if bins == "auto":
        return Bins(max_lag * (np.arange(BINS + 1) / BINS) ** 2, pool=True)
    if isinstance(bins, int):
        return Bins(np.linspace(0, max_lag, bins + 1))
    return Bins(np.asarray(bins, dtype="float64"))


def joined(edges: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join bins with too few pairs with the next ones (the last with the one before).

    Of edges (n + 1,) and sums (k, ..., n), whose first row counts the pairs; with a warning if there are so few pairs
    in all that bins must do with less than 30.
    """
    counts = sums[0].reshape(-1, sums.shape[-1]).sum(axis=0)
    total = float(counts.sum())
    enough = min(ENOUGH_PAIRS, max(_LEAST_PAIRS, total // _FEW_BINS))
    if enough < ENOUGH_PAIRS:
        warn(
            f"There are few pairs, {total:g} in all: the bins hold less than {ENOUGH_PAIRS} each, and the nugget "
            "and the range of a model are uncertain. Take more values, or give a model.",
            RuntimeWarning,
        )
    starts, pairs = [0], 0.0
    for number, count in enumerate(counts):
        if pairs >= enough:
            starts.append(number)
            pairs = 0.0
        pairs += count
    if pairs < enough and len(starts) > 1:
        starts.pop()
    return np.append(edges[starts], edges[-1]), np.add.reduceat(sums, starts, axis=-1)


def tabulated(
    sums: np.ndarray, bins: Bins, *, units: str = "m", long_name: str = "distance"
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return coordinates over "lag", pairs and means of sums (3, ..., bins): pairs, distances, amounts.

    The lags are mean distances over all series together; a bin without pairs stands at its middle.
    """
    if not sums[0].any():
        raise TimoError(f"No two values lie within max_lag = {bins.max_lag:g}. Take a larger one.")
    edges, sums = joined(bins.edges, sums) if bins.pool else (bins.edges, sums)
    count, total, _ = sums.reshape(3, -1, sums.shape[-1]).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = np.where(count > 0, total / count, (edges[1:] + edges[:-1]) / 2)
        mean = np.where(sums[0] > 0, sums[2] / sums[0], np.nan)
    coords = {
        "lag": ("lag", lag, {"long_name": long_name, "units": units}),
        "lag_left": ("lag", edges[:-1], {"units": units}),
        "lag_right": ("lag", edges[1:], {"units": units}),
    }
    return coords, sums[0], mean
