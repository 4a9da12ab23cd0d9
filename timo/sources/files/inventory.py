"""What lies in the files: layers, each with its date and with what the file calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timo.errors import TimoError
from timo.sources.files.dates import Moment, as_moment, date_of_name, date_of_tags
from timo.sources.files.geotiff import Header, read_headers
from timo.sources.files.layers import Layer, Numbers, RasterLayer

_NO_DATE = (
    "Names are read that hold 20180701, 2018-07-01, 2018_07_01, 2018182 (day of the year) or 20180701T092031, and tags "
    "such as ACQUISITION_DATE or TIFFTAG_DATETIME. Else say it: dates=[...], one per file; dates=lambda name: ...; or "
    r'pattern=r"(?P<date>...)", a regular expression of the name.'
)


@dataclass(frozen=True)
class Found:
    """A layer before it is known which band it is.

    Attributes
    ----------
    layer : Layer
        Where its numbers are.
    moment : Moment
        When it was observed.
    names : tuple of str
        What it may be called, in order of trust.
    """

    layer: Layer
    moment: Moment
    names: tuple[str, ...]


@dataclass(frozen=True)
class Naming:
    """What the user says of names and dates.

    Attributes
    ----------
    dates : list, mapping or callable, optional
        One date per file, in their order; or from a file's name to its date.
    pattern : re.Pattern, optional
        With groups `date` and/or `band`.
    band_names : tuple, optional
        Bands of a file by position; None for one that is left out.
    """

    dates: Any = None
    pattern: re.Pattern[str] | None = None
    band_names: tuple[str | None, ...] | None = None

    def group(self, path: Path, name: str) -> str | None:
        """What a group of the pattern holds in a file's name; None if the pattern has no such group."""
        if self.pattern is None or name not in self.pattern.groupindex:
            return None
        match = self.pattern.search(path.name) or self.pattern.search(path.as_posix())
        if not match or not match[name]:
            raise TimoError(
                f"pattern={self.pattern.pattern!r} does not find a {name} in {path.name!r}. Mend the pattern, or leave "
                "the file out."
            )
        return match[name]


def make_naming(dates: Any, pattern: Any, band_names: Sequence[str | None] | None) -> Naming:
    """Check what the user says of names.

    Raises
    ------
    TimoError
        If the pattern is no regular expression with a group `date` or `band`, or the names are no list.
    """
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except (re.error, TypeError) as error:
        raise TimoError(f"pattern={pattern!r} is no regular expression: {error}.") from error
    if compiled is not None and not {"date", "band"} & set(compiled.groupindex):
        raise TimoError(
            f"pattern={pattern!r} has neither a group (?P<date>...) nor (?P<band>...): name what it is to find."
        )
    if dates is not None and not (callable(dates) or isinstance(dates, Mapping | Iterable)):
        raise TimoError(
            f"dates must be a list, a dict or a function of a file's name; got {dates!r}."
        )
    if band_names is not None and not isinstance(band_names, Iterable):
        raise TimoError(f'band_names must be a list, as ["B2", None, "B4"]; got {band_names!r}.')
    if isinstance(band_names, str):
        band_names = (band_names,)
    return Naming(dates, compiled, None if band_names is None else tuple(band_names))


def given_date(path: Path, position: int, count: int, naming: Naming) -> Moment | None:
    """The date that the user gives a file, by `dates` or by the pattern; None if by neither.

    Raises
    ------
    TimoError
        If there are not as many dates as files, or one is no date.
    """
    dates = naming.dates
    if dates is None:
        text = naming.group(path, "date")
        return None if text is None else _read_date(text, path, "pattern")
    if isinstance(dates, Callable):  # type: ignore[arg-type]
        return _read_date(dates(path.name), path, "dates")
    if isinstance(dates, Mapping):
        if path.name not in dates:
            raise TimoError(
                f"dates has no entry for {path.name!r}. It needs one per file, by name."
            )
        return _read_date(dates[path.name], path, "dates")
    if isinstance(dates, str) or len(dates) != count:
        n = 1 if isinstance(dates, str) else len(dates)
        raise TimoError(
            f"dates gives {n} dates for {count} files: give one per file, in their order."
        )
    return _read_date(dates[position], path, "dates")


def _read_date(value: Any, path: Path, option: str) -> Moment:
    try:
        return as_moment(value)
    except (ValueError, TypeError) as error:
        raise TimoError(
            f"{option} gives {value!r} for {path.name!r}, which is no date; write it as 2018-07-01."
        ) from error


def date_of(
    path: Path, position: int, count: int, naming: Naming, tags: Mapping[str, str]
) -> Moment:
    """When a file was taken: as the user says, else by its name, else by its tags.

    Raises
    ------
    TimoError
        If nothing says.
    """
    moment = given_date(path, position, count, naming) or date_of_name(path) or date_of_tags(tags)
    if moment is None:
        raise TimoError(f"{path} has no date in its name or its tags. {_NO_DATE}")
    return moment


def find_rasters(paths: Sequence[Path], naming: Naming) -> list[Found]:
    """Layers of raster files; only headers are read.

    Raises
    ------
    TimoError
        If a file cannot be read, has no date, or has another number of bands than `band_names`.
    """
    found = []
    for position, header in enumerate(read_headers(paths)):
        moment = date_of(header.path, position, len(paths), naming, header.tags)
        names = _names(header, naming)
        for index, candidates in enumerate(names, start=1):
            if candidates:
                layer = RasterLayer(header.path, header.grid, _numbers(header, index), index)
                found.append(Found(layer, moment, candidates))
    return found


def _names(header: Header, naming: Naming) -> list[tuple[str, ...]]:
    """What each band of a raster may be called; nothing for one that is left out."""
    count = len(header.dtypes)
    if band := naming.group(header.path, "band"):
        return [(band,)] * count
    if naming.band_names is not None:
        if len(naming.band_names) != count:
            raise TimoError(
                f"{header.path} has {count} bands, but band_names names {len(naming.band_names)}: "
                f"{list(naming.band_names)}. Files of another kind are left out with a narrower path."
            )
        return [(name,) if name else () for name in naming.band_names]
    stem = (header.path.stem,) if count == 1 else ()
    return [
        tuple(filter(None, (text, *stem))) or (f"band {i}",)
        for i, text in enumerate(header.descriptions, 1)
    ]


def _numbers(header: Header, index: int) -> Numbers:
    """What the numbers of a band mean; GDAL says scale 1 and offset 0 where a file says nothing."""
    scale, offset = header.scales[index - 1], header.offsets[index - 1]
    said = (scale, offset) != (1.0, 0.0)
    return Numbers(
        header.dtypes[index - 1],
        header.nodata[index - 1],
        scale if said else None,
        offset if said else None,
    )
