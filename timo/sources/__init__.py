"""Where cubes come from: one door, `open_cube`, in front of one module per source."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import lazy_loader

from timo.errors import TimoError
from timo.sources.options import unknown_option, unknown_source

if TYPE_CHECKING:
    import xarray as xr

# name -> "module:function"; a module is imported when its source is asked for, and not before. A function whose first
# parameter is called `request` gets the options that all such sources share as one checked `CubeRequest`.
SOURCES: dict[str, str] = {
    "sample": "timo.sources.sample:open_sample",
    "earthengine": "timo.sources.earthengine.opening:open_earthengine",
    "emulator": "timo.sources.emulated:open_emulator",
    "stac": "timo.sources.stac:open_stac",
    "files": "timo.sources.files:open_files",
}

# Loaded on first use: rasterio and xarray take a second.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submodules=["earthengine"],
    submod_attrs={
        "place.aoi": ["Area", "parse_aoi"],
        "clearings": ["sample_clearings"],
        "earthengine": ["from_ee_image_collection"],
        "fetching": ["fetch"],
        "place.grid": ["PixelGrid"],
        "request": ["CubeRequest"],
        "sample": ["open_sample", "sample_labels", "sample_tree_cover"],
    },
)
__all__ = [
    "SOURCES",
    "Area",
    "CubeRequest",
    "PixelGrid",
    "earthengine",
    "fetch",
    "from_ee_image_collection",
    "open_cube",
    "open_sample",
    "parse_aoi",
    "sample_clearings",
    "sample_labels",
    "sample_tree_cover",
]


def open_cube(source: str = "sample", **options: Any) -> xr.DataArray:
    """Open a satellite image time series as a cube; lazily, but for the sample.

    Whatever the source, the same options give the same cube: one date for each solar day, the images of a day
    mosaicked; nearest neighbour onto the grid; NaN, in all bands, where the sensor's quality layer sees no ground.

    Parameters
    ----------
    source : str
        Where it comes from:

        - "sample": a small Sentinel-2 series of a forest in Romania, offline; see `timo.sources.sample.open_sample`.
        - "earthengine": Google Earth Engine; see `timo.sources.earthengine.open_earthengine`.
        - "emulator": the same, from a small Earth Engine on this machine that holds the sample; no account needed.
        - "stac": Planetary Computer, Earth Search, another STAC API, or a static catalog; see
          `timo.sources.stac.open_stac`.
        - "files": GeoTIFFs, NetCDF or Zarr; see `timo.sources.files.open_files`.
    aoi : optional
        Area of interest, in degrees: (west, south, east, north), GeoJSON (a dict or a file), a shapely geometry, WKT, a
        GeoDataFrame, or the map that it was drawn on. The cube covers its bounds.
    start, end : str or date
        First and last day, both included; a part of a date means all of it: `end="2019"` takes the whole of 2019.
    sensor : str
        "sentinel-2" (the default), "sentinel-1", "landsat-8-9", "modis", "modis-vegetation"; see `timo.sensors`.
    bands : sequence of str, optional
        Which bands, in which order; by default those that serve to see land (`Sensor.default_bands`).
    resolution : float, optional
        Side of a cell, in the unit of the CRS (metres, unless `crs` is geographic). By default that of the finest band.
    crs : optional
        Anything that pyproj reads. By default the UTM zone of the area's centre.
    like : xarray.DataArray, optional
        Take the grid of this cube, in place of `aoi`, `resolution` and `crs`.
    composite : str, optional
        A period in pandas' words, e.g. "1MS" (months), "QS-DEC" (seasons), "YS" (years), "16D": each gets the median of
        its valid observations. By default every date is kept.
    max_cloud : float, optional
        Leave out images with more cloud than so many percent, by their metadata.
    masked_classes : iterable of int, optional
        What is no valid observation: positions in the sensor's `quality`; by default its `masked`. `()` masks nothing.
    buffer_m : float, optional
        Mask so many metres around clouds and their shadows, too; by default the sensor's `fringe_m`.
    clip : bool
        Make pixels outside the area's outline NaN.
    max_megapixels : float
        Refuse a grid with more cells, in millions; 1,000 by default.
    **options
        What that source takes beside these.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`: (time, band, y, x) float32, NaN where there was no valid observation.
        `timo.fetch(cube)` computes a lazy one with progress, in parallel; so does `cube.load()`, with less of both.

    Raises
    ------
    TimoError
        If the source or one of its options is unknown or makes no sense, or if the selection holds nothing.
    """
    if not isinstance(source, str) or source not in SOURCES:
        raise unknown_source(source, SOURCES)
    opener = _load(source)
    own, shared = _parameters(opener)
    if unknown := [name for name in options if name not in {**own, **shared}]:
        raise unknown_option(source, unknown[0], [*shared, *own])
    if missing := [n for n, p in own.items() if p.default is p.empty and n not in options]:
        raise TimoError(f'open_cube("{source}") needs {missing[0]}=: see help(timo.open_cube).')
    given = {name: value for name, value in options.items() if name in own}
    if not shared:
        return opener(**given)
    from timo.sources.request import make_request

    request = make_request(**{name: value for name, value in options.items() if name in shared})
    return opener(request, **given)


def _load(source: str) -> Callable[..., xr.DataArray]:
    """The function that opens a source, or what to install for it."""
    module, function = SOURCES[source].split(":")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        extra = {"emulator": "earthengine"}.get(source, source)
        if not error.name or error.name.split(".")[0] == "timo":
            raise
        raise TimoError(
            f'open_cube("{source}") needs {error.name}, which is not installed: pip install "timo[{extra}]"'
        ) from error


def _parameters(opener: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of an opener: its own, and those that it takes as one request."""
    import inspect

    own = dict(inspect.signature(opener).parameters)
    if "request" not in own:
        return own, {}
    from timo.sources.request import make_request

    del own["request"]
    return own, dict(inspect.signature(make_request).parameters)
