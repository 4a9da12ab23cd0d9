"""What a simple baseline sees of a series: the medians of the bands in about monthly periods.

NaN is filled by interpolation in time here; what has no value at any time is filled by the baseline, with the mean of
its training part. So nothing is learnt from what is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from timo.geostat.interpolation.in_time import fill_linear

# Periods at most: those of a longer series have several months.
_MOST_PERIODS = 24
_MONTHS = 12


@dataclass(frozen=True)
class Periods:
    """About monthly periods that all places share.

    `start` is the first month, counted from 1970, and `months` the length of a period; without a start, the periods are
    the months of the year, for places that were not observed at the same time.
    """

    count: int = _MONTHS
    start: int | None = None
    months: int = 1

    @classmethod
    def of(cls, series: Sequence[np.ndarray]) -> Periods:
        """Return the periods of places from their dates: of the calendar unless all begin and end alike."""
        months = [_months(dates) for dates in series]
        first, last = ([int(end(m)) for m in months] for end in (np.min, np.max))
        if max(first) - min(first) > 1 or max(last) - min(last) > 1:
            return cls()
        start, span = min(first), max(last) - min(first) + 1
        length = -(-span // _MOST_PERIODS)
        return cls(-(-span // length), start, length)

    def numbers(self, dates: np.ndarray) -> Int[np.ndarray, " t"]:
        """Return the period of each date."""
        months = _months(dates)
        if self.start is None:
            return months % _MONTHS
        return np.clip((months - self.start) // self.months, 0, self.count - 1)

    def __str__(self) -> str:
        if self.start is None:
            return "the 12 months of the year"
        return f"{self.count} periods of {self.months} month{'s' if self.months > 1 else ''}"


def _months(dates: np.ndarray) -> np.ndarray:
    return np.asarray(dates).astype("datetime64[M]").astype("int64")


def series_features(
    values: Float[np.ndarray, "t c n"], dates: np.ndarray, periods: Periods
) -> Float[np.ndarray, "n features"]:
    """Return the median of each band in each period, (n, periods x bands), interpolated over periods without one."""
    numbers = periods.numbers(dates)
    medians = np.full((periods.count, *values.shape[1:]), np.nan, "float32")
    for number in np.unique(numbers):
        medians[number] = median(values[numbers == number])
    filled = fill_linear(medians.reshape(periods.count, -1), np.arange(float(periods.count)))
    return np.ascontiguousarray(filled.reshape(-1, values.shape[-1]).T)


def median(values: Float[np.ndarray, "t ..."]) -> Float[np.ndarray, "..."]:
    """Return the median over the first axis of what is not NaN; sorting puts NaN last."""
    ordered = np.sort(values, axis=0)
    count = np.isfinite(values).sum(axis=0)
    low, high = (
        np.take_along_axis(ordered, position[None], axis=0)[0]
        for position in (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1))
    )
    return np.where(count > 0, low + (high - low) / 2, np.float32("nan")).astype("float32")


def group_sums(
    values: Float[np.ndarray, "t c n"], group: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "2 t c groups"]:
    """Return the sum and the number of the finite values of each group of pixels, numbered from 0."""
    found = np.zeros((2, *values.shape[:2], count), "float32")
    for at in np.ndindex(values.shape[:2]):
        known = np.isfinite(values[at])
        found[0][at] = np.bincount(group[known], values[at][known], minlength=count)
        found[1][at] = np.bincount(group[known], minlength=count)
    return found


def means_of(sums: Float[np.ndarray, "2 ..."]) -> Float[np.ndarray, "..."]:
    """Return means from sums and numbers; NaN of no values."""
    with np.errstate(invalid="ignore"):
        return np.where(sums[1] > 0, sums[0] / sums[1], np.float32("nan"))
