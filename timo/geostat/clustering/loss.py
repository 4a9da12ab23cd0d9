"""The loss of MC-GTA: how unlike two local Gaussians are, and more so if they are nearby."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from timo.errors import TimoError
from timo.geostat.dissimilarity import generalized_variogram
from timo.geostat.fitting import fit_model
from timo.geostat.models import VariogramModel

# Share of the sill at which two places count as unrelated, and lags on which that is looked for.
REACHED = 0.95
LAGS = 1000
# A squared distance between Gaussians of (standardised) values that is rounding.
TINY = 1e-20


class Loss(NamedTuple):
    """Losses (n, n), the variogram of the squared distances, and its range in metres or days."""

    values: np.ndarray
    model: VariogramModel
    rho: float


def mcgta_loss(
    w2: np.ndarray,
    distance: np.ndarray,
    *,
    beta: float = 1.0,
    delta: float = 0.0,
    max_lag: float | None = None,
) -> Loss:
    r"""Penalised loss of all pairs.

    .. math:: L_{ij} = W_{ij} + \beta\, 1[d_{ij} < \rho] \max(0, W_{ij} - \gamma(d_{ij}) + \delta)

    with W the squared Wasserstein distance, gamma a stable model with nugget fitted to the mean of W per lag, and
    rho the first lag of a sorted grid at which gamma has reached 95 % of its sill.

    Parameters
    ----------
    w2 : array (n, n)
        Squared distances between the local Gaussians.
    distance : array (n, n)
        Metres, or days.
    beta : float
        Weight of the penalty; 0 leaves `w2` as it is.
    delta : float
        Margin, as a share of the sill: how far below the curve a pair is penalised already.
    max_lag : float, optional
        Farthest distance of the variogram; default half of the largest.

    Returns
    -------
    Loss
        Symmetric, 0 on the diagonal, never below `w2`.

    Raises
    ------
    TimoError
        If all Gaussians are the same, or an option makes no sense.

    References
    ----------
    Wang et al. (2024), MC-GTA: Metric-Constrained Model-Based Clustering using Goodness-of-fit Tests with
    Autocorrelations, ICML.
    """
    if not (0 <= beta < np.inf and np.isfinite(delta)):
        raise TimoError(f"beta must be 0 or more and delta finite; got {beta} and {delta}.")
    if not w2.max(initial=0) > TINY:
        raise TimoError(
            "All points have the same local Gaussian: there is nothing to tell regions apart by."
        )
    farthest = distance.max() / 2 if max_lag is None else max_lag
    variogram = generalized_variogram(distance, w2, max_lag=farthest)
    with warnings.catch_warnings():
        # A range beyond the farthest lag does no harm: rho ends there.
        warnings.filterwarnings(
            "ignore", message="The semivariance still rises", category=RuntimeWarning
        )
        model = fit_model(variogram, "stable", weights="pairs")
    rho = range_of(model, float(farthest))
    if beta == 0:
        return Loss(w2, model, rho)
    loss = w2.copy()
    near = np.nonzero(distance < rho)
    loss[near] += beta * np.maximum(w2[near] - model(distance[near]) + delta * model.sill, 0)
    np.fill_diagonal(loss, 0)
    return Loss(loss, model, rho)


def range_of(model: VariogramModel, max_lag: float) -> float:
    """First of the sorted lags up to `max_lag` at which the model has 95 % of its sill, else `max_lag`."""
    lags = np.linspace(0, max_lag, LAGS + 1)[1:]
    reached = model(lags) >= REACHED * model.sill
    return float(lags[reached.argmax()]) if reached.any() else max_lag
