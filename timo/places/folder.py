"""Places in a folder of files, of which a table says where each is."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from timo import cube as cubes
from timo.checks import PathLike
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.places.labels import read_labels
from timo.places.names import make_naming, name_of
from timo.places.observations import find_column, read_table
from timo.places.place import Place
from timo.places.source import Head, Recent, Source
from timo.sources import open_cube


def read_folder(
    folder: PathLike,
    table: PathLike | pd.DataFrame,
    columns: Mapping[str, Any],
    opening: Mapping[str, Any],
    reading: dict[str, Any],
) -> Folder:
    """Read the table of a folder, see `timo.Places.from_folder`."""
    home = Path(folder).expanduser()
    if not home.is_dir():
        raise TimoError(
            f"There is no folder {str(home)!r}. Give the one that the table's paths start from."
        )
    if not isinstance(table, pd.DataFrame) and (home / table).is_file():
        table = home / table
    frame = read_table(table, columns["name"])
    given = [columns["cube"]] if isinstance(columns["cube"], str) else list(columns["cube"])
    paths = [_texts(frame, one, "cube") for one in given]
    for one in paths:
        if None in one:
            raise TimoError(
                f"Row {one.index(None)} of the table names no cube. Fill it in, or leave the row out."
            )
    labels, label = columns["labels"], columns["label"]
    if labels is not None and label is not None:
        raise TimoError("labels= are of pixels, label= of whole places: give one of them.")
    if label is None and "labels" in frame.columns:
        labels = labels or "labels"
    held = {what: _optional(frame, columns[what]) for what in ("name", "group", "fold")}
    given_names = held["name"] or [Path(str(path)).stem for path in paths[0]]
    names = [name or str(number) for number, name in enumerate(given_names)]
    groups, folds = held["group"], held["fold"]
    return Folder(
        home,
        list(zip(*paths, strict=True)),
        None if labels is None else _texts(frame, labels, "labels"),
        None if label is None else _whole(frame, label, reading),
        names=names,
        groups=None if groups is None else [g or n for g, n in zip(groups, names, strict=True)],
        folds=None if folds is None else [_fold(text) for text in folds],
        opening=opening,
        reading=reading,
    )


def _texts(frame: pd.DataFrame, column: str, option: str) -> list[str | None]:
    """Return a column as text, or a pattern filled in with the columns that it names."""
    fields = [field for _, field, _, _ in string.Formatter().parse(column) if field]
    if not fields:
        return [name_of(value) for value in frame[find_column(frame, column, option)]]
    parts = {field: _texts(frame, field, option) for field in fields}
    rows = zip(*parts.values(), strict=True)
    return [
        None if None in row else column.format(**dict(zip(parts, row, strict=True))) for row in rows
    ]


def _optional(frame: pd.DataFrame, column: str) -> list[str | None] | None:
    return _texts(frame, column, column) if column in frame.columns else None


def _fold(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else text


def _whole(frame: pd.DataFrame, column: str, reading: Mapping[str, Any]) -> list[xr.DataArray]:
    """Return the label of each place as a whole."""
    values = frame[find_column(frame, column, "label")]
    if reading.get("numeric"):
        numbers = pd.to_numeric(values, errors="coerce").astype("float32")
        if (bad := numbers.isna() & values.notna()).any():
            raise TimoError(
                f"Column {column!r} holds {values[bad].iloc[0]!r}, which is no number. Correct it, or leave "
                "numeric=True out."
            )
        attrs = {"long_name": column, "units": str(reading.get("units") or "")}
        return [xr.DataArray(number, attrs=attrs) for number in numbers.to_numpy()]
    ignore = reading.get("ignore", ())
    naming = make_naming(
        values.dropna().unique(), reading.get("classes"), ignore, f"column {column!r}"
    )
    codes = [naming.number(name_of(value)) for value in values]
    classes = {"classes": list(naming.classes)}
    return [xr.DataArray(np.int16(code), attrs=classes) for code in codes]


class Folder(Source):
    """Places in files: paths of cubes of each, of its labels, or its label as a whole."""

    def __init__(
        self,
        home: Path,
        paths: Sequence[Sequence[str]],
        labels: Sequence[str | None] | None,
        whole: Sequence[xr.DataArray] | None,
        *,
        names: Sequence[str],
        groups: Sequence[str] | None,
        folds: Sequence[int | str | None] | None,
        opening: Mapping[str, Any],
        reading: dict[str, Any],
    ) -> None:
        self.home, self.paths, self.labels, self.whole = home, paths, labels, whole
        self.names, self.groups, self.folds = names, groups, folds
        self.opening, self.reading = opening, reading
        self.has_groups = labels is not None
        self.recent = Recent()

    @cached_property
    def head(self) -> Head:
        """What all places have in common: that of the first with labels, if there is one."""
        labelled = self.labels or []
        first = next((number for number, path in enumerate(labelled) if path), 0)
        return Head.of(*self._place(first).open())

    def open(self, number: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return cube and labels of a place, lazy, checked, and compared with the first."""
        cube, labels = self._place(number).open()
        self.head.check(Head.of(cube, labels), self.names[number])
        return cube, labels

    def view(self, number: int) -> Any:
        """Return a place as training reads it; the last few stay open."""
        return self.recent.get(number, lambda: super(Folder, self).view(number))

    def _place(self, number: int) -> Place:
        opened = tuple(_open(self.home / path, self.opening) for path in self.paths[number])
        cube = opened[0] if len(opened) == 1 else cubes.join(*opened)
        path = None if self.labels is None else self.labels[number]
        labels = None if self.whole is None else self.whole[number]
        if path is not None:
            labels = _open_labels(self.home / path, cube, self.reading)
        return Place(cube, labels, str(self.names[number]))

    def digest(self, number: int) -> Any:
        """Return what identifies the files of a place: name, size and time of the last change."""
        label = None if self.labels is None else self.labels[number]
        whole = None if self.whole is None else str(self.whole[number].values)
        paths = [*self.paths[number], *([] if label is None else [label])]
        return [[path, *_state(self.home / path)] for path in paths] + [whole]


def _open(path: Path, options: Mapping[str, Any]) -> xr.DataArray:
    if not path.exists():
        raise TimoError(f"There is no {str(path)!r}. Correct the table, or the folder.")
    return open_cube("files", path=path, **options)


def _open_labels(path: Path, cube: xr.DataArray, options: dict[str, Any]) -> xr.DataArray:
    """Open labels on the cube's grid, or read what is on another, or on none."""
    if not path.exists():
        raise TimoError(f"There are no labels {str(path)!r}. Correct the table, or the folder.")
    if path.suffix in (".zarr", ".nc") and not options:
        own = _own_labels(path, cube)
        if own is not None:
            return own
    return read_labels(path, cube, **options)


def _own_labels(path: Path, cube: xr.DataArray) -> xr.DataArray | None:
    """Return labels that were written as they are, on the grid of the cube, with their groups and features."""
    engine: Any = "zarr" if path.suffix == ".zarr" else netcdf_engine()
    with xr.open_dataset(path, engine=engine, decode_coords="all", mask_and_scale=False) as dataset:
        found = [
            v for v in dataset.data_vars.values() if v.dims in (("y", "x"), ("time", "y", "x"))
        ]
        if (
            len(found) != 1
            or found[0].dtype.kind not in "if"
            or cubes.grid_mismatch(found[0], cube)
        ):
            return None
        labels = found[0].load()
    for name in ("classes", "groups"):
        # A single name comes back as text, several as an array.
        if name in labels.attrs:
            labels.attrs[name] = [str(one) for one in np.atleast_1d(labels.attrs[name])]
    return labels


def _state(path: Path) -> list[int]:
    """Return size and time of the last change of a file, of a folder those of what is in it."""
    files = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.is_file())
    states = [file.stat() for file in files]
    return [sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]
