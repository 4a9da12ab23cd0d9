"""Tables of pixels' series as places of one cell: what they hold, what is refused, and that they cost little."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.cube import check, check_labels
from timo.errors import TimoError
from timo.places import Places
from timo.places.series import read_series
from timo.places.view import CubeView

CROPS = ["soy", "maize", "soy", "forest"]


def long_table(series=4, dates=6, seed=0):
    """A row for each observation, in no order; each series lacks its first `i` dates, and one value is missing."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2019-09-14", periods=dates, freq="16D")
    rows = [(f"p{i}", day, i) for i in range(series) for day in days[i % dates :]]
    table = pd.DataFrame(rows, columns=["id", "date", "number"])
    table["B4"] = np.round(0.05 + 0.1 * rng.random(len(table)), 4)
    table["B8"] = np.round(0.25 + 0.2 * rng.random(len(table)), 4)
    table["crop"] = [CROPS[i % 4] for i in table["number"]]
    table["farm"] = [f"farm {i // 3}" for i in table["number"]]
    table["fold"] = table["number"] % 3
    table.loc[1, "B8"] = np.nan
    return table.drop(columns="number").sample(frac=1, random_state=seed).reset_index(drop=True)


def read(table, **options):
    return Places.from_series(table, **{"id": "id", "time": "date"} | options)


def wide_table(table, name):
    """The same with a row for each series, columns called by `name` of band and day."""
    out = table.pivot_table(index="id", columns="date", values=["B4", "B8"])
    out.columns = [name(band, day) for band, day in out.columns]
    labels = table.drop_duplicates("id").set_index("id")["crop"]
    return out.join(labels).reset_index()


def series_of(places, name):
    return places.open(list(places.names).index(name))


def label_of(places, name):
    return series_of(places, name)[1].item()


def test_each_series_is_a_place_of_one_cell_with_its_own_dates():
    table = long_table()
    places = read(table, label="crop")
    assert sorted(places.names) == ["p0", "p1", "p2", "p3"]
    assert places.bands == ("B4", "B8")
    assert places.sensor == "sentinel-2"
    assert places.classes == ("forest", "maize", "soy")
    for i, crop in enumerate(CROPS):
        cube, labels = series_of(places, f"p{i}")
        check(cube)
        check_labels(labels, cube)
        own = table[table.id == f"p{i}"].sort_values("date")
        assert cube.dims == ("time", "band", "y", "x")
        assert cube.sizes["time"] == 6 - i
        np.testing.assert_array_equal(cube.time.values, own["date"].values)
        expected = own[["B4", "B8"]].to_numpy("float32")
        np.testing.assert_array_equal(cube.values[:, :, 0, 0], expected)
        assert labels.dims == ("y", "x")
        assert places.classes[int(labels[0, 0])] == crop


NAMES = {
    "B4_2019-09-14": lambda b, d: f"{b}_{d:%Y-%m-%d}",
    "2019-09-14_B4": lambda b, d: f"{d:%Y-%m-%d}_{b}",
    "B04.20190914": lambda b, d: f"{b[0]}0{b[1]}.{d:%Y%m%d}",
    "20190914 red": lambda b, d: f"{d:%Y%m%d} {'red' if b == 'B4' else 'nir'}",
    "S2_2019_09_14_B4": lambda b, d: f"S2_{d:%Y_%m_%d}_{b}",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_wide_tables_hold_what_long_ones_hold(name, seed):
    table = long_table(seed=seed)
    own = {"B4": "S2_B4", "B8": "S2_B8"} if name.startswith("S2") else None
    wide = Places.from_series(wide_table(table, NAMES[name]), id="id", label="crop", bands=own)
    places = read(table, label="crop")
    assert set(wide.names) == set(places.names)
    assert wide.classes == places.classes
    for i in range(4):
        for one, other in zip(series_of(wide, f"p{i}"), series_of(places, f"p{i}"), strict=True):
            np.testing.assert_array_equal(one.values, other.values)
        assert series_of(wide, f"p{i}")[0].time.equals(series_of(places, f"p{i}")[0].time)


def test_columns_that_are_dates_alone_are_of_the_one_band_that_is_named():
    table = long_table().pivot_table(index="id", columns="date", values="B8")
    table.columns = [f"{day:%Y-%m-%d}" for day in table.columns]
    places = Places.from_series(table.reset_index(), id="id", bands=["B8"])
    assert places.bands == ("B8",)
    assert series_of(places, "p1")[0].sizes["time"] == 5


@pytest.mark.parametrize("end", ["csv", "semicolon", "parquet"])
def test_files_hold_what_tables_hold(tmp_path, end):
    table = long_table().replace({"id": {f"p{i}": f"00{i}" for i in range(4)}})
    path = tmp_path / f"series.{'parquet' if end == 'parquet' else 'csv'}"
    if end == "parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep=";" if end == "semicolon" else ",")
    places = read(path, label="crop")
    assert sorted(places.names) == ["000", "001", "002", "003"]
    assert places.digest() == read(table, label="crop").digest()


def test_labels_mean_what_they_say_and_a_number_is_no_position():
    codes = {"soy": 12, "maize": 3, "forest": 700}
    table = long_table()
    table["code"] = table["crop"].map(codes)
    assert read(table, label="code").classes == ("3", "12", "700")
    named = read(table, label="code", classes={12: "soy", 3: "cereal", 700: "forest"})
    assert named.classes == ("soy", "cereal", "forest")
    assert [label_of(named, f"p{i}") for i in range(4)] == [0, 1, 0, 2]
    some = read(table, label="crop", ignore=["forest"])
    assert some.classes == ("maize", "soy")
    assert label_of(some, "p3") == -1
    with pytest.raises(TimoError, match="'forest'"):
        read(table, label="crop", classes=["soy", "maize"])
    truth = table.assign(crop=table["crop"] == "soy")
    assert read(truth, label="crop").classes == ("False", "True")


def test_a_series_without_a_label_is_unlabelled():
    table = long_table()
    table.loc[table.id == "p2", "crop"] = None
    places = read(table, label="crop")
    assert label_of(places, "p2") == -1
    np.testing.assert_array_equal(places.counts().sum(axis=0), [1, 1, 1])


def test_values_to_predict_are_floats_with_the_name_of_their_column():
    table = long_table()
    table["height"] = table["id"].str[1:].astype(float) * 1.5
    table.loc[table.id == "p1", "height"] = np.nan
    places = read(table, label="height", numeric=True)
    assert places.classes == ()
    assert places.target == "height"
    values = [label_of(places, f"p{i}") for i in range(4)]
    np.testing.assert_array_equal(values, [0.0, np.nan, 3.0, 4.5])


def test_labels_of_the_series_as_a_whole():
    places = read(long_table(), label="crop", unit="chip")
    cube, labels = series_of(places, "p3")
    assert labels.dims == ()
    check_labels(labels, cube, unit="chip")
    assert places.classes[int(labels)] == "forest"


def test_groups_and_folds_are_kept_whole():
    places = read(long_table(series=12), label="crop", fold="fold")
    folds = list(places.folds("fold"))
    assert len(folds) == 3
    tested = [{places.names[i] for i in range(12) if split.part(i) == 2} for split in folds]
    assert tested[0] == {"p0", "p3", "p6", "p9"}
    assert set.union(*tested) == set(places.names)
    places = read(long_table(series=12), label="crop", group="farm")
    assert set(places.groups) == {f"farm {i}" for i in range(4)}
    split = places.split("group", fractions=(0.5, 0.0, 0.5))
    farms = {places.groups[i]: split.part(i) for i in range(12)}
    assert {split.part(i) for i in range(12)} == {0, 2}
    assert all(split.part(i) == farms[places.groups[i]] for i in range(12))


def test_coordinates_are_the_grid_of_the_place():
    table = long_table()
    table["east"], table["north"] = 500_005.0 + table["id"].str[1:].astype(int), 5_000_005.0
    cube = series_of(read(table, x="east", y="north", crs="EPSG:32633"), "p2")[0]
    assert cube.rio.crs.to_epsg() == 32633
    assert (float(cube.x[0]), float(cube.y[0])) == (500_007.0, 5_000_005.0)
    degrees = table.assign(lon=15.0, lat=45.0)
    assert series_of(read(degrees, x="lon", y="lat"), "p0")[0].rio.crs.to_epsg() == 4326
    with pytest.raises(TimoError, match=r'no degrees.*crs="EPSG'):
        read(table, x="east", y="north")
    with pytest.raises(TimoError, match="given together"):
        read(table, x="east")


def test_bands_are_found_under_other_names_and_in_the_order_of_the_sensor():
    table = long_table().rename(columns={"B4": "red", "B8": "NIR"})
    table = table[["NIR", "red", "id", "date"]]
    assert read(table).bands == ("B4", "B8")
    named = long_table().rename(columns={"B4": "one", "B8": "two"})
    assert read(named, bands={"B8": "two", "B4": "one"}).bands == ("B8", "B4")
    assert read(long_table(), bands=["B8"]).bands == ("B8",)


def test_a_quality_layer_masks():
    table = long_table()
    table["SCL"] = np.where(table["id"] == "p0", 9, 4)
    table.loc[(table.id == "p0") & (table.date == table.date.max()), "SCL"] = 4
    places = read(table)
    assert places.bands == ("B4", "B8")
    assert series_of(places, "p0")[0].sizes["time"] == 1
    assert series_of(places, "p1")[0].sizes["time"] == 5


def test_two_sensors_in_one_table():
    table = long_table()
    radar = table.assign(date=table["date"] + pd.Timedelta("3D"), VV=-10.0, VH=-16.5)
    both = pd.concat([table, radar.drop(columns=["B4", "B8"])])
    places = read(both, label="crop", sensor="sentinel-2+sentinel-1")
    assert places.bands == ("B4", "B8", "VV", "VH")
    assert places.head.band_groups() == ((2, 2), (True, False))
    cube = check(series_of(places, "p1")[0])
    assert cube.sizes["time"] == 10
    assert np.isnan(cube.sel(band="VV").values[:, 0, 0]).tolist() == [True, False] * 5
    view = places.view(list(places.names).index("p1"))
    assert view.valid(slice(0, 1), slice(0, 1)).shape == (10, 2, 1, 1)


def test_digital_numbers_are_refused_with_the_factor_and_read_with_it():
    numbers = long_table()
    numbers[["B4", "B8"]] = (numbers[["B4", "B8"]] * 10_000).round()
    with pytest.raises(TimoError, match=r"digital numbers.*scale=0\.0001"):
        read(numbers)
    for scale in (1e-4, {"B4": 1e-4, "B8": 1e-4}, {"sentinel-2": 1e-4}):
        places = read(numbers, scale=scale)
        expected = series_of(read(long_table()), "p0")[0].values
        np.testing.assert_allclose(series_of(places, "p0")[0].values, expected, rtol=1e-6)
    shifted = numbers.assign(B4=numbers["B4"] + 1000, B8=numbers["B8"] + 1000)
    places = read(shifted, scale=1e-4, offset=-0.1)
    np.testing.assert_allclose(series_of(places, "p0")[0].values, expected, atol=1e-6)
    filled = long_table().fillna({"B8": -9999})
    filled.loc[:4, ["B4", "B8"]] = -9999
    with pytest.raises(TimoError, match=r"means no data.*nodata="):
        read(filled)
    places = read(filled, nodata=-9999)
    assert sum(places.open(i)[0].sizes["time"] for i in range(4)) == len(filled) - 5


def test_series_without_an_observation_are_left_out_and_said():
    table = long_table()
    table.loc[table.id == "p1", ["B4", "B8"]] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 4 series have no observation .*: p1"):
        places = read(table, label="crop", group="farm")
    assert sorted(places.names) == ["p0", "p2", "p3"]
    assert places.classes[label_of(places, "p3")] == "forest"
    with pytest.raises(TimoError, match="No series has an observation"):
        read(table.assign(B4=np.nan, B8=np.nan))


WRONG = {
    "two rows of a date": (lambda t: pd.concat([t, t[:1]]), {}, "two rows of"),
    "two labels": (
        lambda t: t.assign(crop=[*"ab", *t.crop[2:]]),
        {"label": "crop"},
        "A series has one",
    ),
    "no id": (lambda t: t.assign(id=[None, *t.id[1:]]), {}, "no id in row 0"),
    "no date": (lambda t: t.assign(date=[pd.NaT, *t.date[1:]]), {}, "no date in row 0"),
    "a date of two meanings": (
        lambda t: t.assign(date="07/08/2019"),
        {},
        "7 August 2019 or 8 July",
    ),
    "dates that are none": (lambda t: t.assign(date="spring"), {}, "holds no date"),
    "text in a band": (lambda t: t.assign(B4="dark"), {}, "'dark' in row 0"),
    "no band": (lambda t: t.drop(columns=["B4", "B8"]), {}, "called as a band of sentinel-2"),
    "two columns of a band": (lambda t: t.assign(red=t.B4), {}, "both B4 of sentinel-2"),
    "an unknown band": (lambda t: t, {"bands": {"B99": "B4"}}, "no band 'B99'"),
    "an unknown column": (lambda t: t, {"label": "corp"}, "Did you mean 'crop'"),
    "another id": (lambda t: t, {"id": "ID"}, "Did you mean 'id'"),
    "an empty table": (lambda t: t[:0], {}, "no rows"),
    "a long table without time": (lambda t: t, {"time": None}, 'time="date"'),
    "no id for a long table": (lambda t: t, {"id": None}, "needs id="),
    "a group that is missing": (
        lambda t: t.assign(farm=t.farm.where(t.id != "p2")),
        {"group": "farm"},
        "says nothing of the series 'p2'",
    ),
    "text to predict": (lambda t: t, {"label": "crop", "numeric": True}, "which is no number"),
    "measurements as classes": (
        lambda t: t.assign(h=t.groupby("id").ngroup() + 0.25),
        {"label": "h", "classes": ["low", "high"]},
        "classes",
    ),
    "no such file": (lambda _: "nowhere.csv", {}, "no table"),
    "factors of another band": (lambda t: t, {"scale": {"B5": 1e-4}}, "no band of the table"),
    "crs without coordinates": (lambda t: t, {"crs": 32633}, "x= and y="),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_read_is_refused(wrong):
    change, options, message = WRONG[wrong]
    with pytest.raises(TimoError, match=message):
        read(change(long_table()), **options)


def test_the_remedies_work():
    table = pd.concat([long_table(), long_table()[:3]])
    with pytest.raises(TimoError) as caught:
        read(table)
    call = re.search(r"table\.drop_duplicates\(.*\)", str(caught.value))[0].rstrip(".")
    assert len(read(eval(call, {"table": table}))) == 4  # noqa: S307
    table = long_table().assign(date=[None, *long_table().date[1:]])
    with pytest.raises(TimoError) as caught:
        read(table)
    call = re.search(r"table\.dropna\(.*\)", str(caught.value))[0].rstrip(".")
    assert len(read(eval(call, {"table": table}))) == 4  # noqa: S307


def assert_same_view(one, other, when):
    window = slice(0, 1), slice(0, 1)
    np.testing.assert_array_equal(one.clear(), other.clear())
    np.testing.assert_array_equal(one.dates, other.dates)
    np.testing.assert_array_equal(one.valid(*window), other.valid(*window))
    chips = [view.cut(when, *window) for view in (one, other)]
    for name in ("x", "dates", "valid", "labels"):
        a, b = (getattr(chip, name) for chip in chips)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), unit=st.sampled_from(["pixel", "chip"]), radar=st.booleans())
def test_training_sees_a_series_as_it_sees_its_cube(seed, unit, radar):
    table = long_table(seed=seed)
    sensor = "sentinel-2+sentinel-1" if radar else "sentinel-2"
    table = table.assign(VV=np.where(table.index % 2, -10.0, np.nan)) if radar else table
    source = read_series(table, id="id", time="date", label="crop", unit=unit, sensor=sensor)
    for number in range(4):
        cube, labels = source.open(number)
        when = np.arange(cube.sizes["time"])[::2]
        assert_same_view(source.view(number), CubeView(cube, labels), when)


def test_many_series_share_one_array():
    rng = np.random.default_rng(0)
    series, dates = 1218, 23
    days = np.tile(pd.date_range("2013-09-14", periods=dates, freq="16D"), series)
    table = pd.DataFrame({"id": np.repeat(np.arange(series), dates), "date": days})
    table[["B4", "B8"]] = 0.1 + 0.2 * rng.random((len(table), 2))
    table["crop"] = np.repeat(rng.choice(["soy", "maize"], series), dates)
    places = read(table, label="crop")
    places.counts()
    views = [places.view(i) for i in range(series)]
    assert len(views) == len(places) == series
    # One array for all: a place costs no copy.
    held = places._source.held.values
    assert all(np.shares_memory(view._values, held) for view in views[::100])


def test_a_place_of_a_series_is_a_place():
    places = read(long_table(), label="crop", fold="fold")
    place = places[1]
    cube, labels = place.open()
    xr.testing.assert_identical(cube, places.open(1)[0])
    xr.testing.assert_identical(labels, places.open(1)[1])
    assert place.fold == places.fold_numbers[1]
    some = places[2:]
    assert len(some) == 2
    assert places.digest() != some.digest()
    assert "sentinel-2" in repr(places)
