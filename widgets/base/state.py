"""What the parts of a workbench share: one object, and the lines of Python that led to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import traitlets
import xarray as xr

from timo.checks import Range, check, checked
from timo.cube import check_grid, grid_mismatch
from timo.cube.indices import band_by_common_name
from timo.errors import TimoError

Index = Annotated[int, Range(least=0)]
_DIMS = ("time", "band", "y", "x")


class Held(traitlets.Any):
    """A trait that has changed when it is another object.

    By default traits compare values, and of arrays that is slow and wrong: `bool(dataset == other)` is True for any two
    Datasets with variables, so that a new map would pass for the old one.
    """

    def set(self, obj: traitlets.HasTraits, value: Any) -> None:
        """Set, and notify if it is another object."""
        assert self.name is not None
        new = self._validate(obj, value)
        old = self.get(obj)
        obj._trait_values[self.name] = new
        if new is not old:
            obj._notify_trait(self.name, old, new)


class State(traitlets.HasTraits):
    """The state that the parts of a workbench share: area, cube, labels, model, map, and the code so far.

    Parts of a workbench know nothing of each other: each observes what it shows here, and sets what it changes.

    Attributes
    ----------
    aoi : object or None
        The area of interest, in any form that `timo.open_cube` takes; GeoJSON where it was drawn.
    options : dict
        The other options of `timo.open_cube`, with "source" among them.
    cube : xarray.DataArray or None
        The cube (time, band, y, x).
    classes : list of str
        Names of the classes, in order of their numbers.
    labels : xarray.DataArray or None
        (y, x) or (time, y, x) integers on the cube's grid, -1 = unlabelled.
    model : timo.models.TiMo, timo.models.PixelModel or None
        The model.
    result : xarray.Dataset or None
        The map that it made: `probability`, `label`, `entropy`.
    date : int
        Position of the date that is looked at.
    pixels : list of (int, int)
        Rows and columns of the pixels that are looked at, at most five, the oldest first.
    code : list of str
        Lines of Python that do what was done by hand.
    """

    aoi = Held(None, allow_none=True)
    options = traitlets.Dict()
    cube = Held(None, allow_none=True)
    classes = traitlets.List(traitlets.Unicode())
    labels = Held(None, allow_none=True)
    model = Held(None, allow_none=True)
    result = Held(None, allow_none=True)
    date = traitlets.Int(0)
    pixels = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Int()))
    code = traitlets.List(traitlets.Unicode())

    MOST_PIXELS = 5
    # The control that was moved last, and its line.
    _moved = ("", "")

    @checked
    def __init__(
        self,
        *,
        aoi: Any = None,
        options: Mapping[str, Any] | None = None,
        cube: xr.DataArray | None = None,
        classes: Sequence[str] = (),
        labels: xr.DataArray | None = None,
        model: Any = None,
        result: xr.Dataset | None = None,
        date: Index = 0,
        pixels: Sequence[tuple[Index, Index]] = (),
        code: Sequence[str] = (),
    ) -> None:
        super().__init__()
        # The cube first: the date is one of its.
        self.cube, self.aoi, self.options, self.classes = (
            cube,
            aoi,
            dict(options or {}),
            list(classes),
        )
        self.labels, self.model, self.result, self.date = labels, model, result, date
        self.pixels, self.code = list(pixels), list(code)

    @checked
    def echo(self, line: str, control: str = "") -> None:
        """Note the Python that does what was just done by hand; a line that only repeats the last is left out.

        Parameters
        ----------
        line : str
            Python that runs after the lines before it.
        control : str
            Name of the control that was moved. As long as the same one moves on, its newest line takes the place of
            the one before: of a slider only where it came to rest is noted.
        """
        code = self.code
        if control and code and (control, code[-1]) == self._moved:
            code = code[:-1]
        if not code or code[-1] != line:
            code = [*code, line]
        self._moved = (control, line)
        self.code = code

    @checked
    def echo_setting(self, widget: str, setting: str, control: str) -> None:
        """Note how a widget is set, after the line that makes it unless it is there since the cube was opened.

        Parameters
        ----------
        widget : str
            Python that makes the widget, such as ``view = timo_widgets.MapView(result, cube)``.
        setting : str
            Python that sets it, such as ``view.layers.opacity.value = 0.5``.
        control : str
            As in `echo`.
        """
        opened = [i for i, line in enumerate(self.code) if line.startswith("cube = ")]
        if widget not in self.code[opened[-1] if opened else 0 :]:
            self.echo(widget)
        self.echo(setting, control)

    @checked
    def look_at(self, row: Index, column: Index) -> None:
        """Add a pixel to those that are looked at, or make it the latest; the oldest of more than five goes."""
        others = [p for p in self.pixels if p != (row, column)]
        self.pixels = [*others, (row, column)][-self.MOST_PIXELS :]

    @traitlets.validate("cube")
    def _is_cube(self, proposal: dict[str, Any]) -> xr.DataArray | None:
        cube = check(proposal["value"], xr.DataArray | None, "cube")
        if cube is None:
            return None
        if cube.dims != _DIMS or cube.dtype.kind not in "iuf" or 0 in cube.shape:
            raise TimoError(
                f"A cube has the dims {_DIMS} and numbers; this has the dims {cube.dims}, the sizes {cube.shape} and "
                f"{cube.dtype}. Open one with timo.open_cube, or use cube.transpose(...)."
            )
        if "time" not in cube.indexes or cube.indexes["time"].dtype.kind != "M":
            raise TimoError("A cube has dates along time. Use cube.assign_coords(time=...).")
        if "band" not in cube.indexes:
            raise TimoError("A cube has names along band. Use cube.assign_coords(band=...).")
        # Whether its values can be true, those parts look at that rely on it.
        check_grid(cube, what="cube")
        return cube

    @traitlets.validate("labels", "result")
    def _is_data(self, proposal: dict[str, Any]) -> Any:
        name = proposal["trait"].name
        kind = xr.DataArray if name == "labels" else xr.Dataset
        return check(proposal["value"], kind | None, name)

    @traitlets.observe("cube")
    def _start_again(self, change: dict[str, Any]) -> None:
        """Forget what belongs to another grid."""
        old, new = change["old"], change["new"]
        # What was there before the first cube came with it: State(cube=..., labels=...).
        if old is not None and (new is None or grid_mismatch(new, old)):
            self.pixels, self.labels, self.result = [], None, None
        if new is not None:
            self.date = min(self.date, new.sizes["time"] - 1)

    @traitlets.validate("date")
    def _within(self, proposal: dict[str, Any]) -> int:
        last = 0 if self.cube is None else self.cube.sizes["time"] - 1
        return min(max(int(proposal["value"]), 0), max(last, 0))


def clear_date(cube: xr.DataArray, date: int) -> int:
    """Return a date to begin with: this one, or the clearest if it shows nothing.

    Of a lazy cube nothing is known without fetching it: the date stays.
    """
    band = _first_seen(cube)
    if cube.chunks is not None or np.isfinite(band[date].values).any():
        return date
    return int(np.isfinite(band.values).mean(axis=(1, 2)).argmax())


def _first_seen(cube: xr.DataArray) -> xr.DataArray:
    """Return a band of the picture that is shown first; its sensor has an observation in all bands or in none."""
    try:
        return band_by_common_name(cube, ("red",))
    except TimoError:
        return cube.isel(band=0)
