"""Options of the sources by name: which there are, whose they are, and which was probably meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

from timo.errors import TimoError

if TYPE_CHECKING:
    from pathlib import Path

    import pystac
    import xarray as xr

    from timo.sensors import Sensor
    from timo.sources.retry import Retry


class Sample(TypedDict, total=False):
    """Options of open_cube("sample")."""

    start: Any
    end: Any
    bands: Sequence[str] | None
    resolution: Literal[10, 20]
    masked_classes: Iterable[int] | None
    buffer_m: float


class Shared(TypedDict, total=False):
    """Options that all sources but the sample take."""

    aoi: Any
    start: Any
    end: Any
    sensor: str | Sensor | None
    bands: Sequence[str] | None
    resolution: float | None
    composite: str | None
    crs: Any
    like: xr.DataArray | None
    max_cloud: float | None
    masked_classes: Iterable[int] | None
    buffer_m: float | None
    clip: bool
    max_megapixels: float


class Emulator(Shared, total=False):
    """Options of open_cube("emulator")."""

    orbit: Literal["ascending", "descending"] | None
    cloud_score: bool | float
    cache: bool | str | Path | None
    chunks: int
    retry: Retry | None


class EarthEngine(Emulator, total=False):
    """Options of open_cube("earthengine")."""

    project: str | None
    service_account: str | Path | None
    url: str | None


class Stac(Shared, total=False):
    """Options of open_cube("stac")."""

    catalog: str | Path | pystac.Catalog | Sequence[pystac.Item]
    collection: str | Sequence[str] | None
    assets: Mapping[str, str] | None
    orbit: Literal["ascending", "descending"] | None
    modifier: Callable[[Any], Any] | None
    headers: dict[str, str] | None
    timeout: float
    max_items: int
    chunks: int | None


class Files(Shared, total=False):
    """Options of open_cube("files")."""

    path: Required[str | Path | Sequence[str | Path]]
    dates: Sequence[Any] | Mapping[str, Any] | Callable[[str], Any] | None
    pattern: str | None
    band_names: Sequence[str | None] | None
    scale: float | None
    offset: float | None
    nodata: float | None
    linear: bool
    chunks: int


TAKEN: dict[str, type] = {
    "sample": Sample,
    "earthengine": EarthEngine,
    "emulator": Emulator,
    "stac": Stac,
    "files": Files,
}


def _names(**meanings: str) -> dict[str, str]:
    """Turn name=other names for it, in one text, the other way round."""
    return {other: name for name, others in meanings.items() for other in others.split()}


# What other libraries call it, and people; simplified as `_simple` does.
_SOURCES = _names(
    earthengine="ee gee googleearthengine geemap",
    files="local tif geotiff netcdf zarr",
    sample="demo example",
)
CATALOGS = _names(
    **{
        "planetary-computer": "planetarycomputer pc mpc microsoft",
        "earth-search": "earthsearch aws",
    }
)
_OPTIONS = _names(
    aoi="region roi bbox bounds geometry area geom",
    start="from begin date startdate",
    end="to enddate stop",
    max_cloud="cloud clouds cloudcover maxcloudcover",
    composite="frequency freq period",
    crs="epsg projection",
    masked_classes="mask classes",
    sensor="satellite product",
    buffer_m="buffer",
    resolution="scale res",
    chunks="chunksize",
)
_SENSORS = _names(
    **{
        "sentinel-2": "s2 s2l2a s2sr sentinel2l2a copernicuss2srharmonized",
        "sentinel-2-l1c": "s2l1c copernicuss2harmonized copernicuss2",
        "sentinel-1": "s1 s1grd sentinel1grd sentinel1rtc",
        "landsat-8-9": "landsat landsat8 landsat9 landsatc2l2 l8 l9 lc08 lc09 oli",
        "landsat-4-7": "landsat4 landsat5 landsat7 l5 l7 lt05 le07 tm etm",
        "planetscope-4": "planet planetscope psscene",
        "planetscope-8": "superdove",
        "hls-s30": "hls",
        "modis": "mod09 mod09a1 myd09a1",
        "modis-vegetation": "mod13 mod13q1 myd13q1",
    }
)


def nearest(name: Any, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str | None:
    """Return the known name that was probably meant; `meant` has other names for them, as `_simple` writes them."""
    if not isinstance(name, str):
        return None
    plain = {_simple(there): there for there in known}
    simple = _simple(name)
    if (there := (meant or {}).get(simple)) in plain.values():
        return there
    close = difflib.get_close_matches(simple, plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def did_you_mean(name: Any, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str:
    """Ask for the name that was meant, with a space before it; empty if nothing is near."""
    near = nearest(name, known, meant)
    return f" Did you mean {near!r}?" if near else ""


def unknown_source(source: Any, known: Iterable[str]) -> TimoError:
    """Return the error to raise for an unknown source."""
    listed = ", ".join(sorted(known))
    hint = did_you_mean(source, known, _SOURCES)
    if isinstance(source, str) and (catalog := CATALOGS.get(_simple(source))):
        hint = f' Did you mean open_cube("stac", catalog="{catalog}")?'
    elif not isinstance(source, str) or "/" in source or "." in source:
        hint = f' What lies on this machine is opened with open_cube("files", path={source!r}).'
    return TimoError(f"Unknown source {source!r}. Known: {listed}.{hint}")


def unknown_sensor(name: Any, known: Iterable[str]) -> TimoError:
    """Return the error to raise for an unknown sensor."""
    listed, hint = ", ".join(sorted(known)), did_you_mean(name, known, _SENSORS)
    return TimoError(
        f"Unknown sensor {name!r}. Known: {listed}.{hint} Others are made with timo.sensors.register_sensor."
    )


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
    """Whose option it is; the emulator takes what Earth Engine takes, and shared ones need no owner."""
    from timo.sources.fetching import fetch

    sources = [other for other, options in TAKEN.items() if name in options.__annotations__]
    own = [f'open_cube("{s}")' for s in sources if s not in ("sample", "emulator")]
    if name in Shared.__annotations__:
        return []
    return own + ["timo.fetch"] * (name in inspect.signature(fetch).parameters)


def _simple(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
