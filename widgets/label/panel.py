"""The controls of the labeler: made here, wired in labeler.py."""

from __future__ import annotations

import ipywidgets as w

from ..base.downloads import Download
from ..base.style import Message, button, style_sheet
from .strokes import key_style

DRAW, PAINT, ERASE = "Draw shapes", "Paint pixels", "Erase"
# Of the brush, in pixels.
SIDES = (1, 3, 5)
_KEYS = "Keys: 1 to 9 class · Ctrl or Cmd+Z undo, with Shift redo · space and drag: move the map"
_WIDE = {"description_width": "90px"}


class Controls:
    """The controls of the labeler, by name.

    Attributes
    ----------
    mode, name, size, whole, start, end : ipywidgets widgets
        What a stroke or a shape does: its class, the brush's side and the dates on which it holds.
    row, column, place
        A pixel by number, for those who do not use a mouse.
    title, add, rename
        Classes.
    shapes, change, delete, undo, redo, clear
        Labels that are there.
    path, save, load, keep, download
        GeoJSON files.
    summary, message, date, opacity
        What is said, and what is looked at.
    """

    def __init__(self) -> None:
        self._make_tools()
        self._make_lists()
        self._make_files()
        self.summary = w.HTML()
        self.message = Message()
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
        self.start = w.DatePicker(description="From", style=_WIDE, layout={"width": "270px"})
        self.end = w.DatePicker(description="To", style=_WIDE, layout={"width": "270px"})
        self.row = w.BoundedIntText(0, description="Row", style=_WIDE, layout={"width": "160px"})
        self.column = w.BoundedIntText(
            0, description="Column", style={"description_width": "55px"}, layout={"width": "130px"}
        )
        self.place = button("Label this pixel", "crosshairs", "The same as a click on this pixel")

    def _make_lists(self) -> None:
        self.title = w.Text(
            description="Name", placeholder="of a class", style=_WIDE, layout={"width": "290px"}
        )
        self.add = button("Add class", "plus", "Add a class of this name")
        self.rename = button("Rename class", "pencil", "Give the chosen class this name")
        self.shapes = w.Select(
            options=[], rows=6, description="Labels", style=_WIDE, layout={"width": "98%"}
        )
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
        self.path = w.Text(
            "labels.geojson", description="File", style=_WIDE, layout={"width": "290px"}
        )
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

    def everything(self) -> list[w.Widget]:
        """All widgets that must be closed at the end."""
        return [value for value in vars(self).values() if isinstance(value, w.Widget)]

    def panel(self) -> w.VBox:
        """The controls at the side of the map."""
        self.dates = w.VBox([self.start, self.end])
        self.brushes = w.VBox([self.size, w.HBox([self.row, self.column]), self.place])
        row = {"flex_flow": "row wrap"}
        boxes = [
            _titled(
                "Label", [self.mode, self.name, self.keys, self.brushes, self.whole, self.dates]
            ),
            _titled("So far", [self.summary]),
            w.HBox([self.undo, self.redo, self.clear], layout=row),
            _titled("Change", [self.shapes, w.HBox([self.change, self.delete], layout=row)]),
            _titled("Classes", [self.title, w.HBox([self.add, self.rename], layout=row)]),
            _titled(
                "GeoJSON",
                [
                    self.path,
                    w.HBox([self.save, self.open, self.upload], layout=row),
                    self.keep,
                    self.download,
                ],
            ),
        ]
        return w.VBox(boxes, layout={"width": "370px", "flex": "0 0 370px", "padding": "0 0 0 8px"})

    def whole_box(self, picture: w.Widget) -> list[w.Widget]:
        """Children of the labeler: map and panel side by side."""
        left = w.VBox(
            [picture, w.HBox([self.date, self.opacity]), self.message],
            layout={"flex": "1 1 420px", "min_width": "320px"},
        )
        self.left, self.side = left, self.panel()
        self.body = w.HBox([left, self.side], layout={"flex_flow": "row wrap"})
        return [style_sheet(), key_style(), self.body]


def _titled(title: str, children: list[w.Widget]) -> w.VBox:
    heading = w.HTML(f'<b style="line-height:1.6">{title}</b>')
    return w.VBox([heading, *children])
