"""What timo knows of each instrument: bands, wavelengths, scaling and mask rules.

A new sensor is one more entry of `SENSORS`; nothing else in timo holds a list of bands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from timo.errors import TimoError


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Parameters
    ----------
    name : str
        The name that the cube's `band` coordinate uses, e.g. "B8A".
    common_name : str
        The name in the STAC electro-optical extension, e.g. "nir08".
    wavelength_um : float
        Central wavelength in micrometres (0 for radar).
    gsd_m : float
        Ground sample distance in metres.
    mean, std : float
        What the models subtract and divide by, in the unit of the cube (reflectance 0..1).
    """

    name: str
    common_name: str
    wavelength_um: float
    gsd_m: float
    mean: float
    std: float


@dataclass(frozen=True)
class Sensor:
    """An instrument and the product of it that timo reads.

    Parameters
    ----------
    name : str
        The name that `cube.attrs["sensor"]` holds, e.g. "sentinel-2".
    product : str
        The product whose values are meant, in words.
    bands : tuple of Band
        In order of wavelength.
    scale : float
        Physical value = digital number x scale.
    units : str
        Unit of the physical values.
    mask_name : str
        The product's own classification of each pixel.
    mask_classes : tuple of str
        Its classes; the position is the code.
    masked : tuple of int
        The codes that are no valid observation of the ground unless the user says otherwise.
    fringed : tuple of int
        Those of them (clouds and their shadows) whose surroundings are doubtful as well.
    """

    name: str
    product: str
    bands: tuple[Band, ...]
    scale: float
    units: str
    mask_name: str
    mask_classes: tuple[str, ...]
    masked: tuple[int, ...]
    fringed: tuple[int, ...]

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order of wavelength."""
        return tuple(band.name for band in self.bands)

    def band(self, name: str) -> Band:
        """Return the band called `name`.

        Raises
        ------
        TimoError
            If the sensor has no such band.
        """
        for band in self.bands:
            if band.name == name:
                return band
        raise TimoError(
            f"{self.name} has no band {name!r}. Its bands are: {', '.join(self.band_names)}."
        )

    def select(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Return the bands called `names`, in that order (see `band`)."""
        return tuple(self.band(str(name)) for name in names)


# Central wavelengths: Sentinel-2A, ESA Sentinel-2 MSI user guide, "Spatial and spectral
# resolutions" (2B and 2C differ by less than 0.02 um). Level-2A has no B10: the cirrus band does
# not see the ground.
#
# Mean and standard deviation are round surface reflectances of vegetated land, between closed
# forest and bare soil. They are constants, and not statistics of anybody's cube, for two reasons:
# weights trained in one place then mean the same in another, and nothing of a held-out block can
# reach the model through them.
#
# Masked: besides no data, saturation, clouds, cirrus and cloud shadow also
#   7 unclassified: in the growing season it is the fringe of clouds, and haze;
#   11 snow: it hides the vegetation, and the tops of bright summer clouds are classed as snow too.
# Kept, although they can be wrong:
#   2 dark area: topographic shadow in autumn and winter, but also burn scars and dark conifers,
#     which a map of change must not lose. In mountains, mask it in a series that spans the winter;
#   6 water: shaded snow is classed as water too, but elsewhere water is what people map.
# Sen2Cor finds too little cloud shadow and too little of the edge of clouds, hence `fringed`.
_SENTINEL_2 = Sensor(
    name="sentinel-2",
    product="Sentinel-2 MSI Level-2A surface reflectance",
    bands=(
        Band("B1", "coastal", 0.443, 60, 0.04, 0.03),
        Band("B2", "blue", 0.492, 10, 0.05, 0.03),
        Band("B3", "green", 0.560, 10, 0.07, 0.03),
        Band("B4", "red", 0.665, 10, 0.07, 0.04),
        Band("B5", "rededge071", 0.704, 20, 0.11, 0.04),
        Band("B6", "rededge075", 0.741, 20, 0.20, 0.07),
        Band("B7", "rededge078", 0.783, 20, 0.25, 0.09),
        Band("B8", "nir", 0.833, 10, 0.27, 0.10),
        Band("B8A", "nir08", 0.865, 20, 0.28, 0.10),
        Band("B9", "nir09", 0.945, 60, 0.28, 0.10),
        Band("B11", "swir16", 1.614, 20, 0.20, 0.08),
        Band("B12", "swir22", 2.202, 20, 0.12, 0.07),
    ),
    scale=1e-4,
    units="surface reflectance, 0..1",
    mask_name="SCL",
    mask_classes=(
        "no data",
        "saturated or defective",
        "dark area (topographic shadow)",
        "cloud shadow",
        "vegetation",
        "not vegetated",
        "water",
        "unclassified",
        "cloud, medium probability",
        "cloud, high probability",
        "thin cirrus",
        "snow or ice",
    ),
    masked=(0, 1, 3, 7, 8, 9, 10, 11),
    fringed=(3, 8, 9, 10),
)

SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in (_SENTINEL_2,)}


def get_sensor(name: str) -> Sensor:
    """Return the sensor called `name`.

    Raises
    ------
    TimoError
        If timo does not know it.
    """
    try:
        return SENSORS[name]
    except (KeyError, TypeError):
        raise TimoError(f"Unknown sensor {name!r}. Known: {', '.join(sorted(SENSORS))}.") from None
