"""Plan what is fetched of each place: its grid, its windows of time, the image of each window; and what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyproj
import shapely

from timo.checks import Count, Positive, Range, Share, checked
from timo.crs import LONLAT, usual_crs
from timo.datasets.millionst.places import Place, PlaceRule, iter_places
from timo.errors import TimoError
from timo.places.packed.layout import place_key
from timo.sensors import SENSORS, Sensor
from timo.sizes import size_text
from timo.sources.dates import make_span
from timo.sources.place.aoi import make_area
from timo.sources.place.grid import PixelGrid
from timo.sources.request import CubeRequest, Percentage, make_bands

SENSOR = SENSORS["sentinel-2"]
# Stored numbers are those of the sensor: they are not scaled here.
_UNSCALED: Sensor = replace(SENSOR, scale=1.0, offset=0.0)
# Earth Engine sends no more at once, in 1024 bands at most; a pixel counts with one byte for its mask.
# https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels
# The client reads a reply with NumPy, which refuses headers of more than 10,000 characters: some 480 bands.
_REQUEST_BYTES, _MOST_BANDS = 48 * 2**20, 450
_BYTES, _MASK_BYTES = 2, 1
# Of a project, by default: https://developers.google.com/earth-engine/guides/usage
PER_SECOND, CONCURRENT = 100.0, 40
# Places whose images are listed with one request: some hundred images each, whose names are some 50 kB.
LISTED = 20
# Share of the bytes that the codecs of the chip store leave of Sentinel-2's digital numbers (bit shuffle and zstd).
_COMPRESSED = (0.4, 0.7)
# Rough time of a request for the pixels of a place.
_SECONDS = 10.0


@dataclass(frozen=True)
class Image:
    """An image in the catalogue: its index, start in UTC, and percent of it that will be masked."""

    index: str
    time: pd.Timestamp
    unseen: float


class RefusedError(TimoError):
    """Raised when the source refuses a request for good."""


@runtime_checkable
class Source(Protocol):
    """Images of places; called from many threads."""

    def list_images(self, requests: Sequence[CubeRequest]) -> list[list[Image]]:
        """Return the images that meet each request."""

    def read(self, request: CubeRequest, dates: Sequence[tuple[Image, int]]) -> np.ndarray:
        """Return digital numbers (t, c, h, w) int16 of images, nodata in all bands where one is masked."""


@dataclass(frozen=True)
class Target:
    """A place to fetch: where, its cells, and its number in the store."""

    place: Place
    grid: PixelGrid
    key: int


@checked
@dataclass(frozen=True)
class ChipPlan:
    """The recipe of a data set of chips.

    The span from `start` to `end` is cut into as many windows of equal length as `dates`; the clearest image of each
    is fetched: `size` pixels a side of `resolution` metres, with these `bands` (the usual ones of Sentinel-2 by
    default). Images with more than `max_cloud` percent of cloud, by their metadata, are not used; a date with a share
    of valid pixels below `min_clear` is left out; a place with fewer than `min_dates` dates (by default seven tenths of
    `dates`) is replaced by the next one of `rule`.
    """

    places: Count = 100_000
    dates: Count = 10
    start: Any = "2019-01-01"
    end: Any = "2023-12-31"
    size: Count = 264
    resolution: Annotated[float, Range(1, 1000)] = 10.0
    bands: Sequence[str] | None = None
    max_cloud: Percentage = 30.0
    min_clear: Share = 0.3
    min_dates: Count | None = None
    rule: PlaceRule = field(default_factory=PlaceRule)

    def __post_init__(self) -> None:
        if self.fewest > self.dates:
            raise TimoError(f"min_dates is 1 to dates={self.dates}; got {self.min_dates}")
        days = len(pd.date_range(*self.span, inclusive="left"))
        if days < self.dates:
            raise TimoError(
                f"the span from {self.start} to {self.end} has {days} days, fewer than dates={self.dates}"
            )
        # However two squares lie to each other; UTM is off by 0.1 %, and grids are aligned to multiples of a pixel.
        apart = math.sqrt(2) * (self.size * self.resolution * 1.002 + self.resolution)
        if self.rule.distance_m < apart:
            raise TimoError(
                f"chips of {self.size} pixels of {self.resolution:g} m overlap where places are "
                f"{self.rule.distance_m:g} m apart: take a distance of at least {math.ceil(apart)} m"
            )
        if self.parts > self.dates:
            raise TimoError(
                f"one date of {len(self.band_names)} bands and {self.size} x {self.size} pixels is more than Earth "
                f"Engine sends at once ({_REQUEST_BYTES / 2**20:.0f} MiB): take a smaller size, or fewer bands"
            )

    @property
    def band_names(self) -> tuple[str, ...]:
        """Return the names of the bands."""
        return make_bands(SENSOR, self.bands)

    @property
    def fewest(self) -> int:
        """Return the least number of dates of a place."""
        return math.ceil(0.7 * self.dates) if self.min_dates is None else self.min_dates

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Return the first instant, and the first after the last."""
        return make_span(self.start, self.end)

    @cached_property
    def windows(self) -> pd.DatetimeIndex:
        """Return the days on which windows begin, and the first day after the last: dates + 1."""
        first, after = self.span
        days = np.arange(self.dates + 1) * (after - first).days // self.dates
        return pd.DatetimeIndex(first + pd.to_timedelta(days, unit="D"))

    @property
    def parts(self) -> int:
        """Return the number of requests that the pixels of a place take."""
        date = len(self.band_names) * self.size**2 * (_BYTES + _MASK_BYTES)
        fitting = min(_REQUEST_BYTES // date, _MOST_BANDS // len(self.band_names))
        return math.ceil(self.dates / fitting) if fitting else self.dates + 1

    @property
    def place_bytes(self) -> int:
        """Return the bytes of the pixels of a place at all dates."""
        return self.dates * len(self.band_names) * self.size**2 * _BYTES

    @property
    def criteria(self) -> str:
        """Return the criteria by which a place is accepted, as text."""
        return json.dumps([self.max_cloud, self.min_clear, self.fewest, list(self.band_names)])

    def targets(self) -> Iterator[Target]:
        """Yield the places in order, without end: more than `places`, because some will be too cloudy."""
        return (self.target(place) for place in iter_places(self.rule))

    @checked
    def target(self, place: Place) -> Target:
        """Return the cells around a place, in its UTM zone, aligned to multiples of the resolution."""
        crs = usual_crs(place.lon, place.lat)
        x, y = _transformer(crs).transform(place.lon, place.lat)
        half = self.size / 2
        left, top = (round(c / self.resolution + s * half) for c, s in ((x, -1), (y, 1)))
        step = self.resolution
        grid = PixelGrid(crs, left * step, top * step, step, self.size, self.size)
        days = [f"{day:%Y-%m-%d}" for day in self.windows]
        # Of grid, sensor and windows: known before anything is fetched.
        identity = [grid.crs, grid.left, grid.top, grid.resolution, self.size, SENSOR.name, days]
        return Target(place, grid, place_key(identity))

    @checked
    def request(self, target: Target) -> CubeRequest:
        """Return the request for a place; values are not scaled."""
        first, after = self.span
        return CubeRequest(
            area=make_area([shapely.box(*target.grid.bounds)], target.grid.crs),
            grid=target.grid,
            start=first,
            end=after,
            sensor=_UNSCALED,
            bands=self.band_names,
            masked=SENSOR.masked,
            buffer_m=float(SENSOR.fringe_m),
            max_cloud=self.max_cloud,
        )

    @checked
    def choose(self, images: Sequence[Image], request: CubeRequest) -> list[tuple[Image, int]]:
        """Return the clearest image of each window that has one, with its day since 1970-01-01.

        Snow counts as cloud does, because it is masked as well: in the north, the clearest sky is that over snow. Ties
        are broken by time.
        """
        if not images:
            return []
        days = request.solar_day(pd.DatetimeIndex([image.time for image in images]))
        windows = np.searchsorted(self.windows, days, side="right") - 1
        best: dict[int, tuple[Image, int]] = {}
        for image, day, window in zip(images, days, windows, strict=True):
            known = best.get(int(window))
            rank = (image.unseen, image.time, image.index)
            if known is None or rank < (known[0].unseen, known[0].time, known[0].index):
                best[int(window)] = (image, (day - pd.Timestamp(0)).days)
        return [best[window] for window in sorted(best) if 0 <= window < self.dates]


@cache
def _transformer(crs: str) -> pyproj.Transformer:
    """Return a transformer from degrees; kept, because making one takes longer than all its uses."""
    return pyproj.Transformer.from_crs(LONLAT, crs, always_xy=True)


@checked
@dataclass(frozen=True)
class Cost:
    """The places of a plan that are not in the store yet, and what fetching them takes.

    `listings` and `pixels` are requests, for the names of images and for pixels; `bytes` those of pixels before
    compression, if every window has an image; `per_second` and `concurrent` limit the requests that begin in a second
    and that are under way.
    """

    places: int
    listings: int
    pixels: int
    bytes: int
    per_second: Positive = PER_SECOND
    concurrent: Count = CONCURRENT

    @property
    def requests(self) -> int:
        """Return the number of all requests."""
        return self.listings + self.pixels

    @property
    def hours(self) -> float:
        """Return the least time that the quota of requests allows."""
        return self.requests / self.per_second / 3600

    @checked
    def hours_at(self, seconds: float) -> float:
        """Return the time if each request takes this many seconds."""
        return max(self.hours, math.ceil(self.requests / self.concurrent) * seconds / 3600)

    def describe(self) -> str:
        """Return the cost in words."""
        usual = self.hours_at(_SECONDS)
        pace = size_text(self.bytes / (3600 * usual)) if usual else "nothing"
        low, high = (share * self.bytes for share in _COMPRESSED)
        lines = {
            "places": f"{self.places:,} to fetch",
            "requests": f"{self.requests:,}: {self.listings:,} for lists of images, {self.pixels:,} for pixels; more "
            "where a place is too cloudy and replaced, or a request fails and is made again",
            "to fetch": f"{size_text(self.bytes)} of pixels, before the network's compression",
            "on disk": f"{size_text(low)} to {size_text(high)}",
            "time": f"{_hours(usual)} if a request takes {_SECONDS:g} s and {self.concurrent} are "
            f"under way, which is {pace} a second; at least {_hours(self.hours)} at {self.per_second:g} requests a "
            "second",
            "EECU": "cannot be known before; Earth Engine counts it, and a project without charge has a monthly limit",
        }
        return "\n".join(f"{name:<10}{text}" for name, text in lines.items())


@checked
def estimate(
    plan: ChipPlan,
    present: Annotated[int, Range(least=0)] = 0,
    *,
    per_second: Positive = PER_SECOND,
    concurrent: Count = CONCURRENT,
) -> Cost:
    """Return the cost of a plan of which `present` places are in the store already."""
    places = max(0, plan.places - present)
    return Cost(
        places=places,
        listings=math.ceil(places / LISTED),
        pixels=places * plan.parts,
        bytes=places * plan.place_bytes,
        per_second=per_second,
        concurrent=concurrent,
    )


def _hours(count: float) -> str:
    """Return hours as text, in the unit that suits."""
    if count < 1 / 60:
        return f"{3600 * count:.3g} s"
    if count < 1:
        return f"{60 * count:.0f} min"
    return f"{count:.3g} h" if count < 72 else f"{count / 24:.3g} days"
