"""Gaps of a series of fields filled by iterated truncated SVDs (DINEOF), the number of components by cross-validation.

Gaps are given a first guess; the field is decomposed, the gaps take the value of the truncated reconstruction, and so
on until they no longer change (Beckers and Rixen 2003, Journal of Atmospheric and Oceanic Technology 20, 1839-1856).
The number of components is chosen by observations that are set aside. Those are whole clouds here, the gaps of
other dates, and not single points: a point in the middle of seen ones is easier to fill than any real gap, and too
many components would be kept (Alvera-Azcarate et al. 2005, Ocean Modelling 9, 325-346, for the practice).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import eigh

from timo.checks import Count, NotNegative, Positive, Seed, checked
from timo.errors import TimoError, warn
from timo.geostat.interpolation.in_time import ascending_days, fill_linear
from timo.geostat.values import Floats, floats_of

Mask = NDArray[np.bool_]

CANDIDATES = (1, 2, 4, 7, 12, 20, 30, 45, 65, 90)
SET_ASIDE = 0.05  # share of the observations that the cross-validation hides
SAMPLE = 10_000  # series that the cross-validation looks at
BLOCK = 4096  # series at a time: what fits into the cache
MOMENTUM = 0.8
FEWEST_DATES = 3


@checked
@dataclass(frozen=True)
class Iteration:
    """Options of `dineof`, which describes them."""

    n_components: Count | None = None
    candidates: Sequence[Count] = CANDIDATES
    shrinkage: NotNegative = 3.0
    max_iterations: Count = 12
    tolerance: Positive = 1e-3
    seed: Seed = 0

    def check(self, dates: int) -> None:
        """Refuse numbers of components that these many dates cannot determine."""
        numbers = self.candidates if self.n_components is None else [self.n_components]
        if not numbers:
            raise TimoError("candidates is empty. Give numbers of components, such as (1, 2, 4).")
        if min(numbers) >= dates:
            raise TimoError(
                f"{min(numbers)} components cannot be determined from {dates} dates with observations. Take fewer, "
                "or n_components=None and the default candidates."
            )


@checked
def dineof(
    values: xr.DataArray,
    n_components: Count | None = None,
    *,
    candidates: Sequence[Count] = CANDIDATES,
    standardize: str | None = "band",
    shrinkage: NotNegative = Iteration.shrinkage,
    max_iterations: Count = Iteration.max_iterations,
    tolerance: Positive = Iteration.tolerance,
    seed: Seed = 0,
) -> xr.Dataset:
    """Fill the gaps of a series of fields by data-interpolating empirical orthogonal functions.

    The field is one matrix, dates by everything else: bands are decomposed together, so that each date has one set of
    amplitudes. The first guess of a gap is a straight line in time between observations.

    Parameters
    ----------
    values : xarray.DataArray
        Dim "time" (datetime64, ascending) and any others; NaN = gap. Takes eight times its size in float32 of memory.
    n_components : int, optional
        Components kept. Default: that of `candidates` which fills best the observations set aside.
    candidates : sequence of int
        Numbers to try; those from the number of dates on are left out.
    standardize : str, optional
        Dim, if there is one, along which values are of different kinds, each scaled to mean 0 and variance 1 before.
    shrinkage : float
        Each eigenvalue kept is lowered by this many times the mean of those left out, as in the regularised iterative
        PCA (Josse and Husson 2012, Journal de la Societe Francaise de Statistique 153(2), 79-99; there 1, which
        understates the noise of a field whose gaps were filled without any). 0: plain DINEOF.
    max_iterations : int
        With each number of components. Few are better than many: what is still to come is mostly noise.
    tolerance : float
        Root mean square change of the gaps, in standard deviations, under which the next number follows.
    seed : int
        Of the observations set aside.

    Returns
    -------
    xarray.Dataset
        `filled`: the values with gaps filled, observations untouched. `reconstruction`: the field of the components
        everywhere. `error` (n_components): mean absolute error, in standard deviations, of the observations set aside.
        attrs: n_components, iterations (of all stages). A series that was never observed is NaN. On a date without any
        observation the components' amplitudes are interpolated linearly in time.

    Raises
    ------
    TimoError
        If values have no dates, are infinite, nodata, or observed on fewer than 3 dates, or components are not fewer
        than these dates.

    Warns
    -----
    RuntimeWarning
        If nothing can be set aside to choose the number of components by.
    """
    settings = Iteration(n_components, candidates, shrinkage, max_iterations, tolerance, seed)
    days = ascending_days(values)
    if standardize == "time":
        raise TimoError('Series run along "time": standardize="band", or another dim, or None.')
    ordered = values.transpose("time", ...)
    matrix = floats_of(ordered, "float32").reshape(len(days), -1 if values.size else 0)
    rows, columns = _observed(matrix)
    settings.check(int(rows.sum()))
    mean, std = _scale(ordered, standardize, columns)
    known: Floats = (matrix[np.ix_(rows, columns)] - mean) / std
    errors: dict[int, float] = {}
    if n_components is None:
        errors = cross_validate_components(known, days[rows], settings)
        n_components = min(errors, key=errors.__getitem__, default=1)
        if not errors:
            warn(
                "no observation can be set aside to choose the number of components: 1 is taken",
                RuntimeWarning,
            )
    stages = [n for n in candidates if n < n_components] + [n_components]
    field, count = known, 0
    for _, reached, iterations in grow(known, days[rows], stages, settings):
        field, count = reached, count + iterations
    everywhere = np.full((len(days), int(columns.sum())), np.nan, "float32")
    everywhere[rows] = field
    filled = np.full(matrix.shape, np.nan, "float32")
    filled[:, columns] = fill_linear(everywhere, days) * std + mean
    reconstruction = ordered.copy(data=filled.reshape(ordered.shape).astype(ordered.dtype))
    result = xr.Dataset(
        {
            "filled": ordered.where(ordered.notnull(), reconstruction),
            "reconstruction": reconstruction,
            "error": ("n_components", np.array(list(errors.values()), "float64")),
        },
        coords={"n_components": np.array(list(errors), "int64")},
        attrs={"n_components": n_components, "iterations": count},
    )
    return result.transpose(*values.dims, ...)


def grow(
    known: Floats, days: Floats, stages: Sequence[int], settings: Iteration
) -> Iterator[tuple[int, Floats, int]]:
    """Iterate with ever more components, each stage from where the one before ended.

    Large structures are settled first. With all components at once the gaps would stay near the first guess. Yields the
    number of components, their reconstruction (time, series), and the number of iterations.
    """
    field = fill_linear(known, days)
    for number in sorted({int(n) for n in stages if n < len(known)}):
        field, count = iterate(known, field, number, settings)
        yield number, field, count


def iterate(
    known: Floats, guess: Floats, n_components: int, settings: Iteration
) -> tuple[Floats, int]:
    """Alternate between SVD and filling; return the reconstruction of the components, and the number of iterations.

    The gaps (NaN) of `known` (time, series) start from `guess`; every row and column has an observation.
    """
    missing = ~np.isfinite(known)
    field = np.where(missing, guess, known)
    step, size, momentum = np.zeros_like(field), np.inf, 0.0
    parts = [slice(i, i + BLOCK) for i in range(0, field.shape[1], BLOCK)]
    goal = settings.tolerance**2 * max(int(missing.sum()), 1)
    count, done = 0, False
    while count < settings.max_iterations and not done:
        count += 1
        smoother = smoother_of(field, parts, n_components, settings.shrinkage)
        before, size = size, 0.0
        for part in parts:
            change = (smoother @ field[:, part] - field[:, part]) * missing[:, part]
            # Each iteration alone goes a small part of the way; momentum makes tens of them of hundreds.
            step[:, part] = change + momentum * step[:, part]
            field[:, part] += step[:, part]
            size += float(np.square(step[:, part]).sum())
        done = size <= goal
        momentum = MOMENTUM if size < 4 * before else 0.0
    return smoother_of(field, parts, n_components, settings.shrinkage) @ field, count


def smoother_of(
    field: Floats, parts: Sequence[slice], n_components: int, shrinkage: float
) -> Floats:
    """Return the matrix (time, time) that takes a field (time, series) to its first components.

    The mean of each series over time is kept; the left singular vectors of the anomalies are the eigenvectors of the
    products between dates, of which there are far fewer than places. Their eigenvalues are lowered for noise.
    """
    dates = len(field)
    products = np.zeros((dates, dates))
    for part in parts:
        products += field[:, part] @ field[:, part].T
    centre = np.eye(dates) - 1 / dates
    products = centre @ products @ centre
    values, vectors = eigh(products, subset_by_index=(dates - n_components, dates - 1))
    noise = max(np.trace(products) - values.sum(), 0) / max(dates - n_components, 1)
    kept = np.maximum(values - shrinkage * noise, 0) / np.maximum(values, np.finfo("float64").tiny)
    return np.asarray((vectors * kept) @ vectors.T @ centre + 1 / dates, field.dtype)


def cross_validate_components(known: Floats, days: Floats, settings: Iteration) -> dict[int, float]:
    """Return the mean absolute error of the observations set aside, by number of components.

    On at most `SAMPLE` series: amplitudes of dates need no more. Absolute, since what clouds leave at their edges would
    rule the squares. Empty if nothing can be set aside.
    """
    rng = np.random.default_rng(settings.seed)
    if known.shape[1] > SAMPLE:
        known = known[:, np.sort(rng.choice(known.shape[1], SAMPLE, replace=False))]
    hidden = set_aside(np.isfinite(known), rng)
    # A series with nothing left to be estimated from is no fair question.
    hidden &= (np.isfinite(known) & ~hidden).any(axis=0)
    if not hidden.any():
        return {}
    shown = np.where(hidden, np.nan, known)
    return {
        number: float(np.abs(field - known)[hidden].mean())
        for number, field, _ in grow(shown, days, settings.candidates, settings)
    }


def set_aside(seen: Mask, rng: np.random.Generator) -> Mask:
    """Choose observations to hide, of (time, series): gaps of other dates laid over random dates.

    Single observations if there are no gaps.
    """
    hidden = np.zeros_like(seen)
    share = seen.mean(axis=1)
    gappy = np.flatnonzero((share > 0.05) & (share < 0.95))
    # Under the clouds of a date that is hardly seen there is more haze than truth.
    clear = np.flatnonzero(share >= min(0.5, share.max()))
    wanted = SET_ASIDE * seen.sum()
    for date in rng.permutation(clear) if gappy.size else ():
        cloud = seen[date] & ~seen[rng.choice(gappy)]
        if 0 < cloud.sum() < 0.95 * seen[date].sum():
            hidden[date] = cloud
        if hidden.sum() >= wanted:
            break
    return hidden if hidden.any() else seen & (rng.random(seen.shape) < SET_ASIDE)


def _scale(values: xr.DataArray, dim: str | None, columns: Mask) -> list[Floats]:
    """Return mean and standard deviation of each series' kind, shape (series,) each."""
    others = [d for d in values.dims if d != dim]
    std = values.std(others, skipna=True, dtype="float64")
    # A constant kind has nothing to scale.
    std = std.where(std > 0, 1.0)
    return [
        kind.broadcast_like(values.isel(time=0, drop=True))
        .transpose(*values.dims[1:])
        .values.reshape(-1)[columns]
        .astype("float32")
        for kind in (values.mean(others, skipna=True, dtype="float64"), std)
    ]


def _observed(matrix: Floats) -> tuple[Mask, Mask]:
    """Find the dates and series with an observation."""
    seen = np.isfinite(matrix)
    rows, columns = np.any(seen, axis=1), np.any(seen, axis=0)
    if rows.sum() < FEWEST_DATES:
        raise TimoError(
            f"Components need observations on {FEWEST_DATES} dates or more; there are {int(rows.sum())}. Take more "
            'dates, or fill linearly in time, timo.fill(cube, "linear").'
        )
    return rows, columns
