"""Coefficients of a field's components by kriging, each with a variogram of its own.

With covariates it is regression kriging (Hengl, Heuvelink and Rossiter 2007, Computers & Geosciences 33, 1301-1315):
what is linear in the covariates, by least squares, and the rest kriged.

A coefficient carries the noise of its series, averaged over the times: variance noise / s² for a component of singular
value s. That is far too small to be read off a variogram, and a smooth model without any nugget follows the noise (and
can hardly be solved); so no nugget is less than that.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.errors import TimoError
from timo.geostat.interpolation.eof import EOFs
from timo.geostat.models import VariogramModel
from timo.geostat.options import said_once
from timo.geostat.places import Places, points

Floats = NDArray[np.floating]
SOLVABLE = 1e-6  # least nugget of a variance of 1: without any, smooth models are near-singular
MOST = 4000  # places that a variogram is estimated from: 8 million pairs


@dataclass(frozen=True, eq=False)
class KrigedCoefficients:
    """Coefficients at the places observed, and how each component varies in space.

    Parameters
    ----------
    places : Places
        n of them.
    residuals : array of shape (n, K)
        Coefficients less their trend.
    models : tuple of VariogramModel
        One for each component.
    trend : array of shape (1 + covariates, K)
        Intercept and slopes.
    neighbours : int or None
        Observations that a prediction is made from; None for all.
    """

    places: Places
    residuals: Floats
    models: tuple[VariogramModel, ...]
    trend: Floats
    neighbours: int | None

    def predict(self, places: Places, covariates: Floats) -> Floats:
        """Coefficients at other places, shape (place, K)."""
        from timo.geostat.kriging import krige

        grid = point_array(places, np.zeros(len(places)))
        told = design(covariates, len(places)) @ self.trend
        for number, model in enumerate(self.models):
            seen = point_array(self.places, self.residuals[:, number])
            told[:, number] += krige(seen, grid, model, neighbours=self.neighbours)["mean"].values
        return told


def fit_kriging(
    places: Places, covariates: Floats, eofs: EOFs, neighbours: int | None, seed: int
) -> KrigedCoefficients:
    """Take the trend out of the coefficients, and fit a variogram to the rest of each component."""
    coefficients = eofs.coefficients.astype("float64")
    explaining = design(covariates, len(places))
    trend = np.zeros((explaining.shape[1], coefficients.shape[1]))
    if explaining.shape[1] > 1:  # without covariates the mean is what kriging estimates
        trend = np.linalg.lstsq(explaining, coefficients, rcond=None)[0]
    residuals = coefficients - explaining @ trend
    some = np.arange(len(places))
    if len(places) > MOST:
        some = np.sort(np.random.default_rng(seed).choice(some, MOST, replace=False))
    noise = np.maximum(eofs.noise_variance / eofs.singular_values**2, SOLVABLE)
    with said_once("components", stacklevel=5):
        models = tuple(
            fit_variogram(places[some], column, float(least))
            for column, least in zip(residuals[some].T, noise, strict=True)
        )
    warn_of_noise(models)
    return KrigedCoefficients(places, residuals, models, trend, neighbours)


def fit_variogram(places: Places, values: Floats, noise: float) -> VariogramModel:
    """Stable model of values at places, its nugget at least the noise.

    Its shape runs from rougher than exponential to gaussian, as smooth as a component may be. A range that is a guess
    is not warned of: between the places, which is where it is used, the model is as good.

    Raises
    ------
    TimoError
        If the places are too few for it.
    """
    from timo.geostat.fitting import fit_model
    from timo.geostat.variograms import variogram

    try:
        curve = variogram(point_array(places, values))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            model = fit_model(curve, "stable")
        if model.nugget >= noise:
            return model
        if noise >= float(curve["semivariance"].max()):  # nothing but noise
            level = float(np.var(values))
            return VariogramModel("stable", level, 0.0, level, model.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return fit_model(curve, "stable", nugget=noise)
    except TimoError as error:
        raise TimoError(
            f'No variogram could be fitted to a component at {len(places)} places; for EOFInterpolator("krige") take '
            f'more stations, or EOFInterpolator("mlp"). {error}'
        ) from error


def warn_of_noise(models: Sequence[VariogramModel]) -> None:
    """Say how many components are not correlated in space."""
    lost = [number + 1 for number, model in enumerate(models) if model.nugget >= model.sill]
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(models)} components do not vary smoothly between the places (first of them: number "
            f"{lost[0]}): their mean is predicted. More places, or fewer components, would be needed.",
            RuntimeWarning,
            stacklevel=4,
        )


def design(covariates: Floats, count: int) -> Floats:
    """A column of ones and the covariates, shape (count, 1 + covariates)."""
    return np.hstack([np.ones((count, 1)), covariates.reshape(count, -1)])


def point_array(places: Places, values: Floats) -> xr.DataArray:
    """Values at places as `timo.geostat.krige` and `variogram` take them."""
    return points(places.x, places.y, values, places.crs)
