"""A place and a date of a cube, and the token of a stage that they lie in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr

from timo import cube as cubes
from timo.checks import Count, Range, checked, described, whole
from timo.errors import TimoError

# As in the paper.
Stage = Annotated[int, Range(least=1, most=4)]
# Pixels to a side of the largest tokens there are; a multiple of all others.
LARGEST = 32


@dataclass(frozen=True)
class Query:
    """One pixel on one date: positions along time, y and x of the cube."""

    date: int
    row: int
    col: int


def find_query(
    cube: xr.DataArray,
    *,
    x: float | None,
    y: float | None,
    time: Any,
    row: int | None = None,
    col: int | None = None,
) -> Query:
    """Find the pixel and the date that are meant, see `attention_at`."""
    return Query(nearest_date(cube, time), *find_pixel(cube, x, y, row, col))


def find_pixel(
    grid: xr.DataArray, x: float | None, y: float | None, row: int | None, col: int | None
) -> tuple[int, int]:
    """Return the row and column of a place that is given in the one way or in the other."""
    given = [value is not None for value in (x, y, row, col)]
    if given == [True, True, False, False]:
        return _position(grid, "y", y), _position(grid, "x", x)
    if given == [False, False, True, True]:
        height, width = grid.sizes["y"], grid.sizes["x"]
        row = whole(row, "row", least=-height, most=height - 1)
        return row % height, whole(col, "col", least=-width, most=width - 1) % width
    raise TimoError("Give the place as x and y in the cube's CRS, or as row=..., col=...")


def nearest_date(cube: xr.DataArray, time: Any) -> int:
    """Return the position of the date of the cube that is nearest, from its first day to its last."""
    index = pd.DatetimeIndex(cube.indexes["time"])
    hint = f"the cube has {len(index)} dates from {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}"
    plain: Any = time.values[()] if isinstance(time, xr.DataArray) and not time.ndim else time
    # pandas would read 3 as nanoseconds of 1970.
    if not isinstance(plain, str | dt.date | np.datetime64):
        raise TimoError(
            f"time must be a date, e.g. cube.time[3] or '2019-07-01'; got {described(time)}: {hint}."
        )
    try:
        wanted = pd.Timestamp(plain).tz_localize(None)
    except (TypeError, ValueError, OverflowError) as error:
        raise TimoError(f"{described(time)} is no date; {hint}.") from error
    if pd.isna(wanted) or not index[0].normalize() <= wanted.normalize() <= index[-1].normalize():
        raise TimoError(f"The cube has no date near {time}; {hint}.")
    return int(np.abs(index - wanted).argmin())


def _position(cube: xr.DataArray, dim: str, value: Any) -> int:
    """Return the cell of a coordinate."""
    centres = cube[dim].values.astype("float64")
    step = (centres[-1] - centres[0]) / max(len(centres) - 1, 1) or 1.0
    number = np.floor((float(value) - centres[0]) / step + 0.5)
    if not 0 <= number < len(centres):
        low, high = sorted((centres[0] - step / 2, centres[-1] + step / 2))
        raise TimoError(
            f"{dim} = {value:g} is outside of the cube, whose {dim} goes from {low:g} to {high:g} in {cube.rio.crs}. "
            "Give the place in the cube's CRS."
        )
    return int(number)


def token_coords(cube: xr.DataArray, stride: int) -> dict[str, Any]:
    """Return the centres of the tokens of a stride, in pixels, in the cube's CRS, under the names y and x."""
    coords: dict[str, Any] = {}
    for dim in ("y", "x"):
        centres = cube[dim].values.astype("float64")
        step = (centres[-1] - centres[0]) / max(len(centres) - 1, 1)
        tokens = np.arange(-(-len(centres) // stride))
        attrs = {"long_name": "token centre", "cell_px": stride}
        coords[dim] = (dim, centres[0] + step * (tokens * stride + (stride - 1) / 2), attrs)
    return coords


@checked
def neighbourhood(
    cube: xr.DataArray,
    x: float | None = None,
    y: float | None = None,
    time: Any = None,
    *,
    row: int | None = None,
    col: int | None = None,
    pixels: Count = 192,
    window: Count = 12,
) -> xr.DataArray:
    """Cut out of a cube what a model sees of it when it maps a pixel: surroundings, and a dozen dates.

    `timo.predict` gives the model tiles and windows of dates; on a whole archive at once its attention would be spread
    over far more than it was trained on.

    Parameters
    ----------
    cube : xarray.DataArray
        The cube.
    x, y, time, row, col
        The pixel and the date, as for `attention_at`.
    pixels : int
        Side of the part at most; the default is a tile of `timo.predict` with its border.
    window : int
        How many dates at most: those with observations in the part that are next to the date, before and after alike.

    Returns
    -------
    xarray.DataArray
        A part of the cube that holds the pixel and the date.

    Raises
    ------
    TimoError
        If the pixel or the date is not there, or the part would be empty.
    """
    query = find_query(cubes.check(cube), x=x, y=y, time=time, row=row, col=col)
    # Cut at multiples of the largest token: the tokens then are the same as those of the whole.
    part = cube.isel(
        y=_around(query.row, cube.sizes["y"], pixels), x=_around(query.col, cube.sizes["x"], pixels)
    )
    clear = cubes.valid_mask(part).any(("y", "x")).values.copy()
    clear[query.date] = True
    dates = np.flatnonzero(clear)
    here = int(np.searchsorted(dates, query.date))
    first = int(np.clip(here - window // 2, 0, max(len(dates) - window, 0)))
    return part.isel(time=dates[first : first + window])


def _around(position: int, size: int, pixels: int) -> slice:
    if size <= pixels:
        return slice(None)
    start = np.clip(position - pixels // 2, 0, size - pixels) // LARGEST * LARGEST
    return slice(int(start), int(start) + pixels)
