"""The controls of the labeler: made here, wired in labeler.py."""

from __future__ import annotations

import ipywidgets as w

from ..base.downloads import Download
from ..base.style import Message, button, control, style_sheet
from .strokes import key_style

DRAW, PAINT, ERASE = "Draw shapes", "Paint pixels", "Erase"
# Of the brush, in pixels.
SIDES = (1, 3, 5)
_KEYS = "Keys: 1 to 9 class · Ctrl or Cmd+Z undo, with Shift redo · space and drag: move the map"
_WIDE = "90px"


class Controls:
    """The controls of the labeler, by name: tools, labels that are there, classes, files."""

    def __init__(self, message: Message) -> None:
        self._make_tools()
        self._make_lists()
        self._make_files()
        self.summary = w.HTML()
        self.message = message
        self.date = w.SelectionSlider(
            options=[("", 0)],
            description="Date",
            continuous_update=False,
            layout={"width": "60%"},
        )
        self.opacity = w.FloatSlider(
            0.6, min=0, max=1, step=0.05, description="Labels", layout={"width": "38%"}
        )

    def _make_tools(self) -> None:
        self.mode = w.ToggleButtons(
            options=[DRAW, PAINT, ERASE],
            tooltips=[
                "Draw a polygon or a rectangle with the tools at the map's left",
                "Press on the image and drag to label pixels; with the space bar held, dragging moves the map",
                "Press on the image and drag to take labels away; with the space bar held, dragging moves the map",
            ],
            style={"button_width": "112px"},
        )
        self.name = w.ToggleButtons(options=[], description="Class", style={"button_width": "auto"})
        self.name.add_class("timo-classes")
        self.size = w.ToggleButtons(
            options=[(f"{side} x {side}", side) for side in SIDES],
            description="Brush",
            tooltips=[f"A square of {side} x {side} pixels" for side in SIDES],
            style={"button_width": "auto"},
        )
        self.keys = w.HTML(f'<span class="timo-note">{_KEYS}</span>')
        self.keys.add_class("timo-keys")
        self.whole = w.Checkbox(True, description="Whole series", indent=False)
        self.start = control(w.DatePicker, "From", "270px", _WIDE)
        self.end = control(w.DatePicker, "To", "270px", _WIDE)
        self.row = control(w.BoundedIntText, "Row", "160px", _WIDE)
        self.column = control(w.BoundedIntText, "Column", "130px", "55px")
        self.place = button("Label this pixel", "crosshairs", "The same as a click on this pixel")

    def _make_lists(self) -> None:
        self.title = control(w.Text, "Name", "290px", _WIDE, placeholder="of a class")
        self.add = button("Add class", "plus", "Add a class of this name")
        self.rename = button("Rename class", "pencil", "Give the chosen class this name")
        self.shapes = control(w.Select, "Labels", "98%", _WIDE, options=[], rows=6)
        self.change = button(
            "Apply class and dates", "check", "Give the chosen label the class and dates above"
        )
        self.delete = button("Delete", "trash", "Remove the chosen label")
        self.undo = button("Undo", "undo", "Take the last step back (Ctrl+Z, Cmd+Z)")
        self.redo = button(
            "Redo", "repeat", "Make that step again (Ctrl+Shift+Z or Ctrl+Y, Cmd+Shift+Z)"
        )
        self.clear = button("Clear all", "eraser", "Remove all labels; Undo brings them back")

    def _make_files(self) -> None:
        self.path = control(w.Text, "File", "290px", _WIDE, value="labels.geojson")
        self.save = button("Save", "save", "Write the labels to this GeoJSON file")
        self.open = button("Load", "folder-open", "Read labels from this GeoJSON file")
        self.upload = w.FileUpload(
            accept=".geojson,.json",
            description="Upload GeoJSON",
            tooltip="Read labels from a file on your machine",
            layout={"width": "auto"},
        )
        self.keep = w.Checkbox(False, description="Keep those that are there", indent=False)
        self.download = Download()

    def panel(self) -> w.VBox:
        """Return the controls at the side of the map."""
        self.dates = w.VBox([self.start, self.end])
        self.brushes = w.VBox([self.size, w.HBox([self.row, self.column]), self.place])
        row = {"flex_flow": "row wrap"}
        files = w.HBox([self.save, self.open, self.upload], layout=row)
        boxes = [
            _titled("Label", self.mode, self.name, self.keys, self.brushes, self.whole, self.dates),
            _titled("So far", self.summary),
            w.HBox([self.undo, self.redo, self.clear], layout=row),
            _titled("Change", self.shapes, w.HBox([self.change, self.delete], layout=row)),
            _titled("Classes", self.title, w.HBox([self.add, self.rename], layout=row)),
            _titled("GeoJSON", self.path, files, self.keep, self.download),
        ]
        return w.VBox(boxes, layout={"width": "370px", "flex": "0 0 370px", "padding": "0 0 0 8px"})

    def whole_box(self, picture: w.Widget) -> list[w.Widget]:
        """Return the children of the labeler: map and panel side by side."""
        left = w.VBox(
            [picture, w.HBox([self.date, self.opacity]), self.message],
            layout={"flex": "1 1 420px", "min_width": "320px"},
        )
        self.left, self.side = left, self.panel()
        self.body = w.HBox([left, self.side], layout={"flex_flow": "row wrap"})
        return [style_sheet(), key_style(), self.body]


def _titled(title: str, *children: w.Widget) -> w.VBox:
    heading = w.HTML(f'<b style="line-height:1.6">{title}</b>')
    return w.VBox([heading, *children])
