"""Empirical orthogonal functions: a field in space and time as a few maps, each with its series.

With Z the field less its spatial mean at each time, divided by sqrt(n - 1), and Z = U diag(s) V^T its singular value
decomposition, the field is sqrt(n - 1) U diag(s) V^T + mean (Amato, Guignard, Robert and Kanevski 2020, Scientific
Reports 10, 22243). sqrt(n - 1) goes with U: the columns of `coefficients` then have mean 0 and
variance 1 over the places, and s² is the variance that a component carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svd

from timo.errors import TimoError

Floats = NDArray[np.floating]
OMEGA = (0.56, -0.95, 1.82, 1.43)  # polynomial in beta, an approximation by Gavish and Donoho
FEW = 20
MANY_TIMES = 4  # this many times longer than wide: a QR first makes the SVD cheaper


@dataclass(frozen=True, eq=False)
class EOFs:
    """A decomposed field, in order of decreasing variance.

    Parameters
    ----------
    mean : array of shape (time,)
        Spatial mean at each time.
    coefficients : array of shape (space, K)
        What each place has of each component; mean 0 and variance 1 over the places.
    singular_values : array of shape (K,)
        Standard deviation that each component carries, in the unit of the field.
    patterns : array of shape (K, time)
        Series of each component; orthonormal rows.
    total_variance : float
        Variance of the field, summed over the times; of what was cut off, too.
    above_noise : int
        How many components stand out from white noise (`white_noise`).
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

    @property
    def n_components(self) -> int:
        """How many components are kept."""
        return len(self.singular_values)

    @property
    def explained(self) -> Floats:
        """Share of the variance that each component explains, shape (K,)."""
        return self.singular_values**2 / (self.total_variance or 1.0)

    @property
    def loadings(self) -> Floats:
        """diag(s) V^T, shape (K, time): what turns coefficients into a field."""
        return self.singular_values[:, None] * self.patterns

    def count(self, wanted: int | float | None) -> int:
        """How many components are meant by a number, a share of the variance, or None (all)."""
        return count_components(self.explained, wanted)

    def truncate(self, n_components: int) -> EOFs:
        """The first components only."""
        return replace(
            self,
            coefficients=self.coefficients[:, :n_components],
            singular_values=self.singular_values[:n_components],
            patterns=self.patterns[:n_components],
        )

    def reconstruct(self, coefficients: Floats | None = None) -> Floats:
        """The field, shape (space, time): coefficients @ diag(s) V^T + mean.

        Parameters
        ----------
        coefficients : array of shape (space, K), optional
            Of other places than those that were decomposed.
        """
        return recompose(self, coefficients)


def decompose(values: Floats, n_components: int | float | None = None) -> EOFs:
    """Decompose a field without gaps into empirical orthogonal functions.

    Parameters
    ----------
    values : array of shape (space, time)
        Finite values. float32 is decomposed in float32.
    n_components : int or float, optional
        Components to keep: a number, or the share of the variance (0 to 1) to be explained. All by default.

    Returns
    -------
    EOFs
        With all components, `recompose` gives the values back.

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


def recompose(eofs: EOFs, coefficients: Floats | None = None) -> Floats:
    """Give the field that components stand for: coefficients @ diag(s) V^T + mean, shape (space, time)."""
    return (eofs.coefficients if coefficients is None else coefficients) @ eofs.loadings + eofs.mean


def white_noise(singular: Floats, places: int, times: int) -> tuple[int, float]:
    """How many components stand out from white noise (at least one), and the variance of that noise.

    A component stands out if its singular value is above omega(beta) times the median one, with beta the shorter side
    of the field over the longer (Gavish and Donoho 2014, IEEE Transactions on Information Theory 60, 5040-5053, on
    unknown noise). The rest is the noise. Where a side is shorter than 20 all stand out: the median is then no noise.

    Parameters
    ----------
    singular : array
        All singular values of the field less its mean, divided by sqrt(places - 1).
    places, times : int
        Shape of the field.
    """
    short, long = sorted((places - 1, times))
    if short < FEW:
        return len(singular), 0.0
    spectrum = np.zeros(short)
    spectrum[: len(singular)] = singular
    above = max(1, int((spectrum > np.polyval(OMEGA, short / long) * np.median(spectrum)).sum()))
    free = (places - 1 - above) * (times - above)  # degrees of freedom that are left to the noise
    return above, float((spectrum[above:] ** 2).sum() * (places - 1) / free) if free else 0.0


def count_components(explained: Floats, wanted: int | float | None) -> int:
    """How many components a wish stands for.

    Parameters
    ----------
    explained : array of shape (K,)
        Share of the variance of each component.
    wanted : int, float or None
        A number of components; the share of the variance that they are to explain together; None for all.

    Raises
    ------
    TimoError
        If it is neither, or more than there are.
    """
    available = len(explained)
    if wanted is None:
        return available
    boolean = isinstance(wanted, bool | np.bool_)
    if isinstance(wanted, Integral) and not boolean:
        if not 1 <= wanted <= available:
            raise TimoError(
                f"{wanted} components were asked for, and this field has {available} (fewer than its places, "
                f"no more than its times). Ask for 1 to {available}, or for a share of the variance such as 0.95."
            )
        return int(wanted)
    if isinstance(wanted, Real) and not boolean and 0 < wanted <= 1:
        reached = np.cumsum(explained) >= wanted - 1e-6
        return int(reached.argmax()) + 1 if reached.any() else available
    raise TimoError(
        f"n_components is {wanted!r}: give a whole number of components, a share of the variance above 0 and up to 1, "
        "or None for all."
    )


def check_field(values: Floats) -> Floats:
    """Refuse what cannot be decomposed; whole numbers become floats."""
    values = np.asarray(values)
    if values.dtype not in {np.dtype("float32"), np.dtype("float64")}:
        values = values.astype("float64")
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
    """Thin singular value decomposition, without the directions in which the field does not vary.

    `level` is the largest of the values before their mean was taken out: what is rounding depends on it.
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
