"""MODIS on Terra: 500 m reflectance of eight days, 250 m vegetation indices of sixteen."""

import math

from timo.sensors.product import Band, Collection, QualityClass, Sensor

_LICENCE = "https://lpdaac.usgs.gov/data/data-citation-and-policies/"

# Wavelengths: centres of the MODIS bands 1-7 (NASA, MODIS specifications). Scale, fill and the bits of the state layer:
# MOD09 User's Guide, Collection 6.1 (Vermote et al.); the states of MOD09A1 (500 m) and MOD09GA (1 km) agree on these.
# The STAC extension has no name for a band at 1.24 um.
#
# Small cirrus is kept: it is found over much clear land. What MOD35 or the internal test calls snow is masked, as are
# pixels beside a cloud, of which 500 m leave much under it.
MODIS = Sensor(
    name="modis",
    product="MODIS surface reflectance, 500 m (MOD09A1, MOD09GA)",
    bands=(
        Band("sur_refl_b03", "blue", 0.469, 500),
        Band("sur_refl_b04", "green", 0.555, 500),
        Band("sur_refl_b01", "red", 0.645, 500),
        Band("sur_refl_b02", "nir08", 0.8585, 500),
        Band("sur_refl_b05", "", 1.240, 500, 0.28, 0.10),
        Band("sur_refl_b06", "swir16", 1.640, 500),
        Band("sur_refl_b07", "swir22", 2.130, 500),
    ),
    scale=1e-4,
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
    period_days=8,
    collections=(
        Collection("earthengine", ("MODIS/061/MOD09A1",), names={"state": "StateQA"}),
        Collection(
            "planetary-computer",
            ("modis-09A1-061",),
            names={"state": "sur_refl_state_500m"},
            where={"platform": "terra"},
        ),
    ),
    attribution="MOD09A1 v061 {years}, NASA EOSDIS Land Processes DAAC, doi:10.5067/MODIS/MOD09A1.061",
    licence=_LICENCE,
    level="L3",
    satellites=("terra", "aqua"),
)

# Scale, fill and reliability: MOD13 User's Guide, Collection 6.1 (Didan and Munoz). The reliability of a pixel that was
# not processed is -1, which is no class here: its bands hold their own fill. An index has no wavelength: models read
# these with their plain stem.
MODIS_VEGETATION = Sensor(
    name="modis-vegetation",
    product="MODIS vegetation indices, 16 days, 250 m (MOD13Q1)",
    bands=(
        Band("sur_refl_b03", "blue", 0.469, 250, nodata=-1000),
        Band("sur_refl_b01", "red", 0.645, 250, nodata=-1000),
        Band("sur_refl_b02", "nir08", 0.8585, 250, nodata=-1000),
        Band("sur_refl_b07", "swir22", 2.130, 250, nodata=-1000),
        Band("NDVI", "", math.nan, 250, 0.60, 0.20, kind="index"),
        Band("EVI", "", math.nan, 250, 0.35, 0.15, kind="index"),
    ),
    scale=1e-4,
    units="vegetation index, -1..1; surface reflectance, 0..1",
    nodata=-3000,
    mask_name="reliability",
    quality=(
        QualityClass("good", 0),
        QualityClass("marginal", 1),
        QualityClass("snow or ice", 2),
        QualityClass("cloudy", 3),
    ),
    masked=(2, 3),
    period_days=16,
    usual=("NDVI", "EVI"),
    collections=(
        Collection("earthengine", ("MODIS/061/MOD13Q1",), names={"reliability": "SummaryQA"}),
        Collection(
            "planetary-computer",
            ("modis-13Q1-061",),
            names={
                "sur_refl_b03": "250m_16_days_blue_reflectance",
                "sur_refl_b01": "250m_16_days_red_reflectance",
                "sur_refl_b02": "250m_16_days_NIR_reflectance",
                "sur_refl_b07": "250m_16_days_MIR_reflectance",
                "NDVI": "250m_16_days_NDVI",
                "EVI": "250m_16_days_EVI",
                "reliability": "250m_16_days_pixel_reliability",
            },
            where={"platform": "terra"},
        ),
    ),
    attribution="MOD13Q1 v061 {years}, NASA EOSDIS Land Processes DAAC, doi:10.5067/MODIS/MOD13Q1.061",
    licence=_LICENCE,
    level="L3",
    satellites=("terra", "aqua"),
)
