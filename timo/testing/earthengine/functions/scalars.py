"""Numbers and strings."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.promotion import kind_of
from timo.testing.earthengine.registry import register


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


_BINARY: dict[tuple[str, ...], Callable[[Any, Any], Any]] = {
    ("add",): operator.add,
    ("subtract",): operator.sub,
    ("multiply",): operator.mul,
    ("divide",): _divide,
    ("mod",): _mod,
    ("pow",): _power,
    ("max",): max,
    ("min",): min,
    ("first",): lambda *pair: pair[0],
    ("firstNonZero", "first_nonzero"): lambda a, b: a or b,
    ("atan2",): math.atan2,
    ("hypot",): math.hypot,
    ("lt",): _truth(operator.lt),
    ("lte",): _truth(operator.le),
    ("gt",): _truth(operator.gt),
    ("gte",): _truth(operator.ge),
    ("eq",): _truth(operator.eq),
    ("neq",): _truth(operator.ne),
    ("and",): _truth(lambda a, b: a and b),
    ("or",): _truth(lambda a, b: a or b),
    ("bitwiseAnd", "bitwise_and"): _bits(operator.and_),
    ("bitwiseOr", "bitwise_or"): _bits(operator.or_),
    ("bitwiseXor", "bitwise_xor"): _bits(operator.xor),
    ("leftShift", "left_shift"): _bits(operator.lshift),
    ("rightShift", "right_shift"): _bits(operator.rshift),
}


def _real(function: Callable[[float], float], low: float = -math.inf) -> Callable[[Any], float]:
    """A function of numbers from `low` on; of others it is no number."""
    return lambda a: function(a) if a >= low else math.nan


def _log(function: Callable[[float], float]) -> Callable[[Any], float]:
    return lambda a: function(a) if a > 0 else (-math.inf if a == 0 else math.nan)


def _clamped(low: int, high: int) -> Callable[[Any], int]:
    return lambda a: max(low, min(high, int(a)))


_UNARY: dict[tuple[str, ...], Callable[[Any], Any]] = {
    ("abs",): abs,
    ("sqrt",): _real(math.sqrt, 0),
    ("cbrt",): lambda a: math.copysign(abs(a) ** (1 / 3), a),
    ("exp",): math.exp,
    ("log",): _log(math.log),
    ("log10",): _log(math.log10),
    ("sin",): math.sin,
    ("cos",): math.cos,
    ("tan",): math.tan,
    ("atan",): math.atan,
    ("sinh",): math.sinh,
    ("cosh",): math.cosh,
    ("tanh",): math.tanh,
    ("floor",): math.floor,
    ("ceil",): math.ceil,
    ("round",): lambda a: math.floor(a + 0.5),
    ("signum",): lambda a: (a > 0) - (a < 0),
    ("not",): lambda a: int(not a),
    ("bitwiseNot", "bitwise_not"): lambda a: ~int(a),
    ("bitCount",): lambda a: (int(a) & (2**64 - 1)).bit_count(),
    ("uint8", "toUint8", "byte", "toByte"): _clamped(0, 2**8 - 1),
    ("int8", "toInt8"): _clamped(-(2**7), 2**7 - 1),
    ("uint16", "toUint16"): _clamped(0, 2**16 - 1),
    ("int16", "toInt16", "short", "toShort"): _clamped(-(2**15), 2**15 - 1),
    ("uint32", "toUint32"): _clamped(0, 2**32 - 1),
    ("int32", "toInt32", "int", "toInt"): _clamped(-(2**31), 2**31 - 1),
    ("int64", "toInt64", "long", "toLong"): _clamped(-(2**63), 2**63 - 1),
    ("float", "toFloat", "double", "toDouble"): float,
}


def _register_binary(names: tuple[str, ...], compute: Callable[[Any, Any], Any]) -> None:
    def apply(left: Any, right: Any) -> Any:
        return compute(left, right)

    register(*(f"Number.{name}" for name in names))(apply)


def _register_unary(names: tuple[str, ...], compute: Callable[[Any], Any]) -> None:
    def apply(input_: Any) -> Any:
        return compute(input_)

    register(*(f"Number.{name}" for name in names))(apply)


for _names, _compute in _BINARY.items():
    _register_binary(_names, _compute)
for _names, _function in _UNARY.items():
    _register_unary(_names, _function)


@register("Number.clamp")
def clamp(number: Any, min_: Any, max_: Any) -> Any:
    """Within two ends."""
    return max(min_, min(max_, number))


@register("Number.unitScale")
def unit_scale(number: Any, min_: Any, max_: Any) -> float:
    """Where between two ends it is, 0..1."""
    return _divide(number - min_, max_ - min_)


@register("Number.format")
def format_number(number: Any, pattern: str = "%s") -> str:
    """A number in a pattern of printf."""
    if pattern == "%s":
        return str(int(number) if isinstance(number, float) and number.is_integer() else number)
    whole = pattern.rstrip()[-1:] in {"d", "x", "X", "o"}
    try:
        return pattern % (int(number) if whole else number)
    except (TypeError, ValueError) as error:
        raise EngineError(f"Number.format: Invalid pattern '{pattern}'.") from error


@register("Number.parse")
def parse_number(input_: str, radix: int = 10) -> Any:
    """A number of text."""
    try:
        return int(input_, int(radix)) if radix != 10 else _tidy(float(input_))
    except ValueError as error:
        raise EngineError(f"Number.parse: Cannot parse '{input_}' as a number.") from error


def _tidy(number: float) -> Any:
    return int(number) if number.is_integer() else number


@register("String")
def string(input_: Any) -> str:
    """Text of a string or a number."""
    if isinstance(input_, str):
        return input_
    if isinstance(input_, int | float):
        return format_number(input_)
    raise EngineError(f"String: Cannot convert an object of type {kind_of(input_)} to String.")


@register("String.cat")
def cat(string1: str, string2: str) -> str:
    """Both one after the other."""
    return string1 + string2


@register("String.equals")
def equals(reference: str, target: Any) -> bool:
    """Whether two strings are the same."""
    return reference == target


@register("String.compareTo")
def compare_to(string1: str, string2: str) -> int:
    """Negative, 0 or positive as the first comes before, with or after the second."""
    return (string1 > string2) - (string1 < string2)


@register("String.length")
def length(string: str) -> int:
    """How many characters it has."""
    return len(string)


@register("String.index")
def index(target: str, pattern: str) -> int:
    """Where a part first is, or -1."""
    return target.find(pattern)


@register("String.rindex")
def rindex(target: str, pattern: str) -> int:
    """Where a part last is, or -1."""
    return target.rfind(pattern)


@register("String.slice")
def slice_(string: str, start: int, end: int | None = None) -> str:
    """From one character to another, which is left out."""
    return string[int(start) : None if end is None else int(end)]


@register("String.toLowerCase")
def lower(string: str) -> str:
    """In small letters."""
    return string.lower()


@register("String.toUpperCase")
def upper(string: str) -> str:
    """In capitals."""
    return string.upper()


@register("String.trim")
def trim(string: str) -> str:
    """Without blanks at its ends."""
    return string.strip()


def _pattern(regex: str, flags: str) -> re.Pattern[str]:
    try:
        return re.compile(regex, re.IGNORECASE if "i" in flags else 0)
    except re.error as error:
        raise EngineError(f"String: Invalid regular expression '{regex}'.") from error


@register("String.split")
def split(string: str, regex: str, flags: str = "") -> list[str]:
    """The parts between what matches."""
    return _pattern(regex, flags).split(string) if regex else list(string)


@register("String.replace")
def replace(input_: str, regex: str, replacement: str, flags: str = "") -> str:
    """With the first match replaced, or all with the flag g."""
    template = re.sub(r"\$(\d)", r"\\\1", replacement)
    return _pattern(regex, flags).sub(template, input_, count=0 if "g" in flags else 1)


@register("String.match")
def match(input_: str, regex: str, flags: str = "") -> list[str]:
    """The first match and its groups, or all matches with the flag g."""
    pattern = _pattern(regex, flags)
    if "g" in flags:
        return [found[0] for found in pattern.finditer(input_)]
    found = pattern.search(input_)
    return [found[0], *(group or "" for group in found.groups())] if found else []


@register("String.encodeJSON")
def encode_json(object_: Any) -> str:
    """A value as JSON."""
    return json.dumps(object_)


@register("String.decodeJSON")
def decode_json(string: str) -> Any:
    """The value of JSON."""
    try:
        return json.loads(string)
    except ValueError as error:
        raise EngineError("String.decodeJSON: Invalid JSON.") from error
