"""The part of the map view that writes files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets
import xarray as xr

import timo
from timo.sizes import size_text

from ..base.background import Background
from ..base.downloads import Download, size_of
from ..base.steps import Name, call_code
from ..base.style import Message, button

FORMATS = {
    "GeoTIFF (COG), what is shown": ".tif",
    "GeoJSON polygons, the classes shown": ".geojson",
    "Zarr, the whole result": ".zarr",
}
# What to write, with the Python for it: (data, its code, nodata).
Chosen = tuple[xr.DataArray | xr.Dataset, str, float | None]


class ExportPanel(ipywidgets.VBox):
    """Folder, name, format and a button: writes with `timo.export`, in a thread.

    `choose` takes the suffix and returns the data, the Python that gives them, and the value for no data; `echo` takes
    the line of Python that does the same.
    """

    def __init__(self, choose: Callable[[str], Chosen], echo: Callable[[str], Any]) -> None:
        self._choose, self._echo = choose, echo
        self.worker = Background(self._failed)
        self.wait = self.worker.wait
        wide = {"width": "100%", "max_width": "420px"}
        self.folder = ipywidgets.Text("exports", description="Folder", layout=wide)
        self.file_name = ipywidgets.Text("map", description="File name", layout=wide)
        self.format = ipywidgets.Dropdown(options=FORMATS, description="Format", layout=wide)
        self.smallest = ipywidgets.BoundedFloatText(
            0.0,
            min=0,
            max=1e6,
            step=0.1,
            description="Smallest (ha)",
            tooltip="Polygons smaller than this are left out",
            style={"description_width": "initial"},
            layout={"width": "200px"},
        )
        self.button = button("Export", "save", "Write the file", self.export, "primary")
        self.message, self.download = Message(), Download()
        self.format.observe(self._format_changed, "value")
        row = ipywidgets.HBox([self.button, self.smallest, self.download])
        row.layout.align_items, row.layout.flex_flow = "center", "row wrap"
        super().__init__([self.folder, self.file_name, self.format, row, self.message])
        self._format_changed(None)

    def _format_changed(self, _: Any) -> None:
        self.smallest.layout.display = None if self.format.value == ".geojson" else "none"

    @property
    def path(self) -> Path:
        """Where the file will be."""
        suffix = self.format.value
        name = self.file_name.value.strip() or "map"
        return Path(self.folder.value.strip() or ".") / f"{name.removesuffix(suffix)}{suffix}"

    def export(self) -> None:
        """Write the file; errors are shown, and nothing is left half-written."""
        if self.worker.busy:
            return
        self.download.clear()
        path, options = self.path, dict[str, Any]()
        try:
            data, code, nodata = self._choose(path.suffix)
        except timo.TimoError as error:
            self.message.error(error)
            return
        if nodata is not None:
            options["nodata"] = nodata
        if path.suffix == ".geojson" and self.smallest.value:
            options["smallest_ha"] = self.smallest.value
        self._line = call_code("timo.export", Name(code), path.as_posix(), **options)
        self.button.disabled = True
        self.message.busy(f"Writing {path} ...")
        self.worker.run(lambda _: timo.export(data, path, **options), self._done)

    def _done(self, path: Path) -> None:
        self.button.disabled = False
        offered = self.download.offer(path)
        note = "" if offered else " It is too large for a download link: fetch it from there."
        self.message.info(f"Written: {path} ({size_text(size_of(path))}).{note}")
        self._echo(self._line)

    def _failed(self, error: Exception) -> None:
        self.button.disabled = False
        remedy = "" if isinstance(error, timo.TimoError) else "Nothing was written."
        self.message.error(error, remedy)
