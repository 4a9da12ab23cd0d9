"""Baselines that any model must beat: the most frequent class, a logistic regression, a random forest.

For a regression: the mean, a ridge regression, a random forest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from timo.training.regression import best_strength, fit, logistic, ridge, sklearn

MAJORITY, MEAN = "majority class", "mean"
LOGISTIC, RIDGE, FOREST = "logistic regression", "ridge regression", "random forest"
# Rows that the baselines learn from.
MOST_ROWS = 20_000
_TREES = 100


def baseline_names(regression: bool) -> tuple[str, ...]:
    """Return the names of the baselines, in the order of the table."""
    return (MEAN, RIDGE, FOREST) if regression else (MAJORITY, LOGISTIC, FOREST)


class Baselines:
    """The baselines, fitted on features (n, f), which may hold NaN, and the truth (n,): class numbers, or values.

    `groups` are kept whole where the strength of the penalty is chosen by cross-validation.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "n f"],
        truth: np.ndarray,
        groups: Int[np.ndarray, " n"],
        seed: int = 0,
    ) -> None:
        self.regression = truth.dtype.kind == "f"
        known = np.isfinite(features)
        count = known.sum(axis=0)
        total = np.where(known, features, 0).sum(axis=0, dtype="float64")
        # A band that was never seen in training says nothing: the same value everywhere.
        self.means = (total / np.maximum(count, 1)).astype("float32")
        filled = self._filled(features)
        self.rows = len(truth)
        self.constant = truth.mean() if self.regression else _most_frequent(truth)
        self.strength = float("nan")
        self.fitted: dict[str, Any] = {}
        if self.regression or len(np.unique(truth)) > 1:
            self._fit(filled, truth, groups, seed)

    def predict(self, features: Float[np.ndarray, "n f"]) -> dict[str, np.ndarray]:
        """Return the prediction of each baseline: class numbers or values, (n,)."""
        filled = self._filled(features)
        dtype = "float64" if self.regression else "int64"
        first, *others = baseline_names(self.regression)
        constant = np.full(len(features), self.constant, dtype)
        found = {first: constant}
        for name in others:
            held = self.fitted.get(name)
            found[name] = constant if held is None else held.predict(filled).astype(dtype)
        return found

    def _filled(self, features: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(features), features, self.means)

    def _fit(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> None:
        forests = sklearn("ensemble")
        _, linear, forest = baseline_names(self.regression)
        make = ridge if self.regression else logistic
        kind = forests.RandomForestRegressor if self.regression else forests.RandomForestClassifier
        trees = kind(_TREES, max_features="sqrt", min_samples_leaf=2, n_jobs=-1, random_state=seed)
        self.strength = best_strength(make, x, y, groups, seed)
        models = {linear: make(self.strength), forest: trees}
        self.fitted = {name: fit(model, x, y) for name, model in models.items()}


def thin(
    truth: np.ndarray, most: int, rng: np.random.Generator, least: int = 50
) -> Int[np.ndarray, " kept"]:
    """Return at most about `most` random rows, in order, with at least `least` of each class that has as many."""
    if len(truth) <= most:
        return np.arange(len(truth))
    order = rng.permutation(len(truth))
    kept = order[:most]
    if truth.dtype.kind != "f":
        rare = [
            order[truth[order] == number][:least]
            for number, count in zip(*np.unique(truth, return_counts=True), strict=True)
            if count * most < least * len(truth) or count <= least
        ]
        kept = np.concatenate([kept, *rare])
    return np.unique(kept)


def _most_frequent(truth: Int[np.ndarray, " n"]) -> int:
    numbers, counts = np.unique(truth, return_counts=True)
    return int(numbers[counts.argmax()])
