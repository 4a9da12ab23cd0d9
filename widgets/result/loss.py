"""The year in which a class was lost, in a season that is chosen: found in a thread, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets
import pandas as pd
import xarray as xr

import timo
from timo.compute import compute
from timo.cube.composite import season_years

from ..base.background import Background
from ..base.style import control
from .data import MapData

_SEASON = (6, 8)  # that of timo.loss_year
_MONTHS = [(pd.Timestamp(2001, month, 1).strftime("%B"), month) for month in range(1, 13)]


class YearOfLoss(ipywidgets.HBox):
    """The months of the season, and the losses that were found, by class and season; `failed` takes what went wrong."""

    def __init__(self, failed: Callable[[Exception], Any]) -> None:
        self._failed = failed
        self.worker = Background(failed)
        self.found: dict[tuple[str, tuple[int, int]], xr.Dataset] = {}
        begin, end = _SEASON
        self.first = control(
            ipywidgets.Dropdown, "Season from", "190px", options=_MONTHS, value=begin
        )
        self.last = control(ipywidgets.Dropdown, "to", "130px", options=_MONTHS, value=end)
        super().__init__([self.first, self.last])

    @property
    def months(self) -> tuple[int, int]:
        """First and last month of the season; one from November to February runs over the turn of the year."""
        return self.first.value, self.last.value

    def forget(self) -> None:
        """Drop what is being found and what was found: of another result."""
        self.worker.drop()
        self.found.clear()

    def find(self, data: MapData, name: str, done: Callable[[str], Any]) -> None:
        """Find the loss of a class in the season; `done` takes the Python that finds it."""
        assert data.times is not None
        self.worker.drop()
        months = self.months
        if not season_years(data.times, months)[1].any():
            self._failed(_no_date(data.times, months))
            return
        probability = data.result.probability.sel({"class": name})

        def keep(loss: xr.Dataset) -> None:
            self.found[name, months] = loss
            options = "" if months == _SEASON else f", months={months}"
            done(f"loss = timo.loss_year(result.probability.sel({{'class': {name!r}}}){options})")

        self.worker.run(
            lambda task: compute(timo.loss_year(probability, months=months), stop=task.stop), keep
        )


def _no_date(times: pd.DatetimeIndex, months: tuple[int, int]) -> timo.TimoError:
    """Return the error for a season without a date; it names the fields of the panel."""
    names = {month: name for name, month in _MONTHS}
    there = ", ".join(names[month] for month in sorted(set(times.month)))
    return timo.TimoError(
        f"No date of the map lies in the season, {names[months[0]]} to {names[months[1]]}: its dates are of {there}. "
        "Choose other months in 'Season from' and 'to'."
    )
