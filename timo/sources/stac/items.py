"""Select the items that belong to a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pystac
import shapely
from shapely.geometry import shape

from timo.checks import is_number
from timo.errors import TimoError, warn
from timo.sensors import Collection, Identity, Sensor, identify
from timo.sources.request import CubeRequest
from timo.sources.scenes import check_selectable, no_image
from timo.sources.stac.assets import Layout, has_assets, layers_of, missing

# Where catalogues write the tile or the path and row of a scene.
_TILES = (
    ("grid:code",),
    ("s2:mgrs_tile",),
    ("mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square"),
    ("landsat:wrs_path", "landsat:wrs_row"),
    ("modis:horizontal-tile", "modis:vertical-tile"),
)
_VERSIONS = ("s2:processing_baseline", "processing:version")
_MADE = ("s2:generation_time", "processing:datetime", "created", "updated")
# The level in the id of a collection: "sentinel-2-l1c", "landsat-c2-l1".
_COLLECTION = re.compile(r"(?P<who>sentinel-?2|landsat).*[-_](?P<level>l1c|l2a|l1|l2)\b", re.I)
# Of two datastrips in one tile both are wanted; when the sensing of one began stands in its name.
_DATASTRIP = re.compile(r"_S(\d{8}T\d{6})")


def instants(items: Sequence[pystac.Item]) -> pd.DatetimeIndex:
    """Return when items were taken, in UTC, without a time zone; of those of several days, the first instant."""
    times = []
    for item in items:
        time = item.datetime or item.common_metadata.start_datetime
        if time is None:
            raise TimoError(f"Item {item.id} has no datetime and no start_datetime. Leave it out")
        times.append(time)
    return pd.DatetimeIndex(pd.to_datetime(times, utc=True)).tz_localize(None).as_unit("ns")


def select_items(
    request: CubeRequest, layout: Layout, items: Sequence[pystac.Item], orbit: str | None = None
) -> list[pystac.Item]:
    """Return the items that a request asks for, in order of (time, id).

    They meet the area, lie within the dates, have all assets, and their properties are as the request and the sensor's
    collection want them. An item that does not state how cloudy it is, or lacks a property of `Collection.where`, is
    kept; one that does not state its orbit is not. Of one scene in several processings the newest is taken.
    """
    served, most = layout.served, request.max_cloud
    check_selectable(request, served, orbit)
    days = request.solar_day(instants(items))
    dated = {
        id(item): request.start <= day < request.end for item, day in zip(items, days, strict=True)
    }
    tests: dict[str, Callable[[pystac.Item], bool]] = {
        "of other dates": lambda item: dated[id(item)],
        "elsewhere": lambda item: _meets(request, item),
        "of another kind": lambda item: _is_kind(served, item),
        "of another product": lambda item: _product(item, request.sensor) is None,
    }
    if orbit is not None:
        tests["on another orbit"] = lambda i: str(i.properties.get(served.orbit)).lower() == orbit
    if most is not None:
        tests["too cloudy"] = lambda item: _cover(served, item) <= most
    left, seen = list(items), []
    for reason, test in tests.items():
        kept = [item for item in left if test(item)]
        if len(kept) < len(left):
            seen.append(f"{len(left) - len(kept)} {reason}")
        left = kept
    _mention_products(request, items, left)
    if not left:
        raise no_image(request, ", ".join(seen) or "no item at all")
    complete = [item for item in left if has_assets(item, layout.names)]
    if not complete:
        raise missing(request, left, layers_of(request))
    if lacking := [item.id for item in left if not has_assets(item, layout.names)]:
        warn(
            f"{len(lacking)} of {len(left)} items were left out: they lack one of the assets "
            f"{', '.join(layout.names.values())} ({', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''})."
        )
    return newest(complete)


def newest(items: Sequence[pystac.Item]) -> list[pystac.Item]:
    """Return the newest processing of each scene, in order of (time, id)."""
    times = dict(zip((id(item) for item in items), instants(items), strict=True))
    best: dict[object, pystac.Item] = {}
    for item in items:
        key = _scene(item, times[id(item)])
        if key not in best or _version(item) > _version(best[key]):
            best[key] = item
    return sorted(best.values(), key=lambda item: (times[id(item)], item.id))


def _scene(item: pystac.Item, time: pd.Timestamp) -> object:
    """Return what two processings of one scene have in common."""
    said = item.properties
    tile = next((names for names in _TILES if all(said.get(name) for name in names)), None)
    if tile is None:
        return item.collection_id, item.id
    begun = _DATASTRIP.search(str(said.get("s2:datastrip_id", "")))
    when = begun[1] if begun else time.floor("s")
    return item.collection_id, said.get("platform"), tuple(said[name] for name in tile), when


def _version(item: pystac.Item) -> tuple[float, str, str]:
    said = item.properties
    version = next((str(said[name]) for name in _VERSIONS if said.get(name)), "0")
    number = float(version) if re.fullmatch(r"\d+(\.\d+)?", version) else 0.0
    made = next((str(said[name]) for name in _MADE if said.get(name)), "")
    return number, made, item.id


def _meets(request: CubeRequest, item: pystac.Item) -> bool:
    if item.geometry is None:
        raise TimoError(
            f"Item {item.id} has no geometry: where it lies is not known. Leave it out, or write its footprint into it"
        )
    return bool(shapely.intersects(shape(item.geometry), request.area.wrapped))


def _product(item: pystac.Item, sensor: Sensor) -> Identity | None:
    """Return the product of an item that is not one of the sensor, by its id, properties or collection; else None."""
    properties = {k: str(v) for k, v in item.properties.items() if isinstance(v, str | int | float)}
    # "s2:product_type" and the like.
    tags = {k.partition(":")[2]: v for k, v in properties.items() if ":" in k} | properties
    of_collection = dict[str, str]()
    if found := _COLLECTION.search(item.collection_id or ""):
        of_collection = {"platform": found["who"], "processing:level": found["level"].upper()}
        if found["who"].lower() == "landsat":
            of_collection["platform"] = properties.get("platform", "landsat-8")
    said = (identify(item.id), identify("", tags), identify("", of_collection))
    others = [one for one in said if one is not None and not one.fits(sensor)]
    # What names the level says most.
    return max(others, key=lambda one: bool(one.level), default=None)


def _mention_products(
    request: CubeRequest, items: Sequence[pystac.Item], left: Sequence[pystac.Item]
) -> None:
    """Name the products of items that were left out because they are not the sensor's."""
    others = {one.product: one for item in items if (one := _product(item, request.sensor))}
    if not others:
        return
    readers = sorted({one.sensor for one in others.values() if one.sensor})
    remedy = " or ".join(f'sensor="{name}"' for name in readers) or "another collection"
    message = f"are of {' and of '.join(sorted(others))}, and not of {request.sensor.product}. Open them with {remedy}"
    if not left:
        raise TimoError(f"The items {message}.")
    warn(f"Items were left out: they {message}.")


def _is_kind(served: Collection, item: pystac.Item) -> bool:
    for name, value in served.where.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if name in item.properties and item.properties[name] not in allowed:
            return False
    return True


def _cover(served: Collection, item: pystac.Item) -> float:
    cover: Any = item.properties.get(served.cloud_cover)
    return cover if is_number(cover) else 0.0
