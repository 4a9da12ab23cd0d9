"""The places, series and covariates of an interpolator, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.errors import TimoError
from timo.geostat.interpolation.gappy import dineof
from timo.geostat.places import Places, places_of, spatial_dims
from timo.geostat.values import Floats, floats_of


@dataclass(frozen=True, eq=False)
class Observations:
    """Series (n, time) at the places with an observation, and the array that they were read from.

    `observed` (all places,) is which of the places of `source`, dims (time, point) or (time, y, x), these are.
    """

    places: Places
    values: Floats
    observed: NDArray[np.bool_]
    source: xr.DataArray


def observations_of(data: xr.DataArray) -> Observations:
    """Read stations (point, time) or a cube of one band (time, y, x); places without any value are left out."""
    dims = spatial_dims(data)
    if set(data.dims) != {"time", *dims}:
        raise TimoError(
            'Fit takes stations of dims ("point", "time") or one band of a cube, dims ("time", "y", "x"); '
            f"got {tuple(data.dims)}. One band: cube.sel(band=...)."
        )
    source = data.transpose("time", *dims)
    series = series_of(source)
    observed = np.asarray(np.isfinite(series).any(axis=1))
    if observed.sum() < 3:
        raise TimoError(
            f"Values were observed at {observed.sum()} places; to interpolate between places takes three or more."
        )
    return Observations(places_of(source)[observed], series[observed], observed, source)


def series_of(source: xr.DataArray) -> Floats:
    """Return the series, (all places, time), in float32 or float64."""
    kind = "float32" if source.dtype.itemsize < 8 else "float64"
    return floats_of(source, kind).reshape(source.sizes["time"], -1 if source.size else 0).T


def covariate_columns(
    covariates: xr.Dataset | None,
    places: xr.DataArray | xr.Dataset,
    names: tuple[str, ...] | None = None,
) -> tuple[Floats, tuple[str, ...]]:
    """Return the covariates at the places, shape (place, name), and their names: those wanted, or all."""
    dims = spatial_dims(places)
    held = {} if covariates is None else {str(n): a for n, a in covariates.data_vars.items()}
    if covariates is not None:
        _check_covariates(held, covariates, places, dims)
    names = tuple(held) if names is None else names
    if missing := [name for name in names if name not in held]:
        raise TimoError(
            f"The interpolator was fitted with covariates, and {', '.join(missing)} is missing here. Give predict the "
            "same ones, at the places of the grid."
        )
    columns = np.empty((int(np.prod([places.sizes[dim] for dim in dims])), len(names)))
    for number, name in enumerate(names):
        columns[:, number] = held[name].transpose(*dims).values.ravel()
    return columns, names


def _check_covariates(
    held: dict[str, xr.DataArray],
    covariates: xr.Dataset,
    places: xr.DataArray | xr.Dataset,
    dims: tuple[str, ...],
) -> None:
    if not held:
        raise TimoError(
            "Covariates are a Dataset with one variable for each, for example xr.Dataset({'elevation': dem})."
        )
    if odd := [name for name, array in held.items() if set(array.dims) != set(dims)]:
        raise TimoError(
            f"Covariates must have the dims {dims} of the places, no others; {', '.join(odd)} differ."
        )
    if odd := [f"{n} ({a.dtype})" for n, a in held.items() if a.dtype.kind not in "fiub"]:
        raise TimoError(
            f"Covariates are real numbers; {', '.join(odd)} is not. Make classes 0/1 variables, one for each."
        )
    for name in (*dims, "x", "y"):
        mine, theirs = places.coords.get(name), covariates.coords.get(name)
        same = covariates.sizes.get(name) == places.sizes.get(name)
        if same and mine is not None and theirs is not None and mine.dtype.kind in "fiu":
            same = theirs.dtype.kind in "fiu" and np.allclose(mine, theirs)
        if not same:
            raise TimoError(
                f"The covariates lie at other places: {name!r} differs. Bring them to the same grid first, for example "
                "covariates.interp(x=..., y=...)."
            )


def complete(seen: Observations, gaps: str, seed: int) -> Floats:
    """Return series without gaps, shape (n, time): as they are, or filled if `gaps` is "dineof"."""
    missing = np.isnan(seen.values)
    if not missing.any():
        return seen.values
    if gaps != "dineof":
        raise TimoError(
            f"{missing.mean():.1%} of the values are missing, at {missing.any(axis=1).sum()} of {len(missing)} places. "
            'Fill them first (timo.geostat.dineof, timo.fill), ask for it with EOFInterpolator(gaps="dineof"), or drop '
            "these stations."
        )
    filled = dineof(seen.source, seed=seed)["filled"].transpose(*seen.source.dims)
    return series_of(filled)[seen.observed]
