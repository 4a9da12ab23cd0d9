"""Where places come from: each source opens them by number, and knows their names, groups and folds beforehand."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError
from timo.places.place import Place, bands_of, classes_of, is_regression
from timo.places.view import CubeView, View
from timo.sensors import get_sensor

# Places from disk that are kept open: a training asks for several windows of one, one after the other.
_OPEN = 4


@dataclass(frozen=True)
class Head:
    """What all places have in common.

    `classes` are the names of the classes, empty where labels have none; `target` is the name of the quantity that the
    labels are values of, with its `units`, and `numeric` says that they are. `labels` are the dims of the labels, None
    without labels.
    """

    bands: tuple[str, ...]
    sensor: str | None
    classes: tuple[str, ...] = ()
    target: str = ""
    units: str = ""
    numeric: bool = False
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, cube: xr.DataArray, labels: xr.DataArray | None) -> Head:
        """Describe a cube and its labels."""
        sensor = cube.attrs.get("sensor")
        if labels is None:
            return cls(bands_of(cube), sensor)
        numeric = is_regression(labels)
        name = str(labels.attrs.get("long_name", labels.name or "value")) if numeric else ""
        units = str(labels.attrs.get("units", "")) if numeric else ""
        dims = tuple(map(str, labels.dims))
        return cls(bands_of(cube), sensor, classes_of(labels), name, units, numeric, dims)

    def band_groups(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return how many bands each sensor has, and which of the sensors are optical."""
        sizes = cubes.band_groups(self.bands, self.sensor)
        firsts = [self.bands[start] for start in np.cumsum((0, *sizes[:-1]))]
        if len(sizes) == 1 or self.sensor is None:
            return sizes, (True,)
        sensor = get_sensor(self.sensor)
        kinds = [get_sensor(sensor.band_origin(band)[0]).kind for band in firsts]
        return sizes, tuple(kind == "reflectance" for kind in kinds)

    def check(self, other: Head, name: str) -> None:
        """Refuse a place that is not like the first one."""
        if other.bands != self.bands:
            raise TimoError(
                f"All places must have the same bands in the same order; the first has {self.bands}, {name} "
                f"{other.bands}. {_bands_remedy(self.bands, other.bands)}"
            )
        if other.sensor != self.sensor:
            raise TimoError(
                f"All places must be of one sensor; the first is of {self.sensor}, {name} of {other.sensor}. Open them "
                "with the same sensors, or train one model for each."
            )
        if self.labels is None or other.labels is None:
            return
        if other.numeric != self.numeric:
            raise TimoError(
                f"The labels of {name} are {'values' if other.numeric else 'classes'}, those of the first place "
                f"{'values' if self.numeric else 'classes'}. Values are floats: labels.astype('float32')."
            )
        if len(other.labels) // 2 != len(self.labels) // 2:
            raise TimoError(
                f"The labels of {name} have the dims {other.labels}, those of the first place {self.labels}: label "
                "pixels everywhere, or whole places everywhere."
            )
        if other.classes != self.classes:
            raise TimoError(
                f"All places must have the same classes in the same order; the first has {self.classes}, {name} "
                f"{other.classes}. Read all labels with classes={list(dict.fromkeys(self.classes + other.classes))}: "
                "timo.read_labels(..., classes=[...])."
            )
        check_units(other.units, self.units, f"The labels of {name}", "those of the first place")


def check_units(units: str, others: str, what: str, than: str) -> None:
    """Refuse values in one unit among values in another; what does not say its unit goes with all."""
    if units and others and units != others:
        raise TimoError(
            f"{what} are in {units!r}, {than} in {others!r}. Convert them, and say it in labels.attrs['units']; if the "
            "two mean the same, write them alike."
        )


def _bands_remedy(first: tuple[str, ...], other: tuple[str, ...]) -> str:
    common = [band for band in first if band in other]
    if not common:
        return "They have none in common: open them with the same bands=[...]."
    if set(first) <= set(other):
        return f"Use cube.sel(band={list(first)})."
    return f"Use cube.sel(band={common}) in each."


class Source:
    """Places by number. A kind of source says how to `open` one, and may give a faster `view` of it."""

    names: Sequence[str]
    # The group of each place, or None where none was given; its fold alike.
    groups: Sequence[str] | None = None
    folds: Sequence[int | str | None] | None = None
    # Whether nothing has to be read from disk.
    in_memory = False
    # Whether single windows are read from disk as fast as from memory.
    packed = False
    # Whether labels may say which pixels belong together.
    has_groups = True
    # Counts of labels (place, class), where they are known without reading the labels.
    counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def head(self) -> Head:
        """What all places have in common, read from the first."""
        return Head.of(*self.open(0))

    def open(self, number: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return cube and labels of a place, checked."""
        raise NotImplementedError

    def view(self, number: int) -> View:
        """Return a place as training reads it."""
        return CubeView(*self.open(number))

    def group_names(self, number: int) -> Sequence[str] | None:
        """Return the names of the groups of a place's labels; None where they have numbers alone."""
        labels = self.open(number)[1]
        return None if labels is None else labels.attrs.get("groups")

    def digest(self, number: int) -> Any:
        """Return what identifies the data of a place."""
        cube, labels = self.open(number)
        return [
            digest(cube, *(cube[d] for d in cube.dims)),
            None if labels is None else digest(labels),
        ]


class Recent:
    """The places from disk that were opened last; what was opened is opened again by each process."""

    def __init__(self) -> None:
        self.views: OrderedDict[int, View] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"views": OrderedDict()}

    def get(self, number: int, open_: Callable[[], View]) -> View:
        """Return a place that is open, or open it."""
        if number not in self.views:
            self.views[number] = open_()
            while len(self.views) > _OPEN:
                self.views.popitem(last=False)
        return self.views[number]


class Items(Source):
    """Places given one by one, in memory or opened by functions."""

    def __init__(self, items: Sequence[Place]) -> None:
        self.items = items
        self.names = [item.name for item in items]
        if any(item.group for item in items):
            self.groups = [item.group or item.name for item in items]
        if any(item.fold is not None for item in items):
            self.folds = [item.fold for item in items]
        self.in_memory = all(item.in_memory for item in items)
        self._views: dict[int, View] = {}
        self.recent = Recent()
        self._check_given()

    @cached_property
    def head(self) -> Head:
        """What all places have in common: the first one's, and the first labels."""
        first = Head.of(*self.items[0].open())
        if first.labels is not None:
            return first
        others = (Head.of(*item.open()) for item in self.items if item.labels is not None)
        return next(others, first)

    def _check_given(self) -> None:
        """Compare what is in memory now; what is still to be opened is compared when it is."""
        heads: dict[Head, str] = {}
        for item in self.items:
            if isinstance(item.cube, xr.DataArray) and "band" in item.cube.coords:
                labels = item.labels if isinstance(item.labels, xr.DataArray) else None
                heads.setdefault(Head.of(item.cube, labels), item.name)
        labelled = [head for head in heads if head.labels is not None]
        for head, name in heads.items():
            (labelled or [*heads])[0].check(head, name)

    def open(self, number: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return cube and labels of a place, checked, and compared with the first."""
        cube, labels = self.items[number].open()
        self.head.check(Head.of(cube, labels), self.names[number])
        return cube, labels

    def view(self, number: int) -> View:
        """Return a place as training reads it; those in memory are prepared once."""
        if number in self._views:
            return self._views[number]
        if not self.items[number].in_memory:
            return self.recent.get(number, lambda: super(Items, self).view(number))
        view = self._views[number] = super().view(number)
        return view


def digest(*arrays: xr.DataArray) -> str:
    """Return a short name for what the arrays hold."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dims}{array.shape}{array.dtype}".encode())
        # Band names are of any string type; all else is numbers, hashed where they lie.
        values = np.ascontiguousarray(array.values).reshape(-1)
        numbers = values.dtype.kind in "biufM"
        hashed.update(values.view("uint8").data if numbers else repr(values.tolist()).encode())
    return hashed.hexdigest()[:16]
