"""Windows of places: one mechanism for one cube, for many, and for a store, with the draws that each had before."""

import zlib

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from timo.errors import TimoError
from timo.places import Place, Places, Split, pack
from timo.training.windows import ChipOptions, WindowOptions, Windows, collate

# CRC-32 of the chips of epochs 0 and 3, as the classes drew them that `Windows` has replaced.
FORMER = {
    "chips": (
        1933899334,
        631645647,
        2035453739,
        1285702606,
        4111332693,
        215233481,
        2058774879,
        2132177931,
        1039943427,
        1925941091,
        3537230532,
        58980393,
    ),
    "dated": (
        1259772784,
        2569001419,
        2994904469,
        3064530470,
        1204861341,
        1943071470,
        4116796373,
        2519863654,
        3656265109,
        1465861448,
        2375409,
        3324243170,
    ),
    "within": (
        4090362079,
        502498790,
        555527148,
        2761628325,
        2239006174,
        1053891366,
        2804355613,
        1839423684,
        4114085608,
        425723394,
        1954945704,
        2117184706,
    ),
    "windows": (
        4264895928,
        4068669305,
        3628303606,
        1628429697,
        233124947,
        244574842,
        1948884145,
        4264895928,
        702904945,
        2681704171,
        1759600032,
        988318531,
        2721876081,
        2581010085,
        509004950,
        4200135574,
        1147728326,
        3122634983,
        363155646,
        187875527,
        3943432115,
        2521863424,
        2184573841,
        2025129726,
    ),
    "whole": (
        2968237102,
        2968237102,
        2968237102,
        2968237102,
        2968237102,
        2968237102,
        3833478817,
        2968237102,
        2968237102,
        2968237102,
    ),
    "store": (
        1683863315,
        1760471146,
        1390623594,
        1613562832,
        243684932,
        892962047,
        3458715125,
        825845247,
        2391208030,
        3812410293,
        626881041,
        2466507962,
        88265527,
        3469845804,
        1827294696,
        199911966,
        3397657811,
        1836098601,
        1835953063,
        3303117655,
        1395907204,
        202973965,
        2354379547,
        3764085951,
        3988745193,
        3294891113,
        1967984833,
        4109864791,
        3091292725,
        3938575505,
        1407045799,
        1386236758,
        2042823179,
        2318054988,
        1069855922,
        704743196,
        722088963,
        1918973287,
        2188110375,
        976193865,
    ),
    "crops": (
        160135173,
        2603801205,
        2459048639,
        2648725503,
        1265120142,
        3721972259,
        198198111,
        987355744,
        3924927498,
        3491664775,
        771596514,
        1898254910,
        947677294,
        3559248340,
        1266781313,
        72931192,
        2529922839,
        2439672402,
        2122556202,
        2574031504,
        1024808711,
        403638270,
        1887938900,
        116447920,
        1940425571,
        2261257001,
        1999010403,
        1532828295,
        2845917498,
        3362837545,
        106285763,
        2923997165,
        3923109227,
        2869452715,
        1622155251,
        2953216729,
        1866236569,
        2726462862,
        1840349093,
        4009868403,
    ),
}


def make_cube(seed, shape=(14, 3, 40, 50)):
    rng = np.random.default_rng(seed)
    t, _, h, w = shape
    values = rng.uniform(0.02, 0.5, shape).astype("float32")
    often = np.linspace(0, 0.9, t)[:, None, None, None]
    cloud = np.kron(rng.random((t, 1, -(-h // 8), -(-w // 8))) < often, np.ones((8, 8), bool))
    values[np.broadcast_to(cloud[:, :, :h, :w], shape)] = np.nan
    days = pd.to_timedelta(np.cumsum(rng.integers(3, 40, t)), "D")
    coords = {"time": pd.to_datetime("2019-01-03") + days, "band": ["B2", "B3", "B4"]}
    coords |= {"y": 5e6 - 10 * np.arange(h) - 5.0, "x": 4e5 + 10 * np.arange(w) + 5.0}
    cube = xr.DataArray(values, coords, ("time", "band", "y", "x"), attrs={"sensor": "sentinel-2"})
    return cube.rio.write_crs(32633)


def make_labels(cube, seed, dated=False, share=0.5):
    rng = np.random.default_rng(seed)
    dims = ("time", "y", "x") if dated else ("y", "x")
    shape = tuple(cube.sizes[dim] for dim in dims)
    values = rng.choice([0, 1, 4], shape, p=[0.7, 0.25, 0.05]).astype("int16")
    values[rng.random(shape) > share] = -1
    return xr.DataArray(values, dims=dims, coords={dim: cube[dim] for dim in dims})


@pytest.fixture(scope="module")
def cube():
    return make_cube(1)


@pytest.fixture(scope="module")
def small():
    return make_cube(4, (5, 3, 12, 20))


def crc(chip):
    found = 0
    for name in sorted(chip):
        found = zlib.crc32(np.ascontiguousarray(chip[name].numpy()).tobytes(), found)
    return found


def drawn(windows):
    found = []
    for epoch in (0, 3):
        windows.epoch = epoch
        found += [crc(windows[number]) for number in range(len(windows))]
    return tuple(found)


@pytest.fixture(scope="module")
def area():
    inside = np.zeros((40, 50), bool)
    inside[10:25, 5:33] = True
    return np.where(inside, 0, 2).astype("int8")


# --- as before


def test_one_labelled_cube_is_drawn_as_before(cube, area):
    places = Places([(cube, make_labels(cube, 2))])
    assert drawn(Windows(places, 6, seed=5)) == FORMER["chips"]
    dated = Places([(cube, make_labels(cube, 3, dated=True, share=0.02))])
    options = ChipOptions(size=9, dates=(2, 5), min_clear=0.6, hide=0.7, splice=0.6)
    assert drawn(Windows(dated, 6, options, seed=7)) == FORMER["dated"]
    plain = ChipOptions(size=8, rotate=False, hide=0.0, splice=0.0)
    part = Windows(places, 6, plain, seed=5, split=Split([area]), part=0)
    assert drawn(part) == FORMER["within"]


def test_cubes_without_labels_are_drawn_as_before(cube, small, area):
    both = Places([cube, small])
    seen = Windows(both, 12, WindowOptions(size=16), 3, split=Split([area, 0]), part=0)
    assert drawn(seen) == FORMER["windows"]
    whole = WindowOptions(size=None, rotate=False)
    assert drawn(Windows(Places([small]), 5, whole, seed=3)) == FORMER["whole"]


def test_a_store_is_drawn_as_before(cube, small, tmp_path):
    pack([cube, small], tmp_path / "store", size=12, min_clear=0.2)
    places = Places.from_store(tmp_path / "store")
    whole = WindowOptions(size=None, dates=(6, 12))
    assert drawn(Windows(places, 20, whole, seed=2)) == FORMER["store"]
    crops = WindowOptions(size=7, dates=(2, 4))
    assert drawn(Windows(places, 20, crops, seed=2)) == FORMER["crops"]


def test_the_former_classes_draw_the_same_and_say_their_new_name(cube, small, tmp_path):
    from timo.training import ChipDataset
    from timo.training.chips import StoreDataset

    with pytest.warns(DeprecationWarning, match="timo.training.Windows"):
        assert drawn(ChipDataset(cube, make_labels(cube, 2), 6, seed=5)) == FORMER["chips"]
    pack([cube, small], tmp_path / "store", size=12, min_clear=0.2)
    with pytest.warns(DeprecationWarning, match="Places.from_store"):
        assert drawn(StoreDataset(tmp_path / "store", 20, seed=2)) == FORMER["store"]


# --- many places


def test_classes_are_drawn_alike_over_all_places(cube, small):
    """One place holds most pixels; the class that only the other has is drawn as often as each."""
    labels = make_labels(cube, 2)
    rare = make_labels(small, 2) * 0 - 1
    rare[3, 4] = 2
    places = Places([(cube, labels), (small, rare)])
    windows = Windows(places, 200, ChipOptions(size=4))
    assert windows.classes.tolist() == [0, 1, 2, 4]
    shown = [windows.place(number) for number in range(200)]
    assert 30 <= sum(shown) <= 70
    for number in np.flatnonzero(shown)[:20]:
        assert (windows[int(number)]["labels"] == 2).any()


def test_lengths_are_known_before_the_values_are_read(cube, small):
    places = Places([(cube, make_labels(cube, 2)), (small, make_labels(small, 3))])
    windows = Windows(places, 40, ChipOptions(size=16))
    for number in range(40):
        x = windows[number]["x"]
        assert windows.lengths(number) == (len(x), *x.shape[2:])
    sizes = {windows.lengths(number)[1:] for number in range(40)}
    assert sizes == {(16, 16), (12, 16)}


def test_parts_of_a_split_never_show_the_labels_of_others(cube, small, area):
    places = Places([(cube, make_labels(cube, 2)), (small, make_labels(small, 3))])
    for split in (Split([area, 1]), Split([0, 2])):
        for part in (0, 2):
            windows = Windows(places, 30, ChipOptions(size=16), split=split, part=part)
            allowed = [np.any(np.asarray(split.part(n)) == part) for n in range(2)]
            assert all(allowed[windows.place(number)] for number in range(30))
    only = Windows(
        places, 4, WindowOptions(size=None), split=Split([area, 1]), part=0, labelled=False
    )
    assert not only[0]["valid"].numpy()[:, area == 2].any() or only.options.rotate


def test_labels_of_whole_places(cube, small):
    one = Place(cube, xr.DataArray(np.int16(1)))
    dates = np.full(5, -1, "int16")
    dates[3] = 0
    two = Place(small, xr.DataArray(dates, {"time": small.time}, ("time",)))
    for places, length in (
        (Places([one, Place(small, xr.DataArray(np.int16(0)))]), 2),
        (Places([two]), 1),
    ):
        windows = Windows(places, 30, ChipOptions(size=8, dates=(2, 4)))
        assert windows.unit == "chip"
        for number in range(30):
            chip = windows[number]
            assert chip["labels"].shape == chip["dates"].shape
            assert (chip["labels"] >= 0).any()
        assert len(windows.classes) == length


def test_values_to_predict(cube):
    values = make_labels(cube, 2).astype("float32")
    values = values.where(values >= 0) * 2.5
    windows = Windows(Places([(cube, values)]), 10, ChipOptions(size=4))
    for number in range(10):
        labels = windows[number]["labels"]
        assert labels.dtype == torch.float32
        assert torch.isfinite(labels).any()
        assert set(labels[torch.isfinite(labels)].tolist()) <= {0.0, 2.5, 10.0}
    batch = collate([windows[number] for number in range(4)])
    assert torch.isnan(batch["labels"]).any()


def test_parcels_go_with_their_pixels(cube):
    number = np.arange(2000, dtype="int32").reshape(40, 50)
    labels = make_labels(cube, 2, share=1).assign_coords(feature=(("y", "x"), number))
    windows = Windows(Places([(cube, labels)]), 10, ChipOptions(size=8), unit="parcel")
    truth = labels.values.ravel()
    for index in range(10):
        chip = windows[index]
        assert chip["parcels"].dtype == torch.int64
        # Each pixel has a number of its own here: it says where the pixel came from.
        where = chip["parcels"].numpy()
        assert (truth[where] == chip["labels"].numpy()).all()
    bare = Windows(Places([(cube, make_labels(cube, 2))]), 1, unit="parcel")
    with pytest.raises(TimoError, match="do not say which pixels are one parcel"):
        bare[0]


def test_a_cloud_hides_no_radar(cube):
    radar = cube.isel(time=slice(3), band=slice(2)) * 0
    rng = np.random.default_rng(0)
    radar = radar.copy(data=rng.uniform(-20, -5, radar.shape).astype("float32"))
    radar = radar.assign_coords(band=["VV", "VH"]).assign_attrs(sensor="sentinel-1")
    places = Places([Place((cube, radar), make_labels(cube, 2))])
    options = ChipOptions(size=8, dates=(14, 14), hide=1.0, splice=0.0, min_clear=0.0)
    shown = Windows(places, 20, options)
    open_ = Windows(places, 20, ChipOptions(**{**vars(options), "hide": 0.0}))
    lost = 0
    for number in range(20):
        chip, whole = shown[number], open_[number]
        assert chip["valid"].shape[1:] == (2, 8, 8)
        assert chip["valid"][:, 1].sum() == whole["valid"][:, 1].sum()
        lost += int(whole["valid"][:, 0].sum() - chip["valid"][:, 0].sum())
        assert (chip["x"][:, :3][~chip["valid"][:, :1].expand(-1, 3, -1, -1)] == 0).all()
    assert lost > 0


def test_what_is_observed_by_radar_alone_is_clear_enough(cube):
    """Of a date under clouds the radar counts: it is drawn, and a chip of such dates is not empty."""
    radar = cube.isel(band=slice(2)) * 0
    rng = np.random.default_rng(0)
    radar = radar.copy(data=rng.uniform(-20, -5, radar.shape).astype("float32"))
    radar = radar.assign_coords(band=["VV", "VH"]).assign_attrs(sensor="sentinel-1")
    joint = Places([Place((cube, radar), make_labels(cube, 2))])
    alone = Places([(cube, make_labels(cube, 2))])
    options = ChipOptions(size=8, dates=(14, 14), min_clear=0.9, hide=0.0, splice=0.0)
    assert all(len(Windows(joint, 5, options)[n]["x"]) == 14 for n in range(5))
    assert any(len(Windows(alone, 5, options)[n]["x"]) < 14 for n in range(5))


def test_chips_of_any_size_are_one_batch(cube, small):
    places = Places([(cube, make_labels(cube, 2)), (small, make_labels(small, 3))])
    windows = Windows(places, 40, ChipOptions(size=16))
    chips = [windows[number] for number in range(40)]
    batch = collate(chips)
    largest = max(len(chip["x"]) for chip in chips)
    assert batch["x"].shape == (40, largest, 3, 16, 16)
    for one, chip in zip(batch["labels"], chips, strict=True):
        t, h, w = chip["labels"].shape
        assert one[:t, :h, :w].equal(chip["labels"])
        assert (one[t:] == -1).all()
        assert (one[:, h:] == -1).all()


def test_units_that_the_labels_are_not_of(cube):
    places = Places([(cube, make_labels(cube, 2))])
    with pytest.raises(
        TimoError, match="The labels are of pixels, and the model answers for each chip"
    ):
        Windows(places, 2, unit="chip")
    with pytest.raises(TimoError, match="The places have no labels"):
        Windows(Places([cube]), 2, labelled=True)
    with pytest.raises(TimoError, match="give both, or neither"):
        Windows(places, 2, part=0)


@pytest.mark.parametrize("by", ["place", "block"])
def test_a_place_without_labels_among_others_is_never_drawn(cube, small, by):
    labelled, bare = (cube, make_labels(cube, 0)), small
    places = Places([labelled, bare])
    parts = {"place": [0, 0], "block": [np.zeros(c.shape[2:], "int8") for c in (cube, small)]}
    windows = Windows(
        places, 8, ChipOptions(size=8), 3, unit="pixel", part=0, split=Split(parts[by], by=by)
    )
    alone = Windows(Places([labelled]), 8, ChipOptions(size=8), 3, unit="pixel")
    assert drawn(windows) == drawn(alone)
