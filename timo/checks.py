"""Checks of the arguments of public functions, by their annotations, before any work begins.

A public function states what it takes in its signature; `checked` holds callers to it:

    @checked
    def finetune(model: nn.Module, cube: xr.DataArray, *, epochs: Count = 8, seed: Seed | None = 0): ...

NumPy's numbers, and arrays that hold one number, are converted to Python's. What is of another type or out of range is
refused by name, with what was expected and what to do.
"""

from __future__ import annotations

import ast
import collections.abc
import contextlib
import difflib
import functools
import inspect
import math
import operator
import os
import re
import reprlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from timo.errors import TimoError, warn

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Limits of a number, for `Annotated[float, Range(least=0)]`.

    `least` and `most` are allowed themselves, `above` and `below` are not; `nan` allows NaN and the infinities,
    `infinite` infinity within the limits.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    nan: bool = False
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        if math.isnan(value):
            return self.nan
        if math.isinf(value) and not (self.nan or self.infinite):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        # What no machine can count to is not worth a word.
        most = None if self.most == sys.maxsize else self.most
        if self.least is not None and most is not None:
            return f"from {self.least:g} to {most:.10g}"
        limits = {"above": self.above, "below": self.below, "of at most": most}
        words = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
        if self.least is not None:
            words.insert(0, f"of {self.least:g} or more")
        return " and ".join(words)


# Kinds of options that occur everywhere.
Count = Annotated[int, Range(least=1, most=sys.maxsize)]
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
AnyNumber = Annotated[float, Range(nan=True)]
PathLike = str | os.PathLike[str]


def whole(value: Any, name: str, *, least: float | None = None, most: float | None = None) -> int:
    """Return a whole number within limits as Python's; 8.0 is one."""
    return int(check(value, Annotated[int, Range(least, most)], name))


def number(
    value: Any,
    name: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite number within limits as Python's."""
    return float(check(value, Annotated[float, Range(least, most, above, below)], name))


def choice(value: Any, name: str, choices: Iterable[Any]) -> Any:
    """Return a value that is one of the choices."""
    return check(value, Literal[tuple(choices)], name)


def is_number(value: Any) -> bool:
    """Return whether it is one finite real number, not a boolean."""
    value = plain(value)
    real = isinstance(value, Real) and not isinstance(value, bool)
    # Whole numbers may be larger than any float.
    return real and (isinstance(value, Integral) or math.isfinite(value))


def plain(value: Any) -> Any:
    """Return NumPy's scalars, and arrays and tensors without dimensions, as Python's; all else as it is."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    # A date of NumPy is better than the nanoseconds that `item` makes of it.
    if getattr(getattr(value, "dtype", None), "kind", "f") in "mM":
        return value
    try:
        held = value.item()
    except (TypeError, ValueError, RuntimeError):  # a tensor without data, an xarray of objects
        return value
    return held if isinstance(held, bool | int | float | str) else value


def nearest(name: Any, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Return the most similar of the known names by its letters and digits; an empty string where none is.

    `others` has other words for them, as {"aoi": "bbox region"}.
    """
    if not isinstance(name, str):
        return ""
    words = {
        _letters(word): one for one in known for word in (*(others or {}).get(one, "").split(), one)
    }
    near = difflib.get_close_matches(_letters(name), words, 1, cutoff=0.7)
    return words[near[0]] if near else ""


def did_you_mean(name: Any, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Return " Did you mean ...?" for the `nearest` name; an empty string where none is."""
    near = nearest(name, known, others)
    return f" Did you mean {near!r}?" if near else ""


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def described(value: Any) -> str:
    """Return a value in few words, for a message."""
    if isinstance(value, str | bool | int | float | type(None)):
        return reprlib.repr(value)
    kind = type(value).__name__
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            return f"{kind} of shape {tuple(int(size) for size in shape)}"
        if isinstance(value, type) or callable(value):
            return getattr(value, "__qualname__", kind)
        return f"{reprlib.repr(value)} ({kind})"
    except Exception:  # noqa: BLE001 - a message about a broken object must not fail itself
        return kind


@overload
def checked(function: type[T], /) -> type[T]: ...


@overload
def checked(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def checked(**renamed: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def checked(function: Callable[P, R] | None = None, /, **renamed: str) -> Any:
    """Check the arguments of each call by the annotations of the function, and convert NumPy's numbers.

    It takes a function, a method, an `__init__` or a dataclass; parameters without an annotation, and those of `Any`,
    are not checked. What is missing, unknown, of another type or out of range raises a `TimoError`. `renamed` maps the
    former name of an option to its name now: the former one works, with a `DeprecationWarning`.
    """
    if function is None:
        return lambda function: _checked(function, renamed)
    if isinstance(function, type):
        function.__init__ = _checked(function.__init__, renamed)  # type: ignore[misc]
        return function
    return _checked(function, renamed)


def _checked(function: Callable[P, R], renamed: Mapping[str, str]) -> Callable[P, R]:
    signature = inspect.signature(function)
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for old in renamed.keys() & kwargs.keys():
            new = renamed[old]
            if new in kwargs:
                raise TimoError(f"{old}= is the former name of {new}=: give {new}= alone.")
            warn(f"{old}= is called {new}= now.", DeprecationWarning)
            kwargs[new] = kwargs.pop(old)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TimoError(_misfit(name, signature, kwargs, error)) from None
        hints = hints_of(function)
        for option, value in bound.arguments.items():
            parameter, hint = signature.parameters[option], hints.get(option, Any)
            if parameter.kind is parameter.VAR_POSITIONAL:
                bound.arguments[option] = tuple(check(one, hint, option) for one in value)
            elif parameter.kind is not parameter.VAR_KEYWORD and value is not parameter.default:
                bound.arguments[option] = check(value, hint, option, parameter.default)
        return function(*bound.args, **bound.kwargs)

    return call


def _misfit(
    name: str, signature: inspect.Signature, given: Mapping[str, Any], error: TypeError
) -> str:
    taken = [option for option in signature.parameters if option != "self"]
    hint = "".join(did_you_mean(option, taken) for option in given if option not in taken)
    return f"{name}(): {error}.{hint} It takes: {', '.join(taken) or 'nothing'}."


def check(value: Any, hint: Any, name: str, default: Any = inspect.Parameter.empty) -> Any:
    """Return a value that is of an annotation's kind, with NumPy's numbers converted; messages call it `name`.

    Text in an `Annotated` says where such an object comes from: it ends the message, or else the `default` of the
    option does.
    """
    try:
        return _fit(value, hint)
    except _MisfitError as misfit:
        where = f" ({misfit})" if str(misfit) else ""
        told = f"{name} must be {phrase(hint)}; got {described(value)}{where}"
        raise TimoError(f"{told}.{_remedy(value, hint, name, default)}") from None


class _MisfitError(Exception):
    """A value is not of the kind asked for; where it lies in a container."""


def _fit(value: Any, hint: Any) -> Any:  # noqa: PLR0911 - one line a kind of annotation
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty or isinstance(hint, TypeVar):
        return value
    if hint is None or hint is type(None):
        return _accept(value, value is None)
    if origin is Annotated:
        limits = next((part for part in arguments[1:] if isinstance(part, Range)), None)
        return _fit_number(value, arguments[0], limits) if limits else _fit(value, arguments[0])
    if hint in (int, float):
        return _fit_number(value, hint, Range())
    if hint in (bool, str):
        simple = plain(value)
        return _accept(simple, isinstance(simple, hint))
    if origin is Literal:
        simple = plain(value)
        return _accept(
            simple, any(type(simple) is type(one) and simple == one for one in arguments)
        )
    if origin in (Union, types.UnionType):
        return _fit_any(value, arguments)
    if origin is collections.abc.Callable or hint is Callable:
        return _accept(value, callable(value))
    if origin is type:
        return _accept(value, isinstance(value, type))
    if arguments and _is_container(origin):
        return _fit_container(value, origin, arguments)
    return _accept(value, isinstance(value, origin or hint))


def _is_container(kind: Any) -> bool:
    """Return whether it is a kind of list or mapping whose items are checked; of an array only the type is."""
    return isinstance(kind, type) and issubclass(kind, Iterable) and not hasattr(kind, "__array__")


def _accept(value: Any, fits: bool) -> Any:
    if not fits:
        raise _MisfitError
    return value


def _fit_number(value: Any, kind: Any, limits: Range) -> Any:
    value = plain(value)
    _accept(value, isinstance(value, Real) and not isinstance(value, bool))
    try:
        found = float(value)
    except OverflowError:
        found = math.inf if value > 0 else -math.inf
    _accept(value, found in limits and (kind is float or value == int(value)))
    # A float of its own where no whole number of NumPy is so large.
    return (
        int(value) if kind is int or (isinstance(value, Integral) and abs(found) < 2**53) else found
    )


def _fit_any(value: Any, hints: tuple[Any, ...]) -> Any:
    where = ""
    for hint in hints:
        try:
            return _fit(value, hint)
        except _MisfitError as misfit:
            where = where or str(misfit)
    raise _MisfitError(where)


def _fit_container(value: Any, kind: type, hints: tuple[Any, ...]) -> Any:
    """Check what a container holds; arrays of one dimension are taken for sequences."""
    if issubclass(kind, Mapping):
        _accept(value, isinstance(value, kind))
        held = {_fit(key, hints[0]): _fit(item, hints[1]) for key, item in value.items()}
        pairs = (*held, *held.values()), (*value, *value.values())
        return value if all(map(operator.is_, *pairs)) else held
    if getattr(value, "ndim", 0) == 1 and isinstance(value, Iterable):
        value = list(value)
    # An array without dimensions cannot be looked through.
    _accept(value, getattr(value, "ndim", 1) != 0)
    wanted = (list, tuple) if kind in (list, tuple) else kind
    unordered = isinstance(value, set | frozenset | Mapping) and kind is collections.abc.Sequence
    _accept(
        value, isinstance(value, wanted) and not isinstance(value, str | bytes) and not unordered
    )
    if not isinstance(value, collections.abc.Collection):
        return value  # an iterator is used up by looking at it
    if kind is tuple and hints[-1] is not ...:
        _accept(value, len(value) == len(hints))
        return tuple(map(_fit, value, hints))
    found = []
    for position, item in enumerate(value):
        try:
            found.append(_fit(item, hints[0]))
        except _MisfitError:
            raise _MisfitError(f"number {position} is {described(item)}") from None
    if kind is not tuple and all(map(operator.is_, found, value)):
        return value
    return found if isinstance(value, list) and kind is not tuple else tuple(found)


def phrase(hint: Any) -> str:  # noqa: PLR0911 - one line a kind of annotation
    """Return an annotation in plain English, for a message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = next((str(part) for part in arguments[1:] if isinstance(part, Range)), "")
        return f"{phrase(arguments[0])} {limits}".rstrip()
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(phrase, arguments)))
    if origin is collections.abc.Callable or hint is Callable:
        return "a function"
    kind = origin or hint
    if arguments and isinstance(kind, type) and issubclass(kind, Mapping):
        return f"a mapping of {' to '.join(map(_many, arguments))}"
    if arguments and kind is tuple and ... not in arguments:
        return f"({', '.join(map(phrase, arguments))})"
    if arguments and _is_container(kind):
        return f"a list of {_many(arguments[0])}"
    if not isinstance(kind, type):
        return str(hint)
    if kind is os.PathLike:
        return "a path"
    package = kind.__module__.partition(".")[0]
    return f"{'an' if package[0] in 'aeiox' else 'a'} {package}.{kind.__name__}"


_SIMPLE = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Any: "anything",
    type(None): "None",
}


def _many(hint: Any) -> str:
    words = phrase(hint)
    return re.sub(r"^(?:a|an) (.*?)(number|object|list)\b", r"\1\2s", words)


def _remedy(value: Any, hint: Any, name: str, default: Any) -> str:
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, _MisfitError):
            return f" Write {name}={_fit(ast.literal_eval(value), hint)!r}, without quotes."
    kinds = (hint, *get_args(hint))
    choices = [one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    if near := did_you_mean(value, [one for one in choices if isinstance(one, str)]):
        return near
    parts = [part for one in kinds if get_origin(one) is Annotated for part in get_args(one)]
    for source in (part for part in parts if isinstance(part, str)):
        return f" {source}"
    held = {one.__name__ for one in (*kinds, *parts) if isinstance(one, type)}
    for kind, source in _SOURCES.items():
        if kind in held:
            return f" {source}"
    # An option whose default depends on others is written `= ...`.
    if default is inspect.Parameter.empty or default is ...:
        return ""
    return f" Leave {name} out for its default, {described(default)}."


# Where the objects come from that the functions take.
_SOURCES = {
    "DataArray": "timo.open_cube opens a cube; xarray.DataArray(array, dims=...) makes one of an array.",
    "Dataset": "timo.predict gives the maps of a model.",
    "Module": "timo.load_model gives a model.",
    "Tensor": "torch.from_numpy makes a tensor of an array.",
}


@lru_cache(maxsize=1024)
def hints_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a function or class by parameter."""
    return get_type_hints(owner, include_extras=True)
