"""The series of single pixels as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import checked
from timo.cube import check
from timo.errors import TimoError

from .bandviews import View, series_views
from .reading import CubeReader


@checked
def pixel_series(
    cube: xr.DataArray, pixels: Sequence[tuple[int, int]], quantity: str = "NDVI"
) -> pd.DataFrame:
    """Return the series of some pixels, a row for each pixel and date.

    Parameters
    ----------
    cube : xarray.DataArray
        A cube.
    pixels : sequence of (row, column)
        Which pixels.
    quantity : str
        "NDVI", or the name of a band.

    Returns
    -------
    pandas.DataFrame
        pixel (1, 2, ...), row, column, x, y (in the cube's CRS), time, quantity, value (NaN where nothing was seen) and
        valid.

    Raises
    ------
    TimoError
        If the cube lacks what the quantity needs, or has no such pixel.
    """
    check(cube)
    views = series_views(cube)
    if quantity not in views:
        raise TimoError(f"The cube has no {quantity!r}; it has {', '.join(views)}.")
    return table(CubeReader(cube), list(pixels), views[quantity])


def table(reader: CubeReader, pixels: list[tuple[int, int]], view: View) -> pd.DataFrame:
    """Return the same from a reader, which keeps what it has read."""
    parts = [_part(reader, i, *pixel, view) for i, pixel in enumerate(pixels, 1)]
    if not parts:
        raise TimoError("No pixel is chosen: click on the map, or set state.pixels.")
    return pd.concat(parts, ignore_index=True)


def _part(reader: CubeReader, number: int, row: int, column: int, view: View) -> pd.DataFrame:
    cube = reader.cube
    rows, columns = cube.sizes["y"], cube.sizes["x"]
    if not (0 <= row < rows and 0 <= column < columns):
        raise TimoError(f"There is no pixel ({row}, {column}) in {rows} x {columns} pixels.")
    values = values_of(reader, row, column, view)
    return pd.DataFrame(
        {
            "pixel": number,
            "row": row,
            "column": column,
            "x": float(cube.x[column]),
            "y": float(cube.y[row]),
            "time": cube.time.values,
            "quantity": view.name,
            "value": values,
            "valid": np.isfinite(values),
        }
    )


def values_of(reader: CubeReader, row: int, column: int, view: View) -> np.ndarray:
    """Return (time,) float32 of a pixel, NaN where nothing was seen."""
    return view.channels(reader.pixel(row, column, view.bands))[0]
