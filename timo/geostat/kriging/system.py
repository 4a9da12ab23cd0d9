"""The equations of ordinary kriging, many small systems or one large.

With K the correlations among the observed, c those with a place that is sought, and weights that sum to one
(Cressie 1993, Statistics for Spatial Data, eq. 3.2.12-3.2.16)::

    w = K⁻¹ (c + μ 1),    μ = (1 - 1ᵀ K⁻¹ c) / (1ᵀ K⁻¹ 1),    variance = sill (C₀ - wᵀ c + μ)

Everything is divided by the sill, so that a threshold means the same for reflectances and for tonnes per hectare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol

import numpy as np
from scipy import sparse

from timo.errors import TimoError

Noise = Literal["microscale", "measurement"]

# Metres under which two places are one: far over the rounding of coordinates, far under any survey.
COINCIDENT = 1e-6
# Share of the sill that is added to the diagonal of a system that cannot be solved as it is. The error of solving is
# then at most some 1e-16 / 1e-8, that is 1e-8 of a weight, and what it changes is smaller still.
JITTER = 1e-8
# Relative error, of a solution that is known, from which a system counts as near-singular.
DOUBTFUL = 1e-6


class Model(Protocol):
    """What kriging asks of a variogram model: `timo.geostat.VariogramModel`, or anything alike."""

    @property
    def sill(self) -> float:
        """Total sill, nugget included."""

    @property
    def nugget(self) -> float:
        """Semivariance just beyond a distance of nought."""

    def covariance(self, h: Any) -> Any:
        """Covariance at distances in metres."""


@dataclass(frozen=True)
class Correlations:
    """Correlation against distance, and what the nugget stands for.

    Parameters
    ----------
    covariance
        Of distances in metres.
    sill, nugget
        As in the model. With a sill of nought nothing varies: every observation weighs the same.
    exact
        The surface runs through the observations, and its variance includes the nugget.
    """

    covariance: Callable[[Any], Any]
    sill: float
    nugget: float
    exact: bool

    def between(self, distances: np.ndarray) -> np.ndarray:
        """Correlations between different places; the nugget is no part of them, however near they are."""
        if self.sill == 0:
            return np.zeros_like(distances)
        partial = 1 - self.nugget / self.sill
        return np.minimum(np.asarray(self.covariance(distances)) / self.sill, partial)

    @property
    def prior(self) -> float:
        """Variance, over the sill, of what is sought before anything is observed."""
        return 1.0 if self.exact or self.sill == 0 else 1 - self.nugget / self.sill


def correlations_of(model: Model, noise: Noise) -> Correlations:
    """Check a model and what its nugget is said to be.

    Raises
    ------
    TimoError
        The model is none, the noise is unknown, or the sill and nugget are not finite with 0 <= nugget <= sill.
    """
    parts = [getattr(model, name, None) for name in ("sill", "nugget")]
    if not (
        all(isinstance(part, Real) for part in parts)
        and callable(getattr(model, "covariance", None))
    ):
        raise TimoError(
            'model is a VariogramModel, such as fit_model(variogram(points), "spherical"); '
            f"got {model if isinstance(model, str) else type(model).__name__!r}"
        )
    if noise not in ("microscale", "measurement"):
        raise TimoError(f"noise={noise!r} is unknown: expected 'microscale' or 'measurement'")
    sill, nugget = float(model.sill), float(model.nugget)
    if not (np.isfinite(sill) and 0 <= nugget <= sill):
        raise TimoError(
            f"a model needs 0 <= nugget <= sill, all finite; got nugget {nugget:g} and sill {sill:g}"
        )
    return Correlations(model.covariance, sill, nugget, exact=noise == "microscale" or nugget == 0)


@dataclass(frozen=True)
class Block:
    """Some of the places that are sought: how each weighs the observed, and how sure it is.

    Parameters
    ----------
    cells
        Which of the places, in their order.
    weights : (m, n), dense or sparse
    variance : (m,)
        In squared units of the values; slightly negative where rounding made it so.
    repaired
        How many systems were near-singular and got the jitter.
    """

    cells: slice
    weights: np.ndarray | sparse.csr_array
    variance: np.ndarray
    repaired: int = 0


def unbiased(
    solved: np.ndarray, ones: np.ndarray, right: np.ndarray, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Weights that sum to one, and the kriging variance.

    Parameters
    ----------
    solved : (m, k)
        K⁻¹ c of each place that is sought.
    ones : (m, k) or (1, k)
        K⁻¹ 1.
    right : (m, k)
        c.

    Returns
    -------
    weights : (m, k)
    variance : (m,)
    """
    multiplier = (1 - solved.sum(-1)) / ones.sum(-1)
    weights = solved + ones * multiplier[:, None]
    variance = correlations.prior - np.einsum("mk,mk->m", weights, right) + multiplier
    return weights, variance * correlations.sill


def exact_where_observed(
    weights: np.ndarray, variance: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """At an observed place the observation itself, with a variance of nought and no rounding."""
    here = distances <= COINCIDENT
    found = here.any(-1)
    weights[found] = here[found] / here[found].sum(-1, keepdims=True)
    variance[found] = 0
    return weights, variance


def solve_batch(systems: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Solve many small systems by LU, and again with a jitter where the answer cannot be trusted.

    An answer is not trusted where a right-hand side made from a known solution does not give that solution back: its
    error is the condition number times the rounding, at the cost of one more column.

    Parameters
    ----------
    systems : (m, k, k)
    right : (m, k, r)

    Returns
    -------
    solutions : (m, k, r)
    repaired
        How many systems got the jitter.
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
