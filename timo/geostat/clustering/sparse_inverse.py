"""The graphical lasso for many small covariance matrices at once."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Sweeps over the coordinates of one column; it is met again in the next sweep over the columns.
INNER_SWEEPS = 20


def graphical_lasso(
    covariances: Array, alpha: float, *, max_sweeps: int = 100, tol: float = 1e-4
) -> tuple[Array, NDArray[np.bool_]]:
    r"""Covariances whose inverses are sparse: minimise tr(S P) - log det P + alpha * sum of the off-diagonal abs(P).

    Block coordinate descent over the columns (Friedman, Hastie & Tibshirani 2008), each column a
    lasso by coordinate descent; every step is taken for all matrices that have not converged, together.

    Parameters
    ----------
    covariances : array (n, d, d)
        Empirical covariances with a positive diagonal.
    alpha : float
        Penalty of the off-diagonal elements of the inverse, in the unit of the covariances.
    max_sweeps : int
        Sweeps over all columns after which it gives up on a matrix.
    tol : float
        Duality gap at which a matrix counts as converged.

    Returns
    -------
    covariances : array (n, d, d)
        The inverses of the sparse matrices P.
    converged : bool array (n,)
        False where the gap was still above `tol`, or the result is not positive definite.
    """
    n, d = covariances.shape[:2]
    result, converged = covariances.copy(), np.zeros(n, bool)
    if d == 1 or n == 0:
        return result, np.ones(n, bool)
    # The coefficients start at zero, the covariance a little towards its diagonal, which makes it definite.
    off = ~np.eye(d, dtype=bool)
    result[:, off] *= 0.95
    coefficients = np.zeros((d, n, d))
    active = np.arange(n)
    for _ in range(max_sweeps):
        empirical, w, b = covariances[active], result[active], coefficients[:, active]
        for column in range(d):
            b[column] = _lasso(w, empirical[:, column], b[column], column, alpha)
            fitted = np.einsum("nde,ne->nd", w, b[column])
            fitted[:, column] = empirical[:, column, column]
            w[:, column] = w[:, :, column] = fitted
        result[active], coefficients[:, active] = w, b
        done = abs(_gap(empirical, w, alpha)) < tol
        converged[active[done]] = True
        active = active[~done]
        if not len(active):
            break
    return result, converged


def _lasso(w: Array, target: Array, coefficients: Array, column: int, alpha: float) -> Array:
    """Minimise 1/2 b' W b - s' b + alpha |b|_1 over all coordinates but `column`, whose coefficient stays zero."""
    b = coefficients.copy()
    others = [k for k in range(b.shape[1]) if k != column]
    for _ in range(INNER_SWEEPS):
        moved = 0.0
        for k in others:
            diagonal = w[:, k, k]
            rest = target[:, k] - np.einsum("nd,nd->n", w[:, k], b) + diagonal * b[:, k]
            new = np.sign(rest) * np.maximum(abs(rest) - alpha, 0) / diagonal
            moved = max(moved, float(abs(new - b[:, k]).max()))
            b[:, k] = new
        if moved < 1e-5:  # well below the tolerance of the gap
            break
    return b


def _gap(empirical: Array, w: Array, alpha: float) -> Array:
    """Duality gap of each fit; infinite where the covariance is no longer positive definite."""
    d = w.shape[1]
    definite: NDArray[np.bool_] = np.asarray(np.isfinite(w).all(axis=(1, 2)))
    safe = np.where(definite[:, None, None], w, np.eye(d))
    values, vectors = np.linalg.eigh(safe)
    definite &= values[:, 0] > 0
    inverse = (vectors / np.where(definite[:, None], values, 1)[:, None, :]) @ vectors.transpose(
        0, 2, 1
    )
    penalty = abs(inverse).sum(axis=(1, 2)) - abs(np.einsum("nii->ni", inverse)).sum(axis=1)
    gap = np.einsum("nij,nji->n", empirical, inverse) - d + alpha * penalty
    return np.where(definite, gap, np.inf)
