"""Regions whose features vary together in the same way: MC-GTA on maps, points and series.

Wang et al. (2024), MC-GTA: Metric-Constrained Model-Based Clustering using Goodness-of-fit Tests with Autocorrelations,
ICML.
"""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from timo.checks import Count, NotNegative, Positive, checked
from timo.errors import TimoError
from timo.geostat.clustering.density import NOISE, choose_labels, dbscan, join_noise
from timo.geostat.clustering.gaussians import Neighbours, fit_gaussians
from timo.geostat.clustering.layout import Metric, Rows, rows_of
from timo.geostat.clustering.wasserstein import gaussian_w2
from timo.geostat.fitting import fit_model
from timo.geostat.models import VariogramModel
from timo.geostat.variograms import generalized_variogram

# Share of the sill at which two places count as unrelated, and number of lags that are tried.
REACHED = 0.95
LAGS = 1000
# A squared distance between Gaussians of (standardised) values that is rounding.
TINY = 1e-20


@checked
def find_regions(
    features: xr.DataArray,
    *,
    k: Neighbours = 30,
    alpha: NotNegative = 0.01,
    beta: NotNegative = 1.0,
    delta: float = 0.0,
    eps: Positive | Literal["auto"] = "auto",
    n_regions: Count | None = None,
    min_samples: Count | None = None,
    metric: Metric | None = None,
    feature: str | None = None,
    standardise: bool = True,
    noise: Literal["keep", "join"] = "keep",
    max_points: Count = 4000,
) -> xr.DataArray:
    """Find regions that differ in how their features behave, not only in their mean.

    Each point gets the Gaussian of its neighbourhood (`local_gaussians`); two points are as unlike as these are far
    apart (`gaussian_w2`, squared), and more so if they lie within the range of the generalised variogram and are less
    alike than is usual at their distance; DBSCAN on these losses makes the regions, which may lie in several parts.

    Parameters
    ----------
    features : xarray.DataArray
        A map (feature, y, x), points (point, feature) with coordinates x and y, or one series (time, feature), dims in
        any order. Points with a missing feature take no part.
    k : int
        Nearest points (in metres or in time, the point itself counted) that make a point's Gaussian.
    alpha : float
        As of `local_gaussians`.
    beta, delta : float
        Weight of the penalty of unlike neighbours, and its margin as a share of the variogram's sill.
    eps : float or "auto"
        Radius of DBSCAN, a loss. "auto": of 60 quantiles of the loss to the `min_samples`-th nearest, the one with the
        largest mean silhouette, noise counted as 0.
    n_regions : int, optional
        Instead of `eps`: of these radii one that gives this number, the smallest region as large as possible.
    min_samples : int, optional
        Points within `eps`, itself counted, that make a core point. Default `k`: neighbourhoods overlap, and with
        fewer a chain of half-shared neighbourhoods leads from one region into the next.
    metric : {"space", "time"}, optional
        Where neighbours are. Default: by the dims.
    feature : str, optional
        Dim of the features. Default: the first of "feature", "band", "component", "variable" and "time".
    standardise : bool
        Scale each feature to mean 0 and standard deviation 1 first. Without it they should have one unit.
    noise : {"keep", "join"}
        "join" gives each point that is in no region to the one to which its mean loss is lowest.
    max_points : int
        Refuse more: each pair of points takes some 60 bytes and 1 to 10 microseconds (5 to 10 features), 4000 points
        1 GB and up to a minute or two.

    Returns
    -------
    xarray.DataArray
        int64 labels on the features' grid; 0 is the largest region, -1 none: noise, or a missing feature. attrs:
        `range` (metres or days), `sill` and `nugget` of the generalised variogram, `n_regions`, `noise` (share of the
        points) and the options.

    Raises
    ------
    TimoError
        If there are too many points, or fewer than neighbours, or if all behave the same.

    Warns
    -----
    RuntimeWarning
        As `local_gaussians`, or if the variogram shows no range or `n_regions` cannot be reached.
    """
    if n_regions is not None and eps != "auto":
        raise TimoError(f"Give either eps or n_regions; got {eps} and {n_regions}.")
    rows = rows_of(features, feature, metric)
    _check_size(rows, max_points)
    samples = k if min_samples is None else min_samples
    gaussians = fit_gaussians(rows, k, alpha, standardise=standardise)
    if samples > len(rows):
        raise TimoError(
            f"min_samples must be at most the {len(rows)} points; got {samples}. Take fewer."
        )
    w2 = gaussian_w2(gaussians.means, gaussians.covariances, squared=True)
    loss = mcgta_loss(w2, rows.distances(), beta=beta, delta=delta)
    if isinstance(eps, str):
        labels = choose_labels(loss.values, samples, n_regions)
    else:
        labels = dbscan(loss.values, eps, samples)
    share = float((labels == NOISE).mean())
    if noise == "join":
        labels = join_noise(loss.values, labels)
    regions = rows.on_grid(labels, NOISE).rename("region")
    regions.attrs = {key: rows.grid.attrs[key] for key in ("crs",) if key in rows.grid.attrs}
    return regions.assign_attrs(
        long_name="region (-1: none)",
        n_regions=int(labels.max()) + 1,
        noise=share,
        range=loss.rho,
        sill=loss.model.sill,
        nugget=loss.model.nugget,
        k=k,
        alpha=alpha,
        beta=beta,
        delta=delta,
        min_samples=samples,
    )


def _check_size(rows: Rows, max_points: int) -> None:
    n = len(rows)
    if n > max_points:
        factor = int(np.ceil(np.sqrt(n / max_points)))
        remedy = (
            f"features.coarsen(y={factor}, x={factor}, boundary='trim').mean()"
            if rows.grid.dims == ("y", "x")
            else f"features.isel({rows.grid.dims[0]}=slice(None, None, {int(np.ceil(n / max_points))}))"
        )
        raise TimoError(
            f"{n} points are more than max_points = {max_points}: all pairs are held in memory, some "
            f"{60 * n * n / 1e9:.1f} GB. Coarsen or sample, as {remedy}, or raise max_points."
        )


class Loss(NamedTuple):
    """Losses (n, n), the variogram of the squared distances, and its range in metres or days."""

    values: np.ndarray
    model: VariogramModel
    rho: float


def mcgta_loss(
    w2: np.ndarray, distance: np.ndarray, *, beta: float = 1.0, delta: float = 0.0
) -> Loss:
    r"""Compute the penalised loss of all pairs: how unlike their Gaussians are, and more so if they are nearby.

    .. math:: L_{ij} = W_{ij} + \beta\, 1[d_{ij} < \rho] \max(0, W_{ij} - \gamma(d_{ij}) + \delta)

    with W the squared Wasserstein distance, gamma a stable model with nugget fitted to the mean of W per lag, and
    rho the first lag of a sorted grid at which gamma has reached 95 % of its sill. `beta` and `delta` are those of
    `find_regions`, delta as a share of the sill. The loss is 0 on the diagonal, and never below `w2`.
    """
    if not w2.max(initial=0) > TINY:
        raise TimoError(
            "All points have the same local Gaussian, and regions cannot differ. Take features that vary."
        )
    farthest = float(distance.max()) / 2
    variogram = generalized_variogram(distance, w2)
    with warnings.catch_warnings():
        # A range beyond the farthest lag does no harm: rho ends there.
        warnings.filterwarnings(
            "ignore", message="The semivariance still rises", category=RuntimeWarning
        )
        model = fit_model(variogram, "stable", weights="pairs")
    rho = range_of(model, farthest)
    if beta == 0:
        return Loss(w2, model, rho)
    loss = w2.copy()
    near = np.nonzero(distance < rho)
    loss[near] += beta * np.maximum(w2[near] - model(distance[near]) + delta * model.sill, 0)
    np.fill_diagonal(loss, 0)
    return Loss(loss, model, rho)


def range_of(model: VariogramModel, max_lag: float) -> float:
    """Return the first of the sorted lags up to `max_lag` at which the model has 95 % of its sill, else `max_lag`."""
    lags = np.linspace(0, max_lag, LAGS + 1)[1:]
    reached = model(lags) >= REACHED * model.sill
    return float(lags[reached.argmax()]) if reached.any() else max_lag
