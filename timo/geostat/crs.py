"""The coordinate reference system of places: read, found on an array, written short."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyproj
import xarray as xr

from timo.errors import TimoError


def crs_of(obj: xr.DataArray | xr.Dataset) -> pyproj.CRS | None:
    """Coordinate reference system, if any.

    From `attrs["crs"]`, or the attributes of the coordinate that "grid_mapping" names, of spatial_ref
    or of crs (CF conventions 1.11, 5.6).

    Raises
    ------
    TimoError
        If both are there and differ.
    """
    named = read_crs(obj.attrs.get("crs"))
    written = _written_crs(obj)
    if named is not None and written is not None and not named.equals(written, True):
        raise TimoError(
            f'Two reference systems: attrs["crs"] is {named.name!r}, spatial_ref {written.name!r}. '
            "Drop the wrong one."
        )
    return named if named is not None else written


def _written_crs(obj: xr.DataArray | xr.Dataset) -> pyproj.CRS | None:
    """CRS of the first coordinate (of a dataset also variable) that has one written on it."""
    held: Any = obj.coords if isinstance(obj, xr.DataArray) else obj.variables
    arrays = [obj] if isinstance(obj, xr.DataArray) else [obj, *obj.data_vars.values()]
    names = [
        place.get("grid_mapping") for array in arrays for place in (array.encoding, array.attrs)
    ]
    for name in dict.fromkeys([*names, "spatial_ref", "crs"]):
        about = held[name].attrs if isinstance(name, str) and name in held else {}
        wkt = about.get("crs_wkt", about.get("spatial_ref"))
        if wkt is not None:
            return read_crs(wkt)
        if "grid_mapping_name" in about:
            try:
                return read_crs(pyproj.CRS.from_cf(about))
            except (pyproj.exceptions.CRSError, KeyError) as error:
                raise TimoError(f"The CRS in the coordinate {name!r} is not understood.") from error
    return None


def read_crs(crs: Any) -> pyproj.CRS | None:
    """Make a CRS of anything that pyproj takes; None stays None.

    Raises
    ------
    TimoError
        If it is not understood, or is neither geographic nor projected.
    """
    if crs is None:
        return None
    try:
        read = _parse(
            crs if isinstance(crs, str | int) else pyproj.CRS.from_user_input(crs).to_wkt()
        )
    except pyproj.exceptions.CRSError as error:
        raise TimoError(f"The CRS {crs!r} is not understood; give it like 'EPSG:32632'.") from error
    if not (read.is_geographic or read.is_projected or read.is_engineering):
        raise TimoError(f"Distances in {read.name!r} are not along the ground. Reproject first.")
    return read


@lru_cache(maxsize=64)
def _parse(crs: str | int) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(crs)


def short(crs: pyproj.CRS) -> str:
    """EPSG:... where the CRS has such a name, else WKT: an attribute that a file can hold."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt()
