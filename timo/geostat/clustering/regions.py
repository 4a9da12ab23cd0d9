"""Regions whose features vary together in the same way: MC-GTA on maps, points and series."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Literal

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.geostat.clustering.density import NOISE, choose_labels, dbscan, join_noise
from timo.geostat.clustering.gaussians import fit_gaussians
from timo.geostat.clustering.layout import Rows, rows_of, standardised
from timo.geostat.clustering.loss import Loss, mcgta_loss
from timo.geostat.clustering.wasserstein import gaussian_w2


def find_regions(
    features: xr.DataArray,
    *,
    k: int = 30,
    alpha: float = 0.01,
    beta: float = 1.0,
    delta: float = 0.0,
    eps: float | Literal["auto"] = "auto",
    n_regions: int | None = None,
    min_samples: int | None = None,
    metric: Literal["space", "time"] | None = None,
    feature: str | None = None,
    standardise: bool = True,
    noise: Literal["keep", "join"] = "keep",
    max_points: int = 4000,
) -> xr.DataArray:
    """Find regions that differ in how their features behave, not only in their mean.

    Each point gets the Gaussian of its neighbourhood (`local_gaussians`); two points are as unlike as these are far
    apart (`gaussian_w2`, squared), and more so if they lie within the range of the generalised variogram and are less
    alike than is usual at their distance; DBSCAN on these losses makes the regions. A region is a way of behaving:
    it may lie in several parts.

    Parameters
    ----------
    features : xarray.DataArray
        A map (feature, y, x), points (point, feature) with coordinates x and y, or one series (time, feature), its
        dims in any order. Points with a missing feature take no part.
    k : int
        Nearest points (in metres or in time, the point itself counted) that make a point's Gaussian.
    alpha : float
        Penalty of the graphical lasso, in the unit of the (standardised) variance.
    beta : float
        Weight of the penalty of unlike neighbours; 0: the Wasserstein distance alone.
    delta : float
        Margin of the penalty, as a share of the variogram's sill.
    eps : float or "auto"
        Radius of DBSCAN, a loss. "auto": of 60 quantiles of the loss to the `min_samples`-th nearest, the one with the
        largest mean silhouette, noise counted as 0.
    n_regions : int, optional
        How many regions are wanted: of these radii one that gives so many, the smallest of them as large as possible.
        To be used instead of `eps`.
    min_samples : int, optional
        Points within `eps`, itself counted, that make a core point. Default `k`: neighbourhoods overlap, and with
        fewer a chain of half-shared neighbourhoods leads from one region into the next.
    metric : {"space", "time"}, optional
        Where neighbours are. Default: what the dims say; "time" segments a series.
    feature : str, optional
        Dim of the features; default "feature", "band", "component", "variable" or "time", whichever is there.
    standardise : bool
        Scale each feature to mean 0 and standard deviation 1 first. Without it they should have one unit.
    noise : {"keep", "join"}
        "join" gives each point that is in no region to the one to which its mean loss is lowest.
    max_points : int
        Refuse more points than this: memory is some 60 bytes and time some 1 to 10 microseconds (5 to 10
        features) for each pair of points, 1 GB and up to a minute or two at 4000.

    Returns
    -------
    xarray.DataArray
        int64 labels on the features' grid, (y, x), (point) or (time); 0 is the largest region, -1 is none: noise, or a
        missing feature. attrs: `range` (metres or days), `sill` and `nugget` of the generalised variogram,
        `n_regions`, `noise` (share of the points) and the options.

    Raises
    ------
    TimoError
        If there are too many points, or fewer than neighbours, if all behave the same, or an option makes no sense.

    Warns
    -----
    RuntimeWarning
        If local covariances were degenerate (see `local_gaussians`), if the variogram shows no range, or if
        `n_regions` cannot be reached.

    References
    ----------
    Wang et al. (2024), MC-GTA: Metric-Constrained Model-Based Clustering using Goodness-of-fit Tests with
    Autocorrelations, ICML.
    """
    _check(eps, n_regions, noise)
    rows = rows_of(features, feature, metric)
    _check_size(rows, max_points)
    samples = k if min_samples is None else min_samples
    for name, number in {"k": k, "min_samples": samples}.items():
        if not is_count(number) or number > len(rows):
            raise TimoError(
                f"{name} is a whole number, 1 to the {len(rows)} points; got {number!r}."
            )
    gaussians = fit_gaussians(
        rows, standardised(rows.values) if standardise else rows.values, k, alpha
    )
    w2 = gaussian_w2(gaussians.means, gaussians.covariances, squared=True)
    loss = mcgta_loss(w2, rows.distances(), beta=beta, delta=delta)
    if eps == "auto":
        labels = choose_labels(loss.values, samples, n_regions)
    else:
        labels = dbscan(loss.values, float(eps), samples)
    options = {"k": k, "alpha": alpha, "beta": beta, "delta": delta, "min_samples": samples}
    return _result(rows, loss, labels, noise, options)


def _result(
    rows: Rows, loss: Loss, labels: np.ndarray, noise: str, options: dict[str, float]
) -> xr.DataArray:
    share = float((labels == NOISE).mean())
    if noise == "join":
        labels = join_noise(loss.values, labels)
    regions = rows.on_grid(labels, NOISE).rename("region")
    regions.attrs = {key: rows.grid.attrs[key] for key in ("crs",) if key in rows.grid.attrs}
    regions.attrs |= {
        "long_name": "region (-1: none)",
        "n_regions": int(labels.max()) + 1,
        "noise": share,
        "range": loss.rho,
        "sill": loss.model.sill,
        "nugget": loss.model.nugget,
    } | options
    return regions


def _check(eps: float | str, n_regions: int | None, noise: str) -> None:
    number = isinstance(eps, Real) and 0 < float(eps) < np.inf
    if eps != "auto" and not number:
        raise TimoError(f'eps is a loss above 0, or "auto"; got {eps!r}.')
    if n_regions is not None and (number or not is_count(n_regions)):
        raise TimoError(
            f"Give either eps or n_regions, a number of at least 1; got {eps!r} and {n_regions!r}."
        )
    if noise not in {"keep", "join"}:
        raise TimoError(f'noise is "keep" or "join"; got {noise!r}.')


def is_count(number: object) -> bool:
    """Whether it is a whole number of 1 or more."""
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= 1


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
