"""Gaps of a series of fields filled by iterated truncated SVDs (DINEOF), the number of components by cross-validation.

Gaps are given a first guess; the field is decomposed, the gaps take the value of the truncated reconstruction, and so
on until they no longer change (Beckers and Rixen 2003, Journal of Atmospheric and Oceanic Technology 20, 1839-1856).
How many components are kept is decided on observations that are set aside. Those are whole clouds here, the gaps of
other dates, and not single points: a point in the middle of seen ones is easier to fill than any real gap, and too
many components would be kept (Alvera-Azcarate et al. 2005, Ocean Modelling 9, 325-346, for the practice).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import eigh

from timo.errors import TimoError
from timo.geostat.interpolation.in_time import days_of, fill_linear
from timo.geostat.options import is_number, whole
from timo.geostat.values import without_nodata

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

CANDIDATES = (1, 2, 4, 7, 12, 20, 30, 45, 65, 90)
SET_ASIDE = 0.05  # share of the observations that the cross-validation hides
SAMPLE = 10_000  # series that the cross-validation looks at
BLOCK = 4096  # series at a time: what fits into the cache
MOMENTUM = 0.8
FEWEST_DATES = 3


@dataclass(frozen=True)
class Iteration:
    """How the SVD is iterated.

    Parameters
    ----------
    shrinkage : float
        Each eigenvalue kept is lowered by this many times the mean of those left out, as in the regularised iterative
        PCA (Josse and Husson 2012, Journal de la Societe Francaise de Statistique 153(2), 79-99; there 1). The mean
        of what is left out understates the noise of a field whose gaps were filled without any. 0: plain DINEOF.
    limit : int
        Most iterations with each number of components. Few are better than many: what is still to come is mostly noise.
    tolerance : float
        A number of components ends when the gaps change by less than this, root mean square, in standard deviations.
    """

    shrinkage: float = 3.0
    limit: int = 12
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        whole(self.limit, "max_iterations")
        for name in ("shrinkage", "tolerance"):
            if not is_number(getattr(self, name)):
                raise TimoError(f"{name} must be a number; got {getattr(self, name)!r}")
        if not self.shrinkage >= 0 or not self.limit >= 1 or not self.tolerance > 0:
            raise TimoError(
                "shrinkage must be 0 or more, max_iterations 1 or more, tolerance more than 0; got "
                f"{self.shrinkage}, {self.limit} and {self.tolerance}"
            )


def dineof(
    values: xr.DataArray,
    n_components: int | None = None,
    *,
    candidates: Sequence[int] = CANDIDATES,
    standardize: str | None = "band",
    shrinkage: float = Iteration.shrinkage,
    max_iterations: int = Iteration.limit,
    tolerance: float = Iteration.tolerance,
    seed: int = 0,
) -> xr.Dataset:
    """Fill the gaps of a series of fields by data-interpolating empirical orthogonal functions.

    The field is one matrix, dates by everything else: bands are decomposed together, so that each date has one set of
    amplitudes. The first guess of a gap is a straight line in time between observations.

    Parameters
    ----------
    values : xarray.DataArray
        Dim "time" (datetime64, ascending) and any others; NaN = gap. It is loaded into memory, and some eight times
        its size in float32 is needed.
    n_components : int, optional
        How many components are kept. By default the number, among `candidates`, that fills best what is set aside.
    candidates : sequence of int
        Numbers of components to try; those from the number of dates on are left out.
    standardize : str, optional
        Dim along which values are of different kinds, each scaled to mean 0 and variance 1 before; ignored if there
        is no such dim.
    shrinkage, max_iterations, tolerance
        See `Iteration`.
    seed : int
        Of what the cross-validation sets aside.

    Returns
    -------
    xarray.Dataset
        ``filled``: the values with gaps filled, observations untouched. ``reconstruction``: what the components say
        everywhere. ``error`` (n_components): mean absolute error, in standard deviations, of what was set aside; empty
        if nothing was. attrs: n_components, iterations (of all stages). Where a whole series was never observed, both
        are NaN.
        On a date without any observation the components' amplitudes are interpolated linearly in time.

    Raises
    ------
    TimoError
        If values have no dates, are no real numbers, infinite, still the nodata number of a file, all NaN, or
        observed on fewer than 3 dates; a number of components is not under the number of dates with observations; or
        an option is no number.

    Warns
    -----
    RuntimeWarning
        If nothing can be set aside to choose the number of components by.
    """
    settings = Iteration(shrinkage, max_iterations, tolerance)
    seed = whole(seed, "seed", 0)
    days = days_of(values)
    _check_values(values)
    ordered = values.transpose("time", ...)
    matrix = ordered.values.reshape(len(days), -1).astype("float32")
    if np.isinf(matrix).any():
        raise TimoError("some values are infinite: set them to NaN, which is a gap, or drop them")
    rows, columns = _observed(matrix)
    candidates = _check_components(n_components, candidates, int(rows.sum()))
    scale = _Scale.of(ordered, standardize, columns)
    known = scale.normalise(matrix[np.ix_(rows, columns)])
    errors: dict[int, float] = {}
    if n_components is None:
        errors = cross_validate_components(known, days[rows], candidates, settings, seed)
        n_components = min(errors, key=errors.__getitem__) if errors else _fallback()
    stages = [n for n in candidates if n < n_components] + [n_components]
    field, count = run_to_the_end(known, days[rows], stages, settings)
    everywhere = np.full((len(days), int(columns.sum())), np.nan, "float32")
    everywhere[rows] = field
    shape = np.full(matrix.shape, np.nan, "float32")
    shape[:, columns] = scale.restore(fill_linear(everywhere, days))
    return _dataset(ordered, shape, errors, n_components, count).transpose(*values.dims, ...)


def grow(
    known: Floats, days: Floats, stages: Sequence[int], settings: Iteration
) -> Iterator[tuple[int, Floats, int]]:
    """Iterate with ever more components, each stage from where the one before ended.

    What is large is settled first. With all components at once the gaps would stay near the first guess.

    Yields
    ------
    int, array of shape (time, series), int
        Number of components, their reconstruction, and how many iterations there were.
    """
    field = fill_linear(known, days)
    for number in sorted({int(n) for n in stages if n < len(known)}):
        field, count = iterate(known, field, number, settings)
        yield number, field, count


def run_to_the_end(
    known: Floats, days: Floats, stages: Sequence[int], settings: Iteration
) -> tuple[Floats, int]:
    """Reconstruction of the last stage of `grow`, and the iterations of all."""
    count = 0
    for _, told, more in grow(known, days, stages, settings):
        field, count = told, count + more
    return field, count


def iterate(
    known: Floats, guess: Floats, n_components: int, settings: Iteration
) -> tuple[Floats, int]:
    """Iterate SVD and filling.

    Parameters
    ----------
    known : array of shape (time, series)
        NaN = gap; every row and column has an observation.
    guess : array of shape (time, series)
        What gaps begin with.
    n_components : int
        Components kept.
    settings : Iteration
        When to stop, and the shrinkage.

    Returns
    -------
    array of shape (time, series), int
        The reconstruction of the components, and how many iterations there were.
    """
    missing = ~np.isfinite(known)
    field = np.where(missing, guess, known)
    step, size, momentum = np.zeros_like(field), np.inf, 0.0
    parts = [slice(i, i + BLOCK) for i in range(0, field.shape[1], BLOCK)]
    goal = settings.tolerance**2 * max(int(missing.sum()), 1)
    count, done = 0, False
    while count < settings.limit and not done:
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
    """Matrix (time, time) that takes a field (time, series) to what its first components say of it.

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
    smoother: Floats = ((vectors * kept) @ vectors.T @ centre + 1 / dates).astype(field.dtype)
    return smoother


def cross_validate_components(
    known: Floats, days: Floats, candidates: Sequence[int], settings: Iteration, seed: int
) -> dict[int, float]:
    """Mean absolute error of what was set aside, for each number of components.

    On at most `SAMPLE` series: amplitudes of dates need no more. Absolute, since what clouds leave at their edges would
    rule the squares.

    Returns
    -------
    dict
        Number of components -> error; empty if nothing can be set aside.
    """
    rng = np.random.default_rng(seed)
    if known.shape[1] > SAMPLE:
        known = known[:, np.sort(rng.choice(known.shape[1], SAMPLE, replace=False))]
    hidden = set_aside(np.isfinite(known), rng)
    # What has nothing left to be told from is no fair question.
    hidden &= (np.isfinite(known) & ~hidden).any(axis=0)
    if not hidden.any():
        return {}
    shown = np.where(hidden, np.nan, known)
    return {
        number: float(np.abs(told - known)[hidden].mean())
        for number, told, _ in grow(shown, days, candidates, settings)
    }


def set_aside(seen: Mask, rng: np.random.Generator) -> Mask:
    """Observations to hide: gaps of other dates laid over dates drawn at random; single ones if there are no gaps.

    Parameters
    ----------
    seen : array of shape (time, series)
        Where there are observations; each row and column has some.
    rng : numpy.random.Generator
        What draws.
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


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of each series' kind, shape (series,)."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, values: xr.DataArray, dim: str | None, columns: Mask) -> _Scale:
        others = [d for d in values.dims if d != dim]
        std = values.std(others, skipna=True, dtype="float64")
        # A constant kind has nothing to scale.
        std = std.where(std > 0, 1.0)
        wide = [
            kind.broadcast_like(values.isel(time=0, drop=True))
            .transpose(*values.dims[1:])
            .values.reshape(-1)[columns]
            for kind in (values.mean(others, skipna=True, dtype="float64"), std)
        ]
        return cls(*(part.astype("float32") for part in wide))

    def normalise(self, matrix: Floats) -> Floats:
        return (matrix - self.mean) / self.std

    def restore(self, matrix: Floats) -> Floats:
        return matrix * self.std + self.mean


def _observed(matrix: Floats) -> tuple[Mask, Mask]:
    """Dates and series with an observation."""
    seen = np.isfinite(matrix)
    rows, columns = np.any(seen, axis=1), np.any(seen, axis=0)
    if rows.sum() < FEWEST_DATES:
        raise TimoError(
            f"components need observations on {FEWEST_DATES} dates or more; there are {int(rows.sum())}. Take more "
            "dates, or fill linearly in time"
        )
    return rows, columns


def _check_values(values: xr.DataArray) -> None:
    if values.dtype.kind not in "fiub":
        raise TimoError(f"gaps are filled in real numbers; got {values.dtype}")
    without_nodata(values)


def _check_components(wanted: int | None, candidates: Sequence[int], dates: int) -> list[int]:
    """The candidates, as a list of numbers."""
    if isinstance(candidates, str) or not np.iterable(candidates):
        raise TimoError(
            f"candidates are numbers of components, such as (1, 2, 4); got {candidates!r}"
        )
    candidates = list(candidates)
    numbers = [wanted] if wanted is not None else candidates
    whole_numbers = all(
        isinstance(n, Integral) and not isinstance(n, bool) for n in (*numbers, *candidates)
    )
    if not numbers or not whole_numbers or min(numbers) < 1:
        raise TimoError(f"numbers of components are whole and 1 or more; got {numbers}")
    if min(numbers) >= dates:
        raise TimoError(
            f"{min(numbers)} components cannot be told from {dates} dates with observations: take fewer, or None to "
            "have the number chosen"
        )
    return candidates


def _fallback() -> int:
    """Components where nothing could be set aside."""
    warnings.warn(
        "no observation can be set aside to choose the number of components: 1 is taken",
        RuntimeWarning,
        stacklevel=3,
    )
    return 1


def _dataset(
    values: xr.DataArray, told: Floats, errors: dict[int, float], components: int, iterations: int
) -> xr.Dataset:
    reconstruction = values.copy(data=told.reshape(values.shape).astype(values.dtype))
    result = xr.Dataset(
        {"filled": values.where(values.notnull(), reconstruction), "reconstruction": reconstruction}
    )
    result["error"] = ("n_components", np.array(list(errors.values()), "float64"))
    result = result.assign_coords(n_components=np.array(list(errors), "int64"))
    return result.assign_attrs(n_components=components, iterations=iterations)
