"""Layers: bands of files, whose numbers are floats with NaN where they are not valid."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from timo.crs import crs_name, read_crs

# Nothing is looked for beside a remote file; GDAL repeats what failed on the way.
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a layer mean, as far as its file states it: physical value = number x scale + offset.

    `dtype` is empty where the file has not been opened. `nodata` are numbers of cells without data; `valid` the least
    and the greatest of others (`valid_range` of the CF conventions, in packed units). `unsigned`: they are signed
    integers that stand for unsigned ones (`_Unsigned`).
    """

    dtype: str
    nodata: tuple[float, ...] = ()
    valid: tuple[float, float] | None = None
    scale: float | None = None
    offset: float | None = None
    unsigned: bool = False

    @property
    def whole(self) -> bool:
        """Return whether the numbers are integers."""
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
        # Infinite is the logarithm of nothing; an average must not spread it.
        floats[np.isinf(floats)] = np.nan
        return floats


@dataclass(frozen=True)
class RasterLayer:
    """A band of a raster file or of a remote image.

    The `path`, a file or address, identifies it and holds no signature; `index` counts from 1; `grid` is there where
    the cells are known before the file is opened. Messages call it `label`, as "B4 of 2018-07-01 (item S2A_..., asset
    red)". `own_nodata`: the nodata value that the file states counts beside `numbers.nodata`. `address` returns the
    address to read from, as signed for a short time; a new one if it is called with True.
    """

    path: str
    index: int
    numbers: Numbers
    grid: GeoBox | None = None
    label: str = ""
    own_nodata: bool = True
    address: Callable[[bool], str] | None = field(default=None, compare=False)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.path, _state(self.path), self.index, self.numbers, self.own_nodata

    def opened(self, files: OpenFiles, coarser: float = 1.0) -> OpenedRaster:
        """Open the file; its overview, if the cells may be `coarser` times as wide."""
        where = self.path if self.address is None else self.address(files.renew)
        file = files.open(where)
        level = _overview(file, self.index, coarser)
        return OpenedRaster(self, file if level is None else files.open(where, level))


@dataclass(frozen=True, eq=False)
class ArrayLayer:
    """A (y, x) slice of a variable of a NetCDF file or Zarr store, rows from north to south.

    The `variable` has the numbers as they are in the file, and y and x last; `at` are positions along its other dims.
    """

    path: str
    numbers: Numbers
    grid: GeoBox
    variable: xr.DataArray
    at: tuple[int, ...] = ()
    label: str = ""

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        where = (self.path, _state(self.path), str(self.variable.name), self.at)
        return (*where, self.numbers, str(self.grid.crs), self.grid.affine, tuple(self.grid.shape))

    def opened(self, files: OpenFiles, coarser: float = 1.0) -> ArrayLayer:  # noqa: ARG002 - arrays have neither
        """Return the slice itself: xarray opens it."""
        return self

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read cells as floats."""
        return self.numbers.floats(self.variable[(*self.at, rows, columns)].values)


Layer = RasterLayer | ArrayLayer


class OpenFiles(ExitStack):
    """Open files, each once: the bands of one file share what GDAL has unpacked of it."""

    def __init__(self, *, renew: bool = False) -> None:
        super().__init__()
        self.renew = renew
        self._open: dict[tuple[str, int | None], rasterio.DatasetReader] = {}

    def open(self, where: str, level: int | None = None) -> rasterio.DatasetReader:
        """Open a file, or one of its overviews."""
        if (where, level) not in self._open:
            if not self._open:
                remote = _GDAL if "://" in where or where.startswith("/vsi") else {}
                self.enter_context(rasterio.Env(**remote))
            options = {} if level is None else {"OVERVIEW_LEVEL": level}
            self._open[where, level] = self.enter_context(rasterio.open(where, **options))
        return self._open[where, level]


class OpenedRaster:
    """A band of an open file."""

    def __init__(self, layer: RasterLayer, file: rasterio.DatasetReader) -> None:
        self.layer, self.file = layer, file
        self.grid = (
            layer.grid if layer.grid and tuple(layer.grid.shape) == file.shape else box_of(file)
        )
        nodata = layer.numbers.nodata
        stated = file.nodatavals[layer.index - 1] if layer.own_nodata else None
        if stated is not None:
            nodata = (*nodata, stated)
        self.numbers = Numbers("", nodata, layer.numbers.valid)
        # GDAL scales alpha to 8 bits and so loses that of 0 and 1 in wider types: its band is read as it is.
        alpha = [i for i in file.indexes if file.colorinterp[i - 1] == ColorInterp.alpha]
        self.alpha = alpha[0] if alpha and alpha[0] != layer.index else None
        self.masked = MaskFlags.per_dataset in file.mask_flag_enums[layer.index - 1]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read cells as floats."""
        window = Window.from_slices(rows, columns)
        floats = self.numbers.floats(self.file.read(self.layer.index, window=window))
        if self.masked and self.alpha is None:
            floats[self.file.read_masks(self.layer.index, window=window) == 0] = np.nan
        if self.alpha is not None:
            floats[self.file.read(self.alpha, window=window) == 0] = np.nan
        return floats


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


def box_of(file: rasterio.DatasetReader) -> GeoBox:
    """Return the cells of an open raster."""
    return GeoBox(file.shape, file.transform, name_of_crs(file.crs.to_wkt()))


@cache
def name_of_crs(wkt: str) -> str:
    """Return "EPSG:..." where a CRS for maps has a code, else its WKT, as `PixelGrid.crs` is written."""
    return crs_name(read_crs(wkt, what="the file's crs"))
