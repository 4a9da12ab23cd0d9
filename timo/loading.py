"""A model for a cube: by the name of a size, or from a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError
from timo.models.config import SIZES, EncoderConfig, encoder_config
from timo.models.tasks import ModelConfig, TiMo, build
from timo.models.weights import SavedEncoder, kind_of, load, load_encoder
from timo.sensors import Sensor, get_sensor

# What may be chosen anew for an encoder that is there: none of it changes what its weights mean.
FREE = ("drop_path", "checkpoint")


def load_model(
    name: str | Path,
    cube: xr.DataArray | None = None,
    classes: Sequence[str] | None = None,
    *,
    task: str = "segmentation",
    per_date: bool = True,
    seed: int = 0,
    **encoder: Any,
) -> TiMo:
    """Model that reads a cube and tells classes apart.

    Parameters
    ----------
    name : str or path
        "timo-tiny", "timo-small", "timo-base", "timo-large" or "timo-huge" for a new model with random weights; the
        folder of a model that `timo.save` wrote; or the folder of an encoder that `timo.pretrain` wrote, for a new
        model that starts from it.
    cube : xarray.DataArray, optional
        The cube that it is to read; needed for a new model. A saved model is checked against it.
    classes : sequence of str, optional
        Names of the classes, in the order of the labels; needed for a new model.
    task : {"segmentation", "classification"}
        For a new model: a class for each pixel, or for the chip.
    per_date : bool
        For a new model: a class for each date, or for the series.
    seed : int
        Seed of the weights of a new model.
    **encoder
        Fields of `timo.models.EncoderConfig` for a new model, e.g. ``drop_path=0.1``. With ``stem="wavelength"`` the
        wavelengths are those of the sensor's bands unless they are given. From a pretrained encoder: ``drop_path`` and
        ``checkpoint`` alone.

    Returns
    -------
    TiMo
        The model, in evaluation mode.

    Raises
    ------
    TimoError
        If the name is neither a size nor a folder of a model, or the model does not fit the cube or the classes.
    """
    pretrained = None
    if str(name).removeprefix("timo-") not in SIZES:
        path = _existing(name)
        if kind_of(path) == "model":
            if encoder:
                raise TimoError(
                    f"{sorted(encoder)} are options of a new model, {str(name)!r} is a saved one"
                )
            return _saved(path, cube, classes)
        pretrained = load_encoder(path)
    if cube is None or classes is None:
        raise TimoError(
            f'a new {name} must know what it reads and what it tells apart: load_model("{name}", cube=cube, '
            'classes=["forest", "other"])'
        )
    cubes.check(cube)
    bands = tuple(str(band) for band in cube.band.values)
    sensor = get_sensor(cube.attrs.get("sensor", "sentinel-2"))
    if pretrained is None:
        config = _random(str(name), bands, sensor, encoder)
    else:
        config = _continued(path, pretrained, bands, sensor, encoder)
        if pretrained.config.stem == "plain":
            bands = pretrained.bands
    known = sensor.select(bands)
    normalisation = {band.name: (band.mean, band.std) for band in known}
    if pretrained is not None and pretrained.sensor == sensor.name:
        # What the encoder was trained with, should the sensor's numbers ever change.
        normalisation |= dict(
            zip(pretrained.bands, zip(pretrained.mean, pretrained.std, strict=True), strict=True)
        )
    model = build(
        ModelConfig(
            encoder=config,
            bands=bands,
            classes=_names(classes),
            mean=tuple(normalisation[band][0] for band in bands),
            std=tuple(normalisation[band][1] for band in bands),
            task=task,
            per_date=per_date,
            sensor=sensor.name,
        ),
        seed,
    )
    if pretrained is not None:
        model.encoder.load_state_dict(pretrained.state)
    return model


def _random(
    size: str, bands: tuple[str, ...], sensor: Sensor, options: dict[str, Any]
) -> EncoderConfig:
    """Config of a new encoder for these bands."""
    if options.get("stem") == "wavelength":
        wavelengths = tuple(band.wavelength_um for band in sensor.select(bands))
        options = {"wavelengths": wavelengths} | options
    return encoder_config(size, len(bands), **options)


def _continued(
    path: Path,
    pretrained: SavedEncoder,
    bands: tuple[str, ...],
    sensor: Sensor,
    options: dict[str, Any],
) -> EncoderConfig:
    """Config of a pretrained encoder, for these bands."""
    if fixed := sorted(set(options) - set(FREE)):
        raise TimoError(
            f"{fixed} are settled by the encoder at {path}: only {' and '.join(FREE)} can be chosen"
        )
    config = replace(pretrained.config, **options)
    if config.stem == "wavelength":
        wavelengths = tuple(band.wavelength_um for band in sensor.select(bands))
        return replace(config, in_channels=len(bands), wavelengths=wavelengths)
    missing = [band for band in pretrained.bands if band not in bands]
    if missing or pretrained.sensor != sensor.name:
        raise TimoError(
            f"the encoder at {path} reads the bands {list(pretrained.bands)} of {pretrained.sensor}, the cube has "
            f"{list(bands)} of {sensor.name}. One with the stem of wavelengths would read any: "
            'timo.pretrain(..., autoencoder_config(..., stem="wavelength"))'
        )
    return config


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str):
        # A text is a sequence as well: of letters.
        raise TimoError(f"classes must be a list of names, got the text {classes!r}")
    return tuple(classes)


def _existing(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise TimoError(
            f"unknown model {str(name)!r}: neither a size (timo-{', timo-'.join(SIZES)}) nor a folder that timo.save "
            "wrote"
        )
    return path


def _saved(path: Path, cube: xr.DataArray | None, classes: Sequence[str] | None) -> TiMo:
    model = load(path)
    if classes is not None and _names(classes) != model.config.classes:
        raise TimoError(
            f"the model at {path} tells {model.config.classes} apart, not {_names(classes)}: leave classes out, or "
            "train a new model"
        )
    if cube is not None:
        cubes.check(cube)
        bands = [str(band) for band in cube.band.values]
        if missing := [band for band in model.config.bands if band not in bands]:
            raise TimoError(
                f"the model at {path} reads the bands {list(model.config.bands)}, the cube has {bands}: {missing} "
                "missing"
            )
    return model
