"""Where a loss ends: what single pixels say beside a model that sees their surroundings."""

import warnings

import dask.array
import numpy as np
import xarray as xr

from timo.cube.grid import cell_size_m
from timo.errors import TimoError
from timo.mapping.probabilities import check_kind, in_range

# Log-odds at which each of two opinions is limited before their mean is taken: neither overrules the other.
_LIMIT = 6.0


def checked_outline(outline: xr.DataArray, probability: xr.DataArray) -> xr.DataArray:
    """Return the outline in the order of the probability, or refuse what is no probability of the same cube."""
    if set(outline.dims) != {"time", "y", "x"} or any(
        not np.array_equal(outline[dim], probability[dim]) for dim in outline.dims
    ):
        raise TimoError(
            "outline must have the dates and pixels of the probability, (time, y, x). Use "
            'timo.predict(model.pixel, cube).probability.sel({"class": ...}) of the same cube.'
        )
    check_kind(outline)
    return outline.transpose("time", "y", "x")


def pooled(probability: xr.DataArray, outline: xr.DataArray) -> xr.DataArray:
    """Return the probability whose log-odds are the mean of both; where the outline is NaN, that of the first alone."""
    return xr.apply_ufunc(
        _pool, probability, outline, dask="parallelized", output_dtypes=["float32"]
    ).assign_coords(probability.coords)


def _pool(probability: np.ndarray, outline: np.ndarray) -> np.ndarray:
    first, second = (np.clip(_log_odds(p), -_LIMIT, _LIMIT) for p in (probability, outline))
    mean = np.where(np.isnan(second), first, (first + second) / 2)
    return (1 / (1 + np.exp(-mean))).astype("float32")


def _log_odds(probability: np.ndarray) -> np.ndarray:
    p = np.clip(in_range(probability), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def outlined(
    index: xr.DataArray, outline: xr.DataArray, years: np.ndarray, reach_m: float
) -> xr.DataArray:
    """Return the date of loss of the pixels whose own log-odds fell at least half as far as their neighbours'.

    `index` (y, x) is that of the date, -1 without a loss; `years` are those of the dates of the outline.
    """
    if index.size == 1:
        return index
    lazy = index if index.chunks else outline if outline.chunks else None
    if lazy is not None:
        sizes = {dim: lazy.chunksizes[dim] for dim in ("y", "x")}
        index, outline = index.chunk(sizes), outline.chunk(sizes | {"time": -1})
    fall = xr.apply_ufunc(
        _fall,
        outline,
        index,
        input_core_dims=[["time"], []],
        kwargs={"years": years},
        dask="parallelized",
        output_dtypes=["float32"],
    )
    reach = [max(round(reach_m / cell), 1) for cell in cell_size_m(outline)]
    options = {"depth": dict(enumerate(reach)), "boundary": 0, "dtype": "int32"}
    arrays = [array.transpose("y", "x").data for array in (index, fall)]
    if any(isinstance(array, dask.array.Array) for array in arrays):
        # Beyond the border lies index 0: a fall of 0 there is no neighbour's.
        kept = dask.array.map_overlap(_half_as_far, *arrays, years=years, reach=reach, **options)
    else:
        kept = _half_as_far(*arrays, years=years, reach=reach)
    return index.transpose("y", "x").copy(data=kept)


def _fall(probability: np.ndarray, index: np.ndarray, *, years: np.ndarray) -> np.ndarray:
    """Return how far the log-odds of each lost pixel fell; NaN where there is no date before or after."""
    odds, fall = _log_odds(probability), np.full(index.shape, np.nan, "float32")
    with warnings.catch_warnings():
        # Of pixels that were not seen before, or since.
        warnings.simplefilter("ignore", RuntimeWarning)
        for first in np.unique(index[index >= 0]):
            here, dates = index == first, np.arange(len(years))
            series = odds[here]
            since = (dates >= first) & (years <= years[first] + 1)
            before = np.nanmean(series[:, dates < first], axis=-1)
            fall[here] = before - np.nanmean(series[:, since], axis=-1)
    return fall


def _half_as_far(
    index: np.ndarray, fall: np.ndarray, *, years: np.ndarray, reach: list[int]
) -> np.ndarray:
    """Return the index, -1 where the fall is less than half of the furthest near by that is of the same year."""
    kept, size = index.copy(), tuple(2 * r + 1 for r in reach)
    for year in np.unique(years[index[index >= 0]]):
        lost = (index >= 0) & (years[index] == year)
        around = np.pad(np.where(lost, np.nan_to_num(fall), 0), [(r, r) for r in reach])
        furthest = np.lib.stride_tricks.sliding_window_view(around, size).max(axis=(-2, -1))
        kept[lost & (fall < furthest / 2)] = -1
    return kept
