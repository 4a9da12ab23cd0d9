"""Places as a sequence: their names, what they have in common, and how each is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import checked, described, whole
from timo.errors import TimoError
from timo.places.chip import NumberError
from timo.places.place import Place, is_labelled
from timo.places.source import Head, Items, Source
from timo.places.view import View


class BasePlaces(Sequence[Place]):
    """Places of a source, or some of them, by number."""

    _source: Source
    # Numbers in the source; None: all of them.
    _numbers: np.ndarray | None

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
    def __getitem__(self, index: slice) -> Self: ...
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

    def _some(self, index: slice | list[Any] | np.ndarray) -> Self:
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
    def single(self) -> bool:
        """Whether places are single pixels, by some of them."""
        some = np.linspace(0, len(self) - 1, min(len(self), 8)).astype(int)
        return all(self.view(int(number)).shape == (1, 1) for number in some)

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
    def packed(self) -> bool:
        """Whether the places lie in a packed store, of which single windows are read."""
        return self._source.packed

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

    @checked
    def group_names(self, index: int) -> Sequence[str] | None:
        """Return the names of the groups of a place's labels by their number; None where they have none."""
        return self._source.group_names(self._number(index))

    @checked
    def view(self, index: int) -> View:
        """Return a place as training reads it (`timo.places.view.View`)."""
        return self._source.view(self._number(index))

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

    @checked
    def counts_of(self, index: int) -> np.ndarray:
        """Count the labelled pixels of a place, (class,)."""
        return count_labels(self.view(index).labels)

    def known_counts(self) -> np.ndarray | None:
        """Return what `counts` returns where no label has to be read for it, else None."""
        known = self._source.counts
        return known if known is None or self._numbers is None else known[self._numbers]

    @checked
    def digest(self, *numbers: int) -> str:
        """Return a short name for the data, or those of some places: of what is in memory its values."""
        which = [self._number(n) for n in numbers or range(len(self))]
        given = [self._source.digest(number) for number in which]
        return hashlib.sha256(json.dumps([given, str(self.head)]).encode()).hexdigest()[:16]


def count_labels(labels: np.ndarray | None) -> np.ndarray:
    """Count pixels (or dates of a place) by class; values are one class."""
    if labels is None:
        return np.zeros(0, "int64")
    if labels.ndim == 1:
        labels = labels[:, None]
    return np.array([int(mask.sum()) for mask in masks_of(labels)], "int64")


def masks_of(labels: np.ndarray, k: int | None = None) -> list[np.ndarray]:
    """Return where each class, or one, is at any date: (h w) bool, () of a whole place; values are one class."""
    if labels.dtype.kind == "f":
        found = [is_labelled(labels)]
    else:
        classes = range(max(int(labels.max(initial=-1)) + 1, 1)) if k is None else (k,)
        found = [labels == each for each in classes]
    dated = labels.ndim in (1, 3)
    return [np.asarray(mask.any(axis=0) if dated else mask) for mask in found]
