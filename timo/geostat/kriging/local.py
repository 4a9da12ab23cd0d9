"""Kriging from the nearest of the observed: one small system for each place, solved many at a time."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from timo.geostat.kriging.system import (
    Block,
    Correlations,
    exact_where_observed,
    solve_batch,
    unbiased,
)
from timo.geostat.places import Places

# Numbers in the stacked matrices of a block, 4 MB of float64: larger ones are no faster, only larger.
BLOCK = 2**19


def local_blocks(
    observed: Places,
    sought: Places,
    correlations: Correlations,
    neighbours: int,
    block_size: int | None = None,
    *,
    left_out: bool = False,
) -> Iterator[Block]:
    """Weights of the nearest observed for each place that is sought, block after block.

    Parameters
    ----------
    observed, sought
        In the same coordinate reference system; no two of the observed at one place.
    neighbours
        How many of the nearest each place is told from: fewer than there are.
    block_size
        Places at a time; by default so many that a block takes some 40 MB.
    left_out
        The places that are sought are the observed, in the same order: each without itself.

    Yields
    ------
    Block
        With sparse weights (m, n).
    """
    at, to = observed.embed(), sought.embed()
    tree = cKDTree(at)
    size = block_size or max(1, BLOCK // neighbours**2)
    for start in range(0, len(to), size):
        cells = slice(start, min(start + size, len(to)))
        chosen = nearest(tree, to, cells, neighbours, left_out=left_out)
        apart = observed.distance_of_chord(np.sqrt(_squared(to[cells, None], at[chosen])))
        systems, right = _equations(at[chosen], apart, observed, correlations)
        both = np.stack([right, np.ones_like(right)], axis=-1)
        solved, repaired = solve_batch(systems, both)
        weights, variance = unbiased(solved[..., 0], solved[..., 1], right, correlations)
        if correlations.exact:
            weights, variance = exact_where_observed(weights, variance, apart)
        yield Block(cells, _rows(weights, chosen, len(at)), variance, repaired)


def nearest(
    tree: cKDTree, to: np.ndarray, cells: slice, neighbours: int, *, left_out: bool
) -> np.ndarray:
    """Which of the observed are nearest, (m, k); with `left_out` none is its own neighbour."""
    if not left_out:
        return tree.query(to[cells], np.arange(1, neighbours + 1))[1]
    chosen = tree.query(to[cells], np.arange(1, neighbours + 2))[1]
    itself = chosen == np.arange(cells.start, cells.stop)[:, None]
    itself[~itself.any(1), -1] = True  # others lie as near: the furthest goes
    return chosen[~itself].reshape(len(chosen), neighbours)


def _equations(
    at: np.ndarray, apart: np.ndarray, places: Places, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Correlations among the neighbours (m, k, k), and with the place that is sought (m, k)."""
    among = places.distance_of_chord(np.sqrt(_squared(at[:, :, None], at[:, None])))
    systems = correlations.between(among)
    every = np.arange(at.shape[1])
    systems[:, every, every] = 1.0
    return systems, correlations.between(apart)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances over the last axis; of differences, which lose no digits far from the origin."""
    total = (a[..., 0] - b[..., 0]) ** 2
    for axis in range(1, a.shape[-1]):
        total += (a[..., axis] - b[..., axis]) ** 2
    return total


def _rows(weights: np.ndarray, chosen: np.ndarray, n: int) -> sparse.csr_array:
    m, k = weights.shape
    starts = np.arange(0, m * k + 1, k)
    return sparse.csr_array((weights.ravel(), chosen.ravel(), starts), shape=(m, n))
