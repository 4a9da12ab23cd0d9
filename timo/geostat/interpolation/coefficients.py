"""Coefficients of a field's components as functions of the place: by kriging, or by a network.

**Kriging**, each component with a variogram of its own. With covariates it is regression kriging (Hengl, Heuvelink and
Rossiter 2007, Computers & Geosciences 33, 1301-1315): the part that is linear in the covariates, by least squares, and
the rest kriged. A coefficient carries the noise of its series, averaged over the times: variance noise / s² for a
component of singular value s. That is far too small to be read off a variogram, and a smooth model without any nugget
follows the noise (and can hardly be solved); so no nugget is less than that.

**The network** of Amato et al. (2020), from coordinates and covariates: five hidden layers (300, 100, 100, 100, 100) of
exponential linear units, He's normal initialisation (He et al. 2015), Nadam (Dozat 2016) and a one-cycle learning rate
(Smith and Topin 2019). The loss is the mean absolute error of the field that the coefficients stand for, not of the
coefficients: a component counts for the variance that it carries. There is no batch normalisation: a field that is
learnt from coordinates alone needs them exactly, and the noise of the batches' statistics is worth several times the
error that is otherwise reached.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import NDArray

from timo.errors import TimoError, said_once, warn
from timo.geostat.fitting import fit_model
from timo.geostat.interpolation.eof import EOFs
from timo.geostat.kriging import krige
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places, points
from timo.geostat.values import Floats
from timo.geostat.variograms import variogram

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SOLVABLE = 1e-6  # least nugget of a variance of 1: without any, smooth models are near-singular
MOST = 4000  # places that a variogram is estimated from: 8 million pairs
HIDDEN = (300, 100, 100, 100, 100)
PEAK_RATE = 5e-3
BLOCK = 65_536  # places predicted at once


@dataclass(frozen=True, eq=False)
class KrigedCoefficients:
    """Coefficients at the places observed, and how each component varies in space: a variogram `model` for each.

    `residuals` (n, K) are the coefficients less their `trend`, intercept and slopes (1 + covariates, K).
    """

    places: Places
    residuals: Floats
    models: tuple[VariogramModel, ...]
    trend: Floats
    neighbours: int | None

    def predict(self, places: Places, covariates: Floats) -> Floats:
        """Estimate the coefficients at other places, shape (place, K)."""
        grid = point_array(places, np.zeros(len(places)))
        coefficients = design(covariates, len(places)) @ self.trend
        for number, model in enumerate(self.models):
            seen = point_array(self.places, self.residuals[:, number])
            kriged = krige(seen, grid, model, neighbours=self.neighbours)
            coefficients[:, number] += kriged["mean"].values
        return coefficients


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
    with said_once("components"):
        models = tuple(
            fit_variogram(places[some], column, float(least))
            for column, least in zip(residuals[some].T, noise, strict=True)
        )
    if lost := [number + 1 for number, model in enumerate(models) if model.nugget >= model.sill]:
        warn(
            f"{len(lost)} of {len(models)} components do not vary smoothly between the places (first of them: number "
            f"{lost[0]}): their mean is predicted. More places, or fewer components, would be needed.",
            RuntimeWarning,
        )
    return KrigedCoefficients(places, residuals, models, trend, neighbours)


def fit_variogram(places: Places, values: Floats, noise: float) -> VariogramModel:
    """Fit a stable model to values at places, its nugget at least the noise.

    Its shape runs from rougher than exponential to gaussian, as smooth as a component may be. A range that is a guess
    is not warned of: between the places, which is where it is used, the model is as good.
    """
    try:
        curve = variogram(point_array(places, values))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            model = fit_model(curve, "stable")
            if model.nugget >= noise:
                return model
            if noise < float(curve["semivariance"].max()):
                return fit_model(curve, "stable", nugget=noise)
        level = float(np.var(values))  # nothing but noise
        return VariogramModel("stable", level, 0.0, level, model.shape)
    except TimoError as error:
        raise TimoError(
            f'No variogram could be fitted to a component at {len(places)} places; for EOFInterpolator("krige") take '
            f'more stations, or EOFInterpolator("mlp"). {error}'
        ) from error


def design(covariates: Floats, count: int) -> Floats:
    """Return a column of ones and the covariates, shape (count, 1 + covariates)."""
    return np.hstack([np.ones((count, 1)), covariates.reshape(count, -1)])


def point_array(places: Places, values: Floats) -> xr.DataArray:
    """Return values at places as `krige` and `variogram` take them."""
    return points(places.x, places.y, values, places.crs)


@dataclass(eq=False)
class Network:
    """Layers from features, standardised by their mean and spread, to coefficients.

    `errors` are the mean absolute errors of the field at the places trained on and held out, for each epoch, in the
    field's unit.
    """

    layers: nn.Module
    centre: Floats
    spread: Floats
    errors: list[tuple[float, float]] = field(default_factory=list)

    def predict(self, features: Floats) -> Floats:
        """Predict the coefficients, shape (place, K), of features of shape (place, feature)."""
        import torch

        blocks = range(0, len(features), BLOCK)
        with torch.no_grad():
            parts = [
                self.layers(self.standardise(features[start : start + BLOCK])) for start in blocks
            ]
        return torch.cat(parts).double().numpy()

    def standardise(self, features: Floats) -> Float[Tensor, "place feature"]:
        import torch

        return torch.from_numpy((features - self.centre) / self.spread).float()


def train(
    features: Floats,
    anomalies: Floats,
    loadings: Floats,
    held_out: NDArray[np.bool_],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Network:
    """Train a network to give the coefficients of a field's components from features of the places.

    Of features (place, feature), anomalies (place, time), loadings (K, time) and the places held out (place,): the
    weights of the epoch with the lowest error on these are kept. Deterministic for a seed; neither torch's random state
    nor its number of threads is touched.
    """
    import torch

    random = torch.Generator().manual_seed(seed)
    centre, spread = features[~held_out].mean(axis=0), features[~held_out].std(axis=0)
    scale = float(anomalies.std()) or 1.0
    layers = create_layers(features.shape[1], len(loadings), random)
    network = Network(layers, centre, np.where(spread > 0, spread, 1.0))
    inputs = network.standardise(features)
    field, towards = (torch.from_numpy(part / scale).float() for part in (anomalies, loadings))

    def error(which: Tensor) -> Tensor:
        # Of the field that the coefficients stand for; of no places it is NaN.
        return (layers(inputs[which]) @ towards - field[which]).abs().mean()

    known, validation = (torch.from_numpy(np.flatnonzero(which)) for which in (~held_out, held_out))
    errors = run_epochs(
        layers, error, known, validation, epochs=epochs, batch_size=batch_size, seed=seed
    )
    network.errors += [(scale * fitted, scale * held) for fitted, held in errors]
    return network


def create_layers(features: int, outputs: int, random: torch.Generator) -> nn.Sequential:
    """Make dense layers with ELU between them, He-normal weights and biases of 0."""
    from torch import nn

    widths = [features, *HIDDEN, outputs]
    layers: list[nn.Module] = []
    for inward, outward in pairwise(widths):
        # The usual constructor draws from the random state of the process, which is the caller's.
        layer = nn.utils.skip_init(nn.Linear, inward, outward)
        nn.init.kaiming_normal_(layer.weight, generator=random)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ELU()]
    return nn.Sequential(*layers[:-1])


def run_epochs(
    layers: nn.Module,
    error: Callable[[Tensor], Tensor],
    known: Tensor,
    validation: Tensor,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> list[tuple[float, float]]:
    """Train; the layers end with the weights of the best epoch, of the last one without held-out places."""
    import torch

    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.NAdam(layers.parameters())
    steps = epochs * -(-len(known) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    errors: list[tuple[float, float]] = []
    best = {}
    for _ in range(epochs):
        order = torch.randperm(len(known), generator=random)
        fitted = 0.0
        for batch in order.split(batch_size):
            loss = error(known[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            fitted += loss.item() * len(batch)
        with torch.no_grad():
            held_out = error(validation).item()
        errors.append((fitted / len(order), held_out))
        if errors[-1][1] <= min(held for _, held in errors):
            best = {name: value.clone() for name, value in layers.state_dict().items()}
    layers.load_state_dict(best or layers.state_dict())
    return errors
