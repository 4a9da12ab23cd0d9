"""The explorer's controls: each with a name, all reached by keyboard, in a layout that does not jump."""

from __future__ import annotations

import html

import ipywidgets
import numpy as np
import xarray as xr

from ..base.chart import SeriesChart, iso_dates
from ..base.style import OKABE_ITO, Message, button, control
from .bandviews import View, viridis
from .split import Split

_NO_DATE = [("no date", 0)]
_ROW = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "4px 12px"}


class ExplorerControls:
    """Everything of the explorer that is not the map; `strip` has the share of clear pixels, `chart` the series."""

    def __init__(self, message: Message) -> None:
        self.view = control(ipywidgets.Dropdown, "Bands", "215px")
        self.stretch = control(
            ipywidgets.Dropdown,
            "Stretch",
            "165px",
            options=[("each date", "date"), ("whole series", "series")],
            tooltip="What is dark and bright: for each date, or the same for all",
        )
        self.opacity = control(
            ipywidgets.FloatSlider,
            "Opacity",
            "190px",
            value=1,
            min=0,
            max=1,
            step=0.05,
            readout_format=".0%",
        )
        self.compare = ipywidgets.Checkbox(
            description="Compare with", indent=False, layout={"width": "auto"}
        )
        self.before = ipywidgets.Dropdown(
            disabled=True, tooltip="Date left of the divider", layout={"width": "115px"}
        )
        self.split = Split()
        self.play = ipywidgets.Play(
            interval=300,
            show_repeat=False,
            tooltip="Go through the dates",
            layout={"flex": "0 0 auto"},
        )
        # Over dates, not numbers: a screen reader reads it, without the date beside it.
        self.slider = control(
            ipywidgets.SelectionSlider, "Date", label="34px", options=_NO_DATE, readout=False
        )
        self.slider.layout.flex = "1 1 auto"
        self.date = ipywidgets.HTML(layout={"flex": "0 0 150px"})
        self.link = ipywidgets.jslink((self.play, "value"), (self.slider, "index"))
        self.strip = SeriesChart(
            compact=True,
            even=True,
            height=46,
            bars_range=[0, 1],
            bars_label="clear",
            bars_colour=OKABE_ITO[4],
            title="Share of clear pixels, by date",
            empty="",
        )
        # Its bars stand under the slider's handle.
        self.strip.layout.margin = "0 0 0 42px"
        self.strip.layout.width = "calc(100% - 42px)"
        self.legend = ipywidgets.HTML()
        self.quantity = control(ipywidgets.Dropdown, "Series of", "190px")
        self.csv = ipywidgets.HTML(link_html("", ""))
        self.chart = SeriesChart(
            height=220, empty="Click pixels on the map to see their series (up to five)"
        )
        self.forget = button("Clear pixels", "eraser", "Forget the pixels that were clicked")
        self.message = message

    def arrange(self, map_place: ipywidgets.Widget) -> list[ipywidgets.Widget]:
        """Return the rows of the explorer, with the map among them."""
        two = ipywidgets.HBox([self.compare, self.before], layout={"align_items": "center"})
        top = _row(self.view, self.stretch, self.opacity, two)
        # Always as high as one message, so that nothing jumps when there is one.
        notes = _row(self.legend, self.message, self.split)
        notes.layout.min_height = "34px"
        notes.layout.justify_content = "space-between"
        over = ipywidgets.VBox([self.slider, self.strip], layout={"flex": "1 1 300px"})
        dates = _row(self.play, over, self.date)
        bottom = _row(self.quantity, self.forget, self.csv)
        return [top, map_place, notes, dates, bottom, self.chart]

    def take(
        self,
        cube: xr.DataArray,
        views: list[str],
        quantities: list[str],
        shares: list[float | None],
    ) -> None:
        """Fill the controls for a cube; choices that it allows stay."""
        days, last = iso_dates(cube.time), cube.sizes["time"] - 1
        for choice, names in ((self.view, views), (self.quantity, quantities)):
            kept = choice.value if choice.value in names else names[0]
            choice.options, choice.value = names, kept
        self.before.options = self.slider.options = [(day, i) for i, day in enumerate(days)]
        self.before.value = 0
        self.compare.value, self.split.active, self.before.disabled = False, False, True
        self.play.max = last
        self.strip.show(dates=days, bars=shares, selected=-1)
        self.chart.show(dates=days, selected=-1)
        self._enable(True)

    def clear(self) -> None:
        """Have nothing to control."""
        self.strip.show(dates=[], bars=[])
        self.chart.show(dates=[])
        self.date.value = self.legend.value = ""
        self.csv.value = link_html("", "")
        self._enable(False)

    def _enable(self, on: bool) -> None:
        switched = (self.view, self.stretch, self.opacity, self.compare, self.slider)
        for one in (*switched, self.play, self.quantity, self.forget):
            one.disabled = not on


def _row(*children: ipywidgets.Widget) -> ipywidgets.Box:
    return ipywidgets.Box(children, layout=_ROW)


def date_text(cube: xr.DataArray, date: int, share: float | None) -> str:
    """Say the date, and how much of it is clear."""
    day = iso_dates(cube.time[date : date + 1])[0]
    clear = "not read yet" if share is None else f"{share:.0%} clear"
    note = f"{clear}, {date + 1} / {cube.sizes['time']}"
    return f'<div class="timo-date"><b>{day}</b><br><span class="timo-note">{note}</span></div>'


NOTHING_SEEN = (
    '<span class="timo-note">Nothing is seen on this date: every pixel is masked (cloud, shadow, '
    "outside of the image, or a date of another sensor). Hatched pixels are masked.</span>"
)


def legend_html(view: View, limits: np.ndarray) -> str:
    """Say what the colours of the picture mean."""
    low, high = (f"{value:.3g}" for value in limits[0])
    if view.single:
        ramp = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b, _ in viridis()[::32])
        body = (
            f'{html.escape(view.name)} {low}<span class="timo-ramp" role="img" aria-label="from dark blue to yellow" '
            f'style="background:linear-gradient(90deg, {ramp})"></span>{high}'
        )
    else:
        colours = ("red", "green", "blue")
        parts = zip(colours, view.parts, limits, strict=True)
        body = " · ".join(f"{c} {html.escape(p)} {lo:.3g} – {hi:.3g}" for c, p, (lo, hi) in parts)
    body += " · hatched: masked"
    return f'<span class="timo-note">{body}</span>'


def link_html(address: str, name: str) -> str:
    """Return a link that saves the series; greyed out without an address."""
    icon = '<i class="fa fa-download" aria-hidden="true"></i> Download CSV'
    if not address:
        return f'<span class="timo-link timo-link-off" aria-disabled="true">{icon}</span>'
    name = html.escape(name, quote=True)
    return f'<a class="timo-link" href="{address}" download="{name}">{icon}</a>'


def pixel_name(index: int, row: int, column: int) -> str:
    """Return the name of a pixel in the chart."""
    return f"{index + 1}: row {row}, column {column}"
