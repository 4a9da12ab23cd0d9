"""A model that answers a question: an encoder, a head, and all that is needed to feed them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.checks import Positive, Range, checked
from timo.errors import TimoError
from timo.models.config import Channels, EncoderConfig, Rate, check_reads_bands
from timo.models.encoder import PhysicalModel, TiMoEncoder, check_series, seeded
from timo.models.heads import ClassificationHead, SegmentationHead

Task = Literal["segmentation", "classification"]
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
        Names of the classes, in the order of the scores.
    mean, std : tuple of float
        Normalisation of each band, in the units of the cube (reflectance).
    task : {"segmentation", "classification"}
        A score for each pixel, or for the chip.
    per_date : bool
        Scores for each date, or for the series.
    sensor : str
        Sensor of the bands.
    head_width, detail : int
        Channels of the segmentation head and of its full-resolution path (0 leaves that out).
    dropout : float
        Before the classifier.
    initial_weights : str
        What the encoder's weights were before any fine-tuning, in words, e.g. "random (seed 0)"; empty where that was
        not written down.
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

    def __post_init__(self) -> None:
        check_reads_bands(self)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise TimoError(f"at least two different classes are needed, got {self.classes}")


class TiMo(PhysicalModel):
    """Encoder and head: from the physical values of a series to class scores.

    Parameters
    ----------
    config : ModelConfig
    """

    @checked
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.mean, config.std)
        self.config = config
        self.encoder = TiMoEncoder(config.encoder)
        dims, classes = config.encoder.dims, len(config.classes)
        self.head: SegmentationHead | ClassificationHead
        if config.task == "segmentation":
            self.head = SegmentationHead(
                dims,
                in_channels=config.encoder.in_channels,
                classes=classes,
                width=config.head_width,
                detail=config.detail,
                dropout=config.dropout,
                per_date=config.per_date,
            )
        else:
            self.head = ClassificationHead(dims[-1], classes)

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Compute class scores (logits).

        Parameters
        ----------
        x : Tensor, shape (b, t, c, h, w)
            Physical values (reflectance 0..1), bands as in ``config.bands``.
        dates : Tensor, shape (b, t), optional
            Days since 1970-01-01.
        valid : Tensor of bool, shape (b, t, h, w), optional
            True where there is an observation; by default where every band is finite.

        Returns
        -------
        Tensor
            (b, t, k, h, w) per date or (b, k, h, w) for segmentation, (b, t, k) or (b, k) for classification.

        Raises
        ------
        TimoError
            If the shapes do not fit each other or the bands.
        """
        check_series(x, dates, valid, len(self.config.bands))
        normalised, valid = self.normalise(x, valid)
        maps = self.encoder(normalised, dates, valid)
        if isinstance(self.head, SegmentationHead):
            return self.head(maps, normalised, valid)
        return self.head(maps, valid, self.config.per_date)

    def extra_repr(self) -> str:
        """Return one line for the notebook."""
        count = sum(p.numel() for p in self.parameters())
        line = f"{self.config.task}, {count / 1e6:.1f} M parameters, classes={self.config.classes}"
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
    """Return the config of a segmentation model: of a `TiMo`, or of another module that says the same of itself.

    Such a module takes ``(x, dates)`` and has a ``config`` with `bands`, `classes`, `task`, `per_date`
    and `sensor`, as `ModelConfig`.

    Raises
    ------
    TimoError
        If it has no such config, or is for another task.
    """
    config: Any = getattr(model, "config", None)
    if lacking := [name for name in _SAID if not hasattr(config, name)]:
        raise TimoError(
            f"The model must be one of timo.load_model, or have a config that says its {', '.join(lacking)}; got "
            f"{type(model).__name__}."
        )
    if config.task != "segmentation":
        raise TimoError(
            f"Pixels are labelled by a segmentation model; this one is for {config.task}. Use timo.load_model(..., "
            'task="segmentation").'
        )
    return config
