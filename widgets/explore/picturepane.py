"""The explorer's upper half: the picture of a date, or of two with a divider between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.background import Background
from ..base.state import State
from ..maps.colours import stretch
from ..maps.rastermap import RasterMap
from . import bandviews
from .controls import NOTHING_SEEN, ExplorerControls, date_text, legend_html
from .reading import CubeReader

PICTURE, BEFORE = "picture", "before"


class Pane:
    """A half of the explorer; slow reading is done in the background, and `on_shown` is called after drawing."""

    def __init__(
        self,
        state: State,
        controls: ExplorerControls,
        background: Background,
        on_shown: Callable[[], Any],
    ) -> None:
        self._state, self._controls = state, controls
        self._background, self._on_shown = background, on_shown
        self.take(None, None, {})

    def take(
        self,
        reader: CubeReader | None,
        raster_map: RasterMap | None,
        views: dict[str, bandviews.View],
    ) -> None:
        """Show another cube from now on; None: none."""
        self._reader, self._map, self._views = reader, raster_map, views


class PicturePane(Pane):
    """Paints what the controls ask for onto the map, and notes the Python that gives the same values."""

    def take(
        self,
        reader: CubeReader | None,
        raster_map: RasterMap | None,
        views: dict[str, bandviews.View],
    ) -> None:
        """Show another cube from now on; None: none."""
        for name in (PICTURE, BEFORE):
            self._background.drop(name)
        super().take(reader, raster_map, views)
        self._limits: dict[str, np.ndarray] = {}
        self._shown: dict[str, tuple[int, str]] = {}

    @property
    def view(self) -> bandviews.View:
        """The bands that are shown."""
        return self._views[self._controls.view.value]

    @property
    def before(self) -> dict[str, int]:
        """The earlier date, if two are compared."""
        c = self._controls
        return {BEFORE: c.before.value} if c.compare.value and c.before.value is not None else {}

    def is_late(self) -> bool:
        """Return whether a picture that should be on the map is not there yet."""
        if self._reader is None:
            return False
        wanted = {PICTURE: self._state.date} | self.before
        return any(self._shown.get(k) != (date, self.view.name) for k, date in wanted.items())

    # Painting

    def show(self) -> None:
        """Show the date of the state, and the earlier one if two are compared."""
        if self._reader is not None:
            self.show_date()
            for name, date in self.before.items():
                self._show(name, date)

    def show_date(self) -> None:
        """Show the date of the state."""
        self.label_date()
        self._show(PICTURE, self._state.date)

    def label_date(self) -> None:
        """Say which dates are shown."""
        c, days = self._controls, self._controls.strip.dates
        date = self._state.date
        c.split.right_text = f"{days[date]} ▸"
        c.split.left_text = "" if c.before.value is None else f"◂ {days[c.before.value]}"
        c.date.value = date_text(self._state.cube, date, c.strip.bars[date])

    def _show(self, name: str, date: int) -> None:
        assert self._reader is not None
        view, reader = self.view, self._reader
        if reader.has_date(date, view.bands):
            self._background.drop(name)
            self._paint(name, date, view, reader.date(date, view.bands))
        else:
            day = str(self._state.cube.time.values[date])[:10]
            self._controls.message.busy(f"Fetching {day} …")
            self._background.run(
                lambda _: reader.date(date, view.bands),
                lambda values: self._arrived(reader, name, date, view, values),
                name,
            )

    def _arrived(
        self, reader: CubeReader, name: str, date: int, view: bandviews.View, values: np.ndarray
    ) -> None:
        if reader is not self._reader:
            return
        self._controls.strip.bars = reader.clear_shares()
        self.label_date()
        self._paint(name, date, view, values)

    def _paint(self, name: str, date: int, view: bandviews.View, values: np.ndarray) -> None:
        assert self._map is not None
        channels = view.channels(values)
        limits = self.limits_of(view, channels)
        rgba = bandviews.paint(channels, limits)
        self._map.show(name, rgba, opacity=self._controls.opacity.value, front=name == BEFORE)
        self._shown[name] = (date, view.name)
        if name == PICTURE:
            seen = bool(np.isfinite(channels).any())
            self._controls.legend.value = legend_html(view, limits) if seen else NOTHING_SEEN
        self._on_shown()

    def limits_of(self, view: bandviews.View, channels: np.ndarray) -> np.ndarray:
        """Return the darkest and brightest value of each channel: of these values, or of the whole series."""
        if self._controls.stretch.value == "date":
            return stretch(bandviews.thin(channels))
        if view.name not in self._limits:
            assert self._reader is not None
            sample = view.channels(self._reader.sample(view.bands))
            self._limits[view.name] = stretch(sample)
        return self._limits[view.name]

    # What the controls say

    def change_view(self, _: Any = None) -> None:
        """Show other bands."""
        self.echo()
        self.show()

    def change_stretch(self, _: Any = None) -> None:
        """Stretch each date, or all alike."""
        # Of a lazy cube "the series" is what was looked at so far: asked for again, it is taken again.
        self._limits = {}
        if self._reader is not None:
            fixed = self._controls.stretch.value == "series"
            place = self._reader.sample_code() if fixed else self._date_code()
            limits = '.compute().quantile([0.02, 0.98], ["time", "y", "x"])'
            self._state.echo(f"limits = {self.view.code.format(cube=place)}{limits}", "stretch")
        self.show()

    def change_opacity(self, change: dict[str, Any]) -> None:
        """Let more or less of what is below be seen."""
        if self._map is None:
            return
        for name in (PICTURE, BEFORE):
            self._map.set_opacity(name, change["new"])
        # No value of the cube depends on it: it is a setting of this widget, and noted as that.
        setting = f"explorer.controls.opacity.value = {change['new']:.2f}"
        widget = "explorer = timo_widgets.CubeExplorer(cube)"
        self._state.echo_setting(widget, setting, "explorer.opacity")

    def change_compare(self, _: Any = None) -> None:
        """Show two dates, or one again."""
        if self._map is None:
            return
        c, wanted = self._controls, self.before
        c.before.disabled = not c.compare.value
        c.split.active = bool(wanted)
        self.label_date()
        if not wanted:
            self._background.drop(BEFORE)
            self._shown.pop(BEFORE, None)
            self._map.hide(BEFORE)
            return
        before, after = wanted[BEFORE], self._state.date
        two = f"cube.isel(time={before}), cube.isel(time={after})"
        self._state.echo(f"before, after = {two}", "explorer.before")
        self._show(BEFORE, before)

    def echo(self) -> None:
        """Note the Python that gives the values of the picture."""
        values = self.view.code.format(cube=self._date_code())
        self._state.echo(f"picture = {values}", "explorer.picture")

    def _date_code(self) -> str:
        return f"cube.isel(time=[{self._state.date}])"
