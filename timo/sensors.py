"""What timo knows of each instrument: bands, wavelengths, scaling and mask rules.

A new sensor is one more entry of `SENSORS`; nothing else in timo holds a list of bands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from timo.errors import TimoError

# Codes of the radar polarisations, which have no wavelength that tells them apart: they stand where an optical band has
# its wavelength, and so are none of its values.
POLARISATIONS: dict[str, float] = {"VV": 0.0, "VH": -1.0, "HH": -2.0, "HV": -3.0}


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Parameters
    ----------
    name : str
        The name that the cube's `band` coordinate uses, e.g. "B8A".
    common_name : str
        The name in the STAC electro-optical extension, e.g. "nir08"; empty where it has none.
    wavelength_um : float
        Central wavelength in micrometres; a radar band has the code of its polarisation instead (`POLARISATIONS`).
    gsd_m : float
        Ground sample distance in metres.
    mean, std : float
        What the models subtract and divide by, in the unit of the cube (reflectance 0..1, backscatter in dB).
    """

    name: str
    common_name: str
    wavelength_um: float
    gsd_m: float
    mean: float
    std: float


@dataclass(frozen=True)
class QualityClass:
    """One thing that a product's quality layer says of a pixel.

    As the flags of the CF conventions (section 3.5): `value` is a flag value, `bits` a flag mask.

    Parameters
    ----------
    name : str
        What it says, e.g. "cloud shadow".
    value : int
        The code of the pixels that it holds for.
    bits : int, optional
        Which bits of the layer hold the code. None: the layer is a plain classification, all of it is the code.
    """

    name: str
    value: int
    bits: int | None = None

    def of(self, quality: Any) -> Any:
        """Where it holds, for an integer or an array of integers (numpy, xarray, dask)."""
        return (quality if self.bits is None else quality & self.bits) == self.value


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
        In order of wavelength; radar in the order VV, VH, HH, HV.
    scale, offset : float
        Physical value = digital number x scale + offset.
    units : str
        Unit of the physical values.
    nodata : int, optional
        The digital number of a pixel without data.
    mask_name : str
        The product's own quality layer; empty if it has none.
    quality : tuple of QualityClass
        What the layer can say of a pixel. In a bit mask several can hold for one pixel.
    masked : tuple of int
        Positions in `quality` of what is no valid observation of the ground unless the user says otherwise. In a plain
        classification (Sentinel-2) the position is the code.
    fringed : tuple of int
        Those of them (clouds and their shadows) whose surroundings are doubtful as well.
    """

    name: str
    product: str
    bands: tuple[Band, ...]
    scale: float
    units: str
    mask_name: str = ""
    quality: tuple[QualityClass, ...] = ()
    masked: tuple[int, ...] = ()
    fringed: tuple[int, ...] = ()
    offset: float = 0.0
    nodata: int | None = None

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order of wavelength."""
        return tuple(band.name for band in self.bands)

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of what the quality layer can say, by position."""
        return tuple(kind.name for kind in self.quality)

    def physical(self, numbers: Any) -> Any:
        """Physical values of digital numbers (a float or an array of floats); `nodata` is left to the caller."""
        return numbers * self.scale + self.offset

    def flagged(self, quality: Any, classes: Iterable[int] | None = None) -> Any:
        """Where the quality layer says any of these things of a pixel.

        Parameters
        ----------
        quality : int or array of integers (numpy, xarray, dask)
            The layer `mask_name`.
        classes : iterable of int, optional
            Positions in `quality`; by default `masked`.

        Returns
        -------
        bool or array of bool
            In the shape of `quality`.

        Raises
        ------
        TimoError
            If there is no such class.
        """
        positions = self.masked if classes is None else tuple(classes)
        if wrong := [i for i in positions if i not in range(len(self.quality))]:
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(self.mask_classes))
            raise TimoError(
                f"{self.name} has no quality class {wrong[0]!r}. It has: {listed or 'none'}."
            )
        # Nothing is false everywhere, in whatever kind of array the layer is.
        anything = quality != quality  # noqa: PLR0124
        for position in positions:
            anything = anything | self.quality[position].of(quality)
        return anything

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
    nodata=0,
    mask_name="SCL",
    quality=(
        QualityClass("no data", 0),
        QualityClass("saturated or defective", 1),
        QualityClass("dark area (topographic shadow)", 2),
        QualityClass("cloud shadow", 3),
        QualityClass("vegetation", 4),
        QualityClass("not vegetated", 5),
        QualityClass("water", 6),
        QualityClass("unclassified", 7),
        QualityClass("cloud, medium probability", 8),
        QualityClass("cloud, high probability", 9),
        QualityClass("thin cirrus", 10),
        QualityClass("snow or ice", 11),
    ),
    masked=(0, 1, 3, 7, 8, 9, 10, 11),
    fringed=(3, 8, 9, 10),
)

# Central wavelengths of OLI: USGS, Landsat 8 Data Users Handbook (OLI-2 of Landsat 9 differs by less than 0.002 um).
# Scale, offset, fill and the bits of QA_PIXEL: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide. The
# confidence bits (8..15) say of each class how sure CFMask was, and are left out. "Clear" is what it calls not cloud:
# shadow, cirrus and snow can be clear too, so that it serves to keep nothing.
#
# Mean and std are those of the Sentinel-2 bands beside them: what one set of weights reads from two instruments is
# normalised alike, so that the same ground gives the same input.
_LANDSAT_8_9 = Sensor(
    name="landsat-8-9",
    product="Landsat 8-9 OLI Collection 2 Level-2 surface reflectance",
    bands=(
        Band("SR_B1", "coastal", 0.443, 30, 0.04, 0.03),
        Band("SR_B2", "blue", 0.482, 30, 0.05, 0.03),
        Band("SR_B3", "green", 0.561, 30, 0.07, 0.03),
        Band("SR_B4", "red", 0.655, 30, 0.07, 0.04),
        Band("SR_B5", "nir08", 0.865, 30, 0.28, 0.10),
        Band("SR_B6", "swir16", 1.609, 30, 0.20, 0.08),
        Band("SR_B7", "swir22", 2.201, 30, 0.12, 0.07),
    ),
    scale=2.75e-5,
    offset=-0.2,
    units="surface reflectance, 0..1",
    nodata=0,
    mask_name="QA_PIXEL",
    quality=(
        QualityClass("fill", 1 << 0, 1 << 0),
        QualityClass("dilated cloud", 1 << 1, 1 << 1),
        QualityClass("cirrus", 1 << 2, 1 << 2),
        QualityClass("cloud", 1 << 3, 1 << 3),
        QualityClass("cloud shadow", 1 << 4, 1 << 4),
        QualityClass("snow", 1 << 5, 1 << 5),
        QualityClass("clear", 1 << 6, 1 << 6),
        QualityClass("water", 1 << 7, 1 << 7),
    ),
    masked=(0, 1, 2, 3, 4, 5),
    # Not the dilated cloud: it is a fringe already.
    fringed=(2, 3, 4),
)

# Wavelengths: centres of the MODIS bands 1-7 (NASA, MODIS specifications). Scale, fill and the bits of the state layer:
# MOD09 User's Guide, Collection 6.1 (Vermote et al.); the states of MOD09A1 (500 m) and MOD09GA (1 km) agree on these.
# The STAC extension has no name for a band at 1.24 um.
#
# Small cirrus is kept: it is found over much clear land. What MOD35 or the internal test calls snow is masked, as are
# pixels beside a cloud, of which 500 m leave much under it.
_MODIS = Sensor(
    name="modis",
    product="MODIS surface reflectance, 500 m (MOD09A1, MOD09GA)",
    bands=(
        Band("sur_refl_b03", "blue", 0.469, 500, 0.05, 0.03),
        Band("sur_refl_b04", "green", 0.555, 500, 0.07, 0.03),
        Band("sur_refl_b01", "red", 0.645, 500, 0.07, 0.04),
        Band("sur_refl_b02", "nir08", 0.8585, 500, 0.28, 0.10),
        Band("sur_refl_b05", "", 1.240, 500, 0.28, 0.10),
        Band("sur_refl_b06", "swir16", 1.640, 500, 0.20, 0.08),
        Band("sur_refl_b07", "swir22", 2.130, 500, 0.12, 0.07),
    ),
    scale=1e-4,
    units="surface reflectance, 0..1",
    nodata=-28672,
    mask_name="state",
    quality=(
        QualityClass("clear", 0, 0b11),
        QualityClass("cloudy", 1, 0b11),
        QualityClass("mixed", 2, 0b11),
        QualityClass("not set, assumed clear", 3, 0b11),
        QualityClass("cloud shadow", 1 << 2, 1 << 2),
        QualityClass("small cirrus", 1 << 8, 0b11 << 8),
        QualityClass("average cirrus", 2 << 8, 0b11 << 8),
        QualityClass("high cirrus", 3 << 8, 0b11 << 8),
        QualityClass("cloud, internal test", 1 << 10, 1 << 10),
        QualityClass("snow or ice, MOD35", 1 << 12, 1 << 12),
        QualityClass("beside a cloud", 1 << 13, 1 << 13),
        QualityClass("snow, internal test", 1 << 15, 1 << 15),
    ),
    masked=(1, 2, 4, 6, 7, 8, 9, 10, 11),
    fringed=(1, 4, 8),
)

# Ground range detected backscatter in decibels, 10 log10 of sigma nought or gamma nought. Mean and std are round values
# of vegetated land; cross-polarised HV is VH (reciprocity), and HH is taken as VV. Radar sees through clouds: there is
# no mask but where there are no data.
_SENTINEL_1 = Sensor(
    name="sentinel-1",
    product="Sentinel-1 C-band SAR GRD backscatter",
    bands=(
        Band("VV", "", POLARISATIONS["VV"], 10, -11.0, 4.0),
        Band("VH", "", POLARISATIONS["VH"], 10, -18.0, 5.0),
        Band("HH", "", POLARISATIONS["HH"], 10, -11.0, 4.0),
        Band("HV", "", POLARISATIONS["HV"], 10, -18.0, 5.0),
    ),
    scale=1.0,
    units="backscatter, dB",
)

SENSORS: dict[str, Sensor] = {
    sensor.name: sensor for sensor in (_SENTINEL_2, _LANDSAT_8_9, _MODIS, _SENTINEL_1)
}


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
