"""What an encoder is made of: one frozen dataclass, and the named sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from timo.checks import Count, Range, check, checked, did_you_mean, hints_of
from timo.errors import TimoError
from timo.sensors import POLARISATIONS

Attention = Literal["d-stga", "stga", "global"]
# Pixels to a side of a token of the first stage.
Token = Literal[4, 2, 1]
# More than any model has: a slip of the keyboard does not ask for terabytes of weights.
Channels = Annotated[int, Range(least=1, most=8192)]
Blocks = Annotated[int, Range(least=1, most=256)]
Rate = Annotated[float, Range(least=0, below=1)]

# Micrometres: from the ultraviolet to well beyond the thermal infrared. Wavelengths in nanometres lie outside.
OPTICAL = (0.1, 100.0)


@checked
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
    wavelengths : tuple of float or None
        Central wavelength of each band in micrometres; 0, -1, -2 and -3 are radar in VV, VH, HH and HV
        (`timo.sensors.Band.wavelength_um`). Needed by the "wavelength" stem. None stands for a band without one
        (elevation, weather) in one of several groups of bands; that group has kernels of its own.
    checkpoint : bool
        Whether training computes the inside of each block a second time instead of keeping it: less memory for about
        a third more time, the same gradients.
    groups : tuple of int
        Numbers of consecutive bands that are observed together, one number a sensor: (10, 2) for ten bands of
        Sentinel-2 and two of Sentinel-1. Each group observed at a date is a frame of its own. Empty: one group.
    token : {4, 2, 1}
        Pixels to a side of a token of the first stage; those of the others are 2, 4 and 8 times as large. The weights
        are the same for each (`timo.models.tokens`): a model trained at one answers at another, with a sharper or a
        quicker map. A finer one costs: at 2 there are 4 times as many tokens as at 4, at 1 there are 16 times as many,
        and attention within a frame in the first stages, and over all dates in the last, takes the square of that, 16
        and 256 times as long for the same area.
    """

    in_channels: Channels
    dims: tuple[Channels, ...] = (32, 64, 128, 256)
    depths: tuple[Blocks, ...] = (1, 1, 2, 1)
    heads: tuple[Count, ...] = (1, 2, 4, 8)
    attention: tuple[Attention, ...] = ("d-stga", "d-stga", "global", "global")
    mlp_ratio: Blocks = 4
    drop_path: Rate = 0.0
    norm: Literal["layer", "batch"] = "layer"
    position: Literal["date", "fourier", "index"] = "date"
    stem: Literal["plain", "wavelength"] = "plain"
    wavelengths: tuple[float | None, ...] = ()
    checkpoint: bool = False
    groups: tuple[Channels, ...] = ()
    token: Token = 4

    def __post_init__(self) -> None:
        for field in ("dims", "depths", "heads", "attention"):
            if len(value := getattr(self, field)) != 4:
                raise TimoError(f"{field} must name four stages; got {value}")
        for dim, heads in zip(self.dims, self.heads, strict=True):
            if dim % heads:
                raise TimoError(f"{dim} channels cannot be shared by {heads} heads: use a multiple")
        if self.dims[0] % 8:
            # Half the channels code the frame, a quarter each the row and the column, in sine-cosine pairs.
            raise TimoError(f"the first stage needs a multiple of 8 channels; got {self.dims[0]}")
        self._check_groups()
        self._check_wavelengths()

    def _check_groups(self) -> None:
        if self.groups and sum(self.groups) != self.in_channels:
            raise TimoError(
                f"groups {self.groups} have {sum(self.groups)} bands, expected the {self.in_channels} of in_channels"
            )
        if len(self.groups) == 1:
            object.__setattr__(self, "groups", ())
        if self.groups and (self.position == "index" or self.norm == "batch"):
            raise TimoError(
                'several groups of bands have no published form, with which position="index" and norm="batch" agree: '
                'give position="date" and norm="layer"'
            )

    def _check_wavelengths(self) -> None:
        known = check_wavelengths([code for code in self.wavelengths if code is not None])
        given = iter(known)
        codes = tuple(None if code is None else next(given) for code in self.wavelengths)
        object.__setattr__(self, "wavelengths", codes)
        if len(codes) != self.in_channels and (codes or self.stem == "wavelength"):
            raise TimoError(
                f"{self.in_channels} bands need {self.in_channels} wavelengths, got {len(codes)}: {codes}"
            )
        if self.stem == "wavelength" and not any(None not in codes[part] for part in self.slices):
            raise TimoError(
                f"the stem of wavelengths needs all those of one group of bands, got {codes}: give them, or "
                'stem="plain"'
            )

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Return the pixels to a side of a token of each stage."""
        return self.token, 2 * self.token, 4 * self.token, 8 * self.token

    @property
    def slices(self) -> tuple[slice, ...]:
        """Return the channels of each group of bands."""
        return slices_of(self.groups, self.in_channels)

    @property
    def parts(self) -> "tuple[EncoderConfig, ...]":
        """Return the config of an encoder of each group of bands alone."""
        if not self.groups:
            return (self,)
        return tuple(
            replace(
                self,
                in_channels=part.stop - part.start,
                stem="plain" if None in self.wavelengths[part] else self.stem,
                wavelengths=self.wavelengths[part],
                groups=(),
            )
            for part in self.slices
        )


def slices_of(groups: tuple[int, ...], count: int) -> tuple[slice, ...]:
    """Return the channels of each group of bands; all of them where there is one sensor."""
    return tuple(slice(*pair) for pair in pairwise((0, *accumulate(groups or (count,)))))


def check_wavelengths(wavelengths: Sequence[float | int]) -> tuple[float, ...]:
    """Return codes of bands as Python's floats: micrometres, or a radar polarisation (`timo.sensors.POLARISATIONS`)."""
    codes = tuple(map(float, check(wavelengths, Sequence[float], "wavelengths")))
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


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with tuples, which the configs hold, for the lists that JSON knows."""
    return {name: _with_tuples(value) for name, value in values.items()}


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def check_reads_bands(config: Any, count: int) -> None:
    """Check that a config has one band, one mean and one std for each of some channels."""
    for field in ("mean", "std"):
        # Whole numbers would make a tensor of whole numbers.
        object.__setattr__(config, field, tuple(map(float, getattr(config, field))))
    if {len(config.bands), len(config.mean), len(config.std)} != {count}:
        raise TimoError(
            f"{count} channels need {count} bands, means and standard deviations, got "
            f"{len(config.bands)}, {len(config.mean)} and {len(config.std)}"
        )


# The name of a model of single pixels, which has no size.
PIXEL = "pixel"
# tiny and small are ours, for laptops; base, large and huge are the published sizes (TiMo, supplement).
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"dims": (32, 64, 128, 256), "depths": (1, 1, 2, 1), "heads": (1, 2, 4, 8)},
    "small": {"dims": (64, 128, 256, 512), "depths": (2, 2, 6, 2), "heads": (2, 4, 8, 16)},
    "base": {"dims": (128, 256, 512, 1024), "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "large": {"dims": (384, 768, 960, 1536), "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
    "huge": {"dims": (512, 1024, 1280, 2048), "depths": (3, 3, 22, 3), "heads": (8, 16, 32, 64)},
}


@checked
def encoder_config(size: str, in_channels: Channels, **overrides: Any) -> EncoderConfig:
    """Return the config of a named size.

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
            f"timo.save is loaded by its path.{did_you_mean(name, SIZES)}"
        )
    return EncoderConfig(in_channels, **SIZES[name] | check_overrides(overrides))


def check_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Check options of an encoder one by one, and return them as the fields of an `EncoderConfig` are."""
    known = hints_of(EncoderConfig)
    for name in overrides:
        if name not in known:
            raise TimoError(
                f"unknown encoder option {name!r}: known are {', '.join(known)}.{did_you_mean(name, known)}"
            )
    return {name: check(value, known[name], name) for name, value in overrides.items()}
