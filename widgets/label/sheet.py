"""Labels at one moment and their history: shapes of a class, in order, and what they make of a grid."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from shapely.geometry.base import BaseGeometry

from timo.checks import checked
from timo.errors import TimoError

UNLABELLED = -1
_MOST_STEPS = 200
# Fewer labelled pixels than this say little of a class.
FEW_PIXELS = 20


@dataclass(frozen=True, eq=False)
class Label:
    """One labelled shape: a class on some cells, and the days on which it holds."""

    # It stays the same when the label is changed.
    number: int
    code: int
    # (n,) row x width + column, ascending.
    cells: np.ndarray
    # First and last day ("2019-07-31"), both included; None: without a limit.
    start: str | None = None
    end: str | None = None
    # The outline, in degrees, if it was drawn; None where pixels were painted.
    geometry: BaseGeometry | None = None

    @property
    def dated(self) -> bool:
        """Whether it holds on some dates only."""
        return self.start is not None or self.end is not None

    @property
    def painted(self) -> bool:
        """Whether it was made of single pixels."""
        return self.geometry is None

    def line(self, classes: Sequence[str]) -> str:
        """Describe it in a line, for a list."""
        kind = "painted" if self.painted else "shape"
        span = f"{self.start or 'start'} to {self.end or 'end'}" if self.dated else "whole series"
        name, pixels = classes[self.code], f"{self.cells.size:,} px"
        return f"{self.number} · {name} · {kind}, {pixels} · {span}"

    def alike(self, other: Label) -> bool:
        """Return whether both have the same class and dates."""
        return (self.code, self.start, self.end) == (other.code, other.start, other.end)


@dataclass(frozen=True)
class Sheet:
    """All labels at one moment, the later on top: never changed, only replaced."""

    classes: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


class History:
    """The sheet of labels as it is now, with those before it, and those that were taken back."""

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self.sheet = Sheet(check_names(classes))
        self._past: list[Sheet] = []
        self._future: list[Sheet] = []

    def undo(self) -> bool:
        """Take the last step back; False if there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Make the step that was taken back again; False if there is none."""
        return self._travel(self._future, self._past)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to make again."""
        return bool(self._future)

    @checked
    def take_sheet(self, sheet: Sheet) -> None:
        """Begin with these labels: there is nothing to undo then."""
        self.sheet, self._past, self._future = sheet, [], []

    def next_number(self) -> int:
        """Return a number that no label has or had."""
        # Past and future count too: a number that comes back by undo must not mean another label by then.
        sheets = (self.sheet, *self._past, *self._future)
        return 1 + max((label.number for s in sheets for label in s.labels), default=0)

    def _put(self, **values: Any) -> None:
        self._past = [*self._past, self.sheet][-_MOST_STEPS:]
        self._future = []
        self.sheet = replace(self.sheet, **values)

    def _travel(self, source: list[Sheet], target: list[Sheet]) -> bool:
        if not source:
            return False
        target.append(self.sheet)
        self.sheet = source.pop()
        return True


def planes(sheet: Sheet, cube: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different (y, x) int16 label maps of a sheet, stacked, and which of them each date of the cube has."""
    shape = cube.sizes["y"], cube.sizes["x"]
    days = _days(cube)
    holds = np.array([_holds(label, days) for label in sheet.labels])
    kinds, which = np.unique(holds.reshape(-1, days.size), axis=1, return_inverse=True)
    # Without labels all dates are alike.
    maps = np.full((max(kinds.shape[1], 1), *shape), UNLABELLED, "int16")
    for plane, active in zip(maps, kinds.T, strict=False):
        for label, there in zip(sheet.labels, active, strict=True):
            if there:
                plane.flat[label.cells] = label.code
    return maps, which.reshape(days.size) if kinds.size else np.zeros(days.size, int)


def from_raster(labels: xr.DataArray, cube: xr.DataArray, number: int) -> Iterator[Label]:
    """Yield a label for each class and each run of dates with the same pixels, numbered from `number` on."""
    dated = "time" in labels.dims
    values = labels.values if dated else labels.values[None]
    days = [f"{day:%Y-%m-%d}" for day in _days(cube)]
    for code in range(int(values.max()) + 1):
        for first, last in _runs(values == code):
            span = (days[first], days[last - 1]) if dated and last - first < len(days) else ()
            cells = np.flatnonzero(values[first] == code)
            if cells.size:
                yield Label(number, code, cells, *span)
                number += 1


def _days(cube: xr.DataArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(cube.time.values).floor("D")


def check_dates(start: Any, end: Any) -> tuple[str | None, str | None]:
    """Return first and last day, as "2019-07-31", of dates or parts of dates; None stays None."""
    if start is None and end is None:
        return None, None
    from timo.sources.dates import make_span

    # An end that is left open must not be at fault.
    first, after = make_span("1950" if start is None else start, "2200" if end is None else end)
    last = after - pd.Timedelta(days=1)
    return (
        None if start is None else f"{first:%Y-%m-%d}",
        None if end is None else f"{last:%Y-%m-%d}",
    )


def starving(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the classes that have too few labelled pixels, each with what to say of it."""
    said = {}
    for name, pixels in counts.items():
        if pixels == 0:
            said[name] = f"{name} has no pixel yet: label some"
        elif pixels < FEW_PIXELS:
            said[name] = f"{name} has only {pixels} pixels: label at least {FEW_PIXELS}"
    return said


def summary(counts: pd.DataFrame, colours: list[str]) -> str:
    """Make an HTML table: colour, name, pixels, hectares and a warning for each class that has too few."""
    if counts.empty:
        return '<span class="timo-note">There is no class yet: name one and press Add class.</span>'
    said = starving({str(name): int(n) for name, n in counts["pixels"].items()})
    fewest = counts["pixels"].min()
    rows = []
    for (name, row), colour in zip(counts.iterrows(), colours, strict=True):
        text = html.escape(str(name))
        note = said.get(str(name), "")
        if not note and len(counts) > 1 and row.pixels == fewest < counts["pixels"].max():
            note = "fewest"
        mark = f"⚠ {html.escape(note)}" if str(name) in said else note
        area = "" if np.isnan(row.hectares) else f"{row.hectares:,.2f} ha"
        rows.append(
            f'<tr><td><span style="display:inline-block;width:14px;height:14px;background:{colour};'
            f'border:1px solid var(--jp-border-color1,#bdbdbd)"></span></td><td><b>{text}</b></td>'
            f'<td style="text-align:right">{int(row.pixels):,} px</td>'
            f'<td style="text-align:right">{area}</td></tr>'
            + (f'<tr><td></td><td colspan="3" class="timo-note">{mark}</td></tr>' if mark else "")
        )
    return f'<table style="border-spacing:8px 0;line-height:1.5">{"".join(rows)}</table>'


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes, without blanks around them; each must be there once."""
    tidy = tuple(str(name).strip() for name in names)
    if not all(tidy):
        raise TimoError("The name of a class is empty. Give it a name")
    if twice := [name for name in tidy if tidy.count(name) > 1]:
        raise TimoError(f"There are two classes {twice[0]!r}. Give each its own name")
    return tidy


def _holds(label: Label, days: pd.DatetimeIndex) -> np.ndarray:
    """Return (time,) whether the label holds on each day."""
    after = np.ones(days.size, bool) if label.start is None else days >= pd.Timestamp(label.start)
    before = np.ones(days.size, bool) if label.end is None else days <= pd.Timestamp(label.end)
    return np.asarray(after & before)


def _runs(masks: np.ndarray) -> list[tuple[int, int]]:
    """Return first and after-last index of runs of equal (y, x) masks along the first axis."""
    new = (masks[1:] != masks[:-1]).any(axis=(1, 2))
    edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(masks)]
    return list(itertools.pairwise(edges))
