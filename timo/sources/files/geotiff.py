"""GeoTIFFs and other rasters that GDAL reads: what their headers say, and whether all of the file is there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.errors import RasterioError

from timo.errors import TimoError
from timo.sources.files.grids import FileGrid, name_of_crs

# Headers are small: the time goes into waiting for the disk.
_AT_ONCE = 16


@dataclass(frozen=True)
class Header:
    """What a raster says of itself; one entry per band in the tuples."""

    path: Path
    grid: FileGrid
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str, ...]
    tags: dict[str, str]


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Headers of rasters, in the order of the paths; no pixel is read.

    Raises
    ------
    TimoError
        If one cannot be read, is cut short, or does not say where it lies.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read_header, paths))


def read_header(path: Path) -> Header:
    """Header of one raster (see `read_headers`)."""
    try:
        with rasterio.open(path) as file:
            _check_whole(file, path)
            return Header(
                path,
                _grid(file, path),
                tuple(file.dtypes),
                tuple(file.nodatavals),
                tuple(file.scales),
                tuple(file.offsets),
                tuple(text or "" for text in file.descriptions),
                file.tags(),
            )
    except RasterioError as error:
        raise TimoError(
            f"{path} cannot be read: {error}. It is no raster, or damaged: write or fetch it anew, or leave it out."
        ) from error


def _grid(file: rasterio.DatasetReader, path: Path) -> FileGrid:
    if any(dtype.startswith("complex") for dtype in file.dtypes):
        raise TimoError(
            f"{path} holds complex numbers: a radar image before detection. Bring it to backscatter on a map first, "
            "for instance with SNAP, or take a terrain-corrected product."
        )
    if file.gcps[0] and file.crs is None:
        raise TimoError(
            f"{path} has ground control points and no grid: it lies in the instrument's geometry. Bring it onto a map "
            "first (radar: with terrain correction), for instance with gdalwarp or SNAP."
        )
    if file.crs is None:
        raise TimoError(
            f"{path} has no coordinate reference system. If you know it, write it into the file: "
            f'gdal_edit.py -a_srs EPSG:... "{path.name}" (or rasterio.open(path, "r+").crs = ...).'
        )
    if file.transform == Affine.identity():
        raise TimoError(
            f"{path} does not say where it lies (no geotransform). Give it one: "
            f'gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM "{path.name}".'
        )
    return FileGrid(name_of_crs(file.crs.to_wkt()), file.transform, file.height, file.width)


def _check_whole(file: rasterio.DatasetReader, path: Path) -> None:
    """Refuse a TIFF that ends before its pixels do; a header alone still opens."""
    if file.driver != "GTiff":
        return
    size = path.stat().st_size
    height, width = file.block_shapes[0]
    rows, columns = -(-file.height // height) - 1, -(-file.width // width) - 1
    for band in {1, file.count}:
        for column, row in {(0, 0), (columns, rows)}:
            place = f"{column}_{row}"
            start = file.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=band)
            length = file.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=band)
            if start and length and int(start) + int(length) > size:
                raise TimoError(
                    f"{path} is cut short: it has {size} bytes, and pixels up to byte {int(start) + int(length)}. "
                    "Fetch or write it anew."
                )
