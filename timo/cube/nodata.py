"""The value of an array that means "no data": read from whatever bears it."""

from __future__ import annotations

from typing import Any

import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

_KEYS = ("_FillValue", "missing_value", "nodata", "fill_value", "nodatavals")


def own_nodata(data: xr.DataArray) -> float | None:
    """Return the value that means "no data" and that the data bear, if any.

    One that their type cannot hold is none, as xarray keeps attributes through casts and comparisons; but for -1, which
    is 255 after a cast to uint8.
    """
    if data.dtype.kind not in "iuf":
        return None
    if data.encoding.get("_FillValue") is not None and data.dtype.kind == "f":
        return float("nan")  # a reader has replaced it
    for place in (data.encoding, data.attrs):
        for key in _KEYS:
            # Of an encoding, a fill value is what Zarr has for chunks that were not written.
            if place.get(key) is not None and not (place is data.encoding and key == "fill_value"):
                said = place[key][0] if key == "nodatavals" else place[key]
                return _after_cast(said, data.dtype)
    try:
        said = data.rio.nodata  # of .rio.set_nodata()
    except (OverflowError, TypeError, ValueError):
        return None
    return None if said is None else _after_cast(said, data.dtype)


def _after_cast(value: Any, dtype: np.dtype) -> float | None:
    """Return a nodata value as a type holds it, also where a cast has made -1 of the largest number, or that of -1."""
    held = as_held(value, dtype)
    if held is not None or dtype.kind not in "iu":
        return held
    largest = [as_held(np.iinfo(kind).max, np.dtype("float64")) for kind in ("u1", "u2", "u4")]
    if as_held(value, np.dtype("float64")) not in (-1.0, *largest):
        return None
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else -1


def as_held(value: Any, dtype: np.dtype) -> float | None:
    """Return a number as a type holds it (0.1 as float32: 0.100000001), or None if it does not hold it."""
    try:
        if isinstance(value, np.ndarray):
            value = value.item()
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                held = float(dtype.type(float(value)))
            return held if np.isinf(held) == np.isinf(float(value)) else None
        if isinstance(value, str):
            value = float(value)
        whole, info = int(value), np.iinfo(dtype)
        return whole if whole == value and info.min <= whole <= info.max else None
    except (TypeError, ValueError, OverflowError):
        return None
