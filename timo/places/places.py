"""Many places: a sequence of cubes with their labels, opened when they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import pandas as pd
import xarray as xr

from timo import cube as cubes
from timo.checks import Count, PathLike, Positive, Seed, Share, checked, described, whole
from timo.compute import OnStep, Steps
from timo.errors import TimoError
from timo.places import split as splits
from timo.places.chip import NumberError
from timo.places.packed.layout import SHARD_BYTES
from timo.places.packed.places import PackedSource, pack_places
from timo.places.packed.store import ChipStore
from timo.places.place import Place
from timo.places.series import read_series
from timo.places.source import Head, Items, Source
from timo.places.split import By, Split
from timo.places.view import View
from timo.sensors import Sensor

Item = Place | xr.DataArray | tuple[Any, ...] | Callable[[], Any]


class Places(Sequence[Place]):
    """Cubes with their labels, each on its own grid and with its own dates.

    What has to be read from disk is read when it is asked for: a million places cost the memory of a small table.

    Parameters
    ----------
    items : sequence
        Places, pairs (cube, labels), or cubes alone; each as `timo.Place` takes them, with the same bands, sensor and
        classes.
    names : sequence of str, optional
        A name for each; by default its number.
    groups : sequence of str, optional
        What each belongs to, such as a region or a farm: a split by group keeps it whole.
    folds : sequence of int or str, optional
        Fold of each: a number, or "train", "validation", "test".

    Raises
    ------
    TimoError
        If there is no place, the places differ in bands, sensor or classes, or names, groups or folds are not one for
        each.

    See Also
    --------
    Places.from_folder, Places.from_series, Places.from_store : places that are read from files.
    """

    @checked
    def __init__(
        self,
        items: Sequence[Item],
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        folds: Sequence[int | str] | None = None,
    ) -> None:
        if not len(items):
            raise TimoError("There is no place: give at least one cube, or (cube, labels).")
        for what, given in (("names", names), ("groups", groups), ("folds", folds)):
            if given is not None and len(given) != len(items):
                raise TimoError(
                    f"{what} must be one for each of the {len(items)} places; got {len(given)}."
                )
        made = [_place(item, number) for number, item in enumerate(items)]
        for field, given in (("name", names), ("group", groups), ("fold", folds)):
            if given is not None:
                made = [replace(p, **{field: one}) for p, one in zip(made, given, strict=True)]
        self._source: Source = Items(made)
        self._numbers: np.ndarray | None = None

    @classmethod
    def _of(cls, source: Source, numbers: np.ndarray | None = None) -> Self:
        places = cls.__new__(cls)
        places._source, places._numbers = source, numbers
        return places

    def __len__(self) -> int:
        return len(self._source) if self._numbers is None else len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Place: ...
    @overload
    def __getitem__(self, index: slice) -> Places: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one place, or those of a slice, of a list of numbers or of a mask."""
        if isinstance(index, slice | list | np.ndarray):
            return self._some(index)
        number = self._number(index)
        open_ = self._source.open
        if isinstance(self._source, Items):
            return self._source.items[number]
        labelled = self.head.labels is not None
        return Place(
            lambda: open_(number)[0],
            (lambda: open_(number)[1]) if labelled else None,
            str(self._source.names[number]),
            "" if self.groups is None else str(self.groups[index]),
            None if self.fold_numbers is None else self.fold_numbers[index],
        )

    def _some(self, index: slice | list[Any] | np.ndarray) -> Places:
        numbers = np.arange(len(self._source)) if self._numbers is None else self._numbers
        try:
            chosen = numbers[index if isinstance(index, slice) else np.asarray(index)]
        except IndexError as error:
            raise TimoError(
                f"There are {len(self)} places; got {described(index)}. Give their numbers, from 0, or a mask of all."
            ) from error
        if chosen.ndim != 1 or not chosen.size:
            raise TimoError(f"No place is left of {len(self)}; got {described(index)}.")
        return type(self)._of(self._source, chosen)

    def __iter__(self) -> Iterator[Place]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        head = self.head
        kind = f"values of {head.target}" if head.numeric else ", ".join(head.classes) or "classes"
        what = "no labels" if head.labels is None else kind
        units = f" ({head.units})" if head.units else ""
        lines = [
            f"Places: {len(self)} of {head.sensor or 'a sensor that is not said'}",
            f"  bands   {', '.join(head.bands)}",
            f"  labels  {what}{units}",
        ]
        for name, given in (("groups", self.groups), ("folds", self.fold_numbers)):
            if given is not None:
                lines.append(f"  {name:<7} {len(set(given))}")
        return "\n".join(lines)

    @property
    def head(self) -> Head:
        """Bands, sensor, classes and target, which all places have in common."""
        return self._source.head

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.head.bands

    @property
    def sensor(self) -> str | None:
        """Name of the sensor; None where the cubes do not say it."""
        return self.head.sensor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where the labels have none."""
        return self.head.classes

    @property
    def target(self) -> str:
        """Name of the quantity that the labels are values of; empty where they are classes."""
        return self.head.target

    @property
    def labelled(self) -> bool:
        """Whether the places have labels."""
        return self.head.labels is not None

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from disk."""
        return self._source.in_memory

    @property
    def names(self) -> Sequence[str]:
        """Name of each place."""
        return self._column(self._source.names) or []

    @property
    def groups(self) -> Sequence[str] | None:
        """Group of each place; None where none were given."""
        return self._column(self._source.groups)

    @property
    def fold_numbers(self) -> Sequence[int | str | None] | None:
        """Fold of each place; None where none were given."""
        return self._column(self._source.folds)

    @property
    def table(self) -> pd.DataFrame:
        """Name, group and fold of each place, as far as they were given."""
        columns = {"name": self.names, "group": self.groups, "fold": self.fold_numbers}
        return pd.DataFrame(
            {name: list(held) for name, held in columns.items() if held is not None}
        )

    def _column(self, column: Sequence[Any] | None) -> Any:
        if column is None or self._numbers is None:
            return column
        return [column[number] for number in self._numbers.tolist()]

    def _number(self, index: Any) -> int:
        number = whole(index, "index")
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise NumberError(f"There are {len(self)} places, numbered from 0; got {index}.")
        return number if self._numbers is None else int(self._numbers[number])

    @checked
    def open(self, index: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Open a place.

        Returns
        -------
        cube : xarray.DataArray
            (time, band, y, x), lazy where it lies on disk.
        labels : xarray.DataArray or None
            Its labels.

        Raises
        ------
        TimoError
            If there is no such place, it cannot be read, or it is not like the first one.
        """
        return self._source.open(self._number(index))

    @property
    def has_groups(self) -> bool:
        """Whether labels may say which of their pixels belong together."""
        return self.labelled and self._source.has_groups

    def group_names(self, index: int) -> Sequence[str] | None:
        """Return the names of the groups of a place's labels by their number; None where they have none."""
        return self._source.group_names(self._number(index))

    @checked
    def view(self, index: int) -> View:
        """Return a place as training reads it (`timo.places.view.View`)."""
        return self._source.view(self._number(index))

    def load(self) -> Places:
        """Bring all places into memory."""
        loaded = []
        for number, place in enumerate(self):
            cube, labels = self.open(number)
            labels = None if labels is None else labels.compute()
            loaded.append(replace(place, cube=cubes.check(cube.compute()), labels=labels))
        return Places(loaded)

    @checked
    def counts(self) -> np.ndarray:
        """Count the labelled pixels of each place, (place, class); labels of a whole place count one a date.

        Values to predict are one class. Labels on disk are read, unless a packed store has counted them.
        """
        known = self.known_counts()
        if known is not None:
            return known
        rows = [self.counts_of(number) for number in range(len(self))]
        width = max([len(self.classes), *map(len, rows)])
        table = np.zeros((len(self), width), "int64")
        for row, counted in zip(table, rows, strict=True):
            row[: len(counted)] = counted
        return table

    def counts_of(self, index: int) -> np.ndarray:
        """Count the labelled pixels of a place, (class,)."""
        return count_labels(self.view(index).labels)

    def known_counts(self) -> np.ndarray | None:
        """Return what `counts` returns where no label has to be read for it, else None."""
        known = self._source.counts
        return known if known is None or self._numbers is None else known[self._numbers]

    @checked
    def split(
        self,
        by: By = "place",
        *,
        fractions: tuple[Share, Share, Share] = (0.6, 0.2, 0.2),
        fold: int | str | None = None,
        size_m: Positive | None = None,
        scheme: Literal["random", "checkerboard"] = "random",
        seed: Seed = 0,
    ) -> Split:
        """Split the places into training, validation and test.

        Parameters
        ----------
        by : {"place", "group", "fold", "block"}
            "place": each place goes to one part. "group": all places of a group go to one part. "fold": `fold` is test,
            the fold before it validation, the others train; folds that are called "train", "validation" and "test" are
            the parts themselves. "block": blocks inside each place are shared out, and what the labels have as one
            group or feature goes wholly to the part that has most of it.
        fractions : (float, float, float)
            Shares of training, validation and test, of labelled pixels (of places without labels, of places). Classes
            are shared out in these proportions as far as they can be. A share of 0 leaves the part out.
        fold : int or str, optional
            The fold that is tested; by default the last.
        size_m : float, optional
            Side of a block in metres; by default 32 pixels.
        scheme : {"random", "checkerboard"}
            How blocks are shared out, as `timo.cube.split_blocks` does.
        seed : int
            The same seed gives the same split.

        Raises
        ------
        TimoError
            If there are no folds or groups to split by, a group would lie in two parts, or a part gets no label.

        Warns
        -----
        UserWarning
            If a part lacks a class.
        """
        options = splits.Options(fractions, size_m, scheme, seed)
        return splits.make_split(self, by, fold, options)

    @checked
    def folds(
        self,
        by: By = "fold",
        k: Count = 5,
        *,
        validation: bool = True,
        size_m: Positive | None = None,
        seed: Seed = 0,
    ) -> Iterator[Split]:
        """Yield a split for each fold, in which it is the test part: for cross-validation.

        Parameters
        ----------
        by : {"fold", "place", "group", "block"}
            As `split` takes it. "fold": the folds that were given, whatever `k` says.
        k : int
            Number of folds.
        validation : bool
            Take the fold before the tested one as validation; else the others all train.
        size_m, seed
            As `split` takes them.
        """
        yield from splits.make_folds(
            self, by, k, validation, splits.Options(size_m=size_m, seed=seed)
        )

    @classmethod
    @checked
    def from_series(
        cls,
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
        scale: float | Mapping[str, float] | None = None,
        offset: float | Mapping[str, float] | None = None,
        nodata: float | None = None,
        unit: Literal["pixel", "chip"] = "pixel",
    ) -> Self:
        """Make places of one cell each of a table of pixels' series.

        Parameters
        ----------
        table : DataFrame, str or path
            A table or a file (.csv, .parquet): either a row for each observation (id, date, bands), or a row for each
            series with a column for each band and date ("B4_2020-05-01", "20200501_red").
        id : str, optional
            Column that says which series a row is of. Of a row for each series, by default its number.
        time : str, optional
            Column of the dates, where each row is an observation.
        bands : sequence or mapping, optional
            Columns of the bands, or ``{"B4": "column"}``; of dated columns the part of their names beside the date. By
            default all that are called as a band of the sensor. A column of its quality layer ("SCL") masks.
        label : str, optional
            Column of the classes, or with ``numeric=True`` of the values to predict; one of each series, empty where it
            has none. `classes` and `ignore` are as those of `timo.read_labels`.
        group, fold : str, optional
            Columns of what a split keeps whole (field, site), and of the folds.
        sensor : Sensor or str
            Sensor of the bands; of several, "sentinel-2+sentinel-1", a band is empty where it was not observed.
        x, y : str, optional
            Columns of coordinates, in degrees or in `crs`. Without, all places lie on one grid that is nowhere.
        scale, offset : float or mapping, optional
            Physical value = number x scale + offset; a mapping has those of single bands or sensors.
        nodata : float, optional
            Number that means no data; empty cells do so in any case.
        unit : {"pixel", "chip"}
            What labels are of: pixels, for a model that is to map pixels, or the series as a whole, for one that
            answers for chips.

        Returns
        -------
        Places
            In memory, in arrays that all share.

        Raises
        ------
        TimoError
            If a column is missing or not what it should be, a series has two rows of a date or two labels, or values
            cannot be what the sensor measures.

        Warns
        -----
        UserWarning
            If series have no observation; they are left out.
        """
        options = {name: value for name, value in locals().items() if name not in ("cls", "table")}
        return cls._of(read_series(table, **options))

    @classmethod
    @checked
    def from_store(cls, path: PathLike) -> Self:
        """Open places that were packed (`pack`), or a chip store that `timo.places.pack` made of cubes.

        Raises
        ------
        TimoError
            If it is no such store, or its metadata are damaged.
        """
        return cls._of(PackedSource(ChipStore(path)))

    @checked
    def pack(
        self,
        path: PathLike,
        *,
        dtype: Literal["int16", "float32"] = "int16",
        scale: Positive | None = None,
        shard_bytes: Count = SHARD_BYTES,
        progress: bool = False,
        on_step: OnStep | None = None,
    ) -> Places:
        """Write the places with their labels into a store, from which training reads fast, and return those there.

        A place that is there already is not written again: the same call resumes what was interrupted.

        Parameters
        ----------
        path : path
            The store, a folder; created if it is not there.
        dtype : {"int16", "float32"}
            Digital numbers, or the values as they are. Digital numbers round to half a `scale` at most; reflectances
            that were digital numbers of their sensor come back bit by bit.
        scale : float, optional
            Step of the digital numbers; by default the sensor's (0.01 dB for radar).
        shard_bytes : int
            Size of a shard before compression.
        progress : bool
            Show a progress bar.
        on_step : callable, optional
            Is given a `timo.compute.StepReport` after each place.

        Raises
        ------
        TimoError
            If a value does not fit the type, or the store holds other places, is damaged or cannot be written.

        Notes
        -----
        All places take the room of the largest, which costs little: what is empty is compressed to almost nothing. One
        place at a time is in memory.
        """
        pack_places(
            self, path, dtype, scale, shard_bytes, Steps(on_step, progress=progress, unit="place")
        )
        return type(self).from_store(path)

    def digest(self, *numbers: int) -> str:
        """Return a short name for the data, or those of some places: of what is in memory its values."""
        which = [self._number(n) for n in numbers or range(len(self))]
        given = [self._source.digest(number) for number in which]
        return hashlib.sha256(json.dumps([given, str(self.head)]).encode()).hexdigest()[:16]


def _place(item: Any, number: int) -> Place:
    """Return a place of what was given for one."""
    if isinstance(item, Place):
        return item if item.name else replace(item, name=str(number))
    # Two arrays of which the second has no bands are a cube and its labels.
    if isinstance(item, tuple) and len(item) == 2 and not _is_cube(item[1]):
        return Place(item[0], item[1], name=str(number))
    return Place(item, name=str(number))


def _is_cube(item: Any) -> bool:
    return isinstance(item, xr.DataArray) and "band" in item.dims


def count_labels(labels: np.ndarray | None) -> np.ndarray:
    """Count pixels (or dates of a place) by class; values are one class."""
    if labels is None:
        return np.zeros(0, "int64")
    if labels.ndim == 1:
        labels = labels[:, None]
    return np.array([int(mask.sum()) for mask in splits.masks_of(labels)], "int64")


def places_of(data: Any, labels: xr.DataArray | None = None) -> Places:
    """Return places of what a function was given: places, a cube with its labels, or cubes alone."""
    if isinstance(data, Places):
        if labels is not None:
            raise TimoError("Places have their labels with them: leave labels= out.")
        return data
    if isinstance(data, str | Path):
        return Places.from_store(data)
    given = [data] if isinstance(data, xr.DataArray) else list(data)
    if labels is not None:
        if len(given) != 1:
            raise TimoError(
                f"labels= are for one cube; got {len(given)}. Give timo.Places([(cube, labels), ...])."
            )
        return Places([(given[0], labels)])
    return Places(given)
