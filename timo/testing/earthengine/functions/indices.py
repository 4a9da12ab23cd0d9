"""Shorthands of band maths: normalised differences, clamping, scaling, expressions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.expressions import Expression
from timo.testing.earthengine.functions.bands import chosen
from timo.testing.earthengine.functions.maths import pixelwise
from timo.testing.earthengine.functions.promotion import to_image
from timo.testing.earthengine.grid import Grid
from timo.testing.earthengine.image import Image, Pixels, Workspace, both
from timo.testing.earthengine.pixeltype import FLOAT, PixelType, union
from timo.testing.earthengine.registry import call, register


@register("Image.normalizedDifference")
def normalized_difference(input_: Image, band_names: list[str] | None = None) -> Image:
    """(first - second) / (first + second) as "nd", masked where either is negative; properties are lost."""
    bands = chosen(input_, band_names or [0, 1], "Image.normalizedDifference")
    if len(bands) != 2:
        raise EngineError("Image.normalizedDifference: Need exactly two bands.")
    first, second = bands
    kind = union([first.type, second.type, FLOAT])

    def compute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = a + b
        return np.where(total == 0, 0, (a - b) / np.where(total == 0, 1, total))

    found = pixelwise("nd", [first, second], kind, compute, exact=False)

    def source(grid: Grid, work: Workspace) -> Pixels:
        pixels, a, b = found.at(grid, work), first.at(grid, work), second.at(grid, work)
        return Pixels(pixels.values, both(pixels.valid, (a.values >= 0) & (b.values >= 0)))

    return Image((replace(found, source=source),), {}, input_.footprint)


def _clamped_type(kind: PixelType, low: float, high: float) -> PixelType:
    if not kind.is_int or low != int(low) or high != int(high):
        return union([kind, FLOAT])
    first, last = kind.bounds
    return PixelType("int", max(first, int(low)), max(min(last, int(high)), int(low)))


@register("Image.clamp")
def clamp(input_: Image, low: float, high: float) -> Image:
    """Values within two ends."""
    bands = [
        pixelwise(b.name, [b], _clamped_type(b.type, low, high), lambda a: a.clip(low, high))
        for b in input_.bands
    ]
    return input_.with_bands(bands)


@register("Image.unitScale")
def unit_scale(input_: Image, low: float, high: float) -> Image:
    """Where between two ends the values are, 0..1."""
    bands = [
        pixelwise(
            b.name, [b], union([b.type, FLOAT]), lambda a: (a - low) / (high - low), exact=False
        )
        for b in input_.bands
    ]
    return input_.with_bands(bands)


@register("Image.polynomial")
def polynomial(image: Image, coefficients: list[float]) -> Image:
    """A polynomial of the values, the constant coefficient first."""
    bands = [
        pixelwise(
            b.name,
            [b],
            union([b.type, FLOAT]),
            lambda a: np.asarray(np.polynomial.polynomial.polyval(a, coefficients)),
            exact=False,
        )
        for b in image.bands
    ]
    return image.with_bands(bands)


class ImageExpression:
    """An expression over images as a function, called with its arguments by name."""

    def __init__(self, text: str, default: str, free: bool) -> None:
        self._expression = Expression(text)
        self._default, self._free = default, free

    def named(self, arguments: dict[str, Any]) -> Image:
        """Its value."""
        images = {key: to_image(value, "Image.expression") for key, value in arguments.items()}
        default = images.get(self._default)

        def name(word: str) -> Image:
            if word in images:
                return images[word]
            if self._free and default is not None:
                return call("Image.select", {"input": default, "bandSelectors": [word]})
            raise EngineError(f"Image.parseExpression: Unknown variable '{word}'.")

        def select(image: Image, selectors: list[Any]) -> Image:
            picked = selectors or image.names
            return call("Image.select", {"input": image, "bandSelectors": picked})

        def apply(function: str, operands: list[Any]) -> Image:
            if function == "b":
                if default is None:
                    raise EngineError("Image.parseExpression: b() needs a default image.")
                return select(default, operands)
            return _applied(function, operands)

        return to_image(self._expression.evaluate(name, select, apply), "Image.expression")

    def __call__(self, *arguments: Any) -> Image:
        return self.named({self._default: arguments[0]} if arguments else {})


def _applied(function: str, operands: list[Any]) -> Image:
    """A function of images by its name in an expression."""
    if function == "?:":
        test, yes, no = (to_image(operand, "Image.expression") for operand in operands)
        # Masked where the test is, and where the branch that it takes is.
        bottom = call("Image.updateMask", {"image": no, "mask": call("Image.not", {"value": test})})
        top = call("Image.updateMask", {"image": yes, "mask": test})
        return call("Image.blend", {"bottom": bottom, "top": top})
    keys = ("value",) if len(operands) == 1 else ("image1", "image2")
    if len(operands) > 2:
        first, *rest = operands
        return _applied(function, [first, _applied(function, rest)])
    return call(f"Image.{function}", dict(zip(keys, operands, strict=True)))


@register("Image.parseExpression")
def parse_expression(
    expression: str,
    arg_name: str,
    vars_: list[str],
    map_free_vars_to_default_image_bands: bool = False,
) -> ImageExpression:
    """A function of images from its text."""
    del vars_
    return ImageExpression(expression, arg_name, map_free_vars_to_default_image_bands)


@register("Number.expression")
def number_expression(expression: str, vars_: dict[str, Any] | None = None) -> Any:
    """A number from an expression over numbers."""
    known = vars_ or {}

    def name(word: str) -> Any:
        if word not in known:
            raise EngineError(f"Number.expression: Unknown variable '{word}'.")
        return known[word]

    def select(value: Any, selectors: list[Any]) -> Any:
        return value[selectors[0]]

    def apply(function: str, operands: list[Any]) -> Any:
        if function == "?:":
            return operands[1] if operands[0] else operands[2]
        keys = ("input",) if len(operands) == 1 else ("left", "right")
        return call(f"Number.{function}", dict(zip(keys, operands, strict=True)))

    return Expression(expression).evaluate(name, select, apply)
