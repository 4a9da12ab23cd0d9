"""What an interpolator learns from and is asked for: places, their series, and covariates, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.errors import TimoError
from timo.geostat.places import Places, places_of
from timo.geostat.values import without_nodata

Floats = NDArray[np.floating]
SHAPES = ({"point"}, {"y", "x"})


@dataclass(frozen=True, eq=False)
class Observations:
    """Series at places, and the array that they were read from.

    Parameters
    ----------
    places : Places
        Those with an observation, n of them.
    values : array of shape (n, time)
    observed : bool array of shape (all places,)
        Which of the places of `source` these are.
    source : xarray.DataArray
        Dims (time, point) or (time, y, x).
    """

    places: Places
    values: Floats
    observed: NDArray[np.bool_]
    source: xr.DataArray


def observations_of(data: xr.DataArray) -> Observations:
    """Read stations (point, time) or a cube of one band (time, y, x); places without any value are left out.

    Raises
    ------
    TimoError
        If it is neither, values are still the nodata number of a file, or fewer than three places have values.
    """
    dims = spatial_dims(data)
    if not isinstance(data, xr.DataArray) or set(data.dims) != {"time", *dims}:
        raise TimoError(
            'Fit takes stations of dims ("point", "time") or one band of a cube, dims ("time", "y", "x"); '
            f"got {tuple(data.dims)}. One band: cube.sel(band=...)."
        )
    without_nodata(data)
    source = data.transpose("time", *dims)
    series = check_kind(source.values.reshape(source.sizes["time"], -1).T)
    observed = np.asarray(np.isfinite(series).any(axis=1))
    if observed.sum() < 3:
        raise TimoError(
            f"Values were observed at {observed.sum()} places; to interpolate between places takes three or more."
        )
    return Observations(places_of(source)[observed], series[observed], observed, source)


def spatial_dims(data: xr.DataArray | xr.Dataset) -> tuple[str, ...]:
    """("point",) or ("y", "x"), whichever it has."""
    if isinstance(data, xr.DataArray | xr.Dataset):
        if "point" in data.dims:
            return ("point",)
        if {"y", "x"} <= set(data.dims):
            return ("y", "x")
    shape = tuple(data.dims) if hasattr(data, "dims") else type(data).__name__
    raise TimoError(
        'Places are an xarray object with the dim "point" (coords x and y), or with dims and coords "y" and "x"; '
        f"got {shape}."
    )


def check_kind(series: Floats) -> Floats:
    """Refuse what is not numbers; all others as float32 or float64."""
    if series.dtype.kind not in "fiub":
        raise TimoError(f"Values to interpolate must be real numbers; got {series.dtype}.")
    return series.astype("float32" if series.dtype.itemsize < 8 else "float64")


def covariates_of(
    covariates: xr.Dataset | None, places: xr.DataArray | xr.Dataset
) -> xr.Dataset | None:
    """Covariates, checked to lie at the same places.

    Raises
    ------
    TimoError
        If they are not a Dataset of numbers with the places' dims, sizes and coordinates.
    """
    if covariates is None:
        return None
    dims = spatial_dims(places)
    if not isinstance(covariates, xr.Dataset) or not covariates.data_vars:
        raise TimoError(
            "Covariates are a Dataset with one variable for each, for example xr.Dataset({'elevation': dem})."
        )
    odd = [
        str(name) for name, array in covariates.data_vars.items() if set(array.dims) != set(dims)
    ]
    if odd:
        raise TimoError(
            f"Covariates must have the dims {dims} of the places, no others; {', '.join(odd)} differ."
        )
    kinds = [
        f"{name} ({array.dtype})"
        for name, array in covariates.data_vars.items()
        if array.dtype.kind not in "fiub"
    ]
    if kinds:
        raise TimoError(
            f"Covariates are real numbers; {', '.join(kinds)} is not. Make classes 0/1 variables, one for each."
        )
    for name in (*dims, "x", "y"):
        check_same_places(covariates, places, name)
    return covariates


def check_same_places(covariates: xr.Dataset, places: xr.DataArray | xr.Dataset, name: str) -> None:
    """Refuse covariates of another size, or with other coordinates."""
    mine, theirs = places.coords.get(name), covariates.coords.get(name)
    same = covariates.sizes.get(name) == places.sizes.get(name)
    if same and mine is not None and theirs is not None and mine.dtype.kind in "fiu":
        same = np.allclose(mine, theirs)
    if not same:
        raise TimoError(
            f"The covariates lie at other places: {name!r} differs. Bring them to the same grid first, for example "
            "covariates.interp(x=..., y=...)."
        )


def covariate_columns(
    covariates: xr.Dataset | None, names: tuple[str, ...], dims: tuple[str, ...], count: int
) -> Floats:
    """Values of the named covariates, shape (count of places, number of names).

    Raises
    ------
    TimoError
        If one is missing.
    """
    present = set() if covariates is None else {str(name) for name in covariates.data_vars}
    missing = [name for name in names if name not in present]
    if missing:
        raise TimoError(
            f"The interpolator was fitted with covariates, and {', '.join(missing)} is missing here. Give predict the "
            "same ones, at the places of the grid."
        )
    columns = np.empty((count, len(names)))
    for number, name in enumerate(names):
        assert covariates is not None
        columns[:, number] = covariates[name].transpose(*dims).values.ravel()
    return columns


def fitted_covariates(
    covariates: xr.Dataset | None, seen: Observations
) -> tuple[Floats, tuple[str, ...]]:
    """Covariates at the places observed, shape (n, number of names), and their names.

    Raises
    ------
    TimoError
        If they lie at other places, or values are missing.
    """
    covariates = covariates_of(covariates, seen.source)
    names = () if covariates is None else tuple(str(name) for name in covariates.data_vars)
    dims = spatial_dims(seen.source)
    columns = covariate_columns(covariates, names, dims, len(seen.observed))[seen.observed]
    if not np.isfinite(columns).all():
        raise TimoError(
            "Covariates are missing (NaN) at places with observations. Fill them, or drop these places."
        )
    return columns, names


def complete(seen: Observations, gaps: str, seed: int) -> Floats:
    """Series without gaps, shape (n, time): as they are, or filled.

    Raises
    ------
    TimoError
        If values are missing and are not to be filled, or are infinite.
    """
    if np.isinf(seen.values).any():
        raise TimoError("Some values are infinite. Set them to NaN (missing) or drop the stations.")
    missing = np.isnan(seen.values)
    if not missing.any():
        return seen.values
    if gaps != "dineof":
        raise TimoError(
            f"{missing.mean():.1%} of the values are missing, at {missing.any(axis=1).sum()} of {len(missing)} places. "
            'Fill them first (timo.geostat.dineof, timo.fill), ask for it with EOFInterpolator(gaps="dineof"), or drop '
            "these stations."
        )
    from timo.geostat.interpolation.gappy import dineof

    filled = dineof(seen.source, seed=seed)["filled"].transpose(*seen.source.dims)
    return check_kind(filled.values.reshape(filled.sizes["time"], -1).T[seen.observed])
