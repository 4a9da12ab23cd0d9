"""A model that answers a question: an encoder, a head, and all that is needed to feed them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.errors import TimoError
from timo.models.config import EncoderConfig
from timo.models.encoder import TiMoEncoder, check_series
from timo.models.heads import ClassificationHead, SegmentationHead

TASKS = ("segmentation", "classification")


@dataclass(frozen=True)
class ModelConfig:
    """All that a saved model needs to be used again.

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
        What the encoder's weights were before any fine-tuning, in words, e.g. "random (seed 0)"; empty where nobody
        wrote it down.
    """

    encoder: EncoderConfig
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "segmentation"
    per_date: bool = True
    sensor: str = "sentinel-2"
    head_width: int = 64
    detail: int = 16
    dropout: float = 0.1
    initial_weights: str = ""

    def __post_init__(self) -> None:
        for field in ("bands", "classes"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field in ("mean", "std"):
            # Plain numbers, whatever gave them: numpy's cannot be written as JSON.
            object.__setattr__(self, field, tuple(map(float, getattr(self, field))))
        self._check_bands()
        self._check_head()

    def _check_bands(self) -> None:
        count = self.encoder.in_channels
        if {len(self.bands), len(self.mean), len(self.std)} != {count}:
            raise TimoError(
                f"{count} channels need {count} bands, means and standard deviations, got "
                f"{len(self.bands)}, {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise TimoError(
                f"means must be finite and every std positive, got mean={self.mean}, std={self.std}"
            )

    def _check_head(self) -> None:
        if self.task not in TASKS:
            raise TimoError(f"unknown task {self.task!r}: use one of {', '.join(TASKS)}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise TimoError(f"at least two different classes are needed, got {self.classes}")
        if self.head_width < 1 or self.detail < 0 or not 0 <= self.dropout < 1:
            raise TimoError(
                "head_width must be at least 1, detail at least 0 and dropout at least 0 and less than 1, got "
                f"{self.head_width}, {self.detail} and {self.dropout}"
            )


class TiMo(nn.Module):
    """Encoder and head: from the physical values of a series to class scores.

    Parameters
    ----------
    config : ModelConfig
        What to build.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
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
        # Part of the config, not of the weights.
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.std)[:, None, None], persistent=False)

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Class scores (logits).

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

    def normalise(
        self, x: Float[Tensor, "b t c h w"], valid: Bool[Tensor, "b t h w"] | None = None
    ) -> tuple[Float[Tensor, "b t c h w"], Bool[Tensor, "b t h w"]]:
        """Values as the encoder reads them, zero where there is no observation; and where there is one."""
        finite = x.isfinite().all(dim=2)
        valid = finite if valid is None else valid & finite
        return torch.where(valid[:, :, None], (x - self.mean) / self.std, 0.0), valid

    def extra_repr(self) -> str:
        """One line for the notebook."""
        count = sum(p.numel() for p in self.parameters())
        line = f"{self.config.task}, {count / 1e6:.1f} M parameters, classes={self.config.classes}"
        initial = self.config.initial_weights
        return f"{line}, initial_weights={initial!r}" if initial else line


def build(config: ModelConfig, seed: int = 0) -> TiMo:
    """Model with random weights on the CPU, in evaluation mode.

    The same seed gives the same weights, and torch's own generator goes on as if nothing had been drawn.

    Parameters
    ----------
    config : ModelConfig
        What to build.
    seed : int
        Seed of the weights.
    """
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every accelerator, and those are not put back.
        torch.random.default_generator.manual_seed(seed)
        return TiMo(config).eval()
