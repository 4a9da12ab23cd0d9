"""A model for a cube or for places: by the name of a size, from the weights that come with timo, or from a folder."""

import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import xarray as xr

from timo import cube as cubes
from timo.atomic import check_name
from timo.checks import PathLike, Range, Seed, Share, checked, did_you_mean
from timo.errors import TimoError, warn
from timo.models.answering import UNITS, Form, ModelConfig, PixelConfig, Task, Unit
from timo.models.config import (
    PIXEL,
    SIZES,
    EncoderConfig,
    Token,
    check_overrides,
    encoder_config,
)
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo, build, build_pixel
from timo.models.weights import CONFIG, WEIGHTS, SavedEncoder, kind_of, load, load_encoder
from timo.places.bands import Bands
from timo.places.places import Places

logger = logging.getLogger(__name__)

# The folders of timo/weights; each holds what `save_encoder` writes and, for people, a model card.
SHIPPED = ("timo-tiny",)
# The weight that single pixels have in the answer of a new model at a date, and of the series: a regression counts as
# much as encoder and head, and so does the network that attends to the dates of a series.
PIXEL_SHARE, SERIES_SHARE = 1 / 2, 2 / 3
# Models of single pixels, and their form.
PIXELS: dict[PathLike, Form] = {PIXEL: "regression", "pixel-series": "both"}
# Options that may be changed for an existing encoder: its weights keep their meaning.
FREE = ("drop_path", "checkpoint", "token")
_MAKE = (
    "timo.open_cube opens a cube; cubes with labels are places: timo.Places([(cube, labels), ...])."
)


@dataclass(frozen=True)
class _Start:
    """Config and initial weights of the encoder of a new model: those of `saved`, or random ones."""

    config: EncoderConfig
    initial_weights: str
    saved: SavedEncoder | None = None


@checked(cube="data")
def load_model(
    name: PathLike,
    data: Annotated[xr.DataArray | Places | Sequence[xr.DataArray] | None, _MAKE] = None,
    classes: Sequence[str] | None = None,
    *,
    task: Task | None = None,
    unit: Unit | None = None,
    per_date: bool | None = None,
    target: str | None = None,
    interval: Annotated[float, Range(least=0, below=1)] | None = None,
    normalisation: Literal["sensor", "data"] | None = None,
    seed: Seed = 0,
    pretrained: bool | None = None,
    pixel: Share | None = None,
    **encoder: Any,
) -> Any:
    """Load a saved model, or make a new one for a cube or for places, and their classes.

    A new "timo-tiny" starts from the pretrained encoder that comes with timo, wherever it can; the initial weights
    are named in its ``config.initial_weights``, saved with it and shown with it, and the log says why.

    Parameters
    ----------
    name : str or path
        "timo-tiny", "timo-small", "timo-base", "timo-large" or "timo-huge" for a new model; the folder of a model that
        `timo.save` wrote; or the folder of an encoder that `timo.pretrain` wrote, for a new model that starts from it.
        "pixel" for a new regression of single pixels (`timo.models.PixelModel`), of each date or, with
        ``per_date=False``, of their course through the year; "pixel-series" for that, pooled with a small network of
        the series.
    data : xarray.DataArray, Places or sequence of xarray.DataArray, optional
        The cube, the places, or the cubes of several sensors (`timo.cube.join`) that it is to read; needed for a new
        model. A saved model is checked against it. Values are checked too (`timo.cube.check`), those of a lazy cube
        when they are computed.
    classes : sequence of str, optional
        Names of the classes, in the order of the labels; needed for a new model unless it is a regression. By default
        those of the places.
    task : {"segmentation", "classification", "regression"}, optional
        For a new model: a class for each pixel (the default), a class for each chip or parcel, or a number.
    unit : {"pixel", "chip", "parcel"}, optional
        For a new model: what gets one answer. By default a pixel in segmentation and regression, a chip in
        classification.
    per_date : bool, optional
        For a new model: an answer for each date, or for the series. By default each date in segmentation, and the
        series in all else.
    target : str, optional
        For a new regression: the name of the number. By default that of the labels of the places. Its mean and standard
        deviation are set by training.
    interval : float, optional
        For a new regression: the share of the true values that the interval about the prediction is to hold, 0.9 by
        default; 0 for no interval.
    normalisation : {"sensor", "data"}, optional
        For a new model: whether values are normalised by constants of the sensor (the default), the same for every
        cube, or by the mean and standard deviation of `data`: give the training part. Saved with the model. Bands
        without constants (of a sensor of your own, terrain, weather) are normalised by the data in any case. At
        most 1,000 places, evenly spread, are read.
    seed : int
        Seed of the random weights of a new model; its head has such in any case.
    pretrained : bool, optional
        For a new model of a named size. True: the encoder starts from the pretrained weights that come with timo, of
        "timo-tiny" alone, which read the bands of any optical sensor. False: from random weights. None: from the
        pretrained ones where there are some, the options below leave the encoder what it is, and some sensor of the
        data is optical (they never saw radar; True takes them for radar alone, too) and shows more than single pixels
        (which were learnt faster without); from random weights otherwise.
        Beside an optical sensor, radar is read by kernels that no training has seen, which a warning says.
    pixel : float, optional
        For a new model: the weight in the answer of what single pixels say without their surroundings, 0 to 1. By
        default 1/2 for an answer at each date, 2/3 for one of the series, and 0 for chips. It keeps outlines sharp;
        training fits it beside the encoder, and `timo.fit_head` sets the weight by cross-validation.
    **encoder
        Fields of `timo.models.EncoderConfig` for a new model, e.g. ``drop_path=0.1``. With ``stem="wavelength"`` the
        wavelengths are those of the sensor's bands unless they are given. With pretrained weights: ``drop_path``,
        ``checkpoint`` and ``token``, and with the stem of wavelengths ``wavelengths``; any other must be what it is
        already. For a saved model ``token`` alone (`timo.models.TiMo.with_token`): ``token=2`` for a sharper map.

    Returns
    -------
    TiMo or PixelModel
        In evaluation mode.

    Raises
    ------
    TimoError
        If the name is neither a size nor a folder of a model, the model does not fit the data, the classes or the
        task, or no pretrained weights fit where they are wanted.
    """
    alone = name in PIXELS
    if name == "pixel-series" and per_date is None:
        per_date = False
    size = f"timo-{str(name).removeprefix('timo-')}"
    path = None if alone or size.removeprefix("timo-") in SIZES else _existing(name)
    asked: dict[str, Any] = {"task": task, "unit": unit, "per_date": per_date}
    asked |= {"target": target, "interval": None if interval is None else float(interval)}
    asked = {option: value for option, value in asked.items() if value is not None}
    if path is not None and kind_of(path) in {"model", "pixel"}:
        token = check_overrides(encoder).get("token")
        new = {option: value for option, value in encoder.items() if option != "token"}
        new |= {"pretrained": pretrained, "normalisation": normalisation, "pixel": pixel}
        if given := sorted(option for option, value in new.items() if value is not None):
            raise TimoError(f"{given} are options of a new model, {str(path)!r} is a saved one")
        asked |= {} if classes is None else {"classes": tuple(classes)}
        return _saved(path, data, asked, token)
    answer = _answer(data, classes, asked, name)
    options = check_overrides(encoder)
    assert data is not None  # or `_answer` would have refused
    described = Bands.of(data)
    of_data = normalisation == "data"
    if alone:
        if given := sorted(
            {n for n, v in {"pretrained": pretrained, "pixel": pixel}.items() if v} | options.keys()
        ):
            raise TimoError(
                f'{given} are options of an encoder, and "{name}" has none: leave them out'
            )
        return _new_pixel(described, answer | {"form": PIXELS[name]}, of_data, seed)
    answer["pixel"] = pixel
    if path is not None:
        start = _from_folder(path, described, options, pretrained)
    else:
        start = _from_size(size, described, options, pretrained, seed)
    return _new(start, described, answer, of_data, seed)


def _saved(
    path: Path, data: Any, asked: Mapping[str, Any], token: Token | None
) -> TiMo | PixelModel:
    """Load a saved model, and refuse one that is not what was asked for or does not read the data."""
    model = load(path)
    if token is not None:
        if not isinstance(model, TiMo):
            raise TimoError(
                f"the model at {path} is of single pixels, which has no tokens: leave token out"
            )
        model = model.with_token(token)
    for option, value in asked.items():
        if (own := getattr(model.config, option)) != value:
            raise TimoError(
                f"the model at {path} has the {option} {own}, not {value}: leave {option} out, or train a new model"
            )
    if data is not None:
        given = Bands.of(data).given
        cube = given.open(0)[0] if isinstance(given, Places) else given
        cubes.select_bands(cube, model.config.bands, model.config.sensor)
    return model


def _answer(
    data: Any, classes: Sequence[str] | None, asked: Mapping[str, Any], name: PathLike
) -> dict[str, Any]:
    """Return what a new model is to answer, as fields of a `ModelConfig`."""
    task = asked.get("task", "segmentation")
    places = data if isinstance(data, Places) else None
    usual = {"task": task, "per_date": task == "segmentation"}
    if task == "regression":
        _check_labels_of(places, task, "values")
        usual |= {"target": places.head.target, "target_units": places.head.units} if places else {}
        classes = () if classes is None else classes
    elif extra := sorted({"target", "interval"} & asked.keys()):
        raise TimoError(f'{" and ".join(extra)} belong to a regression: give task="regression"')
    elif classes is None and places is not None:
        _check_labels_of(places, task, "classes")
        classes = places.classes or None
    if data is None or classes is None:
        raise TimoError(
            f'a new {name} needs a cube to read and classes to predict: load_model("{name}", cube, ["forest", "other"])'
        )
    return {**usual, **asked, "classes": tuple(classes)}


def _check_labels_of(places: Places | None, task: str, wanted: str) -> None:
    """Refuse places whose labels are classes where values are wanted, and the other way round."""
    found = "values" if places is not None and places.target else "classes"
    if places is not None and places.labelled and found != wanted:
        right = "regression" if found == "values" else "segmentation"
        raise TimoError(
            f"the labels of the places are {found}, a model for {task} learns {wanted}: give "
            f'task="{right}"'
        )


def _new_pixel(data: Bands, answer: dict[str, Any], of_data: bool, seed: int) -> PixelModel:
    """Make a model of single pixels."""
    mean, std = data.normalisation(data.bands, {}, of_data)
    config = PixelConfig(
        bands=data.bands,
        mean=mean,
        std=std,
        sensor=data.sensor.name,
        groups=data.groups,
        indices=data.indices(data.bands),
        **answer,
    )
    return build_pixel(config, seed)


def _new(start: _Start, data: Bands, answer: dict[str, Any], of_data: bool, seed: int) -> TiMo:
    """Make a model with a random head; the encoder's weights are random as well unless it starts from others."""
    saved = start.saved
    # Kernels of its own bands read nothing else.
    bands = saved.bands if saved is not None and saved.config.stem == "plain" else data.bands
    mean, std = data.normalisation(bands, _trained_with(data, saved), of_data)
    unit = answer.get("unit") or UNITS[answer["task"]][0]
    share = answer.pop("pixel")
    if share is None:
        usual = PIXEL_SHARE if answer["per_date"] else SERIES_SHARE
        share = 0.0 if unit == "chip" else usual
    config = ModelConfig(
        encoder=start.config,
        bands=bands,
        mean=mean,
        std=std,
        sensor=data.sensor.name,
        initial_weights=start.initial_weights,
        pixel=share,
        indices=data.indices(bands),
        **answer,
    )
    model = build(config, seed)
    if saved is not None:
        # What reads further sensors stays random.
        model.encoder.load_state_dict(model.encoder.state_dict() | saved.state)
    return model


def _trained_with(data: Bands, saved: SavedEncoder | None) -> dict[str, tuple[float, float]]:
    """Return mean and std of the bands that an encoder was trained with, should the sensor's ever change."""
    if saved is None:
        return {}
    numbers = dict(zip(saved.bands, zip(saved.mean, saved.std, strict=True), strict=True))
    origins = {band: data.sensor.band_origin(band) for band in data.bands}
    return {
        band: numbers[own]
        for band, (sensor, own) in origins.items()
        if sensor == saved.sensor and own in numbers
    }


def _from_size(
    size: str, data: Bands, options: Mapping[str, Any], pretrained: bool | None, seed: int
) -> _Start:
    """Start from the weights that come with timo, or from random ones."""
    if "in_channels" in options or "groups" in options:
        which = (
            "in_channels is the number" if "in_channels" in options else "groups are the sensors"
        )
        raise TimoError(f"{which} of the cube's bands: leave it out")
    named = _with_wavelengths(data, options) if options.get("stem") == "wavelength" else options
    config = encoder_config(size, len(data.bands), **named, groups=data.groups)
    saved = load_shipped(size) if size in SHIPPED and pretrained is not False else None
    by_group = data.codes_by_group(options)
    radar = any(code <= 0 for codes in by_group for code in codes)
    optical = any(min(codes) > 0 for codes in by_group if not any(map(math.isnan, codes)))
    why = "pretrained=False" if pretrained is False else _obstacle(saved, data, options)
    if not why and pretrained is None and not optical:
        why = "the pretrained ones never saw radar; pretrained=True takes them all the same"
    if not why and pretrained is None and data.single:
        why = "the pretrained ones know images: single pixels are learnt faster without"
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


def _obstacle(saved: SavedEncoder | None, data: Bands, options: Mapping[str, Any]) -> str:
    """Return why the shipped weights cannot be used; empty if they can."""
    if saved is None:
        return f"timo comes with those of {', '.join(SHIPPED)} alone"
    if changed := _settled(saved.config, options):
        return f"with another {' and '.join(changed)} it is not the encoder that was pretrained"
    without = [name for name, code in data.codes(options).items() if math.isnan(code)]
    if without and all(any(map(math.isnan, codes)) for codes in data.codes_by_group(options)):
        return f"they know bands by their wavelengths, and there is none of {' and '.join(without)}"
    return ""


def _from_folder(
    path: Path, data: Bands, options: Mapping[str, Any], pretrained: bool | None
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
    if saved.config.groups and (saved.bands, saved.sensor) != (data.bands, data.sensor.name):
        raise TimoError(
            f"the encoder at {path} reads the sensors {saved.sensor} with the bands {list(saved.bands)} together, the "
            f"data have {list(data.bands)} of {data.sensor.name}: join the same (timo.cube.join), or start from one "
            "that was trained on a single sensor"
        )
    start = _Start(_continued(saved, data, options), _title(saved, path.resolve().name), saved)
    logger.info("%s: starts from %s", path, start.initial_weights)
    return start


def _settled(config: EncoderConfig, options: Mapping[str, Any]) -> list[str]:
    """Return the options that would change a pretrained encoder."""
    free = (*FREE, "wavelengths") if config.stem == "wavelength" else FREE
    return sorted(n for n, v in options.items() if n not in free and v != getattr(config, n))


def _continued(saved: SavedEncoder, data: Bands, options: Mapping[str, Any]) -> EncoderConfig:
    """Return the config of a pretrained encoder, for these bands."""
    if saved.config.stem == "wavelength":
        named = _with_wavelengths(data, options)
        options = {"in_channels": len(data.bands), "groups": data.groups, **named}
    return replace(saved.config, **options)


def _title(saved: SavedEncoder, name: str) -> str:
    """Return the name of a pretrained encoder, version and hash included."""
    parts = (saved.card.get("name", name), saved.card.get("version", ""))
    return f"{' '.join(str(p) for p in parts if p)} (pretrained, sha256 {saved.sha256[:12]})"


def _with_wavelengths(data: Bands, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the wavelengths of the data's bands, unless others were chosen.

    Of several sensors, one may have bands without.
    """
    if "wavelengths" in options:
        return dict(options)
    if not data.groups:
        return {**options, "wavelengths": data.sensor.wavelengths(data.bands)}
    codes = data.codes(options).values()
    return {**options, "wavelengths": tuple(None if math.isnan(c) else c for c in codes)}


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
