"""The assets that hold the bands, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pystac

from timo.errors import TimoError
from timo.sensors import Collection
from timo.sources.request import CubeRequest
from timo.sources.stac.catalogs import PRESETS

# Earth Search says here whether the offset that stands in `raster:bands` has been added already.
_APPLIED = "earthsearch:boa_offset_applied"
_LISTED = 24


@dataclass(frozen=True)
class Layout:
    """How a catalogue serves a sensor: its conventions, and band or quality layer -> asset.

    They are `trusted` if known to be the catalogue's: what its items state of scale and offset is not needed.
    """

    served: Collection
    names: Mapping[str, str]
    trusted: bool


def layers_of(request: CubeRequest) -> tuple[str, ...]:
    """Return the bands of the request, and the quality layer if it is used."""
    quality = (request.sensor.mask_name,) if request.masked and request.sensor.mask_name else ()
    return (*request.bands, *quality)


def find_layout(
    request: CubeRequest,
    catalog: str,
    items: Sequence[pystac.Item],
    assets: Mapping[str, str] | None = None,
) -> Layout:
    """Find the assets that hold the bands: those of a preset, whose name is `catalog`; `assets` knows better.

    Else those of the first of the sensor's collections whose assets an item has; else those whose bands have the common
    names of the sensor's. A TimoError if an asset cannot be found.
    """
    needed = layers_of(request)
    given = dict(assets or {})
    known = [name for name in (*request.sensor.band_names, request.sensor.mask_name) if name]
    if wrong := [name for name in given if name not in known]:
        raise TimoError(
            f"assets names {wrong[0]!r}, which is no band of {request.sensor.name}. It goes from these to the "
            f"catalogue's assets: {', '.join(known)}"
        )
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
    """Return whether an item has all assets of a layout."""
    return all(name in item.assets for name in names.values())


def missing(request: CubeRequest, items: Sequence[pystac.Item], needed: Sequence[str]) -> TimoError:
    """Return the error to raise where no item has all assets."""
    found = sorted({name for item in items for name in item.assets})
    listed = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
    conventions = [*request.sensor.collections, Collection("stac", ())]
    named = {layer for layer in needed for c in conventions if c.name(layer) in found}
    named |= {layer for item in items for layer in _by_common_name(request, item, needed)}
    # All, where each is found by another convention.
    lacking = [layer for layer in needed if layer not in named] or list(needed)
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


def calibration(
    request: CubeRequest, layout: Layout, item: pystac.Item, band: str
) -> tuple[float, float, float]:
    """Return scale, offset and shift of a band of an item: physical value = (number + shift) x scale + offset."""
    sensor, served = request.sensor, layout.served
    scale = sensor.scale if served.scale is None else served.scale
    offset = sensor.offset if served.offset is None else served.offset
    stated = None if layout.trusted else _stated(layout, item, band)
    if stated is not None and _APPLIED not in item.properties:
        return (*stated, 0.0)
    # The offset that Earth Search states is that of the archive, whether it has been applied or not.
    shift = 0.0 if served.shift is None else float(served.shift(item.properties))
    return scale if stated is None else stated[0], offset, shift


def nodata_of(
    request: CubeRequest, layout: Layout, item: pystac.Item, band: str
) -> tuple[float, ...]:
    """Return the numbers of pixels without data: those that the item states, else the product's."""
    fields = item.assets[layout.names[band]].extra_fields
    entries = [fields, *(fields.get("raster:bands") or [])[:1], *(fields.get("bands") or [])[:1]]
    stated = next((e["nodata"] for e in entries if e.get("nodata") is not None), None)
    if stated is None or layout.trusted:
        stated = request.sensor.nodata_of(band, layout.served)
    # The raster extension writes "nan" and "inf" as text.
    number = np.nan if stated is None else float(stated)
    return () if np.isnan(number) else (number,)


def _stated(layout: Layout, item: pystac.Item, band: str) -> tuple[float, float] | None:
    """Return scale and offset that an item states of a band, in either version of the raster extension."""
    fields = item.assets[layout.names[band]].extra_fields
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
    """Return assets of one band by the common name that they state of it; of several the finest."""
    sensor = request.sensor
    wanted = {b.common_name: b.name for b in sensor.bands if b.name in needed and b.common_name}
    masks = {sensor.mask_name, *(served.name(sensor.mask_name) for served in sensor.collections)}
    masks = {name.casefold() for name in masks if sensor.mask_name in needed}
    names: dict[str, str] = {}
    by_size = sorted(item.assets.items(), key=lambda p: float(p[1].extra_fields.get("gsd") or 0))
    for name, asset in by_size:
        fields = asset.extra_fields
        bands = fields.get("eo:bands") or fields.get("bands") or []
        band = bands[0] if len(bands) == 1 else {}
        common = band.get("common_name") or band.get("eo:common_name")
        if common in wanted:
            names.setdefault(wanted[common], name)
        elif name.casefold() in masks:
            names.setdefault(sensor.mask_name, name)
    return names
