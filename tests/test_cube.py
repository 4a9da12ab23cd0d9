import re

import dask.array as da
import numpy as np
import pandas as pd
import pyproj
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import timo
from timo.cube import (
    blocks,
    cell_area_m2,
    cell_size_m,
    check,
    check_grid,
    check_labels,
    composite,
    days_since_epoch,
    dilate,
    grid_mismatch,
    hectares,
    period_starts,
    spacing,
    split_blocks,
    valid_mask,
)
from timo.errors import TimoError
from timo.sources import open_cube
from timo.sources.sample import sample_labels

few = settings(max_examples=25, deadline=None)
BANDS = ["B2", "B3", "B4", "B8"]


def make_cube(dates=("2019-01-05", "2019-01-20", "2019-02-10"), bands=2, height=4, width=5, seed=0):
    rng = np.random.default_rng(seed)
    shape = (len(dates), bands, height, width)
    cube = xr.DataArray(
        rng.uniform(0, 0.5, shape).astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(dates),
            "band": BANDS[:bands],
            "y": 1000.0 - 10 * np.arange(height),
            "x": 500_000.0 + 10 * np.arange(width),
        },
        attrs={"sensor": "sentinel-2", "attribution": "made up"},
    )
    return cube.rio.write_crs("EPSG:32634")


def make_labels(values, crs="EPSG:32634", **attrs):
    values = np.asarray(values)
    labels = xr.DataArray(
        values,
        dims=("y", "x"),
        coords={
            "y": 1000.0 - 10 * np.arange(values.shape[0]),
            "x": 500_000.0 + 10 * np.arange(values.shape[1]),
        },
        attrs=attrs,
    )
    return labels.rio.write_crs(crs)


@pytest.fixture(scope="module")
def sample():
    return open_cube("sample", start="2018-04", end="2018-09")


# --- check


def test_check_returns_the_cube_itself():
    cube = make_cube()
    assert check(cube) is cube


def _rename_band(cube, names):
    return cube.assign_coords(band=names)


def _all(value):
    return lambda cube: xr.full_like(cube, value)


BAD_CUBES = {
    "not xarray": (lambda c: c.values, "must be an xarray.DataArray; got ndarray"),
    "text": (lambda c: c.astype(str), "must be float32"),
    "missing dim": (lambda c: c.isel(time=0), r"must have the dims .* got \('band', 'y', 'x'\)"),
    "other dim": (lambda c: c.rename(x="lon"), r"Use cube.rename\(\.\.\.\)"),
    "order": (
        lambda c: c.transpose("time", "y", "x", "band"),
        r'order .* Use cube.transpose\("time", "band", "y", "x"\)',
    ),
    "empty": (lambda c: c.isel(time=slice(0)), "cube is empty: its size along 'time' is 0"),
    "no coordinate": (lambda c: c.drop_vars("time"), "has no coordinate 'time'"),
    "dtype": (
        lambda c: c.astype("float64"),
        r'must be float32 .* got float64. Use cube.astype\("float32"\)',
    ),
    "integers": (lambda c: c.astype("int16"), "must be float32 with NaN"),
    "time no date": (
        lambda c: c.assign_coords(time=[1, 2, 3]),
        "time must be datetime64; got int64. .*pandas.to_datetime",
    ),
    "NaT": (
        lambda c: c.assign_coords(time=pd.DatetimeIndex(["2019-01-01", "NaT", "2019-03-01"])),
        "time holds NaT",
    ),
    "duplicate dates": (
        lambda c: c.isel(time=[0, 1, 1]),
        r'date 2019-01-20 more than once. Use cube.drop_duplicates\("time"\)',
    ),
    "unsorted": (
        lambda c: c.isel(time=[1, 0, 2]),
        r'dates must ascend. Use cube.sortby\("time"\)',
    ),
    "twice the band": (lambda c: _rename_band(c, ["B2", "B2"]), "the band 'B2' more than once"),
    "unknown band": (lambda c: _rename_band(c, ["B2", "red"]), "sentinel-2 has no band 'red'"),
    "unknown sensor": (lambda c: c.assign_attrs(sensor="spot"), "Unknown sensor 'spot'"),
    "uneven x": (
        lambda c: c.isel(x=[0, 1, 3, 4]),
        r"x must be evenly spaced .* from 10 to 20. Use cube.sortby\(\"x\"\).reindex",
    ),
    "repeated y": (lambda c: c.isel(y=[0, 0]), r"y must be evenly spaced.*cube.drop_duplicates"),
    "oblong": (lambda c: c.isel(x=slice(None, None, 2)), "must be square: y steps by -10, x by 20"),
    "no crs": (
        lambda c: c.drop_vars("spatial_ref"),
        r'no coordinate reference system. Use cube.rio.write_crs\("EPSG',
    ),
    "all NaN": (_all(np.nan), "cube is all NaN: no date has a valid observation"),
    "infinite": (_all(np.inf), "cube holds infinite values"),
}


@pytest.mark.parametrize("case", BAD_CUBES)
def test_check_says_what_is_wrong_and_what_to_call(case):
    spoil, message = BAD_CUBES[case]
    with pytest.raises(TimoError, match=message):
        check(spoil(make_cube()))


def test_check_takes_backscatter_in_decibels():
    radar = (make_cube().isel(band=[0, 1]) - 20).assign_coords(band=["VV", "VH"])
    assert check(radar.assign_attrs(sensor="sentinel-1", units="backscatter, dB")).max() < 0


def test_check_uses_the_callers_word_for_the_cube():
    with pytest.raises(TimoError, match=r"The composite must be float32.*composite.astype"):
        check(make_cube().astype("float64"), what="composite")


def test_check_takes_a_sensor_that_is_not_said_and_rounded_coordinates():
    cube = make_cube(height=50)
    del cube.attrs["sensor"]
    check(cube.assign_coords(band=["red", "anything"]))
    check(cube.assign_coords(y=cube.y + 0.01 * np.sin(np.arange(50))))
    check(cube.isel(x=[0], y=[0]))


def test_check_does_not_compute_a_lazy_cube():
    def read(block):
        raise AssertionError("computed")

    cube = make_cube()
    data = da.from_array(cube.values, chunks=2).map_blocks(read, dtype="float32", meta=cube.values)
    lazy = cube.copy(data=data)
    assert check(lazy) is lazy


def test_check_does_not_read_a_cube_that_lies_in_a_file(tmp_path):
    make_cube().drop_attrs(deep=False).to_netcdf(tmp_path / "cube.nc")
    with xr.open_dataarray(tmp_path / "cube.nc", decode_coords="all") as cube:
        check(cube)
        assert not cube.variable._in_memory


def test_coordinates_in_another_unit_are_refused_and_mended():
    cube = make_cube(height=6, width=6)
    kilometres = cube.assign_coords(y=cube.y / 1000 + 5000, x=cube.x / 1000)
    said = make_cube(height=6, width=6)
    for dim in ("y", "x"):
        said[dim].attrs["units"] = "km"
    for case in (kilometres, said):
        with pytest.raises(
            TimoError, match=r"coordinates are in kilometres .* is in metres"
        ) as error:
            check(case)
        call = re.search(r"Use (.*)\.$", str(error.value))[1]
        mended = eval(call, {"cube": case})  # noqa: S307
        assert check(mended) is mended
    degrees = cube.rio.write_crs("EPSG:4326")
    with pytest.raises(TimoError, match=r"in degrees by .*x = 500,050, y = 1,000: metres of a pro"):
        check(degrees)
    check(degrees.rio.write_crs("EPSG:32634"))
    lonlat = cube.assign_coords(y=45 - 1e-4 * np.arange(6), x=22 + 1e-4 * np.arange(6))
    with pytest.raises(TimoError, match=r"are in degrees .*Use cube.rio.write_crs\(4326\)"):
        check(lonlat)
    check(lonlat.rio.write_crs(4326))
    # The whole earth, with cell centres on the poles and longitudes to 360.
    globe = make_cube(height=19, width=37).assign_coords(
        y=90.0 - 10 * np.arange(19), x=10.0 * np.arange(37)
    )
    check(globe.rio.write_crs("EPSG:4326"))
    with pytest.raises(TimoError, match="metres of a projection"):
        check(globe.assign_coords(y=globe.y * 2, x=globe.x * 2).rio.write_crs("EPSG:4326"))


def test_spacing_and_the_same_grid_have_one_home():
    cube = make_cube()
    assert spacing(cube, "y") == -10
    with pytest.raises(TimoError, match=r"The map's x must be evenly spaced"):
        spacing(cube.isel(x=[0, 1, 3]), "x", "map")
    for wrong, message in (
        (cube.rename(x="lon"), "has no dimension 'x'"),
        (cube.assign_coords(x=list("abcde")), "x must be finite numbers.*'a', 'b', 'c'"),
        (cube.assign_coords(x=np.full(5, np.nan)), "x must be finite numbers"),
        (cube.isel(x=slice(0)), "is empty: its size along 'x' is 0"),
    ):
        with pytest.raises(TimoError, match=message):
            check_grid(wrong)
    with pytest.raises(TimoError, match="a single cell along 'x'"):
        spacing(cube.isel(x=[0]), "x")
    assert grid_mismatch(cube[0, 0], cube) == ""
    assert grid_mismatch(cube.isel(x=slice(3)), cube, "the map") == "x has 3 cells, the map's 5"
    assert "y is up to 1 cells" in grid_mismatch(cube.assign_coords(y=cube.y + 10), cube)
    assert "EPSG:32635" in grid_mismatch(cube.rio.write_crs("EPSG:32635"), cube)
    assert grid_mismatch(cube.drop_vars("spatial_ref"), cube) == ""


# --- check_labels


def test_labels_on_the_cubes_grid_are_returned_as_they_are():
    cube = make_cube()
    labels = make_labels(np.zeros((4, 5), dtype="int8"), classes=["a"])
    assert check_labels(labels, cube) is labels
    dated = labels.expand_dims(time=cube.time)
    assert check_labels(dated, cube) is dated


BAD_LABELS = {
    "not xarray": (lambda a: a.values, "labels must be an xarray.DataArray"),
    "dims": (lambda a: a.T, r'the dims \("y", "x"\) or \("time", "y", "x"\)'),
    "float": (
        lambda a: a.astype(float),
        r'must be integers.*labels.fillna\(-1\).astype\("int16"\)',
    ),
    "bool": (lambda a: a > 0, "must be integers, -1 = unlabelled; got bool"),
    "size": (
        lambda a: a.isel(x=slice(3)),
        r"their x has 3 cells, the cube's 5.*timo.read_labels\(labels, like=cube\)",
    ),
    "no date": (lambda a: a.expand_dims("time"), "must have the cube's dates"),
    "no y": (lambda a: a.drop_vars("y"), "their coordinate 'y' is missing.*read_labels"),
    "shifted": (
        lambda a: a.assign_coords(y=a.y + 5),
        "another grid: their y is up to 0.5 cells from the cube's.*read_labels",
    ),
    "crs": (
        lambda a: a.rio.write_crs("EPSG:32635"),
        "their reference system is EPSG:32635, the cube's EPSG:32634",
    ),
    "below -1": (lambda a: a - 5, r"got -5. Use labels.where\(labels >= 0, -1\)"),
    "unnamed": (
        lambda a: a + 1,
        r"go up to 1, but attrs\['classes'\] names 1: \['a'\]",
    ),
    "dates": (
        lambda a: a.expand_dims(time=pd.DatetimeIndex(["2019-01-05"])),
        r"must have the cube's dates.*labels.reindex\(time=cube.time, fill_value=-1\)",
    ),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_check_labels_says_what_is_wrong(case):
    spoil, message = BAD_LABELS[case]
    labels = make_labels(np.zeros((4, 5), dtype="int8"))
    with xr.set_options(keep_attrs=True), pytest.raises(TimoError, match=message):
        check_labels(spoil(labels.assign_attrs(classes=["a"])), make_cube())


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64", "float32"])
@pytest.mark.parametrize("nodata", [None, 0, 255])
def test_the_call_that_the_message_names_mends_labels_on_another_grid(dtype, nodata):
    """Whatever the type of the numbers is, and whatever value of theirs means no data."""
    cube = make_cube(height=8, width=8)
    labels = make_labels((np.arange(64) % 4).astype(dtype).reshape(8, 8)).isel(x=slice(2, None))
    if nodata is not None and (nodata == 0 or dtype != "int8"):
        labels = labels.rio.write_nodata(nodata)
    numeric = dtype == "float32"
    with pytest.raises(TimoError, match=r"Use timo\.read_labels\(labels, like=cube") as caught:
        check_labels(labels, cube, numeric=numeric)
    call = re.search(r"timo\.read_labels\(.*?\)", str(caught.value))[0]
    mended = eval(call, {"timo": timo, "labels": labels, "cube": cube})  # noqa: S307
    check_labels(mended, cube, numeric=numeric)
    gone = np.isnan(mended) if numeric else mended == -1
    assert gone[:, :2].all()
    names = np.append(np.array(mended.attrs.get("classes", []), float), np.nan)
    found = mended.values if numeric else names[mended.values]
    expected = labels.astype(float).where(labels != (0 if nodata == 0 else -1))
    np.testing.assert_array_equal(found[:, 2:], expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("bear", ["write_nodata", "encoded", "attribute", "set_nodata"])
def test_a_declared_nodata_is_never_a_class(dtype, bear):
    """Wherever it is declared: the message names two calls, one that leaves it out and one that keeps it."""
    cube = make_cube()
    labels = make_labels(np.array([[0, 1, 2, 1, 0]] * 4, dtype), classes=["none", "a", "b"])
    spoilt = {
        "write_nodata": lambda: labels.rio.write_nodata(0),
        "encoded": lambda: labels.rio.write_nodata(0, encoded=True),
        "attribute": lambda: labels.assign_attrs(nodata=0),
        "set_nodata": lambda: labels.rio.set_nodata(0),
    }[bear]()
    with pytest.raises(TimoError, match=r"declare 0 as no data, and 8 of them are 0.*read_labels"):
        check_labels(spoilt, cube)
    mended = check_labels(timo.read_labels(spoilt, like=cube), cube)
    assert (mended.values == [[-1, 1, 2, 1, -1]] * 4).all()
    assert mended.attrs["classes"] == ["none", "a", "b"]
    kept = timo.read_labels(spoilt, like=cube, classes={0: "other", 1: "a", 2: "b"})
    assert (check_labels(kept, cube).values == labels.values).all()
    # One that does not occur, and -1, do no harm.
    check_labels(labels.where(labels > 0, 1).rio.write_nodata(0), cube)
    check_labels(labels.astype("int16").rio.write_nodata(-1), cube)


def test_numbers_to_predict_and_labels_of_a_chip():
    cube = make_cube()
    numbers = make_labels(np.full((4, 5), 0.5, "float32")).where(cube.x > cube.x[1])
    assert check_labels(numbers, cube, numeric=True) is numbers
    assert check_labels(numbers, cube, numeric=None, unit=None) is numbers
    with pytest.raises(TimoError, match="must be integers"):
        check_labels(numbers, cube)
    with pytest.raises(TimoError, match=r"must be floats, NaN = unlabelled; got int8"):
        check_labels(make_labels(np.zeros((4, 5), "int8")), cube, numeric=True)
    with pytest.raises(TimoError, match="infinite"):
        check_labels(numbers.fillna(np.inf), cube, numeric=True)
    missing = numbers.fillna(-9999).assign_attrs(nodata=-9999)
    with pytest.raises(TimoError, match=r"labels\.where\(labels != -9999\)"):
        check_labels(missing, cube, numeric=True)
    check_labels(missing.where(missing != -9999), cube, numeric=True)
    whole = xr.DataArray(1, attrs={"classes": ["a", "b"]})
    dated = xr.DataArray([0, 1, -1], dims="time", coords={"time": cube.time})
    for one in (whole, dated):
        assert check_labels(one, cube, unit="chip") is one
        assert check_labels(one, cube, unit=None) is one
        with pytest.raises(TimoError, match=r'one label for a whole chip.*task="classification"'):
            check_labels(one, cube)
    with pytest.raises(TimoError, match="Labels of a chip have no dims"):
        check_labels(make_labels(np.zeros((4, 5), "int8")), cube, unit="chip")
    with pytest.raises(TimoError, match="must have the cube's dates"):
        check_labels(dated[:2], cube, unit="chip")
    with pytest.raises(TimoError, match="names 2"):
        check_labels(whole.copy(data=2), cube, unit="chip")


# --- valid_mask and composite


def test_a_pixel_is_valid_when_all_bands_are():
    cube = make_cube()
    cube[0, 1, 2, 3] = np.nan
    valid = valid_mask(cube)
    assert valid.dims == ("time", "y", "x")
    assert valid.dtype == bool
    assert not valid[0, 2, 3]
    assert valid.sum() == valid.size - 1


def test_monthly_median_counts_and_ignores_gaps():
    cube = make_cube(dates=["2019-01-01", "2019-01-11", "2019-01-21", "2019-03-01"])
    cube[0, 0, 0, 0] = np.nan  # one band gone: the whole observation is
    cube[:3, :, 1, 1] = np.nan
    result = composite(cube)
    assert list(result.indexes["time"]) == list(pd.to_datetime(["2019-01-01", "2019-03-01"]))
    np.testing.assert_allclose(result[0, :, 0, 0], cube[1:3, :, 0, 0].mean("time"), rtol=1e-6)
    np.testing.assert_allclose(result[0, :, 2, 2], cube[:3, :, 2, 2].median("time"), rtol=1e-6)
    assert np.isnan(result[0, :, 1, 1]).all()
    assert result.n_valid.dims == ("time", "y", "x")
    assert result.n_valid[0, 0, 0] == 2
    assert result.n_valid[0, 1, 1] == 0
    assert result.attrs["attribution"] == "made up"
    assert result.attrs["composite"] == "month median"
    assert result.rio.crs == cube.rio.crs


def test_seasons_start_in_december_and_years_in_january():
    cube = make_cube(dates=["2018-11-30", "2018-12-01", "2019-02-28", "2019-03-01"])
    seasons = composite(cube, freq="season").indexes["time"]
    assert list(seasons) == list(pd.to_datetime(["2018-09-01", "2018-12-01", "2019-03-01"]))
    years = composite(cube, freq="year").indexes["time"]
    assert list(years) == list(pd.to_datetime(["2018-01-01", "2019-01-01"]))


@pytest.mark.parametrize(
    ("freq", "expected"),
    [
        ("1MS", ["2018-11-01", "2018-12-01", "2019-02-01", "2019-03-01"]),
        ("2MS", ["2018-10-01", "2018-12-01", "2019-02-01", "2019-02-01"]),
        ("QS-DEC", ["2018-09-01", "2018-12-01", "2018-12-01", "2019-03-01"]),
        ("YS", ["2018-01-01", "2018-01-01", "2019-01-01", "2019-01-01"]),
        ("W-MON", ["2018-11-26", "2018-11-26", "2019-02-25", "2019-02-25"]),
        ("16D", ["2018-11-30", "2018-11-30", "2019-02-18", "2019-02-18"]),
    ],
)
def test_periods_of_any_length(freq, expected):
    cube = make_cube(dates=["2018-11-30", "2018-12-01", "2019-02-28", "2019-03-01"])
    # Two months are counted from the origin's month, sixteen days from its day, before it too.
    origin = "2019-02-02"
    starts = period_starts(cube.indexes["time"], freq, origin)
    assert list(starts) == list(pd.to_datetime(expected))
    result = composite(cube, freq=freq, origin=origin)
    assert list(result.indexes["time"]) == sorted(set(starts))
    assert result.attrs["composite"] == f"{freq} median"


def test_days_are_counted_from_the_first_date_unless_said_otherwise():
    cube = make_cube(dates=["2019-01-05", "2019-01-20", "2019-01-21"])
    starts = composite(cube, freq="16D").indexes["time"]
    assert list(starts) == list(pd.to_datetime(["2019-01-05", "2019-01-21"]))


@few
@given(
    freq=st.sampled_from(["month", "season", "year", "1MS", "3MS", "2YS", "QS-JAN", "W", "5D"]),
    days=st.lists(st.integers(0, 3000), min_size=1, max_size=8, unique=True),
    origin=st.integers(0, 3000),
)
def test_a_date_lies_in_its_period(freq, days, origin):
    day = pd.Timedelta(days=1)
    times = pd.DatetimeIndex(pd.Timestamp("2015-01-01") + day * np.sort(days))
    starts = period_starts(times, freq, pd.Timestamp("2015-01-01") + day * origin)
    offset = pd.tseries.frequencies.to_offset(
        {"month": "MS", "season": "QS-DEC", "year": "YS"}.get(freq, freq)
    )
    assert all(start <= time < start + offset for start, time in zip(starts, times, strict=True))
    # What starts a period is in it, whatever else is in the series.
    assert list(period_starts(starts, freq, starts[0])) == list(starts)


@pytest.mark.parametrize("freq", ["ME", "12h", "-1MS", "B", ""])
def test_periods_that_are_none_are_refused(freq):
    with pytest.raises(TimoError, match=r"freq.*Known: month, season, year"):
        composite(make_cube(), freq=freq)


@pytest.mark.parametrize("origin", ["", "some words", True, 3, pd.NaT, "0001-01-01x"])
def test_an_origin_that_is_no_date_is_refused(origin):
    with pytest.raises(TimoError, match="origin must be"):
        composite(make_cube(), "16D", origin=origin)


def test_times_that_are_no_dates_are_refused():
    times = make_cube().indexes["time"]
    for wrong in (times[:0], times.insert(0, pd.NaT), times.tz_localize("UTC")):
        with pytest.raises(TimoError, match="times must be dates"):
            period_starts(wrong, "month", "2019-01-01")
    with pytest.raises(TimoError, match="time must be datetime64; got int64"):
        days_since_epoch(xr.DataArray([1, 2], dims="time"))


def test_medoid_is_the_one_of_smallest_summed_distance():
    cube = make_cube(dates=pd.date_range("2019-01-01", periods=5), bands=2, height=1, width=1)
    cube[:, :, 0, 0] = [[0.1, 0.1], [0.12, 0.1], [0.4, 0.4], [0.11, 0.13], [0.9, 0.0]]
    spectra = cube.values[:, :, 0, 0]
    apart = np.linalg.norm(spectra[:, None] - spectra[None], axis=-1).sum(axis=1)
    result = composite(cube, method="medoid")
    np.testing.assert_array_equal(result[0, :, 0, 0], spectra[apart.argmin()])
    assert apart.argmin() == 1


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_lazy_and_eager_composites_are_equal(method):
    cube = make_cube(dates=pd.date_range("2019-01-01", periods=9, freq="9D"), height=6, width=7)
    cube = cube.where(np.random.default_rng(1).random(cube.shape) < 0.8)
    lazy = composite(cube.chunk({"time": 2, "band": 1, "y": 3}), method=method)
    assert lazy.chunks is not None
    assert lazy.n_valid.chunks is not None
    xr.testing.assert_identical(lazy.compute(), composite(cube, method=method))


spectra = hnp.arrays(
    "float32",
    st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    elements=st.one_of(st.floats(0, 1, width=32), st.just(np.nan)),
)


def _cube_of(values):
    values = values.copy()
    values[0, :, 0, 0] = 0.25  # at least one observation: an all-NaN cube is refused
    dates = pd.date_range("2019-06-01", periods=len(values), freq="3D")
    cube = make_cube(
        dates=dates, bands=values.shape[1], height=values.shape[2], width=values.shape[3]
    )
    return cube.copy(data=values)


@few
@given(spectra)
def test_medoid_is_always_one_of_the_valid_observations(values):
    cube = _cube_of(values)
    valid = valid_mask(cube)
    result = composite(cube, freq="year", method="medoid").isel(time=0)
    found = ((cube == result).all("band") & valid).any("time")
    assert (found == valid.any("time")).all()
    assert (np.isnan(result).all("band") == ~valid.any("time")).all()


@few
@given(spectra)
def test_median_is_numpys_over_the_valid_observations(values):
    cube = _cube_of(values)
    result = composite(cube, freq="year").isel(time=0)
    expected = cube.where(valid_mask(cube)).median("time", skipna=True)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


@few
@given(spectra, st.sampled_from(["median", "medoid"]), st.data())
def test_composites_ignore_dates_without_observation(values, method, data):
    cube = _cube_of(values)
    where = data.draw(st.integers(0, cube.sizes["time"]))
    gap = xr.full_like(cube.isel(time=[0]), np.nan)
    gap = gap.assign_coords(time=[cube.time.values[0] + np.timedelta64(3 * where - 1, "D")])
    padded = xr.concat([cube, gap], "time").sortby("time")
    left, right = (composite(c, freq="season", method=method) for c in (cube, padded))
    last = right.sel(time=left.time)  # a gap on 31 May opens a season of its own
    np.testing.assert_array_equal(last, left)
    np.testing.assert_array_equal(last.n_valid, left.n_valid)


def test_composite_of_the_sample(sample):
    result = composite(sample, method="medoid")
    assert result.sizes == {"time": 6, "band": 6, "y": 100, "x": 100}
    assert "scl" not in result.coords
    august = result.sel(time="2018-08-01", band="B8")
    assert 0.2 < float(august.median()) < 0.45


def test_composite_refuses_what_it_does_not_know():
    with pytest.raises(TimoError, match=r"Unknown freq 'week'. Known: month, season, year"):
        composite(make_cube(), freq="week")
    with pytest.raises(TimoError, match=r"method must be one of 'median', 'medoid'; got 'mean'"):
        composite(make_cube(), method="mean")
    with pytest.raises(TimoError, match=r"dates must ascend"):
        composite(make_cube().isel(time=[1, 0]))


# --- blocks


@few
@given(st.integers(1, 17), st.integers(1, 17), st.integers(10, 200))
def test_blocks_partition_the_grid_into_rectangles(height, width, size):
    if height == width == 1:
        width = 2
    numbers = blocks(make_cube(height=height, width=width), size)
    assert numbers.dims == ("y", "x")
    assert numbers.dtype == np.int32
    cells = round(size / 10)
    ids, counts = np.unique(numbers, return_counts=True)
    assert list(ids) == list(range(len(ids)))
    assert counts.sum() == height * width
    for number in ids:
        rows, columns = np.nonzero(numbers.values == number)
        assert np.ptp(rows) < cells
        assert np.ptp(columns) < cells
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_blocks_in_degrees_are_as_wide_as_they_are_high_in_metres():
    cube = make_cube(height=40, width=40)
    lat, lon = 60 - 1e-4 * np.arange(40), 20 + 1e-4 * np.arange(40)
    numbers = blocks(cube.assign_coords(y=lat, x=lon).rio.write_crs("EPSG:4326"), 111)
    assert (numbers.values[:, 0] == 0).sum() == 10  # 11.1 m a row
    assert (numbers.values[0] == 0).sum() == 20  # 5.6 m a column, at 60 degrees north


@pytest.mark.parametrize("size", [0, -5, 9.9, np.inf, np.nan])
def test_blocks_refuse_a_size_below_a_cell(size):
    with pytest.raises(TimoError, match=r"size_m must be at least the size of a cell, 10 m"):
        blocks(make_cube(), size)


# --- split_blocks


def two_classes(height=24, width=24, share=0.3, seed=0):
    values = np.random.default_rng(seed).random((height, width)) < share
    return make_labels(values.astype("int8"), classes=["not forest", "forest"])


def test_the_checkerboard_alternates():
    numbers = blocks(two_classes(), 40)
    split = split_blocks(numbers)
    assert split.dtype == np.int8
    colour = (np.arange(24)[:, None] // 4 + np.arange(24) // 4) % 2 == 1
    np.testing.assert_array_equal(split == 2, colour)
    validation = len(np.unique(numbers.values[split.values == 1]))
    assert validation == pytest.approx(18 * 0.25, abs=1)
    moved = split_blocks(numbers.isel(y=slice(4, None), x=slice(4, None)))
    np.testing.assert_array_equal(moved == 2, colour[4:, 4:])


@pytest.mark.parametrize("scheme", ["checkerboard", "random"])
def test_the_same_seed_gives_the_same_split_and_another_another(scheme):
    numbers = blocks(two_classes(), 40)
    first, again, other = (split_blocks(numbers, scheme, seed=s) for s in (3, 3, 4))
    xr.testing.assert_identical(first, again)
    assert (first != other).any()


@few
@given(
    st.integers(0, 1000), st.sampled_from([30, 40, 60]), st.sampled_from(["checkerboard", "random"])
)
def test_a_block_is_never_divided_between_parts(seed, size, scheme):
    numbers = blocks(two_classes(), size)
    split = split_blocks(numbers, scheme, seed=seed, labels=two_classes(seed=seed))
    assert set(np.unique(split)) == {0, 1, 2}
    for number in np.unique(numbers):
        assert len(np.unique(split.values[numbers.values == number])) == 1


def test_a_random_split_shares_a_rare_class_out_in_proportion():
    values = np.zeros((60, 60), dtype="int8")
    values[:12, :20] = 1  # in one corner only
    labels = make_labels(values, classes=["not forest", "forest"])
    for seed in range(5):
        split = split_blocks(
            blocks(labels, 40), "random", (0.6, 0.2, 0.2), seed=seed, labels=labels
        )
        for code, tolerance in ((1, 0.07), (0, 0.07)):
            shares = [float(((labels == code) & (split == p)).sum()) for p in range(3)]
            np.testing.assert_allclose(
                np.array(shares) / sum(shares), [0.6, 0.2, 0.2], atol=tolerance
            )


def test_a_share_of_nothing_leaves_the_part_out():
    numbers = blocks(two_classes(), 40)
    assert set(np.unique(split_blocks(numbers, "random", (0.7, 0, 0.3)))) == {0, 2}
    assert set(np.unique(split_blocks(numbers, "checkerboard", (0.5, 0, 0.5)))) == {0, 2}


def test_the_buffer_keeps_training_away_from_test():
    numbers = blocks(two_classes(height=40, width=40), 80)
    split = split_blocks(numbers, "random", buffer_m=25, seed=1)
    plain = split_blocks(numbers, "random", seed=1)
    np.testing.assert_array_equal(split == 2, plain == 2)
    place = np.argwhere(np.ones((40, 40)))
    apart = np.linalg.norm(place[:, None] - np.argwhere(plain.values == 2)[None], axis=-1).min(
        axis=1
    )
    near = (apart.reshape(40, 40) <= 2.5) & (plain.values != 2)
    np.testing.assert_array_equal(split.values, np.where(near, -1, plain.values))


def test_labels_with_dates_can_guide_the_split():
    labels = two_classes().expand_dims(time=pd.date_range("2019-01-01", periods=2))
    split = split_blocks(blocks(labels, 40), "random", labels=labels)
    assert set(np.unique(split)) == {0, 1, 2}


def test_a_part_without_a_class_is_refused_by_name():
    values = np.zeros((24, 24), dtype="int8")
    values[0, 0] = 1
    labels = make_labels(values, classes=["not forest", "forest"])
    message = "part has no pixel of class 'forest'. Use smaller blocks or another seed"
    for scheme in ("checkerboard", "random"):
        with pytest.raises(TimoError, match=message):
            split_blocks(blocks(labels, 40), scheme, labels=labels)
    with pytest.raises(TimoError, match=r"part has no pixel of class 1"):
        split_blocks(blocks(labels, 40), labels=labels.drop_attrs(deep=False))


def test_too_few_blocks_are_refused():
    numbers = blocks(two_classes(), 1000)
    with pytest.raises(TimoError, match=r"The validation part has no pixel. Use smaller blocks"):
        split_blocks(numbers, "random")


BAD_SPLITS = {
    "scheme": (
        {"scheme": "stripes"},
        "scheme must be one of 'checkerboard', 'random'; got 'stripes'",
    ),
    "sum": ({"fractions": (0.6, 0.2, 0.1)}, "three shares .* with the sum 1"),
    "count": (
        {"fractions": (0.6, 0.4)},
        r"fractions must be \(a number from 0 to 1, .*got \(0.6, 0.4\)",
    ),
    "negative": ({"fractions": (1.2, -0.2, 0.0)}, "fractions must be .*from 0 to 1"),
    "no training": ({"fractions": (0, 0.5, 0.5)}, "leave nothing to train on"),
    "buffer": ({"buffer_m": -1}, "buffer_m must be a number of 0 or more; got -1"),
    "other labels": ({"labels": two_classes(height=12)}, "labels are on another grid"),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_split_blocks_says_what_is_wrong(case):
    options, message = BAD_SPLITS[case]
    with pytest.raises(TimoError, match=message):
        split_blocks(blocks(two_classes(), 40), **options)


def test_split_blocks_takes_blocks_only():
    with pytest.raises(TimoError, match=r"Use timo.cube.blocks\(cube, size_m\)"):
        split_blocks(make_cube())


def test_the_sample_can_be_split_with_both_classes_in_every_part(sample):
    labels = sample_labels()
    split = split_blocks(blocks(sample, 100), labels=labels, buffer_m=20)
    assert {
        (int(p), int(c)) for p, c in zip(split.values.ravel(), labels.values.ravel(), strict=True)
    } >= {(part, code) for part in (0, 1, 2) for code in (0, 1)}


# --- grid


@few
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.floats(0, 6),
    st.floats(0, 6),
)
def test_dilate_reaches_as_far_as_the_ellipse(mask, height, width):
    place = np.argwhere(np.ones_like(mask))
    dy, dx = np.moveaxis(place[:, None] - np.argwhere(mask)[None], -1, 0)
    # A half axis below one cell reaches no neighbour; 1e-9 keeps the division defined.
    reach = (dy / max(height, 1e-9)) ** 2 + (dx / max(width, 1e-9)) ** 2
    near = (reach <= 1 + 1e-9).any(axis=1).reshape(mask.shape)
    np.testing.assert_array_equal(dilate(mask, height, width), near)


def test_only_masks_are_dilated():
    for wrong in (np.zeros((3, 3)), np.zeros(3, bool)):
        with pytest.raises(TimoError, match=r"mask must be booleans \(\.\.\., y, x\)"):
            dilate(wrong, 1, 1)
    assert dilate(np.eye(3, dtype=bool), 1e300, 1e300).all()


def test_hectares_of_a_mask_and_of_classes():
    values = np.array([[0, 1, 1, -1, 1]], dtype="int8").repeat(4, axis=0)
    labels = make_labels(values, classes=["not forest", "forest", "water"])
    area = hectares(labels)
    assert dict(area) == pytest.approx({"not forest": 0.04, "forest": 0.12, "water": 0.0})
    assert hectares(labels == 1) == pytest.approx(0.12)
    assert dict(hectares(labels.drop_attrs(deep=False))) == pytest.approx({0: 0.04, 1: 0.12})


def test_hectares_in_a_projection_in_feet():
    labels = make_labels(np.ones((10, 10), dtype=bool)).assign_coords(
        y=200_000.0 - 100 * np.arange(10), x=980_000.0 + 100 * np.arange(10)
    )
    feet = labels.rio.write_crs("EPSG:2263")  # New York Long Island, US survey feet
    assert hectares(feet) == pytest.approx(1e6 * (1200 / 3937) ** 2 / 1e4)
    assert cell_size_m(feet)[0] == pytest.approx(30.48, rel=1e-4)


def test_hectares_in_degrees_are_those_of_the_ellipsoid():
    lat, lon = 59.95 - 0.1 * np.arange(20), 10.05 + 0.1 * np.arange(10)
    mask = make_labels(np.ones((20, 10), dtype=bool)).assign_coords(y=lat, x=lon)
    mask = mask.rio.write_crs("EPSG:4326")
    geod = pyproj.Geod(ellps="WGS84")
    # The parallels as lines of many points: a geodesic between two of them bulges to the pole.
    edge = np.linspace(10, 11, 1001)
    ring = np.r_[edge, edge[::-1]], np.r_[np.full(1001, 58.0), np.full(1001, 60.0)]
    expected = abs(geod.polygon_area_perimeter(*ring)[0]) / 1e4
    assert hectares(mask) == pytest.approx(expected, rel=1e-6)
    assert np.all(np.diff(cell_area_m2(mask)) > 0)  # southward, cells get wider


def test_the_whole_ellipsoid_has_its_known_area():
    mask = make_labels(np.ones((180, 360), dtype=bool)).assign_coords(
        y=89.5 - np.arange(180), x=-179.5 + np.arange(360)
    )
    assert hectares(mask.rio.write_crs("EPSG:4326")) == pytest.approx(51_006_562_172.4, rel=1e-9)


def test_hectares_of_the_sample():
    area = hectares(sample_labels())
    assert dict(area) == {"not forest": pytest.approx(18.32), "forest": pytest.approx(81.68)}


BAD_MAPS = {
    "time": (lambda a: a.expand_dims(time=[0]), r"Select a date first, with array.sel\(time=...\)"),
    "float": (lambda a: a.astype(float), "booleans or integer classes; got float64"),
    "no crs": (lambda a: a.drop_vars("spatial_ref"), "no coordinate reference system"),
    "cell": (lambda a: a.isel(y=[0], x=[0]), "size of a single cell cannot be read"),
    "mercator": (
        lambda a: a.assign_coords(y=a.y + 5.6e6).rio.write_crs("EPSG:3857"),
        "'WGS 84 / Pseudo-Mercator' are 1.99 times the true ones here.*estimate_utm_crs",
    ),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_hectares_says_what_is_wrong(case):
    spoil, message = BAD_MAPS[case]
    with pytest.raises(TimoError, match=message):
        hectares(spoil(make_labels(np.ones((4, 5), dtype="int8"))))
