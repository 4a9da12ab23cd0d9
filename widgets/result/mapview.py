"""A result on a map: classes, probabilities, entropy, year of loss; the numbers of a pixel; files."""

from __future__ import annotations

from typing import Any

import ipywidgets
import pandas as pd
import xarray as xr

from timo.cancel import CancelledError
from timo.checks import NotNegative, checked
from timo.compute import StepReport, compute
from timo.errors import TimoError
from timo.sizes import size_text

from ..base.background import Background, is_lazy
from ..base.chart import iso_dates
from ..base.part import Part
from ..base.state import State
from ..base.style import PictureFallback, button, control, style_sheet
from .data import MapData, check_result, nearest
from .export import Chosen, ExportPanel
from .layers import LayerPanel, view_code
from .legend import picture
from .pixelpanel import PixelPanel

# A larger result is computed on request, and not by itself.
LARGEST = 2_000_000_000
_PIN = "#D55E00"
_NONE = "There is no map yet: it appears here as soon as timo.predict has made one."


class MapView(PictureFallback, Part):
    """A result of `timo.predict` to look at, to ask and to export.

    A lazy result is computed once, all variables together, in a thread that can be cancelled; the computed one takes
    its place in the state.

    Parameters
    ----------
    result : xarray.Dataset, optional
        Of `timo.predict`, with or without dates; by default that of the state.
    cube : xarray.DataArray, optional
        The cube on the same grid, for the image below.
    loss : xarray.Dataset, optional
        Of `timo.loss_year`; without it, the layer is computed when it is asked for.
    state : State, optional
        What is shared with other widgets: `result`, `cube`, `date`, `pixels`, `code`.

    Attributes
    ----------
    layers : LayerPanel
        Map and legend; `layers.layer`, `layers.chosen`, `layers.opacity` and `layers.image` choose what is shown.
    pixel : PixelPanel
        Chart and table of the pixel that was clicked last.
    date : ipywidgets.SelectionSlider
        Position of the date among those of the result (of the cube, where the result has none).
    export : ExportPanel
        Folder, name, format and button.
    """

    @checked
    def __init__(
        self,
        result: xr.Dataset | None = None,
        cube: xr.DataArray | None = None,
        loss: xr.Dataset | None = None,
        state: State | None = None,
    ) -> None:
        if loss is not None and "loss_year" not in loss:
            raise TimoError("The loss has no loss_year: MapView takes what timo.loss_year returns.")
        super().__init__(state, cube)
        if result is not None:
            self.state.result = result
        self._following = False
        self._given_loss = loss
        self.data: MapData | None = None
        self._make_waiting()
        self.layers = LayerPanel(self.message, self.state, self._look_at)
        self.date = control(ipywidgets.SelectionSlider, "Date", "100%", "auto", options=[("", 0)])
        self.date.layout.max_width = "640px"
        self.follow(self.date, self._slider_moved, "value")
        self.pixel = PixelPanel(self._look_at, self._choose_date)
        self.export = ExportPanel(self._to_export, self.state.echo)
        # Not an Accordion: its headings cannot be reached by the keyboard.
        self.files = ipywidgets.ToggleButton(
            False,
            description="Export to a file",
            icon="save",
            tooltip="GeoTIFF, polygons or Zarr",
            layout={"width": "max-content"},
        )
        self.follow(self.files, self._show_files, "value")
        self._show_files()
        self.body = ipywidgets.VBox([self.layers, self.date, self.pixel, self.files, self.export])
        self.children = [style_sheet(), self.message, self._waiting, self.body]
        self.follow(self.state, self._result_changed, "result")
        self.follow(self.state, self._cube_changed, "cube")
        self.follow(self.state, self._date_changed, "date")
        self.follow(self.state, self._pixels_changed, "pixels")
        self._result_changed()

    # Computing what is lazy

    def _make_waiting(self) -> None:
        self.worker = Background(self._failed, self._progressed)
        self.progress = ipywidgets.FloatProgress(
            0, min=0, max=1, description="Computing", layout={"width": "300px"}
        )
        self.start_button = button("Compute the map", "play", "Compute the lazy result", self.start)
        self.cancel_button = button("Cancel", "stop", "Stop computing", self.cancel)
        self._waiting = ipywidgets.HBox([self.progress, self.start_button, self.cancel_button])
        self._show_waiting(None)

    def _show_waiting(self, running: bool | None) -> None:
        """Show progress while it runs, else the button that starts it; None: nothing of both."""
        self._waiting.layout.display = "none" if running is None else None
        self.progress.layout.display = self.cancel_button.layout.display = (
            None if running else "none"
        )
        self.start_button.layout.display = "none" if running else None

    def start(self) -> None:
        """Compute the lazy result, in a thread."""
        result = self.state.result
        self.progress.value = 0
        self._show_waiting(True)
        self.message.busy("Computing the map; the notebook stays usable.")
        self.worker.run(
            lambda task: compute(result, stop=task.stop, on_step=task.report), self._computed
        )

    def cancel(self) -> None:
        """Stop computing, after the pieces that are under way."""
        if self.worker.busy:
            self.message.busy("Stopping ...")
            self.worker.cancel()

    def _progressed(self, report: StepReport) -> None:
        self.progress.value = report.step / report.steps

    def _computed(self, result: xr.Dataset) -> None:
        self.state.echo("result = result.compute()")
        self.state.result = result

    def _failed(self, error: Exception) -> None:
        self._show_waiting(False)
        if isinstance(error, CancelledError):
            self.message.info("Cancelled: nothing was computed.")
        else:
            self.message.error(error)

    # The state

    def _result_changed(self, _: Any = None) -> None:
        result = self.state.result
        self.worker.drop()
        self._show_waiting(None)
        self.message.clear()
        self.body.layout.display = "none"
        if result is None:
            self.message.info(_NONE)
            return
        try:
            check_result(result)
        except TimoError as error:
            self.message.error(error)
            return
        if not is_lazy(result):
            self._show(result)
        elif result.nbytes <= LARGEST:
            self.start()
        else:
            self._show_waiting(False)
            self.message.info(f"Computed, the map takes {size_text(result.nbytes)} of memory.")

    def _show(self, result: xr.Dataset) -> None:
        self.data = MapData(result)
        self.body.layout.display = None
        self.pixel.show(self.data)
        self.layers.show(self.data, self.state.cube, self._given_loss)
        self._set_dates()
        self._pixels_changed()
        self.state.echo(view_code(self.state))

    def _cube_changed(self, _: Any = None) -> None:
        if self.data is not None and self.state.result is not None:
            self.layers.set_cube(self.state.cube)
            self._set_dates()

    def _pixels_changed(self, _: Any = None) -> None:
        data = self.data
        if data is None or self.layers.map is None:
            return
        rows, columns = self.layers.map.shape
        inside = [pixel for pixel in self.state.pixels if pixel[0] < rows and pixel[1] < columns]
        latest = inside[-1] if inside else None
        self.layers.map.mark([(*latest, _PIN, "")] if latest else [])
        self.pixel.look_at(latest)

    def _look_at(self, row: int, column: int) -> None:
        self.state.look_at(row, column)
        self.state.echo(f"result.isel(y={row}, x={column})", "view.pixel")

    # Dates

    @property
    def times(self) -> pd.DatetimeIndex | None:
        """Dates of the slider."""
        return self.layers.times

    def _set_dates(self) -> None:
        times = self.times
        self.date.layout.display = "none" if times is None else None
        if times is None:
            return
        options = tuple((day, i) for i, day in enumerate(iso_dates(times)))
        if self.date.options != options:
            self.date.options = options
        self._date_changed()

    def _choose_date(self, date: int) -> None:
        if self.data is not None and self.data.times is not None and date < len(self.data.times):
            self.date.value = date

    def _slider_moved(self, change: dict[str, Any]) -> None:
        times, cube = self.times, self.state.cube
        if times is None or change["new"] is None:
            return
        if cube is not None and not self._following:
            self.state.date = nearest(cube.indexes["time"], times[change["new"]])
        self.layers.move(change["new"])
        if not self._following:
            self._echo_date()
        if self.data is not None and self.data.times is not None:
            self.pixel.move(change["new"])

    def _echo_date(self) -> None:
        """Note what is seen of the date: the layer, or the image where the map has no dates."""
        if self.data is not None and self.data.times is not None:
            self.layers.echo()
        elif self.state.cube is not None:
            self.state.echo(f"image = cube.isel(time={self.state.date})", "view.image")

    def _date_changed(self, _: Any = None) -> None:
        """Follow the date of the cube, unless it was moved here."""
        times, cube = self.times, self.state.cube
        if times is None or cube is None:
            return
        days = cube.indexes["time"]
        if nearest(days, times[self.date.value]) != self.state.date:
            # The cube has dates that the result has not: there the slider goes to the nearest, and the state stays.
            self._following = True
            try:
                self.date.value = nearest(times, days[self.state.date])
            finally:
                self._following = False

    # Files

    def _show_files(self, _: Any = None) -> None:
        self.export.layout.display = None if self.files.value else "none"

    def _to_export(self, suffix: str) -> Chosen:
        data, layers = self.data, self.layers
        if data is None:
            raise TimoError("There is no map to export yet.")
        if suffix == ".zarr":
            return data.result, "result", None
        kind, name = layers.layer.value, layers.chosen.value
        if kind == "year":
            if layers.loss is None:
                raise TimoError("There is no year of loss: wait for it, or choose another season.")
            loss = layers.loss[["loss_year"]].assign_attrs(data.result.attrs)
            # Polygons are of what was lost; a raster says of the rest that it was not.
            return loss, 'loss[["loss_year"]]', -1 if suffix == ".tif" else 0
        date = self.date.value or 0
        if suffix == ".geojson" and not data.classes:
            raise TimoError(
                "Polygons are of classes, and this map holds values: choose another format."
            )
        if suffix == ".geojson":
            return self._shown_classes(data, date)
        names = {"class": "label"}.get(kind, kind)
        code, chosen = data.code((names,), date), data.at(date)[[names]]
        if kind == "probability":
            return chosen.sel({"class": name}), f"{code}.sel({{'class': {name!r}}})", None
        return chosen, code, None

    def _shown_classes(self, data: MapData, date: int) -> Chosen:
        names = ["label", "probability"]
        shown, code = data.at(date)[names], data.code(tuple(names), date)
        hidden = [int(key) for key in self.layers.hidden("class")]
        if hidden:
            shown = shown.assign(label=shown.label.where(~shown.label.isin(hidden), -1))
            code += f".pipe(lambda m: m.assign(label=m.label.where(~m.label.isin({hidden}), -1)))"
        return shown, code, None

    # Outside

    @checked
    def wait(self, timeout: NotNegative | None = None) -> None:
        """Wait until all is computed and written, in scripts and tests."""
        self.worker.wait(timeout)
        self.layers.wait(timeout)
        self.export.wait(timeout)

    def picture(self) -> bytes:
        """Return a PNG of the map with its legend, for where there is no live kernel."""
        data, layers = self.data, self.layers
        if data is None or layers.map is None:
            return picture(None, self.message.text, None)
        title = ""
        if data.times is not None and layers.layer.value != "year":
            title = f"{data.times[self.date.value]:%Y-%m-%d}"
        return picture(layers.map.picture(), title, layers.legend)

    def _stop(self) -> None:
        self.worker.close()
        self.export.wait(60)
        self.layers.stop()
        self.data = None
