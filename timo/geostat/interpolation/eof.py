"""Empirical orthogonal functions: a field in space and time as a few maps, each with its series.

With Z the field less its spatial mean at each time, divided by sqrt(n - 1), and Z = U diag(s) V^T its singular value
decomposition, the field is sqrt(n - 1) U diag(s) V^T + mean (Amato, Guignard, Robert and Kanevski 2020, Scientific
Reports 10, 22243). sqrt(n - 1) goes with U: the columns of `coefficients` then have mean 0 and
variance 1 over the places, and s² is the variance that a component carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from scipy.linalg import svd

from timo.checks import Count, Range, checked
from timo.errors import TimoError
from timo.geostat.values import Floats, as_floats

# A number of components, or the share of the variance that they are to explain together.
Components = Annotated[float, Range(above=0, most=1)] | Count
OMEGA = (0.56, -0.95, 1.82, 1.43)  # polynomial in beta, an approximation by Gavish and Donoho
FEW = 20
MANY_TIMES = 4  # this many times longer than wide: a QR first makes the SVD cheaper


@checked
@dataclass(frozen=True, eq=False)
class EOFs:
    """A decomposed field, in order of decreasing variance.

    Parameters
    ----------
    mean : array of shape (time,)
        Spatial mean at each time.
    coefficients : array of shape (space, K)
        Amplitude of each component at each place; mean 0 and variance 1 over the places.
    singular_values : array of shape (K,)
        Standard deviation that each component carries, in the unit of the field.
    patterns : array of shape (K, time)
        Series of each component; orthonormal rows.
    total_variance : float
        Summed over the times; components that were cut off included.
    above_noise : int
        Number of components that stand out from white noise (`white_noise`).
    noise_variance : float
        Of that white noise, at one place and time; 0 if nothing is noise.
    """

    mean: Floats
    coefficients: Floats
    singular_values: Floats
    patterns: Floats
    total_variance: float
    above_noise: int
    noise_variance: float

    def __post_init__(self) -> None:
        k, times = self.singular_values.size, self.mean.size
        arrays = (self.mean, self.coefficients, self.singular_values, self.patterns)
        shapes = [array.shape for array in arrays]
        if shapes != [(times,), (*shapes[1][:1], k), (k,), (k, times)]:
            raise TimoError(
                "EOFs are mean (time), coefficients (space, K), singular_values (K) and patterns (K, time); got "
                f"{shapes}. timo.geostat.decompose makes them."
            )

    @property
    def n_components(self) -> int:
        """Number of components that are kept."""
        return len(self.singular_values)

    @property
    def explained(self) -> Floats:
        """Share of the variance that each component explains, shape (K,)."""
        return self.singular_values**2 / (self.total_variance or 1.0)

    @property
    def loadings(self) -> Floats:
        """diag(s) V^T, shape (K, time): coefficients times this are a field."""
        return self.singular_values[:, None] * self.patterns

    @checked
    def count(self, wanted: Components | None) -> int:
        """Return the number of components meant by a number, a share of the variance, or None (all).

        Raises
        ------
        TimoError
            If there are fewer.
        """
        available = self.n_components
        if isinstance(wanted, float):
            reached = np.cumsum(self.explained) >= wanted - 1e-6
            return int(reached.argmax()) + 1 if reached.any() else available
        if wanted is not None and wanted > available:
            raise TimoError(
                f"{wanted} components were asked for, and this field has {available} (fewer than its places, "
                f"no more than its times). Ask for 1 to {available}, or for a share of the variance such as 0.95."
            )
        return available if wanted is None else wanted

    @checked
    def truncate(self, n_components: Annotated[int, Range(least=0)]) -> EOFs:
        """Return the first components only."""
        return replace(
            self,
            coefficients=self.coefficients[:, :n_components],
            singular_values=self.singular_values[:n_components],
            patterns=self.patterns[:n_components],
        )

    @checked
    def reconstruct(self, coefficients: Floats | None = None) -> Floats:
        """Return the field, shape (space, time): coefficients @ diag(s) V^T + mean.

        Parameters
        ----------
        coefficients : array of shape (space, K), optional
            Of other places than those that were decomposed.

        Raises
        ------
        TimoError
            If they are of another number of components.
        """
        if coefficients is None:
            coefficients = self.coefficients
        if coefficients.dtype.kind not in "iuf" or coefficients.shape[1:] != (self.n_components,):
            raise TimoError(
                f"coefficients must be numbers of shape (space, {self.n_components}), one for each component; got "
                f"{coefficients.dtype} of shape {coefficients.shape}."
            )
        return coefficients @ self.loadings + self.mean


@checked
def decompose(values: Any, n_components: Components | None = None) -> EOFs:
    """Decompose a field without gaps into empirical orthogonal functions.

    Parameters
    ----------
    values : array_like of shape (space, time)
        Finite values. float32 is decomposed in float32.
    n_components : int or float, optional
        Components to keep: a number, or the share of the variance (0 to 1) to be explained. All by default.

    Returns
    -------
    EOFs

    Raises
    ------
    TimoError
        If a value is missing, there are fewer than two places, or there are fewer components than asked for.
    """
    values = check_field(values)
    mean = values.mean(axis=0, dtype="float64").astype(values.dtype)
    scale = np.sqrt(len(values) - 1).astype(values.dtype)
    left, singular, patterns = factors((values - mean) / scale, float(abs(values).max()))
    above_noise, noise_variance = white_noise(singular, len(values), values.shape[1])
    signs = np.where(patterns[np.arange(len(patterns)), abs(patterns).argmax(axis=1)] < 0, -1, 1)
    signs = signs.astype(values.dtype)
    eofs = EOFs(
        mean=mean,
        coefficients=left * signs * scale,
        singular_values=singular,
        patterns=patterns * signs[:, None],
        total_variance=float((singular**2).sum()),
        above_noise=above_noise,
        noise_variance=noise_variance,
    )
    return eofs.truncate(eofs.count(n_components))


def white_noise(singular: Floats, places: int, times: int) -> tuple[int, float]:
    """Return the number of components that stand out from white noise (at least 1), and the variance of that noise.

    A component stands out if its singular value is above omega(beta) times the median one, with beta the shorter side
    of the field over the longer (Gavish and Donoho 2014, IEEE Transactions on Information Theory 60, 5040-5053, on
    unknown noise). The rest is the noise. Where a side is shorter than 20 all stand out: the median is then no noise.
    `singular` are all singular values of the field less its mean, divided by sqrt(places - 1).
    """
    short, long = sorted((places - 1, times))
    if short < FEW:
        return len(singular), 0.0
    spectrum = np.zeros(short)
    spectrum[: len(singular)] = singular
    above = max(1, int((spectrum > np.polyval(OMEGA, short / long) * np.median(spectrum)).sum()))
    free = (places - 1 - above) * (times - above)  # degrees of freedom that are left to the noise
    return above, float((spectrum[above:] ** 2).sum() * (places - 1) / free) if free else 0.0


def check_field(values: Any) -> Floats:
    """Refuse values that cannot be decomposed; whole numbers become floats."""
    single = str(getattr(values, "dtype", "")).endswith("float32")
    values = as_floats(values, dtype="float32" if single else "float64")
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 1:
        raise TimoError(
            f"A field to decompose has shape (space, time) with two places or more; this one has {values.shape}."
        )
    if not np.isfinite(values).all():
        missing = 1 - np.isfinite(values).mean()
        raise TimoError(
            f"{missing:.1%} of the values are missing (NaN or infinite), and empirical orthogonal functions need them "
            "all. Fill them first, for example with timo.geostat.dineof."
        )
    return values


def factors(centred: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Compute the thin singular value decomposition, without the directions in which the field does not vary.

    `level` is the largest of the values before their mean was taken out: rounding grows with it.
    """
    places, times = centred.shape
    if places > MANY_TIMES * times:
        basis, small = np.linalg.qr(centred)
        left, singular, right = svd(small, full_matrices=False)
        left = basis @ left
    else:
        left, singular, right = svd(centred, full_matrices=False)
    rounding = np.finfo(centred.dtype).eps * (singular[0] * max(centred.shape) + level * times**0.5)
    # At least one direction: a field that is constant in space is its mean, and a component of size 0. No more than
    # there are places less one: the mean is gone, whatever rounding left of it.
    kept = min(max(1, int((singular > rounding).sum())), places - 1)
    return left[:, :kept], singular[:kept], right[:kept]
