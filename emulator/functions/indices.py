"""Shorthands of band maths: normalised differences, clamping, scaling, expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EngineError
from ..expressions import evaluate
from ..image import Image
from ..pixeltype import FLOAT, PixelType, union
from ..registry import call, register
from .bands import chosen
from .masks import blend, update_mask
from .maths import pixelwise
from .promotion import to_image


@register("Image.normalizedDifference")
def normalized_difference(input_: Image, band_names: list[str] | None = None) -> Image:
    """Compute (first - second) / (first + second) as "nd", masked where either is negative; properties are lost."""
    bands = chosen(input_, band_names or [0, 1], "Image.normalizedDifference")
    if len(bands) != 2:
        raise EngineError("Image.normalizedDifference: Need exactly two bands.")
    kind = union([*(band.type for band in bands), FLOAT])

    def compute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = a + b
        index = np.where(total == 0, 0, (a - b) / np.where(total == 0, 1, total))
        return np.where((a < 0) | (b < 0), np.nan, index)

    return Image((pixelwise("nd", bands, kind, compute, exact=False),), {}, input_.footprint)


def _clamped_type(kind: PixelType, low: float, high: float) -> PixelType:
    if not kind.is_int or low != int(low) or high != int(high):
        return union([kind, FLOAT])
    first, last = kind.bounds
    return PixelType("int", max(first, int(low)), max(min(last, int(high)), int(low)))


@register("Image.clamp")
def clamp(input_: Image, low: float, high: float) -> Image:
    """Keep values within two ends."""
    return input_.with_bands(
        pixelwise(b.name, [b], _clamped_type(b.type, low, high), lambda a: a.clip(low, high))
        for b in input_.bands
    )


@register("Image.unitScale")
def unit_scale(input_: Image, low: float, high: float) -> Image:
    """Return where between two ends the values are, 0..1."""

    def compute(a: np.ndarray) -> np.ndarray:
        return (a - low) / (high - low)

    return input_.with_bands(
        pixelwise(b.name, [b], union([b.type, FLOAT]), compute, exact=False) for b in input_.bands
    )


@dataclass(frozen=True)
class ImageExpression:
    """An expression over images as a function, called with its arguments by name.

    Parameters
    ----------
    text : str
        The expression.
    default : str
        The argument whose bands `b()` means.
    free : bool
        Names that are no arguments are bands of it.
    """

    text: str
    default: str
    free: bool

    def named(self, arguments: Mapping[str, Any]) -> Image:
        """Return its value."""
        images = {key: to_image(value, "Image.expression") for key, value in arguments.items()}
        scope = _Scope(images, images.get(self.default), self.free)
        return to_image(evaluate(self.text, scope), "Image.expression")

    def __call__(self, *arguments: Any) -> Image:
        return self.named({self.default: arguments[0]} if arguments else {})


@dataclass(frozen=True)
class _Scope:
    """Images by their names in an expression."""

    images: Mapping[str, Image]
    default: Image | None
    free: bool

    def name(self, word: str) -> Image:
        if word in self.images:
            return self.images[word]
        if self.free and self.default is not None:
            return self.select(self.default, [word])
        raise EngineError(f"Image.parseExpression: Unknown variable '{word}'.")

    def select(self, value: Image, selectors: list[Any]) -> Image:
        return value.with_bands(chosen(value, selectors or value.names))

    def apply(self, function: str, operands: list[Any]) -> Image:
        if function == "b":
            if self.default is None:
                raise EngineError("Image.parseExpression: b() needs a default image.")
            return self.select(self.default, operands)
        if function == "?:":
            test, yes, no = (to_image(operand, "Image.expression") for operand in operands)
            # Masked where the test is, and where the branch that it takes is.
            return blend(
                update_mask(no, call("Image.not", {"value": test})), update_mask(yes, test)
            )
        if len(operands) > 2:
            first, *rest = operands
            return self.apply(function, [first, self.apply(function, rest)])
        keys = ("value",) if len(operands) == 1 else ("image1", "image2")
        return call(f"Image.{function}", dict(zip(keys, operands, strict=False)))


@register("Image.parseExpression")
def parse_expression(
    expression: str,
    arg_name: str,
    vars_: list[str],
    map_free_vars_to_default_image_bands: bool = False,
) -> ImageExpression:
    """Make a function of images from its text."""
    del vars_
    return ImageExpression(expression, arg_name, map_free_vars_to_default_image_bands)
