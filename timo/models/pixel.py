"""Scores of single pixels, without their surroundings: at full resolution in space and time."""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.checks import Positive, checked
from timo.errors import TimoError
from timo.models.answering import PixelConfig, answer, with_target
from timo.models.embedding import YEAR
from timo.models.encoder import PhysicalModel, check_series
from timo.models.frames import spread
from timo.models.heads import DATE_GROUPS, DatePooling, Layer

# Channels of a model of series, and harmonics of the year that it reads; a regression reads the first.
WIDTH, HARMONICS = 32, 3
# Least log-probability that counts where two opinions are pooled: neither overrules the other.
FLOOR = -6.0


class PixelModel(PhysicalModel):
    """Scores of each pixel from its own values alone.

    For an answer at each date a linear model of the bands, of normalised differences of bands and of the season, which
    training fits as a regression (`timo.training.regression`): a map of it takes a second, and its coefficients explain
    it. For an answer of the series two layers a date, pooled over the dates with learnt weights (after L-TAE, Garnot &
    Landrieu 2020), which training moves by steps.

    Parameters
    ----------
    config : PixelConfig
        For pixels or parcels. `indices` are the pairs of bands.
    """

    def __init__(self, config: PixelConfig) -> None:
        super().__init__(config.mean, config.std, config.groups)
        if config.unit == "chip":
            raise TimoError(
                'a model of single pixels does not answer for chips: give unit="pixel" or unit="parcel"'
            )
        self.config = config
        self.has_learnt = False
        self._pairs = [tuple(map(config.bands.index, pair)) for pair in config.indices]
        self.harmonics = 1 if config.per_date else HARMONICS
        count = len(config.bands) + len(self._pairs) + len(self.groups) + 2 * self.harmonics
        self.layers: nn.Sequential | None = None
        if config.per_date:
            self.classifier = nn.Conv2d(count, config.outputs, 1)
            for parameter in self.classifier.parameters():
                nn.init.zeros_(parameter)
        else:
            self.layers = nn.Sequential(Layer(count, WIDTH, 1), Layer(WIDTH, WIDTH, 1))
            self.over_dates = DatePooling(WIDTH, math.gcd(WIDTH, DATE_GROUPS))
            self.classifier = nn.Conv2d(WIDTH, config.outputs, 1)

    @property
    def is_regression(self) -> bool:
        """Whether it is fitted at once, and not by steps."""
        return self.layers is None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of what it reads of a pixel and date, in order."""
        groups = [f"observed {number + 1}" for number in range(len(self.groups))]
        indices = [f"({a} - {b}) / ({a} + {b})" for a, b in self.config.indices]
        season = [f"{name} {k + 1}" for k in range(self.harmonics) for name in ("sine", "cosine")]
        return (*self.config.bands, *groups, *indices, *season)

    def features(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> tuple[Float[Tensor, "b t f h w"], Bool[Tensor, "b t *g h w"]]:
        """Return what is read of each pixel and date, and where there is an observation."""
        image, valid = self.normalise(x, valid)
        parts = [image]
        if self.groups:
            parts.append(valid.to(image.dtype))
        each = spread(valid, self.groups)
        for left, right in self._pairs:
            a, b = x[:, :, left], x[:, :, right]
            # Reflectances in deep shadow are a little under zero: the ratio is kept in its range.
            ratio = ((a - b) / (a + b).clamp(min=1e-6)).clamp(-1, 1)
            seen = each[:, :, left if self.groups else 0]
            parts.append(torch.where(seen, ratio, 0.0)[:, :, None])
        days = torch.zeros(x.shape[:2], device=x.device) if dates is None else dates
        angle = (2 * math.pi / YEAR) * (days.double() % YEAR)
        for order in range(1, self.harmonics + 1):
            for wave in ((order * angle).sin(), (order * angle).cos()):
                one = wave.to(image.dtype)[:, :, None, None, None]
                parts.append(one.expand(-1, -1, 1, *x.shape[-2:]))
        return torch.cat(parts, dim=2), valid

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Compute scores, as `timo.models.TiMo` does: (b, t, k, h, w) of each date or (b, k, h, w) of the series.

        Raises
        ------
        TimoError
            If the shapes do not fit each other or the bands.
        """
        check_series(x, dates, valid, len(self.config.bands), self.groups)
        read, valid = self.features(x, dates, valid)
        frames = rearrange(read, "b t f h w -> (b t) f h w")
        if self.layers is None:
            return self.classifier(frames).unflatten(0, x.shape[:2])
        cell = x.shape[-2:] == (1, 1)
        for layer in self.layers:
            frames = layer(frames, cell)
        seen = valid.any(dim=2) if self.groups else valid
        return self.classifier(self.over_dates(frames.unflatten(0, x.shape[:2]), seen))

    def answer(self, scores: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return what scores say, in their shape: probabilities, or value, low and high in the unit of the target.

        Raises
        ------
        TimoError
            If they are not scores of this model.
        """
        return answer(self.config, scores)

    @checked
    def set_target(self, mean: float, std: Positive) -> None:
        """Set the mean and standard deviation of the number that a regression predicts.

        Raises
        ------
        TimoError
            If the model is no regression, or they are not finite numbers, `std` above 0.
        """
        self.config = with_target(self.config, mean, std)

    def extra_repr(self) -> str:
        """Return one line for the notebook."""
        return f"{self.config.task} of single pixels, {', '.join(self.config.classes) or self.config.target}"


def pooled(
    context: Float[Tensor, "b ..."],
    pixel: Float[Tensor, "b ..."],
    share: Float[Tensor, "b ..."],
    *,
    classes: bool,
) -> Float[Tensor, "b ..."]:
    """Pool two opinions about pixels; the axis of the classes is the third from the end.

    Of classes the mean of the log-probabilities, each no less than `FLOOR` (a logarithmic opinion pool, Genest & Zidek
    1986, Statistical Science 1); of values the mean.

    Parameters
    ----------
    context, pixel : Tensor, shape (b, [t,] k, h, w)
        Scores.
    share : Tensor, shape (b, [t,] 1, h, w)
        Weight of `pixel`, 0 to 1.
    classes : bool
        Whether the scores are of classes.
    """
    both = [context, pixel]
    if classes:
        both = [scores.log_softmax(dim=-3).clamp(min=FLOOR) for scores in both]
    # Where one opinion counts alone it is as it was given.
    return torch.where(share == 0, context, (1 - share) * both[0] + share * both[1])
