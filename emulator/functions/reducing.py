"""Making reducers, and applying them to lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import EngineError
from ..reducers import SIMPLE, Output, Reducer, percentile, real
from ..registry import register


def _register_simple(name: str, output: Output) -> None:
    def make(num_inputs: int = 1) -> Reducer:
        if num_inputs != 1:
            raise EngineError(f"Reducer.{name}: the emulator knows one input only.")
        return Reducer((output,))

    register(f"Reducer.{name}")(make)


for _name, _output in SIMPLE.items():
    _register_simple(_name, _output)


@register("Reducer.minMax")
def min_max() -> Reducer:
    """Make a reducer to the least and the greatest value."""
    return Reducer((SIMPLE["min"], SIMPLE["max"]))


@register("Reducer.percentile")
def percentiles(percentiles: list[Any], output_names: list[str] | None = None) -> Reducer:
    """Make a reducer to percentiles, named p25 and so on unless names are given."""
    names = output_names or [f"p{share:g}" for share in percentiles]
    pairs = zip(percentiles, names, strict=True)
    return Reducer(tuple(Output(name, percentile(share), real) for share, name in pairs))


@register("Reducer.toList")
def to_list(tuple_size: int | None = None, num_optional: int = 0) -> Reducer:
    """Make a reducer that lists all values."""
    if tuple_size not in (None, 0, 1) or num_optional:
        raise EngineError("Reducer.toList: the emulator knows single values only; use repeat().")
    return Reducer((Output("list", None, lambda kind: kind, list),))


def _histogram(values: list[Any]) -> dict[str, int]:
    """Count how often each value comes, in their order."""
    keys = sorted(set(values))
    return {_label(key): values.count(key) for key in keys}


def _label(key: Any) -> str:
    return f"{key:g}" if isinstance(key, float) and key.is_integer() else str(key)


@register("Reducer.frequencyHistogram")
def frequency_histogram() -> Reducer:
    """Make a reducer that counts how often each value comes."""
    return Reducer((Output("histogram", None, lambda kind: kind, _histogram),))


@register("Reducer.repeat")
def repeat(reducer: Reducer, count: int) -> Reducer:
    """Make a reducer of several inputs, each on its own."""
    return replace(reducer, repeats=int(count))


@register("Reducer.combine")
def combine(
    reducer1: Reducer, reducer2: Reducer, output_prefix: str = "", shared_inputs: bool = False
) -> Reducer:
    """Make one reducer of two with the same inputs."""
    if not shared_inputs:
        raise EngineError("Reducer.combine: the emulator knows sharedInputs=True only.")
    second = [replace(out, name=output_prefix + out.name) for out in reducer2.outputs]
    names = set(reducer1.names)
    unique = [replace(o, name=o.name + "_1") if o.name in names else o for o in second]
    return Reducer((*reducer1.outputs, *unique), reducer1.repeats)


def _aggregate(name: str) -> Callable[..., Any]:
    def apply(collection: Any, property_: str) -> Any:
        values = [element.properties.get(property_) for element in collection.elements]
        reducer = Reducer((SIMPLE[name],))
        return reducer.of_list(values)[SIMPLE[name].name]

    return apply


for _name, _own in {
    "first": "first",
    "count": "count",
    "min": "min",
    "max": "max",
    "mean": "mean",
    "sum": "sum",
    "sample_sd": "sampleStdDev",
    "total_sd": "stdDev",
}.items():
    register(f"AggregateFeatureCollection.{_name}")(_aggregate(_own))


@register("AggregateFeatureCollection.histogram")
def aggregate_histogram(collection: Any, property_: str) -> dict[str, int]:
    """Count how often each value of a property comes."""
    values = [element.properties.get(property_) for element in collection.elements]
    return _histogram([value for value in values if value is not None])


@register("List.reduce")
def reduce_list(list_: list[Any], reducer: Reducer) -> Any:
    """Reduce a list to a result, or to a dictionary of several."""
    found = reducer.of_list(list(list_))
    return next(iter(found.values())) if len(found) == 1 else found
