"""Whether a model and a cube fit each other, and what of a cube is observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from timo import cube as cubes
from timo.errors import TimoError
from timo.models.tasks import Segmenter, config_of
from timo.sensors import Sensor


@dataclass(frozen=True, eq=False)
class Look:
    """The check of the values of a lazy cube, tile by tile; what is in memory was looked at as a whole."""

    sensor: Sensor | None
    bands: tuple[str, ...]
    times: np.ndarray

    @classmethod
    def at(cls, cube: xr.DataArray, config: Any) -> Look | None:
        """Return the check of a cube; None where nothing is left to look at."""
        if cube.variable._in_memory:
            return None
        return cls(cubes.sensor_of(cube, config.sensor), config.bands, cube.time.values)

    def check(self, x: np.ndarray) -> None:
        """Raise a `TimoError` where values cannot be what the sensor measures."""
        cubes.check_values(x, self.sensor, self.bands, times=self.times, part=True)


def readable(model: Segmenter, cube: xr.DataArray) -> xr.DataArray:
    """Return the cube with the bands of the model.

    Raises
    ------
    TimoError
        If they do not fit each other, or one of the bands has no value at all.
    """
    config = config_of(model)
    chosen = cubes.select_bands(cube, config.bands, config.sensor)
    if chosen.variable._in_memory:
        _check_bands(chosen, groups_of(config))
    return chosen


def check_weights(model: Segmenter) -> None:
    """Refuse a model whose weights are not finite: its map would hold no data, and not say why."""
    broken = [
        name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())
    ]
    if broken:
        more = f" and {len(broken) - 1} more" if broken[1:] else ""
        raise TimoError(
            f"The model's weights are not finite (in {broken[0]}{more}): its training diverged, or its file is "
            "damaged. Load it again with timo.load_model, and train it with a lower learning rate."
        )


def groups_of(config: Any) -> tuple[int, ...]:
    """Return how many bands of a model belong to each sensor."""
    return getattr(getattr(config, "encoder", config), "groups", ()) or (len(config.bands),)


def seen(x: Float[np.ndarray, "t c h w"], groups: Sequence[int]) -> Bool[np.ndarray, "t h w"]:
    """Return where a date has an observation, of any group of bands."""
    valid = cubes.observed(x, groups)
    return valid if valid.ndim == 3 else np.asarray(valid.any(axis=1))


def _check_bands(cube: xr.DataArray, groups: tuple[int, ...]) -> None:
    """Refuse a band without any value beside others of its sensor that have some, and a cube without observation."""
    finite = np.isfinite(cube.values).any(axis=(0, 2, 3))
    bands = [str(band) for band in cube.band.values]
    start = 0
    for size in groups:
        some = slice(start, start + size)
        empty = [band for band, known in zip(bands[some], finite[some], strict=True) if not known]
        if empty and finite[some].any():
            raise TimoError(
                f"The cube's band {empty[0]} has no value at all, so no pixel is observed in all bands of the model "
                f"{bands[some]}. Open the cube again with {empty}, or load a model for the other bands."
            )
        start += size
    if not seen(cube.values, groups).any():
        raise TimoError(
            f"No pixel of the cube is observed in all bands of the model at any date, so a map would have no data: "
            f"each has a gap in one of {bands}. Open the cube again, or load a model for bands with less of them."
        )
