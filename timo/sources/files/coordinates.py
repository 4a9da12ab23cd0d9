"""Where files lie: in the unit of their CRS; and the cells of variables, from coordinates of their centres."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from timo.crs import LONLAT, crs_name, crs_of_mapping, meant_unit, metres_per_unit, read_crs
from timo.errors import TimoError
from timo.sources.reading.onto import apply

_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000),
}
# Coordinates are often rounded, each on its own.
_UNEVEN = 0.05


def placed(grid: GeoBox, what: str, remedy: str) -> GeoBox:
    """Return a grid that lies where its CRS is used, in degrees with its middle within 180 of Greenwich."""
    m, (height, width) = grid.affine, grid.shape
    x, y = apply(m, width / 2, height / 2)
    crs, unit = _meant(str(grid.crs), x, y)
    if unit:
        raise TimoError(
            f"{what}, such as ({x:g}, {y:g}), seem to be {unit}, and the unit of its CRS {crs.name!r} is the "
            f"{crs.axis_info[0].unit_name}. {remedy}"
        )
    turn = -360 * ((x + 180) // 360) if crs.is_geographic else 0
    moved = Affine(m.a, m.b, m.c + turn, m.d, m.e, m.f)
    return GeoBox(grid.shape, moved, grid.crs) if turn else grid


@cache
def _meant(name: str, x: float, y: float) -> tuple[pyproj.CRS, str]:
    """Return a CRS, and the unit in which a place in it must be meant; empty: its own. Many files share them."""
    crs = read_crs(name)
    if crs.is_geographic:
        return crs, "" if -360 <= x <= 540 and -91 <= y <= 91 else "metres"
    reached = pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True).transform(x, y)
    return crs, meant_unit(x, y, crs) or ("" if np.isfinite(reached).all() else "another unit")


# --- of variables


def north_up(variable: xr.DataArray, y: str, x: str) -> xr.DataArray:
    """Return the same with rows from north to south and columns from west to east; nothing is read."""
    for dim, descending in ((y, True), (x, False)):
        if dim in variable.coords and variable[dim].ndim == 1:
            values = variable[dim].values
            if values.size > 1 and (values[-1] < values[0]) != descending:
                variable = variable.isel({dim: slice(None, None, -1)})
    return variable


def grid_of_variable(
    variable: xr.DataArray, dataset: xr.Dataset, y: str, x: str, path: Path
) -> GeoBox:
    """Return the cells of a variable whose rows and columns are in order (`north_up`)."""
    crs = _crs(variable, dataset, y, path)
    system = pyproj.CRS(crs)
    (top, dy, rough_y), (left, dx, rough_x) = (_even(variable, d, system, path) for d in (y, x))
    dy, dx = dy or -abs(dx), dx or abs(dy)
    if not dx or not dy:
        raise TimoError(f"{path} is a single cell, and does not say how large it is.")
    left = _simple_multiple(left - dx / 2, dx / 2, rough_x)
    top = _simple_multiple(top - dy / 2, dy / 2, rough_y)
    remedy = 'Write the right coordinates or CRS: dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
    grid = GeoBox((variable.sizes[y], variable.sizes[x]), Affine(dx, 0, left, 0, dy, top), crs)
    return placed(grid, f"{x} and {y} of {path}", remedy)


def _crs(variable: xr.DataArray, dataset: xr.Dataset, y: str, path: Path) -> str:
    """Return the name of the CRS: of the grid mapping, the only one there is, or CF's latitude and longitude."""
    named = variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping") or ""
    keys = {"crs_wkt", "spatial_ref", "grid_mapping_name"}
    scalars = (dataset[name] for name in dataset.variables if dataset[name].ndim == 0)
    mappings = [scalar for scalar in scalars if keys & set(scalar.attrs)]
    chosen = [m for m in mappings if str(m.name) == str(named).split(":")[0]] or mappings
    if chosen:
        return crs_name(
            crs_of_mapping(chosen[0].attrs, f"The grid mapping {chosen[0].name} of {path}")
        )
    for key in ("crs", "epsg", "EPSG", "proj:code", "proj:epsg"):
        if isinstance(said := dataset.attrs.get(key), str | int | np.integer):
            code = int(said) if str(said).isdigit() else said
            return crs_name(read_crs(code, what=f"{key} of {path}"))
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
    factor, cells = _to_unit(coordinate, crs, path), max(values.size - 1, 1)
    step = float(values[-1] - values[0]) / cells
    even = values[0] + step * np.arange(values.size)
    close = np.allclose(values, even, rtol=0, atol=abs(step) * _UNEVEN + rounding)
    if values.size > 1 and not (step and close):
        raise TimoError(
            f"{dim} of {variable.name} in {path} must be evenly spaced; bring it onto a regular grid first."
        )
    return (
        float(values[0]) * factor,
        _simple(step, 2 * rounding / cells) * factor,
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
    """Return by what a coordinate is multiplied to be in the unit of the CRS."""
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    unit = crs.axis_info[0].unit_name
    if not units or units == "1":
        return 1.0
    if crs.is_geographic and units.startswith("degree"):
        return 1.0
    if not crs.is_geographic and units in _METRES:
        return _METRES[units] / metres_per_unit(crs)
    if not crs.is_geographic and units.rstrip("s") in (unit, unit.rstrip("s")):
        return 1.0
    raise TimoError(
        f"{coordinate.name} of {path} is in {units!r}, and the unit of its CRS {crs.name!r} is the {unit}. Write the "
        "right CRS, or coordinates in that unit."
    )
