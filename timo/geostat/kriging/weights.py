"""The equations of ordinary kriging: one small system for each place, from its nearest observations, or one of all.

With K the correlations among the observed, c those with a place that is sought, and weights that sum to one
(Cressie 1993, Statistics for Spatial Data, eq. 3.2.12-3.2.16)::

    w = K⁻¹ (c + μ 1),    μ = (1 - 1ᵀ K⁻¹ c) / (1ᵀ K⁻¹ 1),    variance = sill (C₀ - wᵀ c + μ)

Everything is divided by the sill, so that a threshold means the same for reflectances and for tonnes per hectare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from timo.errors import TimoError
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places

Noise = Literal["microscale", "measurement"]

# Metres under which two places are one: far over the rounding of coordinates, far under any survey.
COINCIDENT = 1e-6
# Share of the sill that is added to the diagonal of a system that cannot be solved as it is. The error of solving is
# then at most some 1e-16 / 1e-8, that is 1e-8 of a weight, and what it changes is smaller still.
JITTER = 1e-8
# Relative error, of a solution that is known, from which a system counts as near-singular.
DOUBTFUL = 1e-6
# Reciprocal condition number under which a large matrix counts as near-singular.
SINGULAR = 1e-11
# Beyond this the matrix of all alone takes 0.8 GB, and the time grows with the cube of it.
MAX_DENSE = 10_000
# Numbers in the matrix of a block of places: 16 MB of float64 of all, 4 MB of the nearest (more is no faster).
DENSE_BLOCK, LOCAL_BLOCK = 2**21, 2**19


@dataclass(frozen=True)
class Correlations:
    """Correlation against distance, and what the nugget stands for (see `timo.geostat.krige`).

    Without a model nothing varies, and every observation weighs the same.
    """

    model: VariogramModel | None
    noise: Noise

    @property
    def sill(self) -> float:
        """That of the model; 0 where nothing varies."""
        return 0.0 if self.model is None else self.model.sill

    @property
    def partial(self) -> float:
        """Share of the sill that is correlated in space."""
        return 1 - self.model.nugget / self.model.sill if self.model and self.sill else 1.0

    @property
    def exact(self) -> bool:
        """Whether the surface runs through the observations, and its variance includes the nugget."""
        return self.noise == "microscale" or self.model is None or self.model.nugget == 0

    @property
    def prior(self) -> float:
        """Variance, over the sill, of what is sought before anything is observed."""
        return 1.0 if self.exact else self.partial

    def between(self, distances: np.ndarray) -> np.ndarray:
        """Return the correlations between different places; the nugget is no part of them, however near they are."""
        if self.model is None or self.sill == 0:
            return np.zeros_like(distances)
        return np.minimum(np.asarray(self.model.covariance(distances)) / self.sill, self.partial)


@dataclass(frozen=True)
class Block:
    """The weights (m, n) of the observed for some of the places that are sought, and their variances (m,).

    Variances are slightly negative where rounding made them so. `repaired` is the number of systems that were
    near-singular and got the jitter.
    """

    cells: slice
    weights: np.ndarray | sparse.csr_array
    variance: np.ndarray
    repaired: int = 0


def unbiased(
    solved: np.ndarray,
    ones: np.ndarray,
    right: np.ndarray,
    apart: np.ndarray,
    correlations: Correlations,
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights that sum to one, (m, k), and the kriging variance, (m,).

    Of K⁻¹ c (m, k), K⁻¹ 1 (m or 1, k), c (m, k) and the distances (m, k). Where the surface runs through the
    observations, an observed place gets the observation itself, with a variance of 0 and no rounding.
    """
    multiplier = (1 - solved.sum(-1)) / ones.sum(-1)
    weights = solved + ones * multiplier[:, None]
    variance = correlations.prior - np.einsum("mk,mk->m", weights, right) + multiplier
    variance *= correlations.sill
    if correlations.exact:
        here = apart <= COINCIDENT
        found = here.any(-1)
        weights[found] = here[found] / here[found].sum(-1, keepdims=True)
        variance[found] = 0
    return weights, variance


def solve_batch(systems: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Solve systems (m, k, k) for (m, k, r) by LU; also return how many got the jitter, as no answer to trust.

    An answer is not trusted where a right-hand side made from a known solution does not give that solution back: its
    error is the condition number times the rounding, at the cost of one more column.
    """
    known = np.random.default_rng(0).uniform(-1, 1, systems.shape[-1])
    both = np.concatenate([right, (systems @ known)[..., None]], axis=-1)
    try:
        solutions = np.linalg.solve(systems, both)
    except np.linalg.LinAlgError:  # one is exactly singular, and numpy does not say which
        solutions = np.full_like(both, np.nan)
    doubtful = ~(np.abs(solutions[..., -1] - known).max(-1) <= DOUBTFUL)
    if doubtful.any():
        eased = systems[doubtful] + JITTER * np.eye(systems.shape[-1])
        solutions[doubtful] = np.linalg.solve(eased, both[doubtful])
    return solutions[..., :-1], int(doubtful.sum())


def correlation_matrix(observed: Places, correlations: Correlations) -> np.ndarray:
    """Return the correlations among the observed, (n, n), filled by blocks so that few of its size are needed."""
    n = len(observed)
    if n > MAX_DENSE:
        raise TimoError(
            f"Kriging from all of {n} points would need a matrix of {n * n * 8 / 1e9:.0f} GB; at most {MAX_DENSE} "
            "points can be taken at once. Pass neighbours=32, which is as accurate."
        )
    at, step = observed.embed(), max(1, DENSE_BLOCK // n)
    matrix = np.empty((n, n), order="F")  # as LAPACK wants it: no copy
    for start in range(0, n, step):
        apart = observed.distance_of_chord(cdist(at, at[start : start + step]))
        matrix[:, start : start + step] = correlations.between(apart)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def factorise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return LU factors, pivots, and 1 if the matrix was near-singular and got the jitter; it is kept."""
    norm = np.abs(matrix).sum(0).max()
    factors, pivots, info = lapack.dgetrf(matrix)
    if info == 0 and lapack.dgecon(factors, norm)[0] >= SINGULAR:
        return factors, pivots, 0
    factors, pivots, _ = lapack.dgetrf(matrix + JITTER * np.eye(len(matrix)), overwrite_a=True)
    return factors, pivots, 1


def dense_blocks(
    observed: Places, sought: Places, correlations: Correlations, block_size: int | None = None
) -> Iterator[Block]:
    """Yield the weights of all the observed for each place that is sought, block after block.

    No two of the observed may be at one place. A block takes some 100 MB by default.
    """
    factors, pivots, repaired = factorise(correlation_matrix(observed, correlations))
    ones = lapack.dgetrs(factors, pivots, np.ones((len(observed), 1)))[0].T
    at, to = observed.embed(), sought.embed()
    size = block_size or max(1, DENSE_BLOCK // len(at))
    for start in range(0, len(to), size):
        cells = slice(start, min(start + size, len(to)))
        apart = observed.distance_of_chord(cdist(to[cells], at))
        right = correlations.between(apart)
        solved = lapack.dgetrs(factors, pivots, right.T)[0].T
        weights, variance = unbiased(solved, ones, right, apart, correlations)
        yield Block(cells, weights, variance, repaired if start == 0 else 0)


def local_blocks(
    observed: Places,
    sought: Places,
    correlations: Correlations,
    neighbours: int,
    block_size: int | None = None,
    *,
    left_out: bool = False,
) -> Iterator[Block]:
    """Yield the sparse weights of the nearest observed for each place that is sought, block after block.

    No two of the observed may be at one place, and there must be more of them than `neighbours`. With `left_out` the
    places sought are the observed, in the same order: each without itself. A block takes some 40 MB by default.
    """
    at, to = observed.embed(), sought.embed()
    tree, every = cKDTree(at), np.arange(neighbours)
    size = block_size or max(1, LOCAL_BLOCK // neighbours**2)
    for start in range(0, len(to), size):
        cells = slice(start, min(start + size, len(to)))
        chosen = _nearest(tree, to, cells, neighbours, left_out=left_out)
        near = at[chosen]
        apart = observed.distance_of_chord(np.sqrt(_squared(to[cells, None], near)))
        among = observed.distance_of_chord(np.sqrt(_squared(near[:, :, None], near[:, None])))
        systems, right = correlations.between(among), correlations.between(apart)
        systems[:, every, every] = 1.0
        solved, repaired = solve_batch(systems, np.stack([right, np.ones_like(right)], axis=-1))
        weights, variance = unbiased(solved[..., 0], solved[..., 1], right, apart, correlations)
        rows = np.arange(0, weights.size + 1, neighbours)
        sparse_weights = sparse.csr_array(
            (weights.ravel(), chosen.ravel(), rows), shape=(len(weights), len(at))
        )
        yield Block(cells, sparse_weights, variance, repaired)


def _nearest(
    tree: cKDTree, to: np.ndarray, cells: slice, neighbours: int, *, left_out: bool
) -> np.ndarray:
    """Find the nearest of the observed, (m, k); with `left_out` a place is not its own neighbour."""
    if not left_out:
        return tree.query(to[cells], np.arange(1, neighbours + 1))[1]
    chosen = tree.query(to[cells], np.arange(1, neighbours + 2))[1]
    itself = chosen == np.arange(cells.start, cells.stop)[:, None]
    itself[~itself.any(1), -1] = True  # others lie as near: the furthest goes
    return chosen[~itself].reshape(len(chosen), neighbours)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared distances over the last axis; of differences, which lose no digits far from the origin."""
    total = (a[..., 0] - b[..., 0]) ** 2
    for axis in range(1, a.shape[-1]):
        total += (a[..., axis] - b[..., axis]) ** 2
    return total
