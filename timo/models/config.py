"""What an encoder is made of: one frozen dataclass, and the named sizes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from timo.errors import TimoError
from timo.sensors import POLARISATIONS

Attention = Literal["d-stga", "stga", "global"]

# Micrometres: from the ultraviolet to well beyond the thermal infrared. Wavelengths in nanometres lie outside.
OPTICAL = (0.1, 100.0)


@dataclass(frozen=True)
class EncoderConfig:
    """Shape and behaviour of a `TiMoEncoder`.

    Parameters
    ----------
    in_channels : int
        Number of bands of the input.
    dims, depths, heads : tuple of int
        Channels, blocks and attention heads of the four stages.
    attention : tuple of {"d-stga", "stga", "global"}
        Kind of attention of each stage (TiMo, section 3.2).
    mlp_ratio : int
        Hidden width of the MLPs over the width of the stage.
    drop_path : float
        Stochastic depth of the last block; it rises linearly from 0 at the first.
    norm : {"layer", "batch"}
        Normalisation inside the stem and the D-STGA gates. "layer" keeps the samples of a batch apart from each other;
        "batch" is the published form.
    position : {"date", "fourier", "index"}
        What stands for a frame in the position code: its acquisition date, in fixed or in learned Fourier features, or
        its place in the series as published.
    stem : {"plain", "wavelength"}
        Where the kernels of the first convolution come from: weights of each band as published, or a small network from
        the wavelength of the band, so that one set of weights reads the bands of any sensor.
    wavelengths : tuple of float
        Central wavelength of each band in micrometres; 0, -1, -2 and -3 are radar in VV, VH, HH and HV
        (`timo.sensors.Band.wavelength_um`). Needed by the "wavelength" stem.
    checkpoint : bool
        Whether training computes the inside of each block a second time instead of keeping it: less memory for about
        a third more time, the same gradients.

    Raises
    ------
    TimoError
        If the stages do not fit together.
    """

    in_channels: int
    dims: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 2, 1)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    attention: tuple[Attention, ...] = ("d-stga", "d-stga", "global", "global")
    mlp_ratio: int = 4
    drop_path: float = 0.0
    norm: Literal["layer", "batch"] = "layer"
    position: Literal["date", "fourier", "index"] = "date"
    stem: Literal["plain", "wavelength"] = "plain"
    wavelengths: tuple[float, ...] = ()
    checkpoint: bool = False

    def __post_init__(self) -> None:
        for field in ("dims", "depths", "heads", "attention"):
            value = getattr(self, field)
            if not isinstance(value, list | tuple) or len(value) != 4:
                raise TimoError(f"{field} must name four stages, got {value!r}")
            # JSON gives lists back; tuples keep the config hashable.
            object.__setattr__(self, field, tuple(value))
        self._check_choices()
        self._check_numbers()
        self._check_bands()

    def _check_choices(self) -> None:
        if bad := [kind for kind in self.attention if kind not in get_args(Attention)]:
            raise TimoError(f"unknown attention {bad}: use 'd-stga', 'stga' or 'global'")
        choices = {
            "norm": ("layer", "batch"),
            "position": ("date", "fourier", "index"),
            "stem": ("plain", "wavelength"),
        }
        for field, known in choices.items():
            if (value := getattr(self, field)) not in known:
                raise TimoError(f"{field} is one of {', '.join(map(repr, known))}, got {value!r}")

    def _check_numbers(self) -> None:
        counts = {
            f: getattr(self, f) for f in ("in_channels", "mlp_ratio", "dims", "depths", "heads")
        }
        for field, value in counts.items():
            values = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(number, int) and number >= 1 for number in values):
                raise TimoError(f"{field} must hold whole numbers of at least 1, got {value!r}")
        if not 0 <= self.drop_path < 1:
            raise TimoError(f"drop_path must be at least 0 and less than 1, got {self.drop_path}")
        for dim, heads in zip(self.dims, self.heads, strict=True):
            if dim % heads:
                raise TimoError(f"{dim} channels cannot be shared by {heads} heads: use a multiple")
        if self.dims[0] % 8:
            # Half the channels code the frame, a quarter each the row and the column, in sine-cosine pairs.
            raise TimoError(f"the first stage needs a multiple of 8 channels, got {self.dims[0]}")

    def _check_bands(self) -> None:
        object.__setattr__(self, "wavelengths", check_wavelengths(self.wavelengths))
        count = len(self.wavelengths)
        if count != self.in_channels and (count or self.stem == "wavelength"):
            raise TimoError(
                f"{self.in_channels} bands need {self.in_channels} wavelengths, got {count}: {self.wavelengths}"
            )


def check_wavelengths(wavelengths: Iterable[float | int]) -> tuple[float, ...]:
    """Return the codes of bands as plain numbers, refusing what is none.

    Parameters
    ----------
    wavelengths : iterable of float
        Micrometres, or the code of a radar polarisation (`timo.sensors.POLARISATIONS`).

    Raises
    ------
    TimoError
        If one is neither.
    """
    try:
        codes = tuple(float(wavelength) for wavelength in wavelengths)
    except (TypeError, ValueError) as error:
        raise TimoError(f"wavelengths must be numbers, got {wavelengths!r}") from error
    low, high = OPTICAL
    radar = tuple(POLARISATIONS.values())
    for code in codes:
        if not (low <= code <= high or code in radar):
            listed = ", ".join(f"{value:g} for {name}" for name, value in POLARISATIONS.items())
            raise TimoError(
                f"{code:g} is the wavelength of no band: expected micrometres ({low:g} to {high:g}; 0.665 is red), or "
                f"for radar {listed}"
            )
    return codes


# tiny and small are ours, for laptops; base, large and huge are the published sizes (TiMo, supplement).
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"dims": (32, 64, 128, 256), "depths": (1, 1, 2, 1), "heads": (1, 2, 4, 8)},
    "small": {"dims": (64, 128, 256, 512), "depths": (2, 2, 6, 2), "heads": (2, 4, 8, 16)},
    "base": {"dims": (128, 256, 512, 1024), "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "large": {"dims": (384, 768, 960, 1536), "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
    "huge": {"dims": (512, 1024, 1280, 2048), "depths": (3, 3, 22, 3), "heads": (8, 16, 32, 64)},
}


def encoder_config(size: str, in_channels: int, **overrides: Any) -> EncoderConfig:
    """Config of a named size.

    Parameters
    ----------
    size : {"tiny", "small", "base", "large", "huge"}
        Named size; a prefix "timo-" is allowed.
    in_channels : int
        Number of bands.
    **overrides
        Fields of `EncoderConfig` to set otherwise.

    Raises
    ------
    TimoError
        If the size or a field is unknown.
    """
    name = size.removeprefix("timo-")
    if name not in SIZES:
        raise TimoError(
            f"unknown model {size!r}: known sizes are {', '.join(SIZES)}; a folder written by "
            "timo.save is loaded by its path"
        )
    known = EncoderConfig.__dataclass_fields__
    if unknown := sorted(set(overrides) - set(known)):
        raise TimoError(f"unknown encoder option {unknown}: known are {', '.join(known)}")
    return EncoderConfig(**{"in_channels": in_channels, **SIZES[name], **overrides})
