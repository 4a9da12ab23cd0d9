"""Gap-filling of a cube: from the rest of the date, or from the pixel's own series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal, get_args

import numpy as np
import xarray as xr

from timo.checks import Count, NotNegative, Positive, Seed, checked
from timo.cube import check
from timo.cube.join import sensor_slices
from timo.errors import TimoError, warn
from timo.geostat.interpolation.gappy import CANDIDATES, FEWEST_DATES, Iteration, dineof
from timo.geostat.interpolation.in_time import linear_in_time, monthly_climatology

Method = Literal["eof", "linear", "climatology"]
METHODS: tuple[Method, ...] = get_args(Method)
MEMORY_LIMIT = 8 << 30  # bytes
COPIES = 10  # of the cube in float32, that filling holds at once


@checked
def fill(
    cube: xr.DataArray,
    method: Method = "eof",
    *,
    n_components: Count | None = None,
    candidates: Sequence[Count] = CANDIDATES,
    shrinkage: NotNegative = Iteration.shrinkage,
    max_iterations: Count = Iteration.max_iterations,
    tolerance: Positive = Iteration.tolerance,
    seed: Seed = 0,
    memory_limit: Count = MEMORY_LIMIT,
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
    n_components, candidates, shrinkage, max_iterations, tolerance, seed
        Of `timo.geostat.dineof`, for "eof".
    memory_limit : int
        Bytes that it may take, some ten times the cube.

    Returns
    -------
    xarray.DataArray
        The cube without its gaps, in memory. Its coordinate ``filled`` (time, y, x) is True where a band was filled;
        ``attrs["filled"]`` names the method. Filled values stay within the range observed in their band. A band of a
        pixel that was never observed stays NaN (and `filled` False there, unless another band was filled). A date
        without any observation gets the mean of "linear" and "climatology" from "eof". Of a joint cube each sensor is
        filled by itself, at its own dates: the dates of other sensors stay NaN, as there was no image to fill.

    Raises
    ------
    TimoError
        If the cube is no cube, all NaN, or its values cannot be measured by its sensor (`timo.cube.check`); if an
        option is not of the method; or if the memory limit is too low.

    Warns
    -----
    UserWarning
        If pixels stay NaN, or there are too few dates with observations for "eof": "linear" is taken then.
    """
    check(cube)
    options = Iteration(n_components, candidates, shrinkage, max_iterations, tolerance, seed)
    if method != "eof" and options != Iteration():
        odd = [name for name, value in asdict(options).items() if value != getattr(Iteration, name)]
        raise TimoError(
            f'{", ".join(odd)} are options of method="eof", not of {method!r}. Leave them out.'
        )
    _check_memory(cube, memory_limit)
    loaded = check(cube.compute())
    parts = sensor_slices(loaded)
    if len(parts) > 1:
        return _fill_parts(loaded, parts, method, options)
    return _fill(loaded, method, options)


def _fill(loaded: xr.DataArray, method: Method, options: Iteration) -> xr.DataArray:
    """Fill a cube of one sensor, in memory."""
    gaps = loaded.isnull()
    if not gaps.any():
        return _with_flag(loaded, loaded, method)
    method = _possible(loaded, method)
    estimate, how = _estimate(loaded, method, options)
    inside = estimate.clip(loaded.min(("time", "y", "x")), loaded.max(("time", "y", "x")))
    filled = loaded.where(~gaps, inside.astype("float32"))
    _warn_of_rest(filled)
    return _with_flag(loaded, filled, how)


def _fill_parts(
    cube: xr.DataArray, parts: Sequence[slice], method: Method, options: Iteration
) -> xr.DataArray:
    """Fill the bands of each sensor of a joint cube at the dates that it has an observation of."""
    values, names = cube.values.copy(), []
    for own in parts:
        dates = np.flatnonzero(np.isfinite(values[:, own]).any(axis=(1, 2, 3)))
        if dates.size:
            part = _fill(cube.isel(time=dates, band=own), method, options)
            values[dates, own] = part.values
            names.append(part.attrs["filled"])
    return _with_flag(cube, cube.copy(data=values), "; ".join(dict.fromkeys(names)))


def _estimate(cube: xr.DataArray, method: Method, options: Iteration) -> tuple[xr.DataArray, str]:
    """Return the gap estimate and the name recorded in `attrs["filled"]`."""
    if method == "linear":
        return linear_in_time(cube), method
    if method == "climatology":
        return monthly_climatology(cube), method
    found = dineof(cube, **asdict(options))
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


def _possible(cube: xr.DataArray, method: Method) -> Method:
    """Return the method, or "linear" where there are too few dates for components."""
    dates = int(cube.notnull().any(("band", "y", "x")).sum())
    if method != "eof" or dates >= FEWEST_DATES:
        return method
    warn(f'observations on {dates} date(s) are too few for method="eof": "linear" is taken')
    return "linear"


def _warn_of_rest(filled: xr.DataArray) -> None:
    never = int(filled.isnull().all("time").any("band").sum())
    if never:
        warn(f"{never} pixel(s) were never observed, in one band or more, and stay NaN there")


def _check_memory(cube: xr.DataArray, limit: int) -> None:
    needed = COPIES * 4 * int(np.prod(cube.shape, dtype="int64"))
    if needed > limit:
        raise TimoError(
            f"Filling this cube takes some {needed / 2**30:.1f} GiB, over the limit of {limit / 2**30:.1f} GiB. Fill "
            "parts of it, fill(cube.isel(y=slice(0, 512))), or raise memory_limit."
        )
