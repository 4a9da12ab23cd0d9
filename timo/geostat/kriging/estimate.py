"""From weights to values: series, gaps, and what is warned of."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from timo.geostat.kriging.dense import dense_blocks
from timo.geostat.kriging.local import local_blocks
from timo.geostat.kriging.observations import FEWEST, gaps
from timo.geostat.kriging.system import Block, Correlations
from timo.geostat.places import Places

# Bytes from which the variance of a series is not repeated for each date.
LARGE = 1_000_000_000
# Negative variances, over the sill, that rounding and the jitter explain.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Search:
    """From which of the observed each place is told, and how many places at a time."""

    neighbours: int | None = 32
    block_size: int | None = None


def estimate(
    observed: Places,
    values: np.ndarray,
    sought: Places,
    correlations: Correlations,
    search: Search,
) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary kriging of a series: dates with the same gaps are told by the same weights.

    Parameters
    ----------
    observed : (n,)
    values : (dates, n)
        NaN where nothing was observed.
    sought : (m,)

    Returns
    -------
    mean, variance : (dates, m)
        NaN on a date with fewer than three observations. Where all dates have the same gaps a variance of 1 GB or more
        is a read-only view of one.
    """
    groups = list(gaps(values))
    single = len(groups) == 1
    shape = (len(values), len(sought))
    mean, variance = np.full(shape, np.nan), np.full((1, shape[1]) if single else shape, np.nan)
    few = sum(len(dates) for dates, seen in groups if len(seen) < FEWEST)
    if few:
        _warn(f"{few} dates have fewer than {FEWEST} observations: their mean and variance are NaN")
    for dates, seen in groups:
        if len(seen) < FEWEST:
            continue
        blocks = weigh(observed[seen], sought, correlations, search)
        means, variances = apply(blocks, values[np.ix_(dates, seen)], len(sought), correlations)
        mean[dates] = means
        variance[slice(None) if single else dates] = variances
    if variance.shape != shape:
        variance = np.broadcast_to(variance, shape)
        variance = variance.copy() if mean.nbytes < LARGE else variance
    return mean, variance


def weigh(
    observed: Places, sought: Places, correlations: Correlations, search: Search
) -> Iterable[Block]:
    """Weights from the nearest; from all where there are no more than the nearest that are wanted."""
    if search.neighbours is None or search.neighbours >= len(observed):
        return dense_blocks(observed, sought, correlations, search.block_size)
    return local_blocks(observed, sought, correlations, search.neighbours, search.block_size)


def apply(
    blocks: Iterable[Block], values: np.ndarray, cells: int, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Means (dates, m) and variance (m,) from weights and values (dates, n) without NaN."""
    # Around their mean, for weights sum to one only up to rounding and values may be large.
    centre = values.mean(axis=1, keepdims=True)
    around = np.ascontiguousarray((values - centre).T)
    mean, variance, repaired = np.empty((len(values), cells)), np.empty(cells), 0
    for block in blocks:
        mean[:, block.cells] = (block.weights @ around).T
        variance[block.cells] = block.variance
        repaired += block.repaired
    if repaired:
        _warn(
            f"{repaired} kriging systems were near-singular and got a nugget of 1e-8 of the sill: points lie much "
            "closer together than the model's range. Give the model a nugget"
        )
    return mean + centre, positive(variance, correlations.sill)


def positive(variance: np.ndarray, sill: float) -> np.ndarray:
    """Variances of nought where rounding made them negative; a warning where it was not rounding."""
    if variance.size and variance.min() < -ROUNDING * sill:
        _warn(
            f"{np.sum(variance < -ROUNDING * sill)} kriging variances were negative and are set to 0: the model is no "
            "valid covariance at these distances. On the sphere take the exponential or the spherical model, or project"
        )
    return np.maximum(variance, 0)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
