"""Band maths: every function of one or two images that works pixel by pixel.

A result is valid where all of its inputs are: "Only the intersection of unmasked pixels between the two inputs are
considered and returned as unmasked" (https://developers.google.com/earth-engine/guides/image_math).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EngineError
from ..grid import WGS84, Grid
from ..image import Band, Image, Pixels, Workspace, both
from ..pixeltype import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    PixelType,
    arithmetic,
    cast,
    integer,
    union,
)
from ..registry import register

Typing = Callable[[PixelType, PixelType], PixelType]
# Widening a shift by more is an overflow in any case.
_MOST_SHIFT = 63


def _real(left: PixelType, right: PixelType) -> PixelType:
    """Return single precision where nothing is double, whatever the whole numbers."""
    return union([left, right, FLOAT])


def _double_of_int(left: PixelType, right: PixelType) -> PixelType:
    """Return double precision of whole numbers, else what the inputs have."""
    found = union([left, right])
    return DOUBLE if found.is_int else found


def _joint(left: PixelType, right: PixelType) -> PixelType:
    return union([left, right])


def _boolean(left: PixelType, right: PixelType) -> PixelType:
    del left, right
    return BOOLEAN


def _range_of(operation: Callable[[int, int], int]) -> Typing:
    """Return the type of a result that is least and greatest at the ends of the inputs' ranges."""
    return lambda left, right: arithmetic(left, right, operation)


def _bits(left: PixelType, right: PixelType) -> PixelType:
    """Return the type of whole numbers with as many bits as the longer of the two."""
    low, high = union([left, right]).bounds if left.is_int and right.is_int else (-1, 2**63 - 1)
    if low < 0:
        return integer("int64")
    return PixelType("int", 0, 2 ** high.bit_length() - 1)


def _shifted(shift: Callable[[int, int], int]) -> Typing:
    def typing(left: PixelType, right: PixelType) -> PixelType:
        if not (left.is_int and right.is_int) or not 0 <= right.bounds[0] <= right.bounds[1] < 32:
            return integer("int64")
        return arithmetic(left, right, shift)

    return typing


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    zero = b == 0
    return np.where(zero, 0.0, a / np.where(zero, 1, b))


def _mod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    zero = b == 0
    return np.where(zero, 0, np.fmod(a, np.where(zero, 1, b)))


def _whole(operation: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Apply it to whole numbers, cut off towards zero."""
    return lambda *arrays: operation(*(array.astype("int64") for array in arrays))


def _left_shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > _MOST_SHIFT, 0, np.left_shift(a, b.clip(0, _MOST_SHIFT)))


def _right_shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.right_shift(a, b.clip(0, _MOST_SHIFT))


@dataclass(frozen=True)
class _Binary:
    """A function of two pixels and the type of its result."""

    compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
    typing: Typing
    exact: bool = True  # whole numbers stay so while it is computed


_BINARY: dict[str, _Binary] = {
    "add": _Binary(np.add, _range_of(operator.add)),
    "subtract": _Binary(np.subtract, _range_of(operator.sub)),
    "multiply": _Binary(np.multiply, _range_of(operator.mul)),
    "divide": _Binary(_divide, _real, exact=False),
    "mod": _Binary(_mod, _joint),
    "pow": _Binary(np.power, _double_of_int, exact=False),
    "min": _Binary(np.minimum, _joint),
    "max": _Binary(np.maximum, _joint),
    "lt": _Binary(np.less, _boolean),
    "lte": _Binary(np.less_equal, _boolean),
    "gt": _Binary(np.greater, _boolean),
    "gte": _Binary(np.greater_equal, _boolean),
    "eq": _Binary(np.equal, _boolean),
    "neq": _Binary(np.not_equal, _boolean),
    "and": _Binary(lambda a, b: (a != 0) & (b != 0), _boolean),
    "or": _Binary(lambda a, b: (a != 0) | (b != 0), _boolean),
    "bitwiseAnd": _Binary(_whole(np.bitwise_and), _bits),
    "bitwiseOr": _Binary(_whole(np.bitwise_or), _bits),
    "bitwiseXor": _Binary(_whole(np.bitwise_xor), _bits),
    "leftShift": _Binary(_whole(_left_shift), _shifted(operator.lshift)),
    "rightShift": _Binary(_whole(_right_shift), _shifted(operator.rshift)),
}


def finite(values: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Mask what is no number: a logarithm of zero, a root of less."""
    if values.dtype.kind != "f":
        return values, valid
    good = np.isfinite(values)
    if good.all():
        return values, valid
    return np.where(good, values, 0), both(valid, good)


def pixelwise(
    name: str,
    bands: list[Band],
    kind: PixelType,
    compute: Callable[..., np.ndarray],
    *,
    exact: bool = True,
) -> Band:
    """Compute a band pixel by pixel from others, masked where any of them is.

    Parameters
    ----------
    name : str
        Of the result.
    bands : list of Band
        The inputs.
    kind : PixelType
        Of the result.
    compute : callable
        Arrays in, array out.
    exact : bool
        Whole numbers are handed on as such; else as double.
    """
    dtype = np.result_type(kind.dtype, *(band.type.dtype for band in bands)) if exact else None

    def source(grid: Grid, work: Workspace) -> Pixels:
        inputs = [band.at(grid, work) for band in bands]
        wide = dtype or np.dtype("float64")
        with np.errstate(all="ignore"):
            values = compute(*(pixels.values.astype(wide, copy=False) for pixels in inputs))
        values, valid = finite(np.asarray(values), both(*(pixels.valid for pixels in inputs)))
        return Pixels(cast(values, kind), valid)

    shaped = next((band for band in bands if band.projection != WGS84), bands[0])
    return Band(name, kind, source, shaped.projection, shaped.size)


def matched(left: Image, right: Image, asked_by: str) -> list[tuple[str, Band, Band]]:
    """Pair the bands of two images: by name, else in order; a single one with each of the other image's."""
    a, b = left.bands, right.bands
    if not a or not b:
        if a or b:
            raise EngineError(
                f"{asked_by}: If one image has no bands, the other must also have no bands. "
                f"Got {len(a)} and {len(b)}."
            )
        return []
    if len(a) == len(b):
        if set(left.names) == set(right.names):
            b = tuple(right.the_band(name, asked_by) for name in left.names)
        return [(x.name, x, y) for x, y in zip(a, b, strict=True)]
    if len(b) == 1:
        return [(x.name, x, b[0]) for x in a]
    if len(a) == 1:
        return [(y.name, a[0], y) for y in b]
    raise EngineError(
        f"{asked_by}: Images must have the same number of bands, or one of them a single band. "
        f"Got {len(a)} and {len(b)}."
    )


def shared(left: Image, right: Image) -> Any:
    """Return the footprint of what two images give: where both are."""
    if left.footprint is None or right.footprint is None:
        return left.footprint if right.footprint is None else right.footprint
    if left.footprint is right.footprint or left.footprint.equals(right.footprint):
        return left.footprint
    return left.footprint.intersection(right.footprint)


def computed(bands: list[Band], like: Image, footprint: Any) -> Image:
    """Return the image that maths gives: of the properties only the index is left."""
    kept = {key: like.properties[key] for key in ("system:index",) if key in like.properties}
    return Image(tuple(bands), kept, footprint)


def _register_binary(name: str, rule: _Binary) -> None:
    def apply(image1: Image, image2: Image) -> Image:
        bands = [
            pixelwise(band, [a, b], rule.typing(a.type, b.type), rule.compute, exact=rule.exact)
            for band, a, b in matched(image1, image2, f"Image.{name}")
        ]
        return computed(bands, image1, shared(image1, image2))

    register(f"Image.{name}")(apply)


def _at_least_double(kind: PixelType) -> PixelType:
    return DOUBLE if kind.is_int else kind


def _magnitude(kind: PixelType) -> PixelType:
    if not kind.is_int:
        return kind
    low, high = kind.bounds
    return PixelType("int", 0 if low <= 0 <= high else min(abs(low), abs(high)), max(-low, high))


def _rounded(kind: PixelType) -> PixelType:
    return kind if kind.is_int else integer("int64")


_UNARY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[PixelType], PixelType]]] = {
    "abs": (np.abs, _magnitude),
    "sqrt": (np.sqrt, _at_least_double),
    "exp": (np.exp, _at_least_double),
    "log": (np.log, _at_least_double),
    "log10": (np.log10, _at_least_double),
    "sin": (np.sin, _at_least_double),
    "cos": (np.cos, _at_least_double),
    "floor": (np.floor, _rounded),
    "ceil": (np.ceil, _rounded),
    "round": (lambda a: np.floor(a + 0.5), _rounded),
    "not": (lambda a: a == 0, lambda _: BOOLEAN),
}
# Each is known with and without `to` before it.
_CASTS: dict[str, PixelType] = {
    name: integer(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
} | {
    "byte": integer("uint8"),
    "short": integer("int16"),
    "int": integer("int32"),
    "long": integer("int64"),
    "float": FLOAT,
    "double": DOUBLE,
}


def _register_unary(
    name: str,
    compute: Callable[[np.ndarray], np.ndarray],
    typing: Callable[[PixelType], PixelType],
) -> None:
    def apply(value: Image) -> Image:
        bands = [
            band
            if typing is _rounded and band.type.is_int
            else pixelwise(band.name, [band], typing(band.type), compute)
            for band in value.bands
        ]
        return computed(bands, value, value.footprint)

    register(f"Image.{name}")(apply)


def _register_cast(name: str, kind: PixelType) -> None:
    def apply(value: Image) -> Image:
        # A cast must see the numbers as they are: in double, unless they are whole.
        bands = [
            pixelwise(band.name, [band], kind, np.asarray, exact=band.type.is_int)
            for band in value.bands
        ]
        return computed(bands, value, value.footprint)

    register(f"Image.{name}", f"Image.to{name.capitalize()}")(apply)


for _name, _rule in _BINARY.items():
    _register_binary(_name, _rule)
for _name, (_compute, _typing) in _UNARY.items():
    _register_unary(_name, _compute, _typing)
for _name, _kind in _CASTS.items():
    _register_cast(_name, _kind)
