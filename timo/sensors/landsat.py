"""Landsat 8 and 9: surface reflectance at 30 m, every eight days."""

from timo.sensors.product import Band, Collection, QualityClass, Sensor

_ASSETS = {
    "SR_B1": "coastal",
    "SR_B2": "blue",
    "SR_B3": "green",
    "SR_B4": "red",
    "SR_B5": "nir08",
    "SR_B6": "swir16",
    "SR_B7": "swir22",
    "QA_PIXEL": "qa_pixel",
}
# The collection holds the older Landsats too, whose bands differ; and tier 2 is not registered well enough for series.
_OLI: dict[str, str | tuple[str, ...]] = {
    "platform": ("landsat-8", "landsat-9"),
    "landsat:collection_category": "T1",
}

# Central wavelengths of OLI: USGS, Landsat 8 Data Users Handbook (OLI-2 of Landsat 9 differs by less than 0.002 um).
# Scale, offset, fill and the bits of QA_PIXEL: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide. The
# confidence bits (8..15) say of each class how sure CFMask was, and are left out. "Clear" is what it calls not cloud:
# shadow, cirrus and snow can be clear too, so that it serves to keep nothing.
#
# Left out: the thermal band, whose kelvins are no reflectance (another scale, another offset, and missing in scenes of
# which only the reflectance was made); and QA_RADSAT, a second quality layer: what saturates is mostly cloud and snow,
# which QA_PIXEL tells already.
#
# Mean and std are those of the Sentinel-2 bands beside them: what one set of weights reads from two instruments is
# normalised alike, so that the same ground gives the same input.
LANDSAT_8_9 = Sensor(
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
    collections=(
        Collection(
            "earthengine",
            ("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2"),
            cloud_cover="CLOUD_COVER",
        ),
        Collection(
            "planetary-computer",
            ("landsat-c2-l2",),
            names=_ASSETS,
            cloud_cover="eo:cloud_cover",
            where=_OLI,
        ),
        Collection(
            "earth-search",
            ("landsat-c2-l2",),
            names=_ASSETS,
            cloud_cover="eo:cloud_cover",
            where=_OLI,
        ),
    ),
    attribution="Landsat {years} courtesy of the U.S. Geological Survey",
    licence="https://www.usgs.gov/centers/eros/data-citation",
    level="L2",
    satellites=("landsat-8", "landsat-9"),
)
