"""A model that answers a question: an encoder, a head, and all that is needed to feed them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.checks import Positive, Range, checked, described
from timo.errors import TimoError
from timo.models.config import Channels, EncoderConfig, Rate, check_reads_bands
from timo.models.encoder import PhysicalModel, TiMoEncoder, check_series, seeded
from timo.models.heads import ChipHead, SegmentationHead

Task = Literal["segmentation", "classification", "regression"]
Unit = Literal["pixel", "chip", "parcel"]
# What each task can answer for; the first is the default.
UNITS: dict[str, tuple[Unit, ...]] = {
    "segmentation": ("pixel",),
    "classification": ("chip", "parcel"),
    "regression": ("pixel", "chip", "parcel"),
}
# What training and mapping ask of a config.
_SAID = ("bands", "classes", "task", "per_date", "sensor")


@checked
@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a model: its encoder, bands, classes and normalisation; saved beside the weights.

    Parameters
    ----------
    encoder : EncoderConfig
        The encoder.
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
    head_width, detail : int
        Channels of the segmentation head and of its full-resolution path (0 leaves that out).
    dropout : float
        Before the classifier.
    initial_weights : str
        What the encoder's weights were before any fine-tuning, in words, e.g. "random (seed 0)"; empty where that was
        not written down.
    unit : {"pixel", "chip", "parcel"}
        What one answer is for. By default pixels for segmentation and regression, chips for classification.
    target, target_units : str
        Name and unit of the number that a regression predicts.
    target_mean, target_std : float
        Its mean and standard deviation: scores are (value - mean) / std. Set by training (`TiMo.set_target`).
    interval : float
        Share of the true values that the interval of a regression is to hold; 0 leaves the interval out.
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

    def __post_init__(self) -> None:
        check_reads_bands(self)
        object.__setattr__(self, "unit", self.unit or UNITS[self.task][0])
        for field in ("target_mean", "target_std", "interval"):
            object.__setattr__(self, field, float(getattr(self, field)))
        check_answer(self.task, self.unit, self.per_date)
        check_classes(self.task, self.classes)

    @property
    def outputs(self) -> int:
        """Return the number of scores: one a class, or value, low and high of a regression."""
        if self.task == "regression":
            return 3 if self.interval else 1
        return len(self.classes)


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


class TiMo(PhysicalModel):
    """Encoder and head: from the physical values of a series to scores, and from those to answers.

    Parameters
    ----------
    config : ModelConfig
    """

    @checked
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.mean, config.std, config.encoder.groups)
        self.config = config
        # Whether it was trained on labels since it was made: then it may know what is to be held out.
        self.has_learnt = False
        self.encoder = TiMoEncoder(config.encoder)
        dims = config.encoder.dims
        self.head: SegmentationHead | ChipHead
        if config.unit == "chip":
            self.head = ChipHead(dims[-1], config.outputs)
        else:
            # The score of a parcel is the mean over its pixels: `timo.models.heads.pool_parcels`.
            self.head = SegmentationHead(
                dims,
                in_channels=config.encoder.groups or config.encoder.in_channels,
                classes=config.outputs,
                width=config.head_width,
                detail=config.detail,
                dropout=config.dropout,
                per_date=config.per_date,
            )

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Compute scores; `answer` makes probabilities or values of them.

        Parameters
        ----------
        x : Tensor, shape (b, t, c, h, w)
            Physical values (reflectance 0..1), bands as in ``config.bands``.
        dates : Tensor, shape (b, t), optional
            Days since 1970-01-01.
        valid : Tensor of bool, shape (b, t, h, w), or (b, t, g, h, w) for several groups of bands, optional
            True where there is an observation; by default where every band (of the group) is finite.

        Returns
        -------
        Tensor
            (b, t, k, h, w) per date or (b, k, h, w) of the series for pixels, (b, k, h, w) for parcels, to be pooled by
            `timo.models.heads.pool_parcels`, (b, t, k) or (b, k) for chips.

        Raises
        ------
        TimoError
            If the shapes do not fit each other or the bands.
        """
        check_series(x, dates, valid, len(self.config.bands), self.groups)
        normalised, valid = self.normalise(x, valid)
        maps = self.encoder(normalised, dates, valid)
        if isinstance(self.head, SegmentationHead):
            return self.head(maps, normalised, valid)
        return self.head(maps, valid, self.config.per_date)

    def answer(self, scores: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return what scores say, in their shape: probabilities, or value, low and high in the unit of the target.

        Scores of pixels are (..., k, h, w), of chips and of pooled parcels (..., k).

        Raises
        ------
        TimoError
            If they are not scores of this model.
        """
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else ()
        axis = -1 if self.config.unit == "chip" or len(shape) < 3 else -3
        if shape[axis:][:1] != (self.config.outputs,):
            raise TimoError(
                f"scores must be a torch.Tensor of what this model returns, {self.config.outputs} numbers for each "
                f"{self.config.unit}, or of what pool_parcels makes of that; got {described(scores)}"
            )
        if self.config.task != "regression":
            return scores.softmax(dim=axis)
        answers = scores * self.config.target_std + self.config.target_mean
        if not self.config.interval:
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

    def extra_repr(self) -> str:
        """Return one line for the notebook."""
        count = sum(p.numel() for p in self.parameters())
        task, unit = self.config.task, self.config.unit
        of = "" if unit == UNITS[task][0] else f" of {unit}s"
        what = "target" if task == "regression" else "classes"
        line = f"{task}{of}, {count / 1e6:.1f} M parameters, {what}={getattr(self.config, what)!r}"
        initial = self.config.initial_weights
        return f"{line}, initial_weights={initial!r}" if initial else line


def build(config: ModelConfig, seed: int = 0) -> TiMo:
    """Return a model with random weights on the CPU, in evaluation mode.

    The same seed gives the same weights, and torch's own generator goes on as if nothing had been drawn.
    """
    with seeded(seed):
        return TiMo(config).eval()


if TYPE_CHECKING:
    Segmenter = TiMo
else:
    # At run time any module will do whose config says what a TiMo's says: see `config_of`.
    Segmenter = nn.Module


def config_of(model: nn.Module) -> Any:
    """Return the config of a model: of a `TiMo`, or of another module that says the same of itself.

    Such a module takes ``(x, dates)`` and has a ``config`` with `bands`, `classes`, `task`, `per_date`
    and `sensor`, as `ModelConfig`; what it answers for says `unit_of`.

    Raises
    ------
    TimoError
        If it has no such config.
    """
    config: Any = getattr(model, "config", None)
    if lacking := [name for name in _SAID if not hasattr(config, name)]:
        raise TimoError(
            f"The model must be one of timo.load_model, or have a config that says its {', '.join(lacking)}; got "
            f"{type(model).__name__}."
        )
    return config


def unit_of(config: Any) -> Unit:
    """Return what one answer of a model is for; a config that does not say it answers for the first of its task."""
    unit: Unit | None = getattr(config, "unit", None)
    return unit or UNITS[config.task][0]
