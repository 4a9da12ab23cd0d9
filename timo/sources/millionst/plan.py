"""What is fetched of each place: its grid, its windows of time, and which image of each window."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyproj
import shapely

from timo.errors import TimoError
from timo.sensors import SENSORS, Sensor
from timo.sources.millionst.places import Place, PlaceRule, iter_places
from timo.sources.millionst.source import Image
from timo.sources.place.aoi import make_area
from timo.sources.place.grid import PixelGrid
from timo.sources.place.projection import LONLAT, usual_crs
from timo.sources.request import CubeRequest, make_bands
from timo.sources.span import make_span
from timo.training.chips.layout import Layout

SENSOR = SENSORS["sentinel-2"]
# Stored numbers are those of the sensor: what the graphs of the sources scale is not scaled here.
_UNSCALED: Sensor = replace(SENSOR, scale=1.0, offset=0.0)
# Earth Engine sends no more at once, in 1024 bands at most; a pixel counts with one byte for its mask.
# https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels
# The client reads a reply with NumPy, which refuses headers of more than 10,000 characters: some 480 bands.
_REQUEST_BYTES, _MOST_BANDS = 48 * 2**20, 450
_BYTES, _MASK_BYTES = 2, 1
_SHARD_BYTES = 2**28


@dataclass(frozen=True)
class Target:
    """A place that is to be fetched: where, its cells, and the number that it has in the store."""

    place: Place
    grid: PixelGrid
    key: int


@dataclass(frozen=True)
class ChipPlan:
    """What a data set of chips is made of.

    Parameters
    ----------
    places : int
        Number of places.
    dates : int
        Windows of equal length that the span is cut into; of each, the clearest image is fetched.
    start, end : str
        First and last day of the span.
    size : int
        Height and width of a chip in pixels.
    resolution : float
        Side of a pixel in metres.
    bands : sequence of str, optional
        The usual ones of Sentinel-2, if not given.
    max_cloud : float
        Images with more cloud than so many percent, by their metadata, are not used.
    min_clear : float
        Least share of valid pixels of a date; a date with less is left out.
    min_dates : int, optional
        Least number of such dates; a place with fewer is replaced by the next. Seven tenths of `dates`, if not given.
    rule : PlaceRule
        Which places.

    Raises
    ------
    TimoError
        If something makes no sense.
    """

    places: int = 100_000
    dates: int = 10
    start: str = "2019-01-01"
    end: str = "2023-12-31"
    size: int = 264
    resolution: float = 10.0
    bands: Sequence[str] | None = None
    max_cloud: float = 30.0
    min_clear: float = 0.3
    min_dates: int | None = None
    rule: PlaceRule = field(default_factory=PlaceRule)

    def __post_init__(self) -> None:
        counts = {"places": self.places, "dates": self.dates, "size": self.size}
        if wrong := {name: value for name, value in counts.items() if value < 1}:
            raise TimoError(f"{', '.join(counts)} must be at least 1; got {wrong}")
        if not 1 <= self.resolution <= 1000:
            raise TimoError(
                f"resolution is the side of a pixel in metres, 1 to 1000; got {self.resolution}"
            )
        if not 0 <= self.max_cloud <= 100:
            raise TimoError(f"max_cloud is a percentage, 0 to 100; got {self.max_cloud}")
        if not 0 <= self.min_clear <= 1:
            raise TimoError(f"min_clear is a share, 0 to 1; got {self.min_clear}")
        if not 1 <= self.fewest <= self.dates:
            raise TimoError(f"min_dates is 1 to dates={self.dates}; got {self.min_dates}")
        self._check_windows()
        self._check_distance()
        if self.parts > self.dates:
            raise TimoError(
                f"one date of {len(self.band_names)} bands and {self.size} x {self.size} pixels is more than Earth "
                f"Engine sends at once ({_REQUEST_BYTES / 2**20:.0f} MiB): take a smaller size, or fewer bands"
            )

    def _check_windows(self) -> None:
        days = len(pd.date_range(*self.span, inclusive="left"))
        if days < self.dates:
            raise TimoError(
                f"the span from {self.start} to {self.end} has {days} days, fewer than dates={self.dates}"
            )

    def _check_distance(self) -> None:
        # However two squares lie to each other; UTM is off by 0.1 %, and grids are aligned to multiples of a pixel.
        least = math.sqrt(2) * (self.size * self.resolution * 1.002 + self.resolution)
        if self.rule.distance_m < least:
            raise TimoError(
                f"chips of {self.size} pixels of {self.resolution:g} m overlap where places are "
                f"{self.rule.distance_m:g} m apart: take a distance of at least {math.ceil(least)} m"
            )

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return make_bands(SENSOR, self.bands)

    @property
    def fewest(self) -> int:
        """Least number of dates of a place."""
        return math.ceil(0.7 * self.dates) if self.min_dates is None else self.min_dates

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """First instant, and the first after the last."""
        return make_span(self.start, self.end)

    @cached_property
    def windows(self) -> pd.DatetimeIndex:
        """The days on which windows begin, and the first day after the last: dates + 1."""
        first, after = self.span
        days = np.arange(self.dates + 1) * (after - first).days // self.dates
        return pd.DatetimeIndex(first + pd.to_timedelta(days, unit="D"))

    @property
    def parts(self) -> int:
        """Requests that the pixels of a place are cut into."""
        date = len(self.band_names) * self.size**2 * (_BYTES + _MASK_BYTES)
        fitting = min(_REQUEST_BYTES // date, _MOST_BANDS // len(self.band_names))
        return math.ceil(self.dates / fitting) if fitting else self.dates + 1

    @property
    def place_bytes(self) -> int:
        """What the pixels of a place at all dates hold."""
        return self.dates * len(self.band_names) * self.size**2 * _BYTES

    @property
    def layout(self) -> Layout:
        """Of the store: digital numbers as they are."""
        return Layout(
            bands=self.band_names,
            size=self.size,
            dates=self.dates,
            sensor=SENSOR.name,
            dtype="int16",
            scale=float(SENSOR.scale),
            offset=float(SENSOR.offset),
            shard=int(np.clip(_SHARD_BYTES // self.place_bytes, 1, 4096)),
            units=SENSOR.units,
        )

    @property
    def criteria(self) -> str:
        """What decides, besides a place itself, whether it is good enough."""
        return json.dumps([self.max_cloud, self.min_clear, self.fewest, list(self.band_names)])

    def targets(self) -> Iterator[Target]:
        """The places in order, without end: more than `places`, because some will be too cloudy."""
        return (self.target(place) for place in iter_places(self.rule))

    def target(self, place: Place) -> Target:
        """Cells around a place, in its UTM zone, aligned to multiples of the resolution."""
        crs = usual_crs(place.lon, place.lat)
        x, y = _transformer(crs).transform(place.lon, place.lat)
        half = self.size / 2
        left, top = (round(c / self.resolution + s * half) for c, s in ((x, -1), (y, 1)))
        step = self.resolution
        grid = PixelGrid(crs, left * step, top * step, step, self.size, self.size)
        return Target(place, grid, self._key(grid))

    def _key(self, grid: PixelGrid) -> int:
        """Digest of grid, sensor and windows: known before anything is fetched."""
        days = [f"{day:%Y-%m-%d}" for day in self.windows]
        identity = [grid.crs, grid.left, grid.top, grid.resolution, self.size, SENSOR.name, days]
        digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    def request(self, target: Target) -> CubeRequest:
        """What the graphs of the sources are made from; values are not scaled."""
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

    def choose(self, images: Sequence[Image], request: CubeRequest) -> list[tuple[Image, int]]:
        """The clearest image of each window that has one, with its day since 1970-01-01.

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


_transformers: dict[str, pyproj.Transformer] = {}


def _transformer(crs: str) -> pyproj.Transformer:
    """From degrees; kept, because making one takes longer than all its uses. For one thread."""
    if crs not in _transformers:
        _transformers[crs] = pyproj.Transformer.from_crs(LONLAT, crs, always_xy=True)
    return _transformers[crs]
