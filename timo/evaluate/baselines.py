"""Baselines that any model must beat: the most frequent class, a logistic regression, a random forest.

For a regression: the mean, a ridge regression, a random forest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from timo.errors import TimoError

MAJORITY, MEAN = "majority class", "mean"
LOGISTIC, RIDGE, FOREST = "logistic regression", "ridge regression", "random forest"
# Rows that the baselines learn from, and those by which the strength of the penalty is chosen.
MOST_ROWS, _MOST_TRIED = 20_000, 3_000
_FOLDS = 3
# From strong to weak, each ten times the one before.
_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
_TREES = 100

Fit = Callable[..., Any]


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
        forests = _sklearn("ensemble")
        _, linear, forest = baseline_names(self.regression)
        make = _ridge if self.regression else _logistic
        kind = forests.RandomForestRegressor if self.regression else forests.RandomForestClassifier
        trees = kind(_TREES, max_features="sqrt", min_samples_leaf=2, n_jobs=-1, random_state=seed)
        self.strength = _best_strength(make, x, y, groups, seed)
        with warnings.catch_warnings():
            # Of a fit that ended at its most steps: it is as good as it gets for a baseline.
            warnings.simplefilter("ignore")
            self.fitted = {linear: make(self.strength).fit(x, y), forest: trees.fit(x, y)}


def _logistic(strength: float) -> Any:
    linear = _sklearn("linear_model")
    return _standardised(linear.LogisticRegression(C=strength, max_iter=300, tol=1e-3))


def _ridge(strength: float) -> Any:
    return _standardised(_sklearn("linear_model").Ridge(alpha=1 / strength))


def _standardised(estimator: Any) -> Any:
    scaler = _sklearn("preprocessing").StandardScaler()
    return _sklearn("pipeline").make_pipeline(scaler, estimator)


def _best_strength(make: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return the strength that predicts whole groups best that were held out, of all or of a random part of the rows.

    The stronger penalty of equals; 1 where there are too few groups to hold one out.
    """
    if len(y) > _MOST_TRIED:
        some = np.random.default_rng(seed).choice(len(y), _MOST_TRIED, replace=False)
        x, y, groups = x[some], y[some], groups[some]
    scores = np.zeros(len(_STRENGTHS))
    tried = 0
    for train, test in group_folds(groups, _FOLDS, seed):
        if y.dtype.kind != "f" and len(np.unique(y[train])) < 2:
            continue
        tried += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores += [make(s).fit(x[train], y[train]).score(x[test], y[test]) for s in _STRENGTHS]
    return _STRENGTHS[int(scores.argmax())] if tried else 1.0


def group_folds(
    groups: Int[np.ndarray, " n"], folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to train on and to test on, whole groups in either; none where there is one group."""
    fold = fold_of(groups, folds, seed)
    for number in np.unique(fold):
        if (fold != number).any():
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def fold_of(groups: Int[np.ndarray, " n"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return the fold of each row: the groups are shared out at random, about as many to each fold."""
    names, place = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % folds)[place]


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


def _sklearn(part: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise TimoError(
            "The baselines need scikit-learn: install it with pip install 'timo[train]', or pass baselines=False."
        ) from error
