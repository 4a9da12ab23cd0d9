"""Name the band of a layer: by what users say, and by names in files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from timo.checks import described
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.dates import Moment, as_moment, strip_dates
from timo.sources.request import make_bands

# Layers of the products that are neither bands of timo's nor a quality layer that it reads: passed over where they lie
# among the others. Sentinel-2: aerosol, water vapour, true colour, probability of cloud and snow, cirrus, what Earth
# Engine adds (QA60, cloud score); Landsat: surface temperature and what belongs to it, thermal bands, saturation,
# aerosol; MODIS: times and angles.
_BESIDES = re.compile(
    r"^(aot|wvp|tci|pvi|visual|preview|thumbnail|msk_.*|b10|qa\d\d|cs(_cdf)?|probability|cldprb|snwprb|st_.*|"
    r"qa_radsat|radsat_qa|sr_aerosol|sr_qa_aerosol|qa_aerosol|sr_atmos_opacity|sr_cloud_qa|sr_ddv_qa|"
    r"(solar|sensor)_(zenith|azimuth).*|udm2?_.*|atran|cdist|drad|emis|emsd|trad|urad|s[az]a|v[az]a|"
    r".*(angles?|zenith(_?mean)?|azimuth(_?mean)?|day_of_year|vi_quality|qc_500m))$"
)
# What people write beside the names of the sensor, the STAC extension and the providers.
_USUAL = {
    **dict.fromkeys(("nir", "nir2", "nir_narrow", "narrow_nir"), "nir08"),
    **dict.fromkeys(("swir1", "swir_1"), "swir16"),
    **dict.fromkeys(("swir2", "swir_2"), "swir22"),
    **{f"red_edge_{i + 1}": f"rededge07{n}" for i, n in enumerate("158")},
}
# "red edge", without saying which, is none of them, and above all not red.
_AMBIGUOUS = ("red_edge", "rededge")
_LONGEST = 5  # words of "250m 16 days pixel reliability"


@dataclass(frozen=True)
class Naming:
    """What the user says of names and dates (see `open_files`), checked by `make_naming`."""

    dates: Any = None
    pattern: re.Pattern[str] | None = None
    band_names: tuple[str | None, ...] | None = None

    def group(self, path: Path, name: str) -> str | None:
        """Return what a group of the pattern holds in a file's name; None if the pattern has no such group."""
        if self.pattern is None or name not in self.pattern.groupindex:
            return None
        match = self.pattern.search(path.name) or self.pattern.search(path.as_posix())
        if not match or not match[name]:
            raise TimoError(
                f"pattern={self.pattern.pattern!r} does not find a {name} in {path.name!r}. Mend the pattern, or leave "
                "the file out."
            )
        return match[name]

    def moments(
        self, path: Path, position: int, count: int, images: int, bands: int = 1
    ) -> list[Moment] | None:
        """Return the dates that the user gives to the images of a file, by `dates` or the pattern; None if neither.

        The file is at a position of a number of files, and has a number of images, of `bands` bands in all.
        """
        if self.dates is None:
            text = self.group(path, "date")
            return None if text is None else [_read_date(text, path, "pattern")] * images
        if callable(self.dates):
            try:
                given = self.dates(path.name)
            except Exception as error:
                raise TimoError(
                    f"dates= raised {type(error).__name__} for {path.name!r}: {error}. Give a function that takes a "
                    "file's name and returns a date."
                ) from error
        elif isinstance(self.dates, Mapping):
            if path.name not in self.dates:
                raise TimoError(
                    f"dates has no entry for {path.name!r}. It needs one per file, by name."
                )
            given = self.dates[path.name]
        elif images > 1 or len(self.dates) == count:
            given = self.dates if images > 1 else self.dates[position]
        elif count == 1 and self.dates and bands % len(self.dates) == 0:
            raise TimoError(
                f"dates gives {len(self.dates)} dates, and {path.name} has {bands} bands: say the names of the "
                f"{bands // len(self.dates)} bands that each date has, in their order: band_names=[...]."
            )
        else:
            raise TimoError(
                f"dates gives {len(self.dates)} dates for {count} files: give one per file, in their order."
            )
        listed = list(given) if isinstance(given, list | tuple) else [given]
        if len(listed) != images:
            raise TimoError(
                f"dates gives {len(listed)} dates, and {path.name} has {images} images: give one for each, in their "
                "order."
            )
        return [_read_date(value, path, "dates") for value in listed]


def misnamed(what: str, count: int, names: Sequence[str | None], mend: str) -> TimoError:
    """Return the error to raise where band_names does not fit what a file holds."""
    return TimoError(
        f"{what} has {count} bands, but band_names names {len(names)}: {list(names)}. {mend}"
    )


def _read_date(value: Any, path: Path, option: str) -> Moment:
    try:
        return as_moment(value)
    except TimoError as error:
        raise TimoError(f"{option} gives {value!r} for {path.name!r}: {error}.") from error


def make_naming(
    dates: Any, pattern: str | None, band_names: str | Sequence[str | None] | None
) -> Naming:
    """Check what the user says of names."""
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise TimoError(
            f"pattern={pattern!r} is no regular expression: {error}. Mend it, or leave it out."
        ) from error
    if compiled is not None and not {"date", "band"} & set(compiled.groupindex):
        raise TimoError(
            f"pattern={pattern!r} has neither a group (?P<date>...) nor (?P<band>...): name what it is to find."
        )
    if dates is not None and not callable(dates) and not isinstance(dates, Mapping):
        listed = isinstance(dates, Iterable) and getattr(dates, "ndim", 1) == 1
        if not listed or isinstance(dates, bytes | Set | Iterator):
            raise TimoError(
                f"dates must be a list, a dict or a function of a file's name; got {described(dates)}. Give a date "
                'for each file, in their order, as ["2018-07-01", ...].'
            )
        dates = [dates] if isinstance(dates, str) else list(dates)
    names = (band_names,) if isinstance(band_names, str) else band_names
    if names is not None and not len(names):
        raise TimoError("band_names is empty. Name the bands of a file in their order.")
    return Naming(dates, compiled, None if names is None else tuple(names))


# --- names of bands


@cache
def simplify(name: str) -> str:
    """Return a name as it is compared: lower case, single underscores, no zeros before a band's number."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    plain = re.sub(r"(?<![a-z0-9])band_?(?=\d)", "b", plain)
    return re.sub(r"(?<![a-z0-9])b0+(?=\d)", "b", plain)


# Sensor's name -> the sensor that it meant, and its aliases: users may register another of the same name.
_known: dict[str, tuple[Sensor, dict[str, str]]] = {}


def aliases(sensor: Sensor) -> dict[str, str]:
    """Return simplified name -> band of the sensor, or its quality layer."""
    if (found := _known.get(sensor.name)) is not None and found[0] is sensor:
        return found[1]
    names: dict[str, str] = {}
    layers = [*sensor.band_names, *filter(None, [sensor.mask_name])]
    # What comes first wins: the sensor's own name before a provider's, a provider's before the usual ones.
    for spellings in _spellings(sensor, layers):
        for layer in layers:
            if spelling := simplify(spellings.get(layer, "")):
                names.setdefault(spelling, layer)
    for usual, common in _USUAL.items():
        if usual not in names and common in names:
            names[usual] = names[common]
    for name in _AMBIGUOUS:
        names.setdefault(name, "")
    _known[sensor.name] = sensor, names
    return names


def _spellings(sensor: Sensor, layers: Sequence[str]) -> Iterable[Mapping[str, str]]:
    yield {layer: layer for layer in layers}
    yield {band.name: band.common_name for band in sensor.bands}
    most = max((len(band.aliases) for band in sensor.bands), default=0)
    for i in range(most):
        yield {band.name: band.aliases[i] for band in sensor.bands if i < len(band.aliases)}
    for collection in sensor.collections:
        yield collection.names
    # Landsat's "B4" is SR_B4, MODIS' "b01" is sur_refl_b01, "pixel_reliability" the layer without its grid.
    yield {layer: re.sub(r"^(sr_|sur_refl_)", "", layer, flags=re.I) for layer in layers}
    for collection in sensor.collections:
        yield {k: re.sub(r"^\d+m_16_days_", "", v) for k, v in collection.names.items()}


def match_band(name: str, sensor: Sensor) -> str | None:
    """Return the band or quality layer that a whole name means; None if it means none."""
    return aliases(sensor).get(simplify(name)) or None


def find_band(text: str, sensor: Sensor) -> str | None:
    """Return the band or quality layer that stands in a file's name; None if none does."""
    bands = bands_in(strip_dates(text), sensor)
    if len(bands) > 1:
        raise TimoError(
            f"{text!r} could be the band {' or '.join(sorted(bands))} of {sensor.name}. "
            r'Say which with pattern=r"...(?P<band>...)..." or band_names=[...].'
        )
    return next(iter(bands), None)


def bands_in(text: str, sensor: Sensor) -> set[str]:
    """Return bands that the most words of a text mean: "red edge 1" holds "red", but more words say more."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    known = aliases(sensor)
    hits: dict[int, set[str]] = {}
    for first in range(len(words)):
        for last in range(first + 1, min(first + _LONGEST, len(words)) + 1):
            if (band := known.get(simplify("_".join(words[first:last])))) is not None:
                hits.setdefault(last - first, set()).add(band)
    return (hits[max(hits)] if hits else set()) - {""}


def recognise(names: Iterable[str], sensor: Sensor) -> str | None:
    """Return the band or quality layer that a layer with these names is, the most trusted name first; None if none."""
    for name in names:
        if is_position(name):
            continue
        if band := match_band(name, sensor) or find_band(name, sensor):
            return band
    return None


def read_bands(bands: str | Sequence[str], sensor: Sensor) -> tuple[str, ...]:
    """Return bands that are asked for, however they are spelt, as the sensor spells them."""
    given = [bands] if isinstance(bands, str) else bands
    return make_bands(sensor, [match_band(name, sensor) or name for name in given])


def is_position(name: str) -> bool:
    """Return whether a name is only a number: "Band 4" is what GDAL calls the fourth, whichever band it may be."""
    return re.fullmatch(r"band[ _]?\d+", name.strip(), re.IGNORECASE) is not None


def is_beside(name: str) -> bool:
    """Return whether a name is that of a layer of the products that no cube holds."""
    words = simplify(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", strip_dates(name))).split("_")
    return any(
        _BESIDES.match("_".join(words[i:j]))
        for i in range(len(words))
        for j in range(i + 1, len(words) + 1)
    )


def is_thermal(name: str, sensor: Sensor) -> bool:
    """Return whether a name is that of a thermal band of Landsat, which no cube holds."""
    return sensor.name.startswith("landsat") and bool(
        re.search(r"(^|(?<!sr)_)b(6|6_vcid_[12]|10|11)$", simplify(strip_dates(name)))
    )
