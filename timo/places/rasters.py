"""Classes and values of a raster on any grid, carried to the grid of a cube."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import rioxarray
import xarray as xr
from rasterio.enums import Resampling as Method
from rasterio.warp import reproject

from timo.checks import described, plain
from timo.crs import read_crs, transformer
from timo.cube import check_grid, grid_mismatch
from timo.cube.labels import UNLABELLED
from timo.cube.netcdf import netcdf_engine
from timo.cube.nodata import own_nodata
from timo.errors import TimoError
from timo.places.burning import Grid
from timo.places.names import Naming, make_naming, name_of

Resampling = Literal["majority", "nearest", "mean"]
SUFFIXES = (".tif", ".tiff", ".vrt", ".img", ".jp2", ".asc", ".bil", ".nc", ".nc4", ".zarr")
# Cells around the cube, which a kernel may reach.
_MARGIN = 2
# What a cell may be besides a class.
OUTSIDE, MISSING, IGNORED = 0, 1, 2
_STATES = 3


@dataclass(frozen=True)
class Carried:
    """Numbers of a raster on the cube's grid: (y, x) or (time, y, x), -1 or NaN = unlabelled.

    `left_out` counts cells by the state that they are in: outside, missing, ignored.
    """

    values: np.ndarray
    naming: Naming | None
    left_out: tuple[int, int, int]
    name: str
    source: xr.DataArray
    moved: bool


def is_raster(source: Any) -> bool:
    """Return whether a source is an array or the path of a raster."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in SUFFIXES
    return isinstance(source, xr.DataArray | xr.Dataset)


def open_raster(source: Any, layer: str | int | None, crs: Any) -> tuple[xr.DataArray, str]:
    """Return the layer of a raster as it stands in the file, (y, x) or (time, y, x), and its name for messages."""
    name = Path(source).name if isinstance(source, str | Path) else "The raster"
    found = _open(Path(source), name) if isinstance(source, str | Path) else source
    if isinstance(found, xr.Dataset):
        found = _variable(found, layer, name)
    if "band" in found.dims:
        found = _band(found, layer, name)
    if found.dims not in (("y", "x"), ("time", "y", "x")):
        raise TimoError(
            f'{name} must have the dims ("y", "x") or ("time", "y", "x"); got {found.dims}. Use .rename(...) or '
            '.transpose("y", "x").'
        )
    if found.dtype.kind not in "iufb":
        raise TimoError(f"{name} must hold numbers; got {found.dtype}. Use .astype(...).")
    if crs is not None:
        found = found.rio.write_crs(read_crs(crs).to_wkt())
    check_grid(found, what="raster")
    return found, name


def carry(
    raster: xr.DataArray,
    name: str,
    like: xr.DataArray | xr.Dataset,
    *,
    classes: Sequence[Any] | Mapping[Any, Any] | None,
    ignore: Sequence[Any],
    numeric: bool,
    resampling: Resampling | None,
) -> Carried:
    """Carry a raster to the grid of `like`; what is missing takes part in a majority as a class of its own."""
    raster, moved = (
        (raster, False) if not grid_mismatch(raster, like) else (_window(raster, like), True)
    )
    values = raster.to_numpy()
    missing = _missing(raster, values, classes)
    if numeric:
        if resampling == "majority":
            raise TimoError('Numbers have no majority: use resampling="mean" or "nearest".')
        numbers = _numbers(values, missing, ignore)
        onto = _onto(numbers, raster, like, "mean" if resampling is None else resampling, moved)
        gone = int(np.isnan(onto).sum())
        return Carried(onto, None, (0, gone, 0), name, raster, moved)
    if resampling == "mean":
        raise TimoError('Classes have no mean: use resampling="majority" or "nearest".')
    order = "as in classes=" if classes is not None else "as the raster states it"
    stated = _stated(raster, classes)
    naming, codes = _coded(values, missing, stated, ignore, name=name, order=order)
    onto = _onto(codes, raster, like, resampling or "majority", moved)
    left_out = tuple(int((onto == state).sum()) for state in (OUTSIDE, MISSING, IGNORED))
    labels = np.where(onto < _STATES, UNLABELLED, onto.astype("int16") - _STATES).astype("int16")
    return Carried(labels, naming, left_out, name, raster, moved)  # type: ignore[arg-type]


def _open(path: Path, name: str) -> xr.DataArray | xr.Dataset:
    path = path.expanduser()
    if not path.exists():
        raise TimoError(f"There is no file {str(path)!r} (seen from {Path.cwd()}).")
    suffix = path.suffix.lower()
    try:
        if suffix not in (".nc", ".nc4", ".zarr"):
            opened = rioxarray.open_rasterio(path, masked=False)
            assert isinstance(opened, xr.DataArray | xr.Dataset)
            return opened
        engine = "zarr" if suffix == ".zarr" else netcdf_engine()
        # As it stands in the file: its number distinguishes what is missing from a class.
        options: dict[str, Any] = {"engine": engine, "mask_and_scale": False}
        try:
            return xr.open_dataset(path, decode_coords="all", **options)
        except AttributeError:
            # An attribute such as "bounds", which names coordinates by the conventions, holds numbers.
            plain = xr.open_dataset(path, **options)
            mappings = {array.attrs.get("grid_mapping") for array in plain.data_vars.values()}
            return plain.set_coords([str(name) for name in mappings & set(plain.data_vars)])
    except TimoError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise TimoError(f"{name} cannot be read as a raster: {error}.") from error


def _variable(found: xr.Dataset, layer: str | int | None, name: str) -> xr.DataArray:
    names = [str(key) for key, array in found.data_vars.items() if {"y", "x"} <= set(array.dims)]
    if layer is None and len(names) == 1:
        layer = names[0]
    if layer not in names:
        raise TimoError(
            f"{name} has the variables {names}. Choose one with layer={(names or ['...'])[0]!r}."
        )
    return found[str(layer)]


def _band(found: xr.DataArray, layer: str | int | None, name: str) -> xr.DataArray:
    bands = [plain(band) for band in found.band.values] if "band" in found.coords else []
    if layer is None and found.sizes["band"] == 1:
        return found.isel(band=0, drop=True)
    if layer not in bands:
        raise TimoError(
            f"{name} has the bands {bands}. Choose one with layer={(bands or [1])[0]!r}."
        )
    return found.isel(band=bands.index(layer), drop=True)


def _window(raster: xr.DataArray, like: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Read no more of a raster than the part that covers a grid."""
    source, target = (read_crs(a.rio.crs.to_wkt()) for a in (raster, like))
    bounds = Grid.of(like).bounds
    if not source.equals(target, ignore_axis_order=True):
        bounds = transformer(target, source).transform_bounds(*bounds)
    chosen = {}
    for dim, low, high in (("x", bounds[0], bounds[2]), ("y", bounds[1], bounds[3])):
        centres = raster[dim].values
        cell = abs(centres[1] - centres[0]) if centres.size > 1 else high - low
        near = (centres >= low - _MARGIN * cell) & (centres <= high + _MARGIN * cell)
        at = np.flatnonzero(near)
        if not at.size:
            raise TimoError(
                f"The raster lies beside the cube: along {dim} it goes from {centres.min():.7g} to "
                f"{centres.max():.7g}, the cube from {low:.7g} to {high:.7g}. Give a raster of the same area, or its "
                "reference system with crs=."
            )
        chosen[dim] = slice(at[0], at[-1] + 1)
    return raster.isel(chosen)


def _missing(
    raster: xr.DataArray, values: np.ndarray, classes: Sequence[Any] | Mapping[Any, Any] | None
) -> np.ndarray:
    """Return where a raster has no data; a value that `classes` names is a class, whatever the file declares."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    named = {name_of(value) for value in classes} if isinstance(classes, Mapping) else set()
    nodata = own_nodata(raster)
    marks = [nodata] if nodata is not None else []
    # Labels of our own have no value but this one that means it.
    marks += [UNLABELLED] if values.dtype.kind == "i" else []
    for mark in marks:
        if name_of(mark) not in named:
            missing |= values == mark
    return missing


def _stated(
    raster: xr.DataArray, classes: Sequence[Any] | Mapping[Any, Any] | None
) -> Sequence[Any] | Mapping[Any, Any] | None:
    """Return the classes that are given, else those that the raster names itself, by number."""
    own = raster.attrs.get("classes")
    if own is None and isinstance(tag := raster.attrs.get("CLASSES"), str):
        try:
            own = json.loads(tag)
        except ValueError:
            own = None
    if isinstance(own, Mapping):
        names = {str(key): str(value) for key, value in own.items()}
    elif isinstance(own, list | tuple | np.ndarray):
        names = {str(number): str(value) for number, value in enumerate(own)}
    else:
        return classes
    if classes is None:
        return names
    if isinstance(classes, Mapping):
        return classes
    # A list of the same names, in the order that is wanted.
    wanted = [name_of(value) for value in classes]
    if set(wanted) != set(names.values()):
        return classes
    return {key: name for one in wanted for key, name in names.items() if name == one}


def _coded(
    values: np.ndarray,
    missing: np.ndarray,
    classes: Sequence[Any] | Mapping[Any, Any] | None,
    ignore: Sequence[Any],
    *,
    name: str,
    order: str,
) -> tuple[Naming, np.ndarray]:
    """Return the classes, and the state or the class (from 3 on) of each cell."""
    found = np.sort(pd.unique(values[~missing].ravel()))
    ignored = {name_of(value) for value in ignore}
    below = [v for v in found.tolist() if v < 0 and name_of(v) not in ignored]
    if classes is None and below:
        raise TimoError(
            f"{name} holds {below[0]:g}, and numbers below 0 are no classes. If it means no data, give "
            f"ignore=[{below[0]:g}]; else name the classes, as in classes={{{below[0]:g}: 'name', ...}}."
        )
    naming = make_naming(found.tolist(), classes, ignore, name, order)
    numbers = [naming.number(name_of(value)) for value in found.tolist()]
    states = np.array([IGNORED if n == UNLABELLED else n + _STATES for n in numbers], "uint16")
    codes = np.full(values.shape, MISSING, "uint16")
    if found.size:
        codes[~missing] = states[np.searchsorted(found, values[~missing])]
    return naming, codes


def _numbers(values: np.ndarray, missing: np.ndarray, ignore: Sequence[Any]) -> np.ndarray:
    if values.dtype.kind == "b":
        raise TimoError("The raster holds booleans, which are classes. Leave numeric= out.")
    numbers = values.astype("float32")
    numbers[missing] = np.nan
    for value in ignore:
        try:
            numbers[values == float(value)] = np.nan
        except (TypeError, ValueError) as error:
            raise TimoError(
                f"ignore={described(ignore)} must be numbers, as the raster's are."
            ) from error
    if np.isinf(numbers).any():
        raise TimoError(
            "The raster holds infinite values. Use raster.where(numpy.isfinite(raster))."
        )
    return numbers


def _onto(
    values: np.ndarray,
    raster: xr.DataArray,
    like: xr.DataArray | xr.Dataset,
    resampling: Resampling,
    moved: bool,
) -> np.ndarray:
    """Carry (..., y, x) numbers to the grid of `like`, 0 or NaN where the raster does not reach."""
    if not moved:
        return values
    method = {"majority": Method.mode, "nearest": Method.nearest, "mean": Method.average}[
        resampling
    ]
    floats = values.dtype.kind == "f"
    fill = np.nan if floats else OUTSIDE
    planes = values.reshape(-1, *values.shape[-2:])
    onto = np.full((len(planes), like.sizes["y"], like.sizes["x"]), fill, values.dtype)
    for plane, target in zip(planes, onto, strict=True):
        reproject(
            np.ascontiguousarray(plane),
            target,
            src_transform=Grid.of(raster).transform,
            src_crs=raster.rio.crs,
            src_nodata=np.nan if floats else None,
            dst_transform=Grid.of(like).transform,
            dst_crs=like.rio.crs,
            dst_nodata=fill if floats else None,
            resampling=method,
            init_dest_nodata=floats,
        )
    return onto.reshape(*values.shape[:-2], *onto.shape[-2:])
