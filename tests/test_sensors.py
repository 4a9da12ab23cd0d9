import dataclasses

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from timo.errors import TimoError
from timo.sensors import POLARISATIONS, SENSORS, get_sensor


def test_sentinel_2_has_the_twelve_bands_of_level_2a():
    sensor = get_sensor("sentinel-2")
    assert " ".join(sensor.band_names) == "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12"
    assert sensor.band("B8").wavelength_um == pytest.approx(0.8328, abs=1e-3)
    assert sensor.band("B11").gsd_m == 20
    assert [band.name for band in sensor.select(["B11", "B2"])] == ["B11", "B2"]


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_every_sensor_is_consistent(sensor):
    assert SENSORS[sensor.name] is sensor
    # Optical: ascending from the blue; radar: VV, VH, HH, HV.
    codes = [band.wavelength_um for band in sensor.bands]
    assert [abs(code) for code in codes] == sorted({abs(code) for code in codes})
    assert all(0.4 < code < 2.5 for code in codes) or codes == list(POLARISATIONS.values())
    assert len(set(sensor.band_names)) == len(sensor.bands)
    common = [band.common_name for band in sensor.bands if band.common_name]
    assert len(set(common)) == len(common)
    assert all(band.std > 0 and band.gsd_m > 0 for band in sensor.bands)
    assert sensor.product
    assert sensor.units
    assert set(sensor.fringed) <= set(sensor.masked) <= set(range(len(sensor.quality)))
    assert len(set(sensor.mask_classes)) == len(sensor.quality)
    assert bool(sensor.quality) == bool(sensor.mask_name)


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
        if band.common_name:
            assert (band.mean, band.std) == means[band.common_name]


def test_landsat_has_the_bands_of_oli():
    sensor = get_sensor("landsat-8-9")
    wavelengths = [band.wavelength_um for band in sensor.bands]
    assert wavelengths == [0.443, 0.482, 0.561, 0.655, 0.865, 1.609, 2.201]
    assert sensor.band_names == tuple(f"SR_B{i}" for i in range(1, 8))
    # The valid range of the product guide, 7273 to 43636, is reflectance 0 to 1.
    assert sensor.physical(7273.0) == pytest.approx(0, abs=2e-5)
    assert sensor.physical(43636.0) == pytest.approx(1, abs=2e-5)


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
    ],
)
def test_the_quality_layer_is_read(name, value, says):
    sensor = get_sensor(name)
    assert [kind.name for kind in sensor.quality if kind.of(value)] == says
    clear = {"clear", "water", "not set, assumed clear", "small cirrus"}
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
        TimoError, match=r"Unknown sensor 'spot-5'. Known: landsat-8-9, modis, sent"
    ):
        get_sensor("spot-5")
    with pytest.raises(TimoError, match=r"Unknown sensor None"):
        get_sensor(None)
    with pytest.raises(TimoError, match=r"sentinel-2 has no band 'B10'. Its bands are: B1, B2"):
        get_sensor("sentinel-2").band("B10")
