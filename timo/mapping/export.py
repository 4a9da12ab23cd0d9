"""Maps to files that other software opens: cloud-optimised GeoTIFF, Zarr, NetCDF, GeoJSON."""

import importlib.util
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from timo.atomic import replacing
from timo.errors import TimoError
from timo.mapping.geotiff import (
    check_dims,
    grid_transform,
    resolve_nodata,
    write_geotiff,
)
from timo.mapping.polygons import write_geojson
from timo.mapping.provenance import clean

PROVENANCE = "provenance"
_SUFFIXES = {".tif": "tif", ".tiff": "tif", ".zarr": "zarr", ".nc": "nc", ".geojson": "geojson"}


def export(
    data: xr.DataArray | xr.Dataset,
    path: str | os.PathLike[str],
    *,
    nodata: float | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    smallest_ha: float = 0.0,
) -> Path:
    """Write a map to a file; the suffix of `path` says which.

    ``.tif``, ``.tiff``
        A cloud-optimised GeoTIFF (tiled, DEFLATE, overviews: nearest for integers, average for
        floats), north up, with a band for each element of the dimension that is not y or x. The
        bands are named for its coordinate (class names, dates). Of a Dataset, ``label`` is written,
        or its only variable.
    ``.zarr``
        A Zarr store (format 3) with every variable and coordinate, in the chunks of dask.
    ``.nc``
        NetCDF-4, where netCDF4 or h5netcdf is installed.
    ``.geojson``
        Polygons of a (y, x) map of classes, in degrees, see `timo.mapping.to_polygons`: read into
        memory as a whole.

    Dask-backed data are computed a few blocks at a time: memory is bounded by the chunks, not by
    the map. The output appears under its name only when it is complete.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        (y, x), (any, y, x) or, but for GeoTIFF, any more dimensions; evenly spaced cell centres y
        and x, and a CRS.
    path : path
        Where to.
    nodata : float, optional
        The value that means "no data". By default the one that `data` bears (``.rio.nodata``),
        else -1 for labels (signed integers with ``attrs["classes"]``), NaN for floats, none for
        others. NaN is written as this value. Integers stay integers in every format: Zarr and
        NetCDF bear it as the attribute ``nodata``, which ``.rio.nodata`` reads.
    provenance : mapping, optional
        What `timo.mapping.provenance.provenance` returned; by default what `data` bears, as
        `timo.predict` and an earlier export leave it. It is written as JSON: the tag
        ``TIMO_PROVENANCE`` of a GeoTIFF, the attribute ``provenance`` elsewhere.
    overwrite : bool
        Whether an older output at `path` is replaced.
    smallest_ha : float
        Of ``.geojson``: polygons smaller than this, in hectares, are left out.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TimoError
        If the suffix is unknown, the folder cannot be written, there is no CRS or no even grid, the
        values do not fit the format, or something stands at `path` that may not be replaced.
    """
    path = Path(path).expanduser()
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(_SUFFIXES)
        raise TimoError(f"unknown output format '{path.suffix}' of '{path.name}': use {known}")
    _check_replaceable(path, kind, overwrite=overwrite)
    if smallest_ha and kind != "geojson":
        raise TimoError(f"smallest_ha is for polygons (.geojson); '{path.name}' is none")
    if not isinstance(data, xr.DataArray | xr.Dataset):
        raise TimoError(
            f"an xarray DataArray or Dataset can be exported, not a {type(data).__name__}"
        )
    check_dims(data)
    _check_crs(data)
    record = provenance if provenance is not None else _read_record(data)
    if kind == "tif":
        write_geotiff(_one_variable(data), path, nodata, record)
    elif kind == "geojson":
        write_geojson(data, path, nodata, record, smallest_ha)
    else:
        _write_store(data, path, kind, nodata, record)
    return path


def _check_replaceable(path: Path, kind: str, *, overwrite: bool) -> None:
    if not path.exists():
        return
    if not overwrite:
        raise TimoError(f"'{path}' exists: choose another name, or pass overwrite=True")
    # A folder is deleted for the new one, so it must be what it is taken for.
    is_store = path.is_dir() and any((path / n).exists() for n in ("zarr.json", ".zgroup"))
    if (kind == "zarr" and not is_store) or (kind != "zarr" and path.is_dir()):
        expected = "Zarr store" if kind == "zarr" else "file"
        raise TimoError(
            f"'{path}' exists and is not a {expected}: choose another name, or remove it"
        )


def _check_crs(data: xr.DataArray | xr.Dataset) -> None:
    if data.rio.crs is None:
        raise TimoError(
            "the data have no coordinate reference system, so no other software could place them: "
            'set it with data.rio.write_crs("EPSG:...")'
        )


def _one_variable(data: xr.DataArray | xr.Dataset) -> xr.DataArray:
    if isinstance(data, xr.DataArray):
        return data
    names = [str(name) for name in data.data_vars]
    if "label" not in names and len(names) != 1:
        raise TimoError(
            f"a GeoTIFF holds one variable and this Dataset has {names}: choose one, "
            f'as in export(data["{names[0] if names else "..."}"], ...), or write all to a .zarr'
        )
    chosen = data["label" if "label" in names else names[0]]
    credit = {k: v for k, v in data.attrs.items() if k == "attribution"}
    return chosen.assign_attrs(credit | chosen.attrs)


def _read_record(data: xr.DataArray | xr.Dataset) -> Mapping[str, Any] | None:
    record = data.attrs.get(PROVENANCE)
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError:  # somebody's own words
            record = {"note": record}
    return record if record is None or isinstance(record, Mapping) else {"note": record}


def _write_store(
    data: xr.DataArray | xr.Dataset,
    path: Path,
    kind: str,
    nodata: float | None,
    record: Mapping[str, Any] | None,
) -> None:
    engine = _netcdf_engine() if kind == "nc" else None
    store = _as_store(data, nodata)
    if record is not None:
        store.attrs[PROVENANCE] = json.dumps(clean(record))
    with replacing(path) as partial:
        if engine is not None:
            _fit_netcdf(store).to_netcdf(partial, engine=engine)
            return
        with warnings.catch_warnings():
            # The metadata are consolidated all the same: without it, xarray warns whoever reads.
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            store.to_zarr(partial, mode="w", zarr_format=3, consolidated=True)


def _netcdf_engine() -> Literal["netcdf4", "h5netcdf"]:
    if importlib.util.find_spec("netCDF4"):
        return "netcdf4"
    if importlib.util.find_spec("h5netcdf"):
        return "h5netcdf"
    raise TimoError("writing .nc needs a package: pip install netCDF4, or write to a .zarr")


def _as_store(data: xr.DataArray | xr.Dataset, nodata: float | None) -> xr.Dataset:
    """Return a copy whose encoding and attributes are ours, ready for Zarr and NetCDF."""
    crs = data.rio.crs
    if isinstance(data, xr.DataArray):
        taken = data.name is None or data.name in data.coords
        data = data.to_dataset(name="data" if taken else data.name)
    marks = {name: _mark(array, nodata) for name, array in data.data_vars.items()}
    # What another file was encoded with (its filters, its scale) does not fit this one.
    store = data.drop_encoding()
    store.attrs = clean(store.attrs)
    for name in list(store.variables):
        store[name] = _plain(store[name])
    store = store.rio.write_crs(crs).rio.write_transform(grid_transform(store))
    for name, (attrs, encoding) in marks.items():
        array = store[name]
        array.attrs.update(attrs)
        array.encoding.update(encoding)
        # Named here, the CRS is a coordinate again for whoever opens the file without options.
        array.encoding["coordinates"] = " ".join(
            str(c) for c in array.coords if c not in array.dims and " " not in str(c)
        )
    return store


def _mark(array: xr.DataArray, nodata: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes and the encoding that tell the nodata value of a variable.

    Integers get an attribute: a `_FillValue` would make them floats when they are read.
    """
    if array.dtype.kind not in "iuf":
        return {}, {}
    value = resolve_nodata(array, nodata)
    if value is None or np.isnan(value):
        return {}, {}
    if array.dtype.kind == "f":
        return {}, {"_FillValue": array.dtype.type(value)}
    return {"nodata": value}, {}


def _plain(array: xr.DataArray) -> xr.DataArray:
    """Return a variable with attributes that JSON holds, strings of any length, even chunks."""
    ours = ("_FillValue", "missing_value", "grid_mapping", "coordinates", "nodata")
    attrs = {k: v for k, v in clean(array.attrs).items() if k not in ours}
    if array.dtype.kind in "UT":  # of fixed length, or numpy's own: not in the formats' standards
        array = array.astype(object)
    if array.chunks is not None:
        array = array.chunk(dict(zip(array.dims, map(_even, array.chunks), strict=True)))
    array = array.copy(deep=False)
    array.attrs = attrs
    return array


def _even(sizes: tuple[int, ...]) -> int:
    """Return the one chunk size for a dimension: Zarr knows no others, but for a short last one."""
    even = len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    return sizes[0] if even else max(sizes)


def _fit_netcdf(store: xr.Dataset) -> xr.Dataset:
    """Bring attributes and types to what NetCDF knows, and compress."""
    for attrs in (store.attrs, *(variable.attrs for variable in store.variables.values())):
        for name, value in attrs.items():
            if isinstance(value, dict | bool | None):
                attrs[name] = json.dumps(value)
    for name, array in store.data_vars.items():
        if array.dtype == np.float16:
            store[name] = array.astype("float32")
        if array.dtype.kind in "iufb" and array.ndim:
            store[name].encoding.update(zlib=True, complevel=4)
    return store
