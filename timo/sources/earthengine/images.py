"""List, filter, mask and scale a sensor's images on Earth Engine. Graphs and answers only: nothing is sent here."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ee
import numpy as np
import pandas as pd

from timo.errors import TimoError
from timo.sensors import Collection, Sensor
from timo.sources.request import CubeRequest
from timo.sources.scenes import check_selectable, fringe_cells, half_axes

PROVIDER = "earthengine"
# Cells from the middle: the weights of a kernel travel with each request.
_LARGEST_KERNEL = 40


def filtered(
    request: CubeRequest, served: Collection, orbit: str | None = None
) -> dict[str, ee.ImageCollection]:
    """Return the images that meet a request, unchanged, of each collection by its id.

    Conditions stand directly on the collections, before anything is computed, where Earth Engine looks them up in its
    index. Of Sentinel-2 a tile can come twice from one overflight: products are cut where their reception was, with
    some overlap, and both parts are needed. A TimoError if the sensor has no cloud cover or orbit to select by.
    """
    check_selectable(request, served, orbit)
    conditions = [
        ee.Filter.inList(key, list(value)) if isinstance(value, tuple) else ee.Filter.eq(key, value)
        for key, value in served.where.items()
    ]
    if served.band_list:
        conditions += [ee.Filter.listContains(served.band_list, band) for band in request.bands]
    if request.max_cloud is not None:
        conditions.append(ee.Filter.lte(served.cloud_cover, request.max_cloud))
    if orbit is not None:
        conditions.append(ee.Filter.eq(served.orbit, orbit.upper()))
    parts = {}
    for each in served.ids:
        images = within(ee.ImageCollection(each), request)
        for condition in conditions:
            images = images.filter(condition)
        parts[each] = images
    return parts


def within(images: ee.ImageCollection, request: CubeRequest) -> ee.ImageCollection:
    """Return the images of the dates and the area of a request."""
    first, after = (millis(request.utc(instant)) for instant in (request.start, request.end))
    area = ee.Geometry(request.area.geojson, None, False)
    return images.filterDate(first, after).filterBounds(area)


def prepared(
    image: ee.Image, request: CubeRequest, *, cloud_score: float | None = None
) -> ee.Image:
    """Return an image of a sensor's collection: bands named as in the cube, masked, in physical units.

    All of it is computed in the projection and at the scale of the request for pixels, from inputs by nearest neighbour
    each from its own projection (developers.google.com/earth-engine/guides/projections: "inputs are requested in the
    output projection"; guides/resample); a mosaic and a median of such images, too. With `reproject` Earth Engine would
    compute more than is asked for. The image is an asset, with its `system:index`; one that has no Cloud Score+ is
    masked as a whole, where `cloud_score` (see `open_earthengine`) is given.
    """
    sensor = request.sensor
    served = sensor.collection(PROVIDER)
    data = image.select([served.name(band) for band in request.bands], list(request.bands))
    valid = valid_in_all(data)
    masked, fringed = request.masked, request.fringed
    if cloud_score is not None:
        plus = served.cloud_score
        assert plus is not None
        score = image.linkCollection(ee.ImageCollection(plus.id), [plus.band]).select(plus.band)
        valid = valid.And(score.gte(cloud_score))
        masked, fringed = (
            tuple(i for i in positions if i not in plus.replaces) for positions in (masked, fringed)
        )
    if masked:
        quality = image.select(served.name(sensor.mask_name))
        valid = valid.And(flagged(quality, sensor, masked).Not())
        if fringed:
            valid = valid.And(_far(flagged(quality, sensor, fringed), request))
    scale = sensor.scale if served.scale is None else served.scale
    offset = sensor.offset if served.offset is None else served.offset
    return physical(data, valid, scale, offset)


def valid_in_all(data: ee.Image) -> ee.Image:
    """Return 1 where all bands are valid; at a coarse level of a pyramid, where masks are shares, any share is."""
    return data.mask().reduce(ee.Reducer.min()).gt(0)


def physical(data: ee.Image, valid: ee.Image, scale: float, offset: float) -> ee.Image:
    """Return float values, masked where they are not valid."""
    data = data.multiply(scale).add(offset) if (scale, offset) != (1, 0) else data
    return data.toFloat().updateMask(valid)


def flagged(quality: ee.Image, sensor: Sensor, positions: Iterable[int]) -> ee.Image:
    """Return 1 where the quality layer has any of these classes, else 0 (`Sensor.flagged`).

    In as few operations as can be: the codes of a plain classification with one, flags of a single bit with two.
    """
    kinds = [sensor.quality[position] for position in positions]
    codes = [kind.value for kind in kinds if kind.bits is None]
    masks = [(kind.bits, kind.value) for kind in kinds if kind.bits is not None]
    single = {bits for bits, value in masks if bits == value and bits.bit_count() == 1}
    said = [quality.bitwiseAnd(bits).eq(value) for bits, value in masks if bits not in single]
    if codes:
        said.append(quality.remap(codes, [1] * len(codes), 0))
    if single:
        said.append(quality.bitwiseAnd(sum(single)).neq(0))
    return functools.reduce(lambda a, b: a.Or(b), said) if said else quality.multiply(0)


def _far(fringed: ee.Image, request: CubeRequest) -> ee.Image:
    """Return 0 within `buffer_m` of cells that are 1, else 1."""
    if not fringe_cells(request):
        # No other cell's centre is that near.
        return fringed.Not()
    # In cells of the grid that is asked for, as all sources have it: a kernel in pixels is in those of the output, not
    # of the image (apidocs/ee-kernel-circle: only one in meters "will resize when the zoom-level is changed"), and what
    # Earth Engine takes for a metre differs by the projection.
    # Beyond the image nothing is known to be a cloud; without a value there, its edge would be masked.
    known = fringed.unmask(0, False)
    axes = half_axes(request)
    if abs(axes[0] - axes[1]) < 1e-6 or max(axes) > _LARGEST_KERNEL:
        return known.focalMax(max(axes), "circle", "pixels").Not()
    # In degrees a circle in metres is an ellipse: cells whose centre is within it.
    rows, columns = (np.arange(-math.floor(n), math.floor(n) + 1) / n for n in axes)
    inside = rows[:, None] ** 2 + columns**2 <= 1 + 1e-9
    return known.focalMax(kernel=ee.Kernel.fixed(weights=inside.astype(int).tolist())).Not()


@dataclass(frozen=True)
class Listing:
    """The images that there are, in order of (time, id).

    `ids` are those of assets, or the `system:index` of images that the user has computed; `times` their start in UTC; a
    reprocessed asset has another one of `versions`, which are empty where the service does not give them.
    """

    ids: tuple[str, ...]
    times: pd.DatetimeIndex
    versions: tuple[int, ...]

    def days(self, request: CubeRequest) -> pd.DatetimeIndex:
        """Return the solar days on which there are images."""
        return request.solar_day(self.times).unique().sort_values()


def listing_of(parts: Mapping[str, ee.ImageCollection]) -> ee.List:
    """Return the question whose answer is the `Listing` of collections by their ids; "" for one that is no asset.

    Lists of properties, and not the images: of those Earth Engine sends at most 5,000 ("Collection query aborted after
    accumulating over 5000 elements", developers.google.com/earth-engine/guides/best_practices).
    """
    names = {"ids": "system:index", "times": "system:time_start", "versions": "system:version"}
    asked = [{key: p.aggregate_array(name) for key, name in names.items()} for p in parts.values()]
    return ee.List(asked)


def read_listing(answers: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Listing:
    """Read the answer to `listing_of`, of collections with these names; a TimoError if an image has no date."""
    found = []
    for name, answer in zip(names, answers, strict=True):
        ids, times, versions = (answer.get(key) or [] for key in ("ids", "times", "versions"))
        # Such a list leaves out values that are missing.
        if len(times) != len(ids):
            raise undated(f"{len(ids) - len(times)} of the {len(ids)}")
        known = versions if len(versions) == len(ids) else [None] * len(ids)
        prefix = f"{name}/" if name else ""
        found += [(t, f"{prefix}{i}", v) for t, i, v in zip(times, ids, known, strict=True)]
    # Here, because Earth Engine's `sort` does not document the order of images of one time.
    found.sort(key=lambda image: image[:2])
    stamps = pd.Series([t for t, _, _ in found], dtype="int64")
    said = tuple(int(v) for _, _, v in found if v is not None)
    times = pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms"))
    return Listing(tuple(i for _, i, _ in found), times, said if len(said) == len(found) else ())


def undated(which: str) -> TimoError:
    """Return the error to raise for images without a date."""
    return TimoError(
        f"{which} images have no system:time_start, so that they have no date: set it, with "
        "image.set('system:time_start', ee.Date(...).millis())"
    )


def ends_of(images: ee.ImageCollection) -> list[ee.ComputedObject]:
    """Return the question for the times of the first and the last image, in milliseconds since 1970-01-01."""
    return [images.aggregate_min("system:time_start"), images.aggregate_max("system:time_start")]


def dates_there(low: int | None, high: int | None) -> str:
    """Return a phrase on the dates that images have, given as `ends_of` has them."""
    if low is None or high is None:
        return "none at all"
    first, last = (pd.Timestamp(ms, unit="ms") for ms in (low, high))
    return f"images of {first:%Y-%m-%d} to {last:%Y-%m-%d}, and none of the dates asked for"


def millis(instant: pd.Timestamp) -> int:
    """Return milliseconds since 1970-01-01."""
    return int((instant - pd.Timestamp(0)) // pd.Timedelta(milliseconds=1))
