"""Which band a file or a layer of it holds, whatever way its name is spelt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from timo.errors import TimoError
from timo.sensors import SENSORS, Sensor, get_sensor
from timo.sources.files.dates import strip_dates
from timo.sources.request import make_bands

# Layers of the products that are no band of timo's and no quality layer it reads: passed over where they stand among
# the others. Sentinel-2: aerosol, water vapour, true colour, cloud and snow probability, cirrus; Landsat: surface
# temperature and its kin, saturation, aerosol; MODIS: times and angles.
_BESIDES = re.compile(
    r"^(aot|wvp|tci|pvi|visual|preview|thumbnail|msk_.*|b10|cldprb|snwprb|"
    r"st_.*|qa_radsat|sr_qa_aerosol|qa_aerosol|atran|cdist|drad|emis|emsd|trad|urad|"
    r".*(angle|zenith|azimuth|day_of_year|vi_quality|qc_500m))$"
)
# What people write beside the names of the sensor, the STAC extension and the providers.
_USUAL = {
    "nir": "nir08",
    "nir2": "nir08",
    "nir_narrow": "nir08",
    "narrow_nir": "nir08",
    "swir1": "swir16",
    "swir2": "swir22",
    "swir_1": "swir16",
    "swir_2": "swir22",
    "red_edge_1": "rededge071",
    "red_edge_2": "rededge075",
    "red_edge_3": "rededge078",
}
# "red edge", without saying which, is none of them, and above all not red.
_AMBIGUOUS = ("red_edge", "rededge")
_PRODUCTS = (
    (
        re.compile(r"(?<![A-Z0-9])S2[A-D]_|(?<![A-Z0-9])T\d\d[C-X][A-Z]{2}_\d{8}T", re.I),
        "sentinel-2",
    ),
    (re.compile(r"(?<![A-Z0-9])S1[A-D][-_](IW|EW|SM|S\d)", re.I), "sentinel-1"),
    (re.compile(r"(?<![A-Z0-9])LC0[89]_L2", re.I), "landsat-8-9"),
    (re.compile(r"(?<![A-Z0-9])MOD09(A1|GA)", re.I), "modis"),
    (re.compile(r"(?<![A-Z0-9])MOD13Q1", re.I), "modis-vegetation"),
)
_LONGEST = 5  # words of "250m 16 days pixel reliability"
# The harmonised product names bands as Sentinel-2 does, whichever satellite looked.
_HARMONISED = re.compile(r"(?<![A-Z0-9])HLS\.", re.I)


@cache
def simplify(name: str) -> str:
    """A name as it is compared: lower case, single underscores, no zeros before a band's number."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    plain = re.sub(r"(?<![a-z0-9])band_?(?=\d)", "b", plain)
    return re.sub(r"(?<![a-z0-9])b0+(?=\d)", "b", plain)


@cache
def aliases(sensor_name: str) -> dict[str, str]:
    """Simplified name -> band of the sensor, or its quality layer."""
    sensor = get_sensor(sensor_name)
    names: dict[str, str] = {}
    layers = [*sensor.band_names, *filter(None, [sensor.mask_name])]
    # What comes first wins: the sensor's own name before a provider's, a provider's before the usual ones.
    for spellings in _spellings(sensor):
        for layer in layers:
            if spelling := simplify(spellings.get(layer, "")):
                names.setdefault(spelling, layer)
    for usual, common in _USUAL.items():
        if usual not in names and common in names:
            names[usual] = names[common]
    return names | dict.fromkeys(_AMBIGUOUS, "")


def _spellings(sensor: Sensor) -> Iterable[dict[str, str]]:
    layers = [*sensor.band_names, *filter(None, [sensor.mask_name])]
    yield {layer: layer for layer in layers}
    yield {band.name: band.common_name for band in sensor.bands}
    for collection in sensor.collections:
        yield dict(collection.names)
    # Landsat's "B4" is SR_B4, MODIS' "b01" is sur_refl_b01, "pixel_reliability" the layer without its grid.
    yield {layer: re.sub(r"^(SR_|sur_refl_)", "", layer) for layer in layers}
    for collection in sensor.collections:
        yield {k: re.sub(r"^\d+m_16_days_", "", v) for k, v in collection.names.items()}


def match_band(name: str, sensor: Sensor) -> str | None:
    """The band or quality layer that a whole name means; None if it means none."""
    return aliases(sensor.name).get(simplify(name)) or None


def find_band(text: str, sensor: Sensor) -> str | None:
    """The band or quality layer that stands in a file's name; None if none does.

    Raises
    ------
    TimoError
        If the name could mean two bands.
    """
    bands = _bands_in(strip_dates(text), sensor)
    if len(bands) > 1:
        raise TimoError(
            f"{text!r} could be the band {' or '.join(sorted(bands))} of {sensor.name}. "
            r'Say which with pattern=r"...(?P<band>...)..." or band_names=[...].'
        )
    return next(iter(bands), None)


def _bands_in(text: str, sensor: Sensor) -> set[str]:
    """Bands that the most words of a text mean: "red edge 1" holds "red", but more words say more."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    known = aliases(sensor.name)
    hits: dict[int, set[str]] = {}
    for first in range(len(words)):
        for last in range(first + 1, min(first + _LONGEST, len(words)) + 1):
            if (band := known.get(simplify("_".join(words[first:last])))) is not None:
                hits.setdefault(last - first, set()).add(band)
    return (hits[max(hits)] if hits else set()) - {""}


def read_bands(bands: Sequence[str], sensor: Sensor) -> tuple[str, ...]:
    """Bands that are asked for, however they are spelt, as the sensor spells them.

    Raises
    ------
    TimoError
        If the sensor has no such band, or one is named twice.
    """
    if isinstance(bands, str):
        bands = [bands]
    if not isinstance(bands, Sequence):
        return make_bands(sensor, bands)
    known = (match_band(name, sensor) if isinstance(name, str) else None for name in bands)
    return make_bands(sensor, [band or name for band, name in zip(known, bands, strict=True)])


def is_position(name: str) -> bool:
    """Whether a name is only a layer's number: "Band 4" is what GDAL calls the fourth, whichever band it may be."""
    return re.fullmatch(r"band[ _]?\d+", name.strip(), re.IGNORECASE) is not None


def is_beside(name: str) -> bool:
    """Whether a name is that of a layer of the products that no cube holds."""
    words = simplify(strip_dates(name)).split("_")
    return any(
        _BESIDES.match("_".join(words[i:j]))
        for i in range(len(words))
        for j in range(i + 1, len(words) + 1)
    )


def guess_sensor(paths: Iterable[str], layers: Iterable[str]) -> Sensor:
    """The sensor of files that do not say: by their products' names, else by bands that only one sensor has.

    Parameters
    ----------
    paths : iterable of str
        Names of the files.
    layers : iterable of str
        Names of what is in them.

    Raises
    ------
    TimoError
        If it is not certain.
    """
    paths, layers = list(paths), list(layers)
    named = {sensor for path in paths for pattern, sensor in _PRODUCTS if pattern.search(path)}
    if not named and not any(_HARMONISED.search(path) for path in paths):
        named = _sensors_with(layers)
    if len(named) == 1:
        return get_sensor(named.pop())
    listed = ", ".join(sorted({*layers})[:12]) or ", ".join(sorted({*paths})[:3])
    why = f"could be of {' or '.join(sorted(named))}" if named else "are no sensor's for certain"
    raise TimoError(
        f'Which sensor? The files hold {listed}, which {why}. Say it, as sensor="sentinel-2"; '
        f"known: {', '.join(sorted(SENSORS))}."
    )


def _sensors_with(layers: list[str]) -> set[str]:
    """Sensors of which all of these layers are bands; of two, the one that spells them so."""
    fitting = {n for n, s in SENSORS.items() if layers and all(_bands_in(la, s) for la in layers)}
    if "sentinel-2" in fitting and any(
        re.search(r"(?<![a-z0-9])b0\d", la.lower()) for la in layers
    ):
        return {"sentinel-2"}
    return fitting
