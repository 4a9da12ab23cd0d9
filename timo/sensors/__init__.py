"""What timo knows of each instrument: bands, wavelengths, scaling, mask rules, and where it is served.

A new sensor is one more file and one more entry of `SENSORS`; nothing else in timo holds a list of bands or the name of
a collection.
"""

from timo.errors import TimoError
from timo.sensors.identity import Identity, identify
from timo.sensors.landsat import LANDSAT_8_9
from timo.sensors.modis import MODIS, MODIS_VEGETATION
from timo.sensors.product import POLARISATIONS, Band, CloudScore, Collection, QualityClass, Sensor
from timo.sensors.sentinel1 import SENTINEL_1
from timo.sensors.sentinel2 import SENTINEL_2

__all__ = [
    "POLARISATIONS",
    "SENSORS",
    "Band",
    "CloudScore",
    "Collection",
    "Identity",
    "QualityClass",
    "Sensor",
    "get_sensor",
    "identify",
]

SENSORS: dict[str, Sensor] = {
    sensor.name: sensor for sensor in (SENTINEL_2, LANDSAT_8_9, MODIS, MODIS_VEGETATION, SENTINEL_1)
}


def get_sensor(name: str) -> Sensor:
    """Return the sensor called `name`.

    Raises
    ------
    TimoError
        If timo does not know it.
    """
    try:
        return SENSORS[name]
    except (KeyError, TypeError):
        raise TimoError(f"Unknown sensor {name!r}. Known: {', '.join(sorted(SENSORS))}.") from None
