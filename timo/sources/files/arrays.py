"""NetCDF and Zarr: variables on a grid, as the CF conventions describe them; and cubes of timo's own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from affine import Affine

from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.sensors import SENSORS
from timo.sources.files.dates import Moment, as_moment
from timo.sources.files.find import Kind
from timo.sources.files.grids import FileGrid, name_of_crs
from timo.sources.files.inventory import Found, Naming, date_of
from timo.sources.files.layers import ArrayLayer, Numbers

_AXES = {
    "y": ({"y", "lat", "latitude", "northing"}, {"projection_y_coordinate", "latitude"}),
    "x": ({"x", "lon", "longitude", "easting"}, {"projection_x_coordinate", "longitude"}),
    "time": ({"time", "t", "date", "valid_time"}, {"time"}),
}
# Coordinates are often rounded, each on its own.
_UNEVEN = 0.05


def open_dataset(path: Path, kind: Kind, *, raw: bool = True, chunks: Any = None) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily.

    Parameters
    ----------
    path : Path
        Where it is.
    kind : {"netcdf", "zarr"}
        What it is.
    raw : bool
        Leave the numbers as they are in the file, with scale and fill value among the attributes.
    chunks : optional
        As in `xarray.open_dataset`.

    Raises
    ------
    TimoError
        If it cannot be read.
    """
    # Without consolidated metadata: not every store has them, and to look for them in vain warns.
    store: Any = {"engine": "zarr", "consolidated": False}
    try:
        what = path if kind == "zarr" else _shared_handle(path)
        if kind != "zarr":
            store = {"engine": netcdf_engine() if what is path else "store"}
        return xr.open_dataset(
            what, decode_coords="all", mask_and_scale=not raw, chunks=chunks, **store
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise TimoError(
            f"{path} cannot be read as {kind}: {error}. It is damaged or something else: write or fetch it anew, or "
            "leave it out."
        ) from error


class _Handle(xr.backends.NetCDF4DataStore):
    """An open file that is closed when nobody needs it any more."""

    __slots__ = ("__weakref__",)


def _shared_handle(path: Path) -> Any:
    """One handle for each NetCDF file; its path where netCDF4 does not read it.

    HDF5 crashes the whole process where a file with text in it (names of bands) is opened while it is open already,
    and one of the two is then closed (HDFGroup/hdf5 issue 5359, Unidata/netcdf4-python issue 1444).
    """
    if find_spec("netCDF4") is None:
        return path
    state = path.stat()
    key = str(path.resolve()), state.st_mtime_ns, state.st_size
    with _opening:
        handle = _handles.get(key)
        if handle is None:
            handle = _handles[key] = _Handle.open(str(path))
    return handle


# Weak: a file is open for as long as a cube of it is there.
_handles: weakref.WeakValueDictionary[tuple[str, int, int], _Handle] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def find_arrays(paths: Sequence[Path], kind: Kind, naming: Naming) -> list[Found]:
    """Layers of NetCDF files or Zarr stores; only coordinates are read.

    Raises
    ------
    TimoError
        If a file cannot be read, has no grid, or its dates or bands have no name.
    """
    found: list[Found] = []
    for position, path in enumerate(paths):
        dataset = open_dataset(path, kind)
        variables = _gridded(dataset, path)
        for variable, own in _named(variables, path, naming):
            found += _layers(variable, path, own, (position, len(paths)), len(variables) == 1)
    return found


def _named(
    variables: Sequence[xr.DataArray], path: Path, naming: Naming
) -> list[tuple[xr.DataArray, Naming]]:
    """Variables with the names that the user gives them, of several in the order of the file."""
    if len(variables) == 1 or naming.band_names is None:
        return [(variable, naming) for variable in variables]
    if len(variables) != len(naming.band_names):
        listed = ", ".join(str(variable.name) for variable in variables)
        raise TimoError(
            f"{path} has {len(variables)} variables on a grid ({listed}), but band_names names "
            f"{len(naming.band_names)}."
        )
    return [
        (variable, replace(naming, band_names=(name,)))
        for variable, name in zip(variables, naming.band_names, strict=True)
    ]


def sensor_named(paths: Sequence[Path], kind: Kind) -> set[str]:
    """Sensors that the attributes of files and variables name."""
    named = set()
    for path in paths:
        dataset = open_dataset(path, kind)
        items = (dataset, *dataset.data_vars.values())
        named |= {str(item.attrs.get("sensor", "")).lower() for item in items}
    return named & set(SENSORS)


def _axis(variable: xr.DataArray, axis: str) -> str | None:
    """The dim of a variable that is y, x or time."""
    names, standard = _AXES[axis]
    for dim in map(str, variable.dims):
        said = variable[dim].attrs.get("standard_name") if dim in variable.coords else None
        if dim.lower() in names or said in standard:
            return dim
    return None


def _gridded(dataset: xr.Dataset, path: Path) -> list[xr.DataArray]:
    """Variables that lie on a grid."""
    variables = [
        v
        for v in dataset.data_vars.values()
        if _axis(v, "y") and _axis(v, "x") and v.dtype.kind in "iuf"
    ]
    if not variables:
        listed = ", ".join(f"{name} {v.dims}" for name, v in dataset.data_vars.items())
        raise TimoError(
            f"{path} has no variable on a grid (y, x) or (lat, lon); it has: {listed or 'none'}. A NetCDF of groups "
            "or of points has to be converted first."
        )
    return variables


def _layers(
    variable: xr.DataArray, path: Path, naming: Naming, place: tuple[int, int], sole: bool
) -> list[Found]:
    """Layers of a variable: one for each date and band."""
    y, x, time = (_axis(variable, axis) for axis in ("y", "x", "time"))
    assert y is not None
    assert x is not None
    variable = _north_up(variable, y, x)
    grid, numbers = _grid(variable, y, x, path), _numbers(variable)
    others = [str(d) for d in variable.dims if d not in (y, x, time)]
    if len(others) > 1:
        raise TimoError(
            f"{variable.name} in {path} has the dims {variable.dims}: beside time, y and x only one more can be read, "
            "the bands. Select one of the others first."
        )
    band = others[0] if others else None
    variable = variable.transpose(*filter(None, (time, band)), y, x)
    moments = _moments(variable, time, path, naming, place)
    return [
        Found(ArrayLayer(path, grid, numbers, variable, (*when, *which)), moment, names)
        for when, moment in moments
        for which, names in _bands(variable, band, path, naming, sole)
        if names
    ]


def _moments(
    variable: xr.DataArray, time: str | None, path: Path, naming: Naming, place: tuple[int, int]
) -> list[tuple[tuple[tuple[str, int], ...], Moment]]:
    """Dates of a variable, each with where it is."""
    if time is None:
        attrs = {str(k): str(v) for k, v in variable.attrs.items()}
        moment = date_of(path, *place, naming, attrs)
        return [((), moment)]
    if naming.dates is not None:
        raise TimoError(f"{path} has dates of its own, in {time}: leave dates= out.")
    index = variable.indexes.get(time)
    if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
        kind = "no values" if index is None else f"{index.dtype}"
        raise TimoError(
            f'{time} of {path} must be dates as the CF conventions write them ("days since 1970-01-01"); it has '
            f"{kind}. Write it anew with xarray: dataset.assign_coords(time=pandas.to_datetime(...))."
        )
    return [(((time, i),), as_moment(date)) for i, date in enumerate(index)]


def _bands(
    variable: xr.DataArray, band: str | None, path: Path, naming: Naming, sole: bool
) -> list[tuple[tuple[tuple[str, int], ...], tuple[str, ...]]]:
    """Bands of a variable, each with where it is and what it may be called."""
    if band is None:
        if text := naming.group(path, "band"):
            return [((), (text,))]
        if naming.band_names is not None:
            if len(naming.band_names) > 1:
                raise TimoError(
                    f"{variable.name} in {path} has no dim of bands, but band_names names {len(naming.band_names)}."
                )
            return [((), tuple(filter(None, naming.band_names)))]
        said = (str(variable.name), str(variable.attrs.get("long_name", "")))
        return [((), (*filter(None, said), *((path.stem,) if sole else ())))]
    size = variable.sizes[band]
    names: Sequence[Any] = naming.band_names or (
        variable[band].values.tolist() if band in variable.coords else [None] * size
    )
    if len(names) != size:
        raise TimoError(
            f"{variable.name} in {path} has {size} bands, but band_names names {len(names)}."
        )
    if naming.band_names is None and not all(isinstance(name, str) for name in names):
        raise TimoError(
            f"The {size} bands of {variable.name} in {path} have no names, only {names[:4]}. Say them: "
            "band_names=[...], in the order of the file."
        )
    return [(((band, i),), (name,) if name else ()) for i, name in enumerate(names)]


def _numbers(variable: xr.DataArray) -> Numbers:
    """What CF attributes say of the numbers (CF conventions, sections 2.5.1 and 8.1)."""
    attrs: Mapping[Any, Any] = variable.attrs
    said = "scale_factor" in attrs or "add_offset" in attrs
    fill = attrs.get("_FillValue", attrs.get("missing_value"))
    nodata = None if fill is None or np.size(fill) != 1 else float(np.asarray(fill).item())
    return Numbers(
        variable.dtype.name,
        None if nodata is None or np.isnan(nodata) else nodata,
        float(attrs.get("scale_factor", 1.0)) if said else None,
        float(attrs.get("add_offset", 0.0)) if said else None,
    )


def _north_up(variable: xr.DataArray, y: str, x: str) -> xr.DataArray:
    """The same with rows from north to south and columns from west to east; nothing is read."""
    for dim, descending in ((y, True), (x, False)):
        values = variable[dim].values
        if values.size > 1 and (values[-1] < values[0]) != descending:
            variable = variable.isel({dim: slice(None, None, -1)})
    return variable


def _grid(variable: xr.DataArray, y: str, x: str, path: Path) -> FileGrid:
    steps = {dim: _step(variable, dim, path) for dim in (y, x)}
    dy, dx = steps[y] or -abs(steps[x]), steps[x] or abs(steps[y])
    if not dx or not dy:
        raise TimoError(f"{path} is a single cell, and does not say how large it is.")
    crs = variable.rio.crs
    if crs is None and y.lower().startswith("lat"):
        crs = "EPSG:4326"  # CF's latitude and longitude, of which it says no more
    if crs is None:
        raise TimoError(
            f"{path} has no coordinate reference system (grid_mapping of {variable.name}). If you know it, write it "
            'into the file: dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
        )
    left, top = float(variable[x].values[0]) - dx / 2, float(variable[y].values[0]) - dy / 2
    name = crs if isinstance(crs, str) else name_of_crs(crs.to_wkt())
    return FileGrid(name, Affine(dx, 0, left, 0, dy, top), variable.sizes[y], variable.sizes[x])


def _step(variable: xr.DataArray, dim: str, path: Path) -> float:
    """Step of a coordinate; 0 if it has one value only."""
    if dim not in variable.coords or variable[dim].ndim != 1:
        raise TimoError(
            f"{dim} of {variable.name} in {path} has no coordinate: where its cells are is not known."
        )
    values = variable[dim].values.astype("float64")
    if values.size == 1:
        return 0.0
    step = float(values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    if not step or not np.allclose(values, even, rtol=0, atol=abs(step) * _UNEVEN):
        raise TimoError(
            f"{dim} of {variable.name} in {path} must be evenly spaced; bring it onto a regular grid first."
        )
    return step
