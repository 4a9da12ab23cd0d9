"""What is a probability, and what is none: labels, percent, scaled numbers, dates that are there twice."""

import numpy as np
import pandas as pd
import xarray as xr

from timo.errors import TimoError, warn

# Sums and means of float32 leave 0..1 by that much.
_ROUNDING = 1e-4
_SCALES = (100, 255, 10_000)


def check_kind(probability: xr.DataArray) -> None:
    """Refuse what is no probability by its type or its attributes."""
    if probability.dtype.kind != "f" or "classes" in probability.attrs:
        raise TimoError(
            f"Probabilities are floats from 0 to 1; got {probability.dtype}"
            f"{' with the names of classes' if 'classes' in probability.attrs else ''}: labels, or scaled numbers. Use "
            "result.probability of timo.predict, or divide scaled numbers, as in probability / 100."
        )


def check_once(dates: pd.Index | None) -> None:
    """Refuse a date that is there twice: what lay on the image would count as seen on two."""
    if not isinstance(dates, pd.DatetimeIndex):
        return
    if dates.hasnans:
        raise TimoError(
            "A date is missing (NaT). Use probability.sel(time=probability.time.notnull())."
        )
    days = dates.normalize()
    if days.has_duplicates:
        raise TimoError(
            f"The date {days[days.duplicated()][0]:%Y-%m-%d} is there more than once, and each date counts as seen for "
            'itself. Use probability.assign_coords(time=probability.time.dt.floor("D")).groupby("time").mean().'
        )


def in_range(values: np.ndarray) -> np.ndarray:
    """Return probabilities, NaN apart; raise a `TimoError` where they cannot be any."""
    if values.size:
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            scale = next((scale for scale in _SCALES if low >= 0 and high <= scale), None)
            mended = f" / {scale}" if scale else ".where((probability >= 0) & (probability <= 1))"
            raise TimoError(
                f"Probabilities are from 0 to 1; these go from {low:g} to {high:g}. Use probability{mended}, or "
                "result.probability of timo.predict."
            )
    return values


def warn_of_labels(values: np.ndarray) -> None:
    """Warn where all values are 0 or 1."""
    zero, one = values == 0, values == 1
    if zero.any() and one.any() and (zero | one | np.isnan(values)).all():
        warn(
            "All probabilities are 0 or 1, as those of labels are: each date counts as odds of 20 to 1. Use "
            "result.probability of timo.predict where there is one."
        )
