"""A model that answers a question: an encoder, a head, and all that is needed to feed them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.checks import Positive, checked
from timo.errors import TimoError
from timo.models.answering import UNITS, AnsweringModel, ModelConfig, PixelConfig, Unit
from timo.models.config import Token
from timo.models.encoder import TiMoEncoder, check_series, seeded
from timo.models.frames import finite
from timo.models.heads import ChipHead, SegmentationHead
from timo.models.pixel import PixelModel, pooled

# What training and mapping ask of a config.
_SAID = ("bands", "classes", "task", "per_date", "sensor")


class TiMo(AnsweringModel):
    """Encoder and head: from the physical values of a series to scores, and from those to answers.

    Parameters
    ----------
    config : ModelConfig
    """

    @checked
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.encoder.groups)
        self.config: ModelConfig
        self.encoder = TiMoEncoder(config.encoder)
        dims = config.encoder.dims
        self.head: SegmentationHead | ChipHead
        if config.unit == "chip":
            self.head = ChipHead(dims[-1], config.outputs, config.encoder.token)
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
                token=config.encoder.token,
            )
        self.pixel: PixelModel | None = None
        if config.has_pixels:
            # Drawn apart: all else begins as in a model without.
            with torch.random.fork_rng(devices=[]):
                self.pixel = PixelModel(config.of_pixels)

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
        return self.with_pixels(self.context(x, dates, valid), x, dates, valid)

    def context(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Compute the scores of encoder and head, as `forward` does, without the path of single pixels."""
        check_series(x, dates, valid, len(self.config.bands), self.groups)
        normalised, valid = self.normalise(x, valid)
        maps = self.encoder(normalised, dates, valid)
        if isinstance(self.head, SegmentationHead):
            return self.head(maps, normalised, valid)
        return self.head(maps, valid, self.config.per_date)

    def with_pixels(
        self,
        context: Float[Tensor, "b ..."],
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Pool the scores of encoder and head with those of single pixels, if any, where these were observed."""
        if self.pixel is None or not self.config.pixel:
            return context
        complete = finite(x, self.groups)
        seen = complete if valid is None else valid & complete
        seen = seen.any(dim=2) if self.groups else seen
        if not self.config.per_date:
            seen = seen.any(dim=1)
        share = seen.unsqueeze(-3) * self.config.pixel
        own = self.pixel(x, dates, valid)
        return pooled(context, own, share, classes=self.config.task != "regression")

    def opinions(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> list[Float[Tensor, "b ..."]]:
        """Compute the scores of each part that learns by steps: a loss of each keeps one from leaning on the other."""
        found = [self.context(x, dates, valid)]
        if self.pixel is not None and self.pixel.network is not None:
            found.append(self.pixel.attend(x, dates, valid))
        return found

    @checked
    def set_target(self, mean: float, std: Positive) -> None:
        """Set the mean and standard deviation of the number that a regression predicts, for every path."""
        super().set_target(mean, std)
        if self.pixel is not None:
            self.pixel.set_target(mean, std)

    @checked
    def with_token(self, token: Token) -> "TiMo":
        """Return this model with tokens of another size: the same weights, for a sharper or a quicker map.

        A model of its own: training one leaves the other as it is. What a finer map costs says
        `timo.models.EncoderConfig`; how the weights serve each size, `timo.models.tokens`.

        Parameters
        ----------
        token : {4, 2, 1}
            Pixels to a side of a token of the first stage.

        Returns
        -------
        TiMo
            On the same device, in the same mode.
        """
        config = replace(self.config, encoder=replace(self.config.encoder, token=token))
        other = build(config).to(next(self.parameters())).train(self.training)
        other.load_state_dict(self.state_dict())
        other.has_learnt = self.has_learnt
        if self.pixel is not None and other.pixel is not None:
            other.pixel.has_learnt = self.pixel.has_learnt
        return other

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


def build_pixel(config: PixelConfig, seed: int = 0) -> PixelModel:
    """Return a model of single pixels with random weights, as `build` does."""
    with seeded(seed):
        return PixelModel(config).eval()


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
