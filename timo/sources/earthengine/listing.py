"""List the images that there are, and sort them by day and period."""

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


@dataclass(frozen=True)
class Listing:
    """The images that there are, in order of (time, id): the answer to one small request to Earth Engine.

    `ids` are those of assets, "COPERNICUS/S2_SR_HARMONIZED/20190102T...", or the `system:index` of images that the user
    has computed; `times` their start in UTC; a reprocessed asset has another one of `versions`, which are empty where
    the service does not give them.
    """

    ids: tuple[str, ...]
    times: pd.DatetimeIndex
    versions: tuple[int, ...]

    def days(self, request: CubeRequest) -> pd.DatetimeIndex:
        """Return the solar days on which there are images."""
        return request.solar_day(self.times).unique().sort_values()

    def assets(self, days: pd.DatetimeIndex, request: CubeRequest) -> list[list[ee.Image]]:
        """Return the images of each day, in order.

        By their ids, so that no request for pixels searches the collection again, and none can find other images than
        were listed.
        """
        at = days.get_indexer(request.solar_day(self.times))
        return [[ee.Image(self.ids[i]) for i in np.flatnonzero(at == n)] for n in range(len(days))]


def listing_of(parts: Mapping[str, ee.ImageCollection]) -> ee.List:
    """Return the question whose answer is the `Listing` of collections by their ids; "" for one that is no asset.

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
    """Read the answer to `listing_of`, of collections with these names.

    Raises
    ------
    TimoError
        If an image has no date.
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
    # Here, because Earth Engine's `sort` does not document the order of images of one time.
    found.sort(key=lambda image: image[:2])
    stamps = pd.Series([t for t, _, _ in found], dtype="int64")
    said = [int(v) for _, _, v in found if v is not None]
    return Listing(
        tuple(i for _, i, _ in found),
        pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms")),
        tuple(said) if len(said) == len(found) else (),
    )


def undated(which: str) -> TimoError:
    """Return the error to raise for images without a date."""
    return TimoError(
        f"{which} images have no system:time_start, so that they have no date: set it, with "
        "image.set('system:time_start', ee.Date(...).millis())"
    )


def dates_there(low: int | None, high: int | None) -> str:
    """Return a phrase on the dates that images have, given as milliseconds since 1970."""
    if low is None or high is None:
        return "none at all"
    first, last = (pd.Timestamp(ms, unit="ms") for ms in (low, high))
    return f"images of {first:%Y-%m-%d} to {last:%Y-%m-%d}, and none of the dates asked for"


def periods_of(days: pd.DatetimeIndex, request: CubeRequest) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Return the first days of the periods that have a date, and the number of the period of each day."""
    assert request.composite is not None
    starts = period_starts(days, request.composite, request.start)
    periods = starts.unique()
    return periods, periods.get_indexer(starts)


def millis(instant: pd.Timestamp) -> int:
    """Return milliseconds since 1970-01-01."""
    return int((instant - pd.Timestamp(0)) // pd.Timedelta(milliseconds=1))
