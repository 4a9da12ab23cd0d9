"""The controls of the area picker, and what they say as options of `timo.open_cube`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ipywidgets as w
import pandas as pd

from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import SOURCES

from ..base.style import Message, button
from .progress import FetchBar

SENSORS = ("sentinel-2", "landsat-8-9", "sentinel-1", "modis", "modis-vegetation")
SAMPLE_BANDS = ("B2", "B3", "B4", "B8", "B8A", "B11")
COMPOSITES = {
    "every date": "",
    "16 days": "16D",
    "months": "1MS",
    "seasons": "QS-DEC",
    "years": "YS",
}
_NAMES = {
    "sample": "Sample (offline)",
    "emulator": "Emulated Earth Engine (offline)",
    "earthengine": "Google Earth Engine",
    "stac": "STAC catalog",
    "files": "Files",
}
# Which controls a source takes; all of them take the dates and bands.
_TAKES = {
    "sample": {"resolution"},
    "emulator": {"aoi", "sensor", "composite", "max_cloud", "resolution"},
    "earthengine": {"aoi", "sensor", "composite", "max_cloud", "resolution", "project"},
    "stac": {"aoi", "sensor", "composite", "max_cloud", "resolution", "catalog"},
    "files": {"aoi", "sensor", "composite", "resolution", "path"},
}
_STYLE = {"description_width": "90px"}
_LAYOUT = {"width": "98%"}


class Options:
    """The controls that say what is opened.

    Attributes
    ----------
    source, start, end, sensor, bands, composite, max_cloud, resolution, project, catalog, path : ipywidgets widgets
        One for each option.
    extra : dict
        Options without a control, passed on as they are.
    """

    def __init__(self, source: str, given: dict[str, Any]) -> None:
        if source not in SOURCES:
            raise TimoError(f"Unknown source {source!r}. Known: {', '.join(sorted(SOURCES))}.")
        text: dict[str, Any] = {"style": _STYLE, "layout": _LAYOUT, "continuous_update": False}
        self.source = _choice("Source", [(_NAMES.get(s, s), s) for s in SOURCES], source)
        self.start = w.DatePicker(description="From", style=_STYLE, layout=_LAYOUT)
        self.end = w.DatePicker(description="To", style=_STYLE, layout=_LAYOUT)
        self.sensor = _choice("Sensor", list(SENSORS), "sentinel-2")
        self.bands = w.SelectMultiple(description="Bands", rows=6, style=_STYLE, layout=_LAYOUT)
        self.composite = _choice("Composite", list(COMPOSITES.items()), "")
        self.max_cloud = w.IntSlider(
            100, 0, 100, description="Cloud up to", style=_STYLE, layout=_LAYOUT
        )
        self.resolution = w.Text(
            description="Cell size", placeholder="finest band (metres)", **text
        )
        self.project = w.Text(description="Project", placeholder="Google Cloud project", **text)
        self.catalog = w.Text("earth-search", description="Catalog", **text)
        self.path = w.Text(description="Path", placeholder="scenes/*.tif", **text)
        self.extra = dict(given)
        self._take(self.extra)
        self.adapt()

    def all(self) -> dict[str, w.Widget]:
        """The controls by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, w.Widget)}

    def takes(self, name: str) -> bool:
        """Whether the chosen source has this option."""
        return name in _TAKES.get(self.source.value, set())

    def adapt(self) -> None:
        """Offer what the chosen source and sensor have."""
        for name, control in self.all().items():
            always = name in {"source", "start", "end", "bands"}
            control.layout.display = None if always or self.takes(name) else "none"
        names = self._band_names()
        if tuple(self.bands.options) != names:
            kept = tuple(name for name in self.bands.value if name in names)
            self.bands.options, self.bands.value = names, kept
        if self.source.value == "emulator" and not self.bands.value:
            # It holds these alone, and not all that are usual.
            self.bands.value = SAMPLE_BANDS

    def _band_names(self) -> tuple[str, ...]:
        if self.source.value in {"sample", "emulator"} and self.sensor.value == "sentinel-2":
            return SAMPLE_BANDS
        return tuple(get_sensor(self.sensor.value).band_names)

    def values(self) -> dict[str, Any]:
        """What the controls say, as options of `timo.open_cube` without the area.

        Raises
        ------
        TimoError
            If the cell size is no number.
        """
        found: dict[str, Any] = dict(self.extra)
        for name in ("start", "end"):
            day = getattr(self, name).value
            if day is not None:
                found[name] = f"{day:%Y-%m-%d}"
        if self.takes("sensor"):
            found["sensor"] = self.sensor.value
        if self.bands.value:
            found["bands"] = list(self.bands.value)
        if self.takes("composite") and self.composite.value:
            found["composite"] = self.composite.value
        if self.takes("max_cloud") and self.max_cloud.value < 100:
            found["max_cloud"] = self.max_cloud.value
        if self.takes("resolution") and self.resolution.value.strip():
            found["resolution"] = _number(self.resolution.value)
        for name in ("project", "catalog", "path"):
            if self.takes(name) and getattr(self, name).value.strip():
                found[name] = getattr(self, name).value.strip()
        return found

    def _take(self, given: dict[str, Any]) -> None:
        """Set the controls to options, and leave those in the dict that have no control."""
        for name in ("sensor", "max_cloud", "project", "catalog"):
            if given.get(name) is not None:
                getattr(self, name).value = given.pop(name)
        if given.get("resolution") is not None:
            self.resolution.value = f"{given.pop('resolution'):g}"
        if given.get("path") is not None:
            self.path.value = str(given.pop("path"))
        for name, edge in (("start", "start_time"), ("end", "end_time")):
            if given.get(name) is not None:
                getattr(self, name).value = _day(given.pop(name), edge)
        if given.get("composite") is not None:
            self._take_composite(given.pop("composite"))
        if given.get("bands") is not None:
            self.adapt()
            from timo.sources.request import make_bands

            names = make_bands(get_sensor(self.sensor.value), given.pop("bands"))
            if missing := [name for name in names if name not in self.bands.options]:
                raise TimoError(
                    f"{_NAMES[self.source.value]} has no band {missing[0]!r}. It has: "
                    f"{', '.join(self.bands.options)}."
                )
            self.bands.value = names

    def _take_composite(self, period: str) -> None:
        if period not in COMPOSITES.values():
            self.composite.options = [*COMPOSITES.items(), (period, period)]
        self.composite.value = period


class Controls:
    """The controls of the picker beside those of `Options`.

    Attributes
    ----------
    text, use, upload, recent, forget : ipywidgets widgets
        Ways to say where.
    size, cost, message, bar
        What is said, and how far the fetching is.
    fetch, open, cancel
        Opening.
    """

    def __init__(self) -> None:
        self.text = w.Text(
            description="Box or WKT",
            placeholder="west, south, east, north",
            continuous_update=False,
            style=_STYLE,
            layout={"width": "80%"},
        )
        self.use = button("Use", "check", "Take the area that is written here")
        self.upload = w.FileUpload(
            accept=".geojson,.json",
            description="Upload GeoJSON",
            tooltip="Read the area from a file on your machine",
            layout={"width": "auto"},
        )
        self.forget = button("Remove area", "trash", "Begin again without an area")
        self.recent = _choice("Recent", [("none yet", -1)], -1)
        self.size = w.HTML()
        self.cost, self.message, self.bar = Message(), Message(), FetchBar()
        self.fetch = w.Checkbox(True, description="Fetch the pixels at once", indent=False)
        self.open = button("Open", "play", "Open the cube with timo.open_cube", style="primary")
        self.cancel = button("Cancel", "stop", "Stop fetching; what came is kept")
        self.cancel.disabled = True

    def all(self) -> list[w.Widget]:
        """All of them."""
        return [value for value in vars(self).values() if isinstance(value, w.Widget)]

    def where(self) -> list[w.Widget]:
        """Those under the map."""
        row = {"flex_flow": "row wrap"}
        return [
            w.HBox([self.text, self.use]),
            w.HBox([self.upload, self.forget], layout=row),
            self.recent,
        ]

    def opening(self) -> list[w.Widget]:
        """Those under the options."""
        return [
            self.size,
            self.cost,
            self.fetch,
            w.HBox([self.open, self.cancel]),
            self.bar,
            self.message,
        ]


def _choice(title: str, options: list[Any], value: Any) -> w.Dropdown:
    return w.Dropdown(options=options, value=value, description=title, style=_STYLE, layout=_LAYOUT)


def _day(date: Any, edge: str) -> dt.date:
    from timo.sources.dates import make_span

    first, after = make_span(date, date)
    return (first if edge == "start_time" else after - pd.Timedelta(days=1)).date()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise TimoError(f"The cell size {text!r} is no number. Write metres, as 10") from error
