"""What the labeler does when a control is used: each action notes the line of Python that does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import shapely

from timo.errors import TimoError

from ..base.part import Part
from ..base.steps import STORE, Step
from ..maps.rastermap import RasterMap
from . import label_files
from .cells import shortened
from .panel import DRAW, ERASE, PAINT, SIDES, Controls
from .sheet import Label
from .store import LabelStore
from .strokes import Stroke, Strokes

LABELS = "labels"
_LAST = "labels = store.labels()"
# What the browser rounds coordinates to, and a little more.
_ROUNDING_DEGREES = 2e-6


class LabelActions(Part):
    """The part of the labeler that acts; `Labeler` is the other, which shows."""

    store: LabelStore | None
    map: RasterMap | None
    controls: Controls
    strokes: Strokes
    _placed: list[dict[str, Any]]
    _own: bool
    _told: bool

    def refresh(self) -> None:
        """Show what is in the store, and put the labels into the state."""
        raise NotImplementedError

    def _show_chosen(self) -> None:
        raise NotImplementedError

    def _make_strokes(self) -> Strokes:
        c = self.controls
        return Strokes(
            mode=c.mode,
            brush=c.size,
            classes=c.name,
            opacity=c.opacity,
            sizes=list(SIDES),
            on_stroke=lambda stroke: self.attempt(lambda: self._stroke(stroke)),
            on_key=lambda action: self.attempt(lambda: self._do(action)),
        )

    def _wire(self) -> None:
        c = self.controls
        for made, action in {
            c.place: lambda: self._clicked(c.row.value, c.column.value),
            c.add: self._add_class,
            c.rename: self._rename_class,
            c.change: self._change,
            c.delete: lambda: self._do("delete", self._known().number),
            c.undo: lambda: self._do("undo"),
            c.redo: lambda: self._do("redo"),
            c.clear: lambda: self._do("clear"),
            c.save: self._save,
            c.open: lambda: self._read(label_files.load, c.path.value),
        }.items():
            made.on_click(lambda _, action=action: self.attempt(action))
        c.upload.observe(self._uploaded, names="value")
        c.mode.observe(self._set_mode, names="value")
        c.whole.observe(self._set_mode, names="value")
        c.shapes.observe(self._list_clicked, names="value")
        c.opacity.observe(self._set_opacity, names="value")
        c.date.observe(self._slid, names="value")

    def _set_mode(self, _: Any = None) -> None:
        if self.map is None:
            return
        c, draws = self.controls, self.controls.mode.value == DRAW
        # Taken off and put back by hand: what a map removes, it closes for good.
        others = tuple(each for each in self.map.map.controls if each is not self.map.draw)
        self.map.map.controls = (*others, self.map.draw) if draws else others
        self.map.map.default_style.cursor = "grab" if draws else "crosshair"
        c.brushes.layout.display = "none" if draws else None
        c.place.description = "Erase this pixel" if c.mode.value == ERASE else "Label this pixel"
        c.dates.layout.display = "none" if c.whole.value else None

    def _set_opacity(self, change: dict[str, Any]) -> None:
        if self.map is not None:
            self.map.set_opacity(LABELS, change["new"])

    def _slid(self, change: dict[str, Any]) -> None:
        if not self._own and change["new"] is not None:
            self.state.date = change["new"]

    def _list_clicked(self, _: Any) -> None:
        if not self._own and self.store is not None:
            self.attempt(self._show_chosen)

    def _clicked(self, row: int, column: int) -> None:
        c = self.controls
        if c.mode.value in (PAINT, ERASE):
            self._stroke(Stroke([(row, column)], c.size.value, c.mode.value == ERASE, c.name.index))

    def _stroke(self, stroke: Stroke) -> None:
        """Paint or erase along a stroke: one step to undo, and one line."""
        path, given = shortened(stroke.path), dict[str, Any](size=stroke.size)
        name = "erase" if stroke.erases else "paint"
        values: list[Any] = [] if stroke.erases else [self._class(stroke.code)]
        given |= {} if stroke.erases else self._dates()
        row, column = path[0]
        rows, columns = (0, 0) if self.store is None else self.store.shape
        if len(path) == 1 and 0 <= row < rows and 0 <= column < columns:
            values = [row, column, *values]
        else:
            name, values = f"{name}_along", [path, *values]
        self._do(name, *values, **given)

    def _shapes_drawn(self, change: dict[str, Any]) -> None:
        """Take over what was drawn, edited or deleted with the map's tools."""
        if self._own or self.store is None:
            return
        placed = {feature["properties"]["number"]: feature for feature in self._placed}
        for feature in change["new"]:
            number = (feature.get("properties") or {}).get("number")
            known = placed.pop(number, None)
            if number is None or (known is not None and not _alike(known, feature)):
                self.attempt(partial(self._add, feature["geometry"], number))
        for number in placed:
            self.attempt(partial(self._do, "delete", number))
        self._show_chosen()

    def _add(self, geometry: dict[str, Any], number: int | None = None) -> None:
        """Add a shape of the class and dates that are set; a label that is there keeps its own."""
        if number is None:
            self._do("add", geometry, self._class(), **self._dates())
            return
        assert self.store is not None
        label = self.store.label(number)
        dates = {"start": label.start, "end": label.end} if label.dated else {}
        self._do("add", geometry, self.store.classes[label.code], **dates, number=number)

    def _add_class(self) -> None:
        name = self.controls.title.value
        self._do("add_class", name)
        self.controls.title.value = ""
        self.controls.name.value = name.strip()

    def _rename_class(self) -> None:
        self._do("rename_class", self._class(), self.controls.title.value)
        self.controls.title.value = ""

    def _change(self) -> None:
        label, name = self._known(), self._class()
        dates = {"start": None, "end": None, **self._dates()}
        self._do("change", label.number, name=name, **dates)

    def _save(self) -> None:
        assert self.store is not None
        path = Path(self.controls.path.value)
        label_files.save(self.store, path)
        self.controls.download.offer(path.expanduser())
        self._echo(Step("label_files.save", STORE, str(path)))
        self.message.info(f"{len(self.store.sheet.labels)} labels are in {path}.")

    def _uploaded(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            # The file is on the user's machine: what was in it goes into the line.
            text = bytes(file["content"]).decode("utf-8-sig", errors="replace")
            self.attempt(partial(self._read, label_files.from_geojson, text))
        if change["new"]:
            self.controls.upload.value = ()

    def _read(self, read: Callable[..., int], given: str) -> None:
        outside = self._do(read, given, keep=self.controls.keep.value)
        assert self.store is not None
        text = f"{len(self.store.sheet.labels)} labels are here now."
        beyond = f" {outside} features lie beside the cube and were left out." if outside else ""
        self.message.info(text + beyond)

    def _chosen(self) -> Label | None:
        number = self.controls.shapes.value
        return None if number is None or self.store is None else self.store.label(number)

    def _known(self) -> Label:
        label = self._chosen()
        if label is None:
            raise TimoError("No label is chosen. Choose one from the list")
        return label

    def _class(self, code: int | None = None) -> str:
        """Return the name of a class; by default of that which is chosen."""
        code = self.controls.name.index if code is None else code
        if self.store is None or code is None or code >= len(self.store.classes):
            raise TimoError("There is no class to give. Name one and press Add class")
        return self.store.classes[code]

    def _dates(self) -> dict[str, str | None]:
        c = self.controls
        if c.whole.value:
            return {}
        given = {"start": c.start.value, "end": c.end.value}
        return {key: f"{day:%Y-%m-%d}" for key, day in given.items() if day is not None}

    def _do(self, action: str | Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Do something with the store, note the line that does it, and show what came of it.

        The action is the name of a method of the store, or a function of `label_files`, which takes the store.
        """
        if self.store is None:
            raise TimoError("There is no cube to label yet. Open one first")
        before = self.store.sheet
        first = _opening(self.store) if not self._told else []
        if isinstance(action, str):
            step = Step(f"store.{action}", *given, **options)
            done = getattr(self.store, action)(*given, **options)
        else:
            step = Step(f"label_files.{action.__name__}", STORE, *given, **options)
            done = action(self.store, *given, **options)
        self.message.clear()
        if self.store.sheet is not before:
            self._echo(step, first)
            self.refresh()
        return done

    def _echo(self, line: str, first: Sequence[str] = ()) -> None:
        """Note a line of Python; the one that takes the labels stays the last."""
        code = list(self.state.code)
        if code and code[-1] == _LAST:
            code.pop()
        self._told = True
        self.state.code = [*code, *first, line, _LAST]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two features have the same outline, but for the browser's rounding."""
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in (one, other)]
    return bool(
        shapely.normalize(shapes[0]).equals_exact(shapely.normalize(shapes[1]), _ROUNDING_DEGREES)
        or shapes[0].equals_exact(shapes[1], _ROUNDING_DEGREES)
    )


def _opening(store: LabelStore) -> list[str]:
    """Return the lines that make the store as it is now."""
    lines = [
        "import timo_widgets",
        "from timo_widgets import label_files",
        f"store = timo_widgets.LabelStore(cube, {store.classes!r})",
    ]
    if store.sheet.labels:
        lines.append(f"label_files.from_geojson(store, {label_files.to_geojson(store)!r})")
    return lines
