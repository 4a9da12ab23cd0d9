"""One place: a cube with its labels, opened when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.checks import checked, described
from timo.errors import TimoError

Cube = xr.DataArray | tuple[xr.DataArray, ...] | Callable[[], Any]
Labels = xr.DataArray | Callable[[], Any]


@checked
@dataclass(frozen=True)
class Place:
    """A cube with its labels.

    Parameters
    ----------
    cube : xarray.DataArray, tuple of them, or callable
        The cube; several cubes of one grid, which are joined (`timo.cube.join`); or a function without arguments that
        opens either.
    labels : xarray.DataArray or callable, optional
        Labels on the grid of the cube, or a function that opens them: classes of pixels (y, x) or (time, y, x), -1 =
        unlabelled; a class of the whole place, without dims or (time,); or values to predict, NaN = unlabelled.
    name : str
        Its name.
    group : str
        What it belongs to, such as a region or a campaign: a split by group keeps it whole.
    fold : int or str, optional
        Its fold: a number, or "train", "validation", "test".
    """

    cube: Cube
    labels: Labels | None = None
    name: str = ""
    group: str = ""
    fold: int | str | None = None

    @property
    def in_memory(self) -> bool:
        """Return whether nothing has to be read."""
        parts = self.cube if isinstance(self.cube, tuple) else (self.cube,)
        given = [*parts, *([] if self.labels is None else [self.labels])]
        # Asking .data would read an array that still lies in a file; xarray has no public way to ask.
        return all(isinstance(one, xr.DataArray) and one.variable._in_memory for one in given)

    def open(self) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return the cube, several of them joined, and the labels; they are lazy where they were given so.

        Raises
        ------
        TimoError
            If they are no cube and labels of one grid.
        """
        try:
            return self._open()
        except TimoError as error:
            where = f"Place {self.name!r}: " if self.name else ""
            raise TimoError(f"{where}{error}") from error

    def _open(self) -> tuple[xr.DataArray, xr.DataArray | None]:
        cube = self.cube() if callable(self.cube) else self.cube
        if isinstance(cube, tuple | list):
            cube = cubes.join(*cube)
        if not isinstance(cube, xr.DataArray):
            raise TimoError(
                f"The cube must be an xarray.DataArray; got {described(cube)}. timo.open_cube opens one."
            )
        cubes.check(cube)
        labels = self.labels() if callable(self.labels) else self.labels
        if labels is None:
            return cube, None
        if not isinstance(labels, xr.DataArray):
            raise TimoError(
                f"The labels must be an xarray.DataArray; got {described(labels)}. timo.read_labels reads a file."
            )
        return cube, cubes.check_labels(labels, cube, numeric=None, unit=None)


def bands_of(cube: xr.DataArray) -> tuple[str, ...]:
    """Return the names of a cube's bands."""
    return tuple(str(band) for band in cube.band.values)


def classes_of(labels: xr.DataArray | None) -> tuple[str, ...]:
    """Return the names of the labels' classes; empty where they have none."""
    return () if labels is None else tuple(map(str, labels.attrs.get("classes", ())))


def is_regression(labels: xr.DataArray) -> bool:
    """Return whether labels are values to predict rather than classes."""
    return labels.dtype.kind == "f"


def is_labelled(labels: np.ndarray) -> np.ndarray:
    """Find what bears a label: classes from 0, values that are numbers."""
    return np.asarray(np.isfinite(labels) if labels.dtype.kind == "f" else labels >= 0)
