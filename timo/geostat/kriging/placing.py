"""The reference system of what is told on a grid: kept in whichever form the grid had it."""

from typing import TypeVar

import pyproj
import xarray as xr

Placed = TypeVar("Placed", xr.DataArray, xr.Dataset)


def with_crs(told: Placed, crs: pyproj.CRS | None) -> Placed:
    """Write the reference system where it is looked for: on points attrs["crs"], on a raster the coord spatial_ref.

    Parameters
    ----------
    told
        On the grid, with the coordinates of the grid.
    crs
        Of the grid; None leaves it as it is.
    """
    if crs is None:
        return told
    if "point" in told.dims:
        told.attrs["crs"] = crs.to_string()
        if isinstance(told, xr.Dataset):
            for variable in told.data_vars.values():
                variable.attrs["crs"] = crs.to_string()
        return told
    written = told.coords.get("spatial_ref")
    if written is not None and {"crs_wkt", "spatial_ref"} & set(written.attrs):
        return told
    return told.assign_coords(spatial_ref=((), 0, crs.to_cf()))
