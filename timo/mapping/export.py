"""Maps to files that other software opens: cloud-optimised GeoTIFF, Zarr, NetCDF, GeoJSON."""

import json
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from dask.system import CPU_COUNT
from xarray.backends.locks import HDF5_LOCK

from timo.atomic import check_name, replacing
from timo.checks import AnyNumber, NotNegative, PathLike, checked, is_number
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError, warn
from timo.mapping.geotiff import (
    SOFTWARE,
    check_dims,
    grid_transform,
    own_nodata,
    resolve_nodata,
    warn_of_comparison,
    write_geotiff,
)
from timo.mapping.polygons import write_geojson
from timo.mapping.provenance import clean
from timo.mapping.tables import write_table

PROVENANCE = "provenance"
_NODATA = ("_FillValue", "missing_value", "nodata", "fill_value", "nodatavals")
# How numbers were packed into integers, which says nothing of floats made of them.
_PACKING = ("scale_factor", "add_offset", "_Unsigned", "valid_range", "valid_min", "valid_max")
_SUFFIXES = {".tif": "tif", ".tiff": "tif", ".zarr": "zarr", ".nc": "nc", ".geojson": "geojson"}


@checked
def export(
    data: xr.DataArray | xr.Dataset | pd.DataFrame,
    path: PathLike,
    *,
    nodata: AnyNumber | None = None,
    provenance: Mapping[Any, Any] | None = None,
    overwrite: bool = True,
    smallest_ha: NotNegative = 0.0,
) -> Path:
    """Write a map, or a table of chips, parcels or points, to a file; the suffix of `path` says which.

    ``.tif``, ``.tiff``
        A cloud-optimised GeoTIFF (tiled, DEFLATE, overviews: nearest for integers, average for floats), north up, with
        a band for each element of the dimension that is not y or x. The bands are described by its coordinate (class
        names, dates as ISO 8601). The tags ``ACQUISITION_DATE``, ``TIMO_SENSOR`` and ``TIMO_BAND`` hold the one date,
        ``attrs["sensor"]`` and the one band (or name). Of a Dataset, ``label`` is written, or its only variable.
    ``.zarr``
        A Zarr store (format 3) with every variable and coordinate, in the chunks of dask.
    ``.nc``
        NetCDF-4, where netCDF4 or h5netcdf is installed.
    ``.geojson``
        Polygons of a (y, x) map of classes, in degrees, see `timo.mapping.to_polygons`: read into memory as a whole.
    ``.gpkg``, ``.geojson``, ``.parquet``, ``.csv``
        Of a table (a GeoDataFrame of `timo.predict`): GeoPackage, GeoJSON in degrees, GeoParquet, or a CSV with
        longitude and latitude, and WKT unless all are points.

    Dask-backed data are computed a few blocks at a time: memory is bounded by the chunks, not by the map. The output
    appears under its name only when it is complete.

    Parameters
    ----------
    data : xarray.DataArray, xarray.Dataset or geopandas.GeoDataFrame
        A table; or (y, x), (any, y, x) or, but for GeoTIFF, any more dimensions (of a size over 1); in any order, with
        evenly spaced cell centres y and x, and a CRS.
    path : path
        Where to.
    nodata : float, optional
        The value that means "no data". By default the one that `data` bears (``.rio.nodata``), unless their type cannot
        hold it, as after a cast; else -1 for labels (signed integers with ``attrs["classes"]``), NaN for floats, none
        for others. NaN is written as this value. rioxarray, GDAL, QGIS and `timo.open_cube` read it back from every
        format. Integers stay integers when xarray opens Zarr or NetCDF: the value is in the attribute ``nodata`` and is
        the fill value of the array, without the attribute ``_FillValue``, which would make them floats. Only 8-bit
        integers in NetCDF have that too, as GDAL reads nothing else of them.
    provenance : mapping, optional
        What `timo.mapping.provenance.provenance` returned; by default what `data` bears, as `timo.predict` and an
        earlier export leave it. It is written as JSON: the tag ``TIMO_PROVENANCE`` of a GeoTIFF, the attribute
        ``provenance`` elsewhere.
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
        If the suffix is unknown, the folder cannot be written, the disk is full, there is no CRS or no even grid, the
        values do not fit the format, or something stands at `path` that may not be replaced. An older output is then as
        it was.
    """
    path = check_name(path)
    if isinstance(data, pd.DataFrame):
        return _export_table(data, path, nodata, provenance, smallest_ha, overwrite=overwrite)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(_SUFFIXES)
        raise TimoError(f"Unknown output format '{path.suffix}' of '{path.name}': use {known}.")
    _check_replaceable(path, kind, overwrite=overwrite)
    if smallest_ha and kind != "geojson":
        raise TimoError(
            f"smallest_ha is for polygons: leave it out, or write a .geojson, not '{path.name}'."
        )
    check_dims(data)
    _check_crs(data)
    clear = _in_utc(_without_stale(data))
    record = provenance if provenance is not None else _read_record(clear)
    if kind == "tif":
        write_geotiff(_one_variable(clear), path, nodata, record)
    elif kind == "geojson":
        write_geojson(clear, path, nodata, record, smallest_ha)
    else:
        _write_store(clear, path, kind, nodata, record)
    return path


def _export_table(
    data: pd.DataFrame,
    path: Path,
    nodata: float | None,
    provenance: Mapping[str, Any] | None,
    smallest_ha: float,
    *,
    overwrite: bool,
) -> Path:
    """Write a table; options of maps are refused."""
    if nodata is not None or smallest_ha:
        raise TimoError("nodata= and smallest_ha= are options of maps: leave them out for a table.")
    _check_replaceable(path, path.suffix, overwrite=overwrite)
    return write_table(data, path, provenance if provenance is not None else _read_record(data))


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
            "The data have no coordinate reference system, so no other software could place them: "
            'set it with data.rio.write_crs("EPSG:...").'
        )


def _in_utc(data: Any) -> Any:
    """Return data whose dates have no time zone, which no format holds."""
    zoned = {dim: i for dim, i in data.indexes.items() if getattr(i, "tz", None) is not None}
    return data.assign_coords({dim: index.tz_convert(None) for dim, index in zoned.items()})


def _without_stale(data: Any) -> Any:
    """Return a copy with the nodata value in one place, and without what was true before a cast or a comparison.

    xarray keeps attributes through arithmetic: `label == 1` bears the classes and the nodata value of the labels.
    """
    if isinstance(data, xr.Dataset):
        data = data.rename({name: str(name) for name in data.data_vars})
        return data.assign({name: _without_stale(array) for name, array in data.data_vars.items()})
    warn_of_comparison(data)
    kind, own = data.dtype.kind, own_nodata(data)
    said = [data.attrs[key] for key in _NODATA if is_number(data.attrs.get(key))]
    if own is None and kind in "iu" and said:
        warn(
            f"The nodata value of the data, {said[0]}, does not fit {data.dtype}, so none is written. Pass the one "
            "that they have now, as nodata=."
        )
    stale = {*_NODATA, *(_PACKING if kind in "bf" else ()), *(("classes",) if kind == "b" else ())}
    data = data.copy(deep=False)
    data.attrs = {key: value for key, value in data.attrs.items() if key not in stale}
    data.encoding = {key: value for key, value in data.encoding.items() if key not in stale}
    if own is not None:
        data.attrs["nodata"] = own
    return data


def _one_variable(data: xr.DataArray | xr.Dataset) -> xr.DataArray:
    if isinstance(data, xr.DataArray):
        return data
    names = [str(name) for name in data.data_vars]
    if "label" not in names and len(names) != 1:
        raise TimoError(
            f"A GeoTIFF holds one variable and this Dataset has {names}: choose one, "
            f'as in export(data["{names[0] if names else "..."}"], ...), make them bands, as in data.to_array("band"), '
            "or write all to a .zarr"
        )
    chosen = data["label" if "label" in names else names[0]]
    credit = {k: v for k, v in data.attrs.items() if k == "attribution"}
    return chosen.assign_attrs(credit | chosen.attrs)


def _read_record(data: xr.DataArray | xr.Dataset | pd.DataFrame) -> Mapping[str, Any] | None:
    record = data.attrs.get(PROVENANCE)
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError:  # a user's own words
            record = {"note": record}
    return record if record is None or isinstance(record, Mapping) else {"note": record}


def _write_store(
    data: xr.DataArray | xr.Dataset,
    path: Path,
    kind: str,
    nodata: float | None,
    record: Mapping[str, Any] | None,
) -> None:
    engine: Any = netcdf_engine(writing=True) if kind == "nc" else None
    store, filled = _as_store(data, kind, nodata)
    if record is not None:
        store.attrs[PROVENANCE] = json.dumps(clean(record))
    try:
        with replacing(path) as partial, warnings.catch_warnings():
            # The metadata are consolidated all the same: without it, xarray warns when it reads.
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            if engine is None:
                # A pool of its own is waited for: after a failure, no thread goes on writing chunks.
                workers = dask.config.get("num_workers", None) or CPU_COUNT
                with ThreadPoolExecutor(workers) as pool, dask.config.set(pool=pool):
                    store.to_zarr(partial, mode="w", zarr_format=3, consolidated=True)
            else:
                _fit_netcdf(store).to_netcdf(partial, engine=engine)
                _hide_fill(partial, filled, engine)
    except (RuntimeError, ValueError) as error:
        if "illegal characters" not in str(error) and "unable to infer dtype" not in str(error):
            raise
        raise TimoError(
            f"Cannot write '{path.name}': {error}. Rename it, make it numbers, text or dates without a time zone, or "
            "leave it out, as in data.drop_vars(...)."
        ) from error


def _as_store(
    data: xr.DataArray | xr.Dataset, kind: str, nodata: float | None
) -> tuple[xr.Dataset, list[str]]:
    """Return a copy whose encoding and attributes are ours, and the variables whose `_FillValue` is to be hidden."""
    crs = data.rio.crs
    if isinstance(data, xr.DataArray):
        taken = data.name is None or data.name in data.coords
        data = data.to_dataset(name="data" if taken else str(data.name))
    _check_fits(data, kind, nodata)
    marks = {name: resolve_nodata(array, nodata) for name, array in data.data_vars.items()}
    # What another file was encoded with (its filters, its scale) does not fit this one.
    # GDAL takes the last dimension of NetCDF for x.
    store = data.drop_encoding().transpose(..., "y", "x")
    store.attrs = clean(store.attrs) | {"software": SOFTWARE}
    for name in list(store.variables):
        store[name] = _plain(store[name], kind)
    store = store.rio.write_crs(crs).rio.write_transform(grid_transform(store))
    hidden = []
    for name, array in store.data_vars.items():
        value = marks.get(name)
        if value is not None:
            floats, value = array.dtype.kind == "f", array.dtype.type(value)
            array.encoding["_FillValue" if floats or kind == "nc" else "fill_value"] = value
            if not floats and (kind == "zarr" or array.dtype.itemsize > 1):
                array.attrs["nodata"] = value
                hidden.append(str(name))
        # Named here, the CRS is a coordinate again where the file is opened without options.
        array.encoding["coordinates"] = " ".join(
            str(c) for c in array.coords if c not in array.dims and " " not in str(c)
        )
    return store, hidden


def _check_fits(data: xr.Dataset, kind: str, nodata: float | None) -> None:
    """Raise a TimoError where a store could not hold the data."""
    for dim, index in data.indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise TimoError(
                f'The dimension {dim} is made of several, which a .{kind} cannot hold: use data.unstack("{dim}")'
            )
    for name, array in data.data_vars.items():
        if "/" in str(name) or not str(name).strip("."):
            raise TimoError(
                f'A variable of a .{kind} cannot be called "{name}": rename it, as in data.rename("...")'
            )
        held = "iufbMmOSUT" if kind == "nc" else "iufcbMmOSUT"
        if array.dtype.kind not in held or (array.dtype.kind in "fc" and array.dtype.itemsize > 8):
            raise TimoError(
                f'A .{kind} cannot hold {array.dtype} values: convert them first, as in data.real.astype("float32")'
            )
        if array.dtype == bool and nodata is not None:
            raise TimoError(
                f"nodata={nodata!r} does not fit bool values in a .{kind}: leave it out, or convert the data first, as "
                'in data.astype("int16")'
            )


def _hide_fill(path: Path, names: list[str], engine: str) -> None:
    """Drop the attribute `_FillValue` of NetCDF variables, and leave the fill value itself.

    GDAL (so QGIS and rioxarray) reads the fill value; xarray reads the attribute, and makes floats of what has it.
    """
    # HDF5 is not made for threads, and another may be reading through xarray.
    if engine == "netcdf4":
        from netCDF4 import Dataset

        with HDF5_LOCK, Dataset(path, "a") as file:
            for name in names:
                file[name].delncattr("_FillValue")
    else:
        from h5py import File

        with HDF5_LOCK, File(path, "a") as file:
            for name in names:
                del file[name].attrs["_FillValue"]


def _plain(array: xr.DataArray, kind: str) -> xr.DataArray:
    """Return a variable with attributes that JSON holds, strings of any length, even chunks."""
    ours = (*_NODATA, "grid_mapping", "coordinates")
    attrs = {k: v for k, v in clean(array.attrs).items() if k not in ours}
    if array.dtype == np.float16 and kind == "nc":
        array = array.astype("float32")
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
            if not _is_netcdf_attribute(value):
                attrs[name] = json.dumps(value)
    for name, array in store.data_vars.items():
        if array.dtype.kind in "iufb" and array.ndim:
            store[name].encoding.update(zlib=True, complevel=4)
    return store


def _is_netcdf_attribute(value: Any) -> bool:
    if isinstance(value, list):
        of_text = {isinstance(item, str) for item in value}
        return len(of_text) == 1 and all(
            not isinstance(v, list) and _is_netcdf_attribute(v) for v in value
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, str | float | np.generic)
