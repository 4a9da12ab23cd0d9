"""Any dissimilarity against any distance: a variogram of what is not a number."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.geostat.lags import make_bins, tabulated
from timo.geostat.values import as_floats


def generalized_variogram(
    distance: np.ndarray | xr.DataArray,
    dissimilarity: np.ndarray | xr.DataArray,
    *,
    bins: int | Literal["auto"] | np.ndarray = "auto",
    max_lag: float | None = None,
    units: str = "m",
) -> xr.Dataset:
    """Mean dissimilarity of pairs against their distance.

    Parameters
    ----------
    distance : array_like
        (n, n) between all places, or (pairs,): metres, or days.
    dissimilarity : array_like
        Of the same shape, NaN or masked = unknown; of a square the part above the diagonal counts.
    bins : "auto", int or array_like
        As for `timo.geostat.variogram`.
    max_lag : float, optional
        Farthest distance. Default: half the largest.
    units : str
        Of the distance.

    Returns
    -------
    xarray.Dataset
        Over "lag": `dissimilarity`, its mean and not half of it (Wang et al. 2024,
        MC-GTA, ICML), and `pairs`. `fit_model` takes it like a variogram. Pairs at distance 0 are
        left out.

    Raises
    ------
    TimoError
        If the shapes differ, distances are negative or unknown, or no pair is within `max_lag`.
    """
    h, d = as_floats(distance, "distance"), as_floats(dissimilarity, "dissimilarity")
    if h.shape != d.shape or h.ndim not in (1, 2) or (h.ndim == 2 and h.shape[0] != h.shape[1]):
        raise TimoError(
            "Distance and dissimilarity must both be (n, n), or both (pairs,); "
            f"got {h.shape} and {d.shape}."
        )
    if h.ndim == 2:
        upper = np.triu_indices(h.shape[0], 1)
        h, d = h[upper], d[upper]
    known = np.isfinite(d)
    h, d = h[known], d[known]
    if not h.size or not (h >= 0).all() or not np.isfinite(h).all() or not h.any():
        raise TimoError(
            "Distances must be known and 0 or more, with a dissimilarity that is not NaN and a "
            "distance above 0 for at least one pair."
        )
    lags = make_bins(bins, float(h.max()) / 2 if max_lag is None else max_lag, units=units)
    index = lags.fine_index(h)
    sums = [np.bincount(index, weights, minlength=lags.fine) for weights in (None, h, d)]
    coords, pairs, mean = tabulated(lags.coarse(np.stack(sums)), lags, units=units)
    return xr.Dataset(
        {
            "dissimilarity": ("lag", mean, {"long_name": "mean dissimilarity"}),
            "pairs": ("lag", pairs.astype("int64"), {"long_name": "pairs"}),
        },
        coords=coords,
        attrs={"long_name": "generalized variogram"},
    )
