"""A map as a cloud-optimised GeoTIFF, written window by window."""

import json
import zlib
from collections.abc import Iterator, Mapping
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
from timo.errors import TimoError
from timo.mapping.provenance import clean

TILE = 512  # pixels, the COG driver's own default
# Blocks computed at once: enough to overlap reading and computing, few enough to stay small.
AT_ONCE = 4

Region = tuple[slice, slice, slice]  # band, y, x


def write_geotiff(
    data: xr.DataArray, path: Path, nodata: float | None, record: Mapping[str, Any] | None
) -> None:
    """Write a cloud-optimised GeoTIFF; see `timo.mapping.export.export`."""
    data = _as_raster(data)
    nodata = resolve_nodata(data, nodata)
    # Plain first: the COG layout puts overviews before the pixels, so it cannot be streamed to.
    # Uncompressed, because a block of dask rarely ends where a tile of the file does, and a
    # compressed tile that is written twice leaves its first version behind.
    with replacing(path) as partial:
        pixels = partial.with_name(f"{partial.name}.pixels.tif")
        with rasterio.open(
            pixels,
            "w",
            driver="GTiff",
            width=data.sizes["x"],
            height=data.sizes["y"],
            count=data.shape[0],
            dtype=data.dtype.name,
            crs=data.rio.crs,
            transform=grid_transform(data),
            nodata=nodata,
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            interleave="band",
            bigtiff="IF_SAFER",
        ) as file:
            for index, name in enumerate(_band_names(data), start=1):
                file.set_band_description(index, name)
            file.update_tags(**_tags(data, record))
            written = _write_blocks(data, file, nodata)
        rasterio.shutil.copy(
            pixels,
            partial,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=TILE,
            # The mean of two classes is not a class.
            overview_resampling="AVERAGE" if data.dtype.kind == "f" else "NEAREST",
            bigtiff="IF_SAFER",
        )
        _verify(partial, written, path.name)


def own_nodata(data: xr.DataArray) -> float | None:
    """Return the value that means "no data" and that the data bear, if any."""
    # `.rio.nodata` is the NaN of an array whose file had another value, and fails for integers.
    encoded = data.rio.encoded_nodata
    return encoded if encoded is not None and data.dtype.kind != "f" else data.rio.nodata


def resolve_nodata(data: xr.DataArray, nodata: float | None) -> float | None:
    """Return the value that means "no data", and make sure that the type of the data holds it.

    Raises
    ------
    TimoError
        If the type of the data cannot hold it.
    """
    kind = data.dtype.kind
    if nodata is None:
        found = own_nodata(data)
        if found is not None and (kind == "f" or not np.isnan(found)):
            nodata = found
        elif kind == "f":
            nodata = np.nan
        elif kind == "i" and "classes" in data.attrs:
            nodata = -1
        else:
            return None
    if kind in "iu":
        info = np.iinfo(data.dtype)
        if np.isnan(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            raise TimoError(
                f"nodata={nodata} does not fit {data.dtype} values: pass one from {info.min} to "
                f'{info.max}, or convert the data first, as in data.astype("int16")'
            )
        return int(nodata)
    return float(nodata)


def _as_raster(data: xr.DataArray) -> xr.DataArray:
    """Return (band-like, y, x), north up and west left, in a type that GeoTIFF knows."""
    check_dims(data)
    if data.dtype.kind not in "buif" or data.dtype.itemsize > 8:
        raise TimoError(
            f"a GeoTIFF cannot hold {data.dtype} values: convert them first, "
            'as in data.astype("float32")'
        )
    if data.ndim > 3:
        extra = [str(dim) for dim in data.dims if dim not in ("y", "x")]
        raise TimoError(
            f"a GeoTIFF has one dimension besides y and x, and the data have {extra}: choose, "
            f"as in data.isel({extra[0]}=0), or write all to a .zarr"
        )
    if data.dtype == bool:
        data = data.astype("uint8")
    elif data.dtype == np.float16:
        data = data.astype("float32")
    if data.ndim == 2:
        data = data.expand_dims("layer")
    data = data.transpose(..., "y", "x")
    backwards = {"y": grid_step(data, "y") > 0, "x": grid_step(data, "x") < 0}
    return data.isel({dim: slice(None, None, -1) for dim, flip in backwards.items() if flip})


def check_dims(data: xr.DataArray | xr.Dataset) -> None:
    """Raise a TimoError unless the data have y and x, and at least a cell."""
    if not {"y", "x"} <= set(data.dims):
        raise TimoError(
            f"a map has the dimensions y and x, and the data have {list(data.dims)}: rename them, "
            'as in data.rename(latitude="y", longitude="x")'
        )
    if not all(data.sizes.values()):
        raise TimoError(f"there is nothing to export: the data have the shape {dict(data.sizes)}")


def grid_step(data: xr.DataArray | xr.Dataset, dim: str) -> float:
    """Return the signed spacing of the cell centres along y or x, or raise a TimoError."""
    if data.sizes[dim] == 1:
        # One row tells no spacing; what wrote the CRS usually noted it.
        cell = data.rio.transform()
        step = cell.a if dim == "x" else cell.e
        if cell == Affine.identity() or not step:
            raise TimoError(f"the data have a single cell along {dim}, so its size is not known")
        return float(step)
    values = data[dim].values.astype("float64")
    step = (values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    if dim not in data.coords or not step or not np.allclose(values, even, 0, abs(step) * 0.05):
        raise TimoError(
            f"the coordinate {dim} must hold evenly spaced cell centres: "
            "use data.rio.reproject(data.rio.crs) to bring the data to an even grid"
        )
    return float(step)


def grid_transform(data: xr.DataArray | xr.Dataset) -> Affine:
    """Return the affine transform from pixel corners to the CRS."""
    # From the coordinates: the transform noted beside the CRS is not kept up to date by .isel().
    dx, dy = grid_step(data, "x"), grid_step(data, "y")
    west, north = float(data["x"][0]) - dx / 2, float(data["y"][0]) - dy / 2
    return Affine(dx, 0.0, west, 0.0, dy, north)


def _band_names(data: xr.DataArray) -> list[str]:
    dim = data.dims[0]
    if dim not in data.coords:
        name = str(data.attrs.get("long_name", data.name or "band"))
        return [name] if data.shape[0] == 1 else [f"{dim} {i + 1}" for i in range(data.shape[0])]
    return [_text(value) for value in data[dim].values]


def _text(value: Any) -> str:
    if isinstance(value, np.datetime64):
        moment = pd.Timestamp(value)
        whole_day = moment == moment.normalize()
        return moment.date().isoformat() if whole_day else moment.isoformat()
    return str(value)


def _tags(data: xr.DataArray, record: Mapping[str, Any] | None) -> dict[str, str]:
    tags = {
        "TIFFTAG_SOFTWARE": f"timo {version('timo')}",
        "TIFFTAG_DATETIME": pd.Timestamp.now("UTC").strftime("%Y:%m:%d %H:%M:%S"),
    }
    title = data.attrs.get("long_name", data.name)
    if title is not None:
        tags["TIFFTAG_IMAGEDESCRIPTION"] = str(title)
    of_cube = record.get("cube", {}) if record is not None else {}
    attribution = data.attrs.get("attribution", of_cube.get("attribution"))
    if attribution is not None:
        tags["TIFFTAG_COPYRIGHT"] = str(clean(attribution))
    if "classes" in data.attrs:
        tags["CLASSES"] = json.dumps(dict(enumerate(map(str, data.attrs["classes"]))))
    if record is not None:
        tags["TIMO_PROVENANCE"] = json.dumps(clean(record))
    return tags


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


def _verify(path: Path, written: list[tuple[Region, int]], name: str) -> None:
    # GDAL writes its last tiles when a file is closed, and a disk that is full by then is only
    # logged: without this, a file cut short would pass for a complete one.
    problem = f"cannot write '{name}': what was written does not read back; is the disk full?"
    try:
        with rasterio.open(path) as file:
            same = all(
                zlib.crc32(file.read(**_place(region)).data) == checksum
                for region, checksum in written
            )
    except rasterio.errors.RasterioIOError as error:
        raise TimoError(problem) from error
    if not same:
        raise TimoError(problem)


def _place(region: Region) -> dict[str, Any]:
    bands, ys, xs = region
    return {
        "indexes": list(range(bands.start + 1, bands.stop + 1)),
        "window": Window.from_slices(ys, xs),
    }


def _without_nan(values: np.ndarray, nodata: float | None) -> np.ndarray:
    if values.dtype.kind != "f" or nodata is None or np.isnan(nodata):
        return values
    return np.where(np.isnan(values), values.dtype.type(nodata), values)


def _regions(data: xr.DataArray) -> Iterator[Region]:
    """Yield slices (band, y, x) that cover the data: a chunk of dask each, else a strip."""
    steps = data.chunks or tuple(
        _pieces(size, step) for size, step in zip(data.shape, (1, 1024, data.shape[2]), strict=True)
    )
    bands, ys, xs = (list(_slices(sizes)) for sizes in steps)
    yield from ((band, y, x) for y in ys for x in xs for band in bands)


def _pieces(size: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, size - start) for start in range(0, size, step))


def _slices(sizes: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size
