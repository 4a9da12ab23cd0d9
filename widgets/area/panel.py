"""The controls of the area picker, and what they say as options of `timo.open_cube`."""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from typing import Any

import ipywidgets as w
import pandas as pd

from timo.checks import did_you_mean
from timo.compute import StepReport
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import SOURCES

from ..base.style import Message, button, control

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
# Seconds over which the pace is taken: what was in the cache comes in no time, and says nothing of the rest.
_PACE_S = 20.0
_SIZES = {"width": "98%", "label": "90px"}


class Options:
    """The controls that say what is opened: an attribute for each option; `extra` holds those without a control."""

    def __init__(self, source: str, given: dict[str, Any]) -> None:
        if source not in SOURCES:
            known = ", ".join(sorted(SOURCES))
            raise TimoError(
                f"Unknown source {source!r}. Known: {known}.{did_you_mean(source, SOURCES)}"
            )
        text: dict[str, Any] = {**_SIZES, "continuous_update": False}
        self.source = _choice("Source", [(_NAMES.get(s, s), s) for s in SOURCES], source)
        self.start = control(w.DatePicker, "From", **_SIZES)
        self.end = control(w.DatePicker, "To", **_SIZES)
        self.sensor = _choice("Sensor", list(SENSORS), "sentinel-2")
        self.bands = control(w.SelectMultiple, "Bands", rows=6, **_SIZES)
        self.composite = _choice("Composite", list(COMPOSITES.items()), "")
        self.max_cloud = control(w.IntSlider, "Cloud up to", value=100, min=0, max=100, **_SIZES)
        self.resolution = control(w.Text, "Cell size", placeholder="finest band (metres)", **text)
        self.project = control(w.Text, "Project", placeholder="Google Cloud project", **text)
        self.catalog = control(w.Text, "Catalog", value="earth-search", **text)
        self.path = control(w.Text, "Path", placeholder="scenes/*.tif", **text)
        self.extra = dict(given)
        self._take(self.extra)
        self.adapt()

    def all(self) -> dict[str, w.Widget]:
        """Return the controls by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, w.Widget)}

    def takes(self, name: str) -> bool:
        """Return whether the chosen source has this option."""
        return name in _TAKES.get(self.source.value, set())

    def adapt(self) -> None:
        """Offer what the chosen source and sensor have."""
        for name, one in self.all().items():
            always = name in {"source", "start", "end", "bands"}
            one.layout.display = None if always or self.takes(name) else "none"
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
        """Return the options of `timo.open_cube` as they are set, without the area."""
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
    """The controls of the picker beside those of `Options`: ways to say where, and opening."""

    def __init__(self, message: Message) -> None:
        self.text = control(
            w.Text,
            "Box or WKT",
            "80%",
            "90px",
            placeholder="west, south, east, north",
            continuous_update=False,
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
        self.cost, self.message, self.bar = Message(), message, FetchBar()
        self.fetch = w.Checkbox(True, description="Fetch the pixels at once", indent=False)
        self.open = button("Open", "play", "Open the cube with timo.open_cube", style="primary")
        self.cancel = button("Cancel", "stop", "Stop fetching; what came is kept")
        self.cancel.disabled = True

    def all(self) -> list[w.Widget]:
        """Return all of them."""
        return [value for value in vars(self).values() if isinstance(value, w.Widget)]

    def where(self) -> list[w.Widget]:
        """Return those under the map."""
        row = {"flex_flow": "row wrap"}
        return [
            w.HBox([self.text, self.use]),
            w.HBox([self.upload, self.forget], layout=row),
            self.recent,
        ]

    def opening(self) -> list[w.Widget]:
        """Return those under the options."""
        return [
            self.size,
            self.cost,
            self.fetch,
            w.HBox([self.open, self.cancel]),
            self.bar,
            self.message,
        ]


class FetchBar(w.HTML):
    """A bar with its share, 0..1, and the text beside it; NaN and hidden while nothing is fetched.

    It is HTML's own element for progress, whose share screen readers say when they come to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: deque[tuple[float, float]] = deque()
        self.hide()

    def show(self, report: StepReport) -> None:
        """Show how much is there."""
        self.share = report.step / max(report.steps, 1)
        self._seen.append((report.seconds, self.share))
        while len(self._seen) > 2 and self._seen[1][0] < report.seconds - _PACE_S:
            self._seen.popleft()
        percent = math.floor(100 * self.share)
        left = about(self._left(report.seconds))
        self.text = f"{percent} %" + (f", {left} to go" if left else "")
        self.value = (
            '<div style="display:flex;flex-flow:row wrap;align-items:center;gap:2px 8px;line-height:1.4">'
            f'<span>Fetching</span><progress max="100" value="{percent}" aria-label="Fetching the pixels" '
            f'aria-valuetext="{self.text}" style="flex:1 1 120px;min-width:80px;height:14px;'
            f'accent-color:var(--jp-brand-color1,#1976d2)"></progress><span>{self.text}</span></div>'
        )
        self.layout.display = None

    def hide(self) -> None:
        """Show nothing, and forget the pace."""
        self._seen.clear()
        self.share, self.text, self.value = math.nan, "", ""
        self.layout.display = "none"

    def _left(self, seconds: float) -> float:
        """Return the seconds to go at the pace of late; NaN where there is none yet."""
        began, first = self._seen[0]
        if self.share <= first:
            return math.nan
        return (1 - self.share) * (seconds - began) / (self.share - first)


def about(seconds: float) -> str:
    """Say a time that is only roughly known: about 20 s, about 3 min, about 1 h 10 min; "" for NaN."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 55:
        return f"about {max(5 * math.ceil(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(minutes, 1)} min"
    return f"about {minutes // 60} h {10 * (minutes % 60 // 10)} min".replace(" 0 min", "")


def _choice(title: str, options: list[Any], value: Any) -> w.Dropdown:
    return control(w.Dropdown, title, options=options, value=value, **_SIZES)


def _day(date: Any, edge: str) -> dt.date:
    from timo.sources.dates import make_span

    first, after = make_span(date, date)
    return (first if edge == "start_time" else after - pd.Timedelta(days=1)).date()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise TimoError(f"The cell size {text!r} is no number. Write metres, as 10") from error
