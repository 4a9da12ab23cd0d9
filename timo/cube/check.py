"""The checks that hold the cube convention; every error says what to call to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pandas as pd
import pyproj
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.checks import checked
from timo.crs import meant_unit
from timo.cube.values import check_values
from timo.errors import TimoError, warn
from timo.sensors import POLARISATIONS, SENSORS, Sensor, get_sensor
from timo.sensors.registry import find_sensor

DIMS = ("time", "band", "y", "x")
Gridded = xr.DataArray | xr.Dataset
# Share of a cell by which coordinates may differ: well under what shifts a pixel, well over rounding.
_TOLERANCE = 1e-3
# Degrees by which cell centres may lie beyond the poles, as those of some global grids do.
_SLACK = 1.0
_KILOMETRES = {"km", "kilometre", "kilometer", "kilometres", "kilometers"}
# Micrometres by which bands of one name may differ: more than Sentinel-2 and Landsat do, less than two bands.
_WAVELENGTH = 0.03


@checked
def check(
    cube: xr.DataArray, *, what: str = "cube", sensor: Sensor | str | None = None
) -> xr.DataArray:
    """Check that `cube` is a cube whose values can be what they say they are, and return it unchanged.

    Parameters
    ----------
    cube : xarray.DataArray
        (time, band, y, x) float32 physical values, NaN = no valid observation; coordinates time (datetime64, ascending,
        unique), band (names, unique), y and x (cell centres, evenly spaced, square cells), and a CRS.
    what : str
        Its name in the messages.
    sensor : Sensor or str, optional
        Sensor by which a cube is checked whose attributes name none, such as that of the model. One that is not
        registered here is left aside.

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
    Values are looked at in memory alone (`timo.cube.check_values`). Those of a lazy cube are looked at by what computes
    it.
    """
    _check_dims(cube, what)
    _check_dtype(cube, what)
    _check_time(cube, what)
    _check_band(cube, what, sensor_of(cube, sensor))
    check_grid(cube, what=what)
    # Asking .data would read an array that still lies in a file; xarray has no public way to ask.
    if cube.variable._in_memory:
        values, bands = cube.values, [str(band) for band in cube.band.values]
        _check_observed(values, what)
        check_values(values, sensor_of(cube, sensor), bands, what=what, times=cube.time.values)
    return cube


@checked
def sensor_of(cube: xr.DataArray, other: Sensor | str | None = None) -> Sensor | None:
    """Return the sensor that a cube's attributes name, else `other`; None where neither is known."""
    if cube.attrs.get("sensor") is not None:
        return get_sensor(cube.attrs["sensor"])
    return find_sensor(other) if isinstance(other, str) else other


@checked
def select_bands(cube: xr.DataArray, bands: Sequence[str], sensor: str) -> xr.DataArray:
    """Check a cube that a model is to read, and return the bands of the model.

    Parameters
    ----------
    cube : xarray.DataArray
        The cube. Of a joint cube (`timo.cube.join`) the bands of the model's sensors are taken, in whichever order its
        sensors are joined.
    bands : sequence of str
        Bands of the model, in its order.
    sensor : str
        Name of the sensor that the model was made for.

    Raises
    ------
    TimoError
        If the cube is no cube, lacks a band or a sensor, or calls other bands by these names.

    Warns
    -----
    UserWarning
        If the cube holds another quantity than the model was made for, e.g. top-of-atmosphere reflectance.
    """
    if not bands:
        raise TimoError("bands are the names of at least one band of the model; got none.")
    has = [str(band) for band in check(cube, sensor=sensor).band.values]
    own, other = sensor_of(cube, sensor), find_sensor(sensor)
    names = list(bands)
    if own is not None and other is not None and own.name != other.name:
        same = {own.band_origin(band): band for band in has}
        names = [same.get(other.band_origin(band), band) for band in bands]
    if missing := [name for name in names if name not in has]:
        _refuse_missing(missing, bands, has, own, other)
    if own is None or other is None or own.name == other.name:
        return cube.sel(band=names)
    strange = [band for band in bands if other.band_origin(band) not in same]
    _check_alike(own, other, strange)
    chosen = cube.sel(band=names)
    return chosen if strange else chosen.assign_coords(band=list(bands)).assign_attrs(sensor=sensor)


def _refuse_missing(
    missing: Sequence[str],
    bands: Sequence[str],
    has: Sequence[str],
    own: Sensor | None,
    other: Sensor | None,
) -> NoReturn:
    """Refuse a cube that lacks bands of a model, or all bands of one of its sensors."""
    there = () if own is None else [part.name for part in own.parts]
    origins = [] if other is None else [other.band_origin(band) for band in bands]
    for part in other.parts if other is not None and len(other.parts) > 1 else ():
        plain = [band for name, band in origins if name == part.name]
        if plain and part.name not in there:
            raise TimoError(
                f"The model reads {part.name} too, which the cube does not hold; it has {list(has)}. Use "
                "timo.cube.join(cube, other), other being the cube of that sensor; where there is none, "
                f"timo.cube.join(cube, missing={ {part.name: plain} }) leaves its bands empty."
            )
    raise TimoError(
        f"The model reads the bands {list(bands)}, the cube has {list(has)}: {list(missing)} missing. Open the cube "
        f"with bands={list(bands)}, or load a new model for it."
    )


def _check_alike(own: Sensor, other: Sensor, bands: Sequence[str]) -> None:
    """Refuse bands of two sensors that share a name and no wavelength: B5 of Landsat is near infrared."""
    for name in bands:
        a, b = (s.band(name).wavelength_um for s in (own, other))
        if abs(a - b) > _WAVELENGTH:
            raise TimoError(
                f"The model reads {name} of {other.name} ({b:g} µm), the cube has {name} of {own.name} ({a:g} µm). "
                "Load a new model for this cube, or open a cube of the model's sensor."
            )
    pairs = {tuple(_units(one, name) for one in (other, own)) for name in bands}
    for wanted, given in sorted(pair for pair in pairs if len(set(pair)) > 1):
        warn(
            f"The model was made for {wanted} ({other.name}), the cube holds {given} ({own.name})."
        )


def _units(sensor: Sensor, band: str) -> str:
    return next(part.units for part in sensor.parts if band in part.band_names)


@checked
def check_grid(array: Gridded, *, what: str = "array") -> None:
    """Check that y and x are there, evenly spaced, in square cells, with a CRS, and in its unit.

    Raises
    ------
    TimoError
        If something is not so.
    """
    several = [dim for dim in ("y", "x") if _centres(array, dim, what).size > 1]
    steps = {dim: spacing(array, dim, what) for dim in several}
    if len(steps) == 2 and not np.isclose(abs(steps["y"]), abs(steps["x"]), rtol=_TOLERANCE):
        raise TimoError(
            f"The {what}'s cells must be square: y steps by {steps['y']:g}, x by {steps['x']:g}. "
            f"Use {what}.rio.reproject({what}.rio.crs, resolution=...)."
        )
    if array.rio.crs is None:
        raise TimoError(
            f'The {what} has no coordinate reference system. Use {what}.rio.write_crs("EPSG:...").'
        )
    _check_unit(array, steps, what)


def _check_unit(array: Gridded, steps: dict[str, float], what: str) -> None:
    """Refuse coordinates in another unit than that of the CRS."""
    crs = array.rio.crs
    reach = {dim: float(np.abs(array[dim].values).max()) for dim in ("y", "x")}
    units = {str(array[dim].attrs.get("units", "")).strip().lower() for dim in ("y", "x")}
    if crs.is_geographic:
        if (
            reach["y"] > 90 + _SLACK
            or reach["x"] > 360 + _SLACK
            or units & {"m", "metre", "meter", "km"}
        ):
            raise TimoError(
                f"The {what} is in degrees by its reference system ({crs}), but its coordinates go to x = "
                f"{reach['x']:,.6g}, y = {reach['y']:,.6g}: metres of a projection. Use "
                f'{what}.rio.write_crs("EPSG:...") with that projection.'
            )
        return
    x, y = (float(array[dim].values[array.sizes[dim] // 2]) for dim in ("x", "y"))
    meant = meant_unit(x, y, pyproj.CRS.from_wkt(crs.to_wkt()))
    in_metres = np.isclose(crs.linear_units_factor[1], 1, rtol=1e-3)
    # Where nothing says so: cells of centimetres, beside the origin of the reference system.
    near = reach["x"] < 1000 and reach["y"] < 10_000
    tiny = bool(steps) and max(abs(step) for step in steps.values()) < 0.5
    if units & {"degree", "degrees", "degrees_east", "degrees_north"}:
        meant = "degrees"
    elif in_metres and (units & _KILOMETRES or (near and tiny and not meant)):
        meant = "kilometres"
    if not meant:
        return
    factor = {"kilometres": "* 1000", "metres": "/ 1000"}.get(meant)
    scaled = f'assign_coords(x=("x", {what}.x.values {factor}), y=("y", {what}.y.values {factor}))'
    raise TimoError(
        f"The {what}'s coordinates are in {meant} (x up to {reach['x']:,.6g}), its reference system ({crs}) is in "
        f"{'metres' if in_metres else crs.linear_units}. Use {what}.{scaled if factor else 'rio.write_crs(4326)'}."
    )


@checked
def spacing(array: Gridded, dim: str, what: str = "array") -> float:
    """Return the step of an evenly spaced coordinate.

    Raises
    ------
    TimoError
        If it is not evenly spaced, or a single cell.
    """
    values = _centres(array, dim, what)
    if values.size < 2:
        raise TimoError(f"The {what} is a single cell along {dim!r}, which has no step.")
    steps = np.diff(values)
    step = float(values[-1] - values[0]) / steps.size
    # Against the ideal grid, and not step by step: coordinates are often rounded, each on its own.
    ideal = values[0] + step * np.arange(values.size)
    if not step or not np.allclose(values, ideal, rtol=0, atol=abs(step) * 0.05):
        raise TimoError(
            f"The {what}'s {dim} must be evenly spaced cell centres; its steps go from {steps.min():g} to "
            f"{steps.max():g}. Use {what}.{_evened(values, dim)}."
        )
    return step


def _evened(values: np.ndarray, dim: str) -> str:
    """Return the call that brings uneven cell centres to even ones."""
    once = np.unique(values)
    if once.size < values.size:
        return f'drop_duplicates("{dim}")'
    span = once[-1] - once[0]
    cells = int(min(span / np.diff(once).min() + 1, 10 * once.size))
    even = f"numpy.linspace({once[0]}, {once[-1]}, {cells})"
    return f'sortby("{dim}").reindex({dim}={even}, method="nearest")'


def _centres(array: Gridded, dim: str, what: str) -> np.ndarray:
    """Return the coordinates along a dimension, as floats; raise a `TimoError` where they are no cell centres."""
    if dim not in array.dims:
        raise TimoError(
            f"The {what} has no dimension {dim!r}; it has {tuple(array.dims)}. Use {what}.rename(...)."
        )
    if dim not in array.indexes:
        raise TimoError(
            f"The {what} has no coordinate {dim!r}. Use {what}.assign_coords({dim}=...) with its cell centres."
        )
    values = array[dim].values
    if not values.size:
        raise TimoError(f"The {what} is empty: its size along {dim!r} is 0.")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise TimoError(
            f"The {what}'s {dim} must be finite numbers, the cell centres; it holds {values[:3].tolist()}. "
            f"Use {what}.assign_coords({dim}=...)."
        )
    return values.astype("float64")


@checked
def grid_mismatch(array: Gridded, like: Gridded, other: str = "the cube") -> str:
    """Return what of a grid is unlike that of `like`, e.g. "x has 3 cells, the cube's 5"; empty if nothing is.

    An array without a CRS is taken to be in that of `like`; `other` is the name of `like` in the answer.
    """
    for dim in ("y", "x"):
        wanted = _centres(like, dim, other.removeprefix("the "))
        cells = array.sizes.get(dim, "no")
        if cells != wanted.size:
            return f"{dim} has {cells} cells, {other}'s {wanted.size}"
        if dim not in array.indexes or array[dim].dtype.kind not in "iuf":
            return f"coordinate {dim!r} is missing"
        values = array[dim].values
        cell = abs(spacing(like, dim)) if wanted.size > 1 else 1.0
        apart = float(np.abs(values - wanted).max()) / cell
        if not apart <= _TOLERANCE:
            return f"{dim} is up to {apart:.3g} cells from {other}'s"
    if array.rio.crs is not None and array.rio.crs != like.rio.crs:
        return f"reference system is {array.rio.crs}, {other}'s {like.rio.crs}"
    return ""


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
    for dim, names in (("time", "dates"), ("band", "band names")):
        if dim not in cube.indexes:
            raise TimoError(
                f"The {what} has no coordinate {dim!r}. Use {what}.assign_coords({dim}=...) with its {names}."
            )


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


def _check_band(cube: xr.DataArray, what: str, sensor: Sensor | None) -> None:
    names = [str(name) for name in cube.band.values]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TimoError(
            f"The {what} has the band {twice[0]!r} more than once. "
            f'Use {what}.drop_duplicates("band").'
        )
    if sensor is not None:
        strange = [name for name in names if name not in sensor.band_names]
        if cube.attrs.get("sensor") is None:
            _check_assumed(strange, sensor, what)
        else:
            _check_said(strange, sensor)


def _check_said(strange: Sequence[str], sensor: Sensor) -> None:
    """Refuse bands that the sensor of a cube has not."""
    if not strange:
        return
    others = [n for n, other in SENSORS.items() if set(strange) <= set(other.band_names)]
    joined = (
        f" {' and '.join(strange)} can be of {' or '.join(others)}: the cubes of several sensors are joined with "
        "timo.cube.join(cube, other), each with its own attrs['sensor']."
    )
    raise TimoError(
        f"{sensor.name} has no band {strange[0]!r}. Its bands are: {', '.join(sensor.band_names)}."
        f"{joined if others else ''}"
    )


def _check_assumed(strange: Sequence[str], sensor: Sensor, what: str) -> None:
    """Refuse radar in a cube that is taken to be of a sensor without it; another band may be one that is not read."""
    if radar := [name for name in strange if name in POLARISATIONS]:
        raise TimoError(
            f"The {what} does not say its sensor, and {' and '.join(radar)} are no bands of {sensor.name}. Use "
            f'{what}.assign_attrs(sensor="sentinel-1"); with bands of another sensor, select those of each, say its '
            "sensor, and join them with timo.cube.join(cube, other)."
        )


def _check_observed(values: np.ndarray, what: str) -> None:
    if np.isinf(values).any():
        raise TimoError(
            f"The {what} holds infinite values. Use {what}.where(numpy.isfinite({what}))."
        )
    if np.isnan(values).all():
        raise TimoError(
            f"The {what} is all NaN: no date has a valid observation. "
            "Widen the dates or the area, or mask fewer classes."
        )
