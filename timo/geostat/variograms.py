"""The semivariance of values, or any dissimilarity, against the distance between their places."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr

from timo.checks import Positive, Range, Seed, checked
from timo.errors import TimoError, warn
from timo.geostat.lags import BinsOption, make_bins, tabulated
from timo.geostat.pairs import Sector, pair_sums, raster_sums
from timo.geostat.places import Places, distances, places_of, warn_of_distortion
from timo.geostat.values import Field, as_floats, floats_of

# How much the length of a degree of longitude may differ between a raster's middle and its edges
# while one length is taken for all.
_EVEN = 0.01
_UNEVEN_STEP = 1e-3


@checked
def variogram(
    values: Field,
    *,
    max_lag: Positive | None = None,
    bins: BinsOption = "auto",
    estimator: Literal["matheron", "cressie"] = "matheron",
    method: Literal["auto", "fft", "pairs"] = "auto",
    direction: float | None = None,
    tolerance: Annotated[float, Range(above=0, most=90)] = 22.5,
    max_points: Annotated[int, Range(least=3)] | None = 20_000,
    seed: Seed = 0,
) -> xr.Dataset:
    """Estimate the empirical variogram: half the mean squared difference of values against their distance.

    Parameters
    ----------
    values : xarray.DataArray
        A raster (y, x) or points (`timo.geostat.points`), NaN = no value. With a dim "time" too, pairs are taken
        within each date and pooled. CRS: `attrs["crs"]` or spatial_ref; without one, coordinates are metres.
    max_lag : float, optional
        Farthest distance in metres. Default: half the diagonal of the extent; farther apart, only pairs from opposite
        corners are left (Cressie 1993, Statistics for Spatial Data, 2.4).
    bins : "auto", int or array_like
        "auto": 20 bins with edges max_lag · (k/20)², because nugget and range are read off the near ones, joined where
        they have less than 30 pairs (of few values, with a warning, less than a sixth of them). A number: that many
        even bins. An array: edges in metres, which override `max_lag`.
    estimator : {"matheron", "cressie"}
        Half the mean squared difference (Matheron 1962), or the robust (mean √|difference|)⁴ / (0.914 + 0.988/N +
        0.09/N²), which outliers move less (Cressie and Hawkins 1980, Mathematical Geology 12, 115).
    method : {"auto", "fft", "pairs"}
        "fft": every pair of an even raster by Fourier transforms (Marcotte 1996). "pairs": one pair after the other.
        "auto": the first where it is possible.
    direction, tolerance : float, optional
        Only pairs within `tolerance` degrees of this direction or its opposite, clockwise from the y axis (north).
    max_points, seed : int, optional
        Of more places, "pairs" draws that many at random, with a warning: 20,000 have 200 million pairs. None: all.

    Returns
    -------
    xarray.Dataset
        `semivariance` in squared units of the values (NaN without pairs) and number of `pairs`, over "lag" (mean
        distance of a bin's pairs in metres; lag_left, lag_right). Attributes: `variance` of the values (within dates),
        `n` values, `method`, `estimator`, `distance`.

    Raises
    ------
    TimoError
        If fewer than three places have values, no pair is within `max_lag`, or values are infinite or nodata.

    Warns
    -----
    UserWarning
        If places were drawn, the projection distorts distances by more than 5 %, or coordinates without a CRS look like
        degrees.
    RuntimeWarning
        If "auto" bins hold less than 30 pairs.

    Notes
    -----
    Pairs at distance 0 (duplicates) are left out. In a geographic CRS distances are great circles; "fft" takes the
    length of a degree in the middle row for all, and needs that no row's differs more than 1 % from it. A trend in the
    values makes the semivariance rise without end: take it out first.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from timo.geostat import variogram
    >>> noise = np.random.default_rng(0).normal(size=(50, 50))
    >>> axis = 10.0 * np.arange(50)
    >>> field = xr.DataArray(noise, dims=("y", "x"), coords={"y": axis, "x": axis})
    >>> bool(abs(variogram(field).semivariance - 1).max() < 0.1)
    True
    """
    table = _table(values)
    places = places_of(values)
    warn_of_distortion(places)
    sector = None if direction is None else _sector(float(direction), tolerance)
    step = _even_step(values, places) if "point" not in values.dims else None
    fft_can = step is not None and estimator == "matheron"
    if method == "fft" and not fft_can:
        raise TimoError(
            'method="fft" needs an even raster (of degrees: of little extent north to south) and the '
            'Matheron estimator. Use method="pairs", or reproject.'
        )
    half = places[np.isfinite(table).any(axis=0)].extent_m() / 2
    if max_lag is None and half == 0:
        raise TimoError("All places are the same one: there is no distance between them.")
    lags = make_bins(bins, half if max_lag is None else max_lag)
    if step is not None and fft_can and method != "pairs":
        shape = (values.sizes["y"], values.sizes["x"])
        dates = (row.reshape(shape) for row in table if np.isfinite(row).sum() > 1)
        sums = sum(raster_sums(date, step, lags, sector=sector) for date in dates)
        how = "fft"
    else:
        if sector is not None and places.geographic:
            raise TimoError("Directions need a projected CRS. Use array.rio.reproject(...).")
        places, table = _drawn(places, table, max_points, seed)
        # Of a raster's cells many distances fall on an edge, and float32 would toss a coin.
        dtype = "float32" if "point" in values.dims else "float64"
        how, sums = "pairs", np.zeros((3, len(lags)))
        for row in table:
            known = np.isfinite(row)
            if known.sum() > 1:
                root = estimator == "cressie"
                sums += pair_sums(
                    places[known], row[known], lags, root=root, sector=sector, dtype=dtype
                )
    attrs = {**_about(values, table, places), "method": how, "estimator": estimator}
    if direction is not None:
        attrs |= {"direction": float(direction), "tolerance": float(tolerance)}
    coords, pairs, mean = tabulated(np.asarray(sums), lags)
    gamma = 0.5 * mean
    if estimator == "cressie":
        count = np.maximum(pairs, 1)
        gamma = 0.5 * mean**4 / (0.457 + 0.494 / count + 0.045 / count**2)
    return xr.Dataset(
        {
            "semivariance": ("lag", gamma, {"long_name": "semivariance"}),
            "pairs": ("lag", pairs.astype("int64"), {"long_name": "pairs of values"}),
        },
        coords=coords,
        attrs=attrs,
    )


def _table(values: xr.DataArray) -> np.ndarray:
    """Return values as (date, place) float64, the places in the order of `places_of`."""
    spatial = ("point",) if "point" in values.dims else ("y", "x")
    if {*values.dims} - {"time"} != {*spatial}:
        raise TimoError(
            f'Takes values over ("y", "x") or "point", and "time"; got the dims {values.dims}. '
            "Select a band first, with cube.sel(band=...)."
        )
    values = values.transpose(*[dim for dim in ("time", *spatial) if dim in values.dims])
    size = int(np.prod([values.sizes[dim] for dim in spatial]))
    table = floats_of(values).reshape(-1 if size else 0, size)
    known = np.isfinite(table)
    if not table.size or known.any(axis=0).sum() < 3 or known.sum(axis=1).max() < 2:
        raise TimoError(
            f"A variogram needs values at three places or more; got {known.any(axis=0).sum()} "
            "that are not NaN."
        )
    return table


def _even_step(values: xr.DataArray, places: Places) -> tuple[float, float] | None:
    """Return height and width of a cell in metres, northward and eastward; None if they are not even."""
    step = [_step(values[dim].values) for dim in ("y", "x")]
    if step[0] is None or step[1] is None:
        return None
    if not places.geographic:
        unit = places.unit()
        return step[0] * unit, step[1] * unit
    lat = values["y"].values * places.unit()
    middle = (lat[0] + lat[-1]) / 2
    across = abs(step[1]) * places.unit() * (values.sizes["x"] - 1)
    if np.abs(np.cos(lat) / np.cos(middle) - 1).max() > _EVEN or across > np.pi:
        return None
    y, x = middle / places.unit(), float(values["x"].values[0])
    east, north = np.array([x, x, x + step[1]]), np.array([y, y + step[0], y])
    ends = Places(east, north, places.crs)
    _, height, width = distances(ends)[0]
    return float(np.copysign(height, step[0])), float(np.copysign(width, step[1]))


def _step(axis: np.ndarray) -> float | None:
    """Return the step of even coordinates, 1 of a single one, None of uneven ones."""
    if axis.size == 1:
        return 1.0
    step = (float(axis[-1]) - float(axis[0])) / (axis.size - 1)
    even = np.abs(np.diff(axis.astype("float64")) - step).max() <= _UNEVEN_STEP * abs(step)
    return step if step and even else None


def _sector(direction: float, tolerance: float) -> Sector:
    """Return what says whether vectors (..., 2), east and north, point in the direction or its opposite."""
    angle = np.radians(direction)
    unit = np.array([np.sin(angle), np.cos(angle)])
    least = np.cos(np.radians(tolerance)) - 1e-9

    def within(vector: np.ndarray) -> np.ndarray:
        return np.abs(vector @ unit) >= least * np.hypot(vector[..., 0], vector[..., 1])

    return within


def _drawn(
    places: Places, table: np.ndarray, max_points: int | None, seed: int
) -> tuple[Places, np.ndarray]:
    """Return the places that have values; of more than `max_points`, that many at random."""
    which = np.flatnonzero(np.isfinite(table).any(axis=0))
    if max_points is not None and which.size > max_points:
        warn(
            f"Of {which.size:,} places {max_points:,} were drawn at random (seed {seed}); "
            "max_points=None takes all."
        )
        chosen = np.random.default_rng(seed).choice(which, max_points, replace=False)
        which = np.sort(chosen)
    return places[which], table[:, which]


def _about(values: xr.DataArray, table: np.ndarray, places: Places) -> dict[str, Any]:
    known = np.isfinite(table)
    rows = table[known.sum(axis=1) > 1]
    attrs: dict[str, Any] = {
        "long_name": f"variogram of {values.attrs.get('long_name', values.name or 'the values')}",
        "units": values.attrs.get("units", ""),
        "variance": float(np.nanmean((rows - np.nanmean(rows, axis=1, keepdims=True)) ** 2)),
        "n": int(known.sum()),
        "distance": "great circle" if places.geographic else "straight line",
    }
    if places.crs is not None:
        attrs["crs"] = places.crs.to_wkt()
    return attrs


@checked
def generalized_variogram(
    distance: Any,
    dissimilarity: Any,
    *,
    bins: BinsOption = "auto",
    max_lag: Positive | None = None,
    units: str = "m",
) -> xr.Dataset:
    """Average the dissimilarity of pairs against their distance.

    Parameters
    ----------
    distance : array_like
        (n, n) between all places, or (pairs,): metres, or days.
    dissimilarity : array_like
        Of the same shape, NaN or masked = unknown; of a square the part above the diagonal counts.
    bins, max_lag
        As for `variogram`. Default: up to half the largest distance.
    units : str
        Of the distance.

    Returns
    -------
    xarray.Dataset
        Over "lag": `dissimilarity`, its mean and not half of it (Wang et al. 2024, MC-GTA, ICML), and `pairs`.
        `fit_model` takes it like a variogram. Pairs at distance 0 are left out.

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
    lags = make_bins(bins, float(h.max()) / 2 if max_lag is None else max_lag)
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
