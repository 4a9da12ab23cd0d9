"""What a model answers: its classes or numbers, for what, from which bands; and what its scores say."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from timo.checks import Positive, Range, Share, checked, described
from timo.errors import TimoError
from timo.models.config import Channels, EncoderConfig, Rate, check_reads_bands
from timo.models.encoder import PhysicalModel

Task = Literal["segmentation", "classification", "regression"]
Unit = Literal["pixel", "chip", "parcel"]
Form = Literal["regression", "attention", "both"]
# What each task can answer for; the first is the default.
UNITS: dict[str, tuple[Unit, ...]] = {
    "segmentation": ("pixel",),
    "classification": ("chip", "parcel"),
    "regression": ("pixel", "chip", "parcel"),
}


class _Answer:
    """What configs of models have in common."""

    bands: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: Task
    per_date: bool
    unit: Unit | Literal[""]
    interval: float
    indices: tuple[tuple[str, str], ...]

    def _check(self, channels: int) -> None:
        """Check a config of a model of some channels, and put what was left open in its place."""
        object.__setattr__(self, "unit", self.unit or UNITS[self.task][0])
        for field in ("target_mean", "target_std", "interval"):
            object.__setattr__(self, field, float(getattr(self, field)))
        check_reads_bands(self, channels)
        check_answer(self.task, self.unit, self.per_date)
        check_classes(self.task, self.classes)
        if unknown := {band for pair in self.indices for band in pair} - set(self.bands):
            raise TimoError(f"indices are pairs of the bands {self.bands}; got {sorted(unknown)}")

    @property
    def outputs(self) -> int:
        """Return the number of scores: one a class, or value, low and high of a regression."""
        if self.task == "regression":
            return 3 if self.interval else 1
        return len(self.classes)


@checked
@dataclass(frozen=True)
class PixelConfig(_Answer):
    """Configuration of a model of single pixels; saved beside the weights.

    Parameters
    ----------
    bands : tuple of str
        Names of the bands, in the order of the channels.
    classes : tuple of str
        Names of the classes, in the order of the scores; none for a regression.
    mean, std : tuple of float
        Normalisation of each band, in the units of the cube (reflectance).
    task : {"segmentation", "classification", "regression"}
        A class for each pixel, a class for each chip or parcel, or a number.
    per_date : bool
        Scores for each date, or for the series; a parcel is scored for the series.
    sensor : str
        Sensor of the bands.
    unit : {"pixel", "chip", "parcel"}
        What one answer is for. By default pixels for segmentation and regression, chips for classification.
    target, target_units : str
        Name and unit of the number that a regression predicts.
    target_mean, target_std : float
        Its mean and standard deviation: scores are (value - mean) / std. Set by training (`TiMo.set_target`).
    interval : float
        Share of the true values that the interval of a regression is to hold; 0 leaves the interval out.
    indices : tuple of (str, str)
        Pairs of bands whose normalised differences a single pixel is judged by.
    groups : tuple of int
        How many of the bands belong to each of several sensors; empty for one.
    form : {"regression", "attention", "both"}
        A regression, fitted at once; a small network that attends to the dates of a series, trained by steps; or both,
        pooled.
    """

    bands: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    task: Task = "segmentation"
    per_date: bool = True
    sensor: str = "sentinel-2"
    unit: Unit | Literal[""] = ""
    target: str = ""
    target_units: str = ""
    target_mean: float = 0.0
    target_std: Positive = 1.0
    interval: Annotated[float, Range(least=0, below=1)] = 0.9
    indices: tuple[tuple[str, str], ...] = ()
    groups: tuple[Channels, ...] = ()
    form: Form = "regression"

    def __post_init__(self) -> None:
        self._check(len(self.bands))
        if self.form != "regression" and self.per_date:
            raise TimoError(
                f'form="{self.form}" sums up a series: give per_date=False, or form="regression"'
            )
        if self.groups and (len(self.groups) < 2 or sum(self.groups) != len(self.bands)):
            raise TimoError(
                f"groups share out the {len(self.bands)} bands among two sensors or more; got {self.groups}"
            )


@checked
@dataclass(frozen=True)
class ModelConfig(_Answer):
    """Configuration of a model: its encoder, bands, classes and normalisation; saved beside the weights.

    Parameters
    ----------
    encoder : EncoderConfig
        The encoder, whose groups of bands are those of the model.
    bands, classes, mean, std, task, per_date, sensor, unit, target, target_units, target_mean, target_std, interval, \
    indices
        As in `PixelConfig`.
    head_width, detail : int
        Channels of the segmentation head and of its full-resolution path (0 leaves that out).
    dropout : float
        Before the classifier.
    initial_weights : str
        What the encoder's weights were before any fine-tuning, in words, e.g. "random (seed 0)"; empty where that was
        not written down.
    pixel : float
        Weight of what single pixels say, without their surroundings, in the answer: 0 to 1.
    keep_pixel : bool
        Whether the path of single pixels is there even where its weight is 0, so that it may be given another:
        `timo.fit_head` sets the weight by cross-validation. False: a weight of 0 leaves the path out.
    """

    encoder: EncoderConfig
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    task: Task = "segmentation"
    per_date: bool = True
    sensor: str = "sentinel-2"
    head_width: Channels = 64
    detail: Annotated[int, Range(least=0, most=4096)] = 16
    dropout: Rate = 0.1
    initial_weights: str = ""
    unit: Unit | Literal[""] = ""
    target: str = ""
    target_units: str = ""
    target_mean: float = 0.0
    target_std: Positive = 1.0
    interval: Annotated[float, Range(least=0, below=1)] = 0.9
    pixel: Share = 0.0
    indices: tuple[tuple[str, str], ...] = ()
    keep_pixel: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel", float(self.pixel))
        self._check(self.encoder.in_channels)
        if self.has_pixels and self.unit == "chip":
            raise TimoError("a chip has no single pixels to answer for: leave pixel out")

    @property
    def has_pixels(self) -> bool:
        """Return whether the model has a path of single pixels."""
        return self.pixel > 0 or self.keep_pixel

    @property
    def of_pixels(self) -> PixelConfig:
        """Return the config of the path of single pixels."""
        names = {f.name for f in fields(PixelConfig)} - {"groups", "form"}
        form: Form = "regression" if self.per_date else "both"
        own = {name: getattr(self, name) for name in names}
        return PixelConfig(**own, groups=self.encoder.groups, form=form)


def check_answer(task: str, unit: str, per_date: bool) -> None:
    """Refuse a unit that the task does not answer for, and parcels at each date."""
    if unit not in UNITS[task]:
        having = [name for name, units in UNITS.items() if unit in units]
        raise TimoError(
            f'unit="{unit}" is not one of task="{task}", which answers for a {" or ".join(UNITS[task])}: give '
            f'task="{having[0]}"'
        )
    if unit == "parcel" and per_date:
        raise TimoError("a parcel gets one answer for the series: give per_date=False")


def check_classes(task: str, classes: tuple[str, ...]) -> None:
    """Refuse too few classes, or any for a regression."""
    if task == "regression":
        if classes:
            raise TimoError(f"a regression has no classes, got {classes}: leave them out")
    elif len(classes) < 2 or len(set(classes)) != len(classes):
        raise TimoError(f"at least two different classes are needed, got {classes}")


class AnsweringModel(PhysicalModel):
    """A model whose scores mean classes, or a number, of pixels, chips or parcels."""

    def __init__(self, config: Any, groups: tuple[int, ...]) -> None:
        super().__init__(config.mean, config.std, groups)
        self.config = config
        # Whether it was trained on labels since it was made: then it may know what is to be held out.
        self.has_learnt = False

    def answer(self, scores: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return what scores say, in their shape: probabilities, or value, low and high in the unit of the target.

        Scores of pixels are (..., k, h, w), of chips and of pooled parcels (..., k).

        Raises
        ------
        TimoError
            If they are not scores of this model.
        """
        config = self.config
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else ()
        axis = -1 if config.unit == "chip" or len(shape) < 3 else -3
        if shape[axis:][:1] != (config.outputs,):
            raise TimoError(
                f"scores must be a torch.Tensor of what this model returns, {config.outputs} numbers for each "
                f"{config.unit}, or of what pool_parcels makes of that; got {described(scores)}"
            )
        if config.task != "regression":
            return scores.softmax(dim=axis)
        answers = scores * config.target_std + config.target_mean
        if not config.interval:
            return answers
        value, low, high = answers.split(1, dim=axis)
        return torch.cat([value, torch.minimum(low, value), torch.maximum(high, value)], dim=axis)

    @checked
    def set_target(self, mean: float, std: Positive) -> None:
        """Set the mean and standard deviation of the number that a regression predicts.

        Raises
        ------
        TimoError
            If the model is no regression, or they are not finite numbers, `std` above 0.
        """
        if self.config.task != "regression":
            raise TimoError(f"a model for {self.config.task} predicts no number: it has no target")
        self.config = replace(self.config, target_mean=float(mean), target_std=float(std))
