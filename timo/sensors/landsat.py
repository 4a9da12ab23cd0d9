"""Landsat 4 to 9: surface reflectance of Collections 2 and 1, and top-of-atmosphere reflectance of level 1."""

import math
from dataclasses import replace
from typing import Any

from timo.sensors.product import Band, Collection, QualityClass, Sensor

_LICENCE = "https://www.usgs.gov/centers/eros/data-citation"
_CREDIT = "Landsat {years} courtesy of the U.S. Geological Survey"
_NEW, _OLD = ("landsat-8", "landsat-9"), ("landsat-4", "landsat-5", "landsat-7")

# Central wavelengths of OLI: USGS, Landsat 8 Data Users Handbook (OLI-2 of Landsat 9 differs by less than 0.002 um); of
# TM: middles of the bands of the Landsat 4-7 Data Users Handbook (ETM+ differs by less than 0.01 um). The third file of
# the one is green, of the other red.
_OLI = (
    Band("SR_B1", "coastal", 0.443, 30),
    Band("SR_B2", "blue", 0.482, 30),
    Band("SR_B3", "green", 0.561, 30),
    Band("SR_B4", "red", 0.655, 30),
    Band("SR_B5", "nir08", 0.865, 30),
    Band("SR_B6", "swir16", 1.609, 30),
    Band("SR_B7", "swir22", 2.201, 30),
)
_TM = (
    Band("SR_B1", "blue", 0.485, 30),
    Band("SR_B2", "green", 0.560, 30),
    Band("SR_B3", "red", 0.660, 30),
    Band("SR_B4", "nir08", 0.830, 30),
    Band("SR_B5", "swir16", 1.650, 30),
    Band("SR_B7", "swir22", 2.215, 30),
)


def _served(
    bands: tuple[Band, ...], ids: tuple[str, ...], who: tuple[str, ...]
) -> tuple[Collection, ...]:
    names = {band.name: band.common_name for band in bands} | {"QA_PIXEL": "qa_pixel"}
    # The STAC collection holds the Landsats of both families; tier 2 is not registered well enough for series.
    where: dict[str, str | tuple[str, ...]] = {
        "platform": who,
        "landsat:collection_category": "T1",
    }
    catalogs = tuple(
        Collection(
            provider, ("landsat-c2-l2",), names=names, cloud_cover="eo:cloud_cover", where=where
        )
        for provider in ("planetary-computer", "earth-search")
    )
    return (Collection("earthengine", ids, cloud_cover="CLOUD_COVER"), *catalogs)


def _coherent(quality: Any) -> Any:
    """Return whether the bits of QA_PIXEL can stand together: a flag goes with high confidence, and only with it."""
    stated = quality >> 8 != 0
    fits = quality == quality  # noqa: PLR0124 - true everywhere, in any kind of array
    for bit, confidence in ((2, 14), (3, 8), (4, 10), (5, 12)):
        fits &= ((quality >> bit) & 1 == 1) == ((quality >> confidence) & 3 == 3)
    return fits | ~stated | (quality & 1 == 1)


# Scale, offset, fill and the bits of QA_PIXEL: USGS, Landsat 8-9 and Landsat 4-7 Collection 2 Level 2 Science Product
# Guides. The confidence bits (8..15) say of each class how sure CFMask was, and are left out. "Clear" is what it calls
# not cloud: shadow, cirrus and snow can be clear too, so that it serves to keep nothing. TM and ETM+ see no cirrus.
#
# Left out: the thermal band, whose kelvins are no reflectance (another scale, another offset, and missing in scenes of
# which only the reflectance was made); and QA_RADSAT, a second quality layer: what saturates is mostly cloud and snow.
LANDSAT_8_9 = Sensor(
    name="landsat-8-9",
    product="Landsat 8-9 OLI Collection 2 Level-2 surface reflectance",
    bands=_OLI,
    scale=2.75e-5,
    offset=-0.2,
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
    coherent=_coherent,
    collections=_served(_OLI, ("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2"), _NEW),
    attribution=_CREDIT,
    licence=_LICENCE,
    level="L2",
    satellites=_NEW,
)
LANDSAT_4_7 = replace(
    LANDSAT_8_9,
    name="landsat-4-7",
    product="Landsat 4-5 TM and 7 ETM+ Collection 2 Level-2 surface reflectance",
    bands=_TM,
    collections=_served(
        _TM,
        ("LANDSAT/LT04/C02/T1_L2", "LANDSAT/LT05/C02/T1_L2", "LANDSAT/LE07/C02/T1_L2"),
        _OLD,
    ),
    satellites=_OLD,
)

# USGS, Landsat 8 Surface Reflectance Code (LASRC) Product Guide and Landsat 4-7 Surface Reflectance (LEDAPS) Product
# Guide, both of Collection 1: scale 0.0001, fill -9999, saturated 20000. Of the confidences of pixel_qa the high one of
# cirrus (OLI alone) is a class of its own here, as there is no bit of cirrus.
LANDSAT_8_9_C1 = replace(
    LANDSAT_8_9,
    name="landsat-8-9-c1",
    product="Landsat 8 OLI Collection 1 surface reflectance (LaSRC)",
    scale=1e-4,
    offset=0.0,
    nodata=-9999,
    mask_name="pixel_qa",
    coherent=None,
    quality=(
        QualityClass("fill", 1 << 0, 1 << 0),
        QualityClass("clear", 1 << 1, 1 << 1),
        QualityClass("water", 1 << 2, 1 << 2),
        QualityClass("cloud shadow", 1 << 3, 1 << 3),
        QualityClass("snow", 1 << 4, 1 << 4),
        QualityClass("cloud", 1 << 5, 1 << 5),
        QualityClass("cirrus, high confidence", 3 << 8, 3 << 8),
        QualityClass("terrain occlusion", 1 << 10, 1 << 10),
    ),
    masked=(0, 3, 4, 5, 6),
    fringed=(3, 5),
    collections=(),
    level="SR",
)
LANDSAT_4_7_C1 = replace(
    LANDSAT_8_9_C1,
    name="landsat-4-7-c1",
    product="Landsat 4-5 TM and 7 ETM+ Collection 1 surface reflectance (LEDAPS)",
    bands=_TM,
    satellites=_OLD,
)

# Level 1 of OLI: reflectance factors of the MTL file, the same for all scenes and both collections (USGS, Landsat 8
# Data Users Handbook, section 5); not divided by the sine of the sun's elevation. TM and ETM+: the factors differ from
# scene to scene and from band to band. QA_PIXEL is that of Collection 2; the BQA of Collection 1 has other bits, and is
# not read.
_L1 = "Level-1 top-of-atmosphere reflectance, without correction of the sun's elevation"
LANDSAT_8_9_L1 = replace(
    LANDSAT_8_9,
    name="landsat-8-9-l1",
    product=f"Landsat 8-9 OLI {_L1}",
    bands=tuple(replace(band, name=band.name.removeprefix("SR_")) for band in _OLI),
    scale=2e-5,
    offset=-0.1,
    units="top-of-atmosphere reflectance, 0..1",
    collections=(),
    level="L1",
)
LANDSAT_4_7_L1 = replace(
    LANDSAT_8_9_L1,
    name="landsat-4-7-l1",
    product=f"Landsat 4-5 TM and 7 ETM+ {_L1}; scale= and offset= are the REFLECTANCE_MULT_BAND and "
    "REFLECTANCE_ADD_BAND of the scene's MTL file",
    bands=tuple(replace(band, name=band.name.removeprefix("SR_")) for band in _TM),
    scale=math.nan,
    offset=0.0,
    satellites=_OLD,
)

LANDSAT = (LANDSAT_8_9, LANDSAT_4_7, LANDSAT_8_9_C1, LANDSAT_4_7_C1, LANDSAT_8_9_L1, LANDSAT_4_7_L1)
