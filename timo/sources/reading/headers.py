"""Headers of rasters: what a file states of its cells, numbers and dates, before a pixel is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from timo.errors import TimoError
from timo.sources.reading.layers import Numbers, box_of


@dataclass(frozen=True)
class Header:
    """What a raster file states; the tuples have one entry for each of its bands but alpha."""

    path: Path
    grid: GeoBox
    indexes: tuple[int, ...]  # from 1
    numbers: tuple[Numbers, ...]
    descriptions: tuple[str, ...]  # empty where a band has none
    tags: dict[str, str]  # of all domains of text, the default one first
    band_tags: tuple[dict[str, str], ...]


def read_header(path: Path) -> Header:
    """Read the header of a raster, and no pixel; refuse a file that is cut short or does not state where it lies."""
    try:
        with rasterio.open(path) as file:
            _check_whole(file, path)
            _check_placed(file, path)
            indexes = [i for i in file.indexes if file.colorinterp[i - 1] != ColorInterp.alpha]
            if not indexes:
                raise TimoError(f"{path} has a mask (alpha) and no band. Leave it out.")
            return Header(
                path,
                box_of(file),
                tuple(indexes),
                tuple(_numbers_of(file, i) for i in indexes),
                tuple(file.descriptions[i - 1] or "" for i in indexes),
                _all_tags(file),
                tuple(_all_tags(file, i) for i in indexes),
            )
    except RasterioError as error:
        raise TimoError(
            f"{path} cannot be read: {error}. It is not a raster, or damaged: write or download it again, or leave it "
            "out."
        ) from error


def _numbers_of(file: rasterio.DatasetReader, index: int) -> Numbers:
    """Return what the numbers of a band mean."""
    # GDAL reports scale 1 and offset 0 where a file states neither.
    scale, offset, nodata = (
        values[index - 1] for values in (file.scales, file.offsets, file.nodatavals)
    )
    stated = (scale, offset) != (1.0, 0.0)
    return Numbers(
        file.dtypes[index - 1],
        () if nodata is None or np.isnan(nodata) else (float(nodata),),
        scale=scale if stated else None,
        offset=offset if stated else None,
    )


def _all_tags(file: rasterio.DatasetReader, index: int = 0) -> dict[str, str]:
    """Return the tags of every domain of plain keys (FORCE, for one, has a domain of its own)."""
    tags: dict[str, str] = {}
    for domain in file.tag_namespaces(index):
        if not domain.lower().startswith("xml:") and domain not in ("DERIVED_SUBDATASETS", "TIFF"):
            tags |= file.tags(index, ns=domain)
    return tags | file.tags(index)


def _check_placed(file: rasterio.DatasetReader, path: Path) -> None:
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
            f"{path} does not state where it lies (no geotransform). Give it one: "
            f'gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM "{path.name}".'
        )


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
                    "Download or write it again."
                )
