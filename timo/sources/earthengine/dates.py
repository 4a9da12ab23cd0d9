"""Which images there are, and what the image of each day or period is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ee
import numpy as np
import pandas as pd

from timo.cube.composite import period_starts
from timo.errors import TimoError
from timo.sources.request import CubeRequest

N_VALID = "n_valid"
_MS = pd.Timedelta(milliseconds=1)


@dataclass(frozen=True)
class Listing:
    """The images that there are, in order of (time, id): what one small request to Earth Engine tells.

    Attributes
    ----------
    ids : tuple of str
        Of the assets, "COPERNICUS/S2_SR_HARMONIZED/20190102T..."; `system:index` of images that somebody has computed.
    times : pandas.DatetimeIndex
        Their start in UTC.
    versions : tuple of int
        Of the assets: a reprocessed image has another. Empty where the service does not say.
    """

    ids: tuple[str, ...]
    times: pd.DatetimeIndex
    versions: tuple[int, ...]


def listing_of(parts: Mapping[str, ee.ImageCollection]) -> ee.List:
    """What to ask for to make a `Listing` of collections by their ids; "" for one that is no asset.

    Lists of properties, and not the images: of those Earth Engine sends at most 5,000 ("Collection query aborted after
    accumulating over 5000 elements", developers.google.com/earth-engine/guides/best_practices).
    """
    names = {"ids": "system:index", "times": "system:time_start", "versions": "system:version"}
    return ee.List(
        [
            ee.Dictionary({key: part.aggregate_array(name) for key, name in names.items()})
            for part in parts.values()
        ]
    )


def read_listing(answers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Listing:
    """The answer to `listing_of`, of collections with these names.

    Raises
    ------
    TimoError
        If some image has no date.
    """
    found = []
    for name, answer in zip(names, answers, strict=True):
        ids, times, versions = (answer.get(key) or [] for key in ("ids", "times", "versions"))
        # Such a list leaves out values that are missing.
        if len(times) != len(ids):
            raise undated(f"{len(ids) - len(times)} of the {len(ids)}")
        known = versions if len(versions) == len(ids) else [None] * len(ids)
        prefix = f"{name}/" if name else ""
        found += [(t, f"{prefix}{i}", v) for t, i, v in zip(times, ids, known, strict=True)]
    # Here, because what Earth Engine's `sort` does with images of one time it does not say.
    found.sort(key=lambda image: image[:2])
    stamps = pd.Series([t for t, _, _ in found], dtype="int64")
    said = [int(v) for _, _, v in found if v is not None]
    return Listing(
        tuple(i for _, i, _ in found),
        pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms")),
        tuple(said) if len(said) == len(found) else (),
    )


def undated(which: str) -> TimoError:
    """The error to raise of images without a date."""
    return TimoError(
        f"{which} images have no system:time_start, so that they have no date: set it, with "
        "image.set('system:time_start', ee.Date(...).millis())"
    )


def days_of(listing: Listing, request: CubeRequest) -> pd.DatetimeIndex:
    """The solar days on which there are images."""
    return request.solar_day(listing.times).unique().sort_values()


def assets_of_days(
    listing: Listing, days: pd.DatetimeIndex, request: CubeRequest
) -> list[list[ee.Image]]:
    """The images of each day, in order.

    By their ids, so that no request for pixels searches the collection again, and none can find other images than were
    listed.
    """
    at = days.get_indexer(request.solar_day(listing.times))
    return [[ee.Image(listing.ids[i]) for i in np.flatnonzero(at == n)] for n in range(len(days))]


def spans_of_days(days: pd.DatetimeIndex, request: CubeRequest) -> list[list[int]]:
    """When each day begins and ends, in milliseconds since 1970-01-01 in UTC."""
    one = pd.Timedelta(1, "D")
    return [[millis(request.utc(day)), millis(request.utc(day + one))] for day in days]


def periods_of(days: pd.DatetimeIndex, request: CubeRequest) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """First days of the periods that have a date, and the number of the period of each day."""
    assert request.composite is not None
    starts = period_starts(days, request.composite, request.start)
    periods = starts.unique()
    return periods, periods.get_indexer(starts)


def median_of_days(images: ee.ImageCollection, bands: Sequence[str]) -> ee.Image:
    """The median of each band over the days that are valid, and last how many these are."""
    count = images.select(0).count().unmask(0, False).rename(N_VALID)
    return images.median().rename(list(bands)).toFloat().addBands(count.toFloat())


def millis(instant: pd.Timestamp) -> int:
    """Milliseconds since 1970-01-01."""
    return int((instant - pd.Timestamp(0)) // _MS)
