"""Many places: a sequence of cubes with their labels, opened when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import xarray as xr

from timo import cube as cubes
from timo.cancel import Stop, obey
from timo.checks import Count, PathLike, Positive, Seed, Share, checked
from timo.compute import OnStep, Steps
from timo.errors import TimoError
from timo.places import split as splits
from timo.places.base import BasePlaces
from timo.places.folder import read_folder
from timo.places.packed.layout import SHARD_BYTES
from timo.places.packed.places import PackedSource, pack_places
from timo.places.packed.store import ChipStore
from timo.places.place import Place
from timo.places.series import read_series
from timo.places.source import Items, Source
from timo.places.split import By, Split
from timo.sensors import Sensor
from timo.sources.fetching import load

Item = Place | xr.DataArray | tuple[Any, ...] | Callable[[], Any]


class Places(BasePlaces):
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
        columns: dict[str, Sequence[Any] | None] = {"name": names, "group": groups, "fold": folds}
        for field, column in columns.items():
            if column is not None:
                one_each = zip(made, column, strict=True)
                made = [replace(place, **{field: value}) for place, value in one_each]
        self._source: Source = Items(made)
        self._numbers: np.ndarray | None = None

    @checked
    def load(self, *, stop: Stop | None = None) -> Places:
        """Bring all places into memory.

        Parameters
        ----------
        stop : threading.Event or callable, optional
            Asked before each place, and while one is read.

        Raises
        ------
        CancelledError
            If `stop` said so.
        """
        loaded = []
        for number, place in enumerate(self):
            obey(stop)
            cube, labels = self.open(number)
            labels = None if labels is None else labels.compute()
            loaded.append(replace(place, cube=cubes.check(load(cube, stop)), labels=labels))
        return Places(loaded)

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
    def from_folder(
        cls,
        folder: PathLike,
        table: PathLike | pd.DataFrame = "places.csv",
        *,
        cube: str | Sequence[str] = "cube",
        labels: str | None = None,
        label: str | None = None,
        name: str = "name",
        group: str = "group",
        fold: str = "fold",
        classes: Sequence[Any] | Mapping[Any, Any] | None = None,
        numeric: bool = False,
        opening: Mapping[str, Any] | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a folder of cubes and labels, with a table that has a row for each place.

        Nothing but the table and the first place is read now; the others when they are asked for.

        Parameters
        ----------
        folder : path
            What paths in the table start from.
        table : path or DataFrame
            The table: a .csv or .parquet in the folder or elsewhere.
        cube : str or sequence of str
            Column with the path of each cube: a Zarr, a NetCDF, a GeoTIFF, or a folder of them. Of several sensors,
            their columns; the cubes are joined. Or a pattern of paths with columns in braces, "cubes/{name}.zarr".
        labels : str, optional
            Column, or pattern, with the path of the labels: a vector file or a raster, as `timo.read_labels` takes
            them. Empty: the place has none. By default the column "labels", if there is one.
        label : str, optional
            Column with the class, or with ``numeric=True`` the value, of each place as a whole.
        name, group, fold : str
            Columns of the name, the group and the fold; each may be missing.
        classes, numeric
            As `timo.read_labels` takes them. Vector files that have not all classes each need `classes`.
        opening : mapping, optional
            Further options of ``timo.open_cube("files", ...)``.
        reading : mapping, optional
            Further options of `timo.read_labels`, such as ``{"column": "crop"}``.

        Raises
        ------
        TimoError
            If the table, a column or a file is missing, or the places differ in bands, sensor or classes.
        """
        choices = {"classes": classes, "numeric": numeric}
        reading = {**(reading or {}), **{k: v for k, v in choices.items() if v}}
        columns = {"cube": cube, "labels": labels, "label": label}
        columns |= {"name": name, "group": group, "fold": fold}
        return cls._of(read_folder(folder, table, columns, dict(opening or {}), reading))

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
        steps = Steps(on_step, progress=progress, unit="place")
        pack_places(self, path, dtype=dtype, scale=scale, shard_bytes=shard_bytes, steps=steps)
        return type(self).from_store(path)


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


def places_of(data: Any, labels: xr.DataArray | None = None) -> Places:
    """Return places of what a function was given: places, a cube with its labels, or cubes alone."""
    if isinstance(data, Places):
        if labels is not None:
            raise TimoError("Places have their labels with them: leave labels out.")
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
