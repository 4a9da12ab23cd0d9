"""Which autoencoder is pretrained by default: one place for the choices that experiments made."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from timo.checks import Count, Seed, checked
from timo.models.config import encoder_config
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.sensors import get_sensor

# As published (TiMo, section 4.1 and supplement): the sizes for which nothing else is said below.
PUBLISHED: dict[str, Any] = {
    "unit": 32,
    "decoder_dim": 512,
    "decoder_depth": 8,
    "decoder_heads": 16,
}
RECIPES: dict[str, dict[str, Any]] = {
    "tiny": {"unit": 8, "decoder_dim": 128, "decoder_depth": 2, "decoder_heads": 4},
    "small": {"unit": 16, "decoder_dim": 256, "decoder_depth": 4, "decoder_heads": 8},
}


@checked
def autoencoder_config(
    size: str,
    bands: Sequence[str],
    sensor: str = "sentinel-2",
    *,
    unit: Count | None = None,
    target: Literal["values", "frame", "unit", "batch"] = "frame",
    **encoder: Any,
) -> MaskedConfig:
    """Return the config of a masked autoencoder of a named size.

    Parameters
    ----------
    size : {"tiny", "small", "base", "large", "huge"}
        Named size; a prefix "timo-" is allowed.
    bands : sequence of str
        Names of the bands.
    sensor : str
        Sensor of the bands; it gives their mean and scale.
    unit : int, optional
        Side of a mask unit in pixels; by default 8 for tiny, 16 for small and 32, as published, for the others.
    target : {"values", "frame", "unit", "batch"}
        What is predicted, see `MaskedConfig`. By default a location relative to its date: on the sample, maps from
        few labels gain most from that.
    **encoder
        Fields of `timo.models.EncoderConfig`. By default ``stem="wavelength"``, so that what is learnt from these bands
        serves others, too; the wavelengths are those of the bands unless they are given.

    Raises
    ------
    TimoError
        If the size, the sensor, a band or an option is unknown, or a band has no wavelength and the stem needs it.
    """
    known = get_sensor(sensor).select(bands)
    if encoder.setdefault("stem", "wavelength") == "wavelength" and "wavelengths" not in encoder:
        encoder["wavelengths"] = get_sensor(sensor).wavelengths(bands)
    config = encoder_config(size, len(known), **encoder)
    recipe = PUBLISHED | RECIPES.get(size.removeprefix("timo-"), {})
    if unit is not None:
        recipe["unit"] = unit
    return MaskedConfig(
        encoder=config,
        bands=tuple(bands),
        mean=tuple(band.mean for band in known),
        std=tuple(band.std for band in known),
        sensor=sensor,
        target=target,
        **recipe,
    )


def default_rate(config: MaskedConfig, batch_size: int) -> float:
    """Return the peak of the learning rate: 1.5e-4 x batch_size / 256, as published, but not under 2e-3 x 32 / width.

    The published rule is for batches of thousands. With the small batches of one machine it would give a rate at which
    nothing is learnt; there it is the width of the first stage that bounds the rate (tiny has 32, base 128).
    """
    return max(1.5e-4 * batch_size / 256, 2e-3 * 32 / config.encoder.dims[0])


@checked
def new_autoencoder(config: MaskedConfig, seed: Seed = 0) -> MaskedAutoencoder:
    """Return an autoencoder with random weights on the CPU; a seed gives the same weights and changes no other draw."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every accelerator, and those are not put back.
        torch.random.default_generator.manual_seed(seed)
        return MaskedAutoencoder(config).eval()
