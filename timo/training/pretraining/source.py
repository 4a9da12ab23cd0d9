"""What a pretraining learns from, and the autoencoder that fits it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.cancel import Stop
from timo.errors import TimoError
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.places import Places
from timo.places.packed.store import ChipStore
from timo.places.places import places_of
from timo.places.split import Split, check_part
from timo.training.inputs import TRAIN, VALIDATION, Given, load_places
from timo.training.pretraining.recipe import autoencoder_config, new_autoencoder
from timo.training.windows import WindowOptions, Windows

CHIPS_PER_EPOCH = 320
Data: TypeAlias = (
    xr.DataArray | Places | Sequence[xr.DataArray] | ChipStore | str | os.PathLike[str]
)
Exclude: TypeAlias = xr.DataArray | Sequence[xr.DataArray] | Split


@dataclass(frozen=True)
class Source:
    """Windows of places, to train on and to validate on."""

    train: Windows
    validation: Windows | None
    bands: tuple[str, ...]
    sensor: str
    plan: dict[str, str]


def open_source(
    data: Data,
    exclude: Exclude | None,
    options: WindowOptions,
    *,
    length: int | None,
    batch_size: int,
    seed: int,
    stop: Stop | None,
) -> Source:
    """Return windows of what was given; `length` in an epoch, made whole batches."""
    places = _places(data)
    _check_sensor(places)
    split = None if exclude is None else _split(places, exclude)
    places = load_places(places, stop)
    length = _whole(length or (CHIPS_PER_EPOCH if places.in_memory else len(places)), batch_size)

    def windows(part: int, length: int, options: WindowOptions) -> Windows:
        of = None if split is None else part
        return Windows(places, length, options, seed, part=of, split=split, labelled=False)

    given, held = Given(places, split), None
    if len(given.numbers(VALIDATION)):
        count = _whole(max(length // 5, 8), batch_size)
        held = windows(VALIDATION, count, replace(options, rotate=False))
    sensor = places.sensor or "sentinel-2"
    return Source(windows(TRAIN, length, options), held, places.bands, sensor, given.plan())


def _places(data: Data) -> Places:
    """Return places of cubes, of a packed store, or those that were given."""
    if isinstance(data, ChipStore):
        return places_of(data.path)
    if isinstance(data, xr.DataArray | list | tuple):
        series = [data] if isinstance(data, xr.DataArray) else list(data)
        if not series:
            raise TimoError("no data: give a cube, a list of cubes, places, or the path of a store")
        for cube in series:
            cubes.check(cube, sensor="sentinel-2")
        return Places(series)
    return places_of(data)


def _check_sensor(places: Places) -> None:
    sensor = places.sensor or ""
    if len(cubes.band_groups(places.bands, sensor)) > 1:
        raise TimoError(
            f"A pretraining reads one sensor, and these places join {sensor}. Pretrain on the cubes of one, which "
            "timo.cube.separate(cube) gives; a model of both sensors can start from that encoder."
        )


def _split(places: Places, exclude: Exclude) -> Split:
    """Return the split that masks or splits of each cube are: what a mask excludes is a test part."""
    if isinstance(exclude, xr.DataArray):
        exclude = [exclude]
    if len(exclude) != len(places):
        raise TimoError(
            f"{len(places)} cubes need as many arrays in exclude, one for each; got {len(exclude)}."
        )
    if isinstance(exclude, Split):
        return exclude
    return Split([_part(places, number, array) for number, array in enumerate(exclude)])


def _part(places: Places, number: int, array: xr.DataArray) -> xr.DataArray:
    numbers = check_part(array, places.open(number)[0], "exclude")
    if numbers.dtype == bool:
        numbers = numbers * 2
    numbers = np.where((numbers < 0) | (numbers > 2), -1, numbers)
    return array.copy(data=numbers.astype("int8"))


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
