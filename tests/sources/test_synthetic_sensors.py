"""The made-up images are what their sensors have: the tests of other sensors stand on them."""

import ee
import pytest
from ee_emulator import Emulator
from synthetic_sensors import SYNTHETIC, synthetic_backing

from timo.sensors import SENSORS


@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_up_images_have_what_the_sensor_has(name):
    sensor = SENSORS[name]
    served = sensor.collection("earthengine")
    backing = synthetic_backing(name)
    assert set(backing.collections) == set(served.ids)
    bands = [served.name(band) for band in sensor.default_bands]
    quality = [served.name(sensor.mask_name)] if sensor.mask_name else []
    with Emulator(backing) as running:
        running.initialize()
        for collection in served.ids:
            images = ee.ImageCollection(collection)
            assert images.size().getInfo() == 6
            image = images.first()
            assert set(bands + quality) <= set(image.bandNames().getInfo())
            own = image.select([*bands, *quality])
            found = ee.data.computePixels({"expression": own, "fileFormat": "NUMPY_NDARRAY"})
            centre = found[found.shape[0] // 2, found.shape[1] // 2]
            for band in sensor.select(sensor.default_bands):
                value = sensor.physical(float(centre[served.name(band.name)]))
                assert abs(value - band.mean) < 2 * band.std
            for layer in quality:
                flagged = sensor.flagged(found[layer].astype("int64"))
                assert 0 < flagged.mean() < 0.2
            if served.cloud_cover:
                assert images.filter(ee.Filter.lt(served.cloud_cover, 20)).size().getInfo() == 2
            if served.orbit:
                assert images.filter(ee.Filter.eq(served.orbit, "ASCENDING")).size().getInfo() == 3
