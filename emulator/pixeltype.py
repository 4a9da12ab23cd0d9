"""Types of pixels: a precision, and for whole numbers a range, as Earth Engine's PixelType."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import EngineError

_ORDER = ("int", "float", "double")
_INTEGERS = tuple(
    np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class PixelType:
    """The type of a band.

    Parameters
    ----------
    precision : {"int", "float", "double"}
        What a pixel is.
    low, high : int, optional
        The least and the greatest value of whole numbers. Floating-point types have no range here.
    """

    precision: str
    low: int | None = None
    high: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type of numpy that holds it."""
        if self.precision != "int":
            return np.dtype("float32" if self.precision == "float" else "float64")
        low, high = self.bounds
        for dtype in _INTEGERS:
            info = np.iinfo(dtype)
            if info.min <= low and high <= info.max:
                return dtype
        return np.dtype("int64")

    @property
    def bounds(self) -> tuple[int, int]:
        """The range of whole numbers."""
        low = _LOWEST if self.low is None else self.low
        return low, _HIGHEST if self.high is None else self.high

    @property
    def is_int(self) -> bool:
        """Whether it holds whole numbers only."""
        return self.precision == "int"

    def info(self) -> dict[str, Any]:
        """Return what `getInfo` shows."""
        found: dict[str, Any] = {"type": "PixelType", "precision": self.precision}
        if self.low is not None:
            found["min"] = self.low
        if self.high is not None:
            found["max"] = self.high
        return found


BOOLEAN = PixelType("int", 0, 1)
FLOAT = PixelType("float")
DOUBLE = PixelType("double")


def integer(name: str) -> PixelType:
    """Return the type of a numpy integer, e.g. "uint16"."""
    info = np.iinfo(name)
    return PixelType("int", int(info.min), int(info.max))


def of_dtype(dtype: Any) -> PixelType:
    """Return the type of an array."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return FLOAT if dtype.itemsize <= 4 else DOUBLE
    return BOOLEAN if dtype.kind == "b" else integer(dtype.name)


def of_number(value: Any) -> PixelType:
    """Return the type of a constant: whole numbers have the range of the one value."""
    if isinstance(value, bool):
        return PixelType("int", int(value), int(value))
    if isinstance(value, int | np.integer):
        return PixelType("int", int(value), int(value))
    if isinstance(value, float | np.floating):
        return DOUBLE
    raise EngineError(f"Image.constant: Cannot convert {value!r} to a pixel.")


def union(types: Iterable[PixelType]) -> PixelType:
    """Return the type that holds the values of all of them."""
    types = list(types)
    precision = max((t.precision for t in types), key=_ORDER.index)
    if precision != "int":
        return PixelType(precision)
    lows, highs = zip(*(t.bounds for t in types), strict=True)
    return PixelType("int", min(lows), max(highs))


def arithmetic(
    left: PixelType, right: PixelType, operation: Callable[[int, int], int]
) -> PixelType:
    """Return the type of a sum, difference or product: whole numbers get the range that can come out."""
    if not (left.is_int and right.is_int):
        return union([left, right])
    corners = [operation(a, b) for a in left.bounds for b in right.bounds]
    return PixelType("int", max(min(corners), _LOWEST), min(max(corners), _HIGHEST))


def cast(values: np.ndarray, pixel_type: PixelType) -> np.ndarray:
    """Cast values to a type: whole numbers are cut off towards zero and clamped to the range.

    Returns
    -------
    numpy.ndarray
        In the shape of `values`, in `pixel_type.dtype`.
    """
    dtype = pixel_type.dtype
    if values.dtype == dtype:
        return values
    if pixel_type.is_int:
        low, high = pixel_type.bounds
        if values.dtype.kind == "f":
            values = np.nan_to_num(np.trunc(values), nan=0.0)
            # The greatest int64 is no double: the next one below is.
            high = min(high, math.floor(np.nextafter(2.0**63, 0))) if high > 2**53 else high
            return values.clip(low, high).astype(dtype)
        if values.dtype.kind in "iu" and values.size:
            info = np.iinfo(values.dtype)
            if info.min < low or info.max > high:
                low, high = max(low, int(info.min)), min(high, int(info.max))
                values = values.clip(low, high)
    return values.astype(dtype)
