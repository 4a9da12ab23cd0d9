"""The first convolution made from wavelengths: one set of weights for the bands of any sensor, in any number and order.

A small network makes the kernel of a band from the band's wavelength: a hypernetwork (Ha et al. 2017, arXiv
1609.09106), put to this use by DOFA (Xiong et al. 2024, arXiv 2403.15356). Unlike there, the kernel of a band does not
depend on which other bands are there, but for one common factor: a band left out changes nothing of what others say.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from timo.errors import TimoError
from timo.models.config import OPTICAL, Token, check_wavelengths
from timo.models.tokens import FULL, convolve
from timo.sensors import POLARISATIONS

Wavelengths = Tensor | Sequence[float | int]

CODE, HIDDEN, SIZE = 32, 128, 7
# In units of the natural logarithm of the wavelength: from more than the whole range to one on which Sentinel-2's B8
# and B8A (0.04 apart, the closest of one sensor) are a sixth of a turn from each other. A shorter period would keep
# apart what no two instruments do, and leave the network to guess between the bands that it was trained on.
PERIODS = (8.0, 0.25)
# Bands are kept as whole picometres: whole numbers stay what they are when a model is cast to half precision, and a
# wavelength given in single precision is the same band as in double.
PICOMETRES = 1_000_000


def precise(device: torch.device) -> torch.dtype:
    """Return the finest floating point of a device: Apple's has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def to_picometres(wavelengths: Real[Tensor, " c"]) -> Int[Tensor, " c"]:
    """Return codes of bands (micrometres, or <= 0 for radar) as whole numbers."""
    exact = wavelengths.to(precise(wavelengths.device))
    return (exact * PICOMETRES).round().long()


def wavelength_code(bands: Int[Tensor, " c"], channels: int) -> Float[Tensor, "c {channels}"]:
    """Code the logarithm of wavelengths in picometres by sines and cosines: equal ratios are equally far apart."""
    log = (bands.to(precise(bands.device)) / PICOMETRES).log()
    longest, shortest = (math.log(p) for p in PERIODS)
    periods = torch.linspace(longest, shortest, channels // 2, dtype=log.dtype, device=log.device)
    angle = (2 * math.pi) * log[:, None] / periods.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class WavelengthConv(nn.Module):
    """7 x 7 convolution, stride 2, without bias, whose kernels are made from the wavelengths of the bands.

    For tokens finer than 4 pixels the kernels are made smaller (`timo.models.tokens`).

    Bands are summed in order of wavelength, in any order that they come in: permuting bands together with their
    wavelengths changes no bit of the output (among bands of one wavelength: none but the rounding of a sum).

    The kernels begin as He et al. (2015) have it, fan-in, for one band: variance 2 / 49. They are divided by the root
    of the number of bands, so that the output of bands that vary independently is as large for three as for twelve.
    A LayerNorm before the last layer keeps the kernels of all wavelengths at one size, those between the bands of
    training included. `wavelengths` are the codes of the bands when the call gives none.
    """

    def __init__(self, dim: int, wavelengths: Sequence[float | None], token: Token = FULL) -> None:
        super().__init__()
        self.token = token
        self.tokens = nn.Parameter(torch.empty(len(POLARISATIONS), CODE))
        self.hidden = nn.Sequential(
            nn.Linear(CODE, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU()
        )
        self.norm = nn.LayerNorm(HIDDEN)
        self.kernel = nn.Linear(HIDDEN, dim * SIZE**2, bias=False)
        # Part of the config, not of the weights.
        self.bands: Tensor
        codes = check_wavelengths([code for code in wavelengths if code is not None])
        bands = to_picometres(torch.tensor(codes, dtype=torch.float64))
        self.register_buffer("bands", bands, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first weights."""
        # As large as a sine-cosine code.
        nn.init.normal_(self.tokens, std=0.5**0.5)
        for layer in self.hidden:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.norm.reset_parameters()
        nn.init.normal_(self.kernel.weight, std=(2 / SIZE**2 / HIDDEN) ** 0.5)

    def kernels(self, bands: Int[Tensor, " c"]) -> Float[Tensor, "d c 7 7"]:
        """Make kernels of bands in picometres; NaN for a code that no band has."""
        radar = bands <= 0
        token = self.tokens[(-bands // PICOMETRES).clamp(0, len(POLARISATIONS) - 1)]
        code = wavelength_code(bands.clamp(min=1), CODE).to(token.dtype)
        made = self.kernel(self.norm(self.hidden(torch.where(radar[:, None], token, code))))
        made = made.masked_fill(~_known(bands)[:, None], torch.nan) / len(bands) ** 0.5
        return made.reshape(len(bands), -1, SIZE, SIZE).transpose(0, 1)

    def forward(
        self, x: Float[Tensor, "f c h w"], wavelengths: Wavelengths | None = None
    ) -> Float[Tensor, "f d i j"]:
        bands = self.bands if wavelengths is None else as_bands(wavelengths, x.device)
        order = bands.argsort(stable=True)
        return convolve(x[:, order], self.kernels(bands[order]), self.token)


def _known(bands: Int[Tensor, " c"]) -> Bool[Tensor, " c"]:
    """Return which bands in picometres `check_wavelengths` would let pass."""
    low, high = (round(limit * PICOMETRES) for limit in OPTICAL)
    code, rest = -bands // PICOMETRES, bands % PICOMETRES
    radar = (rest == 0) & (code >= 0) & (code < len(POLARISATIONS))
    return radar | ((bands >= low) & (bands <= high))


def as_bands(wavelengths: Wavelengths, device: torch.device) -> Int[Tensor, " c"]:
    """Return bands in picometres on the device.

    A tensor on an accelerator is not read back, which would wait for it: there, a code that no band has gives NaN.
    """
    if isinstance(wavelengths, Tensor):
        if wavelengths.device.type == "cpu" and not torch.compiler.is_compiling():
            check_wavelengths(wavelengths.tolist())
        return to_picometres(wavelengths.to(device))
    return to_picometres(torch.tensor(check_wavelengths(wavelengths), dtype=precise(device))).to(
        device
    )


def check_fit(x: Tensor, wavelengths: Wavelengths) -> None:
    """Refuse wavelengths that are not one for each channel of x (b, t, c, h, w)."""
    shape = tuple(wavelengths.shape) if isinstance(wavelengths, Tensor) else (len(wavelengths),)
    if x.ndim != 5 or shape != (x.shape[2],):
        raise TimoError(
            f"wavelengths of shape {shape} do not fit x of shape {tuple(x.shape)}: expected one for each band, x being "
            "(b, t, bands, h, w)"
        )
