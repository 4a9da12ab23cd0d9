"""From pixels to tokens: the stem, the later downsamplings, and the code of place and date."""

import math

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from timo.errors import TimoError
from timo.models.bands import WavelengthConv, Wavelengths, precise
from timo.models.config import EncoderConfig
from timo.models.tokens import FULL, convolve, merge, places

YEAR = 365.2425
# Days: from a revisit of two weeks to the whole Landsat archive.
ELAPSED_PERIODS = (16.0, 16384.0)
MAX_HARMONICS = 8


def convolve_cell(conv: nn.Conv2d, x: Float[Tensor, "f c 1 1"]) -> Float[Tensor, "f d 1 1"]:
    """Convolve maps of one cell: around it is nothing but padding, and only the middle of the kernel counts."""
    row, column = (size // 2 for size in conv.kernel_size)
    return F.linear(x.flatten(1), conv.weight[:, :, row, column], conv.bias)[..., None, None]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of a map (f c h w): no statistics over the batch or the image."""

    def forward(self, x: Float[Tensor, "f c h w"]) -> Float[Tensor, "f c h w"]:
        # One copy, to channels last in memory, in which the next convolution is at home.
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Stem(nn.Module):
    """Pixels to the tokens of stage 1: two convolutions, and a LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim = config.dims[0]
        self.kind, self.token = config.stem, config.token
        if self.kind == "wavelength":
            self.kernels = WavelengthConv(dim, config.wavelengths, config.token)
        else:
            self.conv1 = nn.Conv2d(config.in_channels, dim, 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.BatchNorm2d(dim) if config.norm == "batch" else ChannelNorm(dim)
        self.conv2 = nn.Conv2d(dim, dim, 2, stride=2)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, x: Float[Tensor, "f c h w"], wavelengths: Wavelengths | None = None
    ) -> Float[Tensor, "f i j d"]:
        x = merge(F.relu(self.norm1(self._first(x, wavelengths))), self.conv2, self.token)
        return self.norm2(x.movedim(1, -1))

    def _first(self, x: Tensor, wavelengths: Wavelengths | None) -> Tensor:
        # Channels last in memory is faster here, and saves the norms that follow a copy of its large output.
        x = x.contiguous(memory_format=torch.channels_last)
        if self.kind == "wavelength":
            return self.kernels(x, wavelengths)
        if wavelengths is not None:
            raise TimoError(
                "the plain stem knows a band by its position and cannot use wavelengths: leave them out, or make the "
                'encoder with stem="wavelength"'
            )
        return convolve(x, self.conv1.weight, self.token)


class Downsample(nn.Module):
    """Tokens of one stage to those of the next, stride 2."""

    def __init__(self, dim: int, next_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, next_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(next_dim)

    def forward(self, x: Float[Tensor, "f i j d"]) -> Float[Tensor, "f i2 j2 d2"]:
        x = x.movedim(-1, 1)
        merged = convolve_cell(self.conv, x) if x.shape[-2:] == (1, 1) else self.conv(x)
        return self.norm(merged.movedim(1, -1))


def sincos(position: Float[Tensor, " p"], channels: int) -> Float[Tensor, "p {channels}"]:
    """Code a position by sines and cosines (Vaswani et al. 2017): all sines, then all cosines."""
    half = channels // 2
    steps = torch.arange(half, dtype=position.dtype, device=position.device)
    angle = position[:, None] * 10000.0 ** (-steps / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def index_code(count: int, channels: int, device: torch.device) -> Float[Tensor, "{count} c"]:
    """Code the frames 0..count-1, in float32 as published."""
    return sincos(torch.arange(count, dtype=torch.float32, device=device), channels)


def place_code(
    height: int, width: int, channels: int, device: torch.device, token: int = FULL
) -> Float[Tensor, "{height} {width} c"]:
    """Code the places of a grid: the first half of the channels for the column, the second for the row (MAE).

    Counted in units of 4 pixels, so that a place has the same code at each size of a token. Computed in float64 and
    rounded to float32, as published.
    """
    row, column = (
        sincos(places(n, token, precise(device), device), channels // 2).float()
        for n in (height, width)
    )
    return torch.cat(
        [column[None].expand(height, -1, -1), row[:, None].expand(-1, width, -1)], dim=-1
    )


def date_phases(
    dates: Real[Tensor, "b t"], present: Bool[Tensor, "b t"], channels: int
) -> tuple[Float[Tensor, "b t s"], Float[Tensor, "b t e"]]:
    """Return the angles of a code of dates: harmonics of the year, and the time since the first date in periods.

    In float64: a day of 2020 times a harmonic is a large number of turns, of which float32 would lose the place in the
    year.
    """
    harmonics = min(channels // 4, MAX_HARMONICS)
    days = dates.to(precise(dates.device))
    order = torch.arange(1, harmonics + 1, dtype=days.dtype, device=days.device)
    season = (2 * math.pi / YEAR) * days[..., None] * order
    first = days.masked_fill(~present, math.inf).amin(dim=1, keepdim=True)
    # A series without any valid observation: the earliest date, as good as any.
    first = torch.where(first.isinf(), days.amin(dim=1, keepdim=True), first)
    count = channels // 2 - harmonics
    low, high = (math.log(p) for p in ELAPSED_PERIODS)
    periods = torch.linspace(low, high, count, dtype=days.dtype, device=days.device).exp()
    return season, (2 * math.pi) * (days - first)[..., None] / periods


def date_code(
    dates: Real[Tensor, "b t"], present: Bool[Tensor, "b t"], channels: int
) -> Float[Tensor, "b t {channels}"]:
    """Code acquisition dates: harmonics of the year (season), and the time since the first date (order, distance).

    Dates are days since 1970-01-01; the first is the first `present`, that is with any valid observation, so that a
    date without data changes nothing. Half the channels code the season (at most 8 harmonics), the rest the elapsed
    time.
    """
    season, elapsed = date_phases(dates, present, channels)
    return torch.cat([season.sin(), season.cos(), elapsed.sin(), elapsed.cos()], dim=-1)


class FourierDates(nn.Module):
    """Learned Fourier features of acquisition dates (Li et al. 2021, arXiv 2106.02795; Time2Vec, Kazemi et al. 2019).

    The frequencies of the elapsed time are learnt, and a linear mix of all sines and cosines, which holds the phases
    and amplitudes. They begin as `date_code`, exactly. The frequencies of the season are not learnt: only whole
    harmonics of the year come round every year, and the mix makes any yearly course of those.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        count = channels // 2 - min(channels // 4, MAX_HARMONICS)
        # Logarithm of the frequency over its first value: always positive, and as exact as that at the start.
        self.log_frequency = nn.Parameter(torch.empty(count))
        self.mix = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as `date_code`."""
        nn.init.zeros_(self.log_frequency)
        nn.init.eye_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(
        self, dates: Real[Tensor, "b t"], present: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t c"]:
        season, elapsed = date_phases(dates, present, self.channels)
        elapsed = elapsed * self.log_frequency.to(elapsed.dtype).exp()
        code = torch.cat([season.sin(), season.cos(), elapsed.sin(), elapsed.cos()], dim=-1)
        return self.mix(code.to(self.mix.weight.dtype))


class Position(nn.Module):
    """Code of frame and place, added once to the tokens of stage 1 (TiMo, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.mode, self.token = config.position, config.token
        self.dates = FourierDates(config.dims[0] // 2) if self.mode == "fourier" else None

    def forward(
        self,
        tokens: Float[Tensor, "b t i j c"],
        dates: Real[Tensor, "b t"] | None,
        present: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b t i j c"]:
        _, t, height, width, channels = tokens.shape
        half = channels // 2
        if self.mode == "index" or dates is None:
            frame = index_code(t, half, tokens.device)
        elif self.dates is not None:
            frame = self.dates(dates, present)
        else:
            frame = date_code(dates, present, half)
        place = place_code(height, width, half, tokens.device, self.token)
        # The first half of the channels for the frame, the second for the place.
        frame = F.pad(frame.to(tokens.dtype), (0, half))[..., None, None, :]
        return tokens + frame + F.pad(place.to(tokens.dtype), (half, 0))
