"""NetCDF and Zarr: variables on a grid, as the CF conventions describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.sensors import identify
from timo.sensors.registry import find_sensor
from timo.sources.dates import Moment, cf_moments
from timo.sources.files.coordinates import grid_of_variable, north_up
from timo.sources.files.datasets import open_dataset
from timo.sources.files.find import Kind
from timo.sources.files.inventory import Found, Inventory, date_of, identities_of, no_date, texts_of
from timo.sources.files.naming import Naming, misnamed
from timo.sources.reading import ArrayLayer, Numbers

_AXES = {
    "y": ({"y", "lat", "latitude", "northing"}, {"projection_y_coordinate", "latitude"}),
    "x": ({"x", "lon", "longitude", "easting"}, {"projection_x_coordinate", "longitude"}),
    "time": ({"time", "t", "date", "dates", "datetime", "timestamp", "valid_time"}, {"time"}),
}
# Attributes with numbers of no data: of the CF conventions, and of GDAL, rasterio and other programs.
_FILLS = (
    *("_FillValue", "missing_value", "nodata", "_Nodata", "_NoData"),
    *("no_data", "nodata_value", "nodatavals"),
)
# Whole numbers without a date that take no more values than this, anywhere, are classes.
_CLASSES = 64


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
    """Find the layers of NetCDF files or Zarr stores; only coordinates are read."""
    found: list[Found] = []
    tags: dict[Path, dict[Any, Any]] = {}
    ours = True
    for position, path in enumerate(paths):
        dataset = open_dataset(path, kind)
        variables = _gridded(dataset, path)
        said = {str(v.attrs.get("sensor", "")).lower() for v in (dataset, *variables)}
        known = {name for name in said if find_sensor(name) is not None}
        tags[path] = {**dataset.attrs, **({"TIMO_SENSOR": known.pop()} if len(known) == 1 else {})}
        file = _File(path, dataset, naming, (position, len(paths)), len(variables) == 1)
        ours &= file.ours
        for variable, own in _named(variables, file):
            if not known and identify("", texts_of(variable.attrs)):
                tags[path / str(variable.name)] = {**dataset.attrs, **variable.attrs}
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
    variables = [v for v in dataset.data_vars.values() if v.dtype.kind in "iufb"]
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
    variable = north_up(variable, y, x)
    grid = grid_of_variable(variable, file.dataset, y, x, file.path)
    numbers = numbers_of(variable)
    variable = variable.transpose(*filter(None, (time, band)), y, x)
    found = []
    for i, moment in enumerate(moments):
        label = f"{variable.name} of {file.path} ({moment})"
        for j, names in enumerate(bands):
            if names:
                at = tuple(n for n, dim in ((i, time), (j, band)) if dim is not None)
                layer = ArrayLayer(str(file.path), numbers, grid, variable, at, label)
                found.append(Found(layer, moment, names))
    return found


# --- dates and bands


def _moments(variable: xr.DataArray, time: str | None, file: _File) -> list[Moment]:
    """Return the dates of a variable.

    A coordinate comes before the name of the file; where it has bounds, their start is the date.
    """
    path, own = file.path, _own_moments(variable, time, file)
    if time is None:
        if given := file.naming.moments(path, *file.place, 1):
            return given
        attrs = {**file.dataset.attrs, **variable.attrs}
        moment = date_of(path, attrs, own[0] if own else None)
        if moment is None:
            raise _labels(variable, path) or no_date(path)
        return [moment]
    if own is not None and file.naming.dates is not None:
        raise TimoError(f"{path} has dates of its own, in {time}: leave dates= out.")
    size = variable.sizes[time]
    moments = own or file.naming.moments(path, *file.place, size)
    if moments is None:
        raise TimoError(
            f"{time} of {variable.name} in {path} has no coordinate, so its {size} dates are not known: give them "
            "with dates=[...]."
        )
    return moments


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


def _bands(variable: xr.DataArray, band: str | None, file: _File) -> list[tuple[str, ...]]:
    """Return what each band of a variable may be called; nothing for one that is left out."""
    path, given = file.path, file.naming.band_names
    if band is None:
        if text := file.naming.group(path, "band"):
            return [(text,)]
        if given is not None:
            if len(given) > 1:
                mend = "It has no dim of bands: name one."
                raise misnamed(f"{variable.name} in {path}", 1, given, mend)
            return [tuple(filter(None, given))]
        scalar = variable.coords.get("band")
        if scalar is not None and scalar.ndim == 0 and scalar.dtype.kind in "UOT":
            text = str(scalar.item())
        stem = path.stem if file.sole else ""
        said = (text or "", variable.name, variable.attrs.get("long_name", ""), stem)
        return [tuple(str(name) for name in said if name)]
    size = variable.sizes[band]
    own = variable[band].values.tolist() if band in variable.coords else [None] * size
    described = variable.attrs.get("long_name", "")
    if not isinstance(described, str) and len(described) == size:
        own = [str(name) for name in described]  # as rioxarray keeps descriptions
    elif file.ours and band in variable.coords:
        own = [str(name) for name in own]  # numbers are names only where a user chose them
    names: Sequence[Any] = given or own
    if len(names) != size:
        raise misnamed(f"{variable.name} in {path}", size, names, "Name each, in their order.")
    if given is None and not all(isinstance(name, str) for name in names):
        raise TimoError(
            f"The {size} bands of {variable.name} in {path} have no names, only {names[:4]}. Say them: "
            "band_names=[...], in the order of the file."
        )
    return [(name,) if name else () for name in names]


# --- numbers


def numbers_of(variable: xr.DataArray) -> Numbers:
    """Return what attributes say of the numbers (CF conventions, sections 2.5 and 8.1; NetCDF Users Guide).

    A value that the numbers cannot have any more, of a file that was converted, is ignored.
    """
    attrs: Mapping[Any, Any] = variable.attrs
    dtype = variable.dtype
    unsigned = dtype.kind == "i" and str(attrs.get("_Unsigned", "")).lower() == "true"
    factor, plus = (_floats(attrs.get(key)) for key in ("scale_factor", "add_offset"))
    scale, offset = factor[0] if factor else None, plus[0] if plus else None
    if scale is not None or offset is not None:
        scale, offset = 1.0 if scale is None else scale, offset or 0.0

    def packed(key: str) -> list[float]:
        values = _floats(attrs.get(key))
        if scale and dtype.kind in "iu" and np.asarray(attrs.get(key)).dtype.kind == "f":
            return [(v - (offset or 0)) / scale for v in values]  # of values, not of numbers
        return [v + 2.0 ** (8 * dtype.itemsize) if unsigned and v < 0 else v for v in values]

    nodata = [v for key in _FILLS for v in _held(_floats(attrs.get(key)), dtype, unsigned=unsigned)]
    both = packed("valid_range") if len(_floats(attrs.get("valid_range"))) == 2 else []
    low = max([-np.inf, *both[:1], *packed("valid_min")])
    high = min([np.inf, *both[1:], *packed("valid_max")])
    valid = (low, high) if low < high and np.isfinite([low, high]).any() else None
    return Numbers(dtype.name, tuple(dict.fromkeys(nodata)), valid, scale, offset, unsigned)


def _floats(value: Any) -> list[float]:
    """Return numbers of an attribute, which may be a list or a text; nothing if it holds none."""
    if isinstance(value, str):
        value = [part for part in value.strip("()[] ").split(",") if part.strip()]
    parts = np.ravel([] if value is None else value)
    try:
        return [float(part) for part in parts]
    except (TypeError, ValueError):
        return []


def _held(values: Sequence[float], dtype: np.dtype, *, unsigned: bool) -> list[float]:
    """Return those of some numbers that a type can hold; NaN is no valid number anyway."""
    finite = [value for value in values if np.isfinite(value)]
    if dtype.kind == "f":
        # As the file has it: -3.4028e38 in double precision is another number than in single.
        return [float(dtype.type(v)) for v in finite if abs(v) <= np.finfo(dtype).max * (1 + 1e-6)]
    if dtype.kind == "b":
        return [v for v in finite if v in (0, 1)]
    limits = np.iinfo(f"u{dtype.itemsize}" if unsigned else dtype)
    # Only signed numbers that stand for unsigned ones have a signed twin; else it is left from another type.
    twins = [v + 2.0**limits.bits if unsigned and v < 0 else v for v in finite]
    return [v for v in twins if v == int(v) and limits.min <= v <= limits.max]
