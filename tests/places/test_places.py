"""Many places: what they have in common, where they come from, and that nothing is read before it is asked for."""

from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr

import timo
from timo.errors import TimoError
from timo.places import Place, Places
from timo.training.windows import ChipOptions, Windows

CLASSES = ["oak", "pine", "beech"]


def make_cube(seed=0, dates=5, height=6, *, width=8, bands=("B4", "B8"), **attrs):
    """Reflectances that were digital numbers, with gaps; each seed has a grid and dates of its own."""
    rng = np.random.default_rng(seed)
    shape = (dates, len(bands), height, width)
    values = rng.integers(100, 6000, shape).astype("float32") * np.float32(1e-4)
    values[(rng.random((dates, 1, height, width)) < 0.2).repeat(len(bands), 1)] = np.nan
    times = np.datetime64("2020-03-01", "ns") + np.sort(rng.choice(300, dates, False)).astype(
        "timedelta64[D]"
    )
    coords = {"time": times, "band": list(bands)}
    coords |= {"y": 5e6 - 10 * np.arange(height) - 5000 * seed, "x": 4e5 + 10.0 * np.arange(width)}
    cube = xr.DataArray(values, coords, ("time", "band", "y", "x"))
    return cube.assign_attrs({"sensor": "sentinel-2"} | attrs).rio.write_crs(32634)


def make_radar(like):
    """Backscatter in dB on the grid of a cube, at dates of its own."""
    cube = make_cube(7, bands=("VV", "VH"), sensor="sentinel-1")
    return (cube * 20 - 22).assign_attrs(cube.attrs).assign_coords(y=like.y, x=like.x)


def make_labels(cube, seed=0, classes=CLASSES, dated=False):
    shape = cube.shape[2:] if not dated else (cube.sizes["time"], *cube.shape[2:])
    values = np.random.default_rng(seed).integers(-1, 3, shape).astype("int16")
    labels = cube.isel(band=0, drop=True) if dated else cube.isel(band=0, time=0, drop=True)
    return labels.copy(data=values).assign_attrs({"classes": list(classes)})


def make_pair(seed=0, **how):
    cube = make_cube(seed, **how)
    return cube, make_labels(cube, seed)


@pytest.fixture
def places():
    pairs = [make_pair(seed, height=6 + seed, dates=4 + seed) for seed in range(3)]
    return Places(pairs, names=["a", "b", "c"], groups=["x", "x", "y"], folds=[1, 2, 2])


# --- a sequence


def test_places_are_a_sequence_with_what_they_have_in_common(places):
    assert len(places) == 3
    assert places.bands == ("B4", "B8")
    assert places.sensor == "sentinel-2"
    assert places.classes == tuple(CLASSES)
    assert places.target == ""
    assert places.in_memory
    assert [place.name for place in places] == ["a", "b", "c"]
    assert places[-1].group == "y"
    assert places[1:].names == ["b", "c"]
    assert places[[2, 0]].table.to_dict("list") == {
        "name": ["c", "a"],
        "group": ["y", "x"],
        "fold": [2, 1],
    }
    assert places[np.array([False, True, False])][0].name == "b"
    assert repr(places).splitlines() == [
        "Places: 3 of sentinel-2",
        "  bands   B4, B8",
        "  labels  oak, pine, beech",
        "  groups  2",
        "  folds   2",
    ]
    for wrong in (3, -4):
        with pytest.raises(TimoError, match=r"There are 3 places, numbered from 0; got"):
            places[wrong]


def test_every_way_to_give_a_place():
    cube, labels = make_pair()
    given = [
        (cube, labels),
        Place(cube, labels, "named"),
        (partial(make_cube, 0), lambda: labels),
        Place(lambda: cube),
        cube,
    ]
    places = Places(given)
    assert places.names == ["0", "named", "2", "3", "4"]
    for number in range(5):
        opened, own = places.open(number)
        xr.testing.assert_identical(opened, cube)
        assert (own is None) == (number > 2)
    again = Places(list(places)[:2], names=["p", "q"])
    assert again.names == ["p", "q"]
    assert not places.in_memory
    assert Places(list(places)[:2]).in_memory


def test_several_sensors_of_a_place_are_joined():
    s2 = make_cube()
    s1 = make_radar(s2)
    for cube in ((s2, s1), lambda: (s2, s1), timo.cube.join(s2, s1)):
        places = Places([Place(cube, make_labels(s2))])
        assert places.bands == ("B4", "B8", "VV", "VH")
        assert places.sensor == "sentinel-2+sentinel-1"
        assert places.open(0)[0].sizes["time"] == len(set(s2.time.values) | set(s1.time.values))


def test_counts_are_of_labelled_pixels(places):
    expected = [[int((places.open(n)[1] == k).sum()) for k in range(3)] for n in range(len(places))]
    assert places.counts().tolist() == expected
    cube = make_cube()
    dated = Places([(cube, make_labels(cube, dated=True))])
    found = [int((dated.open(0)[1] == k).any("time").sum()) for k in range(3)]
    assert dated.counts().tolist() == [found]


def test_nothing_is_read_before_it_is_asked_for():
    opened = []

    def open_(seed):
        opened.append(seed)
        return make_cube(seed)

    places = Places([Place(partial(open_, seed)) for seed in range(1000)])
    assert opened == []
    assert places.bands == ("B4", "B8")
    assert opened == [0]
    places[500:].open(3)
    assert opened == [0, 503]


def test_places_that_do_not_fit_each_other():
    cube, labels = make_pair()
    other = make_cube(1, bands=("B8", "B4"))
    with pytest.raises(TimoError, match=r"same bands in the same order; .*\('B8', 'B4'\)") as error:
        Places([cube, other])
    assert str(error.value).endswith("Use cube.sel(band=['B4', 'B8']).")
    # What the message says works.
    assert Places([cube, other.sel(band=["B4", "B8"])]).bands == ("B4", "B8")
    with pytest.raises(TimoError, match=r"Use cube.sel\(band=\['B4'\]\) in each"):
        Places([cube, make_cube(1, bands=("B4", "B11"))])
    renamed = labels.assign_attrs(classes=["pine", "oak", "beech"])
    with pytest.raises(TimoError, match=r"same classes in the same order; .*classes=\["):
        Places([(cube, labels), (cube, renamed)])
    with pytest.raises(TimoError, match="one sensor; the first is of sentinel-2, 1 of None"):
        Places([cube, make_cube().drop_attrs()])
    # What is opened later is checked, too.
    late = Places([(cube, labels), (lambda: cube, lambda: renamed)], names=["first", "second"])
    with pytest.raises(TimoError, match=r"the first has .*, second"):
        late.open(1)
    values = labels.astype("float32").drop_attrs()
    with pytest.raises(TimoError, match="labels of 1 are values, those of the first place classes"):
        Places([(cube, labels), (cube, values)])
    with pytest.raises(TimoError, match=r"Place 'far': The labels are on another grid"):
        Places([Place(cube, labels.isel(y=slice(3)), "far")]).open(0)
    with pytest.raises(TimoError, match="There is no place"):
        Places([])
    with pytest.raises(TimoError, match="names must be one for each of the 2 places; got 1"):
        Places([cube, cube], names=["a"])


# --- from files


@pytest.fixture
def folder(tmp_path, places):
    for name, place in zip(places.names, places, strict=True):
        place.cube.to_dataset(name="cube").to_netcdf(tmp_path / f"{name}.nc")
        place.labels.to_dataset(name="labels").to_netcdf(tmp_path / f"{name}_labels.nc")
    table = places.table.assign(kind=["wet", "dry", None], biomass=[1.5, np.nan, 2.5])
    table["labels"] = [f"{name}_labels.nc" for name in places.names]
    table.to_csv(tmp_path / "places.csv", index=False)
    return tmp_path


def test_a_folder_with_a_table(folder, places):
    opened = Places.from_folder(folder, cube="{name}.nc")
    pd.testing.assert_frame_equal(opened.table, places.table)
    assert opened.classes == tuple(CLASSES)
    assert opened.counts().tolist() == places.counts().tolist()
    options = ChipOptions(size=4)
    here, there = (Windows(one, 12, options, seed=2) for one in (places, opened))
    for number in range(12):
        for name, tensor in here[number].items():
            assert tensor.equal(there[number][name])
    again = timo.open_places("folder", folder, cube="{name}.nc")
    assert again.digest() == opened.digest()
    (folder / "b.nc").touch()
    assert again.digest() != opened[:2].digest()


def test_labels_of_whole_places_from_the_table(folder):
    kinds = Places.from_folder(folder, cube="{name}.nc", label="kind")
    assert kinds.classes == ("dry", "wet")
    assert [int(kinds.open(n)[1]) for n in range(3)] == [1, 0, -1]
    ordered = Places.from_folder(folder, cube="{name}.nc", label="kind", classes=["wet", "dry"])
    assert [int(ordered.open(n)[1]) for n in range(3)] == [0, 1, -1]
    values = Places.from_folder(folder, cube="{name}.nc", label="biomass", numeric=True)
    assert values.target == "biomass"
    np.testing.assert_array_equal([values.open(n)[1] for n in range(3)], [1.5, np.nan, 2.5])
    with pytest.raises(TimoError, match=r"'wet', which is no number"):
        Places.from_folder(folder, cube="{name}.nc", label="kind", numeric=True)


def test_what_is_missing_in_a_folder_is_said(folder):
    with pytest.raises(TimoError, match="There is no folder"):
        Places.from_folder(folder / "nowhere")
    with pytest.raises(TimoError, match="cube='cube' is no column of the table"):
        Places.from_folder(folder)
    with pytest.raises(TimoError, match=r"There is no '.*x_a\.nc'"):
        _ = Places.from_folder(folder, cube="x_{name}.nc").bands
    with pytest.raises(TimoError, match="Did you mean 'folder'"):
        timo.open_places("folders", folder)


# --- memory and disk


def test_loading_brings_all_into_memory(places):
    lazy = Places([(place.cube.chunk(), place.labels) for place in places])
    assert not lazy.in_memory
    loaded = lazy.load()
    assert loaded.in_memory
    xr.testing.assert_identical(loaded.open(1)[0], places.open(1)[0])


def test_impossible_values_of_a_lazy_place_are_refused_where_they_are_read():
    cube = make_cube()
    odd = cube.copy(data=da.from_array(np.nan_to_num(cube.values) + 3000, chunks=-1))
    places = Places([(odd, make_labels(cube))])
    with pytest.raises(TimoError, match=r"3,?0"):
        Windows(places, 1)[0]


@pytest.mark.parametrize("dated", [False, True])
def test_packed_places_are_the_same_places(tmp_path, dated):
    pairs = []
    for seed in range(3):
        cube = make_cube(seed, height=5 + seed, dates=3 + seed)
        labels = make_labels(cube, seed, dated=dated)
        number = np.arange(cube[0, 0].size, dtype="int32").reshape(cube.shape[2:]) // 7
        labels = labels.assign_coords(feature=(("y", "x"), number))
        pairs.append((cube, labels))
    places = Places(pairs, names=["é", "b", "c"], groups=["x", "x", "y"], folds=[1, 2, 2])
    packed = places.pack(tmp_path / "store")
    pd.testing.assert_frame_equal(packed.table, places.table)
    assert packed.head == places.head
    assert packed.counts().tolist() == places.counts().tolist()
    for number in range(3):
        (cube, labels), (own, given) = packed.open(number), places.open(number)
        xr.testing.assert_allclose(cube.drop_vars("spatial_ref"), own.drop_vars("spatial_ref"))
        np.testing.assert_array_equal(cube.values, own.values)
        np.testing.assert_array_equal(labels.values, given.values)
        np.testing.assert_array_equal(labels.feature.values, given.feature.values)
    assert timo.places.verify(tmp_path / "store") == []
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("c.*"))
    places.pack(tmp_path / "store")
    assert before == sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("c.*"))


@pytest.mark.parametrize("kind", ["class", "value", "classes", "nothing"])
def test_packed_labels_of_whole_places(tmp_path, kind):
    cubes = [make_cube(seed, dates=3 + seed) for seed in range(2)]
    labels = {
        "class": lambda _: xr.DataArray(np.int16(1), attrs={"classes": CLASSES}),
        "value": lambda _: xr.DataArray(
            np.float32(2.5), attrs={"long_name": "height", "units": "m"}
        ),
        "classes": lambda c: xr.DataArray(
            np.arange(c.sizes["time"], dtype="int16") % 3, {"time": c.time}, ("time",)
        ),
        "nothing": lambda _: None,
    }[kind]
    places = Places([Place(cube, labels(cube)) for cube in cubes])
    packed = places.pack(tmp_path / "store", dtype="float32")
    assert packed.head == places.head
    for number in range(2):
        own, given = packed.open(number)[1], places.open(number)[1]
        assert (own is None) == (given is None)
        if given is not None:
            np.testing.assert_array_equal(own.values, given.values)
            assert own.dims == given.dims
    here, there = (Windows(one, 6, ChipOptions(size=4), seed=2) for one in (places, packed))
    if kind != "nothing":
        assert all(here[n][k].equal(there[n][k]) for n in range(6) for k in here[n])


def test_packed_places_of_two_sensors(tmp_path):
    s2 = make_cube()
    s1 = make_radar(s2)
    places = Places([Place((s2, s1), make_labels(s2))])
    packed = places.pack(tmp_path / "store")
    own, given = packed.open(0)[0], places.open(0)[0]
    np.testing.assert_allclose(own.values, given.values, atol=0.0051)
    here, there = (Windows(one, 4, ChipOptions(size=4), seed=1) for one in (places, packed))
    for number in range(4):
        assert here[number]["valid"].shape[1:] == (2, 4, 4)
        assert here[number]["valid"].equal(there[number]["valid"])


def test_a_store_holds_places_of_one_kind(tmp_path, places):
    places.pack(tmp_path / "store")
    with pytest.raises(TimoError, match="holds places of labels"):
        Places([place.cube for place in places]).pack(tmp_path / "store")
