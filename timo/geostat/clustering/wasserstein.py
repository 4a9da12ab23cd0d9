"""The 2-Wasserstein distance of Gaussians, many pairs at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from timo.checks import checked
from timo.errors import TimoError
from timo.geostat.values import as_floats

Array = NDArray[np.float64]
# Numbers in one block of products: 32 MB in double precision.
BLOCK = 4_000_000


@checked
def gaussian_w2(
    means: Any,
    covariances: Any,
    other_means: Any = None,
    other_covariances: Any = None,
    *,
    squared: bool = False,
) -> Array:
    r"""Compute the 2-Wasserstein distance between all pairs of Gaussians.

    .. math:: W_2^2 = |\mu_i - \mu_j|^2 + \mathrm{tr}(S_i + S_j - 2 (S_i^{1/2} S_j S_i^{1/2})^{1/2})

    Parameters
    ----------
    means : array (n, d)
    covariances : array (n, d, d)
        Symmetric, positive semi-definite.
    other_means, other_covariances : array (m, d) and (m, d, d), optional
        The Gaussians of the columns. Default: the same; the result is then exactly symmetric.
    squared : bool
        Give the squared distance, in the squared unit of the values.

    Returns
    -------
    array (n, m)
        In the unit of the values; memory is this array plus some 100 MB.

    Raises
    ------
    TimoError
        If the shapes do not fit together, or a number is not finite.

    References
    ----------
    Olkin & Pukelsheim (1982), The distance between two random vectors with given dispersion matrices; Takatsu (2011).
    """
    rows = _gaussians(means, covariances)
    if (other_means is None) != (other_covariances is None):
        raise TimoError("The other Gaussians need both `other_means` and `other_covariances`.")
    same = other_means is None
    columns = rows if same else _gaussians(other_means, other_covariances)
    d, other_d = rows[0].shape[1], columns[0].shape[1]
    if d != other_d:
        raise TimoError(
            f"Gaussians of {d} and of {other_d} dimensions cannot be compared. Give both of the same features."
        )
    values, vectors = np.linalg.eigh(rows[1])
    # What rounding made negative counts as zero.
    roots = (vectors * np.sqrt(values.clip(min=0))[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    shape = (len(rows[0]), len(columns[0]))
    result = np.zeros(shape)
    step = max(1, BLOCK // max(1, shape[1] * d * d))
    for start in range(0, shape[0], step):
        part = slice(start, start + step)
        # Of one set from this block's first row on: the pairs before it are the mirror of what has been computed.
        rest = slice(start if same else 0, None)
        result[part, rest] = _squared(
            rows[0][part], rows[1][part], roots[part], columns[0][rest], columns[1][rest]
        )
    if same:
        result = np.triu(result, 1)
        result += result.T
    return result if squared else np.sqrt(result)


def _squared(
    means: Array,
    covariances: Array,
    roots: Array,
    other_means: Array,
    other_covariances: Array,
) -> Array:
    d = means.shape[1]
    # The trace of the root is the sum of the roots of the eigenvalues: one batch of them a row gives all pairs.
    shift = ((means[:, None] - other_means[None]) ** 2).sum(axis=-1)
    # S_j R_i for all j in one product of large matrices: far faster than a product per pair.
    products = other_covariances.reshape(-1, d) @ roots.transpose(1, 0, 2).reshape(d, -1)
    products = products.reshape(len(other_means), d, len(roots), d).transpose(2, 0, 1, 3)
    products = roots[:, None] @ products
    common = np.sqrt(np.linalg.eigvalsh(products).clip(min=0)).sum(axis=-1)
    spread = np.trace(covariances, axis1=1, axis2=2)[:, None] + np.trace(
        other_covariances, axis1=1, axis2=2
    )
    return (shift + spread - 2 * common).clip(min=0)


def _gaussians(means: Any, covariances: Any) -> tuple[Array, Array]:
    centre, spread = as_floats(means, "means"), as_floats(covariances, "covariances")
    if centre.ndim != 2 or not centre.size or spread.shape != (*centre.shape, centre.shape[1]):
        raise TimoError(
            f"Gaussians are means (n, d) and covariances (n, d, d); got {centre.shape} and {spread.shape}."
        )
    if not (np.isfinite(centre).all() and np.isfinite(spread).all()):
        raise TimoError(
            "Means and covariances must be finite numbers. Leave out the points without a value."
        )
    return centre, (spread + np.swapaxes(spread, 1, 2)) / 2
