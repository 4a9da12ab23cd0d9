"""One reader for all rasters and arrays: which cells are valid, and how they come onto the grid of a cube.

Every source that reads files (GeoTIFF, JPEG 2000, NetCDF, Zarr, the assets of STAC items) describes its bands as
layers. A layer gives numbers as floats with NaN where the file has no data; everything above sees one kind of array,
whether the cells are the file's own or warped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pyproj
import rasterio
import xarray as xr
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject, transform, transform_bounds
from rasterio.windows import Window

from timo.crs import crs_name, read_crs
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.place.grid import PixelGrid
from timo.sources.retry import read_again

# The value of a quality layer where it has no data: not one of its classes.
NO_QUALITY = -1
# Share of a cell by which cells of two grids may differ and still be the same.
_CLOSE = 1e-3
# Cells at least this many times as wide as those of a file get the average of them.
_COARSER = 2 - 1e-6
# Cells of a file that are read at once: 256 MiB in double precision.
_MOST = 2**25
_HEADERS_AT_ONCE = 16
# Nothing is looked for beside a remote file; GDAL repeats what failed on the way.
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}

Rows = tuple[slice, slice]


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a layer mean, as far as its file states it.

    Attributes
    ----------
    dtype : str
        Data type in the file; empty where the file has not been opened.
    nodata : tuple of float
        Numbers of cells without data.
    valid : tuple of float, optional
        Smallest and largest valid number (`valid_range` of the CF conventions, in packed units).
    scale, offset : float, optional
        Physical value = number x scale + offset.
    unsigned : bool
        Signed integers that stand for unsigned ones (`_Unsigned`).
    """

    dtype: str
    nodata: tuple[float, ...] = ()
    valid: tuple[float, float] | None = None
    scale: float | None = None
    offset: float | None = None
    unsigned: bool = False

    @property
    def whole(self) -> bool:
        """Whether the numbers are integers."""
        return bool(self.dtype) and np.dtype(self.dtype).kind in "iu"

    def floats(self, values: np.ndarray) -> np.ndarray:
        """Return numbers as floats that hold them exactly, NaN where they are not valid."""
        if self.unsigned and values.dtype.kind == "i":
            values = values.view(values.dtype.str.replace("i", "u"))
        exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
        floats = values.astype("float32" if exact else "float64")
        for number in self.nodata:
            floats[values == number] = np.nan
        if self.valid is not None:
            low, high = self.valid
            floats[(values < low) | (values > high)] = np.nan
        return floats


@dataclass(frozen=True)
class RasterLayer:
    """A band of a raster file or of a remote image.

    Attributes
    ----------
    path : str
        File or address; it identifies the layer, and holds no signature.
    index : int
        Number of the band, from 1.
    numbers : Numbers
        What its numbers mean.
    grid : GeoBox, optional
        Its cells, where they are known before the file is opened.
    label : str
        Name of the layer in messages, e.g. "B4 of 2018-07-01 (item S2A_..., asset red)".
    own_nodata : bool
        Whether the nodata value that the file states counts beside `numbers.nodata`.
    address : callable, optional
        Returns the address to read from, e.g. signed for a short time.
    """

    path: str
    index: int
    numbers: Numbers
    grid: GeoBox | None = None
    label: str = ""
    own_nodata: bool = True
    address: Callable[[], str] | None = field(default=None, compare=False)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.path, _state(self.path), self.index, self.numbers, self.own_nodata

    def opened(self, files: _Files, coarser: float = 1.0) -> _Opened:
        """Open the file; its overview, if the cells may be `coarser` times as wide."""
        where = self.path if self.address is None else self.address()
        file = files.open(where)
        level = _overview(file, self.index, coarser)
        return _OpenedRaster(self, file if level is None else files.open(where, level))


@dataclass(frozen=True, eq=False)
class ArrayLayer:
    """A (y, x) slice of a variable of a NetCDF file or Zarr store, rows from north to south.

    Attributes
    ----------
    path : str
        The file.
    numbers : Numbers
        What its numbers mean.
    grid : GeoBox
        Its cells.
    variable : xarray.DataArray
        The variable with the numbers as they are in the file, y and x last.
    at : tuple of (str, int)
        Dimension -> position of the slice.
    label : str
        Name of the layer in messages.
    """

    path: str
    numbers: Numbers
    grid: GeoBox
    variable: xr.DataArray
    at: tuple[tuple[str, int], ...] = ()
    label: str = ""

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        where = (self.path, _state(self.path), str(self.variable.name), self.at)
        return (*where, self.numbers, str(self.grid.crs), self.grid.affine, tuple(self.grid.shape))

    def opened(self, files: _Files, coarser: float = 1.0) -> _Opened:  # noqa: ARG002 - arrays have neither
        """Give access to the slice."""
        return _OpenedArray(self)


Layer = RasterLayer | ArrayLayer


class _Files(ExitStack):
    """Open files, each once: the bands of one file share what GDAL has unpacked of it."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, int | None], rasterio.DatasetReader] = {}

    def open(self, where: str, level: int | None = None) -> rasterio.DatasetReader:
        if (where, level) not in self._open:
            if not self._open:
                remote = _GDAL if "://" in where or where.startswith("/vsi") else {}
                self.enter_context(rasterio.Env(**remote))
            options = {} if level is None else {"OVERVIEW_LEVEL": level}
            self._open[where, level] = self.enter_context(rasterio.open(where, **options))
        return self._open[where, level]


class _OpenedRaster:
    def __init__(self, layer: RasterLayer, file: rasterio.DatasetReader) -> None:
        self.layer, self.file = layer, file
        self.grid = (
            layer.grid if layer.grid and tuple(layer.grid.shape) == file.shape else box_of(file)
        )
        nodata = layer.numbers.nodata
        stated = file.nodatavals[layer.index - 1] if layer.own_nodata else None
        if stated is not None and not np.isnan(stated):
            nodata = (*nodata, stated)
        self.numbers = Numbers("", nodata, layer.numbers.valid)
        flags = file.mask_flag_enums[layer.index - 1]
        self.masked = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        window = Window.from_slices(rows, columns)
        floats = self.numbers.floats(self.file.read(self.layer.index, window=window))
        if self.masked:
            floats[self.file.read_masks(self.layer.index, window=window) == 0] = np.nan
        return floats


class _OpenedArray:
    def __init__(self, layer: ArrayLayer) -> None:
        self.layer, self.grid = layer, layer.grid

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        *_, y, x = self.layer.variable.dims
        part: dict[Any, Any] = {**dict(self.layer.at), y: rows, x: columns}
        return self.layer.numbers.floats(self.layer.variable.isel(part).values)


_Opened = _OpenedRaster | _OpenedArray


def _overview(file: rasterio.DatasetReader, index: int, coarser: float) -> int | None:
    """Return the coarsest overview with cells at most half as wide as asked for; None for the file itself."""
    flags = file.mask_flag_enums[index - 1]
    # The mask of an overview is not always there.
    if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags:
        return None
    fitting = [i for i, factor in enumerate(file.overviews(index)) if factor <= coarser / 2]
    return fitting[-1] if fitting else None


def _state(path: str) -> tuple[int, int] | None:
    """Return size and time of change of a local file: a file that changes makes another array."""
    try:
        state = Path(path).stat()
    except OSError:  # an address
        return None
    return state.st_size, state.st_mtime_ns


# --- Headers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """What a raster file states; the tuples have one entry for each of its bands but alpha.

    Attributes
    ----------
    path : Path
        The file.
    grid : GeoBox
        Its cells.
    indexes : tuple of int
        Numbers of the bands, from 1.
    numbers : tuple of Numbers
        What they mean.
    descriptions : tuple of str
        Their names; empty where a band has none.
    tags : dict
        Of the file, all domains that hold text joined; the default domain wins.
    band_tags : tuple of dict
        Of the bands.
    """

    path: Path
    grid: GeoBox
    indexes: tuple[int, ...]
    numbers: tuple[Numbers, ...]
    descriptions: tuple[str, ...]
    tags: dict[str, str]
    band_tags: tuple[dict[str, str], ...]


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Read the headers of rasters, in the order of the paths; no pixel is read.

    Raises
    ------
    TimoError
        If a file cannot be read, is cut short, or does not state where it lies.
    """
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        return list(pool.map(read_header, paths))


def read_header(path: Path) -> Header:
    """Read the header of one raster (see `read_headers`)."""
    try:
        with rasterio.open(path) as file:
            _check_whole(file, path)
            _check_placed(file, path)
            indexes = [i for i in file.indexes if file.colorinterp[i - 1] != ColorInterp.alpha]
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
    """GDAL reports scale 1 and offset 0 where a file states neither."""
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


def box_of(file: rasterio.DatasetReader) -> GeoBox:
    """Return the cells of an open raster."""
    return GeoBox(file.shape, file.transform, name_of_crs(file.crs.to_wkt()))


@cache
def name_of_crs(wkt: str) -> str:
    """Return "EPSG:..." where a CRS has a code, else its WKT; as `PixelGrid.crs` is written.

    Raises
    ------
    TimoError
        If it is not a system for maps.
    """
    return crs_name(read_crs(wkt, what="the file's crs"))


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


# --- Onto the cells of a cube -----------------------------------------------------------------------------------------


def is_plain(box: GeoBox) -> bool:
    """Return whether cells are square, rows go from north to south and columns from west to east."""
    t, (height, width) = box.affine, box.shape
    turned = max(abs(t.b) * height, abs(t.d) * width)
    off = abs(t.a + t.e) * max(height, width)
    return t.a > 0 > t.e and max(turned, off) <= _CLOSE * t.a


def cell_of(box: GeoBox) -> float:
    """Return the side of a cell in the unit of the CRS; the root of its area if it is not square."""
    return float(abs(box.affine.determinant) ** 0.5)


def same_cells(one: GeoBox, other: GeoBox) -> bool:
    """Return whether two grids have the same cells, to a thousandth of one."""
    if one.crs != other.crs or one.shape != other.shape:
        return False
    height, width = one.shape
    between = ~one.affine @ other.affine
    corners = ((0, 0), (width, 0), (0, height), (width, height))
    return all(math.dist(_apply(between, *c), c) <= _CLOSE for c in corners)


def is_under(box: GeoBox, grid: PixelGrid) -> bool:
    """Return whether a file may have cells under a grid."""
    return any(_window(copy, grid) for copy in _copies(box))


def read_on(layers: Sequence[Layer], grid: PixelGrid, *, quality: bool = False) -> list[np.ndarray]:
    """Read layers onto the cells of a cube.

    Nearest neighbour; where the cells are twice as wide as the file's or more, the average of the valid ones (of a
    quality layer the commonest class).

    Parameters
    ----------
    layers : sequence of Layer
        What to read; a file of several layers is opened once.
    grid : PixelGrid
        The cells.
    quality : bool
        The numbers are classes or bits, which must not be averaged.

    Returns
    -------
    list of numpy.ndarray
        For each layer (y, x) float32, or float64 where that takes more; NaN where the file has no valid number or does
        not reach.

    Raises
    ------
    TimoError
        If a layer cannot be read, also when it is tried again; the message names it.
    """

    def read() -> list[np.ndarray]:
        with _Files() as files:
            return [_read_layer(files, layer, grid, quality) for layer in layers]

    try:
        return read_again(read, what=layers[0].label or layers[0].path)
    except (RasterioError, OSError, RuntimeError) as error:
        what = "; ".join(getattr(error, "__notes__", [])) or layers[0].path
        raise TimoError(
            f"{what} cannot be read: {error}. It is damaged, was moved, or needs an authorisation: download or write "
            "it again (an address: open the cube again, or give modifier=), or leave its date out with start= and end=."
        ) from error


def _read_layer(files: _Files, layer: Layer, grid: PixelGrid, quality: bool) -> np.ndarray:
    try:
        box = layer.grid or layer.opened(files).grid
        return _read_opened(layer.opened(files, _ratio(box, grid)), grid, quality)
    except (RasterioError, OSError, RuntimeError) as error:
        error.add_note(layer.label or layer.path)
        raise


def _read_opened(opened: _Opened, grid: PixelGrid, quality: bool) -> np.ndarray:
    result: np.ndarray | None = None
    for box in _copies(opened.grid):
        if (window := _window(box, grid)) is not None:
            values = _read_part(opened, box, window, grid, quality)
            result = values if result is None else np.where(np.isnan(result), values, result)
    return np.full(grid.shape, np.nan, "float32") if result is None else result


def _read_part(
    opened: _Opened, box: GeoBox, window: Rows, grid: PixelGrid, quality: bool
) -> np.ndarray:
    if (corner := _corner(box, grid)) is not None:
        sizes = zip(corner, grid.shape, box.shape, strict=True)
        (rows, to_rows), (columns, to_columns) = (_overlap(*each) for each in sizes)
        values = opened.read(rows, columns)
        result = np.full(grid.shape, np.nan, dtype=values.dtype)
        result[to_rows, to_columns] = values
        return result
    if _ratio(box, grid) < _COARSER:
        return _read_nearest(opened, box, grid)
    rows, columns = window
    if (rows.stop - rows.start) * (columns.stop - columns.start) > _MOST and max(grid.shape) > 1:
        return _in_halves(opened, box, grid, quality)
    values = opened.read(rows, columns)
    result = np.full(grid.shape, np.nan, dtype=values.dtype)
    reproject(
        values,
        result,
        src_transform=box.affine @ Affine.translation(columns.start, rows.start),
        src_crs=str(box.crs),
        src_nodata=np.nan,
        dst_transform=grid.transform,
        dst_crs=grid.crs,
        dst_nodata=np.nan,
        resampling=Resampling.mode if quality else Resampling.average,
    )
    return result


def _read_nearest(opened: _Opened, box: GeoBox, grid: PixelGrid) -> np.ndarray:
    rows, columns = _nearest(box.affine, tuple(box.shape), str(box.crs), grid)
    inside = rows >= 0
    if not inside.any():
        return np.full(grid.shape, np.nan, "float32")
    top, left = rows[inside].min(), columns[inside].min()
    values = opened.read(
        slice(int(top), int(rows.max()) + 1), slice(int(left), int(columns.max()) + 1)
    )
    result = np.full(grid.shape, np.nan, dtype=values.dtype)
    result[inside] = values[rows[inside] - top, columns[inside] - left]
    return result


@lru_cache(maxsize=16)
def _nearest(
    affine: Affine, shape: tuple[int, int], crs: str, grid: PixelGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the cell of a file in which each cell centre of a grid lies, -1 outside.

    GDAL would interpolate the transformation between a few points, to an eighth of a cell. Bands and scenes on one grid
    share the result.
    """
    x, y = np.meshgrid(grid.x, grid.y)
    if crs != grid.crs:
        transformer = pyproj.Transformer.from_crs(grid.crs, crs, always_xy=True)
        x, y = transformer.transform(x, y)
        if transformer.target_crs is not None and transformer.target_crs.is_geographic:
            west = affine.c if affine.a > 0 else affine.c + affine.a * shape[1]
            x = west + (x - west) % 360
    column, row = _apply(~affine, x, y)
    # A centre on the edge of two cells belongs to the one after it, whatever the rounding.
    indexes = [np.floor(np.where(np.isfinite(v), v, -1) + 1e-6) for v in (row, column)]
    outside = np.logical_or.reduce(
        [(i < 0) | (i >= n) for i, n in zip(indexes, shape, strict=True)]
    )
    rows, columns = (np.where(outside, -1, i).astype("int32") for i in indexes)
    return rows, columns


def _in_halves(opened: _Opened, box: GeoBox, grid: PixelGrid, quality: bool) -> np.ndarray:
    """Read in two parts: many cells of a file may lie under a few coarse ones."""
    height, width = grid.shape
    axis, half = (0, height // 2) if height >= width else (1, width // 2)
    parts = []
    for part in (slice(0, half), slice(half, grid.shape[axis])):
        side = grid.window(*((part, slice(0, width)) if axis == 0 else (slice(0, height), part)))
        window = _window(box, side)
        nothing = np.full(side.shape, np.nan, "float32")
        parts.append(nothing if window is None else _read_part(opened, box, window, side, quality))
    return np.concatenate(parts, axis=axis)


def _copies(box: GeoBox) -> list[GeoBox]:
    """Return the grid, and in degrees its copies one turn to the west and to the east."""
    if box.crs is None or not box.crs.geographic:
        return [box]
    return [
        GeoBox(box.shape, Affine.translation(turn, 0) @ box.affine, box.crs)
        for turn in (0, -360, 360)
    ]


def _window(box: GeoBox, grid: PixelGrid) -> Rows | None:
    """Return rows and columns of a file that lie under a grid, with two more around them; None if none do."""
    left, bottom, right, top = grid.bounds
    if str(box.crs) != grid.crs:
        left, bottom, right, top = transform_bounds(
            grid.crs, str(box.crs), left, bottom, right, top, densify_pts=21
        )
        if left > right:  # across the antimeridian
            right += 360
    if not np.isfinite((left, bottom, right, top)).all():
        return None
    inverse = ~box.affine
    corners = ((left, top), (right, top), (left, bottom), (right, bottom))
    columns, rows = zip(*(_apply(inverse, *corner) for corner in corners), strict=True)
    parts = []
    for ends, size in ((rows, box.shape[0]), (columns, box.shape[1])):
        first, last = math.floor(min(ends)) - 2, math.ceil(max(ends)) + 2
        part, _ = _overlap(first, last - first, size)
        if part.start >= part.stop:
            return None
        parts.append(part)
    return parts[0], parts[1]


def _corner(box: GeoBox, grid: PixelGrid) -> tuple[int, int] | None:
    """Return row and column of a file at which a grid begins, if the grid's cells are cells of the file; else None."""
    if str(box.crs) != grid.crs:
        return None
    between = ~box.affine @ grid.transform
    column, row = _apply(between, 0, 0)
    start = (round(row), round(column))
    ends = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    same = all(
        math.dist(_apply(between, x, y), (x + start[1], y + start[0])) <= _CLOSE for x, y in ends
    )
    return start if same else None


def _overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Return the part of `size` cells within start..start+length, and where it lies there; it may be empty."""
    first = max(start, 0)
    last = max(min(start + length, size), first)
    return slice(first, last), slice(first - start, last - start)


def _ratio(box: GeoBox, grid: PixelGrid) -> float:
    """Return how many times as wide the cells of a grid are as those of a file, in the middle of the grid."""
    left, bottom, right, top = grid.bounds
    x, y, step = (left + right) / 2, (top + bottom) / 2, grid.resolution
    xs, ys = [x, x + step, x], [y, y, y + step]
    if str(box.crs) != grid.crs:
        xs, ys = transform(grid.crs, str(box.crs), xs, ys)
        if box.crs is not None and box.crs.geographic:  # the antimeridian may cross the cell
            xs = [value - 360 * round((value - xs[0]) / 360) for value in xs]
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    return area**0.5 / cell_of(box) if math.isfinite(area) else 1.0


def _apply(matrix: Affine, column: Any, row: Any) -> tuple[Any, Any]:
    """Affine itself has changed its operator between releases."""
    m = matrix
    return m.a * column + m.b * row + m.c, m.d * column + m.e * row + m.f


# --- As arrays of Dask ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a layer becomes a band: physical value = (number + shift) x scale + offset.

    `offset` and `shift` both stand where a product states them, so that the arithmetic is the producer's.
    """

    layer: Layer
    scale: float = 1.0
    offset: float = 0.0
    shift: float = 0.0

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Return physical values as float32."""
        number = numbers.dtype.type
        if self.shift:
            numbers = numbers + number(self.shift)
        if self.scale != 1:
            numbers = numbers * number(self.scale)
        if self.offset:
            numbers = numbers + number(self.offset)
        return numbers.astype("float32")


class Reader:
    """Read blocks of scenes.

    Parameters
    ----------
    plans : sequence of sequence of Plan
        For each scene its bands, or its quality layer alone.
    grid : PixelGrid
        The cells.
    quality : Sensor, optional
        Whose quality layer the plans read: classes or bits, and not values.
    footprints : sequence, optional
        For each scene (west, south, east, north) in degrees, where it lies if its file has not been opened; the east
        may lie beyond 180.
    """

    def __init__(
        self,
        plans: Sequence[Sequence[Plan]],
        grid: PixelGrid,
        *,
        quality: Sensor | None = None,
        footprints: Sequence[tuple[float, float, float, float]] | None = None,
    ) -> None:
        self.plans = [tuple(layers) for layers in plans]
        self.grid, self.quality, self.footprints = grid, quality, footprints

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return tokenize(self.plans), self.grid, self.quality and self.quality.name

    def __call__(self, block_info: dict[Any, Any]) -> np.ndarray:
        scenes, *_, rows, columns = (slice(*where) for where in block_info[None]["array-location"])
        window = self.grid.window(rows, columns)
        return np.stack([self.read(scene, window) for scene in range(scenes.start, scenes.stop)])

    def read(self, scene: int, window: PixelGrid) -> np.ndarray:
        """Read a scene on some cells: (band, y, x) float32 values, or (y, x) int32 quality."""
        plans = self.plans[scene]
        if not self._reaches(scene, window):
            blank = np.full(window.shape, NO_QUALITY, "int32")
            if self.quality is not None:
                return blank
            return np.broadcast_to(np.float32(np.nan), (len(plans), *window.shape))
        if self.quality is not None:
            return _classes(
                read_on([plans[0].layer], window, quality=True)[0], self.quality, plans[0].layer
            )
        numbers = read_on([plan.layer for plan in plans], window)
        return np.stack([plan.values(n) for plan, n in zip(plans, numbers, strict=True)])

    def _reaches(self, scene: int, window: PixelGrid) -> bool:
        grid = self.plans[scene][0].layer.grid
        if grid is not None:
            return any(
                p.layer.grid is None or is_under(p.layer.grid, window) for p in self.plans[scene]
            )
        if self.footprints is None:
            return True
        west, south, east, north = self.footprints[scene]
        w, s, e, n = window.lonlat_bounds
        return (
            s <= north
            and n >= south
            and any(w + t <= east and e + t >= west for t in (-360, 0, 360))
        )

    def array(self, chunk: int) -> da.Array:
        """Return (scene, band, y, x) float32 values, or (scene, y, x) int32 quality."""
        bands = () if self.quality is not None else ((len(self.plans[0]),),)
        sides = (_cut(size, chunk) for size in self.grid.shape)
        dtype = "float32" if self.quality is None else "int32"
        chunks = ((1,) * len(self.plans), *bands, *sides)
        meta = np.empty((0,) * len(chunks), dtype=dtype)
        # Dask would name it for the address of this object in memory: not the same in the next process.
        name = f"read-{tokenize(self, chunks)}"
        return da.map_blocks(self, chunks=chunks, dtype=dtype, meta=meta, name=name)


def _classes(numbers: np.ndarray, sensor: Sensor, layer: Layer) -> np.ndarray:
    """Return classes as integers, and refuse numbers that lie between them: such a layer was interpolated."""
    seen = numbers[np.isfinite(numbers)]
    wrong = seen[seen != np.round(seen)]
    codes = [c.value for c in sensor.quality if c.bits is None]
    if not wrong.size and codes and len(codes) == len(sensor.quality):
        wrong = seen[~np.isin(seen, codes)]
    if wrong.size:
        known = f"0 to {max(codes)}" if codes else "bits of whole numbers"
        raise TimoError(
            f"{layer.label or layer.path} holds {wrong[0]:g}, which the quality layer {sensor.mask_name} of "
            f"{sensor.name} does not know ({known}): it was interpolated, or is another layer. Resample classes by "
            "nearest neighbour; or leave the layer unused with masked_classes=()."
        )
    return np.where(np.isnan(numbers), NO_QUALITY, numbers).astype("int32")


def _cut(size: int, chunk: int) -> tuple[int, ...]:
    whole, rest = divmod(size, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())
