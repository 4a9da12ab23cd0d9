"""A small grid, and features on its cells, for the tests of labels."""

import geopandas as gpd
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401
import shapely
import xarray as xr

LEFT, TOP, CELL = 500_000.0, 5_000_000.0, 10.0
DATES = ("2020-03-10", "2020-06-01", "2020-06-20", "2020-09-05")


def make_cube(rows=12, columns=15, *, dates=DATES, crs=32633, left=LEFT, top=TOP, step=CELL):
    """A cube whose first cell has its corner at left, top."""
    cube = xr.DataArray(
        np.full((len(dates), 1, rows, columns), 0.1, "float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(dates),
            "band": ["B4"],
            "y": top - step * (np.arange(rows) + 0.5),
            "x": left + step * (np.arange(columns) + 0.5),
        },
        attrs={"sensor": "sentinel-2"},
    )
    return cube.rio.write_crs(crs)


def cells(rows, columns):
    """A polygon over whole cells: rows and columns (first, after-last)."""
    return shapely.box(
        LEFT + CELL * columns[0],
        TOP - CELL * rows[1],
        LEFT + CELL * columns[1],
        TOP - CELL * rows[0],
    )


def point(row, column, right=0.0, down=0.0):
    """A point at the middle of a cell, or some metres beside it."""
    return shapely.Point(LEFT + CELL * (column + 0.5) + right, TOP - CELL * (row + 0.5) - down)


def frame(geometries, crs=32633, **columns):
    """Features with columns."""
    return gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


def painted(shape, *squares):
    """An array of -1 with rectangles (rows, columns, number)."""
    values = np.full(shape, -1)
    for rows, columns, number in squares:
        values[slice(*rows), slice(*columns)] = number
    return values
