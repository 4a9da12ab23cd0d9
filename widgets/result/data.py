"""What a map view shows, without the widgets: layers of a result, their numbers, and the Python that gives them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError

from ..base.style import class_colours
from ..maps.colours import stretch

_NEEDED = ("probability", "label", "entropy")
# A regression: the value, and the ends of its interval where the model has one.
VALUES = ("value", "low", "high")


class MapData:
    """A checked result in memory.

    Of classes ``probability`` (class, [time,] y, x), ``label`` and ``entropy``; of a regression ``value``, and ``low``
    and ``high`` if there is an interval.
    """

    def __init__(self, result: xr.Dataset) -> None:
        self.result = result
        self.values = [name for name in VALUES if name in result.data_vars]
        self.classes = [] if self.values else [str(name) for name in result["class"].values]
        self.colours = dict(enumerate(class_colours(len(self.classes))))
        self.main = result.value if self.values else result.label
        dated = "time" in self.main.dims
        self.times = pd.DatetimeIndex(result.indexes["time"]) if dated else None

    def is_blank(self, date: int) -> bool:
        """Return whether nothing was observed on a date."""
        shown = self.at(date)[self.main.name]
        return not bool((np.isfinite(shown) if self.values else shown >= 0).any())

    @property
    def title(self) -> str:
        """What a chart of a pixel shows."""
        return "Class probabilities" if self.classes else self.quantity

    @property
    def quantity(self) -> str:
        """What a regression predicts, with its unit."""
        name, unit = (str(self.main.attrs.get(key, "")) for key in ("long_name", "units"))
        return f"{name or 'value'} ({unit})" if unit not in ("", "1") else name or "value"

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Ends of the colours: of the values of all dates, so that the layers and the dates compare."""
        low, high = stretch(self.main.values[None])[0]
        return float(low), float(high)

    def at(self, date: int) -> xr.Dataset:
        """Return the result of a date, (class,) y, x."""
        return self.result if self.times is None else self.result.isel(time=date)

    def code(self, names: tuple[str, ...], date: int) -> str:
        """Return the Python for some variables of a date."""
        chosen = ", ".join(f'"{name}"' for name in names)
        when = "" if self.times is None else f".isel(time={date})"
        return f"result[[{chosen}]]{when}"

    def probability(self, name: str, date: int) -> xr.DataArray:
        """Return (y, x) probability of a class."""
        layer = self.at(date).probability.isel({"class": self.classes.index(name)})
        return layer.transpose("y", "x")

    @property
    def most_bits(self) -> float:
        """The largest entropy that there can be."""
        return float(np.log2(len(self.classes)))

    def pixel(self, row: int, column: int) -> xr.Dataset:
        """Return probabilities (class[, time]), label and entropy of a pixel."""
        return self.result.isel(y=row, x=column)


def check_result(result: object) -> None:
    """Raise a TimoError unless it is what `timo.predict` gives."""
    if not isinstance(result, xr.Dataset):
        raise TimoError(
            f"MapView shows the Dataset that timo.predict returns, not a {type(result).__name__}"
        )
    missing = [name for name in _NEEDED if name not in result.data_vars]
    if missing and "value" not in result.data_vars:
        raise TimoError(
            f"The result lacks {missing}: MapView shows what timo.predict returns, a map of classes or of a value."
        )
    if missing:
        if not {"y", "x"} <= set(result.value.dims) <= {"time", "y", "x"}:
            raise TimoError(
                f"The value must be ([time,] y, x), as timo.predict gives it; got {result.value.dims}."
            )
    elif "class" not in result.probability.dims or not {"y", "x"} <= set(result.label.dims):
        raise TimoError(
            f"The probability must be (class, [time,] y, x), as timo.predict gives it; got {result.probability.dims}."
        )
    if result.rio.crs is None:
        raise TimoError('The result has no CRS: use result.rio.write_crs("EPSG:...")')


def nearest(times: pd.DatetimeIndex, when: pd.Timestamp) -> int:
    """Return the position of the date nearest to another."""
    return int(np.abs(times.values - np.datetime64(when)).argmin())


def areas(values: xr.DataArray, keys: list[int]) -> dict[int, str]:
    """Return the hectares of each value, as text; pixels where the projection does not let them be measured."""
    plain = values.copy(deep=False)
    plain.attrs = {}  # by number, and not by name
    try:
        counted = cubes.hectares(plain)
    except TimoError:
        return {key: f"{int((plain == key).sum()):,} px" for key in keys}
    assert isinstance(counted, pd.Series)
    return {key: f"{counted.get(key, 0.0):,.2f} ha" for key in keys}
