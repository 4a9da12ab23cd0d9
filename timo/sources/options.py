"""What to say of a source, a sensor or an option that there is not: the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from timo.errors import TimoError

# What other libraries call it, and people; simplified as `_simple` does.
_SOURCES = {
    "ee": "earthengine",
    "gee": "earthengine",
    "googleearthengine": "earthengine",
    "geemap": "earthengine",
    "local": "files",
    "tif": "files",
    "geotiff": "files",
    "netcdf": "files",
    "zarr": "files",
    "demo": "sample",
    "example": "sample",
}
CATALOGS = {
    "planetarycomputer": "planetary-computer",
    "pc": "planetary-computer",
    "mpc": "planetary-computer",
    "microsoft": "planetary-computer",
    "earthsearch": "earth-search",
    "aws": "earth-search",
}
_OPTIONS = {
    "region": "aoi",
    "roi": "aoi",
    "bbox": "aoi",
    "bounds": "aoi",
    "geometry": "aoi",
    "area": "aoi",
    "geom": "aoi",
    "from": "start",
    "to": "end",
    "begin": "start",
    "date": "start",
    "startdate": "start",
    "enddate": "end",
    "stop": "end",
    "cloud": "max_cloud",
    "clouds": "max_cloud",
    "cloudcover": "max_cloud",
    "maxcloudcover": "max_cloud",
    "frequency": "composite",
    "freq": "composite",
    "period": "composite",
    "epsg": "crs",
    "projection": "crs",
    "mask": "masked_classes",
    "classes": "masked_classes",
    "satellite": "sensor",
    "product": "sensor",
    "buffer": "buffer_m",
    "scale": "resolution",
    "res": "resolution",
    "chunks": "chunk_size",
    "chunksize": "chunks",
}
# Whose options they are; what all sources but the sample take is not here.
_OWNERS = {
    "workers": "timo.fetch",
    "progress": "timo.fetch",
    "cancel": "timo.fetch",
    "path": 'open_cube("files") and timo.fetch',
    **dict.fromkeys(
        ("dates", "pattern", "band_names", "scale", "offset", "nodata", "linear"),
        'open_cube("files")',
    ),
    **dict.fromkeys(
        ("catalog", "assets", "modifier", "headers", "timeout", "max_items"), 'open_cube("stac")'
    ),
    "collection": 'open_cube("stac")',
    "chunks": 'open_cube("stac") and open_cube("files")',
    "orbit": 'open_cube("earthengine") and open_cube("stac")',
    **dict.fromkeys(("cloud_score", "chunk_size", "cache", "retry"), 'open_cube("earthengine")'),
    **dict.fromkeys(("project", "service_account", "url"), 'open_cube("earthengine")'),
}
_SENSORS = {
    "s2": "sentinel-2",
    "s2l2a": "sentinel-2",
    "s2sr": "sentinel-2",
    "sentinel2l2a": "sentinel-2",
    "copernicuss2srharmonized": "sentinel-2",
    "s1": "sentinel-1",
    "s1grd": "sentinel-1",
    "sentinel1grd": "sentinel-1",
    "sentinel1rtc": "sentinel-1",
    "landsat": "landsat-8-9",
    "landsat8": "landsat-8-9",
    "landsat9": "landsat-8-9",
    "landsatc2l2": "landsat-8-9",
    "l8": "landsat-8-9",
    "l9": "landsat-8-9",
    "lc08": "landsat-8-9",
    "mod09": "modis",
    "mod09a1": "modis",
    "mod13": "modis-vegetation",
    "mod13q1": "modis-vegetation",
}


def nearest(name: Any, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str | None:
    """The known name that was probably meant; None if none is near.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of str
        What there is.
    meant : mapping, optional
        Other names, in lower case and without punctuation, to known ones.
    """
    if not isinstance(name, str):
        return None
    plain = {_simple(there): there for there in known}
    simple = _simple(name)
    if (there := (meant or {}).get(simple)) in plain.values():
        return there
    close = difflib.get_close_matches(simple, plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def did_you_mean(name: Any, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str:
    """A question to put into a message, with a space before it; empty if nothing is near."""
    near = nearest(name, known, meant)
    return f" Did you mean {near!r}?" if near else ""


def unknown_source(source: Any, known: Iterable[str]) -> TimoError:
    """The error to raise for a source that there is not."""
    listed = ", ".join(sorted(known))
    hint = did_you_mean(source, known, _SOURCES)
    if isinstance(source, str) and (catalog := CATALOGS.get(_simple(source))):
        hint = f' Did you mean open_cube("stac", catalog="{catalog}")?'
    elif not isinstance(source, str) or "/" in source or "." in source:
        hint = f' What lies on this machine is opened with open_cube("files", path={source!r}).'
    return TimoError(f"Unknown source {source!r}. Known: {listed}.{hint}")


def unknown_sensor(name: Any, known: Iterable[str]) -> TimoError:
    """The error to raise for a sensor that there is not."""
    listed = ", ".join(sorted(known))
    return TimoError(
        f"Unknown sensor {name!r}. Known: {listed}.{did_you_mean(name, known, _SENSORS)}"
    )


def unknown_option(
    source: str, name: str, known: Iterable[str], called: str | None = None
) -> TimoError:
    """The error to raise for an option that a source does not take; `called` is what was called in its place."""
    taken = list(known)
    hint = did_you_mean(name, taken, _OPTIONS)
    if name in _OWNERS:
        hint = f" It is one of {_OWNERS[name]}." + hint
    elif source == "sample" and not hint:
        hint = " The sample is one place and one sensor; the other sources take an area, a sensor and a composite."
    what = called or f'open_cube("{source}")'
    return TimoError(f"{what} takes no option {name!r}.{hint} It takes: {', '.join(taken)}.")


def _simple(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
