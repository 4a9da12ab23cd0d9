"""What a catalogue's items call the bands, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyproj
import pystac

from timo.errors import TimoError
from timo.sensors import Collection
from timo.sources.place.projection import metres_per_unit
from timo.sources.request import CubeRequest
from timo.sources.stac.catalogs import PRESETS

# Earth Search says here whether the offset that stands in `raster:bands` has been added already.
_APPLIED = "earthsearch:boa_offset_applied"
_TELL = 24


@dataclass(frozen=True)
class Layout:
    """How a catalogue serves a sensor.

    Parameters
    ----------
    served : Collection
        Its conventions.
    names : mapping
        Band of the request, or the sensor's quality layer -> asset.
    trusted : bool
        The conventions are known to be the catalogue's: what its items say of scale and offset is not needed.
    """

    served: Collection
    names: Mapping[str, str]
    trusted: bool


def layers_of(request: CubeRequest) -> tuple[str, ...]:
    """Bands of the request, and the quality layer if it is looked at."""
    quality = (request.sensor.mask_name,) if request.masked and request.sensor.mask_name else ()
    return (*request.bands, *quality)


def find_layout(
    request: CubeRequest,
    catalog: str,
    items: Sequence[pystac.Item],
    assets: Mapping[str, str] | None = None,
) -> Layout:
    """Find out which assets hold the bands.

    Parameters
    ----------
    request : CubeRequest
        What is asked for.
    catalog : str
        Name of a preset, or anything else.
    items : sequence of pystac.Item
        What was found.
    assets : mapping, optional
        Band or quality layer -> asset, where that is known better.

    Returns
    -------
    Layout
        That of the preset; else the first of the sensor's collections whose assets an item has; else the assets whose
        bands have the common names of the sensor's.

    Raises
    ------
    TimoError
        If an asset cannot be found.
    """
    needed = layers_of(request)
    given = _check_assets(request, assets)
    served = [c for c in request.sensor.collections if c.provider != "earthengine"]
    if catalog in PRESETS:
        own = request.sensor.collection(catalog)
        return Layout(own, {name: given.get(name, own.name(name)) for name in needed}, trusted=True)
    plain = Collection("stac", ())
    for candidate in (*served, plain):
        names = {name: given.get(name, candidate.name(name)) for name in needed}
        if any(has_assets(item, names) for item in items):
            return Layout(candidate, names, trusted=False)
    conventions = served[0] if served else plain
    for item in items:
        names = _by_common_name(request, item, needed) | given
        if set(names) == set(needed) and has_assets(item, names):
            return Layout(conventions, names, trusted=False)
    raise missing(request, items, needed)


def has_assets(item: pystac.Item, names: Mapping[str, str]) -> bool:
    """Whether an item has all assets of a layout."""
    return all(name in item.assets for name in names.values())


def missing(request: CubeRequest, items: Sequence[pystac.Item], needed: Sequence[str]) -> TimoError:
    """The error to raise where no item has all assets."""
    found = sorted({name for item in items for name in item.assets})
    listed = ", ".join(found[:_TELL]) + (", ..." if len(found) > _TELL else "")
    lacking = _lacking(request, items, found, needed)
    example = f'assets={{"{lacking[-1]}": "..."}}'
    quality = request.sensor.mask_name
    unmasked = (
        " Without a quality layer, masked_classes=() masks nothing." if quality in lacking else ""
    )
    there = [band for band in request.bands if band not in lacking]
    fewer = f", or leave them out: bands={there}" if there and quality not in lacking else ""
    return TimoError(
        f"No item has assets for {', '.join(lacking)} of {request.sensor.name}. The items have: {listed or 'none'}. "
        f"Say which is which: {example}{fewer}.{unmasked}"
    )


def _lacking(
    request: CubeRequest,
    items: Sequence[pystac.Item],
    found: Sequence[str],
    needed: Sequence[str],
) -> list[str]:
    """Layers that no convention finds; all, where each is found by another one."""
    conventions = [*request.sensor.collections, Collection("stac", ())]
    named = {layer for layer in needed for c in conventions if c.name(layer) in found}
    for item in items:
        named |= set(_by_common_name(request, item, needed))
    return [layer for layer in needed if layer not in named] or list(needed)


def calibration(
    request: CubeRequest, layout: Layout, items: Sequence[pystac.Item]
) -> tuple[float, float, list[float]]:
    """What the numbers mean.

    Returns
    -------
    scale, offset : float
        Physical value = (number + shift) x scale + offset.
    shift : list of float
        One for each item.

    Raises
    ------
    TimoError
        If items, or the bands of one, differ in their scale.
    """
    sensor, served = request.sensor, layout.served
    scale = sensor.scale if served.scale is None else served.scale
    offset = sensor.offset if served.offset is None else served.offset
    stated = [None if layout.trusted else _stated(request, layout, item) for item in items]
    scales = {scale if pair is None else pair[0] for pair in stated}
    if len(scales) > 1:
        raise TimoError(
            f"The items state different scales ({', '.join(f'{s:g}' for s in sorted(scales))}): they are of more than "
            "one product. Give collection="
        )
    factor = scales.pop()
    shift = [
        _shift(served, item) if pair is None else (pair[1] - offset) / factor
        for item, pair in zip(items, stated, strict=True)
    ]
    return factor, offset, shift


def pixel_metres(
    request: CubeRequest, items: Sequence[pystac.Item], name: str, layer: str
) -> float:
    """Side of a pixel of an asset in metres: by its transform, its ground sample distance, or the sensor's."""
    asset = next(item.assets[name] for item in items if name in item.assets)
    properties = asset.owner.properties if isinstance(asset.owner, pystac.Item) else {}
    said = {**properties, **asset.extra_fields}
    crs = said.get("proj:code") or (f"EPSG:{said['proj:epsg']}" if said.get("proj:epsg") else None)
    if crs and said.get("proj:transform"):
        return abs(float(said["proj:transform"][0])) * metres_per_unit(pyproj.CRS(crs))
    if gsd := asset.extra_fields.get("gsd"):
        return float(gsd)
    finest = min(band.gsd_m for band in request.sensor.bands)
    return next((b.gsd_m for b in request.sensor.bands if b.name == layer), finest)


def _check_assets(request: CubeRequest, assets: Mapping[str, str] | None) -> dict[str, str]:
    if assets is not None and not isinstance(assets, Mapping):
        raise TimoError(f'assets must be a dict, as {{"B4": "red"}}; got {assets!r}')
    known = (*request.sensor.band_names, request.sensor.mask_name)
    if wrong := [name for name in assets or {} if name not in known]:
        raise TimoError(
            f"assets names {wrong[0]!r}, which is no band of {request.sensor.name}. It goes from these to the "
            f"catalogue's assets: {', '.join(filter(None, known))}"
        )
    return dict(assets or {})


def _shift(served: Collection, item: pystac.Item) -> float:
    return 0.0 if served.shift is None else float(served.shift(item.properties))


def _stated(request: CubeRequest, layout: Layout, item: pystac.Item) -> tuple[float, float] | None:
    """Scale and offset that an item states of all its bands; None if it does not, or not reliably."""
    if _APPLIED in item.properties:
        return None
    pairs = {_scale_of(item.assets[layout.names[band]]) for band in request.bands}
    if None in pairs:
        return None
    if len(pairs) > 1:
        raise TimoError(
            f"The bands of {item.id} have different scales or offsets: "
            f"{', '.join(str(pair) for pair in pairs)}. Open them one by one"
        )
    return pairs.pop()


def _scale_of(asset: pystac.Asset) -> tuple[float, float] | None:
    """Scale and offset of an asset, in either version of the raster extension."""
    fields = asset.extra_fields
    old = (fields.get("raster:bands") or [{}])[0]
    new = {**fields, **(fields.get("bands") or [{}])[0]}
    scale = old.get("scale", new.get("raster:scale"))
    offset = old.get("offset", new.get("raster:offset"))
    if scale is None and offset is None:
        return None
    pair = (float(1 if scale is None else scale), float(offset or 0))
    kind = str(old.get("data_type", new.get("data_type", "")))
    # Tools write this of files that state nothing; of integers it would be a reflectance in the thousands.
    return None if pair == (1.0, 0.0) and not kind.startswith("float") else pair


def _by_common_name(
    request: CubeRequest, item: pystac.Item, needed: Sequence[str]
) -> dict[str, str]:
    """Assets of one band by the common name that they state of it; of several the finest."""
    wanted = {
        b.common_name: b.name for b in request.sensor.bands if b.name in needed and b.common_name
    }
    names: dict[str, str] = {}
    for name, asset in sorted(item.assets.items(), key=lambda pair: _gsd(pair[1])):
        common = _common_name(asset)
        if common in wanted:
            names.setdefault(wanted[common], name)
        elif request.sensor.mask_name in needed and name.casefold() in _mask_names(request):
            names.setdefault(request.sensor.mask_name, name)
    return names


def _mask_names(request: CubeRequest) -> set[str]:
    sensor = request.sensor
    names = {collection.name(sensor.mask_name) for collection in sensor.collections}
    return {name.casefold() for name in (*names, sensor.mask_name)}


def _common_name(asset: pystac.Asset) -> str | None:
    fields: dict[str, Any] = asset.extra_fields
    bands = fields.get("eo:bands") or fields.get("bands") or []
    if len(bands) != 1:
        return None
    return bands[0].get("common_name") or bands[0].get("eo:common_name")


def _gsd(asset: pystac.Asset) -> float:
    return float(asset.extra_fields.get("gsd") or 0)
