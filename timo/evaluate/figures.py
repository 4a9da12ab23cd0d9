"""Accuracy from sums: of a confusion matrix or of errors, with intervals by resampling the units they come from.

All figures are functions of sums over independent units (parcels, sites, blocks, places). So a bootstrap draw is a
weighted sum of the units' sums, and a thousand draws are one product of matrices (Efron & Tibshirani 1993, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Figures = dict[str, np.ndarray]
DRAWS = 1000
LEVEL = 0.95
# Beyond this number, units are merged at random: the spread of the sums stays, the draws stay affordable.
_MOST_UNITS = 20_000
# Counts of draws and units that are held at once.
_AT_ONCE = 4_000_000
# Sums of a regression, in this order.
ERROR_SUMS = ("n", "error", "absolute", "squared", "truth", "truth_squared", "inside")


def class_figures(confusion: Float[np.ndarray, "... k k"]) -> Figures:
    """Return figures of each class, (..., k), from confusion matrices with rows = reference, columns = predicted.

    ``precision`` is the user's, ``recall`` the producer's accuracy. What cannot be said is NaN: the recall of a class
    without reference, the precision of one that was never predicted, F1 and IoU of one that is neither.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    reference, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, reference),
        "f1": _ratio(2 * hits, reference + predicted),
        "iou": _ratio(hits, reference + predicted - hits),
        "support": reference,
        "predicted": predicted,
    }


def class_summary(confusion: Float[np.ndarray, "... k k"], share: float = math.nan) -> Figures:
    """Return overall accuracy and the means of F1 and IoU: over the classes with a reference, and over all.

    Over all, a class without a reference counts 0, so that this mean is the `share` of the classes that have one times
    the other. A draw without a rare class does not lower it: its share is that of the whole.
    """
    of = class_figures(confusion)
    present = of["support"] > 0
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1)
    found = {"overall_accuracy": _ratio(hits, confusion.sum(axis=(-2, -1)))}
    share_here = present.mean(axis=-1) if math.isnan(share) else share
    for name in ("f1", "iou"):
        total = (np.nan_to_num(of[name]) * present).sum(axis=-1)
        found[f"mean_{name}"] = _ratio(total, present.sum(axis=-1))
        found[f"mean_{name}_all"] = found[f"mean_{name}"] * share_here
    return found


def error_summary(sums: Float[np.ndarray, "... 7"]) -> Figures:
    """Return RMSE, MAE, R2, bias (predicted minus reference) and the share inside the interval from `ERROR_SUMS`."""
    n, error, absolute, squared, truth, truth_squared, inside = np.moveaxis(sums, -1, 0)
    spread = truth_squared - _ratio(truth**2, n)
    return {
        "rmse": np.sqrt(_ratio(squared, n)),
        "mae": _ratio(absolute, n),
        "r2": 1 - _ratio(squared, spread),
        "bias": _ratio(error, n),
        "inside": _ratio(inside, n),
    }


def resample(
    sums: Float[np.ndarray, "units m"], figures: Callable[[np.ndarray], Figures], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the 95 % interval of each figure, (2, ...), by drawing the units with replacement.

    `figures` makes them from sums (..., m). NaN where there are fewer than two units.
    """
    rng = np.random.default_rng(seed)
    units = len(sums)
    if units < 2:
        return {name: np.full((2, *v.shape), np.nan) for name, v in figures(sums.sum(0)).items()}
    if units > _MOST_UNITS:
        sums, units = _merged(sums, rng), _MOST_UNITS
    drawn = np.concatenate(
        [_counts(some, units, rng) @ sums for some in _chunks(max(_AT_ONCE // units, 1))]
    )
    tail = (1 - LEVEL) / 2 * 100
    return {name: _percentiles(v, (tail, 100 - tail)) for name, v in figures(drawn).items()}


def error_sums(
    truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, "n outputs"]
) -> Float[np.ndarray, "n 7"]:
    """Return the `ERROR_SUMS` of single values; predictions are (value) or (value, low, high)."""
    error = predicted[:, 0] - truth
    inside = np.full(len(truth), np.nan)
    if predicted.shape[1] == 3:
        inside = (predicted[:, 1] <= truth) & (truth <= predicted[:, 2])
    return np.column_stack(
        [np.ones_like(truth), error, np.abs(error), error**2, truth, truth**2, inside]
    )


def _counts(draws: int, units: int, rng: np.random.Generator) -> Int[np.ndarray, "draws units"]:
    """Return how often each unit is drawn."""
    return np.stack(
        [np.bincount(rng.integers(units, size=units), minlength=units) for _ in range(draws)]
    )


def _chunks(most: int) -> list[int]:
    return [min(most, DRAWS - begun) for begun in range(0, DRAWS, most)]


def _merged(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    merged = np.zeros((_MOST_UNITS, sums.shape[1]))
    np.add.at(merged, rng.permutation(len(sums)) % _MOST_UNITS, sums)
    return merged


def _percentiles(values: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """Return percentiles over the draws in which the figure can be said; NaN where it never can."""
    known = np.isfinite(values).any(axis=0)
    found = np.full((2, *values.shape[1:]), np.nan)
    found[:, known] = np.nanpercentile(values[:, known], at, axis=0)
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole != 0, part / whole, np.nan)
