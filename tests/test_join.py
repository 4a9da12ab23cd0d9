"""Cubes of several sensors as one: dates, bands, gaps, names, and all that takes a cube."""

import importlib
import re

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import timo
from timo.cube import (
    band_groups,
    check,
    composite,
    join,
    ndvi,
    observed,
    select_bands,
    separate,
    true_colour,
    valid_mask,
)
from timo.errors import TimoError
from timo.sensors import SENSORS, Band, Sensor, get_sensor, register_sensor

JOINT = "sentinel-2+sentinel-1"
LAND = {"B2": 0.04, "B3": 0.07, "B4": 0.06, "B5": 0.12, "B8": 0.3, "VV": -10.0, "VH": -16.0}


def make(bands, sensor, dates, *, side=12, cell=10.0, seed=0):
    """A cube of land with a pattern, a gap on each date but the first."""
    rng = np.random.default_rng(seed)
    level = np.array([LAND[band] for band in bands])[:, None, None]
    values = level * (1 + 0.3 * rng.random((len(dates), len(bands), side, side)))
    values[1:, :, :3, :2] = np.nan
    return xr.DataArray(
        values.astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.to_datetime(list(dates)),
            "band": list(bands),
            "y": 5_000_000.0 - cell * (np.arange(side) + 0.5),
            "x": 500_000.0 + cell * (np.arange(side) + 0.5),
        },
        attrs={"sensor": sensor},
        name="values",
    ).rio.write_crs("EPSG:32633")


@pytest.fixture
def s2():
    cube = make(("B3", "B4", "B8"), "sentinel-2", ("2020-06-01", "2020-06-11", "2020-07-01"))
    return cube.assign_attrs(attribution="from above", source="stac")


@pytest.fixture
def s1():
    dates = ("2020-06-03", "2020-06-11", "2020-06-15", "2020-07-08")
    return make(("VV", "VH"), "sentinel-1", dates, seed=1).assign_attrs(source="stac")


# --- join and separate


def test_a_joint_cube_holds_all_dates_and_bands_and_what_is_missing_is_nan(s2, s1):
    joint = check(join(s2, s1))
    assert joint.attrs["sensor"] == JOINT
    assert joint.band.values.tolist() == ["B3", "B4", "B8", "VV", "VH"]
    assert joint.dtype == np.float32
    days = [str(day)[5:10] for day in joint.time.values]
    assert days == ["06-01", "06-03", "06-11", "06-15", "07-01", "07-08"]
    np.testing.assert_array_equal(joint.sel(band=s2.band, time=s2.time).values, s2.values)
    np.testing.assert_array_equal(joint.sel(band=s1.band, time=s1.time).values, s1.values)
    assert np.isnan(joint.sel(band=["VV", "VH"], time=["2020-06-01", "2020-07-01"])).all()
    assert np.isnan(joint.sel(band=["B3", "B4", "B8"], time=["2020-06-03", "2020-07-08"])).all()
    assert joint.attrs["attribution"] == "from above"
    assert joint.attrs["source"] == "stac"
    assert joint.rio.crs.to_epsg() == 32633
    xr.testing.assert_identical(
        separate(joint)[0].drop_attrs(deep=False), s2.drop_attrs(deep=False)
    )


dates = st.sets(st.integers(0, 20), min_size=1, max_size=5)


@settings(max_examples=20, deadline=None)
@given(one=dates, other=dates, lazy=st.booleans())
def test_separating_gives_the_cubes_again(one, other, lazy):
    days = [[np.datetime64("2020-01-01") + day for day in sorted(some)] for some in (one, other)]
    cubes = [
        make(("B4", "B8"), "sentinel-2", days[0], side=4),
        make(("VV",), "sentinel-1", days[1], side=4),
    ]
    given_ = [cube.chunk({"time": 1, "x": 2}) if lazy else cube for cube in cubes]
    joint = join(*given_)
    assert (joint.chunks is not None) == lazy
    again = separate(joint.compute())
    for cube, part in zip(cubes, again, strict=True):
        xr.testing.assert_equal(part, cube)
        assert part.attrs["sensor"] == cube.attrs["sensor"]
    mixed = join(given_[0], cubes[1])
    xr.testing.assert_identical(mixed.compute(), joint.compute())


def test_one_cube_is_itself(s2):
    assert join(s2) is s2
    assert separate(s2) == (s2,)


def test_three_sensors_join_at_once_or_one_after_the_other(s2, s1):
    third = make(("B4", "B5"), "hls-l30", ("2020-06-20",), seed=2)
    at_once, later = join(s2, s1, third), join(join(s2, s1), third)
    xr.testing.assert_identical(at_once, later)
    assert at_once.attrs["sensor"] == f"{JOINT}+hls-l30"
    assert at_once.band.values.tolist()[-2:] == ["hls-l30:B4", "hls-l30:B5"]
    parts = separate(at_once)
    assert [part.attrs["sensor"] for part in parts] == ["sentinel-2", "sentinel-1", "hls-l30"]
    xr.testing.assert_equal(parts[2], third)


def test_static_bands_and_weather_join_by_a_sensor_of_ones_own(s2, monkeypatch):
    bands = (
        Band("height", "", float("nan"), 30, mean=300.0, std=200.0),
        Band("rain", "", float("nan"), 9000, mean=2.0, std=5.0),
    )
    monkeypatch.setattr("timo.sensors.registry.SENSORS", dict(SENSORS))
    own = Sensor("terrain", "terrain and weather", bands, scale=1.0, kind="other")
    monkeypatch.setitem(SENSORS, "terrain", own)
    monkeypatch.setattr("timo.sensors.registry.SENSORS", SENSORS)
    cube = make(("VV", "VH"), "sentinel-1", ("2020-06-01", "2020-06-11")).assign_coords(
        band=["height", "rain"]
    )
    # A day without rain is one number everywhere, and no fault.
    cube[:, 1] = np.array([0.0, 3.5])[:, None, None]
    cube = check(cube.assign_attrs(sensor="terrain"))
    joint = check(join(s2, cube))
    assert band_groups(joint.band.values.tolist(), joint.attrs["sensor"]) == (3, 2)
    one = join(s2, cube.sel(band=["rain"], time=["2020-06-11"]))
    assert np.isfinite(one.sel(band="rain")).any(("y", "x")).values.tolist() == [False, True, False]


def test_a_sensor_that_there_is_no_cube_of_is_missing_at_each_date(s2):
    for missing in ("sentinel-1", {"sentinel-1": ["VV", "VH"]}):
        for cube in (s2, s2.chunk({"time": 1})):
            joint = join(cube, missing=missing)
            assert joint.band.values.tolist() == ["B3", "B4", "B8", "VV", "VH"]
            assert np.isnan(joint.sel(band=["VV", "VH"])).all()
            xr.testing.assert_equal(joint.sel(band=s2.band).compute(), s2)
            assert joint.attrs["sensor"] == JOINT


@pytest.mark.parametrize("how", ["nearest", "bilinear", "average"])
def test_another_grid_is_brought_onto_the_first_with_its_gaps(s2, s1, how):
    coarse = make(("VV", "VH"), "sentinel-1", s1.time.values, side=6, cell=20.0, seed=1)
    with pytest.raises(TimoError, match=r"y has 6 cells, cubes\[0\]'s 12.*resampling="):
        join(s2, coarse)
    joint = join(s2, coarse, resampling=how)
    part = separate(joint)[1]
    # The gap is 3 x 2 cells of 20 m.
    assert np.isnan(part).all("band").sum(("y", "x")).values.tolist() == [0, 24, 24, 24]
    if how != "bilinear":
        np.testing.assert_array_equal(part.values[..., ::2, ::2], coarse.values)
    lazy = join(s2.chunk({"time": 1}), coarse.chunk({"x": 2}), resampling=how)
    xr.testing.assert_equal(lazy.compute(), joint)


# ruff: noqa: ARG005 - all take both cubes
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: join(), "at least one cube"),
        (lambda a, b: join(a, a), r"names sentinel-2 twice.*xarray\.concat"),
        (lambda a, b: join(a, b, missing="sentinel-1"), "names sentinel-1 twice"),
        (lambda a, b: join(a, b.drop_attrs(deep=False)), r"cubes\[1\] does not say which sensor"),
        (lambda a, b: join(a, b.astype("float64")), r"cubes\[1\] must be float32"),
        (lambda a, b: join(a, b[..., :1, :1], resampling="nearest"), "single row or column"),
        (lambda a, b: join(a, missing={"sentinel-1": []}), "at least one of its bands"),
        (lambda a, b: join(a, missing={"sentinel-1": ["B4"]}), "sentinel-1 has no band 'B4'"),
        (lambda a, b: join(a, missing="sentinel-9"), "Unknown sensor"),
        (lambda a, b: join(a, b, resampling="cubic"), "resampling must be one of"),
        (lambda a, b: join(a, b * 1e4), r"cubes\[1\].*(does not say|cannot be)"),
    ],
)
def test_what_cannot_be_joined_is_refused(s2, s1, call, message):
    with pytest.raises(TimoError, match=message):
        call(s2, s1)


def test_the_remedy_for_cubes_of_one_sensor_works(s2):
    later = s2.assign_coords(time=s2.time + np.timedelta64(365, "D"))
    both = check(xr.concat([s2, later], "time").sortby("time"))
    assert both.sizes["time"] == 6


# --- the sensors of a joint cube


def test_a_joint_sensor_is_known_by_the_names_of_its_parts():
    sensor = get_sensor("sentinel-2+hls-l30")
    assert [part.name for part in sensor.parts] == ["sentinel-2", "hls-l30"]
    assert sensor.band("hls-l30:B4").wavelength_um == get_sensor("hls-l30").band("B4").wavelength_um
    assert sensor.band_origin("hls-l30:B4") == ("hls-l30", "B4")
    assert sensor.band_origin("B4") == ("sentinel-2", "B4")
    assert sensor is get_sensor("sentinel-2+hls-l30")
    both = get_sensor(JOINT)
    assert both.kind_of("VV") == "backscatter"
    assert both.kind_of("B4") == "reflectance"
    assert both.wavelengths(["B4", "VH"]) == (0.665, -1.0)
    assert "Copernicus" in both.credit("2020")
    plain = get_sensor("sentinel-2")
    assert plain.parts == (plain,)


def test_a_joint_sensor_follows_a_sensor_that_is_registered_anew(monkeypatch):
    monkeypatch.setattr("timo.sensors.registry.SENSORS", dict(SENSORS))
    bands = (Band("nir", "nir", 0.83, 8),)
    register_sensor(Sensor("lens", "Lens", bands, scale=1e-4))
    before = get_sensor("lens+sentinel-1")
    register_sensor(Sensor("lens", "Lens", (Band("red", "red", 0.66, 8), *bands), scale=1e-4))
    after = get_sensor("lens+sentinel-1")
    assert before.band_names == ("nir", "VV", "VH", "HH", "HV")
    assert after.band_names == ("red", "nir", "VV", "VH", "HH", "HV")


@pytest.mark.parametrize(
    "name", ["sentinel-1+2", "s2+s1", "sentinel-2+", "+", "sentinel-2+landsat"]
)
def test_other_ways_to_name_two_sensors_are_told_of_join(name):
    with pytest.raises(TimoError, match=r"Unknown sensor .*timo\.cube\.join\(s2, s1\)"):
        get_sensor(name)


def test_bands_are_counted_by_sensor():
    assert band_groups(["B4", "B8", "VV"], JOINT) == (2, 1)
    assert band_groups(["VV", "B4", "B8"], JOINT) == (1, 2)
    assert band_groups(["B4", "B8"], JOINT) == (2,)
    assert band_groups(["B4", "B8"], "sentinel-2") == (2,)
    assert band_groups(["a", "b", "c"], "never registered") == (3,)
    assert band_groups(["a"], None) == (1,)
    with pytest.raises(TimoError, match=r"cube.sel\(band=\['B4', 'B8', 'VV'\]\)"):
        band_groups(["B4", "VV", "B8"], JOINT)
    with pytest.raises(TimoError, match="has no band 'B99'"):
        band_groups(["B99", "VV"], JOINT)


@settings(max_examples=20, deadline=None)
@given(
    groups=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    time=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_what_is_observed_is_finite_in_all_bands_of_the_group(groups, time, seed):
    rng = np.random.default_rng(seed)
    values = rng.random((time, sum(groups), 3, 2)).astype("float32")
    values[rng.random(values.shape) < 0.3] = np.nan
    found = observed(values, groups)
    parts = np.split(np.isfinite(values), np.cumsum(groups)[:-1], axis=1)
    expected = np.stack([part.all(axis=1) for part in parts], axis=1)
    if len(groups) == 1:
        assert found.shape == (time, 3, 2)
        expected = expected[:, 0]
    np.testing.assert_array_equal(found, expected)


def test_groups_that_are_not_those_of_the_values_are_refused(s2):
    with pytest.raises(TimoError, match="4 bands of the groups"):
        observed(s2.values, (2, 2))
    with pytest.raises(TimoError, match="at least one band"):
        observed(s2.values, (3, 0))


# --- what else takes a cube


def test_an_observation_of_one_sensor_counts(s2, s1):
    joint = join(s2, s1)
    mask = valid_mask(joint)
    assert mask.sel(time=s2.time[0]).all()
    assert mask.sel(time=s1.time[0]).all()
    both = mask.sel(time="2020-06-11")
    assert int((~both).sum()) == 6
    joint[2, 0] = np.nan
    assert int((~valid_mask(joint)[2]).sum()) == 6
    joint[2, 3] = np.nan
    assert not valid_mask(joint)[2].any()
    xr.testing.assert_equal(valid_mask(joint.chunk({"time": 1})).compute(), valid_mask(joint))


def test_composites_reduce_each_sensor_by_itself(s2, s1):
    months = [composite(cube, method="medoid") for cube in (join(s2, s1), s2, s1)]
    joint, *alone = months
    for part in alone:
        np.testing.assert_array_equal(joint.sel(band=part.band).values, part.values)
    total = sum(part.n_valid.values for part in alone)
    np.testing.assert_array_equal(joint.n_valid.values, total)
    lazy = composite(join(s2, s1).chunk({"time": 1}), method="medoid")
    xr.testing.assert_identical(lazy.compute(), joint)


def test_indices_and_colours_are_those_of_the_optical_part(s2, s1):
    joint = join(s2, s1)
    xr.testing.assert_allclose(ndvi(joint).sel(time=s2.time), ndvi(s2))
    assert np.isnan(ndvi(joint).sel(time=s1.time[0])).all()
    with pytest.raises(TimoError, match="no blue band"):
        true_colour(joint)


@pytest.mark.parametrize("method", ["linear", "climatology"])
def test_filling_fills_each_sensor_at_its_own_dates(s2, s1, method):
    filled = timo.fill(join(s2, s1), method)
    for cube in (s2, s1):
        alone = timo.fill(cube, method)
        part = filled.sel(time=cube.time, band=cube.band)
        np.testing.assert_array_equal(part.values, alone.values)
    assert np.isnan(filled.sel(band="VV")).all(("y", "x")).values.tolist() == [1, 0, 0, 0, 1, 0]
    assert filled.filled.dtype == bool
    assert int(filled.filled.sum()) == 6 * 4
    missing = timo.fill(join(s2, missing="sentinel-1"), method)
    assert np.isnan(missing.sel(band="VV")).all()


@pytest.mark.parametrize("end", ["zarr", "nc"])
def test_a_joint_cube_is_written_and_read(s2, s1, tmp_path, end):
    joint = join(s2, s1)
    path = timo.export(joint, tmp_path / f"joint.{end}")
    again = timo.open_cube("files", path=path)
    assert again.attrs["sensor"] == JOINT
    assert again.chunks is not None
    np.testing.assert_array_equal(again.values, joint.values)
    assert len(separate(again.compute())) == 2


def test_a_joint_cube_is_written_and_read_date_by_date(s2, s1, tmp_path):
    joint = join(s2, s1)
    for date in joint.time.values:
        timo.export(joint.sel(time=date), tmp_path / f"joint_{str(date)[:10]}.tif")
    again = timo.open_cube("files", path=tmp_path)
    assert again.attrs["sensor"] == JOINT
    np.testing.assert_array_equal(again.values, joint.values)


def test_a_joint_cube_is_fetched_and_its_values_are_looked_at(s2, s1, tmp_path):
    joint = join(s2, s1).chunk({"time": 2})
    kept = timo.fetch(joint, path=tmp_path / "joint.zarr", progress=False)
    np.testing.assert_array_equal(kept.values, joint.values)
    wrong = joint.where(joint.band.isin(["VV", "VH"]), joint * 1e4)
    with pytest.raises(TimoError, match="digital numbers; divide by 10,000"):
        timo.fetch(wrong, path=tmp_path / "wrong.zarr", progress=False)


def test_one_sensor_is_opened_at_a_time():
    with pytest.raises(TimoError, match=r"one sensor at a time.*timo\.cube\.join"):
        timo.open_cube("stac", aoi=(1, 2, 1.1, 2.1), start="2020", end="2020", sensor=JOINT)


# --- values of each sensor

OPTICAL, RADAR = ["B3", "B4", "B8"], ["VV", "VH"]
# Of one sensor what is changed, and what the message says.
FAULTS = {
    "digital numbers": (OPTICAL, lambda c: c * 1e4, "divide by 10,000"),
    "digital numbers on one date": (OPTICAL, lambda c: on_date(c, c * 1e4), "on another scale"),
    "percent in one band": (OPTICAL, lambda c: in_band(c, "B8", c * 100), "band B8"),
    "a number of no data": (OPTICAL, lambda c: in_corner(c, -9999), "no data"),
    "zeros in all bands": (OPTICAL, lambda c: in_corner(c, 0), "all bands"),
    "one number on one date": (OPTICAL, lambda c: on_date(c, c * 0 + 0.2), "no image"),
    "a few wild values": (OPTICAL, lambda c: in_corner(c, 300.0), "mean|beyond|no data"),
    "linear power": (RADAR, lambda c: 10 ** (c / 10), "linear power"),
    "power on one date": (RADAR, lambda c: on_date(c, 10 ** (c / 10)), "linear power"),
    "decibels times 100": (RADAR, lambda c: c * 100, "decibels x 100"),
    "zeros in radar": (RADAR, lambda c: in_corner(c, 0), "a band"),
}


def on_date(cube, other):
    return cube.where(cube.time != cube.time[2], other)


def in_band(cube, band, other):
    return cube.where(cube.band != band, other)


def in_corner(cube, value):
    return cube.where((cube.y < cube.y[8]) | (cube.x > cube.x[8]), value)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_sensor_is_found_and_its_remedy_leaves_the_other_alone(fault):
    bands, change, message = FAULTS[fault]
    days = pd.date_range("2020-06-01", periods=5, freq="5D")
    s2 = make(OPTICAL, "sentinel-2", days, side=24)
    s1 = make(RADAR, "sentinel-1", days + pd.Timedelta("2D"), side=24, seed=1)
    cube = join(s2, s1)
    changed = change(separate(cube)[bands == RADAR]).reindex(time=cube.time)
    cube.loc[{"band": bands}] = changed.values
    with pytest.raises(TimoError, match=message) as caught:
        check(cube)
    call = re.search(r"Use (.*)\.$", str(caught.value))
    assert call is not None, str(caught.value)
    names = {"cube": cube, "numpy": np, "xarray": xr}
    mended = check(eval(call[1], names).assign_attrs(cube.attrs).astype("float32"))  # noqa: S307
    others = RADAR if bands == OPTICAL else OPTICAL
    xr.testing.assert_equal(mended.sel(band=others), cube.sel(band=others))


# --- the bands of a model


def test_a_model_finds_its_bands_in_cubes_that_are_joined_in_any_order(s2, s1):
    bands = ["B8", "B4", "VV"]
    wanted = join(s2, s1).sel(band=bands)
    for cube in (join(s2, s1), join(s1, s2)):
        chosen = select_bands(cube, bands, JOINT)
        np.testing.assert_array_equal(chosen.values, wanted.values)
        assert chosen.attrs["sensor"] == JOINT
        assert band_groups(chosen.band.values.tolist(), JOINT) == (2, 1)


def test_a_model_of_one_sensor_finds_its_bands_in_a_joint_cube(s2):
    other = make(("B4", "B5"), "hls-l30", ("2020-06-20",), seed=2)
    chosen = select_bands(join(s2, other), ["B4"], "hls-l30")
    assert chosen.band.values.tolist() == ["B4"]
    assert chosen.attrs["sensor"] == "hls-l30"
    np.testing.assert_array_equal(chosen.sel(time=other.time).values, other.sel(band=["B4"]).values)
    reverse = select_bands(join(other, s2), ["B4", "B8", "hls-l30:B4"], "sentinel-2+hls-l30")
    np.testing.assert_array_equal(reverse.sel(time=s2.time, band="B4"), s2.sel(band="B4"))


def test_a_model_of_two_sensors_says_what_to_call_where_one_is_missing(s2, s1):
    bands = ["B4", "B8", "VV", "VH"]
    for cube, missing in ((s2, ["VV", "VH"]), (s1, ["B4", "B8"])):
        with pytest.raises(TimoError, match=r"timo\.cube\.join\(cube, missing=") as caught:
            select_bands(cube, bands, JOINT)
        call = re.search(r"timo\.cube\.join\(cube, missing=.*?\)", str(caught.value))[0]
        chosen = select_bands(eval(call, {"timo": timo, "cube": cube}), bands, JOINT)  # noqa: S307
        assert np.isnan(chosen.sel(band=missing)).all()
        assert chosen.band.values.tolist() == bands
    with pytest.raises(TimoError, match=r"\['B2'\] missing"):
        select_bands(join(s2, s1), ["B2", "VV"], JOINT)


def test_cubes_that_were_concatenated_by_hand_are_told_of_join(s2, s1):
    both = xr.concat([s2, s1], "band", join="outer", combine_attrs="override")
    with pytest.raises(TimoError, match=r"VV and VH can be of sentinel-1.*timo\.cube\.join"):
        check(both)
    with pytest.raises(TimoError, match=r"timo\.cube\.join"):
        check(both.assign_attrs(sensor="sentinel-1+2"))


def test_radar_in_a_cube_that_does_not_say_its_sensor_is_no_reflectance(s2, s1):
    both = xr.concat([s2, s1], "band", join="outer", combine_attrs="drop")
    for cube in (both, s1.assign_attrs(sensor=None)):
        with pytest.raises(
            TimoError, match=r'assign_attrs\(sensor="sentinel-1"\).*timo\.cube\.join'
        ):
            timo.load_model("timo-tiny", cube, ["a", "b"])
    parts = [
        both.sel(band=cube.band).assign_attrs(sensor=cube.attrs["sensor"]) for cube in (s2, s1)
    ]
    model = timo.load_model("timo-tiny", join(*parts), ["a", "b"], pretrained=False)
    assert model.config.encoder.groups == (3, 2)


def test_predictions_of_two_sensors_are_combined_as_the_message_says():
    time = pd.to_datetime(["2020-06-01", "2020-06-11", "2020-06-15"])
    one, other = (
        xr.DataArray(np.full((2, 2, 2), p), dims=("time", "y", "x"), coords={"time": time[dates]})
        for p, dates in ((0.9, [0, 1]), (0.5, [1, 2]))
    )
    with pytest.raises(TimoError, match=r"xarray\.concat\(\[a, b\].*timo\.cube\.join") as caught:
        timo.mapping.mean_probability([one, other])
    call = re.search(r"xarray\.concat\(.*?\"outer\"\)", str(caught.value))[0]
    both = eval(call, {"xarray": xr, "a": one, "b": other})  # noqa: S307
    mean = timo.mapping.mean_probability(both, dim="model").isel(y=0, x=0)
    np.testing.assert_allclose(mean.values, [0.9, 0.75, 0.5])


def test_the_explorer_counts_what_any_sensor_saw(s2, s1):
    widgets = pytest.importorskip("timo_widgets")
    joint = join(s2, s1)
    reader = importlib.import_module("timo_widgets.explore.reading").CubeReader(joint)
    gap = 1 - 6 / 144
    np.testing.assert_allclose(reader.clear_shares(), [1, 1, gap, gap, gap, gap])
    assert widgets.CubeExplorer(joint).children
