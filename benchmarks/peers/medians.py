"""Classical models of monthly medians: what a practitioner without a GPU would do, and often do well with."""

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from sklearn.ensemble import RandomForestClassifier

from timo.training.regression import best_strength, fit, logistic

# Pixels to a side of the squares that are held out together, to choose the strength of a regression.
SQUARE = 20


def monthly_medians(cube: xr.DataArray) -> Float[np.ndarray, "h w f"]:
    """Median of each band in each calendar month that the cube has a date in; NaN where a month saw nothing."""
    months = cube.groupby("time.month").median("time")
    features: np.ndarray = (
        months.stack(feature=("month", "band")).transpose("y", "x", "feature").values
    )
    return features


def classify(
    features: Float[np.ndarray, "h w f"],
    labels: Int[np.ndarray, "h w"],
    *,
    kind: str = "forest",
    trees: int = 300,
    seed: int = 0,
    jobs: int | None = None,
) -> Int[np.ndarray, "h w"]:
    """Train a "forest" or a logistic "regression" on the labelled pixels (0 or more), and answer for every pixel.

    A missing feature takes the median of the training pixels. The strength of a regression is chosen by
    cross-validation, whole squares held out.
    """
    train = labels >= 0
    known = np.isfinite(features[train]).any(axis=0)
    if not known.any():
        # Nothing was seen of any training pixel: the commonest class is all that the labels tell.
        return np.full(labels.shape, np.bincount(labels[train]).argmax())
    features = features[..., known]
    filled = np.where(np.isfinite(features), features, np.nanmedian(features[train], axis=0))
    if kind == "forest":
        model = RandomForestClassifier(trees, n_jobs=jobs, random_state=seed)
        model.fit(filled[train], labels[train])
    else:
        rows, columns = np.nonzero(train)
        squares = rows // SQUARE * labels.shape[1] + columns // SQUARE
        strength = best_strength(logistic, filled[train], labels[train], squares, seed)
        model = fit(logistic(strength), filled[train], labels[train])
    predicted: np.ndarray = model.predict(filled.reshape(-1, filled.shape[-1]))
    return predicted.reshape(labels.shape)
