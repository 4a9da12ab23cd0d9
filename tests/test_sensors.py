import dataclasses

import numpy as np
import pytest

from timo.errors import TimoError
from timo.sensors import SENSORS, get_sensor


def test_sentinel_2_has_the_twelve_bands_of_level_2a():
    sensor = get_sensor("sentinel-2")
    assert " ".join(sensor.band_names) == "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12"
    assert sensor.band("B8").wavelength_um == pytest.approx(0.8328, abs=1e-3)
    assert sensor.band("B11").gsd_m == 20
    assert [band.name for band in sensor.select(["B11", "B2"])] == ["B11", "B2"]


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=str)
def test_every_sensor_is_consistent(sensor):
    assert SENSORS[sensor.name] is sensor
    wavelengths = [band.wavelength_um for band in sensor.bands]
    assert wavelengths == sorted(wavelengths)
    assert len(set(sensor.band_names)) == len(sensor.bands)
    assert all(0 < band.std < 1 and 0 < band.mean < 1 for band in sensor.bands)
    assert set(sensor.fringed) <= set(sensor.masked) <= set(range(len(sensor.mask_classes)))


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
    with pytest.raises(TimoError, match=r"Unknown sensor 'spot-5'. Known: sentinel-2"):
        get_sensor("spot-5")
    with pytest.raises(TimoError, match=r"Unknown sensor None"):
        get_sensor(None)
    with pytest.raises(TimoError, match=r"sentinel-2 has no band 'B10'. Its bands are: B1, B2"):
        get_sensor("sentinel-2").band("B10")
