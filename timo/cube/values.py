"""Can the values be what they say they are? Refuses what cannot be, with the figure and the likely factor.

Refused is only what no surface, weather or orbit can give: water is a little negative, snow and glint are beyond 1,
cities are bright in radar, and missed clouds are bright in all bands. What remains is a question of scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sensors.product import BOUNDS

# Values looked at, in all, and pixels of one date, at most and at least.
_LOOKED_AT = 1 << 20
_PIXELS = (1024, 64)
# Pixels of a date and band whose median counts by itself.
_ENOUGH = 16
# A reflectance beyond this is no median of anything; a smaller one than that is less than half a digital number.
_BRIGHTEST, _LEAST = 1.6, 1.5e-4
_DARKEST = -0.02  # the median of a band, over all dates
_DARKEST_DATE = -0.05  # and of one date
# Shares of values: outside what is plausible; of one number that means no data, negative and positive; of pixels with
# one number in all bands.
_OUTSIDE, _FILL, _SATURATED, _EMPTY = 0.05, 0.001, 0.05, 0.01
# Digital numbers by which producers say "no data".
_PICTURE = "a picture of 8 bits for the screen, no measurement; open the product's bands"
_FILLS = (-9999, -999, -99, -32768, -32767, -28672, -3000, 65535, 32767)


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
        (time, band, y, x) or (band, y, x) physical values, NaN = no valid observation. Of a large array a sample of
        each date is looked at.
    sensor : Sensor or None
        Sensor of the bands; None: only infinite values are refused.
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
    sample = _sample(values)
    if np.isinf(sample).any():
        _refuse(f"The {what} holds infinite values", f"{what}.where(numpy.isfinite({what}))", call)
    if sensor is None or not np.isfinite(sample).any():
        return
    kinds: dict[str, list[int]] = {}
    for i, band in enumerate(bands):
        known = band in sensor.band_names
        kinds.setdefault(sensor.kind_of(band) if known else sensor.kind, []).append(i)
    for kind, places in kinds.items():
        look = _Look(
            sample[:, places], [str(bands[i]) for i in places], kind, sensor, what, times, call
        )
        if not part:
            _check_constant(look)
        _check_fill(look)
        (low, high), usual = look.limits, BOUNDS[kind]
        # Bounds beyond the usual ones are those of a user who keeps other numbers: they alone count.
        _CHECKS[kind if usual[0] <= low and high <= usual[1] else "other"](look)


def _sample(values: np.ndarray) -> np.ndarray:
    """Return (time, band, pixel) float64: every n-th row and column of each date."""
    dates, bands, height, width = values.shape
    pixels = min(max(_LOOKED_AT // max(dates * bands, 1), _PIXELS[1]), _PIXELS[0])
    step = max(math.ceil(math.sqrt(height * width / pixels)), 1)
    rows, columns = (slice(min(step // 2, size - 1), None, step) for size in (height, width))
    return values[:, :, rows, columns].reshape(dates, bands, -1).astype("float64")


@dataclass(frozen=True)
class _Verdict:
    """Why values cannot be: the figure, the likely factor, and the expression that mends them (empty: none does)."""

    figure: str
    factor: str
    expression: str = ""


@dataclass
class _Look:
    """A sample of one kind of values, (time, band, pixel), and the words for messages about it."""

    values: np.ndarray
    bands: list[str]
    kind: str
    sensor: Sensor
    what: str
    times: Sequence[Any] | np.ndarray | None
    call: bool

    def __post_init__(self) -> None:
        self.count = np.isfinite(self.values).sum(axis=-1)
        self.flat = self.values[np.isfinite(self.values)]

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest plausible value."""
        own = self.sensor.bounds if self.kind == self.sensor.kind else None
        return own or BOUNDS[self.kind]

    def medians(self) -> np.ndarray:
        """Return the median (time, band) of each date and band; NaN where nothing was observed."""
        middle = np.maximum(self.count - 1, 0)[..., None] // 2
        found = np.take_along_axis(np.sort(self.values, axis=-1), middle, axis=-1)[..., 0]
        return np.where(self.count > 0, found, np.nan)

    def date(self, i: int) -> str:
        if self.times is None:
            return f"date {i + 1} of {len(self.values)}"
        return str(np.datetime_as_string(np.datetime64(self.times[i], "s"), unit="D"))

    def refuse(self, why: str, mend: str = "") -> NoReturn:
        _refuse(f"The {self.what}'s values cannot be {self.sensor.units}: {why}", mend, self.call)

    def mended(self, expression: str) -> str:
        """Return the call that applies an expression to the array and keeps what it knows."""
        return f"({expression.format(self.what)}).assign_attrs({self.what}.attrs)"

    def refuse_cells(self, bad: np.ndarray, tell: Callable[[np.ndarray], _Verdict]) -> None:
        """Refuse dates and bands, (time, band) bool, on another scale; `tell` explains their values."""
        seen = self.count > 0
        bad = bad & seen
        if not bad.any():
            return
        verdict = tell(self.values[bad][np.isfinite(self.values[bad])])
        why = f"{verdict.figure}: {verdict.factor}"
        if bad[seen].mean() > 0.5:
            self.refuse(why, self.mended(verdict.expression) if verdict.expression else "")
        bands = np.flatnonzero(bad.any(axis=0))
        dates = np.flatnonzero(bad.any(axis=1))
        if len(bands) * 2 <= len(self.bands) and len(dates) > 1:
            names = [self.bands[b] for b in bands]
            there = f"{self.what}.band.isin({names})"
            self.refuse(
                f"band {', '.join(names)}, on another scale than the other bands: {why}",
                self.changed(there, verdict.expression, "band"),
            )
        self.refuse(
            f"{self.named(dates)}, on another scale than the other dates: {why}",
            self.changed(self.of_dates(dates), verdict.expression, "time"),
        )

    def named(self, dates: np.ndarray) -> str:
        return ", ".join(self.date(int(i)) for i in dates[:5]) + (" ..." if len(dates) > 5 else "")

    def of_dates(self, dates: np.ndarray) -> str:
        """Return the expression that is true on these dates."""
        return f"{self.what}.time.isin({self.what}.time[{[int(i) for i in dates]}])"

    def changed(self, there: str, expression: str, dim: str) -> str:
        """Return the call that applies an expression where another is true, or leaves that out."""
        if not expression:
            return f"{self.what}.sel({dim}=~{there})"
        return f"{self.what}.where(~{there}, {expression.format(self.what)})"


def _refuse(why: str, mend: str, call: bool) -> NoReturn:
    raise TimoError(f"{why}. Use {mend}." if mend and call else f"{why}.")


def _figure(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"


def _check_fill(look: _Look) -> None:
    """Refuse a number that means no data and stands among the values."""
    low, high = look.limits
    for value, number in _fills(look):
        share = float((np.abs(look.flat - value) <= 1e-6 * max(abs(value), 1e-2)).mean())
        if share >= (_SATURATED if value > high else _FILL if value < low else 10 * _FILL):
            said = f"{number:,}" if value == number else f"{value:.6g} ({number} in the file)"
            near = f"{look.what}.where(abs({look.what} - ({value:.7g})) > {abs(value) * 1e-5:.1g})"
            look.refuse(f"{share:.1%} of them are {said}, which means no data; mask it first", near)
    least = float(look.flat.min())
    share = float((look.flat == least).mean())
    if least < low and share >= _FILL and (look.flat == least).sum() > 1:
        look.refuse(
            f"{share:.1%} of them are {_figure(least)}, which means no data; mask it first",
            f"{look.what}.where({look.what} > {low:g})",
        )
    if len(look.bands) > 1:
        _check_empty(look)


def _fills(look: _Look) -> Iterator[tuple[float, int]]:
    """Yield what numbers of no data have become, as they are and scaled, where they are no likely value."""
    sensor, (low, high) = look.sensor, look.limits
    own = [n for n in (sensor.nodata, *(band.nodata for band in sensor.bands)) if n]
    for number in dict.fromkeys((*own, *_FILLS)):
        for value in dict.fromkeys((float(number), sensor.physical(float(number)), number * 1e-4)):
            unlikely = number in own or (look.kind == "reflectance" and value < _DARKEST)
            if not low <= value <= high or (unlikely and value < 0):
                yield float(np.float32(value)), number


def _check_empty(look: _Look) -> None:
    """Refuse pixels that are 0, or the product's number of no data, in all bands."""
    sensor = look.sensor
    seen = np.isfinite(look.values).all(axis=1)
    fills = {0.0} if look.kind == "reflectance" else set()
    if sensor.nodata is not None and math.isfinite(sensor.scale):
        fills.add(float(np.float32(sensor.physical(float(sensor.nodata)))))
    for value in fills:
        empty = np.isclose(look.values, value, rtol=1e-6, atol=1e-9).all(axis=1)
        share = empty.sum() / max(seen.sum(), 1)
        # A date of nothing else is met as one number throughout.
        if share >= _EMPTY and seen.sum() >= 4 * _ENOUGH and (seen & ~empty).any():
            look.refuse(
                f"{share:.1%} of the pixels are {value:g} in all bands, which means no data; mask it first",
                f'{look.what}.where((abs({look.what} - ({value:g})) > 1e-6).any("band"))',
            )


def _check_constant(look: _Look) -> None:
    """Refuse a date that is one number throughout."""
    with np.errstate(invalid="ignore"):
        low, high = (np.nanmin, np.nanmax)
        seen = look.count.sum(axis=1) >= 4 * _ENOUGH
        same = [i for i in np.flatnonzero(seen) if low(look.values[i]) == high(look.values[i])]
    flat = np.array(same, dtype=int)
    # One band of one number: coarse cells brought to a finer grid, unless other dates show more.
    if not flat.size or (len(look.bands) == 1 and len(flat) == seen.sum()):
        return
    value = _figure(float(np.nanmax(look.values[flat[0]])))
    if len(flat) == seen.sum():
        look.refuse(f"every pixel of a date is one number, e.g. {value}: no image")
    look.refuse(
        f"every pixel of {look.named(flat)} is {value}: no image; leave the date out",
        look.changed(look.of_dates(flat), "", "time"),
    )


def _check_bounds(look: _Look) -> None:
    """Refuse values of which many are outside what is plausible."""
    low, high = look.limits
    outside = (look.flat < low) | (look.flat > high)
    if outside.mean() > _OUTSIDE:
        look.refuse(
            f"{outside.mean():.0%} of them are outside {low:g}..{high:g} (median {_figure(np.median(look.flat))}); "
            "check scale and offset, or the bounds of the sensor"
        )


# --- Reflectance


def _check_reflectance(look: _Look) -> None:
    _check_dark(look)
    medians = look.medians()
    # Of a few pixels each can be a cloud or glint; all together, over all dates and bands, cannot.
    bright = medians > np.where(look.count >= _ENOUGH, _BRIGHTEST, 20.0)
    if not bright.any() and look.flat.size >= _ENOUGH and np.median(look.flat) > _BRIGHTEST:
        bright = look.count > 0
    look.refuse_cells(bright, _tell_bright)
    _check_picture(look)
    _check_small(look)
    _check_dark_dates(look, medians)
    _check_negative(look, medians)
    _check_bounds(look)


def _tell_bright(values: np.ndarray) -> _Verdict:
    low, middle, high = np.percentile(values, [2, 50, 98])
    figure = f"median {_figure(middle)}"
    most, whole = values.max(), np.abs(values - np.rint(values)).max() < 1e-3
    if whole and values.min() >= 0 and 100 < most <= 255:
        return _Verdict(f"{figure}, whole numbers up to 255", _PICTURE)
    if high <= 110:
        other = (
            ", or a scale of 8 bits; divide by 100, or by 255" if middle > 25 else "; divide by 100"
        )
        return _Verdict(figure, f"percent{other}", "{} / 100")
    if most <= 256:
        return _Verdict(
            f"{figure}, up to {most:.0f}", "a scale of 8 bits; divide by 255", "{} / 255"
        )
    if low >= 6500:
        factor = "digital numbers of Landsat Collection 2; multiply by 0.0000275 and subtract 0.2"
        return _Verdict(figure, factor, "{} * 2.75e-5 - 0.2")
    if high > 30_000:
        return _Verdict(figure, "numbers stretched to 16 bits; open the product's bands")
    return _Verdict(figure, "digital numbers; divide by 10,000", "{} / 10_000")


def _check_picture(look: _Look) -> None:
    """Refuse a picture for the screen: whole numbers up to 255, divided by 255 or by the product's factor."""
    if look.flat.size < 200:
        return
    scale, offset = look.sensor.scale, look.sensor.offset
    forms = [(255.0, 0.0, "divided by 255"), (256.0, 0.0, "divided by 256")]
    if math.isfinite(scale):
        forms.append((1 / scale, -offset / scale, f"multiplied by {scale:g}"))
    for factor, shift, how in forms:
        numbers = look.flat * factor + shift
        whole = np.rint(numbers)
        # Float32 holds seven digits.
        if np.abs(numbers - whole).max() > 0.02 or whole.min() < 0 or whole.max() > 255:
            continue
        # Water is dark enough for the product's factor: only a picture fills the range of 8 bits to the brim.
        numbers_seen = np.unique(whole).size
        full = numbers_seen >= 100 and whole.min() < 40 and (whole >= 240).mean() > 0.01
        if numbers_seen >= 20 and (how.startswith("divided") or offset or full):
            look.refuse(
                f"all are whole numbers from {whole.min():.0f} to {whole.max():.0f}, {how}: {_PICTURE}"
            )


def _check_small(look: _Look) -> None:
    """Refuse values that were scaled twice: all are smaller than a digital number."""
    largest = np.abs(np.nan_to_num(look.values)).max(axis=(1, 2))
    # Of a date as a whole: over water the short-wave infrared is nothing but noise.
    small = (largest > 0) & (largest < _LEAST) & (look.count.sum(axis=1) >= _ENOUGH)
    look.refuse_cells(
        np.broadcast_to(small[:, None], look.count.shape),
        lambda values: _Verdict(
            f"median {_figure(np.median(values))}, none over {_LEAST:g}",
            "scaled twice; multiply by 10,000",
            "{} * 10_000",
        ),
    )


def _check_dark_dates(look: _Look, medians: np.ndarray) -> None:
    """Refuse a date that is darker by a factor of 50 or more: no shadow is as deep in all bands."""
    if len(medians) < 3 or len(look.bands) < 2 or not any(c < 0.7 for c in _wavelengths(look)):
        return
    enough = (look.count >= _ENOUGH).all(axis=1)
    if enough.sum() < 3:
        return
    usual = np.median(medians[enough], axis=0)
    brightest = int(usual.argmax())
    dark = np.abs(medians).max(axis=1) < min(0.02, usual[brightest] / 50)
    look.refuse_cells(
        np.broadcast_to((dark & enough)[:, None], look.count.shape),
        lambda values: _Verdict(
            f"median {_figure(np.median(values))}, of all dates {_figure(np.median(look.flat))}",
            "divided by 100 once more; multiply by 100",
            "{} * 100",
        ),
    )


def _check_negative(look: _Look, medians: np.ndarray) -> None:
    """Refuse bands that are negative: an offset was taken off twice, or where there was none."""
    parts = [look.values[:, b][np.isfinite(look.values[:, b])] for b in range(len(look.bands))]
    whole = np.array([np.median(part) if part.size else np.nan for part in parts])
    several = (look.count.sum(axis=0) >= _ENOUGH) & (whole < _DARKEST)
    # Of one date: darker than any, or far darker than the band is otherwise.
    dates: np.ndarray = (medians < _DARKEST_DATE) | (
        (medians < 0.6 * _DARKEST_DATE) & (medians < whole - 0.06)
    )
    dates &= look.count >= 4 * _ENOUGH
    if several.any():
        darkest = int(np.nanargmin(np.where(several, whole, np.nan)))
        negative = float((look.flat < 0).mean())
        figure = f"median {whole[darkest]:.3f} in {look.bands[darkest]}, {negative:.0%} of all are negative"
        overall = float(np.median(look.flat))
        if look.sensor.offset == -0.2 and overall < -0.04:
            look.refuse(
                f"{figure}: numbers of Collection 1 or HLS (x 0.0001), scaled by the factors of Collection 2; scale "
                "them by 0.0001, without an offset",
                look.mended("({0} + 0.2) / 2.75e-5 * 1e-4"),
            )
        offset = 0.1 if whole[darkest] > -0.11 else 0.2
        look.refuse(
            f"{figure}: an offset of {offset} was taken off twice, or where there was none; add {offset}",
            look.mended(f"{{}} + {offset}"),
        )
    if dates.any():
        look.refuse_cells(
            np.broadcast_to(np.asarray(dates.any(axis=1))[:, None], dates.shape),
            lambda _: _Verdict(
                f"median {np.nanmin(np.where(dates, medians, np.nan)):.3f} in one band",
                "an offset of 0.1 was taken off twice, or where there was none; add 0.1",
                "{} + 0.1",
            ),
        )


def _check_dark(look: _Look) -> None:
    """Refuse a cube without anything dark: nothing is as bright as a cloud from the blue to the short-wave infrared."""
    codes = _wavelengths(look)
    if (
        look.flat.size < 4 * _ENOUGH
        or not any(c < 0.7 for c in codes)
        or not any(c > 1.5 for c in codes)
    ):
        return
    low, middle, high = np.percentile(look.flat, [1, 50, 99])
    if low > 0.65 and 1.3 < high < 4.5:
        look.refuse(
            f"median {middle:.2f}, 99% of them over {low:.2f} from the visible to the short-wave infrared: digital "
            "numbers of Landsat Collection 2, multiplied by 0.0001; multiply by 0.275 and subtract 0.2",
            look.mended("{} * 0.275 - 0.2"),
        )


def _wavelengths(look: _Look) -> list[float]:
    known = [band for band in look.bands if band in look.sensor.band_names]
    return [look.sensor.band(band).wavelength_um for band in known]


# --- Backscatter, indices


def _check_backscatter(look: _Look) -> None:
    medians = look.medians()
    with np.errstate(invalid="ignore"):
        ordered = np.sort(look.values, axis=-1)
        at = [np.maximum(((look.count - 1) * q).astype(int), 0)[..., None] for q in (0.02, 0.98)]
        low, high = (np.take_along_axis(ordered, i, axis=-1)[..., 0] for i in at)
        # Decibels of land scatter by more than one; a city centre can be positive throughout.
        linear = (low >= 0) & (high < 2) & (medians < 1) & (look.count >= 8)
        strange = (medians > 40) | (medians < -100)
        shrunk = (low < 0) & (np.maximum(-low, high) < 1) & (look.count >= 4 * _ENOUGH)
        positive = (np.percentile(look.flat, 2) >= 0) & (look.flat.size >= 16 * _ENOUGH)
    look.refuse_cells(strange, _tell_strange)
    look.refuse_cells(
        shrunk,
        lambda v: _Verdict(
            f"median {_figure(np.median(v))}, hardly any beyond 1",
            "decibels / 100; multiply by 100",
            "{} * 100",
        ),
    )
    look.refuse_cells(
        linear,
        lambda v: _Verdict(
            f"median {_figure(np.median(v))}, none negative",
            "linear power; decibels are 10 log10 of it (20 log10 of amplitude)",
            "10 * numpy.log10({0}.where({0} > 0))",
        ),
    )
    if positive:
        look.refuse(
            f"median {_figure(np.median(look.flat))}, {(look.flat >= 0).mean():.0%} of them are 0 or more: no "
            "decibels of land or water; check what the file holds"
        )
    _check_bounds(look)


def _tell_strange(values: np.ndarray) -> _Verdict:
    middle = float(np.median(values))
    figure = f"median {_figure(middle)}"
    if middle > 0 and values.max() <= 255:
        return _Verdict(figure, "a picture of 8 bits; open the backscatter itself")
    if middle > 0:
        factor = "digital numbers of amplitude; calibrate them, e.g. with ESA SNAP or pyroSAR"
        return _Verdict(figure, factor)
    scale = 10 ** round(math.log10(abs(middle) / 12))
    return _Verdict(figure, f"decibels x {scale:,}; divide by {scale:,}", "{} / " + f"{scale:_}")


def _tell_index(values: np.ndarray) -> _Verdict:
    middle, high = np.percentile(values, [50, 98])
    figure = f"median {_figure(middle)}"
    if values.min() >= 0 and 100 < values.max() <= 200:
        factor = "bytes from 0 to 200; subtract 100 and divide by 100"
        return _Verdict(figure, factor, "({} - 100) / 100")
    if values.min() >= 0 and 200 < values.max() <= 255:
        return _Verdict(figure, "bytes up to 255; open the index itself")
    scale = 100 if high <= 120 else 10_000 if high > 1500 else 1000
    return _Verdict(figure, f"digital numbers; divide by {scale:,}", "{} / " + f"{scale:_}")


def _check_index(look: _Look) -> None:
    medians = look.medians()
    with np.errstate(invalid="ignore"):
        bad = (np.abs(medians) > 1.1) & (look.count >= 4)
    look.refuse_cells(bad, _tell_index)
    _check_small(look)
    _check_bounds(look)


def _check_other(look: _Look) -> None:
    _check_bounds(look)


_CHECKS: dict[str, Callable[[_Look], None]] = {
    "reflectance": _check_reflectance,
    "backscatter": _check_backscatter,
    "index": _check_index,
    "other": _check_other,
}
