"""A Gaussian at every point, from its neighbours: the local mean, and a sparse covariance by the graphical lasso."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from timo.checks import NotNegative, Range, checked
from timo.errors import TimoError, warn
from timo.geostat.clustering.layout import Metric, Rows, rows_of, standardised

Array = NDArray[np.float64]
Neighbours = Annotated[int, Range(least=2)]  # a covariance takes two values
# Sweeps over the coordinates of one column of the lasso; it is met again in the next sweep over the columns.
INNER_SWEEPS = 20
# Share of the mean variance that stands in for the covariance where the graphical lasso has no answer.
SHRINKAGE = 0.1
# A variance below this share of the mean over all points counts as none.
CONSTANT = 1e-10


class Gaussians(NamedTuple):
    """Means (n, d), covariances (n, d, d), and which are a fallback (n,)."""

    means: np.ndarray
    covariances: np.ndarray
    fallback: np.ndarray


@checked
def local_gaussians(
    features: xr.DataArray,
    *,
    k: Neighbours = 30,
    alpha: NotNegative = 0.01,
    feature: str | None = None,
    metric: Metric | None = None,
    standardise: bool = True,
) -> xr.Dataset:
    """Fit a Gaussian to the k nearest points around each point, its covariance by the graphical lasso.

    Parameters
    ----------
    features, k, feature, metric, standardise
        As of `find_regions`.
    alpha : float
        Penalty of the off-diagonal elements of the inverse covariance, in the unit of the (standardised) variance.

    Returns
    -------
    xarray.Dataset
        Over the points that have all features: `mean` (point, feature), `covariance` (point, feature, feature_b) and
        `fallback` (point) bool, true where a shrunk covariance stands for a degenerate fit.

    Raises
    ------
    TimoError
        If there are fewer points than neighbours.

    Warns
    -----
    RuntimeWarning
        If fits were degenerate: (1 - s) S + s tr(S)/d I with s = 0.1 stands for them (Ledoit & Wolf 2004).

    References
    ----------
    Wang et al. (2024), MC-GTA, ICML; Friedman, Hastie & Tibshirani (2008), Biostatistics 9(3).
    """
    rows = rows_of(features, feature, metric)
    fitted = fit_gaussians(rows, k, alpha, standardise=standardise)
    names = features[rows.feature].values
    return xr.Dataset(
        {
            "mean": (("point", "feature"), fitted.means),
            "covariance": (("point", "feature", "feature_b"), fitted.covariances),
            "fallback": ("point", fitted.fallback),
        },
        coords={"feature": names, "feature_b": names, "cell": ("point", np.flatnonzero(rows.kept))},
        attrs={"k": k, "alpha": alpha, "standardised": int(standardise)},
    )


def fit_gaussians(rows: Rows, k: int, alpha: float, *, standardise: bool) -> Gaussians:
    """Fit local Gaussians; the options are those of `local_gaussians`."""
    if len(rows) < k:
        raise TimoError(
            f"{len(rows)} points with all features are too few for k = {k} neighbours. Take a smaller k."
        )
    values = standardised(rows.values) if standardise else rows.values
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
        warn(
            f"{fallback.sum()} of {len(rows)} local covariances had no graphical lasso fit ({(~sound).sum()} with a "
            f"feature constant among the {k} neighbours); shrunk covariances stand for them. A larger alpha or k, or "
            "fewer and less alike features (principal components), help.",
            RuntimeWarning,
        )
    return Gaussians(means, covariances, fallback)


def shrunk(covariances: np.ndarray, floor: float) -> np.ndarray:
    """Draw covariances (n, d, d) towards a multiple of the identity: always positive definite."""
    d = covariances.shape[1]
    mean = np.maximum(np.einsum("nii->n", covariances) / d, floor)
    return (1 - SHRINKAGE) * covariances + SHRINKAGE * mean[:, None, None] * np.eye(d)


def graphical_lasso(
    covariances: Array, alpha: float, *, max_sweeps: int = 100, tol: float = 1e-4
) -> tuple[Array, NDArray[np.bool_]]:
    r"""Fit covariances with sparse inverses P: least tr(S P) - log det P + alpha * sum of the off-diagonal abs(P).

    Block coordinate descent over the columns (Friedman, Hastie & Tibshirani 2008), each column a lasso by coordinate
    descent; every step is taken for all matrices that have not converged, together.

    Of empirical covariances (n, d, d) with a positive diagonal, the inverses of P, and which have converged (n,): the
    others are not positive definite, or have a duality gap above `tol` after `max_sweeps` over all columns.
    """
    n, d = covariances.shape[:2]
    result, converged = covariances.copy(), np.zeros(n, bool)
    if d == 1 or n == 0:
        return result, np.ones(n, bool)
    # The coefficients start at zero, the covariance a little towards its diagonal, which makes it definite.
    off = ~np.eye(d, dtype=bool)
    result[:, off] *= 0.95
    coefficients = np.zeros((d, n, d))
    active = np.arange(n)
    for _ in range(max_sweeps):
        empirical, w, b = covariances[active], result[active], coefficients[:, active]
        for column in range(d):
            b[column] = _lasso(w, empirical[:, column], b[column], column, alpha)
            fitted = np.einsum("nde,ne->nd", w, b[column])
            fitted[:, column] = empirical[:, column, column]
            w[:, column] = w[:, :, column] = fitted
        result[active], coefficients[:, active] = w, b
        done = abs(_gap(empirical, w, alpha)) < tol
        converged[active[done]] = True
        active = active[~done]
        if not len(active):
            break
    return result, converged


def _lasso(w: Array, target: Array, coefficients: Array, column: int, alpha: float) -> Array:
    """Minimise 1/2 b' W b - s' b + alpha |b|_1 over all coordinates but `column`, whose coefficient stays zero."""
    b = coefficients.copy()
    others = [k for k in range(b.shape[1]) if k != column]
    for _ in range(INNER_SWEEPS):
        moved = 0.0
        for k in others:
            diagonal = w[:, k, k]
            rest = target[:, k] - np.einsum("nd,nd->n", w[:, k], b) + diagonal * b[:, k]
            new = np.sign(rest) * np.maximum(abs(rest) - alpha, 0) / diagonal
            moved = max(moved, float(abs(new - b[:, k]).max()))
            b[:, k] = new
        if moved < 1e-5:  # well below the tolerance of the gap
            break
    return b


def _gap(empirical: Array, w: Array, alpha: float) -> Array:
    """Return the duality gap of each fit; infinite where the covariance is no longer positive definite."""
    d = w.shape[1]
    definite: NDArray[np.bool_] = np.asarray(np.isfinite(w).all(axis=(1, 2)))
    safe = np.where(definite[:, None, None], w, np.eye(d))
    values, vectors = np.linalg.eigh(safe)
    definite &= values[:, 0] > 0
    inverse = (vectors / np.where(definite[:, None], values, 1)[:, None, :]) @ vectors.transpose(
        0, 2, 1
    )
    penalty = abs(inverse).sum(axis=(1, 2)) - abs(np.einsum("nii->ni", inverse)).sum(axis=1)
    gap = np.einsum("nij,nji->n", empirical, inverse) - d + alpha * penalty
    return np.where(definite, gap, np.inf)
