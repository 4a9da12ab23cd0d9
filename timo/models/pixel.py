"""Scores of single pixels, without their surroundings: at full resolution in space and time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn

from timo.errors import TimoError
from timo.models.answering import AnsweringModel, PixelConfig
from timo.models.bands import precise
from timo.models.config import slices_of
from timo.models.embedding import YEAR
from timo.models.encoder import check_series
from timo.models.frames import Frames
from timo.models.heads import DATE_GROUPS, DatePooling, Layer
from timo.models.profile import PARTS, yearly_profile

# Channels of a model that attends to dates, and harmonics of the year that it reads; a regression reads the first.
WIDTH, HARMONICS = 32, 3
# Least log-probability that counts where two opinions are pooled: neither overrules the other.
FLOOR = -6.0


@dataclass(frozen=True)
class _Part:
    """Bands of one sensor, and pairs of them, by their position in the cube."""

    bands: slice
    pairs: tuple[tuple[int, int], ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, config: PixelConfig, bands: slice) -> "_Part":
        own = config.bands[bands]
        given = [pair for pair in config.indices if set(pair) <= set(own)]
        pairs = tuple((config.bands.index(a), config.bands.index(b)) for a, b in given)
        return cls(bands, pairs, (*own, *(f"({a} - {b}) / ({a} + {b})" for a, b in given)))

    def read(
        self,
        image: Float[Tensor, "b t c h w"],
        x: Float[Tensor, "b t c h w"],
        seen: Bool[Tensor, "b t 1 h w"],
    ) -> Float[Tensor, "b t f h w"]:
        """Return the normalised bands, and the normalised differences of the physical values."""
        read = [image[:, :, self.bands]]
        for left, right in self.pairs:
            a, b = x[:, :, left : left + 1], x[:, :, right : right + 1]
            # Reflectances in deep shadow are a little under zero: the ratio is kept in its range.
            ratio = ((a - b) / (a + b).clamp(min=1e-6)).clamp(-1, 1)
            read.append(torch.where(seen, ratio, 0.0))
        return torch.cat(read, dim=2)


def _days(like: Float[Tensor, "b t _f h w"], dates: Tensor | None) -> Real[Tensor, "b t"]:
    """Return the dates, or the first day of 1970 where there are none."""
    return like.new_zeros(like.shape[:2]) if dates is None else dates


def _season(
    like: Float[Tensor, "b t _f h w"], dates: Real[Tensor, "b t"] | None, harmonics: int
) -> Float[Tensor, "b t s h w"]:
    """Return sines and cosines of the day of the year at each pixel."""
    angle = (2 * math.pi / YEAR) * (_days(like, dates).to(precise(like.device)) % YEAR)
    orders = range(1, harmonics + 1)
    waves = [wave for k in orders for wave in ((k * angle).sin(), (k * angle).cos())]
    season = torch.stack(waves, dim=2).to(like.dtype)[..., None, None]
    return season.expand(-1, -1, -1, *like.shape[-2:])


class SeriesNetwork(nn.Module):
    """Two layers a date, pooled over the dates with learnt weights (after L-TAE, Garnot & Landrieu 2020).

    `counts` are the features of a pixel and date, of each sensor.
    """

    def __init__(self, counts: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList([Layer(counts[0], WIDTH, 1)])
        self.second = Layer(WIDTH, WIDTH, 1)
        self.over_dates = DatePooling(WIDTH, math.gcd(WIDTH, DATE_GROUPS))
        self.classifier = nn.Conv2d(WIDTH, outputs, 1)
        # Drawn apart: all else begins as in a model of the first sensor.
        with torch.random.fork_rng(devices=[]):
            self.inputs.extend(Layer(count, WIDTH, 1) for count in counts[1:])

    def forward(
        self, series: Sequence[Float[Tensor, "b t _f h w"]], valid: Bool[Tensor, "b t *g h w"]
    ) -> Float[Tensor, "b k h w"]:
        """Compute scores from the features of each sensor and where it observed."""
        if len(series) > 1:
            of = Frames.of(valid)
            frames, valid = of.each(series, self.inputs), of.valid
        else:
            dates = series[0].shape[:2]
            frames = self.inputs[0](series[0].flatten(0, 1)).unflatten(0, dates)
        coded = self.second(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.classifier(self.over_dates(coded, valid))


class PixelModel(AnsweringModel):
    """Scores of each pixel from its own values alone.

    ``form="regression"`` is a linear model, which training fits at once (`timo.training.regression`): a map of it takes
    a second, and its coefficients explain it. It reads the bands and normalised differences of bands: for an answer at
    each date those of the date, and the season; for an answer of the series their course through the year
    (`timo.models.profile.yearly_profile`). ``form="attention"``, for an answer of the series, is a small network
    (`SeriesNetwork`), which training moves by steps; ``form="both"`` pools the two in equal parts (`pooled`).

    Parameters
    ----------
    config : PixelConfig
        For pixels or parcels. `indices` are the pairs of bands.
    """

    def __init__(self, config: PixelConfig) -> None:
        super().__init__(config, config.groups)
        if config.unit == "chip":
            raise TimoError(
                'a model of single pixels does not answer for chips: give unit="pixel" or unit="parcel"'
            )
        self.config: PixelConfig
        self._parts = [_Part.of(config, part) for part in slices_of(self.groups, len(config.bands))]
        self.regression: nn.Conv2d | None = None
        self.network: SeriesNetwork | None = None
        if config.form != "regression":
            counts = [len(part.names) + 2 * HARMONICS for part in self._parts]
            self.network = SeriesNetwork(counts, config.outputs)
        if config.form != "attention":
            self.regression = nn.Conv2d(len(self.feature_names), config.outputs, 1)
            for parameter in self.regression.parameters():
                nn.init.zeros_(parameter)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of what a regression reads of a pixel, at a date or of the series, in order."""
        read = [name for part in self._parts for name in part.names]
        groups = [f"observed {number + 1}" for number in range(len(self.groups))]
        if not self.config.per_date:
            parts = range(1, PARTS + 1)
            return (*(f"{name}, {k}/{PARTS} of the year" for name in read for k in parts), *groups)
        return (*read, *groups, "sine of the year", "cosine of the year")

    def features(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> tuple[Float[Tensor, "b *t f h w"], Bool[Tensor, "b t *g h w"]]:
        """Return what a regression reads of each pixel, at each date or of the series; and where it was observed."""
        parts, valid = self._read(x, valid)
        if self.config.per_date:
            groups = [valid.to(parts[0].dtype)] if self.groups else []
            return torch.cat([*parts, *groups, _season(parts[0], dates, 1)], dim=2), valid
        return self._courses(parts, dates, valid), valid

    def _courses(
        self,
        parts: Sequence[Float[Tensor, "b t _f h w"]],
        dates: Real[Tensor, "b t"] | None,
        valid: Bool[Tensor, "b t *g h w"],
    ) -> Float[Tensor, "b f h w"]:
        """Return the course of the year of all that was read, and which sensors observed the pixel."""
        flags = valid.unbind(dim=2) if self.groups else [valid]
        days = _days(parts[0], dates)
        courses = [
            rearrange(yearly_profile(part, seen, days), "b k f h w -> b (f k) h w")
            for part, seen in zip(parts, flags, strict=True)
        ]
        if self.groups:
            courses.append(valid.any(dim=1).to(parts[0].dtype))
        return torch.cat(courses, dim=1)

    def _read(
        self, x: Tensor, valid: Tensor | None
    ) -> tuple[list[Float[Tensor, "b t _f h w"]], Bool[Tensor, "b t *g h w"]]:
        """Return bands and indices of each sensor, zero where not observed, and what was observed."""
        image, valid = self.normalise(x, valid)
        flags = valid.split(1, dim=2) if self.groups else [valid[:, :, None]]
        parts = [part.read(image, x, seen) for part, seen in zip(self._parts, flags, strict=True)]
        return parts, valid

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
        if self.config.per_date:
            assert self.regression is not None
            read, _ = self.features(x, dates, valid)
            return self.regression(read.flatten(0, 1)).unflatten(0, x.shape[:2])
        parts, valid = self._read(x, valid)
        told = []
        if self.network is not None:
            told.append(self._attend(parts, dates, valid))
        if self.regression is not None:
            told.append(self.regression(self._courses(parts, dates, valid)))
        if len(told) == 1:
            return told[0]
        attended, fitted = told
        share = torch.full_like(fitted[:, :1], 0.5)
        return pooled(attended, fitted, share, classes=self.config.task != "regression")

    def attend(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Compute the scores of the network alone, which learns by steps."""
        parts, valid = self._read(x, valid)
        return self._attend(parts, dates, valid)

    def _attend(
        self,
        parts: Sequence[Float[Tensor, "b t _f h w"]],
        dates: Real[Tensor, "b t"] | None,
        valid: Bool[Tensor, "b t *g h w"],
    ) -> Float[Tensor, "b k h w"]:
        assert self.network is not None
        season = _season(parts[0], dates, HARMONICS)
        return self.network([torch.cat([part, season], dim=2) for part in parts], valid)

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
    mean = torch.where(share == 1, pixel, (1 - share) * both[0] + share * both[1])
    return torch.where(share == 0, context, mean)
