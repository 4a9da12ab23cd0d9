"""Numbers as users bring them: with masks, with a nodata of their file, as text."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from timo.errors import TimoError


def without_nodata(array: Any) -> None:
    """Refuse values that are still the raster's nodata number instead of NaN.

    Raises
    ------
    TimoError
        If a value equals `_FillValue`, `missing_value` or `nodata` of the attributes.
    """
    for key in ("_FillValue", "missing_value", "nodata"):
        for nodata in np.ravel(array.attrs.get(key, ())):
            number = isinstance(nodata, numbers.Real) and math.isfinite(nodata)
            if number and bool((array == nodata).any()):
                raise TimoError(
                    f"Some values are the raster's nodata ({nodata}). Open it with masked=True, or use "
                    f"array.where(array != {nodata})."
                )


def as_floats(values: Any, name: str = "values") -> np.ndarray:
    """float64 copy of numbers; what a numpy mask hides becomes NaN.

    Raises
    ------
    TimoError
        If they are no numbers.
    """
    try:
        if np.ma.isMaskedArray(values):
            return np.array(np.ma.filled(np.ma.array(values, dtype="float64"), np.nan))
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"{array.dtype} is no number")
        return np.array(array, dtype="float64")
    except (TypeError, ValueError) as error:
        raise TimoError(
            f'{name} must be numbers ({error}). Use pd.to_numeric({name}, errors="coerce"), which makes '
            "NaN of what is none."
        ) from error
