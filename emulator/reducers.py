"""Reducers: from many values to one or a few, over lists, collections and regions alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import EngineError
from .pixeltype import BOOLEAN, DOUBLE, FLOAT, PixelType

# A result (...) and where it is valid (...); numpy's scalars where there is one value only.
Reduced = tuple[Any, Any]
# Of values (n, ...) and where they are valid (n, ...).
Stacked = Callable[[np.ndarray, np.ndarray], Reduced]
Listed = Callable[[list[Any]], Any]
Typing = Callable[[PixelType], PixelType]


@dataclass(frozen=True)
class Output:
    """One result of a reducer: of numbers of the same shape, and of a list of anything."""

    name: str
    stacked: Stacked | None
    typing: Typing
    listed: Listed | None = None


@dataclass(frozen=True)
class Reducer:
    """What is computed from one input, or several reducers side by side.

    Parameters
    ----------
    outputs : tuple of Output
        The results.
    repeats : int
        How many inputs there are, each reduced on its own; 0: as many as there are bands, of one reducer.
    """

    outputs: tuple[Output, ...]
    repeats: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the results."""
        return [output.name for output in self.outputs]

    def of_list(self, values: list[Any]) -> dict[str, Any]:
        """Reduce a list; null is left out."""
        present = [value for value in values if value is not None]
        return {output.name: _of_list(output, present) for output in self.outputs}

    def of_columns(self, columns: Sequence[list[Any]]) -> dict[str, Any]:
        """Reduce the columns of a table; of several repeats, to a list of each result."""
        if not self.repeats:
            if len(columns) != 1:
                raise EngineError(
                    f"Collection.reduceColumns: Need 1 input for a reducer with 1 input, got {len(columns)}. "
                    "Use repeat()."
                )
            return self.of_list(columns[0])
        if len(columns) != self.repeats:
            raise EngineError(
                f"Collection.reduceColumns: The reducer has {self.repeats} inputs, but there are "
                f"{len(columns)} columns."
            )
        each = [self.of_list(column) for column in columns]
        return {name: [result[name] for result in each] for name in self.names}


def _of_list(output: Output, values: list[Any]) -> Any:
    if output.listed is not None:
        return output.listed(values)
    assert output.stacked is not None
    try:
        column = np.array(values, dtype="float64")
    except (TypeError, ValueError) as error:
        raise EngineError(
            f"Reducer.{output.name}: Cannot reduce a value that is no number."
        ) from error
    result, valid = output.stacked(column, np.ones(column.shape, dtype=bool))
    return tidy(float(result)) if valid else None


def tidy(number: float) -> float | int:
    """Return a whole number as such."""
    return int(number) if float(number).is_integer() else float(number)


def _same(kind: PixelType) -> PixelType:
    return kind


def real(kind: PixelType) -> PixelType:
    """Return single precision of single, else double."""
    return FLOAT if kind == FLOAT else DOUBLE


def _fixed(kind: PixelType) -> Typing:
    return lambda _: kind


def _highest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _min(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return np.where(valid, values, _highest(values.dtype)).min(
        axis=0, initial=_highest(values.dtype)
    ), valid.any(axis=0)


def _max(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return np.where(valid, values, _lowest(values.dtype)).max(
        axis=0, initial=_lowest(values.dtype)
    ), valid.any(axis=0)


def _sum(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return np.where(valid, values, 0).sum(axis=0, dtype="float64"), valid.any(axis=0)


def _count(values: np.ndarray, valid: np.ndarray) -> Reduced:
    del values
    # A pixel of which nothing is valid has the count 0, and is masked: there is nothing to reduce there.
    return valid.sum(axis=0), valid.any(axis=0)


def _mean(values: np.ndarray, valid: np.ndarray) -> Reduced:
    total, some = _sum(values, valid)
    return total / np.maximum(valid.sum(axis=0), 1), some


def _moment(root: bool, sample: bool) -> Stacked:
    def reduce(values: np.ndarray, valid: np.ndarray) -> Reduced:
        count = valid.sum(axis=0)
        mean, some = _mean(values, valid)
        squares = np.where(valid, (values - mean) ** 2, 0).sum(axis=0, dtype="float64")
        variance = squares / np.maximum(count - sample, 1)
        return np.sqrt(variance) if root else variance, some & (count > sample)

    return reduce


def _sorted(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Sort the valid values, the others behind them."""
    return np.sort(np.where(valid, values, _highest(values.dtype)), axis=0)


def _at(ordered: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(ordered, index[None].astype("int64"), axis=0)[0]


def percentile(share: float) -> Stacked:
    """Make a reduction to a percentile, between the two nearest values by distance."""

    def reduce(values: np.ndarray, valid: np.ndarray) -> Reduced:
        count = valid.sum(axis=0)
        if not len(values):
            return np.zeros(count.shape), count > 0
        ordered = _sorted(values, valid)
        place = np.maximum(count - 1, 0) * (share / 100)
        low, high = np.floor(place), np.ceil(place)
        below, above = (_at(ordered, index).astype("float64") for index in (low, high))
        # Where nothing is valid all is infinite, and so no number.
        with np.errstate(invalid="ignore"):
            found = below + (place - low) * (above - below)
        return np.where(count > 0, found, 0), count > 0

    return reduce


def _mode(values: np.ndarray, valid: np.ndarray) -> Reduced:
    """Reduce to the most frequent value; of equally frequent ones the least."""
    some = valid.any(axis=0)
    best = np.zeros(some.shape, dtype=values.dtype)
    most = np.zeros(some.shape, dtype="int64")
    for value in np.unique(values[valid]):
        votes = ((values == value) & valid).sum(axis=0)
        best, most = np.where(votes > most, value, best), np.maximum(votes, most)
    return best, some


def _first(values: np.ndarray, valid: np.ndarray) -> Reduced:
    some = valid.any(axis=0)
    return (
        (_at(values, valid.argmax(axis=0)), some) if len(values) else (np.zeros(some.shape), some)
    )


def _last(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return _first(values[::-1], valid[::-1])


def _all(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return (~valid | (values != 0)).all(axis=0), valid.any(axis=0)


def _any(values: np.ndarray, valid: np.ndarray) -> Reduced:
    return (valid & (values != 0)).any(axis=0), valid.any(axis=0)


def _least(values: list[Any]) -> Any:
    return min(values) if values else None


def _greatest(values: list[Any]) -> Any:
    return max(values) if values else None


_COUNT = PixelType("int", 0, 2**32 - 1)
SIMPLE: Mapping[str, Output] = {
    "min": Output("min", _min, _same, _least),
    "max": Output("max", _max, _same, _greatest),
    "sum": Output("sum", _sum, real),
    "mean": Output("mean", _mean, real),
    "median": Output("median", percentile(50), real),
    "mode": Output("mode", _mode, _same),
    "count": Output("count", _count, _fixed(_COUNT), len),
    "first": Output("first", _first, _same, lambda v: v[0] if v else None),
    "firstNonNull": Output("first", _first, _same, lambda v: v[0] if v else None),
    "last": Output("last", _last, _same, lambda v: v[-1] if v else None),
    "lastNonNull": Output("last", _last, _same, lambda v: v[-1] if v else None),
    "allNonZero": Output("all", _all, _fixed(BOOLEAN), lambda v: int(all(v))),
    "anyNonZero": Output("any", _any, _fixed(BOOLEAN), lambda v: int(any(v))),
    "stdDev": Output("stdDev", _moment(True, False), real),
    "variance": Output("variance", _moment(False, False), real),
    "sampleStdDev": Output("sampleStdDev", _moment(True, True), real),
}
