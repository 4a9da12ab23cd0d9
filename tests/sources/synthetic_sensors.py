"""Made-up images of the sensors in Earth Engine's collections, so that each one's way through it can be tested."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ee_emulator import BackedBand, BackedImage, Backing
from ee_emulator.grid import SINUSOIDAL, Transform, transformer

from timo.sensors import Sensor, get_sensor

# The middle of the sample, longitude and latitude.
CENTRE = (22.1522, 45.2048)
_DAYS = 16
# In the years of the sample, in which Landsat 9 had not flown yet: these images are made up in any case.
_START = pd.Timestamp("2019-05-01")
_DATES = 6


@dataclass(frozen=True)
class _Product:
    """Grid, types and metadata of a product as Earth Engine has it.

    Parameters
    ----------
    crs, pixel, side : str, float, int
        Reference system, side of a pixel in metres, pixels along each side of the image.
    hour : float
        Of the overpass, UTC.
    dtype, quality : str
        Types of the bands and of the quality layer.
    """

    crs: str
    pixel: float
    side: int
    hour: float
    dtype: str
    quality: str = ""


_MODIS_PIXEL = 463.312716528
_PRODUCTS = {
    "landsat-8-9": _Product("EPSG:32634", 30.0, 240, 9.2, "uint16", "uint16"),
    "modis": _Product(SINUSOIDAL, _MODIS_PIXEL, 24, 0.0, "int16", "uint16"),
    "modis-vegetation": _Product(SINUSOIDAL, _MODIS_PIXEL / 2, 48, 0.0, "int16", "int8"),
    "sentinel-1": _Product("EPSG:32634", 10.0, 400, 4.6, "float64"),
}
SYNTHETIC = tuple(_PRODUCTS)


def synthetic_backing(sensor: str) -> Backing:
    """Made-up images of a sensor around the sample's place, in the collections that Earth Engine has them in.

    Six dates from 1 May 2019 on, 16 days apart. The values are smooth waves around the mean that the sensor's bands
    have in vegetation, the same for everybody; a disc, another one on each date, is one of what the quality layer calls
    no valid observation; the north-western corner has no data.

    Parameters
    ----------
    sensor : {"landsat-8-9", "modis", "modis-vegetation", "sentinel-1"}
        The name of the sensor.

    Returns
    -------
    Backing
        Collections under the ids that `timo.sensors` knows.
    """
    known = get_sensor(sensor)
    ids = known.collection("earthengine").ids
    return Backing({name: list(_images(known, number)) for number, name in enumerate(ids)})


def _images(sensor: Sensor, number: int) -> Iterator[BackedImage]:
    """The images of one of the sensor's collections."""
    product = _PRODUCTS[sensor.name]
    # Two satellites pass eight days after one another.
    first = _START + pd.Timedelta(days=number * _DAYS / 2, hours=product.hour)
    transform = _transform(product)
    for date in range(_DATES):
        time = first + pd.Timedelta(days=date * _DAYS)
        yield BackedImage(
            _index(sensor, number, date, time),
            _millis(time),
            _millis(_end(sensor, time)),
            product.crs,
            transform,
            dict(_bands(sensor, product, date)),
            _properties(sensor, number, date),
        )


def _millis(time: pd.Timestamp) -> int:
    return int(time.value // 10**6)


def _end(sensor: Sensor, time: pd.Timestamp) -> pd.Timestamp:
    """Composites of several days end with the last of them."""
    days = {"modis": 8, "modis-vegetation": 16}.get(sensor.name, 0)
    return time + pd.Timedelta(days=days)


def _transform(product: _Product) -> Transform:
    """The corner of an image around the centre, on multiples of its pixel."""
    x, y = transformer("EPSG:4326", product.crs).transform(*CENTRE)
    half = product.side // 2
    left = (math.floor(x / product.pixel) - half) * product.pixel
    top = (math.floor(y / product.pixel) + half) * product.pixel
    return (product.pixel, 0.0, left, 0.0, -product.pixel, top)


def _bands(sensor: Sensor, product: _Product, date: int) -> Iterator[tuple[str, BackedBand]]:
    """Numbers of the bands, then the quality layer."""
    collection = sensor.collection("earthengine")
    rows, columns = np.mgrid[: product.side, : product.side] / product.side
    corner = rows + columns < 0.1
    nodata = sensor.nodata
    for place, band in enumerate(sensor.select(sensor.band_names)):
        if sensor.name == "sentinel-1" and band.name not in sensor.default_bands:
            continue
        wave = np.sin(7 * columns + place) * np.cos(5 * rows - 0.4 * date)
        numbers = (band.mean + 0.5 * band.std * wave - sensor.offset) / sensor.scale
        fill = np.nan if nodata is None else nodata
        values = np.where(corner, fill, numbers if nodata is None else np.round(numbers))
        yield collection.name(band.name), BackedBand(values.astype(product.dtype), nodata=nodata)
    if sensor.mask_name:
        quality = _quality(sensor, date, rows, columns, corner).astype(product.quality)
        policy = "sample" if sensor.quality[-1].bits else "mode"
        yield collection.name(sensor.mask_name), BackedBand(quality, policy=policy)


def _quality(
    sensor: Sensor, date: int, rows: np.ndarray, columns: np.ndarray, corner: np.ndarray
) -> np.ndarray:
    """What the layer says: clear, but for a disc, and a corner that has no data where there is such a class."""
    clear = next((k.value for k in sensor.quality if k.name in {"clear", "good"}), 0)
    kinds = [k for i in sensor.masked if (k := sensor.quality[i]).name not in {"fill", "no data"}]
    kind = kinds[date % len(kinds)]
    centre = 0.3 + 0.08 * date
    disc = np.hypot(rows - centre, columns - centre) < 0.12
    flagged = kind.value if kind.bits is None else (clear & ~kind.bits) | kind.value
    fill = next((k.value for k in sensor.quality if k.name == "fill"), clear)
    return np.where(corner, fill, np.where(disc, flagged, clear))


def _index(sensor: Sensor, number: int, date: int, time: pd.Timestamp) -> str:
    """An index in the form of the collection's own."""
    if sensor.name == "landsat-8-9":
        return f"LC0{8 + number}_185029_{time:%Y%m%d}"
    if sensor.name == "sentinel-1":
        end = time + pd.Timedelta(seconds=25)
        return f"S1A_IW_GRDH_1SDV_{time:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}_{43000 + 233 * date:06d}_05231A_7C0{date}"
    return f"{time:%Y_%m_%d}"


def _properties(sensor: Sensor, number: int, date: int) -> dict[str, Any]:
    """Metadata that is asked for."""
    if sensor.name == "landsat-8-9":
        return {
            "SPACECRAFT_ID": f"LANDSAT_{8 + number}",
            "CLOUD_COVER": 12.5 * date,
            "WRS_PATH": 185,
            "WRS_ROW": 29,
            "PROCESSING_LEVEL": "L2SP",
        }
    if sensor.name == "sentinel-1":
        return {
            "instrumentMode": "IW",
            "orbitProperties_pass": ("DESCENDING", "ASCENDING")[date % 2],
            "relativeOrbitNumber_start": (80, 29)[date % 2],
            "transmitterReceiverPolarisation": ["VV", "VH"],
            "platform_number": "A",
            "resolution_meters": 10,
        }
    return {"num_tiles": 1}
