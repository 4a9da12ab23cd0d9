"""Can the values be what they say they are? Refuses what cannot be, with the figure and the likely factor.

Refused is only what no surface, weather or orbit can give: water is a little negative, snow and glint are beyond 1,
cities are bright in radar, and clouds reach 1.9 in all bands. What remains is a question of scale, or of no data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from timo.checks import checked, described
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sensors.product import BOUNDS

# Values looked at, in all, and pixels of one date, at most and at least; and pixels of a first look.
_LOOKED_AT, _PIXELS, _GLANCE = 1 << 20, (1024, 64), 64
_ENOUGH = 16  # pixels of a date and band whose median counts by itself
# What needs no second look: the least and greatest value, the least and greatest median of a band, and the least that
# the brightest band of a date has.
_PLAIN = {
    "reflectance": (-0.0199, 2.0, -0.015, 1.2, 0.012),
    "backscatter": (-60.0, 30.0, -35.0, -4.5, -35.0),
    "index": (-0.19, 1.2, 0.02, 1.0, 0.02),
    "other": (-math.inf, math.inf, -math.inf, math.inf, -math.inf),
}
_BEYOND = {"reflectance": 20.0, "backscatter": 100.0, "index": 10.0}  # no single value is
# Medians of reflectance: of one band and date at most; of one band over all dates, and of one date, at least.
_BRIGHTEST, _DARKEST, _DARKEST_DATE = 2.5, -0.02, -0.05
_LEAST = {
    "reflectance": 0.9e-4,
    "index": 1.5e-4,
}  # less than a digital number, and than any index that varies
# Shares: of values outside what is plausible; of a number that means no data, below that, and above in all and in one
# date; of pixels with one number in all bands, in all and in one date.
_OUTSIDE, _FILL, _SATURATED, _EMPTY = 0.05, 0.001, (0.005, 0.05), (0.005, 0.05)
_PICTURE = "a picture of 8 bits for the screen, no measurement; open the product's bands"
_UNSURE = ", as their producer says"
# What is wrong with the scale, in words, and the expression that mends it (empty: none does for certain).
_FACTORS = {
    "picture": (_PICTURE, ""),
    "8 bits": ("a scale of 8 bits; divide by 255", "{} / 255"),
    "parts": ("digital numbers in parts of a date; check the factors of each scene", ""),
    "landsat": (
        "digital numbers of Landsat Collection 2; multiply by 0.0000275 and subtract 0.2",
        "{} * 2.75e-5 - 0.2",
    ),
    "stretched": ("numbers stretched to 16 bits; open the product's bands", ""),
    "numbers": ("digital numbers; divide by 10,000", "{} / 10_000"),
    "numbers?": (f"digital numbers; divide by 10,000 or by 1,000{_UNSURE}", ""),
    "/ 1000": ("digital numbers; divide by 1,000", "{} / 1000"),
    "/ 100": ("digital numbers; divide by 100", "{} / 100"),
    "percent": ("percent; divide by 100", "{} / 100"),
    "percent?": (f"percent, or a scale of 8 bits; divide by 100 or by 255{_UNSURE}", ""),
    "/ 10": ("ten times too large; divide by 10", "{} / 10"),
    "/ 10?": (f"percent, or ten times too large; divide by 100 or by 10{_UNSURE}", ""),
    "twice": ("scaled twice; multiply by 10,000", "{} * 10_000"),
    "again": ("divided by 100 once more; multiply by 100", "{} * 100"),
    "offset": (
        "an offset of 0.1 was taken off twice, or where there was none; add 0.1",
        "{} + 0.1",
    ),
    "radar picture": ("a picture of 8 bits; open the backscatter itself", ""),
    "radar numbers": (
        "digital numbers of amplitude; calibrate them, as with ESA SNAP or pyroSAR",
        "",
    ),
    "dB x 10": ("decibels x 10; divide by 10", "{} / 10"),
    "dB x 100": ("decibels x 100; divide by 100", "{} / 100"),
    "dB x 1000": ("decibels x 1,000; divide by 1,000", "{} / 1000"),
    "dB / 100": ("decibels / 100; multiply by 100", "{} * 100"),
    "dB / 10": ("decibels / 10; multiply by 10", "{} * 10"),
    "power": ("linear power; decibels are 10 log10 of it", "10 * numpy.log10({0}.where({0} > 0))"),
    "amplitude": ("amplitude; decibels are 20 log10 of it", "20 * numpy.log10({0}.where({0} > 0))"),
    "power?": (
        "linear power or amplitude; decibels are 10 log10 of power, 20 log10 of amplitude",
        "",
    ),
    "0..200": ("bytes from 0 to 200; subtract 100 and divide by 100", "({} - 100) / 100"),
    "0..255": ("bytes up to 255; open the index itself", ""),
    "other": ("digital numbers; divide by the factor of their producer", ""),
}
# Values of a block that the rules go through.
_LARGE = 2**19
# Digital numbers by which producers say "no data".
_FILLS = (-9999, -999, -99, -32768, -32767, -28672, -3000, 65535, 32767)


@checked
def check_values(
    values: np.ndarray,
    sensor: Sensor | None,
    bands: Sequence[str],
    *,
    what: str = "cube",
    times: Sequence[Any] | np.ndarray | None = None,
    call: bool = True,
    part: bool = False,
) -> None:
    """Check that values can be what their sensor says.

    Parameters
    ----------
    values : numpy.ndarray
        (time, band, y, x) or (band, y, x) physical values, NaN = no valid observation. The least and the greatest are
        those of all; beyond that a sample of each date is looked at.
    sensor : Sensor or None
        Sensor of the bands; None: only infinite values are refused. Of a joint sensor, the bands of each part are
        checked by themselves.
    bands : sequence of str
        Names of the bands.
    what : str
        Name of the array in the messages.
    times : sequence of datetime64, optional
        The dates, for the messages.
    call : bool
        Whether the messages end with the call that mends an array called `what`.
    part : bool
        The values are a part of their dates, in which one number throughout can be a single coarse cell.

    Raises
    ------
    TimoError
        If they cannot: digital numbers, percent, a picture of 8 bits, an offset taken off twice, linear power in place
        of decibels, a number that means no data, a date that is one number throughout, or one on another scale.
    """
    values = values[None] if values.ndim == 3 else values
    _check_shape(values, bands, times)
    least, most = _extremes(values)
    if math.isinf(least) or math.isinf(most):
        mend = f" Use {what}.where(numpy.isfinite({what}))." if call else ""
        raise TimoError(f"The values of {_the(what)} are infinite in places.{mend}")
    if sensor is None or math.isnan(least):
        return
    several = _by_kind(sensor, bands)
    for one, kind, places in several:
        own = one.bounds if kind == one.kind else None
        (low, high), usual = own or BOUNDS[kind], BOUNDS[kind]
        # Bounds beyond the usual ones are those of a user who keeps other numbers: they alone count.
        rules = kind if usual[0] <= low and high <= usual[1] else "other"
        some = values
        if len(several) > 1:
            # Neighbours are looked at without a copy.
            beside = places == list(range(places[0], places[-1] + 1))
            some = values[:, places[0] : places[-1] + 1] if beside else values[:, places]
            least, most = _extremes(some)
        if math.isnan(least) or (
            low <= least and most <= high and _is_plain(some, least, most, rules)
        ):
            continue
        if part and some.size > _LARGE:
            # Many blocks are looked at at once: copies of all of each would take more memory than they.
            step = math.ceil(math.sqrt(some.size / _LARGE))
            some = some[..., ::step, ::step]
        names = [str(bands[i]) for i in places]
        others = len(several) > 1
        look = _Look(some, names, rules, one, (low, high), what, times, call, part, others)
        # Of no known kind: a day's rain, one number for all of a small area, is no fault.
        first = (_check_fill,) if kind == "other" else (_check_constant, _check_fill)
        for rule in (*first, *_RULES[rules]) if look.flat.size else ():
            rule(look)


def _by_kind(sensor: Sensor, bands: Sequence[str]) -> list[tuple[Sensor, str, list[int]]]:
    """Return the places of the bands of each part of a sensor, and of each kind of values in it."""
    found: dict[tuple[str, str], tuple[Sensor, str, list[int]]] = {}
    for i, band in enumerate(bands):
        one = next((p for p in sensor.parts if band in p.band_names), sensor)
        kind = one.kind_of(band) if band in one.band_names else one.kind
        found.setdefault((one.name, kind), (one, kind, []))[2].append(i)
    return list(found.values())


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value; NaN where there is none."""
    least, most = (float(f.reduce(values, axis=None, initial=np.nan)) for f in (np.fmin, np.fmax))
    return least, most


def _check_shape(values: np.ndarray, bands: Sequence[str], times: Any) -> None:
    if values.ndim != 4 or values.dtype.kind not in "iuf" or values.shape[1] != len(bands):
        raise TimoError(
            f"values must be numbers, (time, band, y, x) or (band, y, x), of {len(bands)} bands; got {values.dtype} of "
            f"shape {values.shape}."
        )
    if times is not None and np.shape(times) != (len(values),):
        raise TimoError(
            f"times must be the {len(values)} dates of the values; got {described(times)}."
        )


def _the(what: str) -> str:
    return f"the {what}" if what.isidentifier() else what


def _is_plain(values: np.ndarray, least: float, most: float, kind: str) -> bool:
    """Return whether a first look leaves no question: what a rule below refuses does not pass here."""
    low, high, dark, bright, some = _PLAIN[kind]
    if least < low or most > high:
        return False
    sample = _sample(values, _GLANCE)
    order = np.sort(sample, axis=-1)
    count = (order == order).sum(axis=-1)  # noqa: PLR0124  NaN stand last
    last = np.maximum(count - 1, 0)[..., None]
    medians = np.take_along_axis(order, last // 2, axis=-1)[..., 0]
    spread = np.take_along_axis(order, last, axis=-1)[..., 0] - order[..., 0]
    brightest = np.fmax.reduce(medians, axis=1)
    # Comparisons with NaN, of what was not observed, are false.
    strange = (medians < dark).any() or (medians > bright).any() or (brightest < some).any()
    if strange or (np.fmax.reduce(spread, axis=1) == 0).any():
        return False
    if kind != "reflectance":
        return kind != "backscatter" or not (sample == 0).any()
    hidden = (medians < 0.006) & (brightest[:, None] > 0.05) & (medians.shape[1] > 2)
    zeros = least <= 0 and (sample == 0).all(axis=1).any()
    one = sample.ravel()[:: max(sample.size // 256, 1)]
    one = one[one == one]  # noqa: PLR0124
    whole = any(not (np.abs(one * f - np.rint(one * f)) > 0.02).any() for f in (255, 256))
    # Nothing dark, or nothing beyond what 8 bits give by the product's factor.
    even = np.fmin.reduce(medians, axis=None) > 0.6 or most < 0.026
    return not (zeros or whole or even or hidden.any() or (np.abs(medians) < 2e-4).any())


def _sample(values: np.ndarray, pixels: int) -> np.ndarray:
    """Return (time, band, pixel): evenly spread rows and columns, the first and last among them."""
    rows, columns = _places(*values.shape[2:], pixels)
    return values[:, :, rows, columns].reshape(*values.shape[:2], -1)


@lru_cache(maxsize=64)
def _places(height: int, width: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    side = math.ceil(math.sqrt(pixels))
    sizes = ((height, max(side, -(-pixels // width))), (width, max(side, -(-pixels // height))))
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, k)).astype(int)) for n, k in sizes)
    return rows[:, None], columns


@dataclass
class _Look:
    """Values of one kind, a sample of them, (time, band, pixel), and the words for messages about it."""

    all: np.ndarray
    bands: list[str]
    kind: str
    sensor: Sensor
    limits: tuple[float, float]
    what: str
    times: Sequence[Any] | np.ndarray | None
    call: bool
    part: bool
    others: bool  # the array has bands of another kind or sensor as well

    def __post_init__(self) -> None:
        budget = (_LOOKED_AT >> 3 * self.part) // math.prod(self.all.shape[:2])
        self.values = _sample(self.all, min(max(budget, _PIXELS[1]), _PIXELS[0]))
        self.ordered = np.sort(self.values, axis=-1)
        seen = np.isfinite(self.values)
        self.count, self.flat = seen.sum(axis=-1), self.values[seen]
        self.medians = self.quantiles(0.5)
        known = [self.sensor.band(b) if b in self.sensor.band_names else None for b in self.bands]
        self.wavelengths = np.array([b.wavelength_um if b else math.nan for b in known])
        self.usual = np.array([b.mean if b else math.nan for b in known])

    def quantiles(self, share: float) -> np.ndarray:
        """Return (time, band) quantiles; NaN where nothing was observed."""
        at = (np.maximum(self.count - 1, 0) * share).astype(int)[..., None]
        return np.take_along_axis(self.ordered, at, axis=-1)[..., 0]

    def refuse(self, why: str, mend: str = "") -> NoReturn:
        use = f" Use {mend}." if mend and self.call else ""
        raise TimoError(
            f"The values of {_the(self.what)} cannot be {self.sensor.units}: {why}.{use}"
        )

    def mended(self, expression: str) -> str:
        """Return the call that applies an expression to the array and keeps what it knows."""
        if not expression:
            return ""
        if self.others:
            return self.changed(self.of_bands(), expression, "band")
        return f"({expression.format(self.what)}).assign_attrs({self.what}.attrs)"

    def refuse_cells(self, bad: np.ndarray, name: str, more: str = "", figure: str = "") -> None:
        """Refuse dates, (time,), or dates and bands, (time, band), on another scale: which, by `_FACTORS`."""
        seen, (factor, mend) = self.count > 0, _FACTORS[name]
        bad = (bad if bad.ndim == 2 else bad[:, None]) & seen
        if not bad.any():
            return
        values = self.values[bad]
        figure = figure or f"median {_figure(np.median(values[np.isfinite(values)]))}"
        why = f"{figure}{more}: {factor}"
        bands, dates = (np.flatnonzero(bad.any(axis=axis)) for axis in (0, 1))
        of_dates, names = self.of_dates(dates), [self.bands[b] for b in bands]
        if bad[seen].mean() > 0.5 or (len(self.values) == 1 and len(bands) * 2 > len(self.bands)):
            self.refuse(why, self.mended(mend))
        if len(bands) * 2 > len(self.bands):
            self.refuse(
                f"{self.named(dates)}, on another scale than the other dates: {why}",
                self.changed(of_dates, mend, "time"),
            )
        there, dim, which = f"{self.what}.band.isin({names})", "band", ""
        if len(dates) < seen.any(axis=1).sum():
            which = f" on {self.named(dates)}"
            there, dim = (f"({there} & {of_dates})", "") if mend else (of_dates, "time")
        self.refuse(
            f"band {', '.join(names)}{which}, on another scale than the other bands: {why}",
            self.changed(there, mend, dim),
        )

    def named(self, dates: np.ndarray) -> str:
        if self.times is None:
            names = [f"date {i + 1} of {len(self.values)}" for i in dates[:5]]
        else:
            days = [np.datetime64(self.times[i], "s") for i in dates[:5]]
            names = [str(np.datetime_as_string(day, unit="D")) for day in days]
        return ", ".join(names) + (" ..." if len(dates) > 5 else "")

    def of_dates(self, dates: np.ndarray) -> str:
        """Return the expression that is true on these dates."""
        return f"{self.what}.time.isin({self.what}.time[{[int(i) for i in dates]}])"

    def of_bands(self) -> str:
        """Return the expression that is true in these bands."""
        return f"{self.what}.band.isin({self.bands})"

    def kept(self, condition: str) -> str:
        """Return the call that masks values of these bands where a condition is false."""
        whole = f"({condition}) | ~{self.of_bands()}" if self.others else condition
        return f"{self.what}.where({whole})"

    def changed(self, there: str, expression: str, dim: str) -> str:
        """Return the call that applies an expression where another is true, or leaves that out."""
        if self.others and dim == "time":
            # The date stays, for what the other bands saw on it.
            there = f"({there} & {self.of_bands()})"
            if not expression:
                return f"{self.what}.where(~{there})"
        if not expression:
            return f"{self.what}.sel({dim}=~{there})"
        return f"{self.what}.where(~{there}, {expression.format(self.what)})"


def _figure(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2g} of all,"


# --- No data, and no image


def _check_fill(look: _Look) -> None:
    """Refuse a number that means no data and stands among the values."""
    low, high = look.limits
    for value, number in _fills(look):
        apart = np.abs(look.flat - value)
        share = float((apart <= 1e-6 * max(abs(value), 1e-2)).mean())
        # An index in steps of 0.01 has neighbours of each value; an offset makes many others negative.
        near = (apart < 0.02).mean() > 2 * share or (look.flat < 0).mean() > share + 0.2
        if share >= (_FILL if value < low else 10 * _FILL) and (value < low or not near):
            _refuse_fill(look, value, number)
    lowest = _DARKEST_DATE if look.kind == "reflectance" else low
    for value in {float(f.reduce(look.all, axis=None)) for f in (np.fmin, np.fmax)}:
        if lowest <= value <= high:
            continue
        # Only if the rest is of the right scale; else it is the scale that is wrong.
        rest = look.flat[look.flat != value]
        middle, top = np.percentile(rest, [50, 98]) if rest.size else (high, high)
        offset = low <= value and (rest < 0).mean() > 0.2
        if offset or not (low <= middle and top <= high):
            continue
        there = look.all == np.asarray(value, look.all.dtype)
        count, seen = (x.sum(axis=(1, 2, 3)) for x in (there, np.isfinite(look.all)))
        whole, date = float(count.sum() / seen.sum()), float((count / np.maximum(seen, 1)).max())
        many = count.sum() >= _ENOUGH and (whole >= _SATURATED[0] or date >= _SATURATED[1])
        if many or (value < low and count.sum() > 1 and date >= _FILL):
            _refuse_fill(look, value)
    _check_empty(look)


def _refuse_fill(look: _Look, value: float, number: float | None = None) -> NoReturn:
    there = np.abs(look.all - value) <= 1e-6 * max(abs(value), 1e-2)
    share = _percent(there.sum() / np.isfinite(look.all).sum())
    said = _figure(value)
    for known in _FILLS if number is None else (number,):
        if float(np.float32(known)) == value:
            said = f"{known:,}"
        elif number or float(np.float32(look.sensor.physical(float(known)))) == value:
            said = f"{value:.6g} ({known} in the file)"
    near = f"abs({look.what} - ({value:.7g})) > {abs(value) * 1e-5:.1g}"
    look.refuse(f"{share} of them are {said}, which means no data; mask it first", look.kept(near))


def _fills(look: _Look) -> Iterator[tuple[float, float]]:
    """Yield what numbers of no data have become, as they are and scaled, where they are no likely value."""
    sensor, (low, high), least = look.sensor, look.limits, float(look.flat.min()) * (1 + 1e-6)
    own = [n for n in (sensor.nodata, *(band.nodata for band in sensor.bands)) if n]
    for number in dict.fromkeys((*own, *_FILLS)):
        for value in dict.fromkeys((float(number), sensor.physical(float(number)), number * 1e-4)):
            unlikely = number in own or (look.kind == "reflectance" and value < _DARKEST)
            if least <= value < 0 and (value < low or (value <= high and unlikely)):
                yield float(np.float32(value)), number


def _check_empty(look: _Look) -> None:
    """Refuse pixels that are 0, or the product's number of no data, in all bands; of radar in one."""
    sensor, radar = look.sensor, look.kind == "backscatter"
    fills = {0.0} if look.kind in ("reflectance", "backscatter") else set()
    if sensor.nodata is not None and math.isfinite(sensor.scale):
        fills.add(float(np.float32(sensor.physical(float(sensor.nodata)))))
    together, which = (any, "a band") if radar else (all, "all bands")
    own = f"{look.what}.sel(band={look.bands})" if look.others and not radar else look.what
    apart = "abs({} - ({:g})) > 1e-6" if radar else '(abs({} - ({:g})) > 1e-6).any("band")'
    for value in fills if radar or len(look.bands) > 1 else ():
        if not getattr(look.values == value, together.__name__)(axis=1).any():
            continue
        # The sample holds more of the edges than there is: all is counted.
        same = np.isclose(look.all, value, rtol=1e-6, atol=1e-9)
        empty = getattr(same, together.__name__)(axis=1)
        seen = np.isfinite(look.all).all(axis=1)
        share = float(empty.sum() / max(seen.sum(), 1))
        date = float((empty.sum(axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), _ENOUGH)).max())
        # Decibels that were clipped at 0 come close to it.
        near = radar and ((np.abs(look.flat) < 1) & (look.flat != value)).mean() > share
        enough = share >= _EMPTY[0] or (share >= _FILL and date >= _EMPTY[1])
        # A date of nothing else is met as one number throughout.
        if enough and not near and seen.sum() >= 4 * _ENOUGH and (seen & ~empty).any():
            look.refuse(
                f"{_percent(share)} of the pixels are {value:g} in {which}, which means no data; mask it first",
                look.kept(apart.format(own, value)),
            )


def _check_constant(look: _Look) -> None:
    """Refuse a date that is one number throughout."""
    if look.part:
        return
    seen = look.count.sum(axis=1) >= 4 * _ENOUGH
    top, bottom = np.fmax.reduce(look.values, axis=(1, 2)), np.fmin.reduce(look.values, axis=(1, 2))
    flat = np.flatnonzero(seen & (top == bottom))
    # One band of one number: coarse cells brought to a finer grid, unless other dates show more.
    if not flat.size or (len(look.bands) == 1 and len(flat) == seen.sum()):
        return
    value = _figure(float(top[flat[0]]))
    if len(flat) == seen.sum():
        look.refuse(f"every pixel of a date is one number, e.g. {value}: no image")
    look.refuse(
        f"every pixel of {look.named(flat)} is {value}: no image; leave the date out",
        look.changed(look.of_dates(flat), "", "time"),
    )


def _check_bounds(look: _Look) -> None:
    """Refuse values of which many are outside what is plausible, or one is far beyond."""
    low, high = look.limits
    top = max(high, _BRIGHTEST) if look.limits == BOUNDS["reflectance"] else high
    outside = float(((look.flat < low) | (look.flat > top)).mean())
    if outside > _OUTSIDE:
        look.refuse(
            f"{outside:.0%} of them are outside {low:g}..{top:g} (median {_figure(np.median(look.flat))}); "
            "check scale and offset, or the bounds of the sensor"
        )
    if look.kind not in _BEYOND:
        return
    far, seen = _BEYOND[look.kind], look.count.sum(axis=1)
    share = (look.values > 1.5 * high).sum(axis=(1, 2)) / np.maximum(seen, 4 * _ENOUGH)
    dates = np.flatnonzero(share > _OUTSIDE)
    if dates.size:
        look.refuse(
            f"{share[dates[0]]:.0%} of {look.named(dates)} are over {1.5 * high:g}: a part on another scale; check "
            "the factors of each scene",
            look.changed(look.of_dates(dates), "", "time") if len(dates) < len(seen) else "",
        )
    wild = np.abs(look.all) > far
    if wild.any():
        there = look.all[wild]
        dates = np.flatnonzero(wild.any(axis=(1, 2, 3)))
        look.refuse(
            f"{_percent(wild.sum() / np.isfinite(look.all).sum())} of them, on {look.named(dates)}, are beyond {far:g} "
            f"(as {_figure(float(there[np.abs(there).argmax()]))}): no data, or a part on another scale; mask them",
            look.kept(f"abs({look.what}) <= {far:g}"),
        )


# --- Reflectance


def _check_bright(look: _Look) -> None:
    # Of a few pixels each can be a cloud or glint; all together, over all dates and bands, cannot.
    bad = look.medians > np.where(look.count >= _ENOUGH, _BRIGHTEST, 20.0)
    if not bad.any() and look.flat.size >= _ENOUGH and np.median(look.flat) > 2.2:
        bad = look.count > 0
    if not bad.any():
        return
    # One band by itself, or all bands of the date: then the others are brighter than usual as well.
    seen, brighter = look.count > 0, look.medians / look.usual
    for date in np.flatnonzero(bad.any(axis=1)):
        rest = brighter[date, ~bad[date] & np.isfinite(brighter[date])]
        bad[date] |= not rest.size or np.median(rest) > 3
    by_band = _by_band(brighter, seen)
    if np.median(by_band) < 3:
        bad |= bad.any(axis=0) & (by_band > 5)
    bad &= seen
    values = look.values[bad]
    values = values[np.isfinite(values)]
    low, high, most = np.percentile(values, [2, 98, 100])
    fraction = np.abs(values - np.rint(values)) > 1e-3
    # How much brighter than on other dates, or else than land is.
    usual = _by_band(look.medians, seen & ~bad)
    ratios = _by_band(look.medians, bad) / np.where(np.isfinite(usual), usual, look.usual)
    ratios = ratios[np.isfinite(ratios)]
    # Ten and a thousand are rare: only of what looks like land by its spectrum; else it can be dark percent.
    rare, middle = 10 if high < 20 else 1000, np.median(ratios) if ratios.size else 0
    even = len(ratios) > 2 and 0 < ratios.max() < 12 * ratios.min()
    land = even and high < 0.95 * rare and 0.2 < middle / rare < 5
    rows = (
        (not fraction.any() and values.min() >= 0 and 100 < most <= 255, "picture"),
        (110 < most <= 256, "8 bits"),
        (high > 190 and (fraction & (values < 1.9)).mean() > 0.02, "parts"),
        (low >= 6500, "landsat"),
        (high > 30_000, "stretched"),
        (high >= 1900, "numbers"),
        (high >= 190, "/ 1000" if land else "numbers?"),
        (high >= 20, "percent?" if middle > 180 else "percent"),
        (True, "/ 10" if land else "/ 10?"),
    )
    name = _first(rows)
    up = ", whole numbers up to 255" if name == "picture" else f", up to {most:.0f}"
    look.refuse_cells(bad, name, up if name in ("picture", "8 bits") else "")


def _by_band(cells: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the median over dates of (time, band), where something holds; NaN where it never does."""
    pairs = zip(cells.T, where.T, strict=True)
    return np.array([np.median(band[there]) if there.any() else np.nan for band, there in pairs])


def _first(rows: Sequence[tuple[Any, str]]) -> str:
    """Return what stands behind the first condition that is true."""
    return next(name for true, name in rows if true)


def _check_picture(look: _Look) -> None:
    """Refuse a picture for the screen: whole numbers up to 255, divided by 255 or by the product's factor."""
    scale, offset = look.sensor.scale, look.sensor.offset
    forms = [(255.0, 0.0, "divided by 255"), (256.0, 0.0, "divided by 256")]
    if math.isfinite(scale):
        forms.append((1 / scale, -offset / scale, f"multiplied by {scale:g}"))
    # A sensor of 8 bits, of the user's own, is none.
    for factor, shift, how in forms if look.flat.size >= 200 and not scale > 1 / 300 else ():
        numbers = look.flat * factor + shift
        whole = np.rint(numbers)
        # Float32 holds seven digits.
        if np.abs(numbers - whole).max() > 0.02 or whole.min() < 0 or whole.max() > 255:
            continue
        # Water is dark enough for the product's factor: only a picture fills the range of 8 bits to the brim.
        count = np.unique(whole).size
        full = count >= 100 and whole.min() < 40 and (whole >= 240).mean() > 0.01
        levels = np.median(look.medians, axis=0)
        even = (
            len(levels) > 2 and levels.min() > 0.7 * levels.max() and look.wavelengths.max() > 0.75
        )
        full |= bool(count >= 60 and np.percentile(whole, 98) >= 80 and even)
        if count >= 20 and (how.startswith("divided") or offset or full):
            look.refuse(
                f"all are whole numbers from {whole.min():.0f} to {whole.max():.0f}, {how}: {_PICTURE}"
            )


def _check_small(look: _Look) -> None:
    """Refuse bands that were scaled twice: all values are smaller than a digital number."""
    largest, least = np.abs(np.nan_to_num(look.values)).max(axis=-1), _LEAST[look.kind]
    bad = (largest > 0) & (largest < least) & (look.count >= _ENOUGH)
    look.refuse_cells(bad, "twice", f", none over {least:g}")


def _check_divided(look: _Look) -> None:
    """Refuse a date, a band or all that is a hundredth: shadow and water change the spectrum, a factor does not."""
    enough = (look.count >= _ENOUGH).all(axis=1)
    if len(look.bands) < 3 or not enough.any():
        return
    medians = np.where((look.medians > 0).all(axis=1, keepdims=True), look.medians, np.nan)
    dark = enough & (medians.max(axis=1) < 0.01)
    rest = look.medians[enough & ~dark]
    # Against the other dates, or the spectrum of land where all are dark.
    usual, spread = (np.median(rest, axis=0), 4.0) if len(rest) else (look.usual, 6.0)
    if dark.any() and (usual > 0).all() and look.wavelengths.max() > 0.75:
        ratio = usual / medians
        even = ratio.max(axis=1) < spread * ratio.min(axis=1)
        look.refuse_cells(
            dark & even & (np.median(ratio, axis=1) > 40), "again", ", all bands dark alike"
        )
    # A band between two of which neither is dark; of water and shadow its neighbours are.
    whole, order = np.median(look.medians[enough], axis=0), np.argsort(look.wavelengths)
    for left, band, right in zip(order, order[1:], order[2:], strict=False):
        sides, ratios = whole[[left, right]], whole / look.usual
        bright = 0.05 if look.wavelengths[band] < 0.7 else 0.02
        if (sides > bright).all() and ratios[band] < min(ratios[left], ratios[right]) / 25:
            bad = np.zeros(look.count.shape, bool)
            bad[:, band] = True
            look.refuse_cells(bad, "again", f", of its neighbours {_figure(sides.min())}")


def _check_negative(look: _Look) -> None:
    """Refuse bands that are negative: an offset was taken off twice, or where there was none."""
    parts = [look.values[:, b][np.isfinite(look.values[:, b])] for b in range(len(look.bands))]
    whole = np.array([np.median(part) if part.size else np.nan for part in parts])
    several = (look.count.sum(axis=0) >= _ENOUGH) & (whole < _DARKEST)
    if several.any():
        darkest = int(np.nanargmin(np.where(several, whole, np.nan)))
        negative = float((look.flat < 0).mean())
        figure = f"median {whole[darkest]:.3f} in {look.bands[darkest]}, {negative:.0%} of all are negative: "
        if look.sensor.offset == -0.2 and float(np.median(look.flat)) < -0.04:
            look.refuse(
                f"{figure}numbers of Collection 1 or HLS (x 0.0001), scaled by the factors of Collection 2; scale "
                "them by 0.0001, without an offset",
                look.mended("({0} + 0.2) / 2.75e-5 * 1e-4"),
            )
        offset = 0.1 if whole[darkest] > -0.11 else 0.2
        look.refuse(
            f"{figure}an offset of {offset} was taken off twice, or where there was none; add {offset}",
            look.mended(f"{{}} + {offset}"),
        )
    # Of one date: darker than any, or far darker than the band is otherwise.
    far = (look.medians < 0.6 * _DARKEST_DATE) & (look.medians < whole - 0.06)
    dates = ((look.medians < _DARKEST_DATE) | far) & (look.count >= 4 * _ENOUGH)
    if dates.any():
        figure = f"median {look.medians[dates].min():.3f} in one band"
        look.refuse_cells(dates.any(axis=1), "offset", figure=figure)


def _check_dark(look: _Look) -> None:
    """Refuse land without anything dark: only a cloud is as bright, and it is brightest in the visible."""
    waves = look.wavelengths
    visible, infrared = waves < 0.7, waves > 1.5
    if look.flat.size < 4 * _ENOUGH or not visible.any() or not infrared.any():
        return
    low, middle, high = np.percentile(look.flat, [1, 50, 99])
    if not (0.65 < low < 1.3 < high < 4.5):
        return
    whole = _by_band(look.medians, look.count > 0)
    if np.fmax.reduce(whole[visible]) > 1.1 * np.fmax.reduce(whole[infrared]):
        return
    look.refuse(
        f"median {middle:.2f}, 99% of them over {low:.2f} from the visible to the short-wave infrared: digital "
        f"numbers of Landsat Collection 2, multiplied by 0.0001; multiply by 0.275 and subtract 0.2",
        look.mended("{} * 0.275 - 0.2"),
    )


# --- Backscatter, indices


def _check_power(look: _Look) -> None:
    low, high, medians = look.quantiles(0.02), look.quantiles(0.98), look.medians
    strange = (medians > 40) | (medians < -100)
    if strange.any():
        middle, most = float(np.median(medians[strange])), np.nanmax(look.values[strange])
        scale = 10 ** min(max(round(math.log10(abs(middle) / 12)), 1), 3)
        numbers = "radar picture" if most <= 255 else "radar numbers"
        look.refuse_cells(strange, numbers if middle > 0 else f"dB x {scale}")
    negative = (low < -0.05) & (medians < 0) & (look.count >= 4 * _ENOUGH)
    hundredth = negative & (np.maximum(-low, high) < 1)
    look.refuse_cells(hundredth, "dB / 100", ", hardly any beyond 1")
    # Cross-polarised echoes are never as strong and as even as that.
    tenth = (negative & (medians > -3.5) & (high - low < 1.5)).all(axis=1) & (len(look.bands) > 1)
    look.refuse_cells(tenth, "dB / 10", ", hardly any beyond 3.5")
    # Decibels of land scatter by more than one; noise that was taken off leaves power a little negative.
    linear = (low > -0.05) & (high < 2) & (medians > 0) & (medians < 0.7) & (look.count >= 8)
    if linear.any():
        # Power and amplitude differ in what decibels they give: those nearer to land are meant, if clearly so.
        level = 10 * np.log10(medians[linear])
        usual = np.broadcast_to(look.usual, linear.shape)[linear]
        power, amplitude = (np.abs(level * times - usual).mean() for times in (1, 2))
        clear = "power" if power + 3 < amplitude else "amplitude"
        name = clear if abs(power - amplitude) > 3 else "power?"
        look.refuse_cells(linear, name, ", hardly any negative")
    middle, count = np.median(look.flat), look.flat.size
    if np.percentile(look.flat, 2) >= 0 and count >= (4 if middle > 8 else 64) * _ENOUGH:
        look.refuse(
            f"median {_figure(middle)}, {(look.flat >= 0).mean():.0%} of them are 0 or more: no decibels of land or "
            "water; check what the file holds"
        )


def _check_index(look: _Look) -> None:
    low, high = look.ordered[..., 0], look.quantiles(1.0)
    whole = (low > 0) & (high < 0.0101) & (look.medians > 0.001) & (look.count >= 4 * _ENOUGH)
    look.refuse_cells(whole, "again", ", none over 0.01")
    bad = (np.abs(look.medians) > 1.1) & (look.count >= 4)
    if not bad.any():
        return
    values = look.values[bad]
    least, top, most = np.percentile(values[np.isfinite(values)], [0, 98, 100])
    rows = (
        (least >= 0 and 100 < most <= 200, "0..200"),
        (least >= 0 and 200 < most <= 255, "0..255"),
        (3 <= top <= 12, "/ 10"),
        (20 <= top <= 120, "/ 100"),
        (1200 <= top <= 12_000, "numbers"),
        (300 < top < 1200, "numbers?"),
        (True, "other"),
    )
    look.refuse_cells(bad, _first(rows))


_RULES: dict[str, tuple[Callable[[_Look], None], ...]] = {
    "reflectance": (
        *(_check_dark, _check_bright, _check_picture, _check_small),
        *(_check_divided, _check_negative, _check_bounds),
    ),
    "backscatter": (_check_power, _check_bounds),
    "index": (_check_index, _check_small, _check_bounds),
    "other": (_check_bounds,),
}
