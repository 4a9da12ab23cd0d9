"""A map as a cloud-optimised GeoTIFF, written window by window; and what its values say of no data and place."""

import datetime as dt
import errno
import json
import zlib
from collections.abc import Hashable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from affine import Affine
from rasterio.windows import Window

from timo.atomic import replacing
from timo.cube import spacing
from timo.cube.nodata import as_held, own_nodata
from timo.errors import TimoError, warn
from timo.mapping.provenance import clean

SOFTWARE = f"timo {version('timo')}"  # by which `timo.open_cube` knows its own
TILE = 512  # pixels, the COG driver's own default
_TILE_BYTES = 64e6  # of a tile with all of its bands, which GDAL holds in memory as one
# Blocks computed at once: enough to overlap reading and computing, few enough to stay small.
AT_ONCE = 4
_EXACT = 2**53  # GDAL keeps nodata as text of a float: larger integers come back as others

Region = tuple[slice, slice, slice]  # band, y, x


def write_geotiff(
    data: xr.DataArray, path: Path, nodata: float | None, record: Mapping[str, Any] | None
) -> None:
    """Write a cloud-optimised GeoTIFF; see `timo.mapping.export.export`."""
    data = _as_raster(data)
    nodata = _fit_tag(data, resolve_nodata(data, nodata))
    names, tags = _band_names(data), _tags(data, record)
    bands, height, width = data.shape
    # Plain first: the COG layout puts overviews before the pixels, so it cannot be streamed to.
    # Uncompressed, because a block of dask rarely ends where a tile of the file does, and a
    # compressed tile that is written twice leaves its first version behind.
    with replacing(path) as partial:
        pixels = partial.with_name(f"{partial.name}.pixels.tif")
        with rasterio.open(
            pixels,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype=data.dtype.name,
            crs=data.rio.crs,
            transform=grid_transform(data),
            nodata=nodata,
            tiled=True,
            blockxsize=_even_tile(width),
            blockysize=_even_tile(height),
            interleave="band",
            bigtiff="IF_SAFER",
        ) as file:
            file.descriptions = names
            file.scales = _per_band(data, "scale_factor", 1.0)
            file.offsets = _per_band(data, "add_offset", 0.0)
            file.update_tags(**tags)
            written = _write_blocks(data, file, nodata)
        rasterio.shutil.copy(
            pixels,
            partial,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=_square_tile(data),
            # The mean of two classes is not a class.
            overview_resampling="AVERAGE" if data.dtype.kind == "f" else "NEAREST",
            bigtiff="IF_SAFER",
        )
        _verify(partial, written)


# --- no data


def warn_of_comparison(data: xr.DataArray) -> None:
    """Warn of booleans that were made of labels by a comparison: there, a pixel without data is False like another."""
    if data.dtype == bool and ("classes" in data.attrs or data.attrs.get("nodata") is not None):
        warn(
            "This map of True and False is a comparison of labels: pixels without data (cloud) are False, or True "
            'after "not equal", like all others. To keep them apart, use (label == 1).astype("int8").where(label >= 0, '
            '-1).assign_attrs(classes=["false", "true"]).'
        )


def resolve_nodata(data: xr.DataArray, nodata: float | None) -> float | None:
    """Return the value that means "no data", as the type of the data holds it.

    Raises
    ------
    TimoError
        If it is given and the type of the data cannot hold it.
    """
    kind = data.dtype.kind
    if kind not in "iufb":
        return None
    if nodata is None:
        own = own_nodata(data)
        default = {"f": np.nan, "i": -1 if "classes" in data.attrs else None}
        return own if own is not None else default.get(kind)
    dtype = np.dtype("uint8") if kind == "b" else data.dtype
    held = as_held(nodata, dtype)
    if held is None:
        limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        raise TimoError(
            f"nodata={nodata!r} does not fit {data.dtype} values: pass one from {limits.min} to {limits.max}, "
            f'or convert the data first, as in data.astype("{_wider(dtype, nodata)}")'
        )
    return held


def _wider(dtype: np.dtype, value: Any) -> np.dtype:
    """Return a type that holds both the data and the value."""
    try:
        if dtype.kind != "f" and value == int(value):
            wider = np.promote_types(dtype, np.min_scalar_type(int(value)))
            return wider if wider.kind in "iuf" else np.dtype("float64")
    except (TypeError, ValueError, OverflowError):
        pass
    small = dtype.itemsize <= 2 and as_held(value, np.dtype("float32")) is not None
    return np.dtype("float32" if small else "float64")


def _fit_tag(data: xr.DataArray, nodata: float | None) -> float | None:
    if isinstance(nodata, int) and abs(nodata) > _EXACT:
        raise TimoError(
            f"A GeoTIFF holds a nodata value of at most 2**53, and that of the data is {nodata}: choose another, as in "
            f"export(data.where(data != {nodata}, {-1 if data.dtype.kind == 'i' else _EXACT}), ..., "
            f"nodata={-1 if data.dtype.kind == 'i' else _EXACT}), or write a .zarr"
        )
    return nodata


def _without_nan(values: np.ndarray, nodata: float | None) -> np.ndarray:
    if values.dtype.kind != "f" or nodata is None or np.isnan(nodata):
        return values
    return np.where(np.isnan(values), values.dtype.type(nodata), values)


# --- grid


def check_dims(data: xr.DataArray | xr.Dataset) -> None:
    """Raise a TimoError unless the data have y and x, and at least a cell."""
    if not {"y", "x"} <= set(data.dims):
        raise TimoError(
            f"A map has the dimensions y and x, and the data have {list(data.dims)}: rename them, "
            'as in data.rename(latitude="y", longitude="x")'
        )
    if not all(data.sizes.values()):
        raise TimoError(f"There is nothing to export: the data have the shape {dict(data.sizes)}")


def grid_step(data: xr.DataArray | xr.Dataset, dim: str) -> float:
    """Return the signed spacing of the cell centres along y or x."""
    if data.sizes[dim] != 1:
        return spacing(data, dim, "data")
    # One row has no spacing; what wrote the CRS usually noted it.
    cell = data.rio.transform()
    step = cell.a if dim == "x" else cell.e
    if cell == Affine.identity() or not step:
        raise TimoError(
            f"The data have a single cell along {dim}, so its size is not known. Note it beside the CRS, as in "
            "data.rio.write_transform(affine.Affine(width, 0, west, 0, -height, north))."
        )
    return float(step)


def grid_transform(data: xr.DataArray | xr.Dataset) -> Affine:
    """Return the affine transform from pixel corners to the CRS."""
    # From the coordinates: the transform noted beside the CRS is not kept up to date by .isel().
    dx, dy = grid_step(data, "x"), grid_step(data, "y")
    west, north = float(data["x"][0]) - dx / 2, float(data["y"][0]) - dy / 2
    return Affine(dx, 0.0, west, 0.0, dy, north)


def _as_raster(data: xr.DataArray) -> xr.DataArray:
    """Return (band-like, y, x), north up and west left, in a type that GeoTIFF knows."""
    check_dims(data)
    if data.dtype.kind not in "buif" or data.dtype.itemsize > 8:
        raise TimoError(
            f"A GeoTIFF cannot hold {data.dtype} values: convert them first, "
            'as in data.astype("float32")'
        )
    if data.ndim > 3:  # one date, one band: still known, as coordinates of no dimension
        data = data.squeeze([dim for dim in _others(data) if data.sizes[dim] == 1])
    others = _others(data)
    if len(others) > 1:
        chosen = ", ".join(f"{dim}=0" for dim in others[:-1])
        raise TimoError(
            f"A GeoTIFF has one dimension besides y and x, and the data have {others}: choose, "
            f"as in data.isel({chosen}), make them one, as in data.stack(layer={others}), or write all to a .zarr"
        )
    data = data.astype({"bool": "uint8", "float16": "float32"}.get(data.dtype.name, data.dtype))
    if not others:
        data = data.expand_dims("layer")
    data = data.transpose(..., "y", "x")
    if data.shape[0] > np.iinfo("uint16").max:
        raise TimoError(
            f"A GeoTIFF has up to 65535 bands, and the data {data.shape[0]}: write a .zarr"
        )
    backwards = {"y": grid_step(data, "y") > 0, "x": grid_step(data, "x") < 0}
    return data.isel({dim: slice(None, None, -1) for dim, flip in backwards.items() if flip})


def _others(data: xr.DataArray) -> list[Hashable]:
    return [dim for dim in data.dims if dim not in ("y", "x")]


def _even_tile(size: int) -> int:
    """Return a multiple of 16, the step of TIFF, at most `TILE`, that leaves little of the last tile empty."""
    tiles = -(-size // TILE)
    return -(-size // (16 * tiles)) * 16


def _square_tile(data: xr.DataArray) -> int:
    """Return the size of the tiles of the output: no larger than a small map, nor than the memory for all bands."""
    bands, height, width = data.shape
    tile = 128  # the COG driver's smallest
    while tile < TILE and tile < min(height, width):
        tile *= 2
    while tile > 128 and tile**2 * bands * data.dtype.itemsize > _TILE_BYTES:
        tile //= 2
    return tile


# --- names and dates


def _band_names(data: xr.DataArray) -> list[str]:
    dim, bands = data.dims[0], data.shape[0]
    long_name = data.attrs.get("long_name")
    if dim in data.coords:
        names = [_text(value) for value in data[dim].values]
        # rioxarray counts the bands of a file, and keeps their names beside.
        if isinstance(long_name, list | tuple) and names == [str(i + 1) for i in range(bands)]:
            names = [str(name) for name in long_name] if len(long_name) == bands else names
    elif bands == 1:
        names = [_layer(data) or str(long_name or "band")]
    else:
        names = [f"{dim} {i + 1}" for i in range(bands)]
    for name in names:
        if (
            name != name.strip()
            or not name
            or any(ord(sign) < 32 and sign not in "\n\t" for sign in name)
        ):
            raise TimoError(
                f"A GeoTIFF cannot have a band called {name!r} (nothing, spaces at an end, control characters): "
                f"rename it, as in data.assign_coords({dim}=[...]), or write a .zarr"
            )
    return names


def _layer(data: xr.DataArray) -> str | None:
    """Return the name of the one band of the data, if they are of one."""
    band = data.coords.get("band")
    if band is not None and not band.ndim and band.dtype.kind in "UTO":
        return _text(band.values.item())
    return None if data.name is None else str(data.name)


def _text(value: Any) -> str:
    """Return a name; of a date ISO 8601, in UTC."""
    if isinstance(value, tuple):  # of dimensions that were stacked
        return "_".join(map(_text, value))
    if hasattr(value, "calendar"):  # cftime's
        try:
            if value.calendar == "julian":
                raise ValueError
            value = pd.Timestamp(value.isoformat())
        except ValueError as error:
            raise TimoError(
                f"{value} of the calendar {value.calendar} is no date that a GeoTIFF could name: write a .nc, which "
                "keeps calendars"
            ) from error
    if not isinstance(value, np.datetime64 | dt.date):
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if pd.isna(value):
        raise TimoError(
            "One of the dates is missing (NaT): leave it out, as in data.sel(time=data.time.notnull()) or, of a single "
            'date, data.drop_vars("time")'
        )
    moment = pd.Timestamp(value)
    moment = moment if moment.tz is None else moment.tz_convert(None)
    return moment.date().isoformat() if moment == moment.normalize() else moment.isoformat()


def _tags(data: xr.DataArray, record: Mapping[str, Any] | None) -> dict[str, str]:
    # No TIFFTAG_DATETIME: it is the date of writing, and was taken for that of the image.
    tags = {"TIFFTAG_SOFTWARE": SOFTWARE}
    time = data.coords.get("time")
    if time is not None and time.size == 1 and time.dtype.kind in "MOUT":
        tags["ACQUISITION_DATE"] = _text(time.values.ravel()[0])
    if isinstance(data.attrs.get("sensor"), str):
        tags["TIMO_SENSOR"] = data.attrs["sensor"]
    if data.dims[0] not in ("band", "class") and (layer := _layer(data)):
        tags["TIMO_BAND"] = layer
    title = data.attrs.get("long_name", data.name)
    if isinstance(title, str):
        tags["TIFFTAG_IMAGEDESCRIPTION"] = title
    of_cube = record.get("cube", {}) if record is not None else {}
    attribution = data.attrs.get("attribution", of_cube.get("attribution"))
    if attribution is not None:
        tags["TIFFTAG_COPYRIGHT"] = str(clean(attribution))
    if "classes" in data.attrs:
        tags["CLASSES"] = json.dumps(dict(enumerate(map(str, data.attrs["classes"]))))
    if record is not None:
        tags["TIMO_PROVENANCE"] = json.dumps(clean(record))
    return tags


# --- pixels


def _per_band(data: xr.DataArray, key: str, default: float) -> np.ndarray:
    given = np.ravel(data.attrs.get(key, default))
    fits = given.size in (1, data.shape[0]) and given.dtype.kind in "iuf"
    return np.broadcast_to(given.astype("float64") if fits else default, data.shape[0])


def _write_blocks(
    data: xr.DataArray, file: rasterio.io.DatasetWriter, nodata: float | None
) -> list[tuple[Region, int]]:
    """Write the data a few blocks at a time, and return the checksum of each."""
    regions = list(_regions(data))
    written = []
    for start in range(0, len(regions), AT_ONCE):
        batch = regions[start : start + AT_ONCE]
        blocks = dask.compute(*(data[region].data for region in batch))
        for region, block in zip(batch, blocks, strict=True):
            values = np.ascontiguousarray(_without_nan(block, nodata))
            file.write(values, **_place(region))
            written.append((region, zlib.crc32(values.data)))
    return written


def _verify(path: Path, written: list[tuple[Region, int]]) -> None:
    # GDAL writes its last tiles when a file is closed, and a disk that is full by then is only
    # logged: without this, a file cut short would pass for a complete one.
    try:
        with rasterio.open(path) as file:
            same = all(
                zlib.crc32(file.read(**_place(r)).data) == checksum for r, checksum in written
            )
    except rasterio.errors.RasterioIOError:
        same = False
    if not same:
        raise OSError(errno.EIO, "What was written does not read back", str(path))


def _place(region: Region) -> dict[str, Any]:
    bands, ys, xs = region
    return {
        "indexes": list(range(bands.start + 1, bands.stop + 1)),
        "window": Window.from_slices(ys, xs),
    }


def _regions(data: xr.DataArray) -> Iterator[Region]:
    """Yield slices (band, y, x) that cover the data: a chunk of dask each, else a strip of whole rows."""
    _, height, width = data.shape
    rows = min(height, 1024)
    strip = (max(1, 2**21 // (rows * width)), rows, width)
    steps = data.chunks or tuple(map(_pieces, data.shape, strip))
    of_bands, ys, xs = (list(_slices(sizes)) for sizes in steps)
    yield from ((band, y, x) for y in ys for x in xs for band in of_bands)


def _pieces(size: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, size - start) for start in range(0, size, step))


def _slices(sizes: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size
