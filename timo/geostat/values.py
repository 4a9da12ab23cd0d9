"""Numbers as users bring them: with masks, with a nodata of their file, as text."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.checks import described, is_number
from timo.errors import TimoError

Floats = NDArray[np.floating]
Field = Annotated[xr.DataArray, "Use timo.geostat.points(x, y, values, crs=...), or a raster."]


def as_floats(values: Any, name: str = "values", dtype: str = "float64") -> np.ndarray:
    """Return a copy of numbers as floats; what a mask of NumPy hides becomes NaN."""
    try:
        if np.ma.isMaskedArray(values):
            return np.array(np.ma.filled(np.ma.array(values, dtype=dtype), np.nan))
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"{array.dtype} is no real number")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            return np.array(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise TimoError(
            f"{name} must be real numbers ({error}). Use pd.to_numeric({name}, "
            'errors="coerce"), which makes NaN of all else.'
        ) from error


def real_array(values: Any, name: str) -> np.ndarray:
    """Return real numbers as an array; float32 stays float32."""
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        array = np.asarray(values)
        if array.dtype.kind in "iuf":
            return array
    raise TimoError(f"{name} must be a number, or an array of numbers; got {described(values)}.")


def days_of(array: xr.DataArray) -> np.ndarray:
    """Return the dates of an array as days since the first, lengths of time as days, numbers as they are."""
    time = array["time"].values
    if time.dtype.kind not in "iufmM":
        first = time.ravel()[0]
        way = "assign_coords(time=pd.to_datetime(da.time.values))"
        if type(first).__module__.startswith("cftime"):
            way = 'convert_calendar("standard", use_cftime=False)'
        raise TimoError(f"The dates are {type(first).__name__}, not datetime64. Use da.{way}.")
    if time.dtype.kind in "mM":
        time = (time - time[0] if time.dtype.kind == "M" else time) / np.timedelta64(1, "D")
    days = time.astype("float64")
    if not np.isfinite(days).all():
        raise TimoError("Some dates are missing (NaT). Use da.sel(time=da.time.notnull()).")
    return days


def without_nodata(array: xr.DataArray) -> None:
    """Refuse values that are still the raster's nodata number instead of NaN."""
    for key in ("_FillValue", "missing_value", "nodata"):
        for nodata in np.ravel(array.attrs.get(key, ())):
            if is_number(nodata) and bool((array == nodata).any()):
                raise TimoError(
                    f"Some values are the raster's nodata ({nodata}). Open it with masked=True, or use "
                    f"array.where(array != {nodata})."
                )


def floats_of(array: xr.DataArray, dtype: str = "float64") -> np.ndarray:
    """Return the values of an array as floats, NaN where nothing is known; refuse infinite ones and nodata."""
    values = as_floats(array.values, dtype=dtype)
    without_nodata(array)
    if np.isinf(values).any():
        raise TimoError(
            "Some values are infinite. Use array.where(np.isfinite(array)), which makes NaN of them."
        )
    return values
