"""Pictures of a reconstruction: what an autoencoder saw of a chip, what it predicted, what was there."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor

from timo.atomic import replacing
from timo.checks import Count, checked
from timo.errors import TimoError
from timo.models.mim import FRAME_NOISE, UNIT_NOISE, MaskedAutoencoder, MaskedConfig
from timo.sensors import get_sensor
from timo.training.batches import collate
from timo.training.inputs import evaluating
from timo.training.pretraining.masked import MaskedChips, cover
from timo.training.pretraining.module import PretrainModule

GREY, CLOUD = 0.5, 1.0


@checked
def picture(model: MaskedAutoencoder, chip: dict[str, Any], dates: Count = 4) -> Figure:
    """Draw a chip as the model saw it, as it predicted it, and as it was: a row for each of a few dates.

    In the first column hidden units are grey, in the second predicted. Where there was no observation all columns are
    white. Colours are true where the bands have red, green and blue, and stretched to the 2nd and 98th percentile of
    what was there that day.

    Parameters
    ----------
    model : MaskedAutoencoder
        The model. It is left as it was.
    chip : dict of Tensor
        x (t, c, h, w) physical values, dates (t), valid (t, h, w) and hidden (t, i, j), as `MaskedChips` gives them.
    dates : int
        Most dates to draw, spread over the series.

    Returns
    -------
    matplotlib.figure.Figure
        A figure of its own: the backend of the process and its open figures are not touched.
    """
    _check_chip(chip, model.config)
    return _draw(model.config, chip, _predicted(model, chip), dates)


def _check_chip(chip: dict[str, Any], config: MaskedConfig) -> None:
    """Check that a chip is one of `MaskedChips`, for this model."""
    shapes = [tuple(getattr(chip.get(n), "shape", ())) for n in ("x", "dates", "valid", "hidden")]
    time, _, *size = shapes[0] if len(shapes[0]) == 4 else (0, 0, 0, 0)
    units = [-(-length // config.unit) for length in size]
    expected = [(time, len(config.bands), *size), (time,), (time, *size), (time, *units)]
    if not time or shapes != expected:
        raise TimoError(
            "A chip has tensors x (t, c, h, w), dates (t), valid (t, h, w) and hidden (t, i, j), with "
            f"{len(config.bands)} bands and units of {config.unit} pixels; these have the shapes {shapes}. "
            "timo.training.pretraining.MaskedChips gives such chips."
        )


def _predicted(model: MaskedAutoencoder, chip: dict[str, Tensor]) -> Tensor:
    """Return what the model predicts, in physical values (t c h w), on the CPU."""
    batch = collate([chip | {"number": (0, 0)}])
    device = model.mask_token.device
    x, hidden, dates, valid = (batch[n].to(device) for n in ("x", "hidden", "dates", "valid"))
    with evaluating(model), torch.no_grad():
        predicted = model(x, hidden, dates, valid).prediction[0].float().cpu()
    return physical(predicted, chip, model.config)


def physical(
    predicted: Float[Tensor, "t c h w"], chip: dict[str, Tensor], config: MaskedConfig
) -> Float[Tensor, "t c h w"]:
    """Turn a prediction back into the values of the cube.

    What is predicted without the mean and scale of a frame, of a unit or of all hidden units gets those of the truth,
    as in the pictures of MAE: there is nothing else to know them from.
    """
    mean, std = (torch.tensor(n)[:, None, None] for n in (config.mean, config.std))
    if config.target != "values":
        truth = (chip["x"] - mean) / std
        valid = chip["valid"][:, None].expand_as(truth)
        if config.target == "batch":
            valid = valid & cover(chip["hidden"], config.unit, chip["valid"])[:, None]
        noise = FRAME_NOISE if config.target == "frame" else UNIT_NOISE
        for cell in _cells(truth.shape, config):
            inside = truth[cell][valid[cell]]
            if inside.numel() > 1:
                predicted[cell] = predicted[cell] * (inside.var() + noise).sqrt() + inside.mean()
    return predicted * std + mean


def _cells(shape: torch.Size, config: MaskedConfig) -> list[Any]:
    """Return where the values lie that share their mean and scale: each frame and band, each unit, or everything."""
    if config.target == "batch":
        return [...]
    if config.target == "frame":
        return [(t, c) for t in range(shape[0]) for c in range(shape[1])]
    unit = config.unit
    return [
        (t, slice(None), slice(i, i + unit), slice(j, j + unit))
        for t in range(shape[0])
        for i in range(0, shape[2], unit)
        for j in range(0, shape[3], unit)
    ]


def colours(config: MaskedConfig) -> list[int]:
    """Return the positions of red, green and blue among the bands; of the first bands where one is missing."""
    names = [band.common_name for band in get_sensor(config.sensor).select(config.bands)]
    if all(name in names for name in ("red", "green", "blue")):
        return [names.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(names) >= 3 else [0, 0, 0]


def _draw(config: MaskedConfig, chip: dict[str, Tensor], predicted: Tensor, dates: int) -> Figure:
    bands = colours(config)
    truth, valid = chip["x"][:, bands].numpy(), chip["valid"].numpy()
    hidden = cover(chip["hidden"], config.unit, chip["valid"]).numpy()
    when = np.unique(np.linspace(0, len(truth) - 1, min(dates, len(truth))).round().astype(int))
    days = chip["dates"].numpy().astype("int64").astype("datetime64[D]")
    # Not pyplot: its figures are the user's, and choosing a backend for it would change theirs.
    figure = Figure(figsize=(6.2, 2 * len(when) + 0.4), dpi=80, layout="constrained")
    axes = figure.subplots(len(when), 3, squeeze=False)
    for row, t in zip(axes, when, strict=True):
        # Each date for itself: beside snow or haze, all that differs on a summer's day would be one green.
        low, high = _stretch(truth[t], valid[t])
        images = [
            (image[t] - low) / (high - low) for image in (truth, truth, predicted[:, bands].numpy())
        ]
        seen, whole, guess = (image.clip(0, 1).transpose(1, 2, 0) for image in images)
        # What it saw the model does not predict.
        guess = np.where(hidden[t][..., None], guess, seen)
        for axis, image, mask in zip(
            row, (seen, guess, whole), (hidden[t], None, None), strict=True
        ):
            grey = image if mask is None else np.where(mask[..., None], GREY, image)
            axis.imshow(np.where(valid[t][..., None], grey, CLOUD), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(str(days[t]), fontsize=9)
    for axis, title in zip(axes[0], ("seen", "predicted where hidden", "truth"), strict=True):
        axis.set_title(title, fontsize=10)
    return figure


def _stretch(truth: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest value of each colour that is drawn, each (3, 1, 1)."""
    shown = truth[:, valid]
    if not shown.size:
        return np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    low, high = np.percentile(shown, (2, 98), axis=1)[..., None, None]
    return low, np.maximum(high, low + 1e-6)


class Pictures(Callback):
    """Draw the same chip, with the same mask, each `every` epochs and at the last one."""

    def __init__(self, folder: Path, chips: MaskedChips, every: int) -> None:
        self.folder, self.chips, self.every = folder, chips, every

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Draw. Every process predicts, because a sharded model needs all; one writes."""
        assert isinstance(module, PretrainModule)
        done = trainer.current_epoch + 1
        if done % self.every and done != trainer.max_epochs:
            return
        figure = picture(module.model, self.chips[0, 0])
        if trainer.is_global_zero:
            with replacing(self.folder / f"epoch-{done:04d}.png") as partial:
                figure.savefig(partial)
