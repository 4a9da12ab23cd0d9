"""A model run as far as is asked, without a trace of it left in the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor, nn

from timo import cube as cubes
from timo.models.attention import SpatiotemporalAttention
from timo.models.tasks import TiMo

# What is called with an attention's input: normalised tokens, and which of them hold an observation.
Look = Callable[[Float[Tensor, "1 t n c"], Bool[Tensor, "1 t n"]], None]


class _Seen(Exception):  # noqa: N818 - no error: it ends a run that has gone far enough
    """Raised to end a run that has gone far enough."""


def borrowed(model: TiMo) -> TiMo:
    """Return modules of their own around the same weights, in evaluation mode.

    Their hooks do not disturb another thread, which may be training or mapping with the model.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()


def select_bands(model: TiMo, cube: xr.DataArray) -> xr.DataArray:
    """Return the bands of the model (see `timo.cube.select_bands`)."""
    return cubes.select_bands(cube, model.config.bands, model.config.sensor)


def _call(model: TiMo, cube: xr.DataArray) -> None:
    parameter = next(model.parameters())
    bands, sensor = model.config.bands, cubes.sensor_of(cube, model.config.sensor)
    cubes.check_values(cube.values, sensor, bands, times=cube.time.values, part=True)
    x = torch.from_numpy(np.ascontiguousarray(cube.values))[None].to(parameter)
    dates = torch.from_numpy(cubes.days_since_epoch(cube.time))[None].to(parameter.device)
    # Not inference mode, whose tensors no gradient can be taken with: rollout needs one.
    with torch.no_grad():
        model(x, dates)


def look(model: TiMo, cube: xr.DataArray, watched: dict[SpatiotemporalAttention, Look]) -> None:
    """Run a borrowed model up to the last of some attentions, which are watched at work.

    Parameters
    ----------
    model : TiMo
        What `borrowed` gave.
    cube : xarray.DataArray
        A cube with the bands of the model.
    watched : dict
        For each attention what to call with its input, in the order in which they run. The last one itself is not
        computed any more.
    """
    last = list(watched)[-1]

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, SpatiotemporalAttention)
        watched[module](inputs[0], inputs[1])
        if module is last:
            raise _Seen

    handles = [attention.register_forward_pre_hook(hook) for attention in watched]
    try:
        _call(model, cube)
    except _Seen:
        return
    finally:
        for handle in handles:
            handle.remove()
    raise AssertionError("the model ran without its attentions")


def feature_maps(model: TiMo, cube: xr.DataArray) -> list[Float[Tensor, "1 t c i j"]]:
    """Return the maps of the four stages of a borrowed model; its head is not run."""
    found: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, maps: list[Tensor]) -> None:
        found.extend(maps)
        raise _Seen

    handle = model.encoder.register_forward_hook(hook)
    try:
        _call(model, cube)
    except _Seen:
        return found
    finally:
        handle.remove()
    raise AssertionError("the model ran without its encoder")
