"""The algorithms that the emulator knows, and how their arguments are checked and promoted."""

from __future__ import annotations

import builtins
import functools
import inspect
import json
import keyword
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import EmulatorError, EngineError

Implementation = Callable[..., Any]
# Arguments that only tell the service how to compute (precision, tiles, buckets, weights), where nothing here differs.
# Geometries are measured on the ellipsoid whatever `proj` is.
IGNORED = {
    *(
        "even_odd",
        "geodesic",
        "geodesics",
        "geometry_key",
        "magnitude",
        "max_buckets",
        "max_error",
        "max_raw",
    ),
    *("min_bucket_width", "normalize", "parallel_scale", "proj", "tile_scale", "version"),
}
_UTC = ("UTC", "GMT", "Etc/UTC", "Z")
_KNOWN: dict[str, Implementation] = {}
_PROMOTIONS: dict[str, Callable[[Any, str], Any]] = {}


def register(*names: str) -> Callable[[Implementation], Implementation]:
    """Make a function the implementation of these algorithms.

    Its parameters have the names of the algorithm's arguments in snake case, with an underscore behind where Python
    has the name already (`from_`, `min_`).
    """

    def remember(function: Implementation) -> Implementation:
        _KNOWN.update(dict.fromkeys(names, function))
        return function

    return remember


def register_all(functions: Mapping[str, Implementation]) -> None:
    """Register algorithms that one expression says: name -> function, its parameters named as `register` asks."""
    _KNOWN.update(functions)


def promotes(*types: str) -> Callable[[Callable[[Any, str], Any]], Callable[[Any, str], Any]]:
    """Make a function of (value, name of the algorithm) the promotion to an argument's type."""

    def remember(function: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        _PROMOTIONS.update(dict.fromkeys(types, function))
        return function

    return remember


def known() -> list[str]:
    """Return names of the algorithms that the emulator evaluates, sorted."""
    return sorted(_KNOWN)


@functools.cache
def shipped(name: str) -> Path:
    """A file that earthengine-api ships beside its own tests.

    Raises
    ------
    EmulatorError
        If it is not there.
    """
    spec = find_spec("ee")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / "tests" / name).is_file():
            return path
    raise EmulatorError(
        f"earthengine-api, or its file ee/tests/{name}, is not installed. The emulator reads the description of the "
        "service from it: pip install earthengine-api."
    )


@functools.cache
def signatures() -> dict[str, dict[str, Any]]:
    """Name of an algorithm -> what the service says of it."""
    listed = json.loads(shipped("algorithms.json").read_text(encoding="utf-8"))["algorithms"]
    return {entry["name"].removeprefix("algorithms/"): entry for entry in listed}


def python_name(argument: str) -> str:
    """Return the parameter that stands for an argument."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", argument).lower()
    return name + "_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def call(name: str, arguments: Mapping[str, Any]) -> Any:
    """Apply an algorithm to evaluated arguments.

    Raises
    ------
    EngineError
        If there is none of that name, or if an argument is missing, too much, or of the wrong kind.
    """
    function, types, parameters = _described(name)
    for argument in arguments:
        if types and argument not in types:
            raise EngineError(f"{name}: Unrecognized argument: {argument}")
    given = {
        python_name(argument): _promoted(value, types.get(argument, "Object"), name)
        for argument, value in arguments.items()
        if value is not None
    }
    for argument, required in parameters.items():
        if required and argument not in given:
            raise EngineError(
                f"{name}: Parameter '{argument.rstrip('_')}' is required and may not be null."
            )
    if (zone := given.pop("time_zone", "UTC")) not in _UTC:
        raise EngineError(f"Date: the emulator knows no time zone but UTC; got '{zone}'.")
    given = {key: value for key, value in given.items() if key in parameters or key not in IGNORED}
    if surplus := [argument for argument in given if argument not in parameters]:
        raise EngineError(
            f"{name}: the emulator does not know the argument '{surplus[0]}' of this algorithm."
        )
    try:
        return function(**given)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Expressions are not typed: a value of the wrong kind shows only where it is used.
        raise EngineError(f"{name}: Invalid argument: {error}.") from error


@functools.cache
def _described(name: str) -> tuple[Implementation, dict[str, str], dict[str, bool]]:
    """The implementation, the types of the arguments, and which parameters are required."""
    listed = signatures().get(name)
    if name not in _KNOWN:
        if listed is None:
            raise EngineError(f"{name}: no such algorithm.")
        raise EngineError(
            f"{name}: the emulator does not know this algorithm; Earth Engine does. The emulator knows the first "
            "steps of Earth Engine: ee_emulator.registry.known() lists them."
        )
    types = {a["argumentName"]: a["type"] for a in (listed or {}).get("arguments", [])}
    found = inspect.signature(_KNOWN[name]).parameters
    required = {key: p.default is inspect.Parameter.empty for key, p in found.items()}
    return _KNOWN[name], types, required


def _promoted(value: Any, kind: str, name: str) -> Any:
    promotion = _PROMOTIONS.get(kind.partition("<")[0])
    return promotion(value, name) if promotion else value
