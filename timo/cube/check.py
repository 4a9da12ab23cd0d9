"""The checks that hold the cube convention; every error says what to call to mend it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.errors import TimoError
from timo.sensors import get_sensor

DIMS = ("time", "band", "y", "x")
# Share of a cell by which coordinates may differ: well under what shifts a pixel, well over
# rounding.
_TOLERANCE = 1e-3


def check(cube: xr.DataArray, *, what: str = "cube") -> xr.DataArray:
    """Check that `cube` is a cube, and return it unchanged.

    Parameters
    ----------
    cube : xarray.DataArray
        (time, band, y, x) float32 physical values, NaN = no valid observation; coordinates time
        (datetime64, ascending, unique), band (names, unique), y and x (cell centres, evenly spaced,
        square cells), and a CRS.
    what : str
        What the messages call it.

    Returns
    -------
    xarray.DataArray
        `cube` itself.

    Raises
    ------
    TimoError
        If something is not so; the message says what, and what to call.

    Notes
    -----
    A lazy cube is not computed: that it holds a finite value and nothing infinite is
    checked only in memory.
    """
    if not isinstance(cube, xr.DataArray):
        raise TimoError(f"The {what} must be an xarray.DataArray; got {type(cube).__name__}.")
    _check_dims(cube, what)
    _check_dtype(cube, what)
    _check_time(cube, what)
    _check_band(cube, what)
    check_grid(cube, what=what)
    # Asking .data would read an array that still lies in a file; xarray has no public way to ask.
    if cube.variable._in_memory:
        _check_values(cube.values, what)
    return cube


def check_grid(array: xr.DataArray, *, what: str = "array") -> None:
    """Check that y and x are there, evenly spaced, in square cells, with a CRS.

    Raises
    ------
    TimoError
        If something is not so.
    """
    steps = {dim: _spacing(array, dim, what) for dim in ("y", "x") if array.sizes[dim] > 1}
    if len(steps) == 2 and not np.isclose(abs(steps["y"]), abs(steps["x"]), rtol=_TOLERANCE):
        raise TimoError(
            f"The {what}'s cells must be square: y steps by {steps['y']:g}, x by {steps['x']:g}. "
            f"Use {what}.rio.reproject({what}.rio.crs, resolution=...)."
        )
    if array.rio.crs is None:
        raise TimoError(
            f'The {what} has no coordinate reference system. Use {what}.rio.write_crs("EPSG:...").'
        )


def check_labels(labels: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """Check that `labels` are labels on the cube's grid, and return them unchanged.

    Parameters
    ----------
    labels : xarray.DataArray
        (y, x) or (time, y, x) integers: a class, or -1 = unlabelled. `attrs["classes"]`, if there,
        names the classes.
    cube : xarray.DataArray
        The cube that they label.

    Raises
    ------
    TimoError
        If something is not so; the message says what, and what to call.
    """
    if not isinstance(labels, xr.DataArray):
        raise TimoError(f"The labels must be an xarray.DataArray; got {type(labels).__name__}.")
    if labels.dims not in (("y", "x"), ("time", "y", "x")):
        raise TimoError(
            f'The labels must have the dims ("y", "x") or ("time", "y", "x"); got {labels.dims}. '
            'Use labels.rename(...) or labels.transpose(..., "y", "x").'
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TimoError(
            f"The labels must be integers, -1 = unlabelled; got {labels.dtype}. "
            'Use labels.fillna(-1).astype("int16").'
        )
    _check_same_grid(labels, cube)
    _check_same_time(labels, cube)
    _check_classes(labels)
    return labels


def _check_dims(cube: xr.DataArray, what: str) -> None:
    if set(cube.dims) != set(DIMS):
        raise TimoError(
            f"The {what} must have the dims {DIMS}; got {cube.dims}. "
            f'Use {what}.rename(...), or {what}.expand_dims("time") for a missing one.'
        )
    if cube.dims != DIMS:
        raise TimoError(
            f"The {what}'s dims must be in the order {DIMS}; got {cube.dims}. "
            f'Use {what}.transpose("time", "band", "y", "x").'
        )
    empty = [str(dim) for dim in DIMS if cube.sizes[dim] == 0]
    if empty:
        raise TimoError(f"The {what} is empty: its size along {empty[0]!r} is 0.")
    missing = [dim for dim in DIMS if dim not in cube.indexes]
    if missing:
        raise TimoError(
            f"The {what} has no coordinate {missing[0]!r}. "
            f"Use {what}.assign_coords({missing[0]}=...) with its {_MEANING[missing[0]]}."
        )


_MEANING = {
    "time": "dates",
    "band": "band names",
    "y": "cell centres",
    "x": "cell centres",
}


def _check_dtype(cube: xr.DataArray, what: str) -> None:
    if cube.dtype != np.float32:
        raise TimoError(
            f"The {what} must be float32 with NaN = no valid observation; got {cube.dtype}. "
            f'Use {what}.astype("float32"), after masking nodata with {what}.where(...).'
        )


def _check_time(cube: xr.DataArray, what: str) -> None:
    index = cube.indexes["time"]
    if not isinstance(index, pd.DatetimeIndex):
        raise TimoError(
            f"The {what}'s time must be datetime64; got {index.dtype}. "
            f"Use {what}.assign_coords(time=pandas.to_datetime({what}.time))."
        )
    if index.hasnans:
        raise TimoError(f"The {what}'s time holds NaT. Use {what}.sel(time={what}.time.notnull()).")
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise TimoError(
            f"The {what} has the date {twice:%Y-%m-%d} more than once. "
            f'Use {what}.drop_duplicates("time"), or {what}.groupby("time").mean() to mosaic.'
        )
    if not index.is_monotonic_increasing:
        raise TimoError(f'The {what}\'s dates must ascend. Use {what}.sortby("time").')


def _check_band(cube: xr.DataArray, what: str) -> None:
    names = [str(name) for name in cube.band.values]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TimoError(
            f"The {what} has the band {twice[0]!r} more than once. "
            f'Use {what}.drop_duplicates("band").'
        )
    if "sensor" in cube.attrs:
        get_sensor(cube.attrs["sensor"]).select(names)


def _spacing(array: xr.DataArray, dim: str, what: str) -> float:
    """Return the step of an evenly spaced coordinate."""
    values = array[dim].values.astype("float64")
    steps = np.diff(values)
    step = float(values[-1] - values[0]) / steps.size
    # Against the ideal grid, and not step by step: coordinates are often rounded, each on its own.
    ideal = values[0] + step * np.arange(values.size)
    if not step or not np.allclose(values, ideal, rtol=0, atol=abs(step) * 0.05):
        raise TimoError(
            f"The {what}'s {dim} must be evenly spaced cell centres; "
            f"its steps go from {steps.min():g} to {steps.max():g}. "
            f"Use {what}.rio.reproject({what}.rio.crs) or {what}.interp({dim}=...)."
        )
    return step


def _check_values(values: np.ndarray, what: str) -> None:
    if np.isinf(values).any():
        raise TimoError(
            f"The {what} holds infinite values. Use {what}.where(numpy.isfinite({what}))."
        )
    if np.isnan(values).all():
        raise TimoError(
            f"The {what} is all NaN: no date has a valid observation. "
            "Widen the dates or the area, or mask fewer classes."
        )


def _check_same_grid(labels: xr.DataArray, cube: xr.DataArray) -> None:
    mend = (
        "Use labels.rio.reproject_match(cube, nodata=-1), which takes the nearest cell, "
        "then .assign_coords(y=cube.y, x=cube.x)."
    )
    for dim in ("y", "x"):
        if labels.sizes[dim] != cube.sizes[dim]:
            raise TimoError(
                f"The labels are on another grid: their {dim} has {labels.sizes[dim]} cells, "
                f"the cube's {cube.sizes[dim]}. {mend}"
            )
        if dim not in labels.indexes:
            raise TimoError(f"The labels have no coordinate {dim!r}. {mend}")
        cell = abs(float(cube[dim][1] - cube[dim][0])) if cube.sizes[dim] > 1 else 1.0
        apart = float(np.abs(labels[dim].values - cube[dim].values).max()) / cell
        if not apart <= _TOLERANCE:
            raise TimoError(
                f"The labels are on another grid: their {dim} is up to {apart:.3g} cells "
                f"from the cube's. {mend}"
            )
    if labels.rio.crs is not None and labels.rio.crs != cube.rio.crs:
        raise TimoError(f"The labels are in {labels.rio.crs}, the cube in {cube.rio.crs}. {mend}")


def _check_same_time(labels: xr.DataArray, cube: xr.DataArray) -> None:
    if {"time"} <= set(labels.dims) & set(cube.dims) and not labels.indexes["time"].equals(
        cube.indexes["time"]
    ):
        raise TimoError(
            "Labels with a time must have the cube's dates. "
            "Use labels.reindex(time=cube.time, fill_value=-1)."
        )


def _check_classes(labels: xr.DataArray) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < -1:
        raise TimoError(
            f"Labels are classes from 0, or -1 = unlabelled; got {low}. "
            "Use labels.where(labels >= 0, -1)."
        )
    classes = labels.attrs.get("classes")
    if classes is not None and high >= len(classes):
        raise TimoError(
            f"The labels go up to {high}, but attrs['classes'] names {len(classes)}: "
            f"{list(classes)}. Name them all, from class 0 on."
        )
