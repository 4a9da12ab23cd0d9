"""Series over dates or steps, drawn in the browser: valid and masked observations apart, one cursor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from timo.checks import checked, described, did_you_mean, plain
from timo.errors import TimoError

from .style import MASKED, OKABE_ITO, PictureFallback, figure_png

CSS = """
.timo-chart { position: relative; width: 100%; overflow: hidden; }
.timo-chart svg { display: block; }
.timo-chart text { fill: var(--jp-ui-font-color1, #212121); font: 11px var(--jp-ui-font-family, sans-serif); }
.timo-chart text.timo-chart-title { font-size: 13px; font-weight: 600; }
.timo-chart text.timo-chart-empty { fill: var(--jp-ui-font-color2, #616161); font-size: 13px; }
.timo-chart svg:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: -2px; }
.timo-chart-tip { position: absolute; top: 4px; z-index: 1; padding: 3px 8px; pointer-events: none;
  font: 11px/1.5 var(--jp-ui-font-family, sans-serif); white-space: nowrap; border-radius: 2px;
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color1, #ffffff);
  border: 1px solid var(--jp-border-color1, #bdbdbd); }
.timo-chart-tip[hidden] { display: none; }
.timo-chart-tip div { padding-left: 5px; }
.timo-chart-legend { display: flex; min-height: 16px; flex-wrap: wrap; gap: 2px 14px; padding: 2px 8px 4px 58px;
  font: 11px/1.4 var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color1, #212121); }
.timo-chart-legend span { display: inline-flex; align-items: center; gap: 4px; }
"""


class SeriesChart(PictureFallback, anywidget.AnyWidget):
    """Series and bars over dates.

    A click, or the arrow keys (Page up and down: ten dates; Home, End), move the cursor.

    Attributes
    ----------
    dates : list of str
        ISO dates, ascending; anything that pandas reads as dates can be set.
    series : list of dict
        Each with "name", "values" (None or NaN: nothing was seen) and, if need be, "colour" (``#RRGGBB``; by default
        Okabe and Ito's in turn), "valid" (False: masked, drawn hollow; by default where there is a value) and "times"
        (by default `dates`).
    bars : list of float or None
        One for each date, e.g. weights; None or NaN is drawn as an outline.
    bars_label, bars_colour : str
        Name and colour of the bars.
    bars_range : list of float
        Lowest and highest; empty: from zero to the highest.
    selected : int
        Position of the cursor among the dates; -1: no cursor.
    title, y_label : str
        Texts; the title is also what screen readers call the chart.
    y_range : list of float
        Lowest and highest of the axis; empty: those of the values.
    height : int
        In pixels, without the legend.
    even : bool
        Space dates evenly, as a slider does, instead of by time.
    compact : bool
        A strip without axis, title and legend.
    numeric : bool
        The dates are numbers, such as the steps of a training, and the series curves without marks.
    empty : str
        What is said while there is nothing to draw.
    """

    # As text: of a path anywidget would keep every widget ever made, to notify it when the file changes.
    _esm = (Path(__file__).parent / "chart.js").read_text(encoding="utf-8")
    _css = CSS

    dates = traitlets.List(traitlets.Unicode()).tag(sync=True)
    series = traitlets.List(traitlets.Dict()).tag(sync=True)
    bars: Any = traitlets.List(traitlets.Float(allow_none=True)).tag(sync=True)
    bars_label = traitlets.Unicode("").tag(sync=True)
    bars_colour = traitlets.Unicode(OKABE_ITO[0]).tag(sync=True)
    bars_range = traitlets.List(traitlets.Float()).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    y_label = traitlets.Unicode("").tag(sync=True)
    y_range = traitlets.List(traitlets.Float()).tag(sync=True)
    height = traitlets.Int(240).tag(sync=True)
    even = traitlets.Bool(False).tag(sync=True)
    compact = traitlets.Bool(False).tag(sync=True)
    numeric = traitlets.Bool(False).tag(sync=True)
    empty = traitlets.Unicode("Nothing to show yet").tag(sync=True)

    @checked
    def __init__(
        self,
        *,
        dates: Any = (),
        series: Sequence[Mapping[str, Any]] = (),
        bars: Any = (),
        **traits: Any,
    ) -> None:
        super().__init__()
        self._set(traits)
        self.show(series, dates=dates, bars=bars)

    @traitlets.validate("series")
    def _complete(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        return _plain_series(proposal["value"])

    @traitlets.validate("bars")
    def _without_nan(self, proposal: dict[str, Any]) -> list[float | None]:
        return _numbers(proposal["value"], "bars")

    @checked
    def show(
        self,
        series: Sequence[Mapping[str, Any]] = (),
        *,
        dates: Any = None,
        bars: Any = None,
        **traits: Any,
    ) -> None:
        """Set several traits at once, from numpy arrays and dates of any kind.

        Raises
        ------
        TimoError
            If a series or the bars are not as many as their dates, or a trait cannot be set.
        """
        days = self.dates
        if dates is not None:
            days = _texts(dates) if self.numeric else iso_dates(dates)
        lines = _plain_series(series)
        heights = self.bars if bars is None else _numbers(bars, "bars")
        _check_lengths(days, lines, heights)
        with self.hold_sync():
            self.dates, self.series, self.bars = days, lines, heights
            self._set(traits)

    def _set(self, traits: Mapping[str, Any]) -> None:
        known = self.trait_names()
        for name, value in traits.items():
            if name not in known:
                raise TimoError(f"A chart has no {name!r}.{did_you_mean(name, known)}")
            try:
                setattr(self, name, plain(value))
            except traitlets.TraitError as error:
                raise TimoError(f"{name}={described(value)} cannot be set: {error}") from None

    def picture(self) -> bytes:
        """Return a PNG of the chart."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, max(self.height, 120) / 90))
        self.plot(figure.subplots())
        return figure_png(figure)

    @checked
    def plot(self, axes: Any) -> None:
        """Draw the same with matplotlib."""
        if not hasattr(axes, "axvline"):
            raise TimoError(
                f"axes must be axes of matplotlib; got {described(axes)}. matplotlib.pyplot.subplots() makes some."
            )
        for one in self.series:
            times = self._places(one["times"] or self.dates)
            values = np.array([math.nan if v is None else v for v in one["values"]], "float64")
            valid = np.array(one["valid"], bool)
            seen, masked = valid & np.isfinite(values), ~valid & np.isfinite(values)
            form = "-" if self.numeric else ".-"
            axes.plot(times[seen], values[seen], form, color=one["colour"], label=one["name"], lw=1)
            axes.plot(times[masked], values[masked], "o", mfc="none", mec=MASKED, ms=4)
        if self.bars:
            heights = [0.0 if v is None else v for v in self.bars]
            below = axes.twinx() if self.series else axes
            below.bar(self._places(self.dates), heights, width=5, color=self.bars_colour)
            below.set_ylabel(self.bars_label)
        if 0 <= self.selected < len(self.dates):
            axes.axvline(self._places(self.dates)[self.selected], color=MASKED, lw=1)
        if self.series:
            axes.set_ylabel(self.y_label)
            axes.legend(fontsize=8)
        axes.set_title(self.title, fontsize=10)

    def _places(self, dates: list[str]) -> Any:
        return np.array(dates, float) if self.numeric else pd.to_datetime(dates)


def iso_dates(dates: Any) -> list[str]:
    """Return dates of any kind as ISO text: days, and the time of day only where a date has one."""
    try:
        given = np.asarray(getattr(dates, "values", dates))
        index = pd.DatetimeIndex(given)
        numbers = given.size > 0 and given.dtype.kind in "iufcb"
        read = given.ndim == 1 and not numbers and not index.hasnans
    except (TypeError, ValueError, OverflowError):
        read = False
    if not read:
        raise TimoError(
            f"dates cannot be read: {described(dates)}. Give dates of NumPy or pandas, or text such as "
            '["2019-07-31"].'
        )
    return [str(day.date()) if day == day.normalize() else day.isoformat() for day in index]


def _texts(steps: Any) -> list[str]:
    _numbers(steps, "dates")
    return [str(plain(step)) for step in steps]


def _numbers(values: Any, name: str) -> list[float | None]:
    # JSON knows no NaN.
    try:
        array = np.array([math.nan if v is None else v for v in values], "float64")
    except (TypeError, ValueError):
        array = np.zeros((0, 0))
    if array.ndim != 1:
        raise TimoError(
            f"{name} must be a list of numbers, None where nothing is known; got {described(values)}."
        )
    return [float(v) if math.isfinite(v) else None for v in array]


def _plain_series(series: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for i, one in enumerate(series):
        name = str(one.get("name", f"series {i + 1}"))
        values = _numbers(one.get("values"), f"values of the series {name!r}")
        valid, times = one.get("valid"), one.get("times")
        made.append(
            {
                "name": name,
                "colour": one.get("colour") or OKABE_ITO[i % len(OKABE_ITO)],
                "times": [] if times is None or not len(times) else iso_dates(times),
                "values": values,
                "valid": [v is not None for v in values] if valid is None else _flags(valid),
            }
        )
    return made


def _flags(valid: Any) -> list[bool]:
    return [bool(flag) for flag in np.asarray(list(valid)).ravel()]


def _check_lengths(
    dates: list[str], series: list[dict[str, Any]], bars: list[float | None]
) -> None:
    for one in series:
        expected = len(one["times"] or dates)
        if not len(one["values"]) == len(one["valid"]) == expected:
            raise TimoError(
                f"The series {one['name']!r} has {len(one['values'])} values and "
                f"{len(one['valid'])} flags for {expected} dates."
            )
    if bars and len(bars) != len(dates):
        raise TimoError(f"There are {len(bars)} bars for {len(dates)} dates.")
