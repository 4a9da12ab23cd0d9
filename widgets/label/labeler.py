"""Label a cube by hand: shapes and painted pixels with a class and dates, as labels on the cube's grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import ipywidgets
import pandas as pd
import shapely
import xarray as xr

from timo.checks import checked
from timo.cube import grid_mismatch
from timo.errors import TimoError

from ..base.state import State, clear_date
from ..base.style import PictureFallback, class_colours, close_tree
from ..maps.colours import class_picture, photograph
from ..maps.rastermap import RasterMap
from .actions import LABELS, LabelActions
from .cells import outline
from .panel import Controls
from .sheet import Label, summary
from .store import LabelStore
from .strokes import KEYS

CHOSEN = "chosen"


class Labeler(PictureFallback, LabelActions):
    """Label a cube by hand.

    Draw polygons and rectangles, or press and drag to paint and erase pixels; choose the class and, if it does not hold
    for the whole series, the dates. A label in the list can be changed, its outline with the map's editing tool. While
    the pointer or the focus is here, the keys 1 to 9 choose the class, and Ctrl or Cmd with Z, Shift+Z and Y undo and
    redo; with the space bar held, dragging moves the map instead of painting.

    Parameters
    ----------
    cube : xarray.DataArray, optional
        The cube (time, band, y, x); by default that of `state`.
    classes : sequence of str, optional
        Names of the classes; by default those of `state`.
    state : State, optional
        What the parts of a workbench share; by default one of its own. Labels that are put there (such as
        `timo.sample_labels(cube)`) are taken over.
    height : str
        Height of the map, in CSS.

    Attributes
    ----------
    labels : xarray.DataArray or None
        See `LabelStore.labels`.
    store : LabelStore or None
        The labels one by one; None without a cube. After a change made there, call `refresh`.
    map : RasterMap or None
        The map.
    """

    @checked
    def __init__(
        self,
        cube: xr.DataArray | None = None,
        classes: Sequence[str] | None = None,
        *,
        state: State | None = None,
        height: str = "460px",
    ) -> None:
        super().__init__(state, cube)
        self.add_class("timo-labeler")
        self.store: LabelStore | None = None
        self.map: RasterMap | None = None
        self.controls = Controls(self.message)
        self.strokes = self._make_strokes()
        self._height, self._classes = height, None if classes is None else list(classes)
        self._placed: list[dict[str, Any]] = []
        # Set while what changes was changed by this object.
        self._own = False
        self._told = False
        self._wire()
        self._start()
        self.follow(self.state, lambda _: self.attempt(self._start), "cube")
        self.follow(self.state, self._on_labels, "labels", "classes")
        self.follow(self.state, self._on_date, "date")

    @property
    def labels(self) -> xr.DataArray | None:
        """The labels on the cube's grid; None as long as there are none."""
        return self.store.labels() if self.store and self.store.sheet.labels else None

    # ---- a cube -------------------------------------------------------------------------------

    def _start(self) -> None:
        """Make everything for the cube that is in the state."""
        old, cube = self.store, self.state.cube
        self._drop_map()
        if cube is None:
            self.message.info("There is no cube yet: open one first.")
            self.children = [self.message]
            return
        # The classes that were given count for the first cube, and where no other part has named any.
        names, self._classes = self._classes or list(self.state.classes), None
        self.store, self._told = LabelStore(cube, names), False
        if old is not None and not grid_mismatch(cube, old.cube):
            # Labels hold on days, also of other dates of the cube.
            self.store = LabelStore(cube)
            self.store.take_sheet(old.sheet)
        elif self.state.labels is not None:
            self.store = _adopted(cube, names, self.state.labels)
        self.map = RasterMap(cube, self._height)
        self.map.on_click(self._clicked)
        self.map.enable_drawing(("polygon", "rectangle"))
        self.map.draw.observe(self._shapes_drawn, names="data")
        self._own = True
        days = pd.DatetimeIndex(cube.time.values)
        self.controls.date.options = [(f"{day:%Y-%m-%d}", i) for i, day in enumerate(days)]
        self._own = False
        for box, size in ((self.controls.row, "y"), (self.controls.column, "x")):
            box.max = cube.sizes[size] - 1
        self.strokes.fit(self.map)
        self.children = [*self.controls.whole_box(self.map.widget), self.strokes]
        self.message.clear()
        self.state.date = clear_date(cube, self.state.date)
        self._set_slider()
        self._show_date()
        self._set_mode()
        self.refresh()

    def _set_slider(self) -> None:
        self._own = True
        self.controls.date.value = self.state.date
        self._own = False

    def _on_labels(self, change: dict[str, Any]) -> None:
        """Take over what another part put into the state."""
        # While the cube is being exchanged, what is in the state is not about this store.
        if self._own or self.store is None or self.store.cube is not self.state.cube:
            return
        if change["name"] == "labels":
            self.attempt(lambda: self._adopt(change["new"]))
        elif change["new"] and list(change["new"]) != self.store.classes:
            self.attempt(lambda: self._adopt_classes(list(change["new"])))

    def _adopt(self, labels: xr.DataArray | None) -> None:
        assert self.store is not None
        self.store = _adopted(self.store.cube, self.store.classes, labels)
        self._told = False
        self.refresh()

    def _adopt_classes(self, names: list[str]) -> None:
        assert self.store is not None
        lost = [label for label in self.store.sheet.labels if label.code >= len(names)]
        if lost:
            raise TimoError(
                f"{len(names)} classes are too few for the labels, which go up to class "
                f"{max(label.code for label in lost)}. Delete those labels first"
            )
        self.store.replace_all(names, self.store.sheet.labels)
        self.refresh()

    # ---- what is shown ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show what is in the store, and put the labels into the state."""
        if self.store is None or self.map is None:
            return
        self._own = True
        try:
            self.state.classes = self.store.classes
            self.state.labels = self.labels
        finally:
            self._own = False
        self._show_labels()
        self._fill_lists()

    def _fill_lists(self) -> None:
        assert self.store is not None
        c, names = self.controls, self.store.classes
        colours = class_colours(len(names))
        c.summary.value = summary(self.store.counts(), colours)
        chosen, wanted = c.name.index, c.shapes.value
        self.strokes.colours = colours
        if tuple(c.name.options) != tuple(names):
            c.name.tooltips = [f"Key {key}" for key, _ in enumerate(names[:KEYS], 1)]
            c.name.options = names
            if names:
                c.name.index = min(chosen or 0, len(names) - 1)
        lines = [(label.line(names), label.number) for label in self.store.sheet.labels]
        c.shapes.options = lines
        c.shapes.value = wanted if wanted in [number for _, number in lines] else None
        c.undo.disabled, c.redo.disabled = not self.store.can_undo, not self.store.can_redo
        c.clear.disabled = c.save.disabled = not lines
        self._show_chosen()

    def _show_labels(self) -> None:
        assert self.store is not None
        assert self.map is not None
        plane = self.store.plane(self.state.date)
        colours = dict(enumerate(class_colours(len(self.store.classes))))
        self.map.show(LABELS, class_picture(plane, colours), self.controls.opacity.value)

    def _show_date(self) -> None:
        assert self.map is not None
        image = photograph(self.state.cube.isel(time=[self.state.date]))
        self.map.show("image", image)
        day = pd.Timestamp(self.state.cube.time.values[self.state.date])
        if not image[..., 3].any():
            self.message.info(f"{day:%Y-%m-%d} has no clear pixel: choose another date.")
        elif self.message.kind == "info":
            self.message.clear()

    def _on_date(self, _: Any) -> None:
        if self.map is None:
            return
        self._set_slider()
        self.attempt(self._show_date)
        self._show_labels()

    def _show_chosen(self) -> None:
        """Put the outline of the chosen label onto the map: a drawn one so that it can be edited."""
        assert self.map is not None
        label = self._chosen()
        c = self.controls
        c.change.disabled = c.delete.disabled = label is None
        features: list[dict[str, Any]] = []
        if label is not None and label.geometry is not None:
            features = [_feature(self.map.turned(label.geometry), label.number)]
        self._placed = features
        self._own, before = True, self._own
        self.map.draw.data = features
        self._own = before
        self._mark_painted(label)

    def _mark_painted(self, label: Label | None) -> None:
        from ipyleaflet import GeoJSON

        assert self.map is not None
        assert self.store is not None
        for layer in self.map.map.layers:
            if layer.name == CHOSEN:
                self.map.map.remove(layer)
                close_tree(layer)
        if label is not None and label.painted:
            cells = self.map.turned(outline(label.cells, self.store.cube))
            data = _feature(cells, label.number)
            style = {"color": "#ffffff", "weight": 3, "fill": False, "dashArray": "4"}
            self.map.map.add(GeoJSON(data=data, name=CHOSEN, style=style))

    def picture(self) -> bytes:
        """Return a PNG of the map."""
        if self.map is None:
            raise TimoError("There is no cube to show yet. Open one first")
        return self.map.picture()

    def _drop_map(self) -> None:
        if self.map is not None:
            self.map.draw.unobserve(self._shapes_drawn, names="data")
            self._mark_painted(None)
            self.map.close()
        self.map, self.store = None, None

    def _stop(self) -> None:
        self._drop_map()
        for value in vars(self.controls).values():
            if isinstance(value, ipywidgets.Widget):
                close_tree(value)


def _adopted(cube: xr.DataArray, classes: Sequence[str], labels: xr.DataArray | None) -> LabelStore:
    """Return a store that begins with labels that were made elsewhere."""
    store = LabelStore(cube, classes)
    if labels is not None:
        store.adopt(labels)
        store.take_sheet(store.sheet)
    return store


def _feature(geometry: Any, number: int) -> dict[str, Any]:
    shape = json.loads(json.dumps(shapely.geometry.mapping(geometry)))
    return {"type": "Feature", "properties": {"number": number}, "geometry": shape}
