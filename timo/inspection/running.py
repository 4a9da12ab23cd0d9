"""A model run as far as is asked, without a trace of it left in the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor, nn

from timo import cube as cubes
from timo.errors import TimoError
from timo.models.attention import SpatiotemporalAttention
from timo.models.tasks import TiMo

# What is called with an attention and its input: normalised tokens, and which of them hold an observation.
See = Callable[[SpatiotemporalAttention, Float[Tensor, "1 t n c"], Bool[Tensor, "1 t n"]], None]


class _Seen(Exception):  # noqa: N818 - no error: it ends a run that has gone far enough
    """Raised to end a run that has gone far enough."""


def borrowed(model: TiMo) -> TiMo:
    """Return modules of their own around the same weights, in evaluation mode.

    Their hooks do not disturb another thread, which may be training or mapping with the model.

    Raises
    ------
    TimoError
        If the model reads several sensors, whose frames are not the dates of the cube.
    """
    if model.config.encoder.groups:
        raise TimoError(
            f"Attention and features are those of a model of one sensor; this one reads {model.config.sensor}. Load "
            "one for a part of the cube: timo.load_model(name, timo.cube.separate(cube)[0], classes)."
        )
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()


def feature_maps(model: TiMo, cube: xr.DataArray) -> list[Float[Tensor, "1 t c i j"]]:
    """Return the maps of the four stages of a borrowed model; its head is not run."""
    parameter = next(model.parameters())
    bands, sensor = model.config.bands, cubes.sensor_of(cube, model.config.sensor)
    cubes.check_values(cube.values, sensor, bands, times=cube.time.values, part=True)
    x = torch.from_numpy(np.ascontiguousarray(cube.values))[None].to(parameter)
    dates = torch.from_numpy(cubes.days_since_epoch(cube.time))[None].to(parameter.device)
    # Not inference mode, whose tensors no gradient can be taken with: rollout needs one.
    with torch.no_grad():
        values, valid = model.normalise(x)
        return model.encoder(values, dates, valid)


def look(
    model: TiMo, cube: xr.DataArray, attentions: Sequence[SpatiotemporalAttention], see: See
) -> None:
    """Run a borrowed model up to the last of some attentions, and show what each is given.

    The last one itself, as all that follows it, is not computed any more.
    """

    def hook(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(attention, SpatiotemporalAttention)
        see(attention, inputs[0], inputs[1])
        if attention is attentions[-1]:
            raise _Seen

    handles = [attention.register_forward_pre_hook(hook) for attention in attentions]
    try:
        with suppress(_Seen):
            feature_maps(model, cube)
    finally:
        for handle in handles:
            handle.remove()
