"""What timo knows of each product: bands, wavelengths, scaling, plausible values, quality layers, names, providers.

Nothing else in timo holds a list of bands or the name of a collection. Sensors of the user's own are added with
`register_sensor` or `read_sensor`; every place that takes the name of a sensor takes theirs.
"""

from timo.sensors.identity import Identity, identify
from timo.sensors.product import POLARISATIONS, Band, CloudScore, Collection, QualityClass, Sensor
from timo.sensors.registry import SENSORS, get_sensor, read_sensor, register_sensor

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
    "read_sensor",
    "register_sensor",
]
