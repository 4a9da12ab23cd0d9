"""A place as training reads it: windows in the model's letters, from memory or from what is still on disk."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from timo import cube as cubes
from timo.cube.labels import UNLABELLED
from timo.places.chip import Chip
from timo.places.place import bands_of, is_labelled

Dates = np.ndarray | slice


class View(Protocol):
    """What `timo.training.windows.Windows` asks of a place.

    `shape` is its height and width, `dates` (t,) float32 days since 1970-01-01, `in_memory` says whether asking twice
    costs nothing. `labels` are as the place has them, -1 or NaN = unlabelled; `features` and `groups` (h w) numbers of
    what is labelled as one and of what a split keeps whole, -1 = none. Both are None where there are none.
    """

    shape: tuple[int, int]
    dates: np.ndarray
    in_memory: bool

    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def features(self) -> np.ndarray | None: ...
    @property
    def groups(self) -> np.ndarray | None: ...

    def clear(self) -> Float[np.ndarray, "t *g"]:
        """Return the share of valid pixels at each date, in each group of bands if there are several."""

    def valid(self, rows: slice, columns: slice) -> Bool[np.ndarray, "t *g h w"]:
        """Return what is valid in a window at all dates."""

    def cut(self, when: np.ndarray, rows: slice, columns: slice) -> Chip:
        """Return some dates of a window."""


class CubeView:
    """A cube and labels, in memory or lazy: of a lazy one a window is read at all its dates, once."""

    def __init__(self, cube: xr.DataArray, labels: xr.DataArray | None = None) -> None:
        self.cube = cube
        self.in_memory = cube.variable._in_memory
        self.band_groups = cubes.band_groups(bands_of(cube), cube.attrs.get("sensor"))
        self.shape = (cube.sizes["y"], cube.sizes["x"])
        self.dates = cubes.days_since_epoch(cube.time)
        self.given = labels
        self._last: tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None = None

    @cached_property
    def labels(self) -> np.ndarray | None:
        if self.given is None:
            return None
        return labels_of(self.given)

    @cached_property
    def features(self) -> np.ndarray | None:
        return _coordinate(self.given, "feature")

    @cached_property
    def groups(self) -> np.ndarray | None:
        own = _coordinate(self.given, "group")
        return self.features if own is None else own

    @cached_property
    def _valid(self) -> np.ndarray:
        return cubes.observed(self.cube.values, self.band_groups)

    @cached_property
    def _clear(self) -> np.ndarray:
        if self.in_memory:
            return self._valid.mean(axis=(-2, -1))
        # Date by date: of a place that does not fit into memory, one date does.
        dates = (self._read({"time": slice(t, t + 1)}) for t in range(len(self.dates)))
        return np.concatenate(
            [cubes.observed(d, self.band_groups).mean(axis=(-2, -1)) for d in dates]
        )

    def clear(self) -> np.ndarray:
        """Return the share of valid pixels at each date, in each group of bands if there are several."""
        return self._clear

    def valid(self, rows: slice, columns: slice) -> np.ndarray:
        """Return what is valid in a window at all dates."""
        return self._window(rows, columns)[1]

    def cut(self, when: np.ndarray, rows: slice, columns: slice) -> Chip:
        """Return some dates of a window."""
        values, valid = (array[when] for array in self._window(rows, columns))
        return Chip(
            zeroed(values, valid, self.band_groups),
            self.dates[when],
            valid,
            cut_labels(self.labels, when, rows, columns),
            None if self.features is None else self.features[rows, columns],
        )

    def _window(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        if self.in_memory:
            return self.cube.values[..., rows, columns], self._valid[..., rows, columns]
        if self._last is None or self._last[0] != (rows, columns):
            values = self._read({"y": rows, "x": columns})
            self._last = ((rows, columns), values, cubes.observed(values, self.band_groups))
        return self._last[1:]

    def _read(self, where: dict[str, slice]) -> np.ndarray:
        """Read a part of a lazy cube; its values are looked at here, where they are first seen."""
        part = self.cube.isel(where)
        values: np.ndarray = part.values
        sensor, times = cubes.sensor_of(part), part.time.values
        cubes.check_values(values, sensor, bands_of(part), times=times, part=True)
        return values


def labels_of(labels: xr.DataArray) -> np.ndarray:
    """Return labels as numbers: int16 classes, -1 = unlabelled, or float32 values, NaN = unlabelled."""
    return labels.values.astype("float32" if labels.dtype.kind == "f" else "int16")


def _coordinate(labels: xr.DataArray | None, name: str) -> np.ndarray | None:
    if labels is None or name not in labels.coords or labels.coords[name].dims != ("y", "x"):
        return None
    return labels.coords[name].values.astype("int32")


def zeroed(values: np.ndarray, valid: np.ndarray, groups: tuple[int, ...]) -> np.ndarray:
    """Return values (t c h w) with zero where a band is not valid."""
    seen = valid[:, None] if valid.ndim == 3 else np.repeat(valid, groups, axis=1)
    return np.where(seen, values, np.float32(0))


def cut_labels(
    labels: np.ndarray | None, when: np.ndarray, rows: slice, columns: slice
) -> np.ndarray:
    """Return the labels of some dates of a window, (t h w), or (t,) of labels of the whole place; a view if it can."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if labels is None:
        return np.broadcast_to(np.int16(UNLABELLED), (len(when), height, width))
    if labels.ndim >= 2:
        labels = labels[..., rows, columns]
    # Labels without dates are the same at each.
    dated = labels.ndim in (1, 3)
    return labels[when] if dated else np.broadcast_to(labels, (len(when), *labels.shape))


def labelled_pixels(labels: np.ndarray) -> np.ndarray:
    """Return where labels of pixels, of any date, are labels: (h w) bool."""
    found = is_labelled(labels)
    return np.asarray(found.any(axis=0)) if found.ndim == 3 else found
