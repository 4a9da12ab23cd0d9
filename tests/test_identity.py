"""Whose image a file is: names as producers write them, and what must not be guessed."""

import pytest

from timo.sensors import SENSORS, get_sensor, identify

L1C = "S2A_MSIL1C_20220301T092031_N0400_R093_T34TFR_20220301T120000.SAFE/GRANULE/L1C_T34TFR_A034/IMG_DATA/"
L2A = "S2A_MSIL2A_20220301T092031_N0400_R093_T34TFR_20220301T120000.SAFE/GRANULE/L2A_T34TFR_A034/IMG_DATA/R10m/"
SCENE = "184029_20180701_20200831"
GRD = "S1A_IW_GRDH_1SDV_20180701T050000_20180701T050025_022600_0272D5"

# Name, or last folders and name -> sensor, satellite, level.
NAMES = {
    L2A + "T34TFR_20220301T092031_B04_10m.jp2": ("sentinel-2", "sentinel-2", "L2A"),
    L1C + "T34TFR_20220301T092031_B04.jp2": ("sentinel-2-l1c", "sentinel-2", "L1C"),
    "T34TFR_20220301T092031_B04_10m.jp2": ("sentinel-2", "sentinel-2", "L2A"),
    "T34TFR_20220301T092031_SCL_20m.jp2": ("sentinel-2", "sentinel-2", "L2A"),
    "S2A_MSIL2A_20220301T092031_N0400_R093_T34TFR_20220301T120000.tif": (
        "sentinel-2",
        "sentinel-2",
        "L2A",
    ),
    "S2A_34TFR_20220301_0_L2A/B04.tif": ("sentinel-2", "sentinel-2", "L2A"),
    "S2_L2A_10m.nc": ("sentinel-2", "sentinel-2", "L2A"),
    "SENTINEL2A_20180701-093031-461_L2A_T31TCJ_C_V1-0_FRE_B4.tif": (
        "sentinel-2",
        "sentinel-2",
        "L2A",
    ),
    # The level is not said: images of level 1C are named like this, and so are exports.
    "T34TFR_20220301T092031_B04.jp2": (None, "sentinel-2", ""),
    "20180701T092031_20180701T092518_T34TFR.tif": (None, "sentinel-2", ""),
    "S2A_20180701.tif": (None, "sentinel-2", ""),
    f"LC08_L1TP_{SCENE}_02_T1_B4.TIF": ("landsat-8-9-l1", "landsat-8", "L1TP"),
    f"LC09_L1GT_{SCENE}_02_T2_B4.TIF": ("landsat-8-9-l1", "landsat-9", "L1GT"),
    f"LO08_L1TP_{SCENE}_01_T1_B3.TIF": ("landsat-8-9-l1", "landsat-8", "L1TP"),
    f"LC08_L2SP_{SCENE}_02_T1_SR_B4.TIF": ("landsat-8-9", "landsat-8", "L2SP"),
    f"LC08_L2SR_{SCENE}_02_T1_QA_PIXEL.TIF": ("landsat-8-9", "landsat-8", "L2SR"),
    f"LE07_L2SP_{SCENE}_02_T1_SR_B3.TIF": ("landsat-4-7", "landsat-7", "L2SP"),
    f"LT05_L2SP_{SCENE}_02_T1_SR_B3.TIF": ("landsat-4-7", "landsat-5", "L2SP"),
    f"LT04_L1TP_{SCENE}_02_T1_B3.TIF": ("landsat-4-7-l1", "landsat-4", "L1TP"),
    f"LC08_L1TP_{SCENE}_01_T1_sr_band4.tif": ("landsat-8-9-c1", "landsat-8", "SR"),
    f"LE07_L1TP_{SCENE}_01_T1_sr_band3.tif": ("landsat-4-7-c1", "landsat-7", "SR"),
    f"LC08_L1TP_{SCENE}_01_T1_pixel_qa.tif": ("landsat-8-9-c1", "landsat-8", "SR"),
    f"LC08_L1TP_{SCENE}_01_T1_BQA.TIF": ("landsat-8-9-l1", "landsat-8", "L1TP"),
    f"LC08_L1TP_{SCENE}_01_T1_toa_band4.tif": (None, "landsat-8", "TOA"),
    f"LM05_L1TP_{SCENE}_02_T1_B3.TIF": (None, "landsat-5", "L1TP"),
    f"LT08_L1TP_{SCENE}_02_T1_B10.TIF": (None, "landsat-8", "L1TP"),
    "LC08_CU_003008_20210101_20210503_02_SR_B4.TIF": ("landsat-8-9", "landsat-8", "L2SR"),
    "LC08_CU_005009_20130707_20181130_C01_V01_SRB4.tif": (
        "landsat-8-9-c1",
        "landsat-8",
        "L2SR",
    ),
    "LC81840292018182LGN00_B4.TIF": ("landsat-8-9-l1", "landsat-8", "L1"),
    "LC81840292018182LGN00_sr_band4.tif": ("landsat-8-9-c1", "landsat-8", "SR"),
    "LE71840292000123EDC00/B3.tif": ("landsat-4-7-l1", "landsat-7", "L1"),
    "S2_TOA_20180701.tif": (None, "", "TOA"),
    "S2A_TOA_20180701.tif": ("sentinel-2-l1c", "sentinel-2", "L1C"),
    "L1C/S2_20180701.tif": ("sentinel-2-l1c", "sentinel-2", "L1C"),
    "Sentinel2_L1C_20180701.tif": ("sentinel-2-l1c", "sentinel-2", "L1C"),
    "Sentinel-2 Level-2A/20180701.tif": ("sentinel-2", "sentinel-2", "L2A"),
    "TOA/LC08_184029_20180701.tif": ("landsat-8-9-l1", "landsat-8", "L1"),
    "L7_20100502_SR_B4.tif": (None, "landsat-7", ""),
    "ETM_20100502_SR_B4.tif": (None, "landsat-7", ""),
    "LC08_184029_20180701.tif": (None, "landsat-8", ""),
    "L8_SR_10m.nc": (None, "landsat-8", ""),
    "HLS.S30.T34TFR.2018182.v1.4.tif": ("hls-s30", "sentinel-2", "HLS"),
    "HLS.L30.T34TFR.2018182T092031.v2.0.B04.tif": ("hls-l30", "landsat-8-9", "HLS"),
    "HLS-VI.L30.T34TFR.2018182T092031.v2.0.NDVI.tif": (None, "landsat-8-9", "HLS-VI"),
    "20180701_LEVEL2_SEN2A_BOA.tif": ("force", "sentinel-2", "ARD"),
    "X0055_Y0053/20180701_LEVEL2_LND07_QAI.tif": ("force", "landsat-7", "ARD"),
    "20180701_LEVEL2_LND08_TOA.tif": (None, "landsat-8", "TOA"),
    "2018-2020_001-365_HL_TSA_SEN2L_NDV_TSS.tif": ("force", "sentinel-2", "HL TSA"),
    "MOD09A1.061_sur_refl_b01_doy2018185_aid0001.tif": ("modis", "terra", "L2G"),
    "MYD09GA.A2018185.h19v04.061.tif": ("modis", "aqua", "L2G"),
    "MOD13Q1.061__250m_16_days_NDVI_doy2018193_aid0001.tif": ("modis-vegetation", "terra", "L3"),
    "MCD43A4.A2018185.tif": (None, "terra", "MCD43A4"),
    "20200701_101010_1003_3B_AnalyticMS_SR.tif": ("planetscope-4", "planetscope", "3B"),
    "20200701_101010_03_2403_3B_AnalyticMS_SR_8b_clip.tif": (
        "planetscope-8",
        "planetscope",
        "3B",
    ),
    "20200701_101010_1003_3B_AnalyticMS.tif": (None, "planetscope", "3B"),
    "20200701_101010_1003_3B_udm2.tif": (None, "planetscope", ""),
    GRD + "_1234.tif": ("sentinel-1", "sentinel-1", "GRD"),
    GRD + "_rtc/iw-vv.rtc.tiff": ("sentinel-1", "sentinel-1", "RTC"),
    "s1a-iw-grd-vv-20180701t050000-20180701t050025-022600-0272d5-001.tiff": (
        "sentinel-1",
        "sentinel-1",
        "GRD",
    ),
    "S1A_IW_20180701T050000_DVP_RTC20_G_gpuned_1234_VV.tif": ("sentinel-1", "sentinel-1", "RTC"),
    GRD.replace("GRDH", "SLC_") + "_1234.tif": (None, "sentinel-1", "SLC"),
}
SILENT = (
    "S2_20180701.tif",
    "field_T34_2018.tif",
    "20200701_NDVI.tif",
    "landsat_20180701.tif",
    "L4_plot.tif",
    "plot_S1_3.tif",
    "mod09.txt",
    "a/b/c.tif",
    "",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_say_satellite_product_and_level(name):
    found = identify(name)
    assert found is not None
    assert (found.sensor, found.satellite, found.level) == NAMES[name]
    assert found.product
    if found.sensor is not None:
        assert found.satellite in SENSORS[found.sensor].satellites


@pytest.mark.parametrize("name", SILENT)
def test_names_that_say_nothing_are_not_guessed(name):
    assert identify(name) is None


TAGS = [
    ({"SPACECRAFT_NAME": "Sentinel-2A", "PROCESSING_LEVEL": "Level-2A"}, "sentinel-2", "L2A"),
    ({"PRODUCT_TYPE": "S2MSI1C"}, "sentinel-2-l1c", "L1C"),
    ({"PROCESSING_LEVEL": "Level-1C"}, "sentinel-2-l1c", "L1C"),
    ({"title": "Sentinel-2 L1C top of atmosphere"}, "sentinel-2-l1c", "L1C"),
    ({"title": "Reflectance at the top of the atmosphere"}, None, "TOA"),
    ({"system:index": "LE07_184029_20180701"}, None, ""),
    ({"title": "S2A_MSIL2A_20220301T092031_N0400_R093"}, "sentinel-2", "L2A"),
    ({"platform": "S2A"}, None, ""),
    (
        {"SPACECRAFT_ID": "LANDSAT_8", "PROCESSING_LEVEL": "L1TP", "COLLECTION_NUMBER": "02"},
        "landsat-8-9-l1",
        "L1TP",
    ),
    ({"LANDSAT_PRODUCT_ID": f"LE07_L2SP_{SCENE}_02_T1"}, "landsat-4-7", "L2SP"),
    ({"SATELLITE": "LANDSAT_7"}, None, ""),
    # HLS files name the level-1 scenes that they were made of.
    (
        {"HLS_PROCESSING_TIME": "-", "LANDSAT_PRODUCT_ID": f"LC08_L1TP_{SCENE}_01_T1"},
        "hls-l30",
        "HLS",
    ),
    ({"HLS_PROCESSING_TIME": "-", "PRODUCT_URI": "S2A_MSIL1C_20220301"}, "hls-s30", "HLS"),
    ({"platform": "sentinel-1a", "PRODUCT_TYPE": "GRD"}, "sentinel-1", "GRD"),
    ({"TIMO_SENSOR": "modis"}, "modis", "L3"),
]


@pytest.mark.parametrize(("tags", "sensor", "level"), TAGS)
def test_tags_say_what_names_do_not(tags, sensor, level):
    found = identify("scene.tif", tags)
    assert (found.sensor, found.level) == (sensor, level)


def test_tags_of_other_things_say_nothing():
    assert identify("scene.tif", {"AREA_OR_POINT": "Area", "TIFFTAG_SOFTWARE": "GDAL"}) is None


def test_a_name_without_a_level_is_settled_by_tags_of_the_same_satellite():
    name = "T34TFR_20220301T092031_B04.tif"
    assert identify(name, {"PROCESSING_LEVEL": "Level-1C", "MISSION": "S2A"}).level == "L1C"
    assert identify(name, {"SPACECRAFT_ID": "LANDSAT_8", "PROCESSING_LEVEL": "L1TP"}).level == ""


def test_landsat_7_and_8_differ_in_their_sensor():
    found = [identify(f"{who}_L2SP_{SCENE}_02_T1_SR_B3.TIF").sensor for who in ("LC08", "LE07")]
    assert [get_sensor(name).band("SR_B3").common_name for name in found] == ["green", "red"]


def test_radar_says_power_or_decibels_where_it_does():
    name = "S1A_IW_20180701T050000_DVP_RTC20_G_g{}uned_1234_VV.tif"
    assert [identify(name.format(unit)).linear for unit in "pd"] == [True, False]
    assert identify(GRD + "_1234.tif").linear is None
    products = {identify(GRD + end).product for end in ("_1234.tif", "_rtc/iw-vv.rtc.tiff")}
    assert len(products) == 2


def test_a_sensor_that_a_user_names_must_fit_the_name():
    level_1 = identify(f"LC08_L1TP_{SCENE}_02_T1_B4.TIF")
    assert not level_1.fits(get_sensor("landsat-8-9"))
    assert level_1.fits(get_sensor("landsat-8-9-l1"))
    unsaid = identify("LC08_184029_20180701.tif")
    assert unsaid.fits(get_sensor("landsat-8-9"))
    assert unsaid.fits(get_sensor("landsat-8-9-c1"))
    assert not unsaid.fits(get_sensor("landsat-4-7"))
    assert not identify("LM05_L1TP_184029_19870701_20200831_02_T1_B3.TIF").fits(
        get_sensor("landsat-4-7-l1")
    )


def test_a_cube_of_an_unknown_sensor_says_how_to_make_it_known():
    found = identify("a.tif", {"TIMO_SENSOR": "formosat-9"})
    assert found.sensor is None
    assert "read_sensor" in found.product


def test_level_1_is_believed_where_name_and_tags_of_sentinel_2_differ():
    name = "S2A_MSIL2A_20180701T092031_N0208_R093_T34TFR_20180701T120000.tif"
    found = identify(name, {"PRODUCT_TYPE": "S2MSI1C"})
    assert found.sensor == "sentinel-2-l1c"
    assert "Level-1C" in found.product
    assert "Level-2A" in found.product
    assert not found.fits(get_sensor("sentinel-2"))
    assert found.fits(get_sensor("sentinel-2-l1c"))
    assert identify(name, {"PRODUCT_TYPE": "S2MSI2A"}).sensor == "sentinel-2"
    # What was harmonised names the level-1 scenes that it was made of.
    assert identify("HLS.S30.T34TFR.tif", {"PRODUCT_TYPE": "S2MSI1C"}).sensor == "hls-s30"


def test_top_of_atmosphere_alone_fits_no_surface_reflectance():
    found = identify("TOA_20180701.tif")
    assert not found.fits(get_sensor("sentinel-2"))
    assert not found.fits(get_sensor("landsat-8-9"))
    assert found.fits(get_sensor("sentinel-2-l1c"))
