"""A model's numbers from a variogram, by weighted least squares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from scipy.optimize import minimize, nnls

from timo.checks import NotNegative, checked
from timo.errors import TimoError, warn
from timo.geostat.models import SHAPES, Kind, VariogramModel, correlation
from timo.geostat.values import as_floats

Variogram = Annotated[xr.Dataset, "timo.geostat.variogram(...) makes it."]
Weights = Literal["pairs/lag2", "pairs"] | None
_RANGES = 40  # starts of the range, evenly in its logarithm
_SHAPES = {"stable": (0.5, 1.0, 1.5, 2.0), "matern": (0.3, 0.5, 1.0, 1.5, 2.5, 5.0)}
# A correlated variance below this share of the whole counts as 0.
_NOTHING = 1e-6
_FARTHEST = 3.0  # longest range, in farthest lags


@dataclass(frozen=True)
class _Curve:
    """Lags (n,), semivariances (n,) and roots of the weights (n,) that a model is fitted to."""

    lag: np.ndarray
    gamma: np.ndarray
    root: np.ndarray
    kind: Kind
    nugget: float | None

    def linear(self, range_m: float, shape: float | None) -> tuple[float, float, float]:
        """Return the best nugget and partial sill of a range and shape, and the squares that are left.

        The model is linear in these two, so only range and shape have to be searched (variable projection: Golub and
        Pereyra 1973, SIAM Journal on Numerical Analysis 10, 413).
        """
        rise = 1 - correlation(self.kind, self.lag / range_m, shape)
        if self.nugget is None:
            columns = np.stack([np.ones_like(rise), rise], axis=1) * self.root[:, None]
            (nugget, partial), left = nnls(columns, self.gamma * self.root)
            return float(nugget), float(partial), float(left) ** 2
        target, column = (self.gamma - self.nugget) * self.root, rise * self.root
        partial = max(float(target @ column) / max(float(column @ column), 1e-300), 0.0)
        return self.nugget, partial, float(((target - partial * column) ** 2).sum())


@checked
def fit_model(
    variogram: Variogram,
    kind: Kind = "exponential",
    *,
    nugget: bool | NotNegative = True,
    weights: Weights = "pairs/lag2",
    shape: float | None = None,
) -> VariogramModel:
    """Fit a model to a variogram.

    Parameters
    ----------
    variogram : xarray.Dataset
        Of `variogram`, `generalized_variogram` or `lag_curves`.
    kind : {"spherical", "exponential", "gaussian", "stable", "matern"}
        See `VariogramModel`.
    nugget : bool or float
        True: fitted. A number: held at it; False is 0.
    weights : {"pairs/lag2", "pairs", None}
        Of a bin's squared residual: pairs over squared distance (near bins decide nugget and range; as in gstat,
        Pebesma 2004, Computers & Geosciences 30, 683), pairs, or 1.
    shape : float, optional
        Of "stable" and "matern": held at it. Default: fitted.

    Returns
    -------
    VariogramModel
        With the least weighted squares over all ranges from half the first lag to three times the last.

    Raises
    ------
    TimoError
        If fewer than three bins have pairs, the values are constant, or the nugget is above all semivariances.

    Warns
    -----
    RuntimeWarning
        If the semivariance does not rise (the model is a pure nugget with range 0), or still rises at the farthest lag
        (the range is then a guess).
    """
    curve = _curve(variogram, kind, nugget, weights)
    return _model(curve, *_search(curve, shape))


@checked
def fit_best(
    variogram: Variogram,
    kinds: Kind | Sequence[Kind] | set[Kind] = ("spherical", "exponential", "gaussian"),
    *,
    nugget: bool | NotNegative = True,
    weights: Weights = "pairs/lag2",
) -> VariogramModel:
    """Fit several kinds of model, and return the one with the smallest residual.

    Parameters
    ----------
    variogram, nugget, weights
        As for `fit_model`.
    kinds : list of str, or str
        Kinds to try.

    Returns
    -------
    VariogramModel
        With the least n log(weighted squares) + 2 parameters, so that a fitted shape has to earn its place (Webster
        and McBratney 1989, Journal of Soil Science 40, 493).

    Raises
    ------
    TimoError
        As `fit_model`, or if `kinds` is empty.
    """
    best: tuple[float, _Curve, float, float | None] | None = None
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        curve = _curve(variogram, kind, nugget, weights)
        range_m, shape = _search(curve, None)
        left = curve.linear(range_m, shape)[2]
        floor = 1e-30 * float(((curve.gamma * curve.root) ** 2).sum())
        score = curve.lag.size * math.log(max(left, floor, 1e-300)) + 2 * (kind in SHAPES)
        if best is None or score < best[0]:
            best = score, curve, range_m, shape
    if best is None:
        raise TimoError("kinds is empty: name at least one model.")
    return _model(*best[1:])


def _curve(variogram: xr.Dataset, kind: Kind, nugget: bool | float, weights: Weights) -> _Curve:
    """Return the bins that count, with their weights."""
    name = "semivariance" if "semivariance" in variogram else "dissimilarity"
    if any(part not in variogram or variogram[part].dims != ("lag",) for part in (name, "pairs")):
        raise TimoError(
            'variogram must be the dataset of timo.geostat.variogram(...), "semivariance" and "pairs" over "lag"; '
            f"got {dict(variogram.sizes)} with {sorted(map(str, variogram.data_vars))}."
        )
    lag, gamma, pairs = (as_floats(variogram[key].values, key) for key in ("lag", name, "pairs"))
    used = np.isfinite(lag + gamma + pairs) & (pairs > 0) & (lag > 0)
    if used.sum() < 3:
        raise TimoError(
            f"A model needs three bins with pairs; got {used.sum()}. Take fewer or wider bins, a "
            "larger max_lag, or more values."
        )
    lag, gamma, pairs = lag[used], gamma[used], pairs[used]
    if not gamma.max() > 0:
        raise TimoError(
            "The values are constant, and no model can be fitted. Pass a VariogramModel where one is needed."
        )
    weight = {"pairs/lag2": pairs / lag**2, "pairs": pairs, None: np.ones_like(lag)}[weights]
    held = None if nugget is True else float(nugget)
    if held is not None and held > gamma.max():
        raise TimoError(
            f"The nugget {held:g} is above all semivariances (the largest is {gamma.max():g}). Give a smaller "
            "one, or nugget=True to fit it."
        )
    return _Curve(lag, gamma, np.sqrt(weight / weight.sum()), kind, held)


def _search(curve: _Curve, shape: float | None) -> tuple[float, float | None]:
    """Find the range and shape with the least squares: over a grid, then downhill from its best point.

    The grid makes it safe, as the squares have more than one valley.
    """
    fitted = curve.kind in SHAPES and shape is None
    shapes: Iterable[float | None] = _SHAPES[curve.kind] if fitted else (shape,)
    if not fitted:
        VariogramModel(curve.kind, 1.0, 1.0, shape=shape)  # refuses a shape out of bounds
    low, high = curve.lag[0] / 2, curve.lag[-1] * _FARTHEST
    ranges = np.geomspace(low, high, _RANGES)
    grid = [(curve.linear(r, s)[2], r, s) for s in shapes for r in ranges]
    _, start, form = min(grid, key=lambda item: item[0])
    bounds = [(math.log(low), math.log(high))] + ([SHAPES[curve.kind]] if fitted else [])

    def left(x: np.ndarray) -> float:
        return curve.linear(math.exp(x[0]), float(x[1]) if fitted else form)[2]

    first = [math.log(start)] + ([form] if fitted else [])
    found = minimize(
        left, first, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-6, "fatol": 0}
    )
    return math.exp(found.x[0]), float(found.x[1]) if fitted else form


def _model(curve: _Curve, range_m: float, shape: float | None) -> VariogramModel:
    """Return the fitted model, with warnings where the variogram does not determine one."""
    nugget, partial, _ = curve.linear(range_m, shape)
    near = range_m <= curve.lag[0] / 2 * 1.001 and partial > 0
    if partial <= _NOTHING * (nugget + partial) or near:
        warn(
            "The semivariance does not rise with distance: nothing is correlated beyond the first "
            f"lag ({curve.lag[0]:g}). The model is a pure nugget with range 0.",
            RuntimeWarning,
        )
        weight = curve.root**2
        level = float((weight * curve.gamma).sum() / weight.sum())
        # A nugget asked for that the values do not rise above is kept.
        level = max(level, curve.nugget or 0.0)
        return VariogramModel(curve.kind, level, 0.0, level, shape)
    if range_m > curve.lag[-1]:
        warn(
            f"The semivariance still rises at the farthest lag ({curve.lag[-1]:g}): the range "
            f"({range_m:g}) is a guess. Take a larger max_lag, or take a trend out of the values.",
            RuntimeWarning,
        )
    return VariogramModel(curve.kind, nugget + partial, range_m, nugget, shape)
