"""Values that cannot be what they say they are, and what each message's call makes of them."""

import re

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import timo
from timo.cube import check, check_values, select_bands
from timo.errors import TimoError
from timo.sensors import SENSORS, Band, Sensor, get_sensor, register_sensor

few = settings(max_examples=25, deadline=None)
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
# Forest and soil, by band of Sentinel-2.
SPECTRA = np.array([[0.02, 0.04, 0.03, 0.38, 0.18, 0.08], [0.08, 0.11, 0.15, 0.25, 0.33, 0.25]])


def land(dates=5, size=24, seed=0, bands=BANDS, sensor="sentinel-2"):
    """A landscape of forest and soil as a reflectance cube, with gaps."""
    rng = np.random.default_rng(seed)
    share = rng.random((1, 1, size, size))
    mixed = SPECTRA[0][:, None, None] * share + SPECTRA[1][:, None, None] * (1 - share)
    season = 1 + 0.2 * np.sin(np.arange(dates))[:, None, None, None]
    values = mixed * season + rng.normal(0, 0.004, (dates, len(BANDS), size, size))
    values = np.where(rng.random((dates, 1, size, size)) < 0.2, np.nan, np.round(values, 4))
    return to_cube(values[:, [BANDS.index(b) for b in bands]], bands, sensor)


def radar(dates=5, size=24, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal([[[[-9.0]], [[-15.0]]]], 3, (dates, 2, size, size))
    return to_cube(values, ("VV", "VH"), "sentinel-1")


def greenness(dates=5, size=24, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0.55, 0.15, (dates, 2, size, size)).clip(-0.2, 0.98)
    return to_cube(values, ("NDVI", "EVI"), "modis-vegetation")


def to_cube(values, bands, sensor):
    values = np.asarray(values, "float32")
    height, width = values.shape[2:]
    cube = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2018-07-01", periods=len(values), freq="8D"),
            "band": list(bands),
            "y": 5_000_000.0 - 10 * np.arange(height),
            "x": 500_000.0 + 10 * np.arange(width),
        },
        attrs={"sensor": sensor},
    )
    return cube.rio.write_crs("EPSG:32634")


def on_date(change, date=2):
    """Change one date only."""
    return lambda c: xr.where(c.time == c.time[date], change(c), c, keep_attrs=True)


def first_columns(value):
    return lambda c: c.where(c.x > c.x[4], value)


def in_one_of(share, value):
    return lambda c: c.where(np.random.default_rng(1).random(c.shape) > share, value)


def edge(value):
    return lambda c: c.where(c.x > c.x[0], value)


def in_band(change, band="B8"):
    return lambda c: xr.where(c.band == band, change(c), c, keep_attrs=True)


def half(change):
    return lambda c: c.where(c.x > c.x[12], change(c))


def picture(c):
    return (c / float(c.max()) * 255).clip(0).round()


def of(change):
    return lambda c: change(c).astype("float32").transpose(*c.dims).assign_attrs(c.attrs)


# Case -> cube, what was done to it, what the message says. All but those of `NO_CALL` end with a call that mends.
CASES = {
    "digital numbers": (
        land,
        lambda c: c * 1e4,
        r"median 1,\d{3}: digital numbers; divide by 10,000",
    ),
    "percent": (land, lambda c: c * 100, r"median 1\d\.\d+: percent; divide by 100"),
    "8 bits": (land, lambda c: c * 400, r"up to \d+: a scale of 8 bits; divide by 255"),
    "picture": (land, picture, "whole numbers up to 255: a picture of 8 bits"),
    "picture / 255": (land, lambda c: picture(c) / 255, r"divided by 255: a picture of 8 bits"),
    "picture x 0.0001": (
        land,
        lambda c: (c * 900).clip(0, 255).round() * 1e-4,
        r"whole numbers from \d+ to 255, multiplied by 0.0001: a picture",
    ),
    "Landsat's numbers": (
        land,
        lambda c: ((c + 0.2) / 2.75e-5).round(),
        "of Landsat Collection 2; multiply by 0.0000275 and subtract 0.2",
    ),
    "Landsat's numbers x 0.0001": (
        land,
        lambda c: (c + 0.2) / 0.275,
        "Landsat Collection 2, multiplied by 0.0001; multiply by 0.275 and subtract 0.2",
    ),
    "scaled twice": (land, lambda c: c * 1e-4, r"median \d.*e-05, none over .* multiply by 10,000"),
    "offset twice": (land, lambda c: c - 0.1, r"median -0\.0\d+ in B2, \d+% of all are negative"),
    "offset of Landsat": (land, lambda c: c - 0.2, "an offset of 0.2 was taken off twice"),
    "one date in digital numbers": (
        land,
        on_date(lambda c: c * 1e4),
        "2018-07-17, on another scale than the other dates: median .*divide by 10,000",
    ),
    "one date in percent": (land, on_date(lambda c: c * 100), "2018-07-17, on another.*by 100"),
    "one date divided again": (
        land,
        on_date(lambda c: c / 100),
        "2018-07-17, on ano.*multiply by 100",
    ),
    "one date scaled twice": (land, on_date(lambda c: c / 1e4), "2018-07-17, on ano.*by 10,000"),
    "one date with an offset": (land, on_date(lambda c: c - 0.1), "2018-07-17, .*add 0.1"),
    "one date of one number": (
        land,
        on_date(lambda c: xr.full_like(c, 0.123)),
        "every pixel of 2018-07-17 is 0.123: no image; leave the date out",
    ),
    "one date of zeros": (
        land,
        on_date(lambda c: c * 0),
        "every pixel of 2018-07-17 is 0: no image",
    ),
    "all of one number": (land, lambda c: xr.full_like(c, 0.3), "one number, e.g. 0.3: no image"),
    "one band": (
        land,
        in_band(lambda c: c * 1e4),
        "band B8, on another scale than the other bands",
    ),
    "ten times, one band": (
        land,
        in_band(lambda c: c * 10),
        "band B8, on another .*percent, or ten",
    ),
    "dark picture x 0.0001": (
        land,
        lambda c: 0 * c + np.random.default_rng(0).integers(10, 120, c.shape) * 1e-4,
        "whole numbers from 10 to 119, multiplied by 0.0001: a picture",
    ),
    "Landsat's numbers x 0.0001, all alike": (
        land,
        lambda c: 0 * c + np.random.default_rng(0).uniform(0.8, 1.6, c.shape),
        "Landsat Collection 2, multiplied by 0.0001",
    ),
    "offset twice, clamped": (
        land,
        lambda c: (c - 0.03).clip(min=1e-4) - 0.1,
        r"all are negative: an offset of 0.1",
    ),
    "ten times": (land, lambda c: c * 10, "ten times too large; divide by 10"),
    "a thousand times": (land, lambda c: c * 1000, "digital numbers; divide by 1,000"),
    "ten times, of water": (
        lambda: land(bands=("B2",)),
        lambda c: c * 60,
        "percent, or ten times too large; divide by 100 or by 10, as their producer says",
    ),
    "8 bits in one band": (
        lambda: land(bands=("B8",)),
        lambda c: c * 255,
        r"up to 1\d\d: a scale of 8 bits; divide by 255",
    ),
    "8 bits of a dim scene": (
        land,
        lambda c: (c * 255).clip(max=92),
        "percent, or a scale of 8 bits; divide by 100 or by 255",
    ),
    "8 bits or percent": (
        lambda: land(bands=("B11",)),
        lambda c: (c * 255).clip(max=109.9),
        "percent, or a scale of 8 bits; divide by 100 or by 255",
    ),
    "half of one date": (
        land,
        on_date(half(lambda c: c * 1e4)),
        "2018-07-17, on another.*digital numbers in parts of a date",
    ),
    "a tenth of one date": (
        land,
        on_date(lambda c: c.where(c.y < c.y[2], c * 1e4)),
        r"of 2018-07-17 are over 3: a part on another scale",
    ),
    "one band divided again": (
        land,
        in_band(lambda c: c / 100),
        "band B8, on another scale .* of its neighbours .*multiply by 100",
    ),
    "one band of one date scaled twice": (
        land,
        on_date(in_band(lambda c: c / 1e4)),
        "band B8 on 2018-07-17, on another .*multiply by 10,000",
    ),
    "all divided again": (land, lambda c: c / 100, "all bands dark alike: .*multiply by 100"),
    "one of two dates divided again": (
        lambda: land(dates=2),
        on_date(lambda c: c / 100, 1),
        "all bands dark alike: .*multiply by 100",
    ),
    "1e20 here and there": (
        land,
        in_one_of(0.02, 1e20),
        r"2\.\d% of them are 1e\+20, which means no",
    ),
    "NetCDF's own fill at one edge": (
        lambda: land(size=96),
        edge(9.969209968386869e36),
        r"1\.\d% of them are 9.969e\+36, which means no data",
    ),
    "-9999 at one edge": (lambda: land(size=96), edge(-9999), r"1\.\d% of them are -9,999, which"),
    "-9999 at the edge of one date": (
        lambda: land(size=96),
        on_date(edge(-9999)),
        "are -9,999, which",
    ),
    "0 at one edge": (lambda: land(size=96), edge(0), r"1\.\d% of the pixels are 0 in all bands"),
    "65535 scaled, here and there": (land, in_one_of(0.02, 6.5535), r"6.5535 \(65535 in the file"),
    "65535 scaled, in half a date": (
        land,
        on_date(half(lambda c: 0 * c + 6.5535)),
        "65535 in the f",
    ),
    "255 here and there": (
        land,
        in_one_of(0.02, 255),
        r"2\.\d% of them are 255, which means no data",
    ),
    "one value beyond all": (
        land,
        lambda c: c.where((c.x > c.x[0]) | (c.y < c.y[0]), 77.0 + c),
        r"are beyond 20 \(as 77.*no data, or a part on another scale; mask them",
    ),
    "no data less an offset": (land, first_columns(-0.1), "-0.1, which means no data"),
    "-9999": (land, first_columns(-9999), r"\d+\.\d% of them are -9,999, which means no data"),
    "-9999 scaled": (land, first_columns(-0.9999), r"of them are -0.9999 \(-9999 in the file\)"),
    "-999 scaled": (land, first_columns(-0.0999), r"of them are -0.0999 \(-999 in the file\)"),
    "-32768 scaled": (land, first_columns(-3.2768), r"-3.2768 \(-32768 in the file\)"),
    "65535 scaled": (land, first_columns(6.5535), r"6.5535 \(65535 in the file\)"),
    "another number": (land, first_columns(-5), "-5, which means no data; mask it first"),
    "zeros": (land, first_columns(0), r"of the pixels are 0 in all bands, which means no data"),
    "linear power": (
        radar,
        lambda c: 10 ** (c / 10),
        r"median 0\.0\d+, hardly any negative: linear power",
    ),
    "one date of linear power": (
        radar,
        on_date(lambda c: 10 ** (c / 10)),
        "2018-07-17, on .*linear",
    ),
    "decibels x 100": (radar, lambda c: (c * 100).round(), r"decibels x 100; divide by 100"),
    "decibels x 1000": (radar, lambda c: (c * 1000).round(), r"decibels x 1,000; divide by 1,000"),
    "decibels / 100": (radar, lambda c: c / 100, r"decibels / 100; multiply by 100"),
    "amplitude": (radar, lambda c: 10 ** (c / 20) * 600, "digital numbers of amplitude"),
    "amplitude of 1": (radar, lambda c: 10 ** (c / 20), "amplitude; decibels are 20 log10 of it"),
    "power or amplitude": (
        lambda: radar().sel(band=["VV"]),
        lambda c: 10 ** (c / 12.3),
        "linear power or amplitude; decibels are 10 log10 of power, 20 log10 of amplitude",
    ),
    "linear power less noise": (
        radar,
        lambda c: (10 ** (c / 10)).where(np.random.default_rng(0).random(c.shape) > 0.03, -0.001),
        "linear power; decibels are 10 log10",
    ),
    "decibels / 10": (radar, lambda c: c / 10, "decibels / 10; multiply by 10"),
    "0 in radar": (radar, first_columns(0), "of the pixels are 0 in a band, which means no data"),
    "0 in one band of radar": (
        radar,
        in_band(first_columns(0), "VV"),
        "0 in a band, which means no",
    ),
    "radar in 8 bits": (radar, lambda c: ((c + 30) * 8).clip(0, 255).round(), "picture of 8 bits"),
    "fill of radar": (radar, first_columns(-9999), "-9,999, which means no data"),
    "index x 10000": (greenness, lambda c: (c * 1e4).round(), r"median 5,\d+: .*divide by 10,000"),
    "index x 100": (greenness, lambda c: (c * 100).round(), "divide by 100"),
    "index x 10": (greenness, lambda c: c * 10, "ten times too large; divide by 10"),
    "index x 1000": (
        greenness,
        lambda c: c * 1000,
        "digital numbers; divide by 10,000 or by 1,000",
    ),
    "index x 250": (
        greenness,
        lambda c: ((c + 0.08) * 250).clip(max=250),
        "bytes up to 255; open the index itself",
    ),
    "index / 10000": (greenness, lambda c: c / 1e4, "scaled twice; multiply by 10,000"),
    "index x 100, scaled": (greenness, lambda c: c.clip(0.1) / 100, "multiply by 100"),
    "index in bytes": (greenness, lambda c: (c * 100 + 100).round(), "subtract 100 and divide"),
    "fill of an index": (greenness, first_columns(-0.3), r"-0.3 \(-3000 in the file\)"),
}
NO_CALL = (
    "picture",
    "picture / 255",
    "picture x 0.0001",
    "dark picture x 0.0001",
    "all of one number",
    "amplitude",
    "radar in 8 bits",
    "ten times, of water",
    "8 bits or percent",
    "8 bits of a dim scene",
    "power or amplitude",
    "index x 1000",
    "index x 250",
)


def message_of(cube):
    with pytest.raises(TimoError) as caught:
        check(cube)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_values_that_cannot_be_are_refused_with_the_figure_and_mended_by_the_call(case):
    make, spoil, expected = CASES[case]
    check(make())
    cube = of(spoil)(make())
    message = message_of(cube)
    assert re.search(expected, message), message
    call = re.search(r" Use (.*)\.$", message)
    assert (call is None) == (case in NO_CALL)
    if call:
        mended = eval(call[1], {"cube": cube, "numpy": np})  # noqa: S307
        assert mended.attrs == cube.attrs
        check(mended.transpose(*cube.dims))


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_met_by_what_looks_at_blocks(case):
    make, spoil, expected = CASES[case]
    cube = of(spoil)(make())
    sensor = get_sensor(cube.attrs["sensor"])
    bands = [str(b) for b in cube.band.values]
    with pytest.raises(TimoError, match=expected) as caught:
        check_values(cube.values, sensor, bands, times=cube.time.values, call=False)
    assert " Use " not in str(caught.value)


def test_one_date_can_be_looked_at_by_itself():
    sensor, values = get_sensor("sentinel-2"), land().values
    check_values(values[0], sensor, BANDS, what="scene")
    for what, said in (("scene", "the scene"), ("S2A.tif of 2018-07-01", "S2A.tif of 2018-07-01")):
        with pytest.raises(TimoError, match=f"^The values of {said} cannot be .* divide by 10,000"):
            check_values(values[0] * 1e4, sensor, BANDS, what=what)


# What can be true, however strange.
def snow(c):
    level = xr.DataArray([0.95, 0.93, 0.92, 0.85, 0.12, 0.1], coords={"band": c.band})
    return 0 * c + level + np.random.default_rng(0).normal(0, 0.03, c.shape)


def thaw(c):
    """Snow on a lake that is open water on the last date."""
    level = [0.015, 0.012, 0.01, 0.008, 0.006, 0.005]
    open_water = 0 * c + xr.DataArray(level, coords={"band": c.band})
    noise = np.random.default_rng(0).normal(0, 0.001, c.shape)
    return snow(c).where(c.time < c.time[-1], open_water + noise)


def cloud(c):
    level = xr.DataArray([2.0, 2.0, 1.95, 1.8, 0.9, 0.85], coords={"band": c.band})
    return 0 * c + level + np.random.default_rng(0).normal(0, 0.1, c.shape)


def flood(c):
    level = [0.012, 0.01, 0.007, 0.006, 0.004, 0.003]
    water = 0 * c + xr.DataArray(level, coords={"band": c.band})
    return c.where(c.time < c.time[-1], water + np.random.default_rng(0).normal(0, 1e-3, c.shape))


def night(c):
    level = xr.DataArray([5e-4, 4e-4, 4e-4, 3e-4, 2e-4, 2e-4], coords={"band": c.band})
    return 0 * c + level + np.random.default_rng(0).normal(0, 2e-4, c.shape)


POSSIBLE = {
    "as it is": (land, lambda c: c),
    "thaw": (land, thaw),
    "flood": (land, flood),
    "deep shadow": (land, night),
    "one date of bright cloud": (land, on_date(lambda c: 1.75 + 0.05 * c)),
    "cloud when the sun is low": (
        lambda: land(dates=1),
        cloud,
    ),
    "one date, bright cloud": (lambda: land(dates=1), lambda c: 1.75 + 0.05 * c),
    "clamped where dark": (land, lambda c: (c - 0.05).clip(min=1e-4)),
    "a mirror": (land, on_date(lambda c: c.where((c.x > c.x[0]) | (c.y < c.y[0]), 6.5535))),
    "snow": (land, snow),
    "one date of snow": (land, on_date(snow)),
    "one date of cloud": (land, on_date(lambda c: 0.75 + 0.1 * c)),
    "clouds in all bands": (land, lambda c: 0.8 + c),
    "water": (land, lambda c: 0.05 * c + np.random.default_rng(0).normal(0, 0.003, c.shape)),
    "dark water in one band": (
        lambda: land(bands=("B12",)),
        lambda c: 0 * c + np.random.default_rng(0).normal(-0.001, 0.002, c.shape),
    ),
    "an offset left in": (land, lambda c: c + 0.1),
    "glint": (land, lambda c: c.where(np.random.default_rng(0).random(c.shape) > 0.02, 1.9)),
    "a few saturated": (
        land,
        lambda c: c.where(np.random.default_rng(0).random(c.shape) > 1e-3, 6.5535),
    ),
    "one pixel": (land, lambda c: c[:, :, :1, :1]),
    "one date": (land, lambda c: c[:1]),
    "one date all NaN": (land, on_date(lambda c: c * np.nan)),
    "coarse cells on a fine grid": (
        lambda: land(bands=("B8",)),
        lambda c: c.isel(y=[3], x=[3]).mean(("y", "x")).expand_dims(y=c.y, x=c.x) + 0 * c,
    ),
    "city in radar": (radar, lambda c: c + 10),
    "houses in radar": (
        lambda: radar(dates=4, size=8).sel(band=["VV"]),
        lambda c: 0 * c + np.random.default_rng(0).uniform(0.1, 1.9, c.shape),
    ),
    "glacier in radar": (radar, lambda c: (c + 12) / 4 - 1),
    "calm water in radar": (radar, lambda c: c - 14),
    "desert": (greenness, lambda c: 0.1 * c),
    "in steps of 0.01": (greenness, lambda c: ((c - 0.3) * 100).round() / 100),
    "open water": (greenness, lambda c: -0.3 * c),
}


@pytest.mark.parametrize("case", POSSIBLE)
def test_what_can_be_true_is_taken(case):
    make, change = POSSIBLE[case]
    check(of(change)(make()))


def test_a_place_under_its_clouds_is_taken_in_any_window_on_any_date():
    cube = timo.open_cube("sample", masked_classes=()).compute()
    assert float(cube.max()) > 1.8
    bands, sensor = list(cube.band.values), get_sensor("sentinel-2")
    for size in (10, 30):
        for y in range(0, 101 - size, size):
            for x in range(0, 101 - size, size):
                check(cube[:, :, y : y + size, x : x + size])
    for date in range(len(cube.time)):
        for part in (cube[date], cube[date, :, 40:50, 60:70]):
            check_values(part.values, sensor, bands)
            check_values(part.values[3:4], sensor, bands[3:4])


@few
@given(st.floats(0.3, 2.5), st.integers(0, 10_000))
def test_land_is_taken_in_any_light_and_refused_in_digital_numbers(light, seed):
    cube = of(lambda c: c * light)(land(dates=2, size=10, seed=seed))
    check(cube)
    for spoil in (lambda c: c * 1e4, lambda c: c * 1e-4, lambda c: c - 0.3):
        message_of(of(spoil)(cube))


def test_a_cube_without_a_sensor_is_not_judged():
    cube = of(lambda c: c * 1e4)(land())
    del cube.attrs["sensor"]
    assert check(cube) is cube
    # But by the sensor of the model that is to read it.
    with pytest.raises(TimoError, match="divide by 10,000"):
        check(cube, sensor="sentinel-2")
    assert check(cube, sensor="one that nobody registered") is cube


def test_a_users_own_sensor_of_8_bits_makes_no_picture():
    bands = tuple(Band(b, "", w, 10) for b, w in (("a", 0.56), ("b", 0.66)))
    own = Sensor("byte-cam", "m", bands, 1 / 255)
    numbers = np.random.default_rng(0).integers(5, 250, (2, 20, 20))
    check_values(numbers / np.float32(255), own, ("a", "b"))
    with pytest.raises(TimoError, match="a picture of 8 bits"):
        check_values(numbers / np.float32(255), get_sensor("sentinel-2"), ("B3", "B4"))


def test_a_single_date_is_not_compared_with_others():
    values = land(dates=1).values.copy()
    values[:, 2:] *= 1e4
    with pytest.raises(TimoError) as caught:
        check_values(values, get_sensor("sentinel-2"), BANDS)
    assert "other dates" not in str(caught.value)


def test_bounds_of_a_user_come_before_those_of_the_kind(monkeypatch):
    monkeypatch.setattr("timo.sensors.registry.SENSORS", SENSORS)
    bands = (Band("a", "", float("nan"), 10, 50, 20), Band("b", "", float("nan"), 10, 50, 20))
    try:
        register_sensor(Sensor("soil-moisture", "m", bands, 1.0, kind="other", bounds=(0, 100)))
        rng = np.random.default_rng(0)
        cube = to_cube(rng.uniform(1, 99, (3, 2, 9, 9)), ("a", "b"), "soil-moisture")
        check(cube)
        with pytest.raises(TimoError, match=r"\d+% of them are outside 0..100 \(median -\d"):
            check(of(lambda c: c - 70)(cube))
    finally:
        SENSORS.pop("soil-moisture", None)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("factor", [1e4, 100, 1e-4, -1])
def test_every_door_refuses_them_whether_in_memory_or_lazy(factor, lazy):
    """`load_model` cannot look at a lazy cube: who computes it does."""
    good = land(dates=3, size=16)
    model = timo.load_model("timo-tiny", good, ["a", "b"])
    bad = of((lambda c: c - 0.1) if factor < 0 else (lambda c: c * factor))(good)
    if lazy:
        bad = bad.chunk({"y": 8, "x": 8})
    labels = (bad[0, 0] * 0).fillna(0).astype("int8").compute().drop_vars(("time", "band"))
    labels[:8] = 1
    doors = {
        "predict": lambda: timo.predict(model, bad).compute(),
        "finetune": lambda: timo.finetune(model, bad, labels, epochs=1, progress=False),
        "fit_head": lambda: timo.fit_head(model, bad, labels),
        "fill": lambda: timo.fill(bad),
        "embed": lambda: timo.inspection.embed(model, bad),
        "pretrain": lambda: timo.pretrain(bad, epochs=1, progress=False),
    }
    if not lazy:
        doors["load_model"] = lambda: timo.load_model("timo-tiny", bad, ["a", "b"])
    for door in doors.values():
        with pytest.raises(TimoError, match="cannot be surface reflectance"):
            door()


def test_a_lazy_cube_is_looked_at_where_it_is_computed():
    good = land(dates=3, size=20)
    model = timo.load_model("timo-tiny", good, ["a", "b"])
    values = good.values.copy()
    values[1, :, :, 10:] *= 1e4
    bad = good.copy(data=da.from_array(values, chunks=(3, 6, 10, 10)))
    result = timo.predict(model, bad, tile=10, halo=0)
    assert result.label.isel(x=slice(10)).compute().max() >= 0
    with pytest.raises(TimoError, match="2018-07-09, on another scale"):
        result.label.compute()


def test_names_that_two_sensors_share_are_not_taken_for_one_band():
    bands = ("B2", "B3", "B4", "B5")
    values = land(bands=BANDS[:4]).values
    model = timo.load_model("timo-tiny", to_cube(values, bands, "sentinel-2"), ["a", "b"])
    landsat = to_cube(values, bands, "hls-l30")
    with pytest.raises(
        TimoError, match=r"reads B5 of sentinel-2 \(0.704 µm\), the cube has B5 of hls-l30"
    ):
        timo.predict(model, landsat)
    # What the message says.
    model = timo.load_model("timo-tiny", data=landsat, classes=["a", "b"])
    assert timo.predict(model, landsat).label.compute().max() >= 0
    with pytest.warns(UserWarning, match="made for surface .*, the cube holds top-of-atmosphere"):
        select_bands(to_cube(values, bands, "sentinel-2-l1c"), bands, "sentinel-2")


def test_values_that_are_no_cube_are_refused():
    values, sensor = np.full((2, 3, 4, 4), 0.1, "float32"), get_sensor("sentinel-2")
    bands = ["B2", "B3", "B4"]
    for wrong in (values[0, 0], values.astype(str), values.astype(complex), values[:, :2]):
        with pytest.raises(TimoError, match=r"values must be numbers.* of 3 bands; got"):
            check_values(wrong, sensor, bands)
    with pytest.raises(TimoError, match="times must be the 2 dates of the values"):
        check_values(values, sensor, bands, times=[np.datetime64("2019-01-01")])
