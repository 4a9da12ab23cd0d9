"""Where cubes come from: one door, `open_cube`, in front of one module per source."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

import lazy_loader

from timo.errors import TimoError
from timo.sources.options import TAKEN, unknown_option, unknown_source

if TYPE_CHECKING:
    from typing import Unpack

    import xarray as xr

    from timo.sources.options import EarthEngine, Emulator, Files, Sample, Stac

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
        "earthengine": ["from_ee_image_collection"],
        "fetching": ["fetch"],
        "place.grid": ["PixelGrid"],
        "request": ["CubeRequest"],
        "sample": ["open_sample", "sample_clearings", "sample_labels", "sample_tree_cover"],
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


@overload
def open_cube(source: Literal["sample"] = ..., **options: Unpack[Sample]) -> xr.DataArray: ...
@overload
def open_cube(source: Literal["earthengine"], **options: Unpack[EarthEngine]) -> xr.DataArray: ...
@overload
def open_cube(source: Literal["emulator"], **options: Unpack[Emulator]) -> xr.DataArray: ...
@overload
def open_cube(source: Literal["stac"], **options: Unpack[Stac]) -> xr.DataArray: ...
@overload
def open_cube(source: Literal["files"], **options: Unpack[Files]) -> xr.DataArray: ...
@overload
def open_cube(source: str, **options: Any) -> xr.DataArray: ...
def open_cube(source: str = "sample", **options: Any) -> xr.DataArray:
    """Open a satellite image time series as a cube; lazily, but for the sample.

    Whatever the source, the same options give the same cube: one date for each solar day, the images of a day
    mosaicked; nearest neighbour onto the grid; NaN in all bands where the quality layer flags cloud, shadow or no data.

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
    sensor : str or Sensor
        "sentinel-2" (the default), "sentinel-1", "landsat-8-9", "modis" or another of `timo.sensors.SENSORS`, or one of
        your own; "files" finds it out.
    bands : sequence of str, optional
        Which bands, in which order, by their names or common ones ("red", "nir08"); by default those that serve to see
        land (`Sensor.default_bands`).
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
        Leave out images that are cloudier than this percentage, by their metadata.
    masked_classes : iterable of int, optional
        Invalid observations: positions in the sensor's `quality`; by default its `masked`. `()` masks nothing.
    buffer_m : float, optional
        Metres to mask around clouds and their shadows, too; by default the sensor's `fringe_m`.
    clip : bool
        Make pixels outside the area's outline NaN.
    max_megapixels : float
        Refuse a grid with more cells, in millions; 1,000 by default.

    Other Parameters
    ----------------
    chunks : int
        "earthengine", "emulator", "stac", "files": cells a side of a chunk.
    orbit : {"ascending", "descending"}
        "earthengine", "emulator", "stac": only these passes (Sentinel-1).
    cloud_score : bool or float
        "earthengine", "emulator": mask by Cloud Score+ (Sentinel-2), with this threshold.
    cache, retry : bool or path; timo.sources.retry.Retry
        "earthengine", "emulator": where fetched chunks are kept, and how patient to be with a busy service.
    project, service_account, url : str
        "earthengine": the Google Cloud project, the JSON key of a service account, the address of an emulator.
    catalog, collection : str
        "stac": "planetary-computer" (the default), "earth-search", an address or a file; and ids of its collections.
    assets : dict
        "stac": asset of each band, as ``{"B4": "B04_10m"}``.
    modifier, headers, timeout, max_items
        "stac": a function that signs items, headers of each request, seconds to wait, and most items to list.
    path : path, glob, folder or list
        "files": which; needed.
    dates, pattern, band_names
        "files": dates and bands, where names and tags do not say them.
    scale, offset, nodata, linear : float; bool
        "files": physical value = number x scale + offset; the number of a cell without data; radar in linear power.

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
    if "chunk_size" in options and source in ("earthengine", "emulator"):
        warnings.warn("chunk_size= is called chunks= now", DeprecationWarning, stacklevel=2)
        if "chunks" in options:
            raise TimoError("chunk_size is the old name of chunks: give one of them")
        options["chunks"] = options.pop("chunk_size")
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


class _Default:
    """What the signature shows as the default of an option: the source's own."""

    def __repr__(self) -> str:
        return "..."


# So that help() and completion show the options of all sources.
_keyword, _named = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_names = dict.fromkeys(n for options in reversed(TAKEN.values()) for n in options.__annotations__)
open_cube.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("source", _named, default="sample", annotation=str),
        *(inspect.Parameter(name, _keyword, default=_Default()) for name in _names),
    ],
    return_annotation="xr.DataArray",
)


def _load(source: str) -> Callable[..., xr.DataArray]:
    """Import the function that opens a source, or say what to install for it."""
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
    own = dict(inspect.signature(opener).parameters)
    if "request" not in own:
        return own, {}
    from timo.sources.request import make_request

    del own["request"]
    return own, dict(inspect.signature(make_request).parameters)
