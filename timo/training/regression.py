"""The regression of single pixels: fitted at once on labelled pixels, its strength chosen by cross-validation."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from timo.errors import TimoError
from timo.models.pixel import FLOOR, PixelModel
from timo.models.tasks import Segmenter, TiMo
from timo.training.answers import is_labelled, last_label, seen
from timo.training.windows import ChipOptions, Windows

# From strong to weak, each ten times the one before.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Rows by which the strength of the penalty is chosen, and folds of whole groups of them.
_MOST_TRIED, _FOLDS = 3_000, 3
# Chips that the regression is fitted on, and its rows and values at most.
_CHIPS, _MOST_ROWS, _MOST_VALUES = 96, 100_000, 2_000_000

Fit = Callable[..., Any]


def fit_regression(model: Segmenter, windows: Windows, seed: int) -> torch.nn.Module | None:
    """Fit what of a model is a regression of single pixels, in place, and return it; None where nothing is."""
    pixels = model.pixel if isinstance(model, TiMo) else model
    if not isinstance(pixels, PixelModel) or pixels.regression is None:
        return None
    fit_pixels(pixels, windows, seed)
    return pixels.regression


def fit_pixels(model: PixelModel, windows: Windows, seed: int) -> None:
    """Fit a regression of single pixels, in place, on chips of labelled pixels as they are drawn for training.

    Of classes a logistic regression in which every class counts the same, of values a ridge regression. Without the
    artificial changes and gaps of a training, which are meant for what sees more than a pixel.
    """
    options = ChipOptions(
        windows.options.size,
        windows.options.dates,
        windows.options.min_clear,
        rotate=False,
        hide=0,
        splice=0,
    )
    drawn = Windows(
        windows.places,
        min(windows.length, _CHIPS),
        options,
        seed,
        part=windows.part,
        split=windows.split,
        unit=windows.unit,
    )
    rows = [rows_of(model, **drawn[number]) for number in range(len(drawn))]
    features = np.concatenate([read for read, _, _ in rows])
    truth = np.concatenate([given for _, given, _ in rows])
    grounds = [
        _grounds(known, drawn.corner(number), options.size or sys.maxsize)
        for number, (_, _, known) in enumerate(rows)
    ]
    groups = np.unique(np.concatenate(grounds), axis=0, return_inverse=True)[1].ravel()
    # What is the same everywhere, as a sensor that saw nothing, does not count.
    varying = int((np.ptp(features, axis=0) > 0).sum()) if len(features) else 0
    most = min(_MOST_ROWS, _MOST_VALUES // max(varying, 1))
    if len(truth) > most:
        some = np.random.default_rng(seed).choice(len(truth), most, replace=False)
        features, truth, groups = features[some], truth[some], groups[some]
    fit_rows(model, features, truth, groups, seed)


def _grounds(
    known: Bool[np.ndarray, "*t h w"], corner: tuple[int, int, int], side: int
) -> Int[np.ndarray, "n 3"]:
    """Return which ground each row of a chip is of: its place, and the square there, `side` pixels wide.

    Chips overlap: only whole squares can be held out for the choice of the penalty.
    """
    place, *corners = corner
    inside = np.argwhere(known)[:, -2:]
    squares = (inside + corners) // side
    return np.insert(squares, 0, place, axis=1)


def rows_of(
    model: PixelModel,
    x: torch.Tensor,
    dates: torch.Tensor,
    valid: torch.Tensor | None,
    labels: torch.Tensor,
    **_: Any,
) -> tuple[Float[np.ndarray, "n f"], np.ndarray, Bool[np.ndarray, "*t h w"]]:
    """Return what a model reads of each labelled and observed pixel of a chip, the labels, and where they are.

    At each date, or of the series, whose label is the last.
    """
    features, valid = model.features(x[None], dates[None], None if valid is None else valid[None])
    observed, given = seen(valid)[0], labels
    if not model.config.per_date:
        observed, given = observed.any(dim=0), last_label(labels[None])[0]
    known = observed & is_labelled(given)
    return features[0].movedim(-3, -1)[known].numpy(), given[known].numpy(), known.numpy()


def fit_rows(
    model: PixelModel,
    features: Float[np.ndarray, "n f"],
    truth: np.ndarray,
    groups: Int[np.ndarray, " n"],
    seed: int = 0,
) -> None:
    """Fit a regression on rows of features, in place; without rows of two classes it stays as it is."""
    values = model.config.task == "regression"
    if not len(truth) or (not values and len(np.unique(truth)) < 2):
        return
    if values:
        truth = (truth - model.config.target_mean) / model.config.target_std
    # What is the same everywhere, as a sensor that saw nothing, changes nothing, to the bit.
    varies = np.ptp(features, axis=0) > 0
    if not varies.any():
        return
    features, make = features[:, varies], ridge if values else balanced
    fitted = fit(make(best_strength(make, features, truth, groups, seed)), features, truth)
    scaler, linear = fitted[0], fitted[-1]
    slopes = np.atleast_2d(linear.coef_) / scaler.scale_
    offsets = np.atleast_1d(linear.intercept_) - slopes @ scaler.mean_
    if values:
        low = (1 - model.config.interval) / 2
        errors = np.quantile(truth - fitted.predict(features), (low, 1 - low))
        slopes = slopes.repeat(model.config.outputs, axis=0)
        offsets = offsets + np.array([0.0, *errors][: model.config.outputs])
    else:
        slopes, offsets = _of_all_classes(slopes, offsets, linear.classes_, model.config.outputs)
    slopes = _spread(slopes, varies)
    with torch.no_grad():
        assert model.regression is not None
        weight, bias = model.regression.weight, model.regression.bias
        weight.copy_(torch.from_numpy(slopes).to(weight)[..., None, None])
        assert bias is not None
        bias.copy_(torch.from_numpy(offsets).to(bias))
    model.has_learnt = True


def _spread(slopes: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Return the slopes of all features; zero of those that were left out."""
    every = np.zeros((len(slopes), len(varies)))
    every[:, varies] = slopes
    return every


def _of_all_classes(
    slopes: np.ndarray, offsets: np.ndarray, present: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of all classes: of two there is their difference; a class without labels is most unlikely."""
    if len(present) == 2:
        slopes, offsets = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-1, 1]) * offsets[0] / 2
    whole = np.zeros((count, slopes.shape[1])), np.full(count, offsets.min() + 2 * FLOOR)
    whole[0][present], whole[1][present] = slopes, offsets
    return whole


def logistic(strength: float, **options: Any) -> Any:
    """Return a logistic regression of standardised features."""
    linear = sklearn("linear_model")
    return standardised(linear.LogisticRegression(C=strength, max_iter=300, tol=1e-3, **options))


def balanced(strength: float) -> Any:
    """Return a logistic regression in which every class counts the same."""
    return logistic(strength, class_weight="balanced")


def ridge(strength: float) -> Any:
    """Return a ridge regression of standardised features."""
    return standardised(sklearn("linear_model").Ridge(alpha=1 / strength))


def standardised(estimator: Any) -> Any:
    """Return an estimator of standardised features."""
    scaler = sklearn("preprocessing").StandardScaler()
    return sklearn("pipeline").make_pipeline(scaler, estimator)


def fit(estimator: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """Fit an estimator, without a word of a fit that ended at its most steps: it is good enough for a baseline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


def best_strength(make: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return the strength that predicts whole groups best that were held out, of all or of a random part of the rows.

    The stronger penalty of equals; 1 where there are too few groups to hold one out.
    """
    if len(y) > _MOST_TRIED:
        some = np.random.default_rng(seed).choice(len(y), _MOST_TRIED, replace=False)
        x, y, groups = x[some], y[some], groups[some]
    scores = np.zeros(len(STRENGTHS))
    tried = 0
    for train, test in group_folds(groups, _FOLDS, seed):
        if y.dtype.kind != "f" and len(np.unique(y[train])) < 2:
            continue
        tried += 1
        scores += [fit(make(s), x[train], y[train]).score(x[test], y[test]) for s in STRENGTHS]
    return STRENGTHS[int(scores.argmax())] if tried else 1.0


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


def sklearn(part: str) -> Any:
    """Return a module of scikit-learn.

    Raises
    ------
    TimoError
        If it is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise TimoError(
            "Regressions and forests need scikit-learn: install it with pip install 'timo[train]', or pass "
            "baselines=False where they are baselines."
        ) from error
