"""Products made ready for analysis from several satellites, or sold so: HLS, FORCE, PlanetScope."""

import math
from dataclasses import replace

from timo.sensors.product import Band, QualityClass, Sensor

# Bands, scale, fill and the bits of Fmask (QA in v1.4, with the same bits): HLS User Guide v2.0 (Masek et al.). Bands
# are named by those of Landsat 8 and of Sentinel-2: B5 of the one is near infrared, of the other red edge. Cirrus is
# set by v1.4 alone; the levels of aerosol (bits 6 and 7) mask nothing. All bits are set where there are no data.
_FMASK = (
    QualityClass("cirrus", 1 << 0, 1 << 0),
    QualityClass("cloud", 1 << 1, 1 << 1),
    QualityClass("beside a cloud or shadow", 1 << 2, 1 << 2),
    QualityClass("cloud shadow", 1 << 3, 1 << 3),
    QualityClass("snow or ice", 1 << 4, 1 << 4),
    QualityClass("water", 1 << 5, 1 << 5),
)


def _hls(kind: str, origin: str, bands: tuple[Band, ...], satellites: tuple[str, ...]) -> Sensor:
    return Sensor(
        name=f"hls-{kind.lower()}",
        product=f"HLS {kind} surface reflectance, harmonised from {origin}, 30 m",
        bands=bands,
        scale=1e-4,
        nodata=-9999,
        mask_name="Fmask",
        quality=_FMASK,
        masked=(0, 1, 2, 3, 4),
        fringed=(0, 1, 3),
        attribution="HLS {years}, NASA LP DAAC",
        licence="https://lpdaac.usgs.gov/data/data-citation-and-policies/",
        level="HLS",
        satellites=satellites,
    )


HLS_L30 = _hls(
    "L30",
    "Landsat 8-9 OLI",
    (
        Band("B1", "coastal", 0.443, 30),
        Band("B2", "blue", 0.482, 30),
        Band("B3", "green", 0.561, 30),
        Band("B4", "red", 0.655, 30),
        Band("B5", "nir08", 0.865, 30),
        Band("B6", "swir16", 1.609, 30),
        Band("B7", "swir22", 2.201, 30),
    ),
    ("landsat-8-9", "landsat-8", "landsat-9"),
)
HLS_S30 = _hls(
    "S30",
    "Sentinel-2 MSI",
    (
        Band("B1", "coastal", 0.443, 30),
        Band("B2", "blue", 0.492, 30),
        Band("B3", "green", 0.560, 30),
        Band("B4", "red", 0.665, 30),
        Band("B5", "rededge071", 0.704, 30),
        Band("B6", "rededge075", 0.741, 30),
        Band("B7", "rededge078", 0.783, 30),
        Band("B8", "nir", 0.833, 30),
        Band("B8A", "nir08", 0.865, 30),
        Band("B9", "nir09", 0.945, 30),
        Band("B11", "swir16", 1.614, 30),
        Band("B12", "swir22", 2.202, 30),
    ),
    ("sentinel-2",),
)


def _index(name: str, mean: float, std: float) -> Band:
    return Band(name, "", math.nan, 10, mean, std, kind="index")


# FORCE documentation (Frantz), "Level 2 Processing System: output format" and "Time series analysis: output format":
# scale 10000 and nodata -9999 for reflectance and for indices; bits of QAI. Masked is what FORCE itself screens by
# default (SCREEN_QAI). Landsat images lack the red edge and the broad near infrared. Wavelengths lie between
# those of Sentinel-2 and of Landsat.
FORCE = Sensor(
    name="force",
    product="FORCE Level-2 ARD surface reflectance and time series of indices (Landsat 4-9, Sentinel-2)",
    bands=(
        Band("BLUE", "blue", 0.490, 10, aliases=("BLU",)),
        Band("GREEN", "green", 0.560, 10, aliases=("GRN",)),
        Band("RED", "red", 0.660, 10),
        Band("REDEDGE1", "rededge071", 0.704, 10, aliases=("RE1",)),
        Band("REDEDGE2", "rededge075", 0.741, 10, aliases=("RE2",)),
        Band("REDEDGE3", "rededge078", 0.783, 10, aliases=("RE3",)),
        Band("BROADNIR", "nir", 0.833, 10, aliases=("BNR",)),
        Band("NIR", "nir08", 0.865, 10, aliases=("NEARINFRARED",)),
        Band("SWIR1", "swir16", 1.612, 10, aliases=("SW1",)),
        Band("SWIR2", "swir22", 2.202, 10, aliases=("SW2",)),
        _index("NDV", 0.60, 0.20),
        _index("EVI", 0.35, 0.15),
        _index("NBR", 0.45, 0.20),
        _index("SAV", 0.40, 0.15),
        _index("ARV", 0.50, 0.20),
        _index("NDB", -0.20, 0.20),
        _index("NDW", -0.50, 0.20),
        _index("MNW", -0.40, 0.20),
        _index("NDM", 0.20, 0.20),
        _index("NDS", -0.30, 0.20),
    ),
    scale=1e-4,
    nodata=-9999,
    mask_name="QAI",
    quality=(
        QualityClass("no data", 1 << 0, 1 << 0),
        QualityClass("buffered cloud", 1 << 1, 0b11 << 1),
        QualityClass("opaque cloud", 2 << 1, 0b11 << 1),
        QualityClass("cirrus", 3 << 1, 0b11 << 1),
        QualityClass("cloud shadow", 1 << 3, 1 << 3),
        QualityClass("snow", 1 << 4, 1 << 4),
        QualityClass("water", 1 << 5, 1 << 5),
        QualityClass("below zero", 1 << 8, 1 << 8),
        QualityClass("saturated", 1 << 9, 1 << 9),
    ),
    masked=(0, 1, 2, 3, 4, 5, 7, 8),
    fringed=(2, 3, 4),
    usual=(
        *("BLUE", "GREEN", "RED", "REDEDGE1", "REDEDGE2", "REDEDGE3"),
        *("BROADNIR", "NIR", "SWIR1", "SWIR2"),
    ),
    attribution="Landsat and modified Copernicus Sentinel data {years}, processed with FORCE",
    licence="https://force-eo.readthedocs.io/",
    level="ARD",
    satellites=(*(f"landsat-{i}" for i in (4, 5, 7, 8, 9)), "landsat", "sentinel-2"),
)

# Planet, PlanetScope Product Specifications: surface reflectance x 10000 in 16 bits, 0 = no data; bands in the order of
# the files. Four bands: Dove (PS2); those of SuperDove as four bands differ by less than 0.04 um. The first layer of
# the usable data mask (UDM2) says what is clear: no cloud, haze, shadow or snow.
PLANETSCOPE_4 = Sensor(
    name="planetscope-4",
    product="PlanetScope surface reflectance, 4 bands (AnalyticMS_SR)",
    bands=(
        Band("blue", "blue", 0.485, 3),
        Band("green", "green", 0.545, 3),
        Band("red", "red", 0.630, 3),
        Band("nir", "nir", 0.820, 3),
    ),
    scale=1e-4,
    nodata=0,
    mask_name="clear",
    quality=(QualityClass("not clear", 0), QualityClass("clear", 1)),
    masked=(0,),
    attribution="Image © {years} Planet Labs PBC",
    licence="https://www.planet.com/terms-of-use/",
    level="3A, 3B",
    satellites=("planetscope",),
)
PLANETSCOPE_8 = replace(
    PLANETSCOPE_4,
    name="planetscope-8",
    product="PlanetScope surface reflectance, 8 bands (AnalyticMS_SR_8b)",
    bands=(
        Band("coastal_blue", "coastal", 0.443, 3),
        Band("blue", "blue", 0.490, 3),
        Band("green_i", "green05", 0.531, 3),
        Band("green", "green", 0.565, 3),
        Band("yellow", "yellow", 0.610, 3),
        Band("red", "red", 0.665, 3),
        Band("rededge", "rededge071", 0.705, 3),
        Band("nir", "nir08", 0.865, 3),
    ),
)

READY = (HLS_L30, HLS_S30, FORCE, PLANETSCOPE_4, PLANETSCOPE_8)
