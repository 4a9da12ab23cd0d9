"""Gap-filling of a cube: from the rest of the date, or from the pixel's own series."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from timo.cube import check
from timo.errors import TimoError
from timo.geostat.interpolation.gappy import FEWEST_DATES, dineof
from timo.geostat.interpolation.in_time import linear_in_time, monthly_climatology

METHODS = ("eof", "linear", "climatology")
MEMORY_LIMIT = 8 << 30  # bytes
COPIES = 10  # of the cube in float32, that filling holds at once


def fill(
    cube: xr.DataArray,
    method: str = "eof",
    *,
    memory_limit: int = MEMORY_LIMIT,
    **options: Any,
) -> xr.DataArray:
    """Fill the gaps of a cube.

    Observations are never changed. A filled value is an estimate, and cannot show what happened behind the clouds:
    where a clearing is hidden, it is what the neighbouring dates and the rest of the image make likely. Look for
    changes in observations (``filled.where(~filled.filled)``), not in filled values.

    Parameters
    ----------
    cube : xarray.DataArray
        A cube. It is loaded into memory.
    method : {"eof", "linear", "climatology"}
        "eof": empirical orthogonal functions of all bands together (`timo.geostat.dineof`), then their residuals at
        the observations, by straight lines in time. It uses the clear part of a date.
        "linear": a straight line in time, per pixel and band; the first and last observation are held.
        "climatology": mean of the pixel and band over all years' observations in that calendar month; where there is
        none, linear.
    memory_limit : int
        Bytes that it may take, some ten times the cube.
    **options
        Of `timo.geostat.dineof`, for "eof": n_components, candidates, shrinkage, max_iterations, tolerance, seed.

    Returns
    -------
    xarray.DataArray
        The cube without its gaps, in memory. Its coordinate ``filled`` (time, y, x) is True where a band was filled;
        ``attrs["filled"]`` names the method. Filled values stay within the range observed in their band. A band of a
        pixel that was never observed stays NaN (and `filled` False there, unless another band was filled). A date
        without any observation gets the mean of "linear" and "climatology" from "eof".

    Raises
    ------
    TimoError
        If the cube is no cube, all NaN, or its values cannot be what its sensor measures (`timo.cube.check`); if the
        method or an option is unknown; or if the memory limit is too low.

    Warns
    -----
    UserWarning
        If pixels stay NaN, or there are too few dates with observations for "eof": "linear" is taken then.
    """
    check(cube)
    _check_method(method, options)
    _check_memory(cube, memory_limit)
    loaded = check(cube.compute())
    gaps = loaded.isnull()
    if not gaps.any():
        return _with_flag(loaded, loaded, method)
    method = _possible(loaded, method)
    estimate, how = _estimate(loaded, method, options)
    inside = estimate.clip(loaded.min(("time", "y", "x")), loaded.max(("time", "y", "x")))
    filled = loaded.where(~gaps, inside.astype("float32"))
    _warn_of_rest(filled)
    return _with_flag(loaded, filled, how)


def _estimate(cube: xr.DataArray, method: str, options: dict[str, Any]) -> tuple[xr.DataArray, str]:
    """Return the gap estimate and the name recorded in `attrs["filled"]`."""
    if method == "linear":
        return linear_in_time(cube), method
    if method == "climatology":
        return monthly_climatology(cube), method
    found = dineof(cube, **options)
    # Residuals of the components at the observations around a gap are likely to last until the next one.
    rest = linear_in_time(cube - found.reconstruction)
    # A date without observations has no amplitudes of its own. The observations around it say more than filled values
    # around it, and errors of the line and of the month are of different kinds: their mean is better than either.
    nothing = cube.isnull().all(("band", "y", "x"))
    alone = (linear_in_time(cube) + monthly_climatology(cube)) / 2
    estimate = (found.reconstruction + rest).where(~nothing, alone)
    return estimate, f"eof, {found.attrs['n_components']} components"


def _with_flag(cube: xr.DataArray, filled: xr.DataArray, how: str) -> xr.DataArray:
    """Return the filled cube with the coordinate `filled`; all else as the cube had it."""
    new = (cube.isnull() & filled.notnull()).any("band")
    result = cube.copy(data=filled.values)
    attrs = {
        "long_name": "a band was a gap, and is an estimate",
        "description": "False: observed, or still without a value",
    }
    result = result.assign_coords(filled=(("time", "y", "x"), new.values, attrs))
    return check(result.assign_attrs(filled=how))


def _possible(cube: xr.DataArray, method: str) -> str:
    """Return the method, or "linear" where there are too few dates for components."""
    dates = int(cube.notnull().any(("band", "y", "x")).sum())
    if method != "eof" or dates >= FEWEST_DATES:
        return method
    warnings.warn(
        f'observations on {dates} date(s) are too few for method="eof": "linear" is taken',
        UserWarning,
        stacklevel=3,
    )
    return "linear"


def _warn_of_rest(filled: xr.DataArray) -> None:
    never = int(filled.isnull().all("time").any("band").sum())
    if never:
        warnings.warn(
            f"{never} pixel(s) were never observed, in one band or more, and stay NaN there",
            UserWarning,
            stacklevel=3,
        )


def _check_method(method: str, options: dict[str, Any]) -> None:
    if method not in METHODS:
        raise TimoError(f"unknown method {method!r}. Known: {', '.join(METHODS)}")
    known = (
        "n_components",
        "candidates",
        "shrinkage",
        "max_iterations",
        "tolerance",
        "seed",
    )
    if unknown := sorted(set(options) - set(known if method == "eof" else ())):
        offered = f"; known: {', '.join(known)}" if method == "eof" else ", which has none"
        raise TimoError(f'{unknown} are no options of method="{method}"{offered}')


def _check_memory(cube: xr.DataArray, limit: int) -> None:
    needed = COPIES * 4 * int(np.prod(cube.shape, dtype="int64"))
    if needed > limit:
        raise TimoError(
            f"filling this cube takes some {needed / 2**30:.1f} GiB, over the limit of {limit / 2**30:.1f} GiB: fill "
            "parts of it (fill(cube.isel(y=slice(0, 512)))), or raise memory_limit"
        )
