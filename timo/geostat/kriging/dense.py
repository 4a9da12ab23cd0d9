"""Kriging from all the observed at once: one factorisation, then blocks of places."""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack
from scipy.spatial.distance import cdist

from timo.errors import TimoError
from timo.geostat.kriging.system import (
    JITTER,
    Block,
    Correlations,
    exact_where_observed,
    unbiased,
)
from timo.geostat.places import Places

# Beyond this the matrix alone takes 0.8 GB, and the time grows with the cube of it.
MAX_DENSE = 10_000
# Numbers in one matrix of a block: 16 MB of float64.
BLOCK = 2**21
# Reciprocal condition number under which a matrix counts as near-singular.
SINGULAR = 1e-11


def correlation_matrix(observed: Places, correlations: Correlations) -> np.ndarray:
    """Correlations among the observed, (n, n), filled by blocks so that few of its size are needed.

    Raises
    ------
    TimoError
        There are more of them than MAX_DENSE.
    """
    n = len(observed)
    if n > MAX_DENSE:
        raise TimoError(
            f"kriging from all of {n} points would need a matrix of {n * n * 8 / 1e9:.0f} GB: "
            f"pass neighbours=32, which is as accurate (at most {MAX_DENSE} points can be taken at once)"
        )
    at, step = observed.embed(), max(1, BLOCK // n)
    matrix = np.empty((n, n), order="F")  # as LAPACK wants it: no copy
    for start in range(0, n, step):
        apart = observed.distance_of_chord(cdist(at, at[start : start + step]))
        matrix[:, start : start + step] = correlations.between(apart)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def factorise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """LU factors, pivots, and 1 if the matrix was near-singular and got the jitter; it is kept."""
    norm = np.abs(matrix).sum(0).max()
    factors, pivots, info = lapack.dgetrf(matrix)
    if info == 0 and lapack.dgecon(factors, norm)[0] >= SINGULAR:
        return factors, pivots, 0
    factors, pivots, _ = lapack.dgetrf(matrix + JITTER * np.eye(len(matrix)), overwrite_a=True)
    return factors, pivots, 1


def dense_blocks(
    observed: Places, sought: Places, correlations: Correlations, block_size: int | None = None
) -> Iterator[Block]:
    """Weights of all the observed for each place that is sought, block after block.

    Parameters
    ----------
    observed, sought
        In the same coordinate reference system; no two of the observed at one place.
    block_size
        Places at a time; by default so many that a block takes some 100 MB.

    Yields
    ------
    Block
        With weights (m, n).
    """
    factors, pivots, repaired = factorise(correlation_matrix(observed, correlations))
    ones = lapack.dgetrs(factors, pivots, np.ones((len(observed), 1)))[0].T
    at, to = observed.embed(), sought.embed()
    size = block_size or max(1, BLOCK // len(at))
    for start in range(0, len(to), size):
        cells = slice(start, min(start + size, len(to)))
        apart = observed.distance_of_chord(cdist(to[cells], at))
        right = correlations.between(apart)
        solved = lapack.dgetrs(factors, pivots, right.T)[0].T
        weights, variance = unbiased(solved, ones, right, correlations)
        if correlations.exact:
            weights, variance = exact_where_observed(weights, variance, apart)
        yield Block(cells, weights, variance, repaired if start == 0 else 0)
