"""NetCDF and Zarr: variables on a grid, as the CF conventions describe them; and cubes of timo's own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from timo.crs import crs_name, metres_per_unit, read_crs
from timo.cube.check import DIMS, check
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, SENSORS, get_sensor
from timo.sources.cache.checked import DamagedError
from timo.sources.cache.stores import checked_store
from timo.sources.dates import Moment, cf_moments, make_open_span
from timo.sources.files.find import Kind
from timo.sources.files.inventory import (
    Found,
    Inventory,
    date_of,
    identities_of,
    no_date,
    placed,
)
from timo.sources.files.naming import Naming, read_bands
from timo.sources.place.grid import grid_of
from timo.sources.reading import ArrayLayer, Numbers
from timo.sources.request import make_sensor

_AXES = {
    "y": ({"y", "lat", "latitude", "northing"}, {"projection_y_coordinate", "latitude"}),
    "x": ({"x", "lon", "longitude", "easting"}, {"projection_x_coordinate", "longitude"}),
    "time": ({"time", "t", "date", "dates", "datetime", "timestamp", "valid_time"}, {"time"}),
}
_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000),
}
# Coordinates are often rounded, each on its own.
_UNEVEN = 0.05
# Whole numbers without a date that take no more values than this, anywhere, are classes.
_CLASSES = 64


def open_dataset(path: Path, kind: Kind, *, raw: bool = True, chunks: Any = None) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily; raw: with numbers and dates as they are in the file."""
    # Without consolidated metadata: not every store has them, and to look for them in vain warns.
    store: Any = {"engine": "zarr", "consolidated": False}
    try:
        what = checked_store(path) or path if kind == "zarr" else _shared_handle(path)
        if kind != "zarr":
            store = {"engine": netcdf_engine() if what is path else "store"}
        # Attributes that CF has a use for may hold something else: then they are left alone.
        decode = {"decode_times": False, "decode_coords": True} if raw else {"decode_coords": "all"}
        return xr.open_dataset(what, mask_and_scale=not raw, chunks=chunks, **decode, **store)  # type: ignore[arg-type]
    except DamagedError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise TimoError(
            f"{path} cannot be read as {kind}: {error}. It is damaged or something else: write or download it again, "
            "or leave it out."
        ) from error


class _Handle(xr.backends.NetCDF4DataStore):
    """An open file that is closed when nobody needs it any more."""

    __slots__ = ("__weakref__",)


def _shared_handle(path: Path) -> Any:
    """Return one handle for each NetCDF file; its path where netCDF4 does not read it.

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


@dataclass(frozen=True)
class _File:
    """A file that is being listed: its variables on a grid are named, and dated, together."""

    path: Path
    dataset: xr.Dataset
    naming: Naming
    place: tuple[int, int]
    sole: bool

    @property
    def ours(self) -> bool:
        """Return whether timo wrote it."""
        attrs = self.dataset.attrs
        return str(attrs.get("software", "")).startswith("timo") or "provenance" in attrs


def find_arrays(paths: Sequence[Path], kind: Kind, naming: Naming) -> Inventory:
    """Find the layers of NetCDF files or Zarr stores; only coordinates are read.

    Raises
    ------
    TimoError
        If a file cannot be read, has no grid, or its dates or bands have no name.
    """
    found: list[Found] = []
    tags: dict[Path, dict[Any, Any]] = {}
    ours = True
    for position, path in enumerate(paths):
        dataset = open_dataset(path, kind)
        variables = _gridded(dataset, path)
        sensor = {str(v.attrs.get("sensor", "")).lower() for v in (dataset, *variables)} & set(
            SENSORS
        )
        tags[path] = dict(dataset.attrs) | (
            {"TIMO_SENSOR": sensor.pop()} if len(sensor) == 1 else {}
        )
        file = _File(path, dataset, naming, (position, len(paths)), len(variables) == 1)
        ours &= file.ours
        for variable, own in _named(variables, file):
            found += _layers(variable, replace(file, naming=own))
    return Inventory(found, identities_of(tags), ours)


def _named(variables: Sequence[xr.DataArray], file: _File) -> list[tuple[xr.DataArray, Naming]]:
    """Pair variables with the names that the user gives them, of several in the order of the file."""
    given = file.naming.band_names
    if file.sole or given is None:
        return [(variable, file.naming) for variable in variables]
    if len(variables) != len(given):
        listed = ", ".join(str(variable.name) for variable in variables)
        raise TimoError(
            f"{file.path} has {len(variables)} variables on a grid ({listed}), but band_names names {len(given)}."
        )
    pairs = zip(variables, given, strict=True)
    return [(v, replace(file.naming, band_names=(name,))) for v, name in pairs if name]


def _axis(variable: xr.DataArray, axis: str) -> str | None:
    """Return the dim of a variable that is y, x or time."""
    names, standard = _AXES[axis]
    for dim in map(str, variable.dims):
        attrs = variable[dim].attrs if dim in variable.coords else {}
        said = attrs.get("standard_name") in standard or attrs.get("axis") == axis[0].upper()
        if dim.lower() in names or said:
            return dim
    return None


def _gridded(dataset: xr.Dataset, path: Path) -> list[xr.DataArray]:
    """Return variables that lie on a grid."""
    variables = [v for v in dataset.data_vars.values() if v.dtype.kind in "iuf"]
    variables = [v for v in variables if _axis(v, "y") and _axis(v, "x")]
    if not variables:
        listed = ", ".join(f"{name} {v.dims}" for name, v in dataset.data_vars.items())
        raise TimoError(
            f"{path} has no variable on a grid (y, x) or (lat, lon); it has: {listed or 'none'}. A NetCDF of groups "
            "or of points has to be converted first."
        )
    return variables


def _layers(variable: xr.DataArray, file: _File) -> list[Found]:
    """Return the layers of a variable: one for each date and band."""
    y, x, time = (_axis(variable, axis) for axis in ("y", "x", "time"))
    assert y is not None
    assert x is not None
    others = [str(d) for d in variable.dims if d not in (y, x, time)]
    if len(others) > 1:
        raise TimoError(
            f"{variable.name} in {file.path} has the dims {variable.dims}: beside time, y and x only one more can be "
            "read, the bands. Select one of the others first."
        )
    band = others[0] if others else None
    moments, bands = _moments(variable, time, file), _bands(variable, band, file)
    variable = _north_up(variable, y, x)
    grid, numbers = _grid(variable, y, x, file), numbers_of(variable)
    variable = variable.transpose(*filter(None, (time, band)), y, x)
    found = []
    for when, moment in moments:
        label = f"{variable.name} of {file.path} ({moment})"
        for which, names in bands:
            if names:
                at = (*when, *which)
                layer = ArrayLayer(str(file.path), numbers, grid, variable, at, label)
                found.append(Found(layer, moment, names))
    return found


# --- Dates and bands -------------------------------------------------------------------------------------------------

_Part = tuple[tuple[str, int], ...]


def _moments(variable: xr.DataArray, time: str | None, file: _File) -> list[tuple[_Part, Moment]]:
    """Return the dates of a variable, each with its position.

    A coordinate comes before the name of the file; where it has bounds, their start is the date.
    """
    path, size = file.path, 1 if time is None else variable.sizes[time]
    own = _own_moments(variable, time, file)
    if own is not None and time is not None and file.naming.dates is not None:
        raise TimoError(f"{path} has dates of its own, in {time}: leave dates= out.")
    if time is not None:
        moments = own or file.naming.moments(path, *file.place, size)
        if moments is None:
            raise TimoError(
                f"{time} of {variable.name} in {path} has no coordinate, so its {size} dates are not known: give them "
                "with dates=[...]."
            )
        return [(((time, i),), moment) for i, moment in enumerate(moments)]
    given = file.naming.moments(path, *file.place, 1)
    moment = (
        given[0]
        if given
        else date_of(path, {**file.dataset.attrs, **variable.attrs}, own[0] if own else None)
    )
    if moment is None:
        raise _labels(variable, path) or no_date(path)
    return [((), moment)]


def _own_moments(variable: xr.DataArray, time: str | None, file: _File) -> list[Moment] | None:
    """Return the dates of a coordinate of time, which may be a scalar; None if there is none."""
    scalars = (str(n) for n, c in variable.coords.items() if c.ndim == 0)
    name = time or next((n for n in scalars if n.lower() in _AXES["time"][0]), None)
    if name is None or name not in variable.coords:
        return None
    coordinate, data = variable.coords[name], file.dataset
    bounds, values = coordinate.attrs.get("bounds", ""), coordinate.values
    if isinstance(bounds, str) and bounds in data and data[bounds].ndim == coordinate.ndim + 1:
        values = data[bounds].values[..., 0]
    return cf_moments(values, coordinate.attrs, f"{name} of {file.path}")


def _labels(variable: xr.DataArray, path: Path) -> TimoError | None:
    """Return the error to raise for a map of classes, which has no date."""
    codes = np.unique(variable.values) if variable.dtype.kind in "iu" else np.empty(0)
    if not 0 < codes.size <= _CLASSES:
        return None
    listed = ", ".join(map(str, codes[:8].tolist())) + (" ..." if codes.size > 8 else "")
    return TimoError(
        f"{variable.name} in {path} has no date, and {codes.size} different whole numbers ({listed}): a map of "
        "classes, it seems, and not an image. Labels are read with rioxarray.open_rasterio, and given to timo beside "
        "the cube; if it is an image, give dates=[...]."
    )


def _bands(
    variable: xr.DataArray, band: str | None, file: _File
) -> list[tuple[_Part, tuple[str, ...]]]:
    """Return the bands of a variable, each with its position and what it may be called."""
    path, given = file.path, file.naming.band_names
    if band is None:
        if text := file.naming.group(path, "band"):
            return [((), (text,))]
        if given is not None:
            if len(given) > 1:
                raise TimoError(
                    f"{variable.name} in {path} has no dim of bands, but band_names names {len(given)}."
                )
            return [((), tuple(filter(None, given)))]
        scalar = variable.coords.get("band")
        text = (
            str(scalar.item())
            if scalar is not None and scalar.ndim == 0 and scalar.dtype.kind in "UOT"
            else ""
        )
        said = (text, str(variable.name), str(variable.attrs.get("long_name", "")))
        return [((), (*filter(None, said), *((path.stem,) if file.sole else ())))]
    size = variable.sizes[band]
    own = variable[band].values.tolist() if band in variable.coords else [None] * size
    described = variable.attrs.get("long_name", "")
    if not isinstance(described, str) and len(described) == size:
        own = [str(name) for name in described]  # as rioxarray keeps descriptions
    elif file.ours and band in variable.coords:
        own = [str(name) for name in own]  # numbers are names only where somebody chose them
    names: Sequence[Any] = given or own
    if len(names) != size:
        raise TimoError(
            f"{variable.name} in {path} has {size} bands, but band_names names {len(names)}."
        )
    if given is None and not all(isinstance(name, str) for name in names):
        raise TimoError(
            f"The {size} bands of {variable.name} in {path} have no names, only {names[:4]}. Say them: "
            "band_names=[...], in the order of the file."
        )
    return [(((band, i),), (name,) if name else ()) for i, name in enumerate(names)]


# --- Numbers ---------------------------------------------------------------------------------------------------------


def numbers_of(variable: xr.DataArray) -> Numbers:
    """Return what attributes say of the numbers (CF conventions, sections 2.5 and 8.1; NetCDF Users Guide).

    A value that the numbers cannot have any more, of a file that was converted, is ignored.
    """
    attrs: Mapping[Any, Any] = variable.attrs
    dtype = variable.dtype
    unsigned = dtype.kind == "i" and str(attrs.get("_Unsigned", "")).lower() == "true"
    held = np.dtype(f"u{dtype.itemsize}") if unsigned else dtype
    factor, plus = (_floats(attrs.get(key)) for key in ("scale_factor", "add_offset"))
    scale, offset = factor[0] if factor else None, plus[0] if plus else None
    if scale is not None or offset is not None:
        scale, offset = 1.0 if scale is None else scale, offset or 0.0

    def packed(key: str) -> list[float]:
        values = _floats(attrs.get(key))
        if scale and dtype.kind in "iu" and np.asarray(attrs.get(key)).dtype.kind == "f":
            return [
                (value - (offset or 0)) / scale for value in values
            ]  # of values, not of numbers
        return [v + 2.0 ** (8 * dtype.itemsize) if unsigned and v < 0 else v for v in values]

    fills = ("_FillValue", "missing_value", "nodata", "_Nodata", "_NoData", "nodata_value")
    nodata = dict.fromkeys(v for key in fills for v in _held(_floats(attrs.get(key)), held))
    both = packed("valid_range") if len(_floats(attrs.get("valid_range"))) == 2 else []
    low = max([-np.inf, *both[:1], *packed("valid_min")])
    high = min([np.inf, *both[1:], *packed("valid_max")])
    valid = (low, high) if low < high and np.isfinite([low, high]).any() else None
    return Numbers(dtype.name, tuple(nodata), valid, scale, offset, unsigned)


def _floats(value: Any) -> list[float]:
    """Return numbers of an attribute, which may be a list or a text; nothing if it holds none."""
    parts = value.split(",") if isinstance(value, str) else np.ravel([] if value is None else value)
    try:
        return [float(part) for part in parts]
    except (TypeError, ValueError):
        return []


def _held(values: Sequence[float], dtype: np.dtype) -> list[float]:
    """Return those of some numbers that a type can hold; NaN is no valid number anyway."""
    finite = [value for value in values if np.isfinite(value)]
    if dtype.kind == "f":
        # As the file has it: -3.4028e38 in double precision is another number than in single.
        return [float(dtype.type(v)) for v in finite if abs(v) <= np.finfo(dtype).max * (1 + 1e-6)]
    limits = np.iinfo(dtype)
    # A fill value of an unsigned variable is stored as its signed twin.
    twins = [v + 2.0**limits.bits if v < 0 and limits.min == 0 else v for v in finite]
    return [v for v in twins if v == int(v) and limits.min <= v <= limits.max]


# --- grids


def _north_up(variable: xr.DataArray, y: str, x: str) -> xr.DataArray:
    """Return the same with rows from north to south and columns from west to east; nothing is read."""
    for dim, descending in ((y, True), (x, False)):
        if dim in variable.coords and variable[dim].ndim == 1:
            values = variable[dim].values
            if values.size > 1 and (values[-1] < values[0]) != descending:
                variable = variable.isel({dim: slice(None, None, -1)})
    return variable


def _grid(variable: xr.DataArray, y: str, x: str, file: _File) -> GeoBox:
    path = file.path
    crs = _crs(variable, file.dataset, y, path)
    system = pyproj.CRS(crs)
    ends = {dim: _even(variable, dim, system, path) for dim in (y, x)}
    dy, dx = ends[y][1] or -abs(ends[x][1]), ends[x][1] or abs(ends[y][1])
    if not dx or not dy:
        raise TimoError(f"{path} is a single cell, and does not say how large it is.")
    left, top = (
        _simple_multiple(ends[x][0] - dx / 2, dx / 2, ends[x][2]),
        _simple_multiple(ends[y][0] - dy / 2, dy / 2, ends[y][2]),
    )
    height, width = variable.sizes[y], variable.sizes[x]
    remedy = 'Write the right coordinates or CRS: dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
    grid = GeoBox((height, width), Affine(dx, 0, left, 0, dy, top), crs)
    return placed(grid, f"{x} and {y} of {path}", remedy)


def _crs(variable: xr.DataArray, dataset: xr.Dataset, y: str, path: Path) -> str:
    """Return the name of the CRS: of the grid mapping, the only one there is, or CF's latitude and longitude."""
    named = variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping") or ""
    keys = ("crs_wkt", "spatial_ref", "grid_mapping_name")
    mappings = [
        dataset[n]
        for n in dataset.variables
        if dataset[n].ndim == 0 and any(k in dataset[n].attrs for k in keys)
    ]
    chosen = [m for m in mappings if str(m.name) == str(named).split(":")[0]] or mappings
    if chosen:
        attrs = chosen[0].attrs
        text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
        if text is None:
            try:
                text = pyproj.CRS.from_cf(dict(attrs)).to_wkt()
            except (pyproj.exceptions.CRSError, KeyError, ValueError) as error:
                raise TimoError(
                    f"The grid mapping {chosen[0].name} of {path} is not understood: {error}. Write the CRS again: "
                    'dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
                ) from error
        return crs_name(read_crs(text, what="the file's crs"))
    for key in ("crs", "epsg", "EPSG", "proj:code", "proj:epsg"):
        if isinstance(said := dataset.attrs.get(key), str | int | np.integer):
            return crs_name(
                read_crs(int(said) if str(said).isdigit() else said, what=f"{key} of {path}")
            )
    if y.lower().startswith("lat"):
        return "EPSG:4326"  # CF's latitude and longitude, of which it says no more
    raise TimoError(
        f"{path} has no coordinate reference system (grid_mapping of {variable.name}). If you know it, write it "
        'into the file: dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
    )


def _even(
    variable: xr.DataArray, dim: str, crs: pyproj.CRS, path: Path
) -> tuple[float, float, float]:
    """Return first value, step (0 if there is one value only) and rounding of a coordinate, in the unit of the CRS."""
    if dim not in variable.coords or variable[dim].ndim != 1:
        raise TimoError(
            f"{dim} of {variable.name} in {path} has no coordinate: where its cells are is not known."
        )
    coordinate = variable[dim]
    dtype = coordinate.dtype if coordinate.dtype.kind == "f" else np.dtype("float64")
    values = coordinate.values.astype("float64")
    if not np.isfinite(values).all():
        raise TimoError(f"{dim} of {variable.name} in {path} has missing values.")
    rounding = float(np.spacing(np.abs(values).max().astype(dtype)))
    factor = _to_unit(coordinate, crs, path)
    if values.size == 1:
        return float(values[0]) * factor, 0.0, rounding * factor
    step = float(values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    if not step or not np.allclose(values, even, rtol=0, atol=abs(step) * _UNEVEN + rounding):
        raise TimoError(
            f"{dim} of {variable.name} in {path} must be evenly spaced; bring it onto a regular grid first."
        )
    return (
        float(values[0]) * factor,
        _simple(step, 2 * rounding / (values.size - 1)) * factor,
        rounding * factor,
    )


def _simple(number: float, slack: float) -> float:
    """Return the number with the fewest digits within a slack: coordinates in single precision are rounded."""
    return next(
        (s for n in range(1, 16) if abs((s := float(f"{number:.{n}g}")) - number) <= slack), number
    )


def _simple_multiple(number: float, of: float, slack: float) -> float:
    """Return the nearest multiple of a length, if it is within a slack."""
    near = round(number / of) * of
    return near if abs(near - number) <= slack else number


def _to_unit(coordinate: xr.DataArray, crs: pyproj.CRS, path: Path) -> float:
    """Return by what a coordinate is multiplied to be in the unit of the CRS.

    Raises
    ------
    TimoError
        If its units attribute is of another kind.
    """
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    if not units or units == "1":
        return 1.0
    degrees = units.startswith("degree")
    if crs.is_geographic and degrees:
        return 1.0
    if not crs.is_geographic and units in _METRES:
        return _METRES[units] / metres_per_unit(crs)
    unit = crs.axis_info[0].unit_name
    if not crs.is_geographic and units.rstrip("s") in (unit, unit.rstrip("s")):
        return 1.0
    raise TimoError(
        f"{coordinate.name} of {path} is in {units!r}, and the unit of its CRS {crs.name!r} is the {unit}. Write the "
        "right CRS, or coordinates in that unit."
    )


# --- cubes of timo's own


def own_cubes(paths: Sequence[Path], kind: Kind, chunk: int) -> list[xr.DataArray] | None:
    """Return the cubes in the files, lazy, if each holds one that timo wrote; else None.

    Chunks are those of the files; of files that have none, one date of `chunk` cells a side.
    """
    cubes = []
    for path in paths:
        names = [str(name) for name, v in open_dataset(path, kind).data_vars.items() if _is_cube(v)]
        if len(names) != 1:
            return None
        cut = open_dataset(path, kind, raw=False)[names[0]].encoding.get("preferred_chunks")
        chunks = {} if cut else {"time": 1, "band": -1, "y": chunk, "x": chunk}
        cubes.append(open_dataset(path, kind, raw=False, chunks=chunks)[names[0]])
    return cubes


def _is_cube(variable: xr.DataArray) -> bool:
    named = variable.attrs.get("sensor") in SENSORS
    return (
        named
        and variable.dims == DIMS
        and variable.dtype == np.float32
        and "band" in variable.coords
    )


def join_cubes(
    cubes: Sequence[xr.DataArray],
    paths: Sequence[Path],
    *,
    start: Any,
    end: Any,
    sensor: Any,
    bands: Sequence[str] | None,
) -> xr.DataArray:
    """Return one cube of several that follow one another in time, or a part of it.

    Raises
    ------
    TimoError
        If they are of different sensors, on different grids, have a date twice, or lack what is asked for.
    """
    cube, instrument = cubes[0], get_sensor(cubes[0].attrs["sensor"])
    if sensor is not None and make_sensor(sensor) is not instrument:
        raise TimoError(
            f"{paths[0]} is a cube of {instrument.name}, and not of sensor={make_sensor(sensor).name!r}."
        )
    for other, path in zip(cubes[1:], paths[1:], strict=True):
        _check_follows(other, path, cube, paths[0])
    if len(cubes) > 1:
        same = [other.assign_coords(y=cube.y, x=cube.x) for other in cubes]
        how: Any = {"join": "exact", "coords": "minimal", "compat": "override"}
        cube = xr.concat(same, "time", combine_attrs="drop_conflicts", **how).sortby("time")
    have = cube.band.values.tolist()
    if bands is not None:
        names = read_bands(bands, instrument)
        if missing := [name for name in names if name not in have]:
            raise TimoError(f"The cube has no band {missing[0]!r}. It has: {', '.join(have)}.")
        cube = cube.sel(band=list(names))
    index = cube.indexes["time"]
    first, after = make_open_span(start, end, index[0], index[-1])
    kept = np.flatnonzero((index >= first) & (index < after))
    if not kept.size:
        raise TimoError(
            f"No date between start={start!r} and end={end!r}: the cube goes from {index[0]:%Y-%m-%d} to "
            f"{index[-1]:%Y-%m-%d}."
        )
    name = "backscatter" if set(cube.band.values.tolist()) & set(POLARISATIONS) else "reflectance"
    whole = kept.size == index.size
    return check((cube if whole else cube.isel(time=kept)).rename(name))


def _check_follows(cube: xr.DataArray, path: Path, first: xr.DataArray, other: Path) -> None:
    """Refuse a cube that cannot be joined to another in time."""
    mine, theirs = cube.attrs["sensor"], first.attrs["sensor"]
    if mine != theirs:
        raise TimoError(f"{path} is a cube of {mine}, {other} of {theirs}: open them one by one.")
    if list(cube.band.values) != list(first.band.values):
        raise TimoError(
            f"{path} has the bands {cube.band.values.tolist()}, {other} has {first.band.values.tolist()}. Open "
            "those that both have, one by one with bands=[...], and join them with xarray.concat."
        )
    if grid_of(cube) != grid_of(first):
        raise TimoError(
            f"{path} is on another grid ({grid_of(cube)}) than {other} ({grid_of(first)}). Give resolution= or aoi= to "
            "bring them onto one."
        )
    if twice := cube.indexes["time"].intersection(first.indexes["time"]).tolist():
        raise TimoError(
            f"{twice[0]:%Y-%m-%d} is in {other} and in {path}. Leave one out, or select dates first."
        )
