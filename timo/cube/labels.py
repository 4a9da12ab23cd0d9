"""The checks of labels: classes or numbers of pixels on a cube's grid, or of a chip as a whole."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from timo.checks import checked
from timo.cube.check import grid_mismatch
from timo.cube.nodata import own_nodata
from timo.errors import TimoError

Unit = Literal["pixel", "chip", "parcel"]
UNLABELLED = -1
_PIXELS = (("y", "x"), ("time", "y", "x"))
_CHIPS: tuple[tuple[str, ...], ...] = ((), ("time",))


@checked
def check_labels(
    labels: xr.DataArray,
    cube: xr.DataArray,
    *,
    numeric: bool | None = False,
    unit: Unit | None = "pixel",
) -> xr.DataArray:
    """Check that `labels` are labels of the cube, and return them unchanged.

    Parameters
    ----------
    labels : xarray.DataArray
        Of pixels (or the pixels of parcels): (y, x) or (time, y, x) on the cube's grid. Of a chip: without dims, or
        (time,). Classes are integers, -1 = unlabelled; `attrs["classes"]`, if there, names them. Numbers (of a
        regression) are floats, NaN = unlabelled.
    cube : xarray.DataArray
        The cube that they label.
    numeric : bool, optional
        Numbers are expected, not classes; None takes both.
    unit : {"pixel", "parcel", "chip"}, optional
        What a label is of; None takes all.

    Raises
    ------
    TimoError
        If something is not so; the message says what, and what to call.
    """
    _check_dims(labels, unit)
    numbers = _check_type(labels, numeric)
    if "y" in labels.dims and (why := grid_mismatch(labels, cube)):
        call = f"timo.read_labels(labels, like=cube{', numeric=True' if numbers else ''})"
        raise TimoError(
            f"The labels are on another grid: their {why}. Use {call}, which carries them to the cube's."
        )
    _check_dates(labels, cube)
    if numbers:
        _check_numbers(labels)
    else:
        _check_nodata(labels)
        _check_classes(labels)
    return labels


def _check_dims(labels: xr.DataArray, unit: Unit | None) -> None:
    wanted = {"chip": _CHIPS, None: _PIXELS + _CHIPS}.get(unit, _PIXELS)
    if labels.dims in wanted:
        return
    if unit == "chip":
        raise TimoError(
            f'Labels of a chip have no dims (one of the whole series) or ("time",) (one a date); got {labels.dims}. '
            "Use xarray.DataArray(number), or labels of pixels with a model of pixels."
        )
    if labels.dims in _CHIPS:
        raise TimoError(
            f'The labels must have the dims ("y", "x") or ("time", "y", "x"); got {labels.dims}, one label for a '
            'whole chip. Load a model with task="classification" for those.'
        )
    raise TimoError(
        f'The labels must have the dims ("y", "x") or ("time", "y", "x"); got {labels.dims}. '
        'Use labels.rename(...) or labels.transpose(..., "y", "x").'
    )


def _check_type(labels: xr.DataArray, numeric: bool | None) -> bool:
    """Return whether the labels are numbers to predict, and not classes."""
    numbers = numeric if numeric is not None else labels.dtype.kind == "f"
    if not numbers and not np.issubdtype(labels.dtype, np.integer):
        raise TimoError(
            f"The labels must be integers, -1 = unlabelled; got {labels.dtype}. "
            'Use labels.fillna(-1).astype("int16").'
        )
    if numbers and labels.dtype.kind != "f":
        raise TimoError(
            f"The labels of a regression must be floats, NaN = unlabelled; got {labels.dtype}. "
            'Use labels.astype("float32"), after labels.where(...) of what is unlabelled.'
        )
    return numbers


def _check_dates(labels: xr.DataArray, cube: xr.DataArray) -> None:
    if "time" not in labels.dims or "time" not in cube.dims:
        return
    dates, wanted = (array.indexes.get("time") for array in (labels, cube))
    if dates is None or wanted is None or dates.empty or not dates.equals(wanted):
        fill = "float('nan')" if labels.dtype.kind == "f" else "-1"
        raise TimoError(
            "Labels with a time must have the cube's dates. "
            f"Use labels.reindex(time=cube.time, fill_value={fill})."
        )


def _check_numbers(labels: xr.DataArray) -> None:
    if bool(np.isinf(labels).any()):
        raise TimoError(
            "The labels hold infinite values. Use labels.where(numpy.isfinite(labels))."
        )
    nodata = own_nodata(labels)
    if nodata is not None and bool((labels == nodata).any()):
        raise TimoError(
            f"The labels declare {nodata:g} as no data, and {int((labels == nodata).sum()):,} of them are {nodata:g}. "
            f"Use labels.where(labels != {nodata:g}), which makes them NaN = unlabelled."
        )


def _check_nodata(labels: xr.DataArray) -> None:
    """Refuse a declared nodata value that would be learnt as a class."""
    nodata = own_nodata(labels)
    if nodata is None or nodata < 0:
        return
    if count := int((labels == nodata).sum()):
        raise TimoError(
            f"The labels declare {nodata:g} as no data, and {count:,} of them are {nodata:g}: they would be learnt as "
            "a class. Use timo.read_labels(labels, like=cube), which leaves them unlabelled; if it is a class, name "
            f"all of them, as in timo.read_labels(labels, like=cube, classes={{{nodata:g}: 'other', ...}})."
        )


def _check_classes(labels: xr.DataArray) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED:
        raise TimoError(
            f"Labels are classes from 0, or -1 = unlabelled; got {low}. "
            "Use labels.where(labels >= 0, -1)."
        )
    classes = labels.attrs.get("classes")
    if classes is not None and high >= len(classes):
        raise TimoError(
            f"The labels go up to {high}, but attrs['classes'] names {len(classes)}: "
            f"{list(classes)}. Name them all, from class 0 on."
        )
