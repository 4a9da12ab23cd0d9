"""One door to all sources, `open_cube`: it finds the source, and names what it does not take."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import xarray as xr

from timo.checks import AnyNumber, PathLike, checked, did_you_mean, nearest
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.place.grid import Limit
from timo.sources.request import make_request
from timo.sources.retry import Retry

# name -> "module:function"; a module is imported when its source is asked for, and not before. A function whose first
# parameter is called `request` gets the options that all such sources share as one checked `CubeRequest`.
SOURCES: dict[str, str] = {
    "sample": "timo.sources.sample:open_sample",
    "earthengine": "timo.sources.earthengine.opening:open_earthengine",
    "emulator": "timo.sources.emulated:open_emulator",
    "stac": "timo.sources.stac:open_stac",
    "files": "timo.sources.files:open_files",
}
_SHARED = tuple(inspect.signature(make_request).parameters)
# The default of an option that is left to the source.
_OWN: Any = ...
# What other libraries, and people, call it.
_SOURCES = {
    "earthengine": "ee gee googleearthengine geemap",
    "files": "local tif geotiff netcdf zarr",
    "sample": "demo example",
}
CATALOGS = {
    "planetary-computer": "pc mpc microsoft",
    "earth-search": "aws",
}
_OPTIONS = {
    "aoi": "region roi bbox bounds geometry area geom",
    "start": "from begin date startdate",
    "end": "to enddate stop",
    "max_cloud": "cloud clouds cloudcover maxcloudcover",
    "composite": "frequency freq period",
    "crs": "epsg projection",
    "masked_classes": "mask classes",
    "sensor": "satellite product",
    "buffer_m": "buffer",
    "resolution": "scale res",
    "chunks": "chunksize",
}


@checked(chunk_size="chunks")
def open_cube(
    source: Literal["sample", "earthengine", "emulator", "stac", "files"] | str = "sample",
    *,
    aoi: Any = _OWN,
    start: Any = _OWN,
    end: Any = _OWN,
    sensor: str | Sensor | None = _OWN,
    bands: str | Sequence[str] | None = _OWN,
    resolution: float | None = _OWN,
    crs: Any = _OWN,
    like: Any = _OWN,
    composite: Any = _OWN,
    max_cloud: float | None = _OWN,
    masked_classes: Any = _OWN,
    buffer_m: float | None = _OWN,
    clip: bool = _OWN,
    max_megapixels: Limit = _OWN,
    chunks: int | None = _OWN,
    orbit: Literal["ascending", "descending"] | None = _OWN,
    cloud_score: bool | float | None = _OWN,
    cache: bool | PathLike | None = _OWN,
    retry: Retry | None = _OWN,
    project: str | None = _OWN,
    service_account: PathLike | None = _OWN,
    url: str | None = _OWN,
    catalog: Any = _OWN,
    collection: str | Sequence[str] | None = _OWN,
    assets: Mapping[str, str] | None = _OWN,
    modifier: Callable[[Any], Any] | None = _OWN,
    headers: Any = _OWN,
    timeout: float = _OWN,
    max_items: int = _OWN,
    path: Any = _OWN,
    dates: Any = _OWN,
    pattern: str | None = _OWN,
    band_names: str | Sequence[str | None] | None = _OWN,
    scale: float | None = _OWN,
    offset: float | None = _OWN,
    nodata: AnyNumber | None = _OWN,
    linear: bool = _OWN,
    **unknown: Any,
) -> xr.DataArray:
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
    masked_classes : sequence of int, optional
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

    Notes
    -----
    An option whose default is shown as ``Ellipsis`` has the default of the source. Options of another source are
    refused, and unknown ones answered with the one that was probably meant.

    Examples
    --------
    >>> import timo
    >>> cube = timo.open_cube("sample", start="2018-07", end="2018-08", bands=["red", "nir"])
    >>> cube.dims
    ('time', 'band', 'y', 'x')
    >>> cube.band.values.tolist()
    ['B4', 'B8']
    """
    options = {**locals(), **unknown}
    given = {n: options[n] for n in options if options[n] is not _OWN}
    del given["source"], given["unknown"]
    if source not in SOURCES:
        raise _unknown_source(source)
    opener = _load(source)
    own = inspect.signature(opener).parameters
    shared = _SHARED if "request" in own else ()
    for name in given:
        if name not in own and name not in shared:
            raise unknown_option(source, name, [*shared, *(n for n in own if n != "request")])
    for name, parameter in own.items():
        if parameter.default is parameter.empty and name not in (*given, "request"):
            raise TimoError(f'open_cube("{source}") needs {name}=: see help(timo.open_cube).')
    if shared:
        given["request"] = make_request(**{n: given.pop(n) for n in shared if n in given})
    return opener(**given)


def _load(source: str) -> Callable[..., xr.DataArray]:
    """Import the function that opens a source, or say what to install for it."""
    module, function = SOURCES[source].split(":")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] == "timo":
            raise
        raise TimoError(
            f'open_cube("{source}") needs {error.name}, which is not installed: pip install "timo[{source}]"'
        ) from error


def _unknown_source(source: str) -> TimoError:
    hint = did_you_mean(source, SOURCES, _SOURCES)
    if catalog := nearest(source, CATALOGS, CATALOGS):
        hint = f' Did you mean open_cube("stac", catalog="{catalog}")?'
    elif "/" in source or "." in source:
        hint = f' What lies on this machine is opened with open_cube("files", path={source!r}).'
    return TimoError(f"Unknown source {source!r}. Known: {', '.join(sorted(SOURCES))}.{hint}")


def unknown_option(
    source: str, name: str, known: Iterable[str], called: str | None = None
) -> TimoError:
    """Return the error to raise for an unknown option of a source; `called` is what was called in its place."""
    taken = list(known)
    hint = did_you_mean(name, taken, _OPTIONS)
    owners = _owners(name)
    if owners:
        hint = f" It is one of {' and '.join(owners)}." + hint
    elif source == "sample" and not hint:
        hint = " The sample is one place and one sensor; the other sources take an area, a sensor and a composite."
    what = called or f'open_cube("{source}")'
    return TimoError(f"{what} takes no option {name!r}.{hint} It takes: {', '.join(taken)}.")


def _owners(name: str) -> list[str]:
    """Return whose option it is; the emulator takes what Earth Engine takes, and shared ones need no owner."""
    from timo.sources.fetching import fetch

    if name in _SHARED:
        return []
    openers: dict[str, Callable[..., Any]] = {"timo.fetch": fetch}
    for source in SOURCES.keys() - {"sample", "emulator"}:
        with contextlib.suppress(TimoError):  # not installed
            openers[f'open_cube("{source}")'] = _load(source)
    return sorted(
        who for who, opener in openers.items() if name in inspect.signature(opener).parameters
    )
