"""A chip store gives back what was packed, to any reader, in any number of processes."""

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

import timo
from timo.errors import TimoError
from timo.places import ChipStore, Places, pack
from timo.places.packed.layout import Layout
from timo.places.packed.scene import quantise
from timo.sensors import get_sensor
from timo.training.windows import WindowOptions, Windows, collate

few = settings(max_examples=25, deadline=None)
NAN = np.float32("nan")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Against a loss of power, which no test brings about, and the slowest thing here by far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def numbers(shape, seed=0, gaps=True):
    """Reflectances that were digital numbers, as the sources scale them, with gaps."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12_000, shape).astype("float32") * np.float32(1e-4)
    cloudy = rng.random((shape[0], 1, *shape[2:])) < (0.3 if gaps else 0)
    return np.where(cloudy, NAN, values)


@pytest.fixture
def cube(grid):
    return grid(numbers((9, 2, 24, 32)), ("time", "band", "y", "x"), sensor="sentinel-2")


@pytest.fixture
def store(cube, tmp_path):
    """Twelve places of 8 x 8 in shards of five."""
    pack(cube, tmp_path / "store", size=8, shard_bytes=5 * 9 * 2 * 64 * 2)
    return ChipStore(tmp_path / "store")


def windows(store, length=None, seed=0, **options):
    """Windows of a store, as a pretraining draws them."""
    places = Places.from_store(store if isinstance(store, Path) else store.path)
    options = WindowOptions(**{"size": None, "dates": (6, 12), **options})
    return Windows(places, length, options, seed, labelled=False)


def same_chip(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- what comes back


@few
@given(
    dates=st.integers(1, 5),
    bands=st.integers(1, 2),
    size=st.integers(1, 9),
    extra=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.integers(1, 9),
    dtype=st.sampled_from(["int16", "float32"]),
    in_shard=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_every_pixel_comes_back_bit_by_bit(
    grid, *, dates, bands, size, extra, stride, dtype, in_shard, seed
):
    values = numbers((dates, bands, size + extra[0], size + extra[1]), seed)
    if dtype == "float32":
        values *= np.float32(np.pi / 4)
    cube = grid(values, ("time", "band", "y", "x"), sensor="sentinel-2")
    each = dates * bands * size**2 * np.dtype(dtype).itemsize
    if not np.isfinite(values).all(axis=1).any():
        return
    with tempfile.TemporaryDirectory() as folder:
        options = {"size": size, "stride": stride, "dtype": dtype, "min_clear": 0}
        done = pack(cube, Path(folder, "s"), shard_bytes=in_shard * each, **options)
        store = ChipStore(Path(folder, "s"))
        assert len(store) == done.written
        assert store.layout.shard == in_shard
        covered = np.zeros(values.shape[2:], bool)
        for place, chip in enumerate(store):
            left, _, _, top = store.bounds(place)
            row, column = round((1005 - top) / 10), round((left - 499_995) / 10)
            window = values[:, :, row : row + size, column : column + size]
            valid = np.isfinite(window).all(axis=1)
            kept = valid.any(axis=(1, 2))
            np.testing.assert_array_equal(chip.valid, valid[kept])
            expected = np.where(valid[:, None], window, np.float32(0))[kept]
            np.testing.assert_array_equal(chip.x, expected)
            covered[row : row + size, column : column + size] = True
        seen = np.isfinite(values).all(axis=1).any(axis=0)
        # With a stride above the size there are strips between the places, as asked for.
        assert stride > size or covered[seen].all()


def test_the_sample_comes_back_exactly_with_its_dates_and_grid(tmp_path):
    sample = timo.open_cube("sample")
    pack(sample, tmp_path / "store", size=50, min_clear=0.5)
    store = ChipStore(tmp_path / "store")
    assert len(store) == 4
    assert store.state.largest_error == 0
    for place in range(4):
        cube = timo.cube.check(store.cube(place))
        part = sample.sel(x=cube.x, y=cube.y)
        days = part.time.values.astype("datetime64[D]")
        clear = np.isfinite(part.values).all(axis=1).mean(axis=(1, 2)) >= 0.5
        assert (days[clear] == cube.time.values.astype("datetime64[D]")).all()
        np.testing.assert_array_equal(part.values[clear], cube.values)
        assert cube.rio.crs == sample.rio.crs
        assert cube.attrs["attribution"] == sample.attrs["attribution"]


def test_every_digital_number_of_landsat_comes_back(grid, tmp_path):
    """All 65,535 of them: number 0 is what the product has where it has no data."""
    landsat = get_sensor("landsat-8-9")
    numbers = np.arange(1, 2**16, dtype="float32")
    values = np.full(2**16, NAN)
    values[1:] = landsat.physical(numbers)
    cube = grid(values.reshape(1, 1, 256, 256), ("time", "band", "y", "x"), sensor=landsat.name)
    cube = cube.assign_coords(band=[landsat.band_names[0]])
    pack(cube, tmp_path / "store", size=256)
    store = ChipStore(tmp_path / "store")
    assert store.state.largest_error == 0
    np.testing.assert_array_equal(store.cube(0).values, cube.values)
    opened = xr.open_zarr(tmp_path / "store", consolidated=False)
    np.testing.assert_allclose(opened.x[0], cube, rtol=0, atol=1e-6)


def test_backscatter_is_kept_to_a_hundredth_of_a_decibel(grid, tmp_path):
    values = np.random.default_rng(0).normal(-14, 5, (3, 2, 8, 8)).astype("float32")
    cube = grid(values, ("time", "band", "y", "x"), sensor="sentinel-1")
    pack(cube.assign_coords(band=["VV", "VH"]), tmp_path / "store", size=8)
    store = ChipStore(tmp_path / "store")
    assert np.abs(store.read(0).x - values).max() <= 0.005 + 1e-5
    assert 0.004 < store.state.largest_error <= 0.005 + 1e-5


@few
@given(
    scale=st.sampled_from([1e-4, 0.01, 2**-7, 0.3]),
    steps=st.sampled_from([0, -1000, 20_000]),
    seed=st.integers(0, 99),
)
def test_rounding_is_at_most_half_a_step(scale, steps, seed):
    offset = steps * scale
    layout = Layout(("B4", "B8"), 4, 3, scale=scale, offset=offset)
    values = np.random.default_rng(seed).normal(0, 2000, (3, 2, 4, 4)) * scale + offset
    values = values.astype("float32")
    stored, valid, error = quantise(values, layout)
    assert valid.all()
    # What float32 itself rounds comes on top.
    slack = 4 * np.finfo("float32").eps * (np.abs(values).max() + abs(offset))
    assert np.abs(layout.decode(stored) - values).max() <= error <= scale / 2 + slack


def test_a_pixel_that_lacks_a_band_is_invalid_in_all(cube, tmp_path):
    cube[3, 1, 2, 5] = NAN
    pack(cube, tmp_path / "store", size=8)
    chip = ChipStore(tmp_path / "store").read(0)
    assert not chip.valid[3, 2, 5]
    assert (chip.x[3, :, 2, 5] == 0).all()


def test_places_keep_their_own_crs(grid, tmp_path):
    wkt = grid(np.zeros((2, 2)), ("y", "x"), crs="+proj=laea +lat_0=45 +lon_0=20").rio.crs
    crss = ["EPSG:32634", "EPSG:4326", wkt.to_wkt()]
    cubes = [
        grid(numbers((3, 2, 8, 8), i), ("time", "band", "y", "x"), crs, sensor="sentinel-2")
        for i, crs in enumerate(crss)
    ]
    degrees = {"y": 45 - 1e-4 * np.arange(8), "x": 20 + 1e-4 * np.arange(8)}
    cubes[1] = cubes[1].assign_coords(degrees)
    pack(cubes, tmp_path / "store", size=8)
    store = ChipStore(tmp_path / "store")
    for place, cube in enumerate(cubes):
        again = store.cube(place)
        assert again.rio.crs == cube.rio.crs
        np.testing.assert_allclose(again.x, cube.x)
        np.testing.assert_allclose(again.y, cube.y)
    assert store.crs(0) == "EPSG:32634"
    assert set(store.info()["extent"]) == {store.crs(place) for place in range(3)}


@pytest.mark.parametrize("flip", [{"y": -1}, {"x": -1}, {"y": -1, "x": -1}])
def test_rows_go_south_whatever_the_cube_does(cube, tmp_path, flip):
    turned = cube.isel({dim: slice(None, None, step) for dim, step in flip.items()})
    pack(cube, tmp_path / "a", size=8)
    pack(turned, tmp_path / "b", size=8)
    a, b = ChipStore(tmp_path / "a"), ChipStore(tmp_path / "b")
    for place in range(len(a)):
        assert a.bounds(place) == b.bounds(place)
        np.testing.assert_array_equal(a.read(place).x, b.read(place).x)


def test_dates_ascend_and_some_are_read_as_asked(store, cube):
    days = cube.time.values.astype("datetime64[D]").astype(int)
    for place in range(len(store)):
        assert (np.diff(store.dates(place)) > 0).all()
        assert np.isin(store.dates(place), days).all()
        whole, part = store.read(place), store.read(place, [5, 0, 2])
        np.testing.assert_array_equal(part.dates, store.dates(place)[[5, 0, 2]])
        np.testing.assert_array_equal(part.x, whole.x[[5, 0, 2]])
        np.testing.assert_allclose(store.clear(place), whole.valid.mean(axis=(1, 2)))
    with pytest.raises(TimoError, match="place 0 has 9 dates, numbered from 0; got dates=\\[9\\]"):
        store.read(0, [9])
    for wrong in ("2018", [0.5], [[0]], [None]):
        with pytest.raises(TimoError, match="dates must be"):
            store.read(0, wrong)
    assert store.read(0, np.array([], "U1")).x.shape == (0, 2, 8, 8)
    with pytest.raises(IndexError, match="the store has 12 places, got place 12"):
        store.read(12)
    assert len(list(store)) == 12
    np.testing.assert_array_equal(store[-1].x, store[11].x)


# --- other readers


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_zarr_and_xarray_read_it(cube, tmp_path, dtype):
    path = tmp_path / "store"
    options = {"size": 8, "min_clear": 0.7, "dtype": dtype}
    pack(cube, path, shard_bytes=3 * 9 * 2 * 64 * np.dtype(dtype).itemsize, **options)
    store = ChipStore(path)
    group = zarr.open_group(path, mode="r")
    dataset = xr.open_zarr(path, consolidated=False)
    assert dataset.x.dims == ("place", "date", "band", "row", "column")
    for place, chip in enumerate(store):
        count = len(chip.dates)
        assert count < 9  # some dates are padding, of which nothing is stored
        np.testing.assert_array_equal(group["valid"][place, :count], chip.valid)
        assert not group["valid"][place, count:].any()
        physical = dataset.x[place, :count].values
        assert (np.isfinite(physical) == chip.valid[:, None]).all()
        np.testing.assert_allclose(np.nan_to_num(physical), chip.x, rtol=1e-6)
        assert np.isnan(dataset.x[place, count:].values).all()
        days = dataset.dates[place].values
        assert (days[:count].astype("datetime64[D]").astype(int) == chip.dates).all()
        assert np.isnat(days[count:]).all()


def test_it_reads_shards_that_zarr_wrote(store):
    """Zarr orders the chunks of a shard otherwise; nothing here may rely on the order."""
    before = [chip.x for chip in store]
    array = zarr.open_group(store.path, mode="r+")["x"]
    array[...] = array[...]
    for place, chip in enumerate(ChipStore(store.path)):
        np.testing.assert_array_equal(chip.x, before[place])


# --- drawing chips


def test_a_chip_depends_on_seed_epoch_and_number_alone(store):
    options = {"size": 5, "dates": (2, 6)}
    first = windows(store, 30, seed=1, **options)
    chips = [first[i] for i in range(30)]
    again = windows(store.path, 100, seed=1, **options)
    assert all(same_chip(again[i], chips[i]) for i in reversed(range(30)))
    assert not same_chip(windows(store, 30, seed=2, **options)[3], chips[3])
    first.epoch = 1
    assert not same_chip(first[3], chips[3])
    with pytest.raises(IndexError, match="An epoch has 30 windows; got number 30"):
        first[30]


def test_every_place_comes_once_before_any_comes_again(store):
    dataset = windows(store, 36, seed=5)
    turns = [[dataset.place(i) for i in range(start, start + 12)] for start in (0, 12, 24)]
    assert [sorted(turn) for turn in turns] == [list(range(12))] * 3
    assert turns[0] != turns[1]


def test_chips_are_windows_of_their_place(store):
    dataset = windows(store, 24, size=5, dates=(2, 6), rotate=False)
    starts = set()
    for i in range(24):
        chip, whole = dataset[i], store.read(dataset.place(i))
        assert chip.keys() == {"x", "dates", "valid"}
        assert chip["x"].dtype == chip["dates"].dtype == torch.float32
        assert 2 <= len(chip["dates"]) <= 6
        when = np.searchsorted(whole.dates, chip["dates"].numpy())
        assert (np.diff(when) > 0).all()
        everywhere = np.lib.stride_tricks.sliding_window_view(whole.x[when], (5, 5), (2, 3))
        same = (everywhere == chip["x"].numpy()[:, :, None, None]).all(axis=(0, 1, 4, 5))
        assert same.sum() == 1
        starts.add(tuple(np.argwhere(same)[0].tolist()))
    assert len(starts) > 8


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_change_nothing(store, context):
    dataset = windows(store, 12, size=6, dates=(3, 5))
    options = {"batch_size": 4, "collate_fn": collate}
    workers = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": context}
    loader = DataLoader(dataset, **options, **workers)
    for epoch in (0, 1):
        # Workers that outlive the epoch must hear of the next.
        dataset.epoch = epoch
        batches = list(loader)
        alone = list(DataLoader(dataset, **options))
        assert all(same_chip(a, b) for a, b in zip(batches, alone, strict=True))
        assert batches[0]["x"].shape[0] == 4


def test_processes_share_out_the_batch_of_one(store):
    dataset = windows(store, 12, dates=(4, 4))
    single = list(DataLoader(dataset, batch_size=4, collate_fn=collate))
    ranks = [
        list(
            DataLoader(
                dataset,
                batch_size=2,
                collate_fn=collate,
                sampler=DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=False),
            )
        )
        for rank in (0, 1)
    ]
    for whole, even, odd in zip(single, *ranks, strict=True):
        assert torch.equal(whole["x"][0::2], even["x"])
        assert torch.equal(whole["x"][1::2], odd["x"])


def test_options_are_checked(store):
    assert windows(store, size=9)[0]["x"].shape[2:] == (8, 8)
    with pytest.raises(
        TimoError, match="length must be a whole number of 1 or more or None; got 0"
    ):
        windows(store, 0)
    with pytest.raises(TimoError, match=r"in this order; got \(3, 2\)"):
        WindowOptions(dates=(3, 2))
    with pytest.raises(TimoError, match="min_clear must be a number from 0 to 1; got 2"):
        WindowOptions(min_clear=2)
    with pytest.raises(TimoError, match="place must be a whole number; got 'first'"):
        store.read("first")


# --- large stores


def test_many_places_open_fast_and_travel_light(grid, tmp_path):
    cube = grid(
        numbers((2, 2, 71, 72), gaps=False), ("time", "band", "y", "x"), sensor="sentinel-2"
    )
    pack(cube, tmp_path / "store", size=1)
    store = ChipStore(tmp_path / "store")
    assert len(store) == 71 * 72
    last = store.read(len(store) - 1)
    np.testing.assert_array_equal(last.x[:, :, 0, 0], cube.values[:, :, -1, -1])
    assert len(pickle.dumps(store)) < 5000
    # Two files a shard, eight every 4096 places, ten arrays, the group and the lock.
    assert store.info()["files"] <= 2 * 2 + 8 * 2 + 12
