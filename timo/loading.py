"""A model for a cube: by the name of a size, or from a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError
from timo.models.config import SIZES, encoder_config
from timo.models.tasks import ModelConfig, TiMo, build
from timo.models.weights import load
from timo.sensors import get_sensor


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
        "timo-tiny", "timo-small", "timo-base", "timo-large" or "timo-huge" for a new model with random weights, or the
        folder of a model that `timo.save` wrote.
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
        wavelengths are those of the sensor's bands unless they are given.

    Returns
    -------
    TiMo
        The model, in evaluation mode.

    Raises
    ------
    TimoError
        If the name is neither a size nor a folder of a model, or the model does not fit the cube or the classes.
    """
    if str(name).removeprefix("timo-") not in SIZES:
        if encoder:
            raise TimoError(
                f"{sorted(encoder)} are options of a new model, {str(name)!r} is a saved one"
            )
        return _saved(name, cube, classes)
    if cube is None or classes is None:
        raise TimoError(
            f'a new {name} must know what it reads and what it tells apart: load_model("{name}", cube=cube, '
            'classes=["forest", "other"])'
        )
    cubes.check(cube)
    bands = tuple(str(band) for band in cube.band.values)
    sensor = get_sensor(cube.attrs.get("sensor", "sentinel-2"))
    known = sensor.select(bands)
    if encoder.get("stem") == "wavelength":
        encoder.setdefault("wavelengths", tuple(band.wavelength_um for band in known))
    config = ModelConfig(
        encoder=encoder_config(str(name), len(bands), **encoder),
        bands=bands,
        classes=_names(classes),
        mean=tuple(band.mean for band in known),
        std=tuple(band.std for band in known),
        task=task,
        per_date=per_date,
        sensor=sensor.name,
    )
    return build(config, seed)


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str):
        # A text is a sequence as well: of letters.
        raise TimoError(f"classes must be a list of names, got the text {classes!r}")
    return tuple(classes)


def _saved(name: str | Path, cube: xr.DataArray | None, classes: Sequence[str] | None) -> TiMo:
    path = Path(name).expanduser()
    if not path.exists():
        raise TimoError(
            f"unknown model {str(name)!r}: neither a size (timo-{', timo-'.join(SIZES)}) nor a folder that timo.save "
            "wrote"
        )
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
