import dataclasses
import math
import re
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr

import timo
from timo.cube import check, ndvi
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, SENSORS, Band, Collection, QualityClass, Sensor, get_sensor
from timo.sensors.__main__ import page
from timo.sources.request import make_request
from timo.training.pretraining.recipe import autoencoder_config

PROVIDERS = {"earthengine", "planetary-computer", "earth-search"}
SERVED = [(sensor, served) for sensor in SENSORS.values() for served in sensor.collections]


def served_id(value):
    return value.name if isinstance(value, Sensor) else value.provider


def make_cube(sensor, bands):
    cube = xr.DataArray(
        np.random.default_rng(0).uniform(0.1, 0.5, (2, len(bands), 6, 5)).astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(["2019-05-01", "2019-06-01"]),
            "band": list(bands),
            "y": 1000.0 - 10 * np.arange(6),
            "x": 500_000.0 + 10 * np.arange(5),
        },
        attrs={"sensor": sensor},
    )
    return cube.rio.write_crs("EPSG:32634")


def test_sentinel_2_has_the_twelve_bands_of_level_2a():
    sensor = get_sensor("sentinel-2")
    assert " ".join(sensor.band_names) == "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12"
    assert sensor.band("B8").wavelength_um == pytest.approx(0.8328, abs=1e-3)
    assert sensor.band("B11").gsd_m == 20
    assert [band.name for band in sensor.select(["B11", "B2"])] == ["B11", "B2"]


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_every_sensor_is_consistent(sensor):
    assert SENSORS[sensor.name] is sensor
    # Optical: ascending from the blue; radar: VV, VH, HH, HV; what has no wavelength comes last.
    codes = [band.wavelength_um for band in sensor.bands]
    known = [code for code in codes if not math.isnan(code)]
    assert codes[: len(known)] == known
    assert [abs(code) for code in known] == sorted({abs(code) for code in known})
    assert all(0.4 < code < 2.5 for code in known) or codes == list(POLARISATIONS.values())
    assert len(set(sensor.band_names)) == len(sensor.bands)
    common = [band.common_name for band in sensor.bands if band.common_name]
    assert len(set(common)) == len(common)
    assert all(band.std > 0 and band.gsd_m > 0 for band in sensor.bands)
    assert sensor.product
    assert sensor.units
    assert set(sensor.fringed) <= set(sensor.masked) <= set(range(len(sensor.quality)))
    assert len(set(sensor.mask_classes)) == len(sensor.quality)
    assert bool(sensor.quality) == bool(sensor.mask_name)
    assert sensor.fringe_m >= 0
    assert sensor.fringed or not sensor.fringe_m
    assert sensor.period_days >= 0
    assert sensor.default_bands
    assert set(sensor.default_bands) <= set(sensor.band_names)
    # The usual bands are in the order of all.
    assert [b for b in sensor.band_names if b in sensor.default_bands] == [*sensor.default_bands]
    # Where nobody serves it, it is opened from files.
    assert sensor.collections or sensor.name not in {"sentinel-2", "landsat-8-9", "landsat-4-7"}
    assert sensor.level
    assert sensor.satellites
    providers = [served.provider for served in sensor.collections]
    assert len(set(providers)) == len(providers)
    assert sensor.licence.startswith("https://")
    assert sensor.credit("2019-2021").count("2019-2021") == 1


@pytest.mark.parametrize(("sensor", "served"), SERVED, ids=served_id)
def test_every_collection_is_consistent(sensor, served):
    assert sensor.collection(served.provider) is served
    assert served.provider in PROVIDERS
    # Earth Engine: words in upper case between slashes; STAC: one word of letters, digits and hyphens.
    form = (
        r"[A-Z0-9_]+(/[A-Z0-9_]+)+" if served.provider == "earthengine" else r"[a-z][a-zA-Z0-9-]+"
    )
    assert served.ids
    assert len(set(served.ids)) == len(served.ids)
    assert all(re.fullmatch(form, name) for name in served.ids)
    layers = [*sensor.band_names, *([sensor.mask_name] if sensor.mask_name else [])]
    assert set(served.names) <= set(layers)
    names = [served.name(layer) for layer in layers]
    assert all(isinstance(name, str) and name.strip() == name != "" for name in names)
    assert len(set(names)) == len(names)
    for value in served.where.values():
        assert value
        assert isinstance(value, str) or all(isinstance(one, str) for one in value)
    assert served.licence.startswith("https://") or not served.licence
    assert sensor.credit("2019", served).count("2019") == 1
    # Radar is linear or in decibels, and flies up or down; optical instruments need neither.
    radar = set(sensor.band_names) <= set(POLARISATIONS)
    assert bool(served.orbit) == bool(served.band_list) == radar
    assert not served.linear or radar
    if served.cloud_score is not None:
        assert served.provider == "earthengine"
        assert re.fullmatch(form, served.cloud_score.id)
        assert served.cloud_score.band
        assert 0 < served.cloud_score.threshold < 1
        # What it stands for is masked otherwise, and all that has a fringe is among it.
        assert set(sensor.fringed) <= set(served.cloud_score.replaces) <= set(sensor.masked)


# Which images have the offset of processing baseline 04.00 in their numbers, by what providers say of them.
@pytest.mark.parametrize(
    ("properties", "shift"),
    [
        ({"s2:processing_baseline": "02.14"}, 0),
        ({"s2:processing_baseline": "03.01"}, 0),
        ({"s2:processing_baseline": "04.00"}, -1000),
        ({"s2:processing_baseline": "05.11"}, -1000),
        ({"processing:version": "05.10"}, -1000),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True}, 0),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": False}, -1000),
        ({"s2:processing_baseline": "03.01", "earthsearch:boa_offset_applied": False}, 0),
        ({"s2:processing_baseline": None}, 0),
        ({"s2:processing_baseline": "unknown"}, 0),
        ({}, 0),
    ],
)
def test_the_offset_of_sentinel_2_is_taken_off_where_it_is(properties, shift):
    sensor = get_sensor("sentinel-2")
    for provider in ("planetary-computer", "earth-search"):
        assert sensor.collection(provider).shift(properties) == shift
    # Earth Engine harmonises on its side.
    assert sensor.collection("earthengine").shift is None
    others = [served for sensor, served in SERVED if sensor.name != "sentinel-2"]
    assert all(served.shift is None for served in others)


def test_pixels_without_data_are_known_by_the_number_of_their_band():
    vegetation, radar = get_sensor("modis-vegetation"), get_sensor("sentinel-1")
    found = {name: vegetation.nodata_of(name) for name in vegetation.band_names}
    assert {found["NDVI"], found["EVI"]} == {-3000}
    assert {value for name, value in found.items() if name.startswith("sur_")} == {-1000}
    # Not processed is no class of the reliability: the fill of the bands says so.
    assert not vegetation.flagged(np.int8([-1, 0, 1])).any()
    assert vegetation.flagged(np.int8([2, 3])).all()
    assert radar.nodata_of("VV") is None
    assert radar.nodata_of("VV", radar.collection("planetary-computer")) == -32768
    assert get_sensor("sentinel-2").nodata_of("B2") == 0


def test_images_of_several_days_are_dated_in_utc():
    """Their time is a date: no overpass, which the solar day of the place could put on the day before."""
    times = pd.DatetimeIndex(["2019-07-04T00:00", "2019-07-04T14:00"])
    found = {}
    for name in ("landsat-8-9", "modis", "modis-vegetation"):
        request = make_request((-60.1, -3.1, -60.0, -3.0), "2019", "2019", sensor=name)
        found[name] = [day.day for day in request.solar_day(times)]
        assert request.solar_day(pd.DatetimeIndex([request.utc(request.start)]))[0] == request.start
    assert found == {"landsat-8-9": [3, 4], "modis": [4, 4], "modis-vegetation": [4, 4]}


def test_who_must_be_named_depends_on_the_provider():
    radar = get_sensor("sentinel-1")
    own = "Contains modified Copernicus Sentinel data 2019-2021"
    assert radar.credit("2019-2021") == own
    assert radar.credit("2019-2021", radar.collection("earthengine")) == own
    assert radar.credit("2020", radar.collection("planetary-computer")).endswith("CC BY 4.0")
    with pytest.raises(
        TimoError, match=r"modis is not served by 'earth-search', .* earthengine, pl"
    ):
        get_sensor("modis").collection("earth-search")


def test_a_sensor_is_added_by_one_entry(monkeypatch):
    lens = Sensor(
        name="lens-1",
        product="made up",
        bands=(Band("R", "red", 0.66, 5, 0.07, 0.04), Band("N", "nir", 0.84, 5, 0.27, 0.10)),
        scale=0.01,
        units="surface reflectance, 0..1",
        mask_name="quality",
        quality=(QualityClass("cloud", 1, 1),),
        masked=(0,),
        collections=(Collection("earthengine", ("LENS/ONE",)),),
        attribution="made up {years}",
        licence="https://example.org",
    )
    cube = make_cube("lens-1", ["R", "N"])
    with pytest.raises(TimoError, match="Unknown sensor 'lens-1'"):
        ndvi(cube)
    monkeypatch.setitem(SENSORS, "lens-1", lens)
    assert get_sensor("lens-1") is lens
    assert check(cube) is cube
    assert ndvi(cube).dims == ("time", "y", "x")
    for stem in ("plain", "wavelength"):
        model = timo.load_model("timo-tiny", cube, ["a", "b"], pretrained=False, stem=stem)
        assert model.config.mean == (0.07, 0.27)
    assert model.config.encoder.wavelengths == (0.66, 0.84)
    assert "## lens-1" in page()


def test_an_index_has_no_wavelength_and_the_plain_stem_reads_it():
    sensor = get_sensor("modis-vegetation")
    cube = make_cube("modis-vegetation", ["sur_refl_b01", "NDVI", "EVI"])
    assert check(cube) is cube
    model = timo.load_model("timo-tiny", cube, ["a", "b"], stem="plain")
    assert model.config.mean == (0.07, 0.60, 0.35)
    # The weights that come with timo read bands by their wavelengths.
    assert (
        timo.load_model("timo-tiny", cube, ["a", "b"]).config.initial_weights == "random (seed 0)"
    )
    why = "by their wavelengths, and there is none of NDVI and EVI. pretrained=False takes random ones"
    with pytest.raises(TimoError, match=why):
        timo.load_model("timo-tiny", cube, ["a", "b"], pretrained=True)
    refused = 'has no wavelength of NDVI and EVI, .* or make the model with stem="plain"'
    for attempt in (
        lambda: sensor.wavelengths(["NDVI", "EVI"]),
        lambda: timo.load_model("timo-tiny", cube, ["a", "b"], stem="wavelength"),
        lambda: autoencoder_config("tiny", ["sur_refl_b01", "NDVI", "EVI"], "modis-vegetation"),
    ):
        with pytest.raises(TimoError, match=refused):
            attempt()
    given = {"stem": "wavelength", "wavelengths": (0.645, 0.7, 0.8)}
    model = timo.load_model("timo-tiny", cube, ["a", "b"], pretrained=False, **given)
    assert model.config.encoder.wavelengths == (0.645, 0.7, 0.8)
    plain = autoencoder_config("tiny", ["NDVI", "EVI"], "modis-vegetation", stem="plain")
    assert plain.mean == (0.60, 0.35)


def test_the_bands_of_an_index_product_serve_where_they_have_a_wavelength():
    cube = make_cube("modis-vegetation", ["sur_refl_b01", "sur_refl_b02", "NDVI"])
    assert np.isfinite(ndvi(cube)).all()
    with pytest.raises(TimoError, match="The cube has no red band; it has NDVI"):
        ndvi(cube.sel(band=["NDVI"]))
    reflectances = cube.sel(band=["sur_refl_b01", "sur_refl_b02"])
    model = timo.load_model("timo-tiny", reflectances, ["a", "b"])
    assert model.config.encoder.wavelengths == (0.645, 0.8585)
    assert "pretrained" in model.config.initial_weights


def test_the_page_of_the_sensors_is_up_to_date():
    path = Path(__file__).resolve().parents[1] / "docs/sensors.md"
    assert path.read_text(encoding="utf-8") == page(), "python -m timo.sensors > docs/sensors.md"


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_every_quality_class_is_of_some_pixels_and_not_of_all(sensor):
    everything = np.arange(2**16, dtype="uint16")
    for kind in sensor.quality:
        share = kind.of(everything).mean()
        assert 0 < share < 1
        if kind.bits is not None:
            # Of n bits, a code is one in 2**n.
            assert share == 0.5 ** bin(kind.bits).count("1")


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_reflectances_are_normalised_alike_by_all_sensors(sensor):
    means = {b.common_name: (b.mean, b.std) for b in get_sensor("sentinel-2").bands}
    for band in sensor.bands:
        if band.common_name in means:
            assert (band.mean, band.std) == means[band.common_name]


def test_landsat_has_the_bands_of_oli():
    sensor = get_sensor("landsat-8-9")
    wavelengths = [band.wavelength_um for band in sensor.bands]
    assert wavelengths == [0.443, 0.482, 0.561, 0.655, 0.865, 1.609, 2.201]
    assert sensor.band_names == tuple(f"SR_B{i}" for i in range(1, 8))
    # The valid range of the product guide, 7273 to 43636, is reflectance 0 to 1.
    assert sensor.physical(7273.0) == pytest.approx(0, abs=2e-5)
    assert sensor.physical(43636.0) == pytest.approx(1, abs=2e-5)


def test_landsat_4_to_7_have_the_bands_of_tm_and_landsats_of_level_1_their_own_factors():
    sensor = get_sensor("landsat-4-7")
    assert sensor.band_names == ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7")
    assert sensor.wavelengths(["SR_B3", "SR_B4"]) == (0.66, 0.83)
    assert sensor.physical(40000) == pytest.approx(0.9)
    # Collection 1: scale 0.0001, saturated at 20000; level 1 of OLI: 0.00002 and -0.1.
    assert get_sensor("landsat-8-9-c1").physical(20000) == pytest.approx(2)
    assert get_sensor("landsat-4-7-c1").nodata == -9999
    assert get_sensor("landsat-8-9-l1").physical(10000) == pytest.approx(0.1)
    # No fixed factors: nobody takes a wrong one for them.
    assert math.isnan(get_sensor("landsat-4-7-l1").physical(100))
    assert "MTL" in get_sensor("landsat-4-7-l1").product


def test_level_1c_of_sentinel_2_has_cirrus_and_no_classes():
    sensor = get_sensor("sentinel-2-l1c")
    assert sensor.band("B10").wavelength_um == 1.374
    assert not sensor.quality
    assert {s.name for s in SENSORS.values() if s.baseline_offset} == {
        "sentinel-2",
        "sentinel-2-l1c",
    }


def test_harmonised_bands_are_those_of_their_satellites():
    pairs = [("hls-l30", "landsat-8-9", "SR_"), ("hls-s30", "sentinel-2", "")]
    for name, origin, prefix in pairs:
        bands = {b.name: b.wavelength_um for b in get_sensor(name).bands}
        own = {b.name.removeprefix(prefix): b.wavelength_um for b in get_sensor(origin).bands}
        assert bands == own
    assert get_sensor("planetscope-8").wavelengths(["green_i", "nir"]) == (0.531, 0.865)
    assert get_sensor("force").default_bands == get_sensor("force").band_names[:10]


def test_modis_has_the_seven_bands_of_land():
    sensor = get_sensor("modis")
    known = {name: sensor.band(f"sur_refl_b0{name}").wavelength_um for name in range(1, 8)}
    expected = [0.645, 0.8585, 0.469, 0.555, 1.240, 1.640, 2.130]
    assert known == dict(enumerate(expected, start=1))
    assert sensor.physical(np.float32([0, 10_000])).tolist() == pytest.approx([0, 1])


def test_radar_is_in_decibels_and_its_codes_are_no_wavelengths():
    sensor = get_sensor("sentinel-1")
    assert {band.name: band.wavelength_um for band in sensor.bands} == POLARISATIONS
    assert all(-30 < band.mean < 0 for band in sensor.bands)
    # Forest in C band, VV and VH, lies within three standard deviations.
    for name, value in {"VV": -8.0, "VH": -14.0}.items():
        assert abs(value - sensor.band(name).mean) / sensor.band(name).std < 3


# Values that the product guides give as examples of QA_PIXEL, and the state of MOD09.
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("landsat-8-9", 1, ["fill"]),
        ("landsat-8-9", 21824, ["clear"]),
        ("landsat-8-9", 21952, ["clear", "water"]),
        ("landsat-8-9", 22280, ["cloud"]),
        ("landsat-8-9", 23888, ["cloud shadow", "clear"]),
        ("landsat-8-9", 21826, ["dilated cloud", "clear"]),
        ("landsat-8-9", 54596, ["cirrus", "clear"]),
        ("landsat-8-9", 30048, ["snow", "clear"]),
        ("modis", 0b01 | 1 << 3, ["cloudy"]),
        ("modis", 0b10 | 1 << 3 | 3 << 8, ["mixed", "high cirrus"]),
        ("modis", 1 << 3 | 1 << 8, ["clear", "small cirrus"]),
        ("modis", 1 << 2 | 1 << 13, ["clear", "cloud shadow", "beside a cloud"]),
        ("modis", 0b11 | 1 << 12, ["not set, assumed clear", "snow or ice, MOD35"]),
        ("modis", 2 << 8 | 1 << 10, ["clear", "average cirrus", "cloud, internal test"]),
        ("modis", 1 << 3 | 1 << 15, ["clear", "snow, internal test"]),
        ("sentinel-2", 3, ["cloud shadow"]),
        ("landsat-4-7", 5896, ["cloud"]),
        # pixel_qa of Collection 1: fill, clear, water, cloud shadow, snow, cloud, cirrus (L8).
        ("landsat-8-9-c1", 1, ["fill"]),
        ("landsat-8-9-c1", 322, ["clear"]),
        ("landsat-8-9-c1", 324, ["water"]),
        ("landsat-8-9-c1", 328, ["cloud shadow"]),
        ("landsat-8-9-c1", 336, ["snow"]),
        ("landsat-8-9-c1", 480, ["cloud"]),
        ("landsat-8-9-c1", 834, ["clear", "cirrus, high confidence"]),
        ("landsat-8-9-c1", 1346, ["clear", "terrain occlusion"]),
        ("hls-s30", 0b01000010, ["cloud"]),
        ("hls-l30", 0b11000100, ["beside a cloud or shadow"]),
        ("hls-l30", 0b01100000, ["water"]),
        # The example of FORCE's documentation: badly lit, on a slope, no water vapour.
        ("force", 28672, []),
        ("force", 0b11 << 1, ["cirrus"]),
        ("force", 0b01 << 1 | 1 << 8, ["buffered cloud", "below zero"]),
        ("planetscope-4", 1, ["clear"]),
        ("planetscope-8", 0, ["not clear"]),
    ],
)
def test_the_quality_layer_is_read(name, value, says):
    sensor = get_sensor(name)
    assert [kind.name for kind in sensor.quality if kind.of(value)] == says
    clear = {"clear", "water", "not set, assumed clear", "small cirrus", "terrain occlusion"}
    assert bool(sensor.flagged(value)) == bool(set(says) - clear)


@pytest.mark.parametrize("as_array", [np.asarray, xr.DataArray, da.from_array])
def test_masks_are_of_any_kind_of_array(as_array):
    landsat, sentinel = get_sensor("landsat-8-9"), get_sensor("sentinel-2")
    quality = as_array(np.array([[1, 21824], [22280, 54596]], dtype="uint16"))
    mask = landsat.flagged(quality)
    assert type(mask) is type(quality)
    assert np.asarray(mask).tolist() == [[True, False], [True, True]]
    assert np.asarray(landsat.flagged(quality, [3])).tolist() == [[False, False], [True, False]]
    assert not np.asarray(landsat.flagged(quality, [])).any()
    scl = as_array(np.arange(12, dtype="uint8"))
    expected = np.isin(np.arange(12), sentinel.masked)
    assert np.asarray(sentinel.flagged(scl)).tolist() == expected.tolist()


def test_a_quality_class_that_is_none_is_refused():
    with pytest.raises(TimoError, match=r"sentinel-2 has no quality class 12. It has: 0 no data"):
        get_sensor("sentinel-2").flagged(np.arange(3), [3, 12])
    with pytest.raises(TimoError, match=r"sentinel-1 has no quality class 0. It has: none"):
        get_sensor("sentinel-1").flagged(np.arange(3), [0])


def test_default_mask_names_clouds_shadows_and_snow():
    sensor = get_sensor("sentinel-2")
    masked = {sensor.mask_classes[code] for code in sensor.masked}
    assert {"cloud shadow", "thin cirrus", "cloud, high probability", "snow or ice"} <= masked
    assert not {"vegetation", "not vegetated", "water"} & masked


def test_normalisation_is_fixed_and_close_to_vegetated_land():
    # Closed beech forest in summer and bare soil both lie within three standard deviations.
    sensor = get_sensor("sentinel-2")
    forest = {"B2": 0.02, "B3": 0.05, "B4": 0.03, "B8": 0.40, "B11": 0.18}
    soil = {"B2": 0.09, "B3": 0.12, "B4": 0.16, "B8": 0.25, "B11": 0.35}
    for spectrum in (forest, soil):
        scaled = [(v - sensor.band(n).mean) / sensor.band(n).std for n, v in spectrum.items()]
        assert np.abs(scaled).max() < 3


def test_sensors_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_sensor("sentinel-2").name = "other"


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        TimoError,
        match=r"Unknown sensor 'spot-5'. Known: force, .*modis-v.*timo.sensors.read_sensor",
    ):
        get_sensor("spot-5")
    with pytest.raises(TimoError, match="name must be text; got None"):
        get_sensor(None)
    with pytest.raises(TimoError, match=r"sentinel-2 has no band 'B10'. Its bands are: B1, B2"):
        get_sensor("sentinel-2").band("B10")
