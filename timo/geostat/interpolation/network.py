"""The network of Amato et al. (2020): from coordinates and covariates to the coefficients of a field's components.

Five hidden layers (300, 100, 100, 100, 100) of exponential linear units, He's normal initialisation (He et al. 2015),
Nadam (Dozat 2016) and a one-cycle learning rate (Smith and Topin 2019). The loss is the mean absolute error of the
field that the coefficients stand for, not of the coefficients: a component counts for what it carries.

There is no batch normalisation. A field that is learnt from coordinates alone needs them exactly, and the noise of the
batches' statistics is worth several times the error that is otherwise reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from timo.geostat.options import whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Floats = NDArray[np.floating]
HIDDEN = (300, 100, 100, 100, 100)
PEAK_RATE = 5e-3
BLOCK = 65_536  # places predicted at once


@dataclass(frozen=True)
class Training:
    """How the network is trained.

    Parameters
    ----------
    epochs, batch_size : int
        Passes over the places; places in a step.
    seed : int
        Of the first weights and the order of the places.
    """

    epochs: int = 300
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            object.__setattr__(self, name, whole(getattr(self, name), name, least))


@dataclass(eq=False)
class Network:
    """A trained network, and the errors on the way there.

    Parameters
    ----------
    layers : torch.nn.Module
        From standardised features to coefficients.
    centre, spread : array of shape (features,)
        What the features are standardised by.
    errors : list of (float, float)
        Mean absolute error of the field at the places trained on and held out, for each epoch, in the field's unit.
    """

    layers: nn.Module
    centre: Floats
    spread: Floats
    errors: list[tuple[float, float]] = field(default_factory=list)

    def predict(self, features: Floats) -> Floats:
        """Coefficients, shape (place, K), of features of shape (place, feature)."""
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


@dataclass(frozen=True, eq=False)
class Samples:
    """Features of places and their field, less its mean, both standardised."""

    features: Float[Tensor, "place feature"]
    field: Float[Tensor, "place time"]

    def __getitem__(self, which: Tensor) -> Samples:
        return Samples(self.features[which], self.field[which])


def train(
    features: Floats,
    anomalies: Floats,
    loadings: Floats,
    held_out: NDArray[np.bool_],
    training: Training,
) -> Network:
    """Train a network to give the coefficients of a field's components from features of the places.

    Deterministic for a seed; neither torch's random state nor its number of threads is touched.

    Parameters
    ----------
    features : array of shape (place, feature)
        Coordinates and covariates.
    anomalies : array of shape (place, time)
        The field less its spatial mean at each time.
    loadings : array of shape (K, time)
        diag(s) V^T of `EOFs`.
    held_out : bool array of shape (place,)
        Places that are not trained on: the weights of the epoch with the lowest error on them are kept.
    training : Training
    """
    import torch

    random = torch.Generator().manual_seed(training.seed)
    centre, spread = features[~held_out].mean(axis=0), features[~held_out].std(axis=0)
    scale = float(anomalies.std()) or 1.0
    layers = create_layers(features.shape[1], len(loadings), random)
    network = Network(layers, centre, np.where(spread > 0, spread, 1.0))
    samples = Samples(
        network.standardise(features), torch.from_numpy(anomalies / scale).to(torch.float32)
    )
    known, validation = (samples[torch.from_numpy(which)] for which in (~held_out, held_out))
    towards = torch.from_numpy(loadings / scale).to(torch.float32)
    errors = run_epochs(layers, known, validation, towards, training)
    network.errors += [(scale * fitted, scale * held) for fitted, held in errors]
    return network


def create_layers(features: int, outputs: int, random: torch.Generator) -> nn.Sequential:
    """Dense layers with ELU between them, He-normal weights and biases of 0."""
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
    known: Samples,
    validation: Samples,
    loadings: Float[Tensor, "component time"],
    training: Training,
) -> list[tuple[float, float]]:
    """Train, and leave the layers with the weights of the best epoch; the last one's without held-out places."""
    import torch

    random = torch.Generator().manual_seed(training.seed)
    steps = training.epochs * -(-len(known.features) // training.batch_size)
    optimiser = torch.optim.NAdam(layers.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    errors: list[tuple[float, float]] = []
    best = {}
    for _ in range(training.epochs):
        order = torch.randperm(len(known.features), generator=random)
        fitted = [
            step(layers, known[batch], loadings, optimiser, schedule) * len(batch)
            for batch in order.split(training.batch_size)
        ]
        errors.append((sum(fitted) / len(order), validation_error(layers, validation, loadings)))
        if errors[-1][1] <= min(held for _, held in errors):
            best = {name: value.clone() for name, value in layers.state_dict().items()}
    layers.load_state_dict(best or layers.state_dict())
    return errors


def step(
    layers: nn.Module,
    batch: Samples,
    loadings: Float[Tensor, "component time"],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """One step of the optimiser and of its learning rate; the error before it."""
    loss = field_error(layers, batch, loadings)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    return loss.item()


def field_error(
    layers: nn.Module, samples: Samples, loadings: Float[Tensor, "component time"]
) -> Float[Tensor, ""]:
    """Mean absolute error of the field that the predicted coefficients stand for."""
    return (layers(samples.features) @ loadings - samples.field).abs().mean()


def validation_error(
    layers: nn.Module, samples: Samples, loadings: Float[Tensor, "component time"]
) -> float:
    """The same of places held out, without gradients; NaN where there are none."""
    import torch

    with torch.no_grad():
        return field_error(layers, samples, loadings).item()
