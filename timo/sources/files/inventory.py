"""The layers of raster files, each with its date and with what its file calls it; and files with a date per band."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timo.errors import TimoError, warn
from timo.sensors import Identity, identify
from timo.sources.dates import Moment, date_of_name, date_of_tags, date_of_text, strip_dates
from timo.sources.files.coordinates import placed
from timo.sources.files.naming import Naming, is_position, misnamed
from timo.sources.reading import Header, Layer, RasterLayer, read_header

_HEADERS_AT_ONCE = 16
_IMAGE = re.compile(r"^(?P<image>\d+(?:_\d+)*)_(?P<band>.+)$")


@dataclass(frozen=True)
class Found:
    """A layer with its date and with what it may be called, in order of trust, before its band is known."""

    layer: Layer
    moment: Moment
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Return its file."""
        return Path(self.layer.path)


@dataclass(frozen=True)
class Inventory:
    """The layers of files, whose images they are, and whether timo wrote all of them.

    Whose: of files that say so, and of bands that say so themselves, as if these were files in a folder.
    """

    found: list[Found]
    identities: dict[Path, Identity]
    ours: bool = False


def identities_of(tags: Mapping[Path, Mapping[str, Any]]) -> dict[Path, Identity]:
    """Return whose images files are, by their names, last folders and tags."""
    found: dict[Path, Identity] = {}
    for path, own in tags.items():
        if one := identify("/".join(path.parts[-4:]), texts_of(own)):
            found[path] = one
    return found


def texts_of(tags: Mapping[Any, Any]) -> dict[str, str]:
    """Return tags or attributes as text."""
    return {str(key): str(value) for key, value in tags.items()}


def date_of(path: Path, tags: Mapping[str, Any], own: Moment | None = None) -> Moment | None:
    """Return when a file was taken: as it states itself (`own`, or its tags), else as its name says; None if neither.

    A name that differs by more than a day is warned of: it may say when the file was written.
    """
    stated = own or date_of_tags(tags)
    try:
        named = date_of_name(path)
    except TimoError:  # two dates in the name: the file says which
        if stated is None:
            raise
        named = None
    if stated is None or named is None:
        return stated or named
    if abs((stated.time - named.time).total_seconds()) > 86_400:
        warn(
            f"{path.name} has {named} in its name, and states {stated} itself: that is taken. If the name is right, "
            "give dates=[...] or pattern=."
        )
    same = stated.time.normalize() == named.time.normalize()
    return named if same and named.exact and not stated.exact else stated


def no_date(path: Path) -> TimoError:
    """Return the error to raise for a file without a date."""
    return TimoError(
        f"{path} has no date in its name or its tags. Names are read that hold 20180701, 2018-07-01, 2018_07_01, "
        "2018182 (day of the year) or 20180701T092031, and tags such as ACQUISITION_DATE or start_datetime. Else say "
        "it: dates=[...], one per file, or one per image of a file (with band_names=[...] of one image); "
        r'dates=lambda name: ...; or pattern=r"(?P<date>...)", a regular expression of the name.'
    )


def find_rasters(paths: Sequence[Path], naming: Naming) -> Inventory:
    """Find the layers of raster files; only headers are read."""
    found: list[Found] = []
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        headers = [replace(h, tags=_mended(h.tags)) for h in pool.map(read_header, paths)]
    tags: dict[Path, Mapping[str, Any]] = {h.path: h.tags for h in headers}
    for position, header in enumerate(headers):
        moments = _moments(header, (position, len(paths)), naming)
        remedy = f'Write the right CRS into it: gdal_edit.py -a_srs EPSG:... "{header.path.name}".'
        grid = placed(header.grid, f"The coordinates of {header.path}", remedy)
        for i, names in enumerate(_names(header, naming, moments)):
            if names:
                label = f"band {header.indexes[i]} of {header.path}"
                at, numbers = header.indexes[i], header.numbers[i]
                layer = RasterLayer(str(header.path), at, numbers, grid, label)
                found.append(Found(layer, moments[i], names))
                # Of a stack: the images that Earth Engine's toBands joins may be of several satellites.
                text = header.descriptions[i].replace("/", " ")
                if text and identify(text):
                    tags[header.path / text] = {}
    ours = all(h.tags.get("TIFFTAG_SOFTWARE", "").startswith("timo") for h in headers)
    return Inventory(found, identities_of(tags), ours)


def _mended(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags with Earth Engine's names, as system:index, which GDAL cuts at the colon."""
    key, equals, value = tags.get("system", "").partition("=")
    return {**tags, **({f"system:{key}": value} if equals else {})}


# --- dates of bands


def _moments(header: Header, place: tuple[int, int], naming: Naming) -> list[Moment]:
    """Return the date of each band: of its own tags and description, else of its image, else of the file.

    Stacks with a date per band come from Earth Engine's toBands, from FORCE, and from `timo.export`; those without any
    names (eo-learn) need dates= and band_names=.
    """
    own = _own_moments(header)
    path, count = header.path, len(header.indexes)
    images = _images(header, naming) if own is None else _positions(own)
    given = naming.moments(path, *place, max(images) + 1, count)
    if given is not None:
        return [given[image] for image in images]
    if own is not None:
        return own
    if max(images) > 0:
        n = max(images) + 1
        raise TimoError(
            f"{path} has {count} bands, {n} images of {count // n} bands each, without dates: give one for each image, "
            "in their order, with dates=[...]; if it is one image, name all of its bands with band_names=[...]."
        )
    moment = date_of(path, header.tags)
    if moment is None:
        raise no_date(path)
    return [moment] * count


def _own_moments(header: Header) -> list[Moment] | None:
    """Return the dates that the bands state themselves, if all do."""
    own = [
        date_of_tags(tags) or date_of_text(text, f"A band of {header.path}")
        for tags, text in zip(header.band_tags, header.descriptions, strict=True)
    ]
    return None if None in own else own  # type: ignore[return-value]


def _positions(items: Sequence[Any]) -> list[int]:
    """Return for each the position among the different ones, in their order."""
    order = {item: i for i, item in enumerate(dict.fromkeys(items))}
    return [order[item] for item in items]


def _images(header: Header, naming: Naming) -> list[int]:
    """Return for each band of a file without dates of bands the position of its image."""
    count, names = len(header.indexes), naming.band_names
    matches = [match for text in header.descriptions if (match := _IMAGE.match(text))]
    if names is None and len(matches) == count:
        prefixes, bands = zip(*(match.groups() for match in matches), strict=True)
        each = len(set(bands))
        if len(set(prefixes)) * each == count and bands == bands[:each] * (count // each):
            return _positions(prefixes)
    each = count
    if names is not None and count % len(names) == 0:
        each = len(names)
    elif names is None and isinstance(naming.dates, list) and len(naming.dates) == count > 1:
        each = 1 if not any(filter(None, header.descriptions)) else count
    return [i // each for i in range(count)]


# --- names of bands


def _names(header: Header, naming: Naming, moments: Sequence[Moment]) -> list[tuple[str, ...]]:
    """Return what each band of a raster may be called; nothing for one that is left out."""
    count = len(header.indexes)
    if band := naming.group(header.path, "band"):
        return [(band,)] * count
    if naming.band_names is not None:
        return _given_names(header, naming.band_names, moments)
    several = count > 1 and len(set(moments)) < count
    stem = () if several else (header.tags.get("TIMO_BAND", ""), header.path.stem)
    return [
        tuple(filter(None, (_plain_name(text), tags.get("BAND_NAME", ""), *stem))) or (f"band {i}",)
        for i, (text, tags) in enumerate(zip(header.descriptions, header.band_tags, strict=True), 1)
    ]


def _plain_name(description: str) -> str:
    """Return a description without the date and the position of an image: "0_B4" is B4."""
    text = description if is_position(description) else strip_dates(description).strip(" _-")
    match = _IMAGE.match(text)
    return match["band"] if match else text


def _given_names(
    header: Header, given: Sequence[str | None], moments: Sequence[Moment]
) -> list[tuple[str, ...]]:
    count = len(header.indexes)
    if count % len(given):
        mend = "Files of another kind are left out with a narrower path."
        raise misnamed(str(header.path), count, given, mend)
    images = len(dict.fromkeys(moments))
    if count // len(given) not in (1, images):
        mend = f"They are of {images} dates: name the bands of one date, or all."
        raise misnamed(str(header.path), count, given, mend)
    return [(name,) if (name := given[i % len(given)]) else () for i in range(count)]
