"""Options that the sources share, checked once, at the door."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import xarray as xr

from timo.checks import NotNegative, Positive, Range, check, checked, described, did_you_mean
from timo.crs import metres_per_unit, read_crs, short_name
from timo.cube.composite import period_offset
from timo.errors import TimoError, warn
from timo.sensors import SENSORS, Sensor, get_sensor, register_sensor
from timo.sources.dates import make_span
from timo.sources.place.aoi import Area, parse_aoi
from timo.sources.place.area import FORMS
from timo.sources.place.grid import Limit, PixelGrid, grid_of, make_grid

Percentage = Annotated[float, Range(0, 100)]
Metres = Annotated[float, Range(0, 10_000)]
# Cells. Earth Engine refuses kernels of a larger radius.
_WIDEST_BUFFER = 512
# pandas' name of a period by its start, and what people write for it.
_PERIODS = {
    "1MS": "m me 1m 1me monthly months ms",
    "QS-DEC": "q qe 1q 1qe quarterly seasonal seasons",
    "YS": "y ye a as 1y 1ye 1ys yearly annual years",
    "W-MON": "weekly week",
    "1D": "daily day",
}


@checked
@dataclass(frozen=True, repr=False)
class CubeRequest:
    """A cube that is to be made.

    Attributes
    ----------
    area, grid : Area, PixelGrid
        The area of interest, and the cells of the cube.
    start, end : pandas.Timestamp
        First instant, and the first one after the last: half open. In solar days of the area's centre.
    sensor, bands : Sensor, tuple of str
        The instrument, and names of its bands in the order of the cube.
    masked : tuple of int
        Positions in `sensor.quality` of invalid observations.
    buffer_m : float
        How far around clouds and shadows (`fringed`) pixels are masked too, in metres between cell centres.
    composite : str, optional
        pandas' name of a period, e.g. "1MS": the median of its valid observations, dated with its start.
    max_cloud : float, optional
        Images that are cloudier than this percentage, by their metadata, are left out.
    clip : bool
        Pixels whose centre is outside the area are NaN.
    """

    area: Area
    grid: PixelGrid
    start: pd.Timestamp
    end: pd.Timestamp
    sensor: Sensor
    bands: tuple[str, ...]
    masked: tuple[int, ...] = ()
    buffer_m: NotNegative = 0.0
    composite: str | None = None
    max_cloud: Percentage | None = None
    clip: bool = False

    def __repr__(self) -> str:
        last = self.end - pd.Timedelta(days=1)
        grid = self.grid
        cells = (
            f"{grid.height} x {grid.width} cells of {grid.resolution:g} in {short_name(grid.crs)}"
        )
        bands = f"{self.sensor.name} {', '.join(self.bands)}"
        return f"CubeRequest({bands}; {self.start:%Y-%m-%d} to {last:%Y-%m-%d}; {cells})"

    @property
    def fringed(self) -> tuple[int, ...]:
        """Those of the masked classes that `buffer_m` widens."""
        return tuple(i for i in self.masked if i in self.sensor.fringed)

    @checked
    def solar_day(self, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Return the days at the area's centre of instants in UTC, so that no overpass is cut by UTC's midnight."""
        return (times + self._solar_shift).floor("D").as_unit("ns")

    @checked
    def utc(self, instant: pd.Timestamp) -> pd.Timestamp:
        """Return when in UTC a solar day of the area's centre begins."""
        return instant - self._solar_shift

    @property
    def _solar_shift(self) -> pd.Timedelta:
        """Solar time less UTC; none for images of several days, which are dated in UTC and not by an overpass."""
        return pd.Timedelta(hours=0 if self.sensor.period_days else self.area.centre[0] / 15)


@checked
def make_request(
    aoi: Any = None,
    start: Any = None,
    end: Any = None,
    *,
    sensor: str | Sensor = "sentinel-2",
    bands: str | Sequence[str] | None = None,
    resolution: Positive | None = None,
    composite: Any = None,
    crs: Any = None,
    like: Any = None,
    max_cloud: Percentage | None = None,
    masked_classes: Any = None,
    buffer_m: Metres | None = None,
    clip: bool = False,
    max_megapixels: Limit = 1000,
) -> CubeRequest:
    """Check the options that all sources share; they are those of `timo.open_cube`."""
    instrument = make_sensor(sensor)
    if len(instrument.parts) > 1:
        raise TimoError(
            f"open_cube opens one sensor at a time; got {instrument.name!r}. Open the others with like= the first, and "
            "join them: timo.cube.join(first, other)."
        )
    first, last = make_span(start, end)
    names = make_bands(instrument, bands)
    masked = make_masked(instrument, masked_classes)
    if max_cloud is not None and 0 < max_cloud < 1:
        warn(
            f"max_cloud={max_cloud!r} is less than one percent. For {100 * max_cloud:g} % write "
            f"max_cloud={100 * max_cloud:g}."
        )
    finest = min(instrument.band(name).gsd_m for name in names)
    area, grid = make_place(
        aoi, resolution, crs, like, finest_m=finest, max_megapixels=max_megapixels
    )
    return CubeRequest(
        area=area,
        grid=grid,
        start=first,
        end=last,
        sensor=instrument,
        bands=names,
        masked=masked,
        buffer_m=make_buffer(instrument.fringe_m if buffer_m is None else buffer_m, grid),
        composite=make_composite(composite),
        max_cloud=max_cloud,
        clip=clip,
    )


def make_place(
    aoi: Any,
    resolution: float | None,
    crs: Any,
    like: Any,
    *,
    finest_m: float,
    max_megapixels: float = 1000,
) -> tuple[Area, PixelGrid]:
    """Return the area and its cells: those of `like`, or else of `resolution` or `finest_m` metres a side."""
    if like is None and aoi is None:
        raise TimoError(
            f"aoi is missing: where? Give {FORMS}; or like=, a cube whose cells are taken"
        )
    if like is None:
        area = parse_aoi(aoi)
        if resolution is None:
            resolution = finest_m if crs is None else finest_m / metres_per_unit(read_crs(crs))
        return area, make_grid(area, resolution, crs, max_megapixels=max_megapixels)
    if isinstance(like, xr.Dataset):  # such as a map
        like = like.get(next(iter(like.data_vars), "y"))
    if not isinstance(like, xr.DataArray):
        raise TimoError(
            f"like= takes a cube or raster (xarray.DataArray) whose cells are taken; got {type(like).__name__}. A file "
            "is opened with rioxarray.open_rasterio(path)"
        )
    if given := [n for n, v in {"resolution": resolution, "crs": crs}.items() if v is not None]:
        raise TimoError(
            f"like= has a resolution and a crs already: leave out {' and '.join(given)}, or like"
        )
    grid = grid_of(like)
    area = grid.area if aoi is None else parse_aoi(aoi)
    if aoi is not None and not area.wrapped.intersects(grid.area.wrapped):
        raise TimoError(f"The aoi, {area!r}, does not meet the grid of like=, {grid.area!r}")
    return area, grid


def make_sensor(sensor: str | Sensor) -> Sensor:
    """Return a sensor by its name; one that is given itself is registered, so that cubes of it pass all checks."""
    if isinstance(sensor, Sensor) and SENSORS.get(sensor.name) != sensor:
        return register_sensor(sensor)
    return sensor if isinstance(sensor, Sensor) else get_sensor(sensor)


@checked
def make_bands(sensor: Sensor, bands: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return names of bands as the sensor spells them, each once; its usual ones if none are given.

    They are given by its own names ("B4", also "b4" and "B04") or by common ones ("red", "nir", "swir16").
    """
    if bands is None:
        return sensor.default_bands
    given = [bands] if isinstance(bands, str) else list(bands)
    names = tuple(_band_name(sensor, name) for name in given)
    if not names or len(set(names)) < len(names):
        raise TimoError(f"bands must name at least one band and each once; got {given}")
    return names


def _band_name(sensor: Sensor, name: str) -> str:
    if name in sensor.band_names:
        return name
    # The band's own name counts before its common name, and that before names in files of the product.
    spelt = [(n, band.name) for band in sensor.bands for n in band.aliases]
    spelt += [(band.common_name, band.name) for band in sensor.bands if band.common_name]
    spelt += [(name, name) for name in sensor.band_names]
    if band := {_plain_band(other): band for other, band in spelt}.get(_plain_band(name)):
        return band
    if name == sensor.mask_name:
        hint = f" {name} is its quality layer, which masks pixels (masked_classes=)."
    elif "," in name:
        hint = " Give a list of names."
    else:
        others = {b.name: " ".join((*b.aliases, b.common_name or "")) for b in sensor.bands}
        hint = did_you_mean(name, sensor.band_names, others)
    listed = [f"{b.name} ({b.common_name})" if b.common_name else b.name for b in sensor.bands]
    raise TimoError(
        f"{sensor.name} has no band {name!r}.{hint} Its bands are: {', '.join(listed)}."
    )


def _plain_band(name: str) -> str:
    """Lower case, no zeros before a number: "B04" is b4."""
    return re.sub(r"(?<![0-9])0+(?=\d)", "", name.strip().lower())


def make_masked(sensor: Sensor, classes: Any) -> tuple[int, ...]:
    """Return positions of the quality classes to mask; the sensor's own if none are given."""
    if classes is None:
        return sensor.masked
    try:
        positions = tuple(dict.fromkeys(check(classes, Collection[int], "masked_classes")))
    except TimoError as error:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(sensor.mask_classes)) or "none"
        raise TimoError(f"{error} () masks nothing. {sensor.name} has: {listed}") from None
    sensor.flagged(0, positions)
    return positions


def make_buffer(buffer_m: float, grid: PixelGrid) -> float:
    """Return metres to mask around clouds; of more cells Earth Engine refuses it and others would take hours."""
    if buffer_m > _WIDEST_BUFFER * grid.metres:
        raise TimoError(
            f"buffer_m={buffer_m:g} is {buffer_m / grid.metres:,.0f} cells of {grid.metres:g} m; {_WIDEST_BUFFER} "
            "cells can be masked around a cloud. Give less, or a larger resolution"
        )
    return float(buffer_m)


def make_composite(composite: Any) -> str | None:
    """Return the name of a period that is dated by its first day; see `timo.cube.composite`."""
    if composite is None:
        return None
    if not isinstance(composite, str):
        raise TimoError(
            f'composite={described(composite)} is no period: write "1MS" (months), "QS-DEC" (seasons), "YS" (years) or '
            '"16D" (16 days); or None for every date'
        )
    try:
        offset = period_offset(composite)
    except TimoError as error:
        hint = did_you_mean(composite, _PERIODS, _PERIODS)
        raise TimoError(f"composite={composite!r} is no period: {error}{hint}") from error
    try:
        long = pd.Timestamp("2000-01-01") + offset > pd.Timestamp("2100-01-01")
    except (OverflowError, pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta):
        long = True
    if long:
        raise TimoError(f"composite={composite!r} is no period of at most a hundred years")
    return composite
