"""A model for a cube: by the name of a size, from the weights that come with timo, or from a folder."""

import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr

from timo import cube as cubes
from timo.atomic import check_name
from timo.checks import PathLike, Seed, checked, did_you_mean
from timo.errors import TimoError, warn
from timo.models.config import SIZES, EncoderConfig, check_overrides, encoder_config
from timo.models.tasks import ModelConfig, Task, TiMo, build
from timo.models.weights import CONFIG, WEIGHTS, SavedEncoder, kind_of, load, load_encoder
from timo.sensors import Sensor, get_sensor

logger = logging.getLogger(__name__)

# The folders of timo/weights; each holds what `save_encoder` writes and, for people, a model card.
SHIPPED = ("timo-tiny",)
# Options that may be changed for an existing encoder: its weights keep their meaning.
FREE = ("drop_path", "checkpoint")


@dataclass(frozen=True)
class _Data:
    """Bands and sensor that a new model reads."""

    bands: tuple[str, ...]
    sensor: Sensor

    def codes(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Return the wavelength of each band: the one chosen, else the sensor's; NaN where it has none."""
        own = [band.wavelength_um for band in self.sensor.select(self.bands)]
        return dict(zip(self.bands, options.get("wavelengths") or own, strict=True))


@dataclass(frozen=True)
class _Start:
    """Config and initial weights of the encoder of a new model: those of `saved`, or random ones."""

    config: EncoderConfig
    initial_weights: str
    saved: SavedEncoder | None = None


@checked
def load_model(
    name: PathLike,
    cube: xr.DataArray | None = None,
    classes: Sequence[str] | None = None,
    *,
    task: Task = "segmentation",
    per_date: bool = True,
    seed: Seed = 0,
    pretrained: bool | None = None,
    **encoder: Any,
) -> TiMo:
    """Load a saved model, or make a new one for a cube and its classes.

    A new "timo-tiny" starts from the pretrained encoder that comes with timo, wherever it can; the initial weights
    are named in its ``config.initial_weights``, saved with it and shown with it, and the log says why.

    Parameters
    ----------
    name : str or path
        "timo-tiny", "timo-small", "timo-base", "timo-large" or "timo-huge" for a new model; the folder of a model that
        `timo.save` wrote; or the folder of an encoder that `timo.pretrain` wrote, for a new model that starts from it.
    cube : xarray.DataArray, optional
        The cube that it is to read; needed for a new model. A saved model is checked against it. Its values are checked
        too (`timo.cube.check`), those of a lazy cube when they are computed.
    classes : sequence of str, optional
        Names of the classes, in the order of the labels; needed for a new model.
    task : {"segmentation", "classification"}
        For a new model: a class for each pixel, or for the chip.
    per_date : bool
        For a new model: a class for each date, or for the series.
    seed : int
        Seed of the random weights of a new model; its head has such in any case.
    pretrained : bool, optional
        For a new model of a named size. True: the encoder starts from the pretrained weights that come with timo, of
        "timo-tiny" alone, which read the bands of any optical sensor. False: from random weights. None: from the
        pretrained ones where there are some, the options below leave the encoder what it is, and the cube is no radar
        (which they never saw; True takes them there too, with a warning); from random weights otherwise.
    **encoder
        Fields of `timo.models.EncoderConfig` for a new model, e.g. ``drop_path=0.1``. With ``stem="wavelength"`` the
        wavelengths are those of the sensor's bands unless they are given. With pretrained weights: ``drop_path`` and
        ``checkpoint``, and with the stem of wavelengths ``wavelengths``; any other must be what it is already.

    Returns
    -------
    TiMo
        In evaluation mode.

    Raises
    ------
    TimoError
        If the name is neither a size nor a folder of a model, the model does not fit the cube or the classes, or
        pretrained weights are wanted where there are none that fit.
    """
    size = f"timo-{str(name).removeprefix('timo-')}"
    path = None if size.removeprefix("timo-") in SIZES else _existing(name)
    if path is not None and kind_of(path) == "model":
        given = sorted(encoder) + (["pretrained"] if pretrained is not None else [])
        if given:
            raise TimoError(f"{given} are options of a new model, {str(path)!r} is a saved one")
        model = load(path)
        if classes is not None and tuple(classes) != model.config.classes:
            raise TimoError(
                f"the model at {path} has the classes {model.config.classes}, not {tuple(classes)}: leave classes out, "
                "or train a new model"
            )
        if cube is not None:
            cubes.select_bands(cube, model.config.bands, model.config.sensor)
        return model
    if cube is None or classes is None:
        raise TimoError(
            f'a new {name} needs a cube to read and classes to predict: load_model("{name}", cube=cube, '
            'classes=["forest", "other"])'
        )
    options = check_overrides(encoder)
    sensor = get_sensor(cubes.check(cube, sensor="sentinel-2").attrs.get("sensor", "sentinel-2"))
    data = _Data(tuple(str(band) for band in cube.band.values), sensor)
    if path is not None:
        start = _from_folder(path, data, options, pretrained)
    else:
        start = _from_size(size, data, options, pretrained, seed)
    return _new(start, data, tuple(classes), task=task, per_date=per_date, seed=seed)


def _new(
    start: _Start, data: _Data, classes: tuple[str, ...], *, task: Task, per_date: bool, seed: int
) -> TiMo:
    """Make a model with a random head; the encoder's weights are random as well unless it starts from others."""
    saved = start.saved
    # Kernels of its own bands read nothing else.
    bands = saved.bands if saved is not None and saved.config.stem == "plain" else data.bands
    normalisation = {band.name: (band.mean, band.std) for band in data.sensor.select(bands)}
    if saved is not None and saved.sensor == data.sensor.name:
        # Those that the encoder was trained with, should the sensor's ever change.
        normalisation |= dict(
            zip(saved.bands, zip(saved.mean, saved.std, strict=True), strict=True)
        )
    config = ModelConfig(
        encoder=start.config,
        bands=bands,
        classes=classes,
        mean=tuple(normalisation[band][0] for band in bands),
        std=tuple(normalisation[band][1] for band in bands),
        task=task,
        per_date=per_date,
        sensor=data.sensor.name,
        initial_weights=start.initial_weights,
    )
    model = build(config, seed)
    if saved is not None:
        model.encoder.load_state_dict(saved.state)
    return model


def _from_size(
    size: str, data: _Data, options: Mapping[str, Any], pretrained: bool | None, seed: int
) -> _Start:
    """Start from the weights that come with timo, or from random ones."""
    if "in_channels" in options:
        raise TimoError("in_channels is the number of the cube's bands: leave it out")
    named = _with_wavelengths(data, options) if options.get("stem") == "wavelength" else options
    config = encoder_config(size, len(data.bands), **named)
    saved = load_shipped(size) if size in SHIPPED and pretrained is not False else None
    codes = data.codes(options)
    radar = any(code <= 0 for code in codes.values())
    why = "pretrained=False" if pretrained is False else _obstacle(saved, options, codes)
    if not why and pretrained is None and radar:
        why = "the pretrained ones never saw radar; pretrained=True takes them all the same"
    if saved is None or why:
        if pretrained:
            raise TimoError(
                f"{size} cannot start from pretrained weights: {why}. pretrained=False takes random ones"
            )
        logger.info("%s: random weights, seed %d (%s)", size, seed, why)
        return _Start(config, f"random (seed {seed})")
    if radar:
        warn(
            f"the pretrained weights of {size} never saw radar: what they make of its bands is random still"
        )
    start = _Start(_continued(saved, data, options), _title(saved, size), saved)
    logger.info("%s: starts from %s; head random, seed %d", size, start.initial_weights, seed)
    return start


def _obstacle(
    saved: SavedEncoder | None, options: Mapping[str, Any], codes: dict[str, float]
) -> str:
    """Return why the shipped weights cannot be used; empty if they can."""
    if saved is None:
        return f"timo comes with those of {', '.join(SHIPPED)} alone"
    if changed := _settled(saved.config, options):
        return f"with another {' and '.join(changed)} it is not the encoder that was pretrained"
    if without := [name for name, code in codes.items() if math.isnan(code)]:
        return f"they know bands by their wavelengths, and there is none of {' and '.join(without)}"
    return ""


def _from_folder(
    path: Path, data: _Data, options: Mapping[str, Any], pretrained: bool | None
) -> _Start:
    """Start from a pretrained encoder in a folder."""
    if pretrained is False:
        raise TimoError(
            f"{path} holds a pretrained encoder: for random weights give the name of a size, e.g. timo-tiny"
        )
    saved = load_encoder(path)
    if fixed := _settled(saved.config, options):
        raise TimoError(
            f"{fixed} are settled by the encoder at {path}: only {' and '.join(FREE)} can be chosen"
        )
    missing = [band for band in saved.bands if band not in data.bands]
    if saved.config.stem != "wavelength" and (missing or saved.sensor != data.sensor.name):
        raise TimoError(
            f"the encoder at {path} reads the bands {list(saved.bands)} of {saved.sensor}, the cube has "
            f"{list(data.bands)} of {data.sensor.name}. One with the stem of wavelengths would read any: "
            'timo.pretrain(..., autoencoder_config(..., stem="wavelength"))'
        )
    start = _Start(_continued(saved, data, options), _title(saved, path.resolve().name), saved)
    logger.info("%s: starts from %s", path, start.initial_weights)
    return start


def _settled(config: EncoderConfig, options: Mapping[str, Any]) -> list[str]:
    """Return the options that would change a pretrained encoder."""
    free = (*FREE, "wavelengths") if config.stem == "wavelength" else FREE
    return sorted(n for n, v in options.items() if n not in free and v != getattr(config, n))


def _continued(saved: SavedEncoder, data: _Data, options: Mapping[str, Any]) -> EncoderConfig:
    """Return the config of a pretrained encoder, for these bands."""
    if saved.config.stem == "wavelength":
        options = {"in_channels": len(data.bands), **_with_wavelengths(data, options)}
    return replace(saved.config, **options)


def _title(saved: SavedEncoder, name: str) -> str:
    """Return the name of a pretrained encoder, version and hash included."""
    parts = (saved.card.get("name", name), saved.card.get("version", ""))
    return f"{' '.join(str(p) for p in parts if p)} (pretrained, sha256 {saved.sha256[:12]})"


def _with_wavelengths(data: _Data, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the wavelengths of the cube's bands, unless others were chosen."""
    if "wavelengths" in options:
        return dict(options)
    return {**options, "wavelengths": data.sensor.wavelengths(data.bands)}


def _existing(name: PathLike) -> Path:
    path = check_name(name, "read")
    if not path.exists():
        sizes = [f"timo-{size}" for size in SIZES]
        raise TimoError(
            f"unknown model {str(name)!r}: neither a size ({', '.join(sizes)}) nor a folder that timo.save wrote."
            f"{did_you_mean(str(name), sizes)}"
        )
    return path


def load_shipped(name: str) -> SavedEncoder:
    """Read a pretrained encoder that came with timo, one of `SHIPPED`."""
    if name not in SHIPPED:
        raise TimoError(
            f"no weights of {name!r} come with timo: there are those of {', '.join(SHIPPED)}"
        )
    with shipped_folder(name) as folder:
        try:
            return load_encoder(folder)
        except TimoError as error:
            raise TimoError(
                f"the pretrained weights of {name} in this installation of timo cannot be used: install timo again, or "
                f"take random weights with pretrained=False ({error})"
            ) from error


@contextmanager
def shipped_folder(name: str) -> Iterator[Path]:
    """Give the folder of shipped weights; of a package inside an archive, a copy for as long as the block lasts."""
    folder = files("timo").joinpath("weights", name)
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for part in (WEIGHTS, CONFIG):
            source = folder.joinpath(part)
            if source.is_file():
                with source.open("rb") as packed, (Path(copy) / part).open("wb") as file:
                    shutil.copyfileobj(packed, file)
        yield Path(copy)
