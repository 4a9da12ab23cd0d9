"""Many dates, one answer."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

# A single date is never surer than 19 to 1: an undetected cloud is sure, too.
CEILING = 0.95


def mean_probability(probability: xr.DataArray, dim: Hashable = "time") -> xr.DataArray:
    """Probability of a class from those of several dates: the mean of their log-odds.

    A logarithmic opinion pool (Genest & Zidek 1986, Statistical Science 1) with equal weights.

    Parameters
    ----------
    probability : xarray.DataArray
        Probability of one of two classes; NaN = not observed. Limited to 0.05..0.95 first.
    dim : hashable
        The dimension to combine.

    Returns
    -------
    xarray.DataArray
        Probability without `dim`; NaN where nothing was observed.
    """
    p = probability.clip(1 - CEILING, CEILING)
    log_odds = xr.apply_ufunc(np.log, p / (1 - p), dask="parallelized").mean(dim)
    return (1 / (1 + np.exp(-log_odds))).rename(probability.name).assign_attrs(probability.attrs)
