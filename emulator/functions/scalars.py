"""Numbers and strings."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from ..errors import EngineError
from ..registry import register, register_all
from .promotion import kind_of


def _divide(a: Any, b: Any) -> float:
    return a / b if b else 0.0


def _mod(a: Any, b: Any) -> Any:
    if not b:
        return 0
    return math.fmod(a, b) if isinstance(a, float) or isinstance(b, float) else int(math.fmod(a, b))


def _power(a: Any, b: Any) -> Any:
    try:
        found = a**b
    except (ZeroDivisionError, OverflowError):
        return math.inf
    return math.nan if isinstance(found, complex) else found


def _bits(operation: Callable[[int, int], int]) -> Callable[[Any, Any], int]:
    return lambda a, b: operation(int(a), int(b))


def _truth(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], int]:
    return lambda a, b: int(bool(compare(a, b)))


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": _divide,
    "mod": _mod,
    "pow": _power,
    "max": max,
    "min": min,
    "lt": _truth(operator.lt),
    "lte": _truth(operator.le),
    "gt": _truth(operator.gt),
    "gte": _truth(operator.ge),
    "eq": _truth(operator.eq),
    "neq": _truth(operator.ne),
    "and": _truth(lambda a, b: a and b),
    "or": _truth(lambda a, b: a or b),
    "bitwiseAnd": _bits(operator.and_),
    "bitwiseOr": _bits(operator.or_),
    "leftShift": _bits(operator.lshift),
    "rightShift": _bits(operator.rshift),
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": abs,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
    "exp": math.exp,
    "log": lambda a: math.log(a) if a > 0 else (-math.inf if a == 0 else math.nan),
    "log10": lambda a: math.log10(a) if a > 0 else (-math.inf if a == 0 else math.nan),
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda a: math.floor(a + 0.5),
    "not": lambda a: int(not a),
    "toByte": lambda a: max(0, min(255, int(a))),
    "int": int,
    "toInt": int,
    "float": float,
    "toFloat": float,
    "double": float,
    "toDouble": float,
}


def _of_two(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda left, right: compute(left, right)


def _of_one(compute: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda input_: compute(input_)


register_all({f"Number.{name}": _of_two(compute) for name, compute in _BINARY.items()})
register_all({f"Number.{name}": _of_one(compute) for name, compute in _UNARY.items()})


@register("Number.format")
def format_number(number: Any, pattern: str = "%s") -> str:
    """Write a number in a pattern of printf."""
    if pattern == "%s":
        return str(int(number) if isinstance(number, float) and number.is_integer() else number)
    whole = pattern.rstrip()[-1:] in {"d", "x", "X", "o"}
    try:
        return pattern % (int(number) if whole else number)
    except (TypeError, ValueError) as error:
        raise EngineError(f"Number.format: Invalid pattern '{pattern}'.") from error


@register("Number.parse")
def parse_number(input_: str, radix: int = 10) -> Any:
    """Read a number from text."""
    try:
        number = int(input_, int(radix)) if radix != 10 else float(input_)
    except ValueError as error:
        raise EngineError(f"Number.parse: Cannot parse '{input_}' as a number.") from error
    return int(number) if float(number).is_integer() else number


@register("String")
def string(input_: Any) -> str:
    """Return a string, or a number as one."""
    if isinstance(input_, str):
        return input_
    if isinstance(input_, int | float):
        return format_number(input_)
    raise EngineError(f"String: Cannot convert an object of type {kind_of(input_)} to String.")


register_all(
    {
        "String.cat": lambda string1, string2: string1 + string2,
        "String.equals": lambda reference, target: reference == target,
        "String.length": lambda string: len(string),
        "String.toLowerCase": lambda string: string.lower(),
        "String.toUpperCase": lambda string: string.upper(),
        "String.slice": lambda string, start, end=None: string[
            int(start) : None if end is None else int(end)
        ],
    }
)


def _pattern(regex: str, flags: str) -> re.Pattern[str]:
    try:
        return re.compile(regex, re.IGNORECASE if "i" in flags else 0)
    except re.error as error:
        raise EngineError(f"String: Invalid regular expression '{regex}'.") from error


@register("String.split")
def split(string: str, regex: str, flags: str = "") -> list[str]:
    """Return the parts between what matches."""
    return _pattern(regex, flags).split(string) if regex else list(string)


@register("String.replace")
def replace(input_: str, regex: str, replacement: str, flags: str = "") -> str:
    """Replace the first match, or all with the flag g."""
    template = re.sub(r"\$(\d)", r"\\\1", replacement)
    return _pattern(regex, flags).sub(template, input_, count=0 if "g" in flags else 1)
