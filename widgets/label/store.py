"""Labels drawn by hand: an ordered list of shapes on a cube's grid, with undo; no widget is needed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import Range, checked, choice
from timo.cube import cell_area_m2, check_grid, check_labels
from timo.errors import TimoError
from timo.sources import parse_aoi

from ..base.state import Index
from ..maps.warp import check_raster
from .cells import along, brush, cells_in
from .sheet import History, Label, check_dates, check_names, from_raster, planes

# Of a brush, in pixels; that it is odd is checked where it is used.
Side = Annotated[int, Range(least=1, most=9_999)]


class LabelStore(History):
    """Labels on a cube's grid that can be added, changed, undone, saved and rasterised.

    Each change is one step to undo. All methods raise a `TimoError` for a label, a class, a date or a pixel that is not
    there, a brush whose side is not odd, a shape that holds no pixel, and a name that is empty or taken.

    Parameters
    ----------
    cube : xarray.DataArray
        The cube that is labelled: an even grid with a CRS, and dates; only its coordinates are used.
    classes : sequence of str
        Different names of the classes, in order of their codes.
    """

    @checked
    def __init__(self, cube: xr.DataArray, classes: Sequence[str] = ()) -> None:
        check_raster(cube)
        check_grid(cube, what="cube")
        if "time" not in cube.indexes or cube.indexes["time"].dtype.kind != "M":
            raise TimoError("Labels hold on dates, and this cube has none: give it with its time.")
        super().__init__(classes)
        self.cube = cube

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.cube.sizes["y"], self.cube.sizes["x"]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.sheet.classes)

    # ---- what can be done; each is one step to undo -------------------------------------------

    @checked
    def add(
        self,
        shape: Any,
        name: str,
        *,
        start: Any = None,
        end: Any = None,
        number: int | None = None,
    ) -> Label:
        """Label the pixels whose centre lies in a shape.

        Parameters
        ----------
        shape : GeoJSON geometry or feature, shapely geometry, WKT, ...
            See `timo.sources.parse_aoi`.
        name : str
            The class.
        start, end : str or date, optional
            First and last day on which the label holds; a part of a date means all of it.
        number : int, optional
            Replace the outline of this label instead, and keep its place in the order.
        """
        geometry, cells = cells_in(parse_aoi(shape), self.cube)
        first, last = check_dates(start, end)
        key = self.next_number() if number is None else self.label(number).number
        label = Label(key, self.code_of(name), cells, first, last, geometry)
        if number is None:
            self._put(labels=(*self.sheet.labels, label))
        else:
            self._exchange(label)
        return label

    @checked
    def paint(
        self,
        row: int,
        column: int,
        name: str,
        *,
        size: Side = 1,
        start: Any = None,
        end: Any = None,
    ) -> Label:
        """Label a square of pixels around one; strokes of one class and date range become one label.

        Parameters
        ----------
        row, column : int
            The pixel in the middle.
        name : str
            The class.
        size : int
            Side of the square, odd; what reaches over the grid's edge is left out.
        start, end
            As in `add`.
        """
        return self._paint(brush(row, column, size, self.shape), name, start, end)

    @checked
    def paint_along(
        self,
        path: Sequence[tuple[int, int]],
        name: str,
        *,
        size: Side = 1,
        start: Any = None,
        end: Any = None,
    ) -> Label:
        """Label what a brush covers on its way; strokes of one class and date range become one label.

        Parameters
        ----------
        path : sequence of (row, column)
            Pixels that the middle of the brush goes through, in a straight line from each to the next; parts of the way
            may lie outside of the grid.
        name, size, start, end
            As in `paint`.
        """
        return self._paint(along(path, size, self.shape), name, start, end)

    def _paint(self, cells: np.ndarray, name: str, start: Any, end: Any) -> Label:
        stroke = Label(self.next_number(), self.code_of(name), cells, *check_dates(start, end))
        last = self.sheet.labels[-1] if self.sheet.labels else None
        if last is None or not last.painted or not last.alike(stroke):
            self._put(labels=(*self.sheet.labels, stroke))
            return stroke
        grown = replace(last, cells=np.union1d(last.cells, cells))
        if grown.cells.size > last.cells.size:
            self._exchange(grown)
        return grown

    @checked
    def erase(self, row: int, column: int, *, size: Side = 1) -> int:
        """Take a square of pixels out of all labels, on all dates; return how many were labelled."""
        return self._erase(brush(row, column, size, self.shape))

    @checked
    def erase_along(self, path: Sequence[tuple[int, int]], *, size: Side = 1) -> int:
        """Take what a brush covers on its way (see `paint_along`) out of all labels; return how many were labelled."""
        return self._erase(along(path, size, self.shape))

    def _erase(self, gone: np.ndarray) -> int:
        kept, lost = [], 0
        for label in self.sheet.labels:
            left = np.setdiff1d(label.cells, gone, assume_unique=True)
            lost += label.cells.size - left.size
            if left.size == label.cells.size:
                kept.append(label)
            elif left.size:
                # Its outline is no longer the one that was drawn.
                kept.append(replace(label, cells=left, geometry=None))
        if lost:
            self._put(labels=tuple(kept))
        return lost

    @checked
    def change(self, number: int, **values: Any) -> Label:
        """Give a label another class (`name`) or other dates (`start`, `end`)."""
        for given in values:
            choice(given, "A value of a label", ("name", "start", "end"))
        label = self.label(number)
        start, end = check_dates(values.get("start", label.start), values.get("end", label.end))
        code = self.code_of(values["name"]) if "name" in values else label.code
        changed = replace(label, code=code, start=start, end=end)
        if not changed.alike(label):
            self._exchange(changed)
        return changed

    @checked
    def delete(self, number: int) -> None:
        """Remove a label."""
        label = self.label(number)
        self._put(labels=tuple(other for other in self.sheet.labels if other is not label))

    def clear(self) -> None:
        """Remove all labels."""
        if self.sheet.labels:
            self._put(labels=())

    @checked
    def add_class(self, name: str) -> None:
        """Add a class after the last."""
        self._put(classes=check_names([*self.classes, name]))

    @checked
    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name; its labels keep it."""
        names = self.classes
        names[self.code_of(old)] = new
        if names != self.classes:
            self._put(classes=check_names(names))

    @checked
    def adopt(self, labels: xr.DataArray) -> None:
        """Take labels that were made elsewhere, in place of all that are here.

        Parameters
        ----------
        labels : xarray.DataArray
            (y, x) or (time, y, x) integers on the cube's grid; see `timo.cube.check_labels`.
        """
        check_labels(labels, self.cube)
        names = list(labels.attrs.get("classes", self.classes))
        most = int(labels.max()) + 1
        names += [f"class {code}" for code in range(len(names), most)]
        self._put(
            classes=check_names(names),
            labels=tuple(from_raster(labels, self.cube, self.next_number())),
        )

    # ---- what comes out -----------------------------------------------------------------------

    def labels(self) -> xr.DataArray:
        """Return the labels on the cube's grid; they pass `timo.cube.check_labels`.

        Returns
        -------
        xarray.DataArray
            (y, x) int16, or (time, y, x) if a label holds on some dates only; -1 = unlabelled. `attrs["classes"]` names
            the classes.
        """
        maps, which = planes(self.sheet, self.cube)
        dims: tuple[str, ...] = ("y", "x")
        values = maps[0]
        if any(label.dated for label in self.sheet.labels):
            dims, values = ("time", "y", "x"), maps[which]
        coords = {n: c for n, c in self.cube.coords.items() if n in (*dims, "spatial_ref")}
        attrs = {"long_name": "label", "classes": self.classes}
        out = xr.DataArray(values, dims=dims, coords=coords, name="label", attrs=attrs)
        return out.rio.write_crs(self.cube.rio.crs)

    @checked
    def plane(self, date: Index) -> np.ndarray:
        """Return the (y, x) int16 labels of one date, by its position."""
        if date >= self.cube.sizes["time"]:
            raise TimoError(f"The cube has {self.cube.sizes['time']} dates: there is no {date}.")
        maps, which = planes(self.sheet, self.cube)
        return maps[which[date]]

    def counts(self) -> pd.DataFrame:
        """Count pixels and hectares of each class, by name: places that bear the class on any date.

        Hectares are NaN in a projection that distorts areas, such as Web Mercator.
        """
        maps, _ = planes(self.sheet, self.cube)
        try:
            rows = cell_area_m2(self.cube) / 1e4
        except TimoError:
            # Labels can be drawn there all the same, and pixels counted.
            rows = np.full(self.shape[0], np.nan)
        seen = [(maps == code).any(axis=0) for code in range(len(self.sheet.classes))]
        table = {
            "pixels": [int(mask.sum()) for mask in seen],
            "hectares": [float(rows @ mask.sum(axis=1)) for mask in seen],
        }
        return pd.DataFrame(table, index=pd.Index(self.classes, name="class"))

    @checked
    def label(self, number: int) -> Label:
        """Return the label of a number."""
        for label in self.sheet.labels:
            if label.number == number:
                return label
        raise TimoError(f"There is no label {number}: it was deleted. Choose one from the list")

    @checked
    def code_of(self, name: str) -> int:
        """Return the code of a class."""
        if name in self.sheet.classes:
            return self.sheet.classes.index(name)
        known = ", ".join(self.classes) or "none yet"
        raise TimoError(f"There is no class {name!r}. Known: {known}. Add it first")

    # ---- inside -------------------------------------------------------------------------------

    @checked
    def replace_all(self, classes: Sequence[str], labels: Sequence[Label]) -> None:
        """Replace classes and labels in one step."""
        self._put(classes=check_names(classes), labels=tuple(labels))

    def _exchange(self, new: Label) -> None:
        self._put(labels=tuple(new if o.number == new.number else o for o in self.sheet.labels))
