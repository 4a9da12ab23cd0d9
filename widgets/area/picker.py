"""Pick an area of interest, see what it costs, and open its cube."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets
import shapely
import xarray as xr

from timo.checks import NotNegative, PathLike, checked
from timo.errors import TimoError
from timo.sources import Area, parse_aoi

from ..base.part import Part
from ..base.state import State
from ..base.style import PictureFallback, close_tree, figure_png, style_sheet
from .area_map import AreaMap
from .opening import Estimates, Opener
from .panel import Controls, Options
from .recent import RecentAreas
from .text import area_name, code_lines, hectares_text, read_text, read_upload, short_form

# Where the sample, and so the emulator, has data: west, south, east, north.
SAMPLE_PLACE = (22.1452, 45.2009, 22.1583, 45.2101)


class AOIPicker(PictureFallback, Part):
    """Draw, upload or write an area of interest, choose dates and bands, and open the cube.

    Parameters
    ----------
    state : State, optional
        What the parts of a workbench share; by default one of its own.
    source : str
        Where cubes come from; see `timo.open_cube`.
    basemap : str, optional
        Name of a base map, as "OpenStreetMap.Mapnik", which comes through the network. By default land in grey and
        lines of longitude and latitude, which need none.
    height : str
        Height of the map, in CSS.
    recent : path, optional
        The file of recent areas; by default one among the user's settings.
    **options
        Options of `timo.open_cube` to begin with, `aoi` among them. Those without a control are passed on.

    Attributes
    ----------
    area : timo.sources.Area or None
        The area.
    aoi : dict or None
        The same as a GeoJSON geometry.

    Raises
    ------
    TimoError
        If the source or the base map is unknown, or the area cannot be read.
    """

    @checked
    def __init__(
        self,
        state: State | None = None,
        source: str = "sample",
        *,
        basemap: str | None = None,
        height: str = "420px",
        recent: PathLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__(state)
        self._own = False
        self.area: Area | None = None
        given = options.pop("aoi", None)
        self.recent = RecentAreas(recent)
        self.options, self.controls = Options(source, options), Controls(self.message)
        self.map = AreaMap(self._drawn, basemap, height)
        # Earth Engine's client has one connection a process: one question at a time.
        turn = threading.Lock()
        self._estimates = Estimates(turn, self._estimated, self.controls.cost.error)
        self._opening = Opener(turn, self.controls, self._opened)
        self._wire()
        self.children = self._boxes()
        self._list_recent()
        self.follow(self.state, self._on_aoi, "aoi")
        given = self.state.aoi if given is None else given
        if given is not None:
            self.set_area(given)
        elif source in {"sample", "emulator"}:
            self.map.look_at(shapely.box(*SAMPLE_PLACE))
        self._changed()

    @property
    def aoi(self) -> dict[str, Any] | None:
        """The area as a GeoJSON geometry; None if there is none."""
        return None if self.area is None else self.area.geojson

    @property
    def _outline(self) -> dict[str, Any] | None:
        """The area as the map shows it: in one piece, too, where `aoi` is cut at the antimeridian."""
        if self.area is None or self.area.bounds[2] <= 180:
            return self.aoi
        return shapely.geometry.mapping(self.area.geometry)

    # ---- where --------------------------------------------------------------------------------

    @checked
    def set_area(self, aoi: Any) -> None:
        """Take an area in any form that `timo.open_cube` takes, and show it.

        Raises
        ------
        TimoError
            If it cannot be read; the area stays the same.
        """
        self._take(parse_aoi(aoi))
        assert self.area is not None
        self.map.look_at(self.area.geometry)

    def remove_area(self) -> None:
        """Have no area."""
        self._take(None)

    def _take(self, area: Area | None) -> None:
        self.area = area
        self.map.place(self._outline)
        self._own = True
        self.state.aoi = self.aoi
        self._own = False
        self._changed()

    def _on_aoi(self, change: dict[str, Any]) -> None:
        """Take over what another part put into the state."""
        if not self._own:
            found = change["new"]
            self._attempt(lambda: self.remove_area() if found is None else self.set_area(found))

    def _drawn(self, features: list[dict[str, Any]]) -> None:
        """Take what the map's tools made: a new shape takes the place of the one that was there."""
        before = self._outline
        # What was shown stands first, what was drawn now last; without a new one it was edited.
        kept = features[-1:]

        def take() -> None:
            self._take(parse_aoi(kept[0]) if kept else None)

        if not self._attempt(take):
            self.map.place(before)

    def _written(self, _: Any = None) -> None:
        text = self.controls.text.value.strip()
        if text:
            self._attempt(lambda: self.set_area(read_text(text)))

    def _uploaded(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            self._attempt(functools.partial(self._take_file, file))
        if change["new"]:
            self.controls.upload.value = ()

    def _take_file(self, file: dict[str, Any]) -> None:
        self.set_area(read_upload(file))

    def _chosen(self, change: dict[str, Any]) -> None:
        if change["new"] >= 0:
            entry = self.recent.all()[change["new"]]
            self._attempt(lambda: self.set_area(entry["geometry"]))
            self.controls.recent.value = -1

    def _list_recent(self) -> None:
        entries = self.recent.all()
        first = ("choose ..." if entries else "none yet", -1)
        self.controls.recent.options = [first, *((e["name"], i) for i, e in enumerate(entries))]
        self.controls.recent.value = -1

    # ---- what it costs ------------------------------------------------------------------------

    def request(self) -> tuple[str, dict[str, Any]]:
        """Return the source and options of `timo.open_cube` as they are set now, the area among them.

        Raises
        ------
        TimoError
            If the cell size is no number.
        """
        found = self.options.values()
        if self.options.takes("aoi") and self.area is not None:
            found = {"aoi": short_form(self.area), **found}
        return self.options.source.value, found

    def _changed(self, _: Any = None) -> None:
        """Say how large the area is, and ask what it costs."""
        c = self.controls
        self.options.adapt()
        self._estimates.drop()
        c.cost.clear()
        c.size.value = f'<b class="timo-hectares">{self._size_text()}</b>'
        c.forget.disabled = self.area is None
        self._attempt(self._ask)

    def _size_text(self) -> str:
        if not self.options.takes("aoi"):
            return "The sample is one square kilometre in Romania; no area is needed."
        if self.area is None:
            return "No area yet: draw one on the map."
        return f"Area: {hectares_text(self.area)}"

    def _ask(self) -> None:
        source, options = self.request()
        dated = "start" in options and "end" in options
        if source not in {"earthengine", "emulator"} or "aoi" not in options:
            return
        if not dated:
            self.controls.cost.info("Choose the dates to see what it takes.")
            return
        self.controls.cost.busy("Asking what it takes to fetch ...")
        self._estimates.ask(source, options)

    def _estimated(self, text: str) -> None:
        self.controls.cost.info(text)

    # ---- the cube -----------------------------------------------------------------------------

    def open_cube(self) -> None:
        """Open the cube in a thread, and put it into the state."""
        self._attempt(self._open)

    def _open(self) -> None:
        source, options = self.request()
        if self.options.takes("aoi") and source != "files" and "aoi" not in options:
            raise TimoError("There is no area. Draw one on the map, or write a box")
        self._opening.run(source, options)

    def _opened(
        self, source: str, options: dict[str, Any], cube: xr.DataArray, fetched: bool
    ) -> None:
        aoi = options.get("aoi")
        if aoi is not None and self.area is not None:
            if reason := self.recent.add(self.area):
                self.controls.recent.tooltip = f"Not remembered: {reason}"
            self._list_recent()
        others = {name: value for name, value in options.items() if name != "aoi"}
        self.state.options = {"source": source, **others}
        for line in code_lines(source, options, fetched=fetched):
            self.state.echo(line)
        self.state.cube = cube

    def cancel(self) -> None:
        """Stop opening or fetching; chunks that came are kept in the cache."""
        self._opening.cancel()

    @checked
    def wait(self, seconds: NotNegative | None = 60) -> None:
        """Wait until nothing is being estimated or opened (in scripts and tests; a notebook need not)."""
        self._estimates.wait(seconds)
        self._opening.wait(seconds)

    # ---- the rest -----------------------------------------------------------------------------

    def _wire(self) -> None:
        c = self.controls
        c.use.on_click(self._written)
        c.forget.on_click(lambda _: self.remove_area())
        c.open.on_click(lambda _: self.open_cube())
        c.cancel.on_click(lambda _: self.cancel())
        for control, action in (
            (c.text, self._written),
            (c.upload, self._uploaded),
            (c.recent, self._chosen),
        ):
            control.observe(action, names="value")
        for control in self.options.all().values():
            control.observe(self._changed, names="value")

    def _boxes(self) -> list[ipywidgets.Widget]:
        left = ipywidgets.VBox(
            [self.map.map, *self.controls.where()],
            layout={"flex": "1 1 420px", "min_width": "320px"},
        )
        right = ipywidgets.VBox(
            [*self.options.all().values(), *self.controls.opening()],
            layout={"width": "370px", "flex": "0 0 370px", "padding": "0 0 0 8px"},
        )
        body = ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        return [style_sheet(), body]

    def _attempt(self, action: Callable[[], Any]) -> bool:
        # First: a thread that the action begins may have its own error to show before the action returns.
        if self.message.kind == "error":
            self.message.clear()
        return self.attempt(action)

    def picture(self) -> bytes:
        """Return a PNG of the area's outline on axes in degrees; of the sample's place if there is none."""
        from matplotlib.figure import Figure

        area = self.area
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        geometry = shapely.box(*SAMPLE_PLACE) if area is None else area.geometry
        for part in shapely.get_parts(geometry):
            x, y = part.exterior.xy
            axes.plot(x, y, color="#0072B2", linestyle="--" if area is None else "-")
            axes.fill(x, y, color="#0072B2", alpha=0.0 if area is None else 0.2)
        axes.set_title("The sample's place; no area yet" if area is None else area_name(area))
        axes.set_xlabel("longitude (degrees)")
        axes.set_ylabel("latitude (degrees)")
        axes.margins(0.5)
        axes.ticklabel_format(useOffset=False)
        axes.grid(visible=True, color="#8C8C8C", alpha=0.4)
        return figure_png(figure)

    def _stop(self) -> None:
        self._estimates.drop()
        self._opening.drop()
        self.map.close()
        for widget in self.controls.all():
            close_tree(widget)
