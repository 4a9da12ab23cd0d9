"""The layers of a map view: which one is shown, of which class and date, how opaque, and its legend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import xarray as xr

from timo.cancel import CancelledError
from timo.cube import grid_mismatch

from ..base.background import Background, is_lazy
from ..base.state import State
from ..base.style import Message, close_tree
from ..maps.colours import class_picture, photograph, ramp_picture
from ..maps.rastermap import RasterMap
from .data import VALUES, MapData, areas, nearest
from .legend import ColourBar, Legend, year_colours
from .loss import YearOfLoss

LAYERS = {
    "Classes": "class",
    "Probability": "probability",
    "Entropy": "entropy",
    "Year of loss": "year",
    "Value": "value",
    "Lower end": "low",
    "Upper end": "high",
}
_TOOLTIPS = {
    "class": "The most probable class",
    "probability": "The probability of one class",
    "entropy": "How unsure the model is",
    "year": "When a class was lost",
    "value": "What the model predicts",
    "low": "Lower end of the interval",
    "high": "Upper end of the interval",
}
_WRAP = {"flex_flow": "row wrap", "align_items": "center"}
_NOTE = '<p class="timo-note" style="line-height:1.4">{}</p>'
_AREAS = (
    "Hectares count the pixels of the map, its errors included: they are no estimate of the area on the ground. "
    "For that, with its confidence interval: <code>timo.estimate_area</code>, and for years of loss "
    "<code>timo.loss_areas</code>."
)
_NOTHING = "<b>Nothing was observed on this date.</b>"


def view_code(state: State) -> str:
    """Return the Python that shows the result of a state."""
    return f"view = timo_widgets.MapView(result{'' if state.cube is None else ', cube'})"


class LayerPanel(ipywidgets.VBox):
    """Map, legend and the controls: the layer, the class whose probability or loss is shown, opacity, image below."""

    def __init__(self, message: Message, state: State, clicked: Callable[[int, int], Any]) -> None:
        self._message, self._state, self._clicked = message, state, clicked
        self.data: MapData | None = None
        self.map: RasterMap | None = None
        self._cube: xr.DataArray | None = None
        self._given: xr.Dataset | None = None
        self._hidden: dict[str, list[Any]] = {}
        self._date = 0
        self.year, self._reader = YearOfLoss(self._loss_failed), Background(self._failed)
        self.legend: Any = None
        self._note = ipywidgets.HTML()
        self._make_controls()
        controls = [self.layer, self.chosen, self.year, self.opacity, self.image]
        self._legend_box = ipywidgets.VBox(
            [self._note],
            layout={"flex": "0 1 250px", "padding": "0 0 0 12px", "min_width": "200px"},
        )
        self._map_box = ipywidgets.HBox([self._legend_box], layout={"flex_flow": "row wrap"})
        super().__init__([ipywidgets.HBox(controls, layout=_WRAP), self._map_box])

    def _make_controls(self) -> None:
        self.layer = ipywidgets.ToggleButtons(
            options=LAYERS,
            description="Layer",
            style={"button_width": "auto", "description_width": "auto"},
            # Else the label stands above the buttons and moves the row.
            layout={"width": "max-content", "display": "flex", "flex_flow": "row nowrap"},
        )
        self.chosen = ipywidgets.Dropdown(description="Class", layout={"width": "220px"})
        self.opacity = ipywidgets.FloatSlider(
            0.8, min=0, max=1, step=0.05, description="Opacity", layout={"width": "280px"}
        )
        self.opacity.readout_format = ".0%"
        self.image = ipywidgets.Checkbox(
            False, description="Image below", indent=False, layout={"width": "auto"}
        )
        self.layer.observe(self._chosen_again, names="value")
        for one in (self.chosen, self.year.first, self.year.last):
            one.observe(self._chosen_again, names="value")
        self.opacity.observe(self._opacity_changed, names="value")
        self.image.observe(self._draw_image, names="value")

    # What is shown

    def show(self, data: MapData, cube: xr.DataArray | None, given: xr.Dataset | None) -> None:
        """Show a result; the cube is for the image below, `given` a loss that is known."""
        # None meanwhile: what the controls say while they are filled is of no result.
        old, self.data, self._given = self.data, None, given
        self.year.forget()
        if old is None or self.map is None or grid_mismatch(data.main, old.main):
            self._make_map(data)
        if old is None or old.classes != data.classes:
            self._hidden.clear()
            self.chosen.options = data.classes
            self.chosen.value = data.classes[0] if data.classes else None
        self._offer_layers(data)
        self.data = data
        self.set_cube(cube)
        self.draw()

    def _offer_layers(self, data: MapData) -> None:
        """Offer the layers that the result has; that of the year, where there are dates or a loss is given."""
        kinds = data.values or ["class", "probability", "entropy"]
        if self._given is not None or (data.classes and data.times is not None):
            kinds = [*kinds, "year"]
        options = {name: kind for name, kind in LAYERS.items() if kind in kinds}
        if dict(self.layer.options) != options:
            self.layer.options = options
        self.layer.tooltips = [_TOOLTIPS[kind] for kind in options.values()]

    def set_cube(self, cube: xr.DataArray | None) -> None:
        """Take another cube for the image below; one that would have to be fetched is not shown by itself."""
        if cube is None or self.data is None or grid_mismatch(cube, self.data.main):
            cube = None
        self._cube, self.image.disabled = cube, cube is None
        self.image.value = cube is not None and not is_lazy(cube)
        self._draw_image()

    def move(self, date: int) -> None:
        """Show another date: a position among those of `times`."""
        self._date = date
        self._draw_image()
        if self.data is not None and self.data.times is not None and self.layer.value != "year":
            self.draw()

    @property
    def times(self) -> pd.DatetimeIndex | None:
        """Dates of the result; of the cube, where the result has none."""
        if self.data is not None and self.data.times is not None:
            return self.data.times
        return None if self._cube is None else pd.DatetimeIndex(self._cube.indexes["time"])

    def hidden(self, kind: str) -> list[Any]:
        """Return the numbers of the classes ("class") or years ("year") that are switched off."""
        return self._hidden.get(kind, [])

    def _make_map(self, data: MapData) -> None:
        old, self.map = self.map, RasterMap(data.result)
        self.map.on_click(self._clicked)
        self.map.widget.layout.flex, self.map.widget.layout.min_width = "1 1 420px", "0"
        # The first picture lies lowest, also when it comes later.
        self.map.show("image", np.zeros((*self.map.shape, 4), "uint8"))
        self._map_box.children = [self.map.widget, self._legend_box]
        if old is not None:
            old.close()

    # The layer

    @property
    def loss(self) -> xr.Dataset | None:
        """The loss that was given, or that of the chosen class, if it is known by now."""
        if self._given is not None:
            return self._given
        return self.year.found.get((self.chosen.value, self.year.months))

    def _chosen_again(self, _: Any) -> None:
        if self.data is None:
            return
        if self._message.kind == "error":  # of what was chosen before
            self._message.clear()
        self.echo()
        self.draw()

    def echo(self) -> None:
        """Note the Python that shows the layer of the date."""
        name = {"class": "label"}.get(self.layer.value, self.layer.value)
        if self.data is None or name == "year":
            return
        of = f".sel({{'class': {self.chosen.value!r}}})" if name == "probability" else ""
        code = f"{self.data.code((name,), self._date)}.{name}{of}.plot()"
        self._state.echo(code, "view.layer")

    def draw(self, *_: Any) -> None:
        """Draw the layer and its legend."""
        data, kind = self.data, self.layer.value
        if data is None or self.map is None:
            return
        of_loss = kind == "year" and self._given is None
        self.chosen.layout.display = None if of_loss or kind == "probability" else "none"
        self.year.layout.display = None if of_loss else "none"
        if kind == "year" and self.loss is None:
            self._find_loss(data, self.chosen.value)
            return
        picture, legend = (self._quantity if kind in VALUES else getattr(self, f"_{kind}"))(data)
        self._put(picture, legend)

    def _put(self, picture: np.ndarray, legend: Any) -> None:
        if self.map is not None:
            self.map.show("map", picture, self.opacity.value)
            self._set_legend(legend)

    def _class(self, data: MapData) -> tuple[np.ndarray, Any]:
        labels = data.at(self._date).label.transpose("y", "x")
        entries = [(i, name, data.colours[i]) for i, name in enumerate(data.classes)]
        legend = self._toggles("class", "Class", entries)
        legend.set_amounts(areas(labels, list(data.colours)))
        return class_picture(labels.values, data.colours, legend.hidden), legend

    def _probability(self, data: MapData) -> tuple[np.ndarray, Any]:
        values = data.probability(self.chosen.value, self._date)
        likely = areas((values > 0.5).astype("int8"), [1])[1]
        legend = ColourBar(
            f"Probability of {self.chosen.value}", 0, 1, "cividis", f"over 0.5: {likely}"
        )
        return ramp_picture(values.values, 0, 1, "cividis"), legend

    def _entropy(self, data: MapData) -> tuple[np.ndarray, Any]:
        values = data.at(self._date).entropy.transpose("y", "x").values
        known = values[np.isfinite(values)]
        note = f"mean: {known.mean():.2f} bit" if known.size else "no observation"
        legend = ColourBar("Entropy (bit)", 0, data.most_bits, "viridis", note)
        return ramp_picture(values, 0, data.most_bits, "viridis"), legend

    def _quantity(self, data: MapData) -> tuple[np.ndarray, Any]:
        values = data.at(self._date)[self.layer.value].transpose("y", "x").values
        known = values[np.isfinite(values)]
        note = f"mean: {known.mean():.3g}" if known.size else "no observation"
        name = {"low": "Lower end: ", "high": "Upper end: "}.get(self.layer.value, "")
        legend = ColourBar(f"{name}{data.quantity}", *data.limits, "viridis", note)
        return ramp_picture(values, *data.limits, "viridis"), legend

    def _year(self, _: MapData) -> tuple[np.ndarray, Any]:
        loss = self.loss
        assert loss is not None
        years = loss.loss_year.transpose("y", "x")
        colours = year_colours([int(year) for year in np.unique(years.values) if year > 0])
        legend = self._toggles("year", "Year of loss", [(y, str(y), c) for y, c in colours.items()])
        legend.set_amounts(areas(years, list(colours)))
        return class_picture(years.values, colours, legend.hidden), legend

    # Legends

    def _toggles(self, kind: str, title: str, entries: list[tuple[int, str, str]]) -> Legend:
        shown = self.legend
        if isinstance(shown, Legend) and (shown.title, shown.entries) == (title, entries):
            return shown
        legend = Legend(title, entries)
        keys = [entry[0] for entry in entries]
        legend.hidden = [key for key in self.hidden(kind) if key in keys]

        def switched(change: dict[str, Any]) -> None:
            self._hidden[kind] = change["new"]
            self.draw()

        legend.observe(switched, names="hidden")
        return legend

    def _set_legend(self, legend: Any) -> None:
        self._note.value = _NOTE.format(self._remark())
        if legend is self.legend:
            return
        old, self.legend = self.legend, legend
        self._legend_box.children = [legend, self._note]
        if old is not None:
            close_tree(old)

    def _remark(self) -> str:
        data = self.data if self.layer.value != "year" else None
        if data is not None and data.is_blank(self._date):
            return _NOTHING
        return "" if self.layer.value in ("entropy", *VALUES) else _AREAS

    def _opacity_changed(self, change: dict[str, Any]) -> None:
        if self.map is None:
            return
        self.map.set_opacity("map", change["new"])
        # No value of the map depends on it: it is a setting of this widget, and noted as that.
        setting = f"view.layers.opacity.value = {change['new']:.2f}"
        self._state.echo_setting(view_code(self._state), setting, "view.opacity")

    # Year of loss

    def _find_loss(self, data: MapData, name: str) -> None:
        self._message.busy(f"Looking for the year in which {name} was lost ...")

        def done(code: str) -> None:
            self._message.clear()
            self._state.echo(code)
            if self.layer.value == "year":
                self.draw()

        self.year.find(data, name, done)

    def _loss_failed(self, error: Exception) -> None:
        """Show why there is no year of loss, and not the layer before as if it were one."""
        self._failed(error)
        if self.layer.value == "year" and self.map is not None:
            empty = np.zeros((*self.map.shape, 4), "uint8")
            self._put(empty, self._toggles("year", "Year of loss", []))

    # The image below

    def _draw_image(self, *_: Any) -> None:
        cube, times = self._cube, self.times
        if self.map is None:
            return
        self.map.set_opacity("image", float(self.image.value))
        if not self.image.value or cube is None or times is None:
            return
        one = cube.isel(time=[nearest(cube.indexes["time"], times[self._date])])
        if is_lazy(cube):
            self._message.busy("Reading the image ...")
            self._reader.run(lambda _: photograph(one), self._photographed)
        else:
            self._photographed(photograph(one))

    def _photographed(self, picture: np.ndarray) -> None:
        if self._message.kind == "busy" and not self.year.worker.busy:
            self._message.clear()
        if self.map is not None:
            self.map.show("image", picture, float(self.image.value))

    def _failed(self, error: Exception) -> None:
        if isinstance(error, CancelledError):
            self._message.info("Cancelled.")
        else:
            self._message.error(error)

    # The end

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is being computed for this panel."""
        self.year.worker.wait(timeout)
        self._reader.wait(timeout)

    def stop(self) -> None:
        """Stop the threads and close the map: the panel is of no more use."""
        self.year.worker.close()
        self._reader.close()
        self.data = None
        if self.map is not None:
            self.map.close()
            self.map = None
