"""Sentinel-2: surface reflectance (level 2A) and top-of-atmosphere reflectance (level 1C), from 10 m on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from timo.sensors.product import Band, CloudScore, Collection, QualityClass, Sensor

# Earth Search names its assets as the electro-optical extension names bands, but for the red edge.
_EARTH_SEARCH = {
    "B1": "coastal",
    "B2": "blue",
    "B3": "green",
    "B4": "red",
    "B5": "rededge1",
    "B6": "rededge2",
    "B7": "rededge3",
    "B8": "nir",
    "B8A": "nir08",
    "B9": "nir09",
    "B11": "swir16",
    "B12": "swir22",
}
# What was added to the digital numbers from processing baseline 04.00 (25 January 2022) on: ESA, Sentinel-2 Products
# Specification Document, BOA_ADD_OFFSET.
_OFFSET = 1000


def _harmonised(properties: Mapping[str, Any]) -> float:
    """Return what makes an image's digital numbers those of the baselines before 04.00.

    Earth Engine's harmonised collection has done so already, the Planetary Computer never. Earth Search has for most
    items and says so in a property of its own; what it says in `raster:bands` is -0.1 for both kinds. That property is
    wrong for some items of 2022 to 2025, as users report at github.com/Element84/earth-search, and their reflectances
    come out 0.1 too low; the Collection 1 there, which has no such items, lacks many dates. Elsewhere the
    processing baseline counts.
    """
    if properties.get("earthsearch:boa_offset_applied"):
        return 0.0
    baseline = str(
        properties.get("s2:processing_baseline") or properties.get("processing:version") or "0"
    )
    try:
        return -float(_OFFSET) if float(baseline) >= 4 else 0.0
    except ValueError:
        return 0.0


# Central wavelengths: Sentinel-2A, ESA Sentinel-2 MSI user guide, "Spatial and spectral
# resolutions" (2B and 2C differ by less than 0.02 um). Level-2A has no B10: the cirrus band does
# not see the ground.
#
# Masked: besides no data, saturation, clouds, cirrus and cloud shadow also
#   7 unclassified: in the growing season it is the fringe of clouds, and haze;
#   11 snow: it hides the vegetation, and the tops of bright summer clouds are classed as snow too.
# Kept, although they can be wrong:
#   2 dark area: topographic shadow in autumn and winter, but also burn scars and dark conifers,
#     which a map of change must not lose. In mountains, mask it in a series that spans the winter;
#   6 water: shaded snow is classed as water too, but elsewhere water is what people map.
# Sen2Cor finds too little cloud shadow and too little of the edge of clouds, hence `fringed`.
SENTINEL_2 = Sensor(
    name="sentinel-2",
    product="Sentinel-2 MSI Level-2A surface reflectance",
    bands=(
        Band("B1", "coastal", 0.443, 60),
        Band("B2", "blue", 0.492, 10),
        Band("B3", "green", 0.560, 10),
        Band("B4", "red", 0.665, 10),
        Band("B5", "rededge071", 0.704, 20),
        Band("B6", "rededge075", 0.741, 20),
        Band("B7", "rededge078", 0.783, 20),
        Band("B8", "nir", 0.833, 10),
        Band("B8A", "nir08", 0.865, 20),
        Band("B9", "nir09", 0.945, 60),
        Band("B11", "swir16", 1.614, 20),
        Band("B12", "swir22", 2.202, 20),
    ),
    scale=1e-4,
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
    fringe_m=50,
    # The 60 m bands see the air rather than the ground.
    usual=("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
    collections=(
        Collection(
            "earthengine",
            ("COPERNICUS/S2_SR_HARMONIZED",),
            cloud_cover="CLOUDY_PIXEL_PERCENTAGE",
            # Pasquarella et al. 2023 (CVPR Workshops); the band and the threshold are those of the data catalog's
            # example. It knows nothing of snow.
            cloud_score=CloudScore(
                "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED",
                band="cs_cdf",
                threshold=0.6,
                replaces=(3, 7, 8, 9, 10),
            ),
        ),
        Collection(
            "planetary-computer",
            ("sentinel-2-l2a",),
            names={f"B{i}": f"B{i:02d}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9)},
            cloud_cover="eo:cloud_cover",
            shift=_harmonised,
        ),
        Collection(
            "earth-search",
            ("sentinel-2-l2a",),
            names=_EARTH_SEARCH | {"SCL": "scl"},
            cloud_cover="eo:cloud_cover",
            shift=_harmonised,
        ),
    ),
    attribution="Contains modified Copernicus Sentinel data {years}",
    licence="https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    level="L2A",
    satellites=("sentinel-2",),
    baseline_offset=_OFFSET,
)

# ESA, Sentinel-2 Products Specification Document: QUANTIFICATION_VALUE 10000, RADIO_ADD_OFFSET -1000 from baseline
# 04.00 on. No scene classification comes with it, and so nothing is masked but what holds no data.
SENTINEL_2_L1C = replace(
    SENTINEL_2,
    name="sentinel-2-l1c",
    product="Sentinel-2 MSI Level-1C top-of-atmosphere reflectance",
    bands=(
        *SENTINEL_2.bands[:-2],
        Band("B10", "cirrus", 1.374, 60, 0.003, 0.01),
        *SENTINEL_2.bands[-2:],
    ),
    units="top-of-atmosphere reflectance, 0..1",
    mask_name="",
    quality=(),
    masked=(),
    fringed=(),
    fringe_m=0,
    collections=(),
    level="L1C",
)
