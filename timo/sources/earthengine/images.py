"""Filter, mask and scale a sensor's images on Earth Engine. Graphs only: nothing is sent."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import ee
import numpy as np

from timo.errors import TimoError
from timo.sensors import Collection, Sensor
from timo.sources.earthengine.listing import millis
from timo.sources.request import CubeRequest
from timo.sources.scenes import fringe_cells, half_axes

PROVIDER = "earthengine"
# Cells from the middle: the weights of a kernel travel with each request.
_LARGEST_KERNEL = 40


def filtered(
    request: CubeRequest, served: Collection, orbit: str | None = None
) -> dict[str, ee.ImageCollection]:
    """Return the images that meet a request, unchanged, of each collection by its id.

    Conditions stand directly on the collections, before anything is computed, where Earth Engine looks them up in its
    index. Of Sentinel-2 a tile can come twice from one overflight: products are cut where their reception was, with
    some overlap, and both parts are needed.

    Raises
    ------
    TimoError
        If the sensor has no cloud cover or orbit to select by.
    """
    conditions = [_condition(name, value) for name, value in served.where.items()]
    if served.band_list:
        conditions += [ee.Filter.listContains(served.band_list, band) for band in request.bands]
    if request.max_cloud is not None:
        conditions.append(ee.Filter.lte(_cloud_property(request.sensor, served), request.max_cloud))
    if orbit is not None:
        conditions.append(_orbit_condition(request.sensor, served, orbit))
    first, after = (millis(request.utc(instant)) for instant in (request.start, request.end))
    area = ee.Geometry(request.area.geojson, None, False)
    parts = {}
    for name in served.ids:
        images = ee.ImageCollection(name).filterDate(first, after).filterBounds(area)
        for condition in conditions:
            images = images.filter(condition)
        parts[name] = images
    return parts


def prepared(
    image: ee.Image, request: CubeRequest, *, cloud_score: float | None = None
) -> ee.Image:
    """Return an image of a sensor's collection: bands named as in the cube, masked, in physical units.

    All of it is computed in the projection and at the scale of the request for pixels, from inputs by nearest neighbour
    each from its own projection (developers.google.com/earth-engine/guides/projections: "inputs are requested in the
    output projection"; guides/resample); a mosaic and a median of such images, too. With `reproject` Earth Engine would
    compute more than is asked for.

    Parameters
    ----------
    image : ee.Image
        An asset, with its `system:index`.
    request : CubeRequest
        The cube to make.
    cloud_score : float, optional
        Mask pixels with a Cloud Score+ of less than this, 0..1, in place of the clouds and shadows of the quality layer
        (Pasquarella et al. 2023, CVPR Workshops). An image that has none is masked as a whole.

    Returns
    -------
    ee.Image
        float bands; a pixel is valid in all bands or in none. At a coarse level of an image's pyramid, where masks are
        shares of valid pixels, any share is valid.
    """
    sensor = request.sensor
    served = sensor.collection(PROVIDER)
    data = image.select([served.name(band) for band in request.bands], list(request.bands))
    valid = data.mask().reduce(ee.Reducer.min()).gt(0)
    masked, fringed = request.masked, request.fringed
    if cloud_score is not None:
        score, replaced = _cloud_score(image, sensor, served)
        valid = valid.And(score.gte(cloud_score))
        masked, fringed = (
            tuple(i for i in positions if i not in replaced) for positions in (masked, fringed)
        )
    if masked:
        quality = image.select(served.name(sensor.mask_name))
        valid = valid.And(flagged(quality, sensor, masked).Not())
        if fringed:
            valid = valid.And(_far(flagged(quality, sensor, fringed), request))
    scale = sensor.scale if served.scale is None else served.scale
    offset = sensor.offset if served.offset is None else served.offset
    physical = data.multiply(scale).add(offset) if (scale, offset) != (1, 0) else data
    return physical.toFloat().updateMask(valid)


def flagged(quality: ee.Image, sensor: Sensor, positions: Iterable[int]) -> ee.Image:
    """Return 1 where the quality layer has any of these classes, else 0 (`Sensor.flagged`).

    In as few operations as can be: the codes of a plain classification with one, flags of a single bit with two.
    """
    kinds = [sensor.quality[position] for position in positions]
    codes = [kind.value for kind in kinds if kind.bits is None]
    masks = [(kind.bits, kind.value) for kind in kinds if kind.bits is not None]
    single = {bits for bits, value in masks if bits == value and bits.bit_count() == 1}
    flags = sum(single)
    said = [quality.bitwiseAnd(bits).eq(value) for bits, value in masks if bits not in single]
    if codes:
        said.append(quality.remap(codes, [1] * len(codes), 0))
    if flags:
        said.append(quality.bitwiseAnd(flags).neq(0))
    if not said:
        return quality.multiply(0)
    return functools.reduce(lambda a, b: a.Or(b), said)


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
    height, width = half_axes(request)
    if abs(height - width) < 1e-6 or max(height, width) > _LARGEST_KERNEL:
        return known.focalMax(max(height, width), "circle", "pixels").Not()
    return known.focalMax(kernel=_ellipse(height, width)).Not()


def _ellipse(height: float, width: float) -> ee.Kernel:
    """Return cells whose centre is within an ellipse of these half axes, in cells: in degrees, a circle in metres."""
    rows, columns = (np.arange(-math.floor(n), math.floor(n) + 1) for n in (height, width))
    inside = (rows[:, None] / height) ** 2 + (columns / width) ** 2 <= 1 + 1e-9
    return ee.Kernel.fixed(weights=inside.astype(int).tolist())


def _condition(name: str, value: object) -> ee.Filter:
    if isinstance(value, tuple | list):
        return ee.Filter.inList(name, list(value))
    return ee.Filter.eq(name, value)


def _cloud_property(sensor: Sensor, served: Collection) -> str:
    if not served.cloud_cover:
        raise TimoError(
            f"max_cloud cannot be used: the images of {sensor.name} do not say how cloudy they are. Leave it out; "
            "clouds are masked pixel by pixel"
        )
    return served.cloud_cover


def _orbit_condition(sensor: Sensor, served: Collection, orbit: str) -> ee.Filter:
    if orbit not in ("ascending", "descending"):
        raise TimoError(f'orbit is "ascending" or "descending"; got {orbit!r}')
    if not served.orbit:
        raise TimoError(
            f"orbit cannot be chosen: the images of {sensor.name} do not say theirs. Leave it out"
        )
    return ee.Filter.eq(served.orbit, orbit.upper())


def _cloud_score(
    image: ee.Image, sensor: Sensor, served: Collection
) -> tuple[ee.Image, tuple[int, ...]]:
    """Return the Cloud Score+ of an image, and the classes of the quality layer that it replaces."""
    if served.cloud_score is None:
        raise TimoError(f"there is no Cloud Score+ of {sensor.name}: leave cloud_score out")
    scores, band = ee.ImageCollection(served.cloud_score.id), served.cloud_score.band
    return image.linkCollection(scores, [band]).select(band), served.cloud_score.replaces
