"""Bands that a new model is to read: their sensors, wavelengths and normalisation."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dask
import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError
from timo.places.places import Places
from timo.sensors import Sensor, get_sensor

logger = logging.getLogger(__name__)

# Common names of the bands of normalised differences: of vegetation (NDVI, Rouse et al. 1974), of its moisture (NDMI,
# Gao 1996) and of water (NDWI, McFeeters 1996).
_INDICES = (
    (("nir", "nir08"), ("red",)),
    (("nir", "nir08"), ("swir16",)),
    (("green",), ("nir", "nir08")),
)
# Most places that are read for `normalisation="data"`.
MOST_PLACES = 1000


@dataclass(frozen=True)
class Bands:
    """Bands by name, their sensor, and the cube or the places that they are of."""

    bands: tuple[str, ...]
    sensor: Sensor
    given: xr.DataArray | Places

    @classmethod
    def of(cls, given: xr.DataArray | Places | Sequence[xr.DataArray]) -> Bands:
        if isinstance(given, Places):
            return cls(given.bands, get_sensor(given.sensor or "sentinel-2"), given)
        cube = given if isinstance(given, xr.DataArray) else cubes.join(*given)
        sensor = cubes.check(cube, sensor="sentinel-2").attrs.get("sensor", "sentinel-2")
        return cls(tuple(str(band) for band in cube.band.values), get_sensor(sensor), cube)

    @property
    def single(self) -> bool:
        """Return whether they are of single pixels."""
        given = self.given
        return given.single if isinstance(given, Places) else given.shape[2:] == (1, 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Return the sizes of the groups of bands; empty for one."""
        groups = cubes.band_groups(self.bands, self.sensor)
        return groups if len(groups) > 1 else ()

    def indices(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return pairs of bands whose normalised differences are indices: NDVI, NDMI and NDWI, as far as there are."""
        found = {band.common_name: band.name for band in reversed(self.sensor.select(names))}
        pairs = []
        for first, second in _INDICES:
            a, b = (next((found[n] for n in one if n in found), None) for one in (first, second))
            if a and b:
                pairs.append((a, b))
        return tuple(pairs)

    def opened(self) -> Iterator[xr.DataArray]:
        """Yield the cube, or those of places, evenly spread over all of them."""
        if isinstance(self.given, xr.DataArray):
            yield self.given
            return
        step = math.ceil(len(self.given) / MOST_PLACES)
        yield from (self.given.open(i)[0] for i in range(0, len(self.given), step))

    def codes(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Return the wavelength of each band: the one chosen, else the sensor's; NaN where it has none."""
        own = [band.wavelength_um for band in self.sensor.select(self.bands)]
        chosen = options.get("wavelengths") or own
        return {
            band: math.nan if code is None else code
            for band, code in zip(self.bands, chosen, strict=True)
        }

    def codes_by_group(self, options: Mapping[str, Any]) -> list[list[float]]:
        """Return the wavelengths of each group of bands."""
        codes = iter(self.codes(options).values())
        return [list(islice(codes, size)) for size in self.groups or (len(self.bands),)]

    def normalisation(
        self, names: Sequence[str], known: Mapping[str, tuple[float, float]], of_data: bool
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std of bands: those that are known, else those of the sensor, or all those of the data.

        Bands for which the sensor has no such constants take those of the data.
        """
        usual = {band.name: (band.mean, band.std) for band in self.sensor.select(names)}
        numbers = {name: known.get(name, usual[name]) for name in names}
        wanted = [name for name, pair in numbers.items() if of_data or any(map(math.isnan, pair))]
        if wanted:
            logger.info("normalisation of %s: mean and std of the data", ", ".join(wanted))
            mean, std = band_statistics(cube.sel(band=wanted) for cube in self.opened())
            numbers |= zip(wanted, zip(mean.tolist(), std.tolist(), strict=True), strict=True)
        means, stds = zip(*numbers.values(), strict=True)
        return means, stds


def band_statistics(given: Iterable[xr.DataArray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each band over the finite values of all cubes, each (band,).

    One cube is read at a time, in float64 and band by band. A band of a single value has the standard deviation 1.

    Raises
    ------
    TimoError
        If a band has no finite value.
    """
    count, mean, square = (np.zeros(1) for _ in range(3))
    names: list[str] = []
    for cube in given:
        names = [str(name) for name in cube.band.values]
        n, m, s = np.transpose([_moments(cube.isel(band=i)) for i in range(len(names))])
        # Two sets at a time (Chan et al. 1983): a sum of all squares would lose what is left of it.
        total = np.maximum(count + n, 1)
        apart = m - mean
        mean, square = mean + apart * n / total, square + s + apart**2 * count * n / total
        count = count + n
    if empty := [name for name, n in zip(names, count, strict=True) if not n]:
        raise TimoError(
            f"{', '.join(empty)} holds no value: nothing was observed. Leave the band out, or give a cube with values."
        )
    std = np.sqrt(square / count)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, 1.0)


def _moments(band: xr.DataArray) -> tuple[float, float, float]:
    """Return how many values of a band are finite, their mean, and the sum of the squared deviations from it."""
    values = band.astype("float64")
    n, mean, variance = dask.compute(values.count(), values.mean(), values.var())
    if not int(n):
        return 0.0, 0.0, 0.0
    return float(n), float(mean), float(variance) * float(n)
