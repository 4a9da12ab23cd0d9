from pathlib import Path

import pytest

from timo.errors import TimoError
from timo.sensors import SENSORS, get_sensor
from timo.sources.files.inventory import identities_of
from timo.sources.files.naming import find_band, is_beside, match_band, read_bands
from timo.sources.files.whose import choose_sensor

S2 = get_sensor("sentinel-2")
LANDSAT = get_sensor("landsat-8-9")


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_every_band_is_known_by_all_its_names(sensor):
    for band in sensor.bands:
        names = {band.name, band.name.lower(), band.name.upper(), *band.aliases}
        if band.common_name.lower() not in {other.lower() for other in sensor.band_names}:
            names |= {band.common_name or band.name}
        names |= {collection.name(band.name) for collection in sensor.collections}
        for name in names:
            assert match_band(name, sensor) == band.name, name
            assert find_band(f"tile_20180701_{name}", sensor) == band.name, name
    if sensor.mask_name:
        for collection in sensor.collections:
            assert match_band(collection.name(sensor.mask_name), sensor) == sensor.mask_name


@pytest.mark.parametrize(
    ("name", "sensor", "expected"),
    [
        ("B04", S2, "B4"),
        ("b8a", S2, "B8A"),
        ("band_4", S2, "B4"),
        ("Band4", S2, "B4"),
        ("nir", S2, "B8"),
        ("swir1", S2, "B11"),
        ("scl", S2, "SCL"),
        ("red_edge_1", S2, "B5"),
        ("red edge", S2, None),
        ("sr_b4", LANDSAT, "SR_B4"),
        ("B4", LANDSAT, "SR_B4"),
        ("nir", LANDSAT, "SR_B5"),
        ("qa_pixel", LANDSAT, "QA_PIXEL"),
        ("b01", get_sensor("modis"), "sur_refl_b01"),
        ("StateQA", get_sensor("modis"), "state"),
        ("sur_refl_state_500m", get_sensor("modis"), "state"),
        ("ndvi", get_sensor("modis-vegetation"), "NDVI"),
        ("vv", get_sensor("sentinel-1"), "VV"),
        ("thermal", S2, None),
    ],
)
def test_spellings_of_bands(name, sensor, expected):
    assert match_band(name, sensor) == expected
    assert find_band(f"20180701_{name}", sensor) == expected


@pytest.mark.parametrize(
    ("name", "sensor", "expected"),
    [
        ("T34TFR_20180701T092031_B04_10m", S2, "B4"),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_SR_B4", LANDSAT, "SR_B4"),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_QA_PIXEL", LANDSAT, "QA_PIXEL"),
        (
            "MOD13Q1.061__250m_16_days_NDVI_doy2018177_aid0001",
            get_sensor("modis-vegetation"),
            "NDVI",
        ),
        (
            "MOD13Q1.061__250m_16_days_pixel_reliability_doy2018177_aid0001",
            get_sensor("modis-vegetation"),
            "reliability",
        ),
        ("MOD09A1.061_sur_refl_b01_doy2018185_aid0001", get_sensor("modis"), "sur_refl_b01"),
        ("20180701_red_B04", S2, "B4"),
        ("forest_20180701", S2, None),
    ],
)
def test_bands_in_names_of_files(name, sensor, expected):
    assert find_band(name, sensor) == expected


def test_a_name_with_two_bands_is_not_guessed():
    with pytest.raises(TimoError, match=r"'B04_B08' could be the band B4 or B8"):
        find_band("B04_B08", S2)


def test_bands_asked_for_are_spelt_as_the_sensor_does():
    assert read_bands(["red", "b8a", "B11"], S2) == ("B4", "B8A", "B11")
    with pytest.raises(TimoError, match=r"sentinel-2 has no band 'purple'"):
        read_bands(["purple"], S2)
    with pytest.raises(TimoError, match="each once"):
        read_bands(["red", "B04"], S2)


@pytest.mark.parametrize(
    "name",
    ["T34TFR_20180701T092031_TCI_10m", "LC08_L2SP_184029_20190714_02_T1_ST_TRAD", "MSK_CLDPRB_20m"],
)
def test_layers_that_no_cube_holds(name):
    assert is_beside(name)
    assert not is_beside("20180701_B04")


def guess(paths, layers):
    identities = identities_of({Path(path): {} for path in paths})
    return choose_sensor(None, identities, layers)


@pytest.mark.parametrize(
    ("paths", "layers", "expected"),
    [
        (["S2B_34TFR_20180701_0_L2A/B04.tif"], ["B04"], "sentinel-2"),
        (["T34TFR_20180701T092031_B04_10m.jp2"], ["x"], "sentinel-2"),
        (["LC09_L2SP_184029_20220714_20220827_02_T1_SR_B4.TIF"], ["x"], "landsat-8-9"),
        (["MOD13Q1.A2018177.tif"], ["x"], "modis-vegetation"),
        (["MOD09A1.A2018177.tif"], ["x"], "modis"),
        (["s1a-iw-grd-vv-20180701t043012.tiff"], ["x"], "sentinel-1"),
        (["a.tif"], ["B2", "B8A", "SCL"], "sentinel-2"),
        (["a.tif"], ["B02", "B03", "B04"], "sentinel-2"),
        (["a.tif"], ["SR_B4", "SR_B6", "QA_PIXEL"], "landsat-8-9"),
        (["HLS.L30.T34TFR.2018182T092031.v2.0.B04.tif"], ["B04"], "hls-l30"),
        (["T34TFR_20180701T092031_B04.tif"], ["B04", "SCL"], "sentinel-2"),
        (["LE07_L2SP_184029_20180709_20200831_02_T1_SR_B4.TIF"], ["SR_B4"], "landsat-4-7"),
        (["a.tif"], ["VV", "VH"], "sentinel-1"),
        (["a.tif"], ["NDVI", "sur_refl_b01", "reliability"], "modis-vegetation"),
    ],
)
def test_the_sensor_where_it_is_certain(paths, layers, expected):
    assert guess(paths, layers).name == expected


@pytest.mark.parametrize(
    ("paths", "layers"),
    [
        (["a.tif"], ["red", "nir"]),
        (["a.tif"], ["B2", "B3", "B4"]),
        (["a.tif"], ["band 1"]),
        (["a.tif"], ["SR_B4", "QA_PIXEL"]),
        (["T34TFR_20180701T092031_B04.tif"], ["B04"]),
        (["a.tif"], []),
        (["a.tif"], ["EVI"]),
        (["ndvi_20180701.tif"], ["ndvi"]),
    ],
)
def test_a_sensor_is_not_guessed(paths, layers):
    assert guess(paths, layers) is None
