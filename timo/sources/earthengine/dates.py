"""Which dates there are, and one image for each of them or for each period of a composite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ee
import pandas as pd

from timo.cube.composite import period_starts
from timo.errors import TimoError
from timo.sources.request import CubeRequest

N_VALID = "n_valid"
_MS = pd.Timedelta(milliseconds=1)


@dataclass(frozen=True)
class Listing:
    """The images that there are: what one small request to Earth Engine tells.

    Attributes
    ----------
    ids : tuple of str
        `system:index` of each.
    times : pandas.DatetimeIndex
        Their start in UTC, ascending.
    versions : tuple of int
        Of the assets: a reprocessed image has another. Empty where the service does not say.
    """

    ids: tuple[str, ...]
    times: pd.DatetimeIndex
    versions: tuple[int, ...]


def listing_of(images: ee.ImageCollection) -> ee.Dictionary:
    """What to ask for to make a `Listing`."""
    return ee.Dictionary(
        {
            "ids": images.aggregate_array("system:index"),
            "times": images.aggregate_array("system:time_start"),
            "versions": images.aggregate_array("system:version"),
        }
    )


def read_listing(answer: dict) -> Listing:
    """The answer to `listing_of`.

    Raises
    ------
    TimoError
        If some image has no date.
    """
    ids, times, versions = (answer.get(name) or [] for name in ("ids", "times", "versions"))
    if len(times) != len(ids):
        raise TimoError(
            f"{len(ids) - len(times)} of the {len(ids)} images have no system:time_start, so that they have no date: "
            "set it, with image.set('system:time_start', ee.Date(...).millis())"
        )
    return Listing(
        tuple(str(i) for i in ids),
        pd.to_datetime(pd.Series(times, dtype="int64"), unit="ms").pipe(pd.DatetimeIndex),
        tuple(int(v) for v in versions) if len(versions) == len(ids) else (),
    )


def days_of(listing: Listing, request: CubeRequest) -> pd.DatetimeIndex:
    """The solar days on which there are images."""
    return request.solar_day(listing.times).unique().sort_values()


def daily(
    images: ee.ImageCollection, days: pd.DatetimeIndex, request: CubeRequest
) -> ee.ImageCollection:
    """One image for each day: of several, the last that is valid at a pixel is on top."""
    starts = ee.List([_ms(request.utc(day)) for day in days])

    def mosaic(start: ee.Number) -> ee.Image:
        begin = ee.Date(start)
        day = images.filterDate(begin, begin.advance(1, "day")).mosaic()
        return day.set("system:time_start", start)

    return ee.ImageCollection.fromImages(starts.map(mosaic))


def composited(
    images: ee.ImageCollection, days: pd.DatetimeIndex, request: CubeRequest
) -> tuple[ee.ImageCollection, pd.DatetimeIndex]:
    """One image for each period that has a date: the median of each band, and last how many it is the median of.

    Returns
    -------
    images : ee.ImageCollection
        Bands of the request, and "n_valid".
    periods : pandas.DatetimeIndex
        Their first days.
    """
    assert request.composite is not None
    starts = period_starts(days, request.composite, request.start)
    periods = starts.unique()
    # From the period's first date to its last: no need to know where the period ends.
    spans = [
        [_ms(request.utc(days[starts == p][0])), _ms(request.utc(days[starts == p][-1])) + 1]
        for p in periods
    ]

    def median(span: ee.List) -> ee.Image:
        part = images.filterDate(ee.List(span).get(0), ee.List(span).get(1))
        count = part.select(0).count().unmask(0, False).rename(N_VALID)
        middle = part.median().rename(list(request.bands)).toFloat()
        return middle.addBands(count.toFloat()).set("system:time_start", ee.List(span).get(0))

    return ee.ImageCollection.fromImages(ee.List(spans).map(median)), periods


def layers(images: ee.ImageCollection, count: int, bands: Sequence[str]) -> ee.ImageCollection:
    """One image of one band, "value", for each of so many dates and each band, date by date.

    xee asks for one band of many images at a time. What it takes to mask a pixel is the same for all bands, and would
    be computed once for each: in this form all bands of a date come with one request.
    """

    def split(image: ee.Image) -> ee.List:
        def pick(band: ee.String) -> ee.Image:
            single = ee.Image(image).select([band], ["value"])
            return single.set("system:time_start", ee.Image(image).get("system:time_start"))

        return ee.List(list(bands)).map(pick)

    every = images.toList(count).map(split)
    return ee.ImageCollection.fromImages(every.flatten())


def _ms(instant: pd.Timestamp) -> int:
    return int((instant - pd.Timestamp(0)) // _MS)
