"""A Gaussian at every point, from its neighbours: the local mean and a sparse local covariance."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from timo.errors import TimoError
from timo.geostat.clustering.layout import Rows, rows_of, standardised
from timo.geostat.clustering.sparse_inverse import graphical_lasso

# Share of the mean variance that stands in for the covariance where the graphical lasso has no answer.
SHRINKAGE = 0.1
# A variance below this share of the mean over all points counts as none.
CONSTANT = 1e-10


class Gaussians(NamedTuple):
    """Means (n, d), covariances (n, d, d), and which are a fallback (n,)."""

    means: np.ndarray
    covariances: np.ndarray
    fallback: np.ndarray


def local_gaussians(
    features: xr.DataArray,
    *,
    k: int = 30,
    alpha: float = 0.01,
    feature: str | None = None,
    metric: str | None = None,
    standardise: bool = True,
) -> xr.Dataset:
    """Gaussian of the k nearest points around each point, its covariance by the graphical lasso.

    Parameters
    ----------
    features : xarray.DataArray
        A map (feature, y, x), points (point, feature) or a series (time, feature); see `find_regions`.
    k : int
        Neighbours, the point itself counted; nearest in metres, or in time.
    alpha : float
        Penalty of the off-diagonal elements of the inverse covariance, in the unit of the (standardised) variance.
    feature : str, optional
        Dim of the features.
    metric : {"space", "time"}, optional
        Default: what the dims say.
    standardise : bool
        Scale each feature to mean 0 and standard deviation 1 over all points first.

    Returns
    -------
    xarray.Dataset
        Over the points that have all features: `mean` (point, feature), `covariance` (point, feature, feature_b) and
        `fallback` (point) bool, true where the fit was degenerate and a shrunk covariance stands for it.

    Raises
    ------
    TimoError
        If there are fewer points than neighbours, or an option makes no sense.

    Warns
    -----
    RuntimeWarning
        Once, if some fits were degenerate: (1 - s) S + s tr(S)/d I with s = 0.1 stands for them (Ledoit & Wolf 2004).

    References
    ----------
    Wang et al. (2024), MC-GTA, ICML; Friedman, Hastie & Tibshirani (2008), Biostatistics 9(3).
    """
    rows = rows_of(features, feature, metric)
    fitted = fit_gaussians(
        rows, standardised(rows.values) if standardise else rows.values, k, alpha
    )
    names = (
        features[rows.feature].values
        if rows.feature in features.coords
        else np.arange(rows.values.shape[1])
    )
    return xr.Dataset(
        {
            "mean": (("point", "feature"), fitted.means),
            "covariance": (("point", "feature", "feature_b"), fitted.covariances),
            "fallback": ("point", fitted.fallback),
        },
        coords={"feature": names, "feature_b": names, "cell": ("point", np.flatnonzero(rows.kept))},
        attrs={"k": k, "alpha": alpha, "standardised": int(standardise)},
    )


def fit_gaussians(rows: Rows, values: np.ndarray, k: int, alpha: float) -> Gaussians:
    """Local Gaussians of (n, d) values; the options are those of `local_gaussians`."""
    if k < 2 or alpha < 0:  # a covariance takes two values
        raise TimoError(f"k must be at least 2 and alpha at least 0; got {k} and {alpha}.")
    if len(rows) < k:
        raise TimoError(
            f"{len(rows)} points with all features are too few for k = {k} neighbours. Take a smaller k."
        )
    _, neighbours = cKDTree(rows.coordinates).query(rows.coordinates, k=k)
    around = values[neighbours]
    means = around.mean(axis=1)
    around -= means[:, None]
    empirical = around.transpose(0, 2, 1) @ around / k
    floor = CONSTANT * max(float(values.var(axis=0).mean()), np.finfo(float).tiny)
    sound = np.einsum("nii->ni", empirical).min(axis=1) > floor
    covariances = shrunk(empirical, floor)
    fitted, converged = graphical_lasso(empirical[sound], alpha)
    good = np.flatnonzero(sound)[converged]
    covariances[good] = fitted[converged]
    fallback = np.ones(len(rows), bool)
    fallback[good] = False
    if fallback.any():
        warnings.warn(
            f"{fallback.sum()} of {len(rows)} local covariances had no graphical lasso fit ({(~sound).sum()} with a "
            f"feature constant among the {k} neighbours); shrunk covariances stand for them. A larger alpha or k, or "
            "fewer and less alike features (principal components), help.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Gaussians(means, covariances, fallback)


def shrunk(covariances: np.ndarray, floor: float) -> np.ndarray:
    """Covariances (n, d, d) drawn towards a multiple of the identity: always positive definite."""
    d = covariances.shape[1]
    mean = np.maximum(np.einsum("nii->n", covariances) / d, floor)
    return (1 - SHRINKAGE) * covariances + SHRINKAGE * mean[:, None, None] * np.eye(d)
