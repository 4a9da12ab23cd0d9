"""Series of single pixels from a table: each a place of one cell, with its own dates, in arrays that all share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.checks import PathLike, checked
from timo.crs import LONLAT, read_crs
from timo.cube import band_groups, check_values, days_since_epoch, observed
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.places.chip import Chip
from timo.places.names import make_naming, name_of
from timo.places.observations import (
    Observations,
    as_numbers,
    constant,
    read_long,
    read_table,
    read_wide,
)
from timo.places.source import Source
from timo.places.view import cut_labels, zeroed
from timo.sensors import Sensor
from timo.sources.request import make_sensor

# Where a series without coordinates lies: on a grid that is nowhere.
_NOWHERE = "+proj=tmerc +lat_0=0 +lon_0=0 +ellps=WGS84 +units=m +type=crs"
Factors = float | Mapping[str, float]


@dataclass(frozen=True)
class Labels:
    """The label of each series, (series,): classes, -1 = none, or values, NaN = none."""

    values: np.ndarray
    classes: tuple[str, ...] = ()
    target: str = ""

    @property
    def counts(self) -> np.ndarray:
        """Return (series, class) what is labelled; values are one class."""
        if not self.classes:
            return np.isfinite(self.values)[:, None].astype("int64")
        return (self.values[:, None] == np.arange(len(self.classes))).astype("int64")


class SeriesSource(Source):
    """Series of pixels as places of one cell; one is put together when it is asked for."""

    in_memory = True
    has_groups = False

    def __init__(
        self,
        held: Observations,
        sensor: Sensor,
        labels: Labels | None,
        *,
        points: np.ndarray | None = None,
        crs: str = _NOWHERE,
        groups: list[str] | None = None,
        folds: list[Any] | None = None,
        whole: bool = False,
    ) -> None:
        self.held, self.sensor, self.labels, self.points = held, sensor, labels, points
        self.names, self.groups, self.folds = held.ids, groups, folds
        self.whole = whole
        self.counts = None if labels is None else labels.counts
        self.band_groups = band_groups(held.bands, sensor)
        valid = observed(held.values[:, :, None, None], self.band_groups)
        self._valid = valid[..., 0, 0]
        self._days = days_since_epoch(xr.DataArray(held.times))
        self._spatial_ref = xr.DataArray(0).rio.write_crs(crs).spatial_ref.variable

    def open(self, number: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return cube and labels of a series."""
        rows, held = self._rows(number), self.held
        x, y = (0.0, 0.0) if self.points is None else self.points[number]
        grid = {"y": [y], "x": [x], "spatial_ref": self._spatial_ref}
        cube = xr.DataArray(
            held.values[rows, :, None, None],
            {"time": held.times[rows], "band": list(held.bands), **grid},
            ("time", "band", "y", "x"),
            attrs={"sensor": self.sensor.name},
        )
        if self.labels is None:
            return cube, None
        labels, own = self.labels, self._label(number)
        attrs: dict[str, Any] = {"long_name": labels.target, "units": ""}
        if labels.classes:
            attrs = {"classes": list(labels.classes)}
        if own.ndim == 0:
            return cube, xr.DataArray(own, attrs=attrs)
        return cube, xr.DataArray(own, grid, ("y", "x"), attrs=attrs)

    def view(self, number: int) -> SeriesView:
        """Return a series as training reads it."""
        rows = self._rows(number)
        arrays = (self._days[rows], self.held.values[rows], self._valid[rows])
        label = None if self.labels is None else self._label(number)
        return SeriesView(*arrays, label, self.band_groups)

    def group_names(self, number: int) -> None:  # noqa: ARG002 - of the interface
        """Return None: the labels have no groups of their own."""
        return

    def digest(self, number: int) -> Any:
        """Return what identifies the data of a series."""
        rows = self._rows(number)
        hashed = hashlib.sha256(self.held.times[rows].tobytes())
        hashed.update(np.ascontiguousarray(self.held.values[rows]).tobytes())
        label = "" if self.labels is None else str(self.labels.values[number])
        return [hashed.hexdigest()[:16], label]

    def _rows(self, number: int) -> slice:
        return slice(int(self.held.offsets[number]), int(self.held.offsets[number + 1]))

    def _label(self, number: int) -> np.ndarray:
        assert self.labels is not None
        own = np.asarray(self.labels.values[number])
        return own if self.whole else own.reshape(1, 1)


class SeriesView:
    """A series as training reads it (`timo.places.view.View`), without the cost of an `xarray.DataArray`."""

    shape = (1, 1)
    in_memory = True
    features: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __init__(
        self,
        dates: np.ndarray,
        values: np.ndarray,
        valid: np.ndarray,
        labels: np.ndarray | None,
        band_groups: tuple[int, ...],
    ) -> None:
        self.dates, self.labels, self.band_groups = dates, labels, band_groups
        self._values, self._valid = values, valid

    def clear(self) -> np.ndarray:
        """Return the share of valid pixels at each date, in each group of bands if there are several: 0 or 1."""
        return self._valid.astype("float64")

    def valid(self, rows: slice, columns: slice) -> np.ndarray:
        """Return what is valid in a window at all dates."""
        return self._valid[..., None, None][..., rows, columns]

    def cut(self, when: np.ndarray, rows: slice, columns: slice) -> Chip:
        """Return some dates of a window."""
        valid = self.valid(rows, columns)[when]
        values = self._values[when][..., None, None][..., rows, columns]
        labels = cut_labels(self.labels, when, rows, columns)
        return Chip(zeroed(values, valid, self.band_groups), self.dates[when], valid, labels)


@checked
def read_series(
    table: PathLike | pd.DataFrame,
    *,
    id: str | None = None,  # noqa: A002
    time: str | None = None,
    bands: Sequence[str] | Mapping[str, str] | None = None,
    label: str | None = None,
    group: str | None = None,
    fold: str | None = None,
    sensor: Sensor | str = "sentinel-2",
    classes: Sequence[Any] | Mapping[Any, Any] | None = None,
    ignore: Sequence[Any] = (),
    numeric: bool = False,
    x: str | None = None,
    y: str | None = None,
    crs: str | int | None = None,
    scale: Factors | None = None,
    offset: Factors | None = None,
    nodata: float | None = None,
    unit: Literal["pixel", "chip"] = "pixel",
) -> SeriesSource:
    """Read series of pixels from a table (see `timo.Places.from_series`)."""
    known = make_sensor(sensor)
    if time is not None and id is None:
        raise TimoError(
            'A table with a row for each observation needs id=: the column of the series, as id="id".'
        )
    if (x is None) != (y is None):
        raise TimoError("x= and y= are given together: the columns of both coordinates.")
    frame = read_table(table, id)
    taken = [name for name in (label, group, fold, x, y) if name is not None]
    if time is None:
        held = read_wide(frame, id, bands=bands, sensor=known, taken=taken)
    else:
        assert id is not None
        held = read_long(frame, id, time, bands=bands, sensor=known, taken=taken)
    held = _physical(held, known, scale, offset, nodata).observed()
    labels = None
    if label is not None:
        values = constant(frame, label, "label", held)
        labels = _read_labels(values, label, classes, ignore, numeric)
    points, where = _read_points(frame, x, y, crs, held)
    return SeriesSource(
        held,
        known,
        labels,
        points=points,
        crs=where,
        groups=None if group is None else _texts(frame, group, "group", held),
        folds=None if fold is None else _read_folds(frame, fold, held),
        whole=unit == "chip",
    )


def _physical(
    held: Observations,
    sensor: Sensor,
    scale: Factors | None,
    offset: Factors | None,
    nodata: float | None,
) -> Observations:
    """Return physical values, NaN where nothing was observed, where the quality layer masks, and for `nodata`."""
    values, bands = held.values, held.bands
    if nodata is not None:
        values = np.where(values == np.float32(nodata), np.float32(np.nan), values)
    values, bands = _masked(values, bands, sensor)
    if scale is not None:
        values = values * _row(scale, 1.0, bands, sensor)
    if offset is not None:
        values = values + _row(offset, 0.0, bands, sensor)
    try:
        check_values(values.T[None, :, :, None], sensor, bands, what="table", call=False)
    except TimoError as error:
        known = f" ({sensor.name}'s own: scale={sensor.scale:g}, offset={sensor.offset:g})"
        raise TimoError(
            f"{error} Give scale= and offset=, the factors that their producer states"
            f"{known if sensor.scale > 0 else ''}, nodata=, the number that means no data, or the sensor= that they "
            "are of."
        ) from error
    return replace(held, bands=bands, values=values)


def _masked(
    values: np.ndarray, bands: tuple[str, ...], sensor: Sensor
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return values and bands without the quality layer, NaN where it masks."""
    if not sensor.mask_name or sensor.mask_name not in bands:
        return values, bands
    at = bands.index(sensor.mask_name)
    quality = values[:, at]
    hidden = ~np.isfinite(quality)
    hidden |= np.asarray(sensor.flagged(np.where(hidden, 0, quality).astype("int64")))
    kept = np.delete(values, at, axis=1)
    return np.where(hidden[:, None], np.float32(np.nan), kept), (*bands[:at], *bands[at + 1 :])


def _row(factors: Factors, neutral: float, bands: Sequence[str], sensor: Sensor) -> np.ndarray:
    """Return the factor of each band: its own, that of its sensor, or `neutral`."""
    if not isinstance(factors, Mapping):
        return np.full(len(bands), factors, "float32")
    owners = [sensor.band_origin(band)[0] for band in bands]
    if unknown := [name for name in factors if name not in (*bands, *owners)]:
        raise TimoError(
            f"The factors name {unknown[0]!r}, which is no band of the table and no sensor. Its bands are: "
            f"{', '.join(bands)}."
        )
    own = [factors.get(b, factors.get(o, neutral)) for b, o in zip(bands, owners, strict=True)]
    return np.array(own, "float32")


def _read_labels(
    values: np.ndarray, label: str, classes: Any, ignore: Sequence[Any], numeric: bool
) -> Labels:
    if numeric:
        if classes is not None or ignore:
            raise TimoError("numeric=True has no classes: leave out classes= and ignore=.")
        return Labels(as_numbers(values, label).astype("float32"), target=label)
    found = list(dict.fromkeys(values[[value is not None for value in values]]))
    naming = make_naming(found, classes, ignore, f"column {label!r}")
    numbers = {value: naming.number(name_of(value)) for value in found}
    return Labels(
        np.array([numbers.get(value, UNLABELLED) for value in values], "int16"), naming.classes
    )


def _texts(frame: pd.DataFrame, name: str, option: str, held: Observations) -> list[str]:
    """Return what a column says of each series, as text; each must have one."""
    texts = [name_of(value) for value in constant(frame, name, option, held)]
    if None in texts:
        series = held.ids[texts.index(None)]
        raise TimoError(
            f"Column {name!r} says nothing of the series {series!r}. Fill it in for each series."
        )
    return [text or "" for text in texts]


def _read_folds(frame: pd.DataFrame, name: str, held: Observations) -> list[int | str | None]:
    """Return the fold of each series: whole numbers as they are, all else as text; None where there is none."""
    texts = [name_of(value) for value in constant(frame, name, "fold", held)]
    return [int(t) if t is not None and t.lstrip("-").isdecimal() else t for t in texts]


def _read_points(
    frame: pd.DataFrame, x: str | None, y: str | None, crs: str | int | None, held: Observations
) -> tuple[np.ndarray | None, str]:
    """Return the coordinates of each series, (series, 2), and their CRS."""
    if x is None or y is None:
        if crs is not None:
            raise TimoError("crs= is of coordinates: give their columns, x= and y=, too.")
        return None, _NOWHERE
    values = [as_numbers(constant(frame, n, o, held), n) for n, o in ((x, "x"), (y, "y"))]
    points = np.stack(values, axis=1)
    if not np.isfinite(points).all():
        series = held.ids[int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])]
        raise TimoError(
            f"The series {series!r} has no coordinates. Give both for each, or leave out x= and y=."
        )
    reach = np.abs(points).max(axis=0)
    if crs is None and not (reach[0] <= 180 and reach[1] <= 90):
        raise TimoError(
            f"{x} and {y} go up to {reach[0]:,.6g} and {reach[1]:,.6g}, which are no degrees. Give their reference "
            'system: crs="EPSG:...".'
        )
    return points, read_crs(crs or LONLAT).to_wkt()
