"""Packing: what is cut, what is refused, and what remains when it is cut short."""

import errno
import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import dask.array as da
import numpy as np
import pytest
from filelock import FileLock

from timo.errors import TimoError
from timo.places import ChipStore, Packed, pack, verify
from timo.places.packed import shard as shards
from timo.places.packed.packing import PackOptions, choose_dates
from timo.places.packed.writer import ShardWriter

DIMS = ("time", "band", "y", "x")
# Places of 8 x 8, 4 dates, 2 bands, three to a shard.
SMALL = {"size": 8, "shard_bytes": 3 * 4 * 2 * 64 * 2}


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Against a loss of power, which no test brings about, and the slowest thing here by far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def make_cube(grid, dates=4, height=24, width=32, seed=0, **attrs):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 9000, (dates, 2, height, width)).astype("float32") * np.float32(1e-4)
    return grid(values, DIMS, **{"sensor": "sentinel-2", **attrs})


@pytest.fixture
def cube(grid):
    return make_cube(grid)


def contents(path):
    """Every place of a store, by what tells it from the others."""
    store = ChipStore(path)
    keys = store.table["key"].tolist()
    assert len(set(keys)) == len(keys)
    return {key: (store.bounds(i), store.read(i).x.tobytes()) for i, key in enumerate(keys)}


# --- what is cut


def test_places_cover_the_cube_to_its_edges(cube, tmp_path):
    done = pack(cube, tmp_path / "store", size=10, stride=12)
    assert done == Packed(written=9)
    corners = {ChipStore(tmp_path / "store").bounds(i)[::3] for i in range(9)}
    rows, columns = (0, 12, 14), (0, 12, 22)
    expected = {(499_995 + 10 * c, 1005 - 10 * r) for r in rows for c in columns}
    assert corners == expected


def test_only_clear_dates_in_the_span_are_kept(grid, tmp_path):
    cube = make_cube(grid, dates=6)
    cube[2, :, :8, :7] = np.nan
    cube[4, :, :8, :8] = np.nan
    pack(cube, tmp_path / "store", size=8, start="2018-05-05", min_clear=0.2)
    store = ChipStore(tmp_path / "store")
    days = cube.time.values.astype("datetime64[D]").astype(int)
    np.testing.assert_array_equal(store.dates(0), days[[1, 3, 5]])
    np.testing.assert_array_equal(store.dates(1), days[1:])
    assert store.layout.dates == 5


def test_of_many_dates_the_clearest_of_each_part_are_kept():
    clear = np.array([0.5, 0.9, 0.8, 0.1, 0.6, 0.7, 1.0, 0.4])
    kept = choose_dates(clear, PackOptions(dates=3, min_clear=0.3))
    assert kept.tolist() == [1, 5, 6]
    assert choose_dates(clear, PackOptions(min_clear=0.8)).tolist() == [1, 2, 6]
    assert choose_dates(np.zeros(3), PackOptions(min_clear=0)).tolist() == []


def test_places_that_touch_what_is_excluded_are_left_out(cube, grid, tmp_path):
    mask = np.zeros((24, 32), bool)
    mask[8, 8] = True
    done = pack(cube, tmp_path / "store", exclude=grid(mask, ("y", "x")), size=8)
    assert done == Packed(written=11, excluded=1)
    store = ChipStore(tmp_path / "store")
    assert (500_075.0, 845.0, 500_155.0, 925.0) not in [store.bounds(i) for i in range(11)]
    # On another grid of the same CRS too: one cell of 160 m that covers four places.
    coarse = grid(np.array([[True, False], [False, False]]), ("y", "x"))
    coarse = coarse.assign_coords(y=[925.0, 765.0], x=[500_075.0, 500_235.0])
    assert pack(cube, tmp_path / "other", exclude=coarse, size=8).excluded == 4


def test_an_exclusion_is_checked(cube, grid, tmp_path):
    with pytest.raises(TimoError, match="exclude must be booleans with the dims"):
        pack(cube, tmp_path / "s", exclude=grid(np.zeros((24, 32)), ("y", "x")), size=8)
    other = grid(np.zeros((24, 32), bool), ("y", "x"), crs="EPSG:32633")
    with pytest.raises(TimoError, match="exclude is in EPSG:32633, a cube in EPSG:32634"):
        pack(cube, tmp_path / "s", exclude=other, size=8)
    assert not (tmp_path / "s").exists()


def test_more_cubes_are_added_and_none_twice(cube, grid, tmp_path):
    path = tmp_path / "store"
    second = make_cube(grid, seed=1).assign_coords(x=cube.x + 320)
    assert pack(cube, path, **SMALL) == Packed(written=12)
    assert pack([cube, second], path, **SMALL) == Packed(written=12, already=12)
    assert pack([second, cube], path, **SMALL) == Packed(already=24)
    assert len(contents(path)) == 24
    assert verify(path) == []


def test_shards_are_filled_up_and_provenance_is_kept(cube, grid, tmp_path):
    path = tmp_path / "store"
    for i in range(5):
        attrs = {"attribution": f"who {i % 2}", "source": "a test"}
        part = make_cube(grid, height=8, seed=i, **attrs).assign_coords(y=cube.y[:8] - 80 * i)
        pack(part, path, **SMALL)
    store = ChipStore(path)
    assert len(store) == 20
    assert len(list((path / "x").glob("c.*"))) == 7
    assert store.state.attribution == ("who 0", "who 1")
    assert store.state.source == ("a test",)
    assert verify(path) == []


# --- memory


@pytest.mark.parametrize("chunks", [(5, 2, 64, 64), (4, 2, 128, 96), (40, 1, 32, 128)])
def test_a_lazy_cube_is_read_in_parts_and_about_once(grid, tmp_path, chunks):
    shape, reads = (40, 2, 512, 512), []

    def block(block_info=None):
        location = block_info[None]["array-location"]
        reads.append(tuple(location))
        size = [b - a for a, b in location]
        return np.full(size, 0.1 + location[2][0] * 1e-4, "float32")

    lazy = da.map_blocks(block, chunks=da.core.normalize_chunks(chunks, shape), dtype="float32")
    reads.clear()
    cube = grid(np.zeros((40, 2, 2, 2)), DIMS)  # for its coordinates
    coords = {"time": cube.time, "band": cube.band.values}
    coords |= {"y": -10.0 * np.arange(512), "x": 10.0 * np.arange(512)}
    cube = type(cube)(lazy, dims=DIMS, coords=coords, attrs={"sensor": "sentinel-2"})
    cube = cube.rio.write_crs("EPSG:32634")
    tracemalloc.start()
    pack(cube, tmp_path / "store", size=64, shard_bytes=2**22, memory_bytes=2**23)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(ChipStore(tmp_path / "store")) == 64
    # The cube has 84 MB.
    assert peak < 16e6
    # Chunks that straddle places are read for each.
    assert len(reads) <= 2.5 * len(set(reads))


# --- what is refused

REFUSED = {
    "bands": ("bands B4, B8, these are of bands B8, B4", {"bands": ["B8", "B4"]}),
    "sensor": ("holds places of sensor sentinel-2, these are of sensor None", {"sensor": None}),
    "size": ("holds places of size 8, these are of size 7", {"size": 7}),
    "dtype": ("of dtype int16, these are of dtype float32", {"dtype": "float32"}),
    "scale": ("of scale 0.0001, these are of scale 0.001", {"scale": 1e-3}),
    "dates": ("has room for 4 dates a place, and these may have 6: give dates=4", {"dates": 6}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_places_are_refused(grid, cube, tmp_path, what):
    message, change = REFUSED[what]
    pack(cube, tmp_path / "store", **SMALL)
    before = contents(tmp_path / "store")
    other = make_cube(grid, dates=change.pop("dates", 4))
    if "bands" in change:
        other = other.assign_coords(band=change.pop("bands"))
    if "sensor" in change:
        other.attrs["sensor"] = change.pop("sensor")
        del other.attrs["sensor"]
        change["scale"] = 1e-4
    with pytest.raises(TimoError, match=message):
        pack(other, tmp_path / "store", **{"size": 8, **change})
    assert contents(tmp_path / "store") == before


def test_bad_cubes_and_options_are_refused(grid, cube, tmp_path):
    path = tmp_path / "store"
    bright = cube.copy(deep=True)
    bright[2, 0, 3, 4] = 8
    cases = {
        "the cube's values go from .* to 8.* holds -3.2767 to 3.2767": lambda: pack(bright, path),
        "the cube has 24 x 32 pixels, and a place 64 x 64": lambda: pack(cube, path, size=64),
        "no date between start='2030' and end=None: the cube goes": lambda: pack(
            cube, path, start="2030"
        ),
        "start='soon', end=None cannot be read as dates": lambda: pack(cube, path, start="soon"),
        "there is no cube to pack": lambda: pack([], path),
        "an unexpected keyword argument 'sizes'. Did you mean 'size'. It takes: size, stride": lambda: (
            pack(cube, path, sizes=3)
        ),
        "stride must be a whole number of 1 or more or None; got 0": lambda: pack(
            cube, path, stride=0
        ),
        "dtype must be one of 'int16', 'float32'; got 'int8'": lambda: pack(
            cube, path, dtype="int8"
        ),
        "min_clear must be a number from 0 to 1; got 30": lambda: pack(cube, path, min_clear=30),
        "scale must be a number above 0 or None; got -1": lambda: pack(cube, path, scale=-1),
        "the cubes differ in their bands": lambda: pack([cube, cube[:, :1]], path, size=8),
        "The cube's dates must ascend": lambda: pack(cube[::-1], path, size=8),
    }
    for message, call in cases.items():
        with pytest.raises(TimoError, match=message):
            call()
        assert not path.exists()


@pytest.fixture(autouse=True)
def small_default(monkeypatch):
    """Cubes here are smaller than a place is by default."""
    original = PackOptions.__init__

    def init(self, **options):
        original(self, **{"size": 8, **options})

    monkeypatch.setattr(PackOptions, "__init__", init)


def test_what_has_no_sensor_needs_a_scale(cube, tmp_path):
    del cube.attrs["sensor"]
    with pytest.raises(TimoError, match="the cube names no sensor whose scale could be taken"):
        pack(cube, tmp_path / "store")
    pack(cube, tmp_path / "store", scale=0.01)
    store = ChipStore(tmp_path / "store")
    assert 0.004 < store.state.largest_error <= 0.005 + 1e-6
    pack(cube, tmp_path / "floats", dtype="float32")
    np.testing.assert_array_equal(
        ChipStore(tmp_path / "floats").read(0).x, cube.values[:, :, :8, :8]
    )


def test_nothing_to_pack_leaves_nothing_behind(cube, tmp_path):
    cube[:, :, 4:, :] = np.nan
    with pytest.raises(TimoError, match="no place is left to pack: 12 of them have fewer than 1"):
        pack(cube, tmp_path / "store", min_clear=0.9)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(cube, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"miaow")
    with pytest.raises(TimoError, match="is no chip store: it is not a Zarr store"):
        pack(cube, tmp_path / "photos")
    cube.to_dataset(name="cube").to_zarr(tmp_path / "cube.zarr", zarr_format=3)
    with pytest.raises(TimoError, match="is a Zarr store, but no chip store"):
        pack(cube, tmp_path / "cube.zarr")
    with pytest.raises(TimoError, match="is no chip store: it does not exist"):
        ChipStore(tmp_path / "nowhere")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_two_cannot_write_at_once(cube, tmp_path):
    pack(cube, tmp_path / "store")
    with (
        FileLock(tmp_path / "store" / "x" / ".lock"),
        pytest.raises(TimoError, match="is being written by another process"),
    ):
        pack(cube, tmp_path / "store")
    assert pack(cube, tmp_path / "store") == Packed(already=12)


# --- cut short


def test_it_goes_on_wherever_it_was_killed(cube, tmp_path, monkeypatch):
    """Cut at each of the moments at which a file gets its name, with all left as it lies."""
    cube = cube[:, :, :16, :24]
    pack(cube, tmp_path / "whole", **SMALL)
    whole = contents(tmp_path / "whole")
    publish = shards.publish

    class Killed(BaseException):
        pass

    for moment in itertools.count():
        path, calls = tmp_path / f"cut{moment}", itertools.count()

        def dying(file, partial, target, calls=calls, moment=moment):
            if next(calls) == moment:
                raise Killed
            publish(file, partial, target)

        with monkeypatch.context() as patch:
            patch.setattr(shards, "publish", dying)
            patch.setattr(ShardWriter, "abandon", lambda self: self.file.close())
            try:
                pack(cube, path, **SMALL)
            except Killed:
                pass
            else:
                break
        if path.exists():
            partly = contents(path)
            assert partly.items() <= whole.items()
            assert len(partly) % 3 == 0
            assert verify(path) == []
        pack(cube, path, **SMALL)
        assert contents(path) == whole
        assert verify(path) == []
        assert not list(path.rglob("*.partial"))
    # Creation, and two commits of two shards, eight columns, ten arrays and the group.
    assert moment >= 11 + 2 * 21


def test_a_full_disk_is_said_and_what_was_complete_counts(cube, tmp_path, monkeypatch):
    publish, left = shards.publish, itertools.count()

    def full(file, partial, target):
        if next(left) > 50:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        publish(file, partial, target)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "publish", full)
        message = "cannot write to the chip store .*: No space left on device. Its first 3 places"
        with pytest.raises(TimoError, match=message):
            pack(cube, tmp_path / "store", **SMALL)
    assert len(contents(tmp_path / "store")) == 3
    assert not list((tmp_path / "store").rglob("*.partial"))
    assert pack(cube, tmp_path / "store", **SMALL) == Packed(written=9, already=3)


def run(*arguments, **options):
    command = [sys.executable, "-m", "timo.places", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_files_that_cannot_grow_are_said(cube, tmp_path):
    """The system itself refuses to write on: 40 kB a file is less than a shard."""
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # noqa: E731
    done = run("pack", tmp_path / "cube.nc", tmp_path / "store", "--size", 8, preexec_fn=limit)
    assert done.returncode == 2
    assert "File too large. Its first 0 places are complete" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


SLOW = """
import sys, time
import dask.array as da, xarray as xr
from timo.places import pack
cube = xr.open_dataset(sys.argv[1], decode_coords="all").cube.chunk(y=8, x=8)
def slowly(block):
    time.sleep(0.02)
    return block
cube = cube.copy(data=cube.data.map_blocks(slowly))
pack(cube, sys.argv[2], size=8, shard_bytes=3 * 4 * 2 * 64 * 2, memory_bytes=1)
"""


def test_a_killed_packing_goes_on(cube, tmp_path):
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc")
    path = tmp_path / "store"
    pack(cube, tmp_path / "whole", **SMALL)
    whole = contents(tmp_path / "whole")
    script = textwrap.dedent(SLOW)
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cube.nc"), str(path)])
    deadline = time.monotonic() + 120
    while not path.exists() or not len(ChipStore(path)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partly = contents(path)
    assert partly.items() <= whole.items()
    assert 3 <= len(partly) < 12
    done = pack(cube, path, **SMALL)
    assert (done.already, done.written) == (len(partly), 12 - len(partly))
    assert contents(path) == whole
    assert verify(path) == []
