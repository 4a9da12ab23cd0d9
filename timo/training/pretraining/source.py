"""What a pretraining learns from, cubes or a store, and the autoencoder that fits it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xarray as xr

from timo import cube as cubes
from timo.cancel import Stop
from timo.checks import PathLike
from timo.errors import TimoError
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.training.chips.dataset import StoreDataset
from timo.training.chips.store import ChipStore
from timo.training.inputs import digest, load
from timo.training.pretraining.masked import Chips
from timo.training.pretraining.recipe import autoencoder_config, new_autoencoder
from timo.training.pretraining.windows import WindowDataset, WindowOptions, seen_areas

CHIPS_PER_EPOCH = 320
Data = xr.DataArray | Sequence[xr.DataArray] | ChipStore | PathLike


@dataclass(frozen=True)
class Source:
    """Data of either kind, and how chips of them are drawn."""

    train: Chips
    validation: Chips | None
    bands: tuple[str, ...]
    sensor: str
    digest: str


def open_source(
    data: Data,
    exclude: xr.DataArray | Sequence[xr.DataArray] | None,
    options: WindowOptions,
    *,
    length: int | None,
    batch_size: int,
    seed: int,
    stop: Stop | None,
) -> Source:
    """Return chips of cubes, or of a store; `length` in an epoch, made whole batches."""
    if isinstance(data, ChipStore | str | os.PathLike):
        if exclude is not None:
            raise TimoError(
                "exclude is for cubes: leave out of a store what is not to be seen when you pack it, with "
                "timo.training.chips.pack(..., exclude=...)."
            )
        store = data if isinstance(data, ChipStore) else ChipStore(Path(data))
        stored = StoreDataset(store, _whole(length or len(store), batch_size), options, seed)
        # Of half a terabyte, the digest of the places and dates will do.
        keys = [xr.DataArray(store.table[name]) for name in ("key", "dates", "crc")]
        sensor = store.layout.sensor or "sentinel-2"
        return Source(stored, None, tuple(store.layout.bands), sensor, digest(*keys))
    series = [data] if isinstance(data, xr.DataArray) else list(data)
    if not series:
        raise TimoError("no data: give a cube, a list of cubes, or the path of a chip store")
    series = [cubes.check(load(cubes.check(cube), stop), sensor="sentinel-2") for cube in series]
    train, validation = seen_areas(series, exclude)
    length = _whole(length or CHIPS_PER_EPOCH, batch_size)
    chips = WindowDataset(series, train, length, options, seed)
    held = None
    if any(area.any() for area in validation):
        count = _whole(max(length // 5, 8), batch_size)
        held = WindowDataset(series, validation, count, replace(options, rotate=False), seed)
    sensors = {str(cube.attrs.get("sensor", "sentinel-2")) for cube in series}
    if len(sensors) > 1:
        raise TimoError(f"all cubes must be of one sensor, got {', '.join(sorted(sensors))}")
    parts = [digest(cube, *(cube[dim] for dim in cube.dims)) for cube in series]
    parts += [digest(xr.DataArray(area)) for area in (*train, *validation)]
    return Source(chips, held, chips.bands, sensors.pop(), " ".join(parts))


def _whole(length: int, batch_size: int) -> int:
    """Round up to whole batches: each step sees as many chips as any other, in each process."""
    return -(-length // batch_size) * batch_size


def make_autoencoder(
    model: str | MaskedConfig | MaskedAutoencoder, source: Source, unit: int | None, seed: int
) -> MaskedAutoencoder:
    """Return an autoencoder for the data: by name or config with random weights, or the one that was given."""
    if isinstance(model, str):
        config = autoencoder_config(model, source.bands, source.sensor, unit=unit)
        return new_autoencoder(config, seed)
    config = model if isinstance(model, MaskedConfig) else model.config
    if unit not in (None, config.unit):
        raise TimoError(
            f"the config says unit={config.unit}, the call unit={unit}: give it in one place"
        )
    if config.bands != source.bands:
        raise TimoError(
            f"the model reads the bands {config.bands}, the data have {source.bands}: use "
            f"cube.sel(band={list(config.bands)}), or another config"
        )
    return new_autoencoder(config, seed) if isinstance(model, MaskedConfig) else model
