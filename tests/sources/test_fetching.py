"""Lazy arrays whose chunks are requests: what is fetched, when it stops, and what is kept."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.cancel import CancelledError, current_stop
from timo.cli import main
from timo.cube import check
from timo.errors import TimoError
from timo.sources import open_cube
from timo.sources.cache import ChunkCache
from timo.sources.cache.stores import open_store
from timo.sources.fetching import fetch, fetched_array
from timo.sources.retry import Retry, Sorted

KEY = "0123456789abcdef" * 4
SHAPE, CHUNKS = (4, 2, 30, 50), (1, 2, 16, 16)


class Service:
    """Answers requests from an array, counts them, and does what a test wants before each."""

    def __init__(self, shape=SHAPE, before=lambda _: None):
        self.pixels = 0.5 * np.random.default_rng(0).random(shape, dtype="float32")
        self.pixels[self.pixels < 0.05] = np.nan
        self.before, self.lock, self.asked = before, threading.Lock(), []

    def __call__(self, index, slices):
        with self.lock:
            self.asked.append(index)
            number = len(self.asked)
        self.before(number)
        return self.pixels[slices]


def cube_of(array):
    time_ = np.array("2020-01-01", "M8[ns]") + np.arange(array.shape[0]).astype("m8[D]")
    cube = xr.DataArray(
        array,
        dims=("time", "band", "y", "x"),
        coords={
            "time": time_,
            "band": [f"B{i}" for i in range(1, 1 + array.shape[1])],
            "y": 5e6 + 10.0 * np.arange(array.shape[2])[::-1],
            "x": 5e5 + 10.0 * np.arange(array.shape[3]),
        },
        name="reflectance",
        attrs={"sensor": "sentinel-2"},
    )
    return cube.rio.write_crs(32633)


@pytest.fixture
def cached(tmp_path):
    return ChunkCache(tmp_path / "cache").array(KEY, SHAPE, CHUNKS)


@given(
    layout=st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            st.tuples(*[st.integers(1, 9)] * n), st.tuples(*[st.integers(1, 5)] * n)
        )
    ),
    with_cache=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_an_array_is_what_its_chunks_are(tmp_path_factory, layout, with_cache):
    shape, chunks = layout
    service = Service(shape)
    cached = (
        ChunkCache(tmp_path_factory.mktemp("cache")).array(KEY, shape, chunks)
        if with_cache
        else None
    )
    array = fetched_array(service, shape, chunks, cached, "a")
    assert (array.shape, array.dtype) == (shape, "float32")
    assert array.chunksize == tuple(map(min, shape, chunks))
    for _ in range(2):
        np.testing.assert_array_equal(array.compute(scheduler="threads"), service.pixels)
    assert len(service.asked) == array.npartitions * (1 if with_cache else 2)


def test_nothing_is_fetched_before_it_is_needed_and_only_what_is_needed(cached):
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    window = cube.isel(time=slice(1, 3), y=slice(10, 20), x=slice(33, 40))
    assert service.asked == []
    found = fetch(window * 2, progress=False)
    assert sorted(service.asked) == [(t, 0, y, 2) for t in (1, 2) for y in (0, 1)]
    np.testing.assert_array_equal(found, 2 * service.pixels[1:3, :, 10:20, 33:40])


def test_the_graph_of_a_huge_request_is_small():
    array = fetched_array(lambda *_: None, (24, 4, 20_000, 20_000), (1, 4, 512, 512), None, "a")
    assert len(cloudpickle.dumps(array)) < 10_000
    assert [
        len(layer.mapping) for layer in array.dask.layers.values() if layer.is_materialized()
    ] == []


def test_what_was_fetched_is_not_fetched_again(cached):
    service = Service()
    first = fetch(cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a")), progress=False)
    assert len(service.asked) == len(cached.present()) == 32
    again = ChunkCache(cached.cache.folder).array(KEY, SHAPE, CHUNKS)
    second = fetch(cube_of(fetched_array(service, SHAPE, CHUNKS, again, "b")), progress=False)
    assert len(service.asked) == 32
    xr.testing.assert_identical(first, second)
    np.testing.assert_array_equal(first, service.pixels)


def test_as_many_requests_at_a_time_as_there_are_workers(cached):
    barrier = threading.Barrier(4)
    service = Service(before=lambda _: barrier.wait(10))
    fetch(cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a")), workers=4, progress=False)
    assert not barrier.broken
    assert len(service.asked) == 32


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("timo-fetch")]


def test_no_thread_is_left(cached):
    fetch(cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a")), progress=False)
    assert own_threads() == []

    def fail(number):
        if number == 5:
            raise KeyError("broken")

    with pytest.raises(KeyError):
        fetch(
            cube_of(fetched_array(Service(before=fail), SHAPE, CHUNKS, None, "b")), progress=False
        )
    assert own_threads() == []


def test_cancelling_stops_before_the_next_request_and_the_same_call_goes_on(cached):
    stop = threading.Event()
    service = Service(before=lambda number: stop.set() if number == 10 else None)
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    with pytest.raises(CancelledError, match=r"of 32 chunks.*in the cache.*resumes") as caught:
        fetch(cube, workers=3, progress=False, stop=stop)
    asked = len(service.asked)
    # The two that were under way may have been asked for at the same moment.
    assert 10 <= asked <= 12
    assert f"after {asked} of 32" in str(caught.value)
    assert set(service.asked) == cached.present()
    assert own_threads() == []
    found = fetch(cube, progress=False)
    assert len(service.asked) == len(set(service.asked)) == 32
    np.testing.assert_array_equal(found, service.pixels)


def test_without_a_cache_the_message_does_not_promise_one():
    stop = threading.Event()
    service = Service(before=lambda number: stop.set() if number == 4 else None)
    with pytest.raises(CancelledError, match="4 of them are not in the cache"):
        fetch(
            cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a")),
            workers=1, progress=False, stop=stop,
        )  # fmt: skip


def test_a_cube_of_another_kind_can_be_cancelled_too():
    stop = threading.Event()

    def slow(block, block_id=None):
        if block_id == (2, 0, 0, 0):
            stop.set()
        return block

    data = da.map_blocks(slow, da.zeros(SHAPE, chunks=CHUNKS, dtype="float32"), dtype="float32")
    with pytest.raises(CancelledError):
        fetch(cube_of(data), workers=1, progress=False, stop=stop)


def test_a_pause_between_attempts_ends_when_it_is_cancelled(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    stop, pausing = threading.Event(), threading.Event()
    retry = Retry(initial_s=30)

    def refuse():
        raise ConnectionResetError(104, "reset")

    def request(index, slices):
        return retry.call(
            refuse,
            classify=lambda e: Sorted("transient", str(e)),
            on_retry=lambda *_: pausing.set(),
        )

    times = []

    def cancel():
        pausing.wait(10)
        times.append(time.monotonic())
        stop.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CancelledError):
        fetch(cube_of(fetched_array(request, SHAPE, CHUNKS, None, "a")), progress=False, stop=stop)
    assert time.monotonic() - times[0] < 0.2
    thread.join()
    assert own_threads() == []
    assert current_stop() is None


def test_one_failure_ends_the_pauses_of_the_others(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    retry = Retry(initial_s=30)

    crowd = threading.Barrier(8)

    def request(index, slices):
        if crowd.wait(10) == 0:
            raise TimoError("permanent")
        return retry.call(lambda: 1 / 0, classify=lambda e: Sorted("transient", str(e)))

    began = time.monotonic()
    with pytest.raises(TimoError, match="permanent"):
        fetch(cube_of(fetched_array(request, SHAPE, CHUNKS, None, "a")), progress=False)
    assert time.monotonic() - began < 5


# Ten requests are answered; those after them only once the fetch is told to stop, however long that takes to arrive.
INTERRUPTED = """
    import itertools, signal, sys, threading, time
    import numpy as np, xarray as xr
    from timo.sources.cache import ChunkCache
    from timo.sources.fetching import fetch, fetched_array
    from timo.cancel import current_stop, is_stopped

    # A shell that runs the tests in the background has its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number = itertools.count(1)

    def request(index, slices):
        if next(number) > 10:
            while not is_stopped(current_stop()):
                time.sleep(0.01)
        sys.stdout.write(f"{index}\\n")
        sys.stdout.flush()
        return np.ones(tuple(s.stop - s.start for s in slices), "float32")

    cached = ChunkCache(sys.argv[1]).array("0123456789abcdef" * 4, (400, 1, 4, 4), (1, 1, 4, 4))
    cube = xr.DataArray(fetched_array(request, (400, 1, 4, 4), (1, 1, 4, 4), cached, "a"))
    try:
        fetch(cube, workers=2, progress=False)
    except KeyboardInterrupt as interrupt:
        left = [t.name for t in threading.enumerate() if t.name.startswith("timo-fetch")]
        sys.stdout.write(f"stopped: {interrupt} {left}\\n")
"""


def start_fetch(folder):
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(10)]
    assert all(lines)
    return process, lines


@pytest.mark.skipif(os.name == "nt", reason="signals are another matter there")
def test_an_interrupt_stops_it_and_keeps_what_is_done(tmp_path):
    process, lines = start_fetch(tmp_path)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    lines += rest.splitlines()
    assert process.returncode == 0
    assert lines[-1].startswith("stopped: The fetch was stopped after")
    assert "resumes" in lines[-1]
    assert lines[-1].endswith("[]")
    present = ChunkCache(tmp_path).array(KEY, (400, 1, 4, 4), (1, 1, 4, 4)).present()
    assert len(present) == len(lines) - 1
    # The two that were under way are kept, and no other one was begun.
    assert len(present) <= 12


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_kill_loses_nothing_that_was_finished(tmp_path):
    process, _ = start_fetch(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    present = ChunkCache(tmp_path).array(KEY, (400, 1, 4, 4), (1, 1, 4, 4)).present()
    # Two requests were under way when the tenth was told.
    assert len(present) >= 8
    service = Service((400, 1, 4, 4))
    cached = ChunkCache(tmp_path).array(KEY, (400, 1, 4, 4), (1, 1, 4, 4))
    found = fetch(
        cube_of(fetched_array(service, *[(400, 1, 4, 4), (1, 1, 4, 4)], cached, "a")),
        progress=False,
    )
    assert set(service.asked) == {(t, 0, 0, 0) for t in range(400)} - present
    assert (found.values[[index[0] for index in present]] == 1).all()


def test_a_thousand_requests_with_a_tenth_of_failures_end_complete_and_unchanged(tmp_path):
    shape, chunks = (250, 1, 8, 8), (1, 1, 4, 4)
    chance, lock, kinds = np.random.default_rng(1), threading.Lock(), []

    def fail(_):
        with lock:
            drawn = chance.random()
        if drawn < 0.1:
            kinds.append("quota" if drawn < 0.05 else "transient")
            raise ConnectionError(kinds[-1])

    service = Service(shape, before=fail)
    retry = Retry(initial_s=0.0005, quota_initial_s=0.001, largest_s=0.01)

    def request(index, slices):
        return retry.call(service, index, slices, classify=str)

    cached = ChunkCache(tmp_path).array(KEY, shape, chunks)
    found = fetch(cube_of(fetched_array(request, shape, chunks, cached, "a")), progress=False)
    np.testing.assert_array_equal(found, service.pixels)
    assert len(cached.present()) == 1000
    assert len(service.asked) == 1000 + len(kinds)
    assert {"quota", "transient"} == set(kinds)
    assert 60 < len(kinds) < 180


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (np.zeros((1, 2, 16, 15), "float32"), r"\(1, 2, 16, 15\)"),
        (np.zeros((1, 2, 16, 16), "float64"), "float64"),
    ],
)
def test_a_reply_of_another_shape_or_type_is_refused_and_not_kept(cached, reply, said):
    array = fetched_array(lambda *_: reply, SHAPE, CHUNKS, cached, "a")
    with pytest.raises(TimoError, match=said):
        fetch(cube_of(array)[:, :, :16, :16], progress=False)
    assert cached.present() == set()


def test_a_cache_of_another_layout_is_refused(cached):
    with pytest.raises(TimoError, match="The cache is of"):
        fetched_array(Service(), SHAPE, (2, 2, 16, 16), cached, "a")
    with pytest.raises(TimoError, match="The cache is of"):
        fetched_array(Service(), SHAPE, CHUNKS, cached, "a", dtype="int16")


def test_without_a_folder_that_can_be_written_fetching_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be kept") as caught:  # noqa: PT031
        cached = ChunkCache(tmp_path / "file").array(KEY, SHAPE, CHUNKS)
        service = Service()
        found = fetch(cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a")), progress=False)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, service.pixels)


def test_it_can_be_written_chunk_by_chunk(cached, tmp_path):
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    count = da.ones((4, 30, 50), chunks=(1, 16, 16), dtype="int16")
    cube = cube.assign_coords(n_valid=(("time", "y", "x"), count))
    stored = fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    assert len(service.asked) == 32
    assert dask.is_dask_collection(stored)
    check(stored)
    xr.testing.assert_identical(stored.compute(), fetch(cube, progress=False))
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "cube.zarr"}


def test_a_store_of_which_half_is_fetched_does_not_appear(cached, tmp_path):
    stop = threading.Event()
    service = Service(before=lambda number: stop.set() if number == 10 else None)
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    with pytest.raises(CancelledError, match="resumes"):
        fetch(cube, progress=False, stop=stop, path=tmp_path / "cube.zarr")
    hidden = [path.name for path in tmp_path.iterdir() if path.name != "cache"]
    assert [name.startswith(".cube.zarr.unfinished-") for name in hidden] == [True]
    fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    assert len(service.asked) == 32
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "cube.zarr"}


# A cube of files, as a user fetches it; each reading of a file is noted, and takes a moment.
FILES = """
    import sys, time, rasterio, timo
    folder, store, log, pause = sys.argv[1:]
    cube = timo.open_cube("files", path=folder, sensor="sentinel-2")
    opened = rasterio.open

    def noted(path, *arguments, **options):
        with open(log, "ab", buffering=0) as file:
            file.write(f"{path}\\n".encode())
        time.sleep(float(pause))
        return opened(path, *arguments, **options)

    rasterio.open = noted
    timo.fetch(cube, path=store, workers=2, progress=False)
"""


def write_scenes(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for day in range(1, count + 1):
        with rasterio.open(
            folder / f"S2_201807{day:02d}.tif", "w", driver="GTiff", width=25, height=20, count=3,
            dtype="int16", crs=32634, transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
        ) as file:  # fmt: skip
            file.write(rng.integers(200, 3000, (3, 20, 25)).astype("int16"))
            file.descriptions = ("B2", "B3", "B4")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_fetch_of_files_that_is_killed_again_and_again_reads_nothing_whole_again(tmp_path):
    write_scenes(tmp_path / "scenes", 10)
    log, store = tmp_path / "log", tmp_path / "cube.zarr"
    log.touch()

    def start(pause):
        command = [sys.executable, "-c", textwrap.dedent(FILES), str(tmp_path / "scenes")]
        return subprocess.Popen([*command, str(store), str(log), str(pause)])

    def whole():
        return {int(p.parts[-4]) for p in tmp_path.glob(".cube.zarr.unfinished-*/*/c/*/*/*/0")}

    def days():
        return [int(line[-6:-4]) - 1 for line in log.read_text().split()]

    for _ in range(2):
        kept, asked = whole(), len(days())
        process = start(0.1)
        while process.poll() is None and len(whole()) < len(kept) + 3:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert len(whole()) >= len(kept) + 3
        assert not store.exists()
        assert kept.isdisjoint(days()[asked:])
    kept, asked = whole(), len(days())
    assert start(0).wait() == 0
    assert sorted(days()[asked:]) == sorted(set(range(10)) - kept)
    # Two workers, two kills: no more was in work.
    assert len(days()) <= 10 + 4
    assert {path.name for path in tmp_path.iterdir()} == {"scenes", "log", "cube.zarr"}
    expected = open_cube("files", path=tmp_path / "scenes", sensor="sentinel-2").compute()
    xr.testing.assert_equal(open_store(store).compute(), expected)
    with rasterio.open(tmp_path / "scenes" / "S2_20180705.tif") as file:
        np.testing.assert_allclose(expected[4], file.read() * 1e-4, atol=1e-7)


@pytest.fixture
def stored(tmp_path):
    """A service, a cube of it, and the store that it was fetched to."""
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    service.asked.clear()
    return service, cube, tmp_path / "cube.zarr"


def lose(chunk):
    (chunk / "1/0/0/2").unlink()
    return {(1, 0, 0, 2)}, "1/0/0/2 .*2020-01-02.*x 500320.0 to 500470.0.* is lost"


def swap(chunk):
    one, two = chunk / "0/0/1/1", chunk / "3/0/0/0"
    kept, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(kept)
    return {(0, 0, 1, 1), (3, 0, 0, 0)}, "2020-01-0[14].* holds what belongs to reflectance/c/"


def flip(chunk):
    data = bytearray((chunk / "2/0/1/3").read_bytes())
    data[len(data) // 2] ^= 4
    (chunk / "2/0/1/3").write_bytes(data)
    return {
        (2, 0, 1, 3)
    }, "2020-01-03.*B1, B2, y 5000130.0 to 5000000.0, x 500480.0 to 500490.0.* is not what was"


@pytest.mark.parametrize("damage", [lose, swap, flip])
def test_a_damaged_store_names_the_chunk_and_the_same_call_repairs_it(stored, damage, capsys):
    service, cube, path = stored
    before = open_store(path)
    chunks, said = damage(path / "reflectance" / "c")
    opened = partial(open_cube, "files", path=path)
    for read in (before.compute, lambda: open_store(path).compute(), lambda: opened().compute()):
        with pytest.raises(TimoError, match=said) as caught:
            read()
        assert f"timo.fetch(cube, path='{path}')" in str(caught.value)
    assert main(["cache", "verify", str(path)]) == 1
    assert f"{len(chunks)} damaged chunks: timo.fetch" in capsys.readouterr().out
    found = fetch(cube, progress=False, path=path)
    assert set(service.asked) == chunks
    np.testing.assert_array_equal(found, service.pixels)
    np.testing.assert_array_equal(opened(), service.pixels)
    assert main(["cache", "verify", str(path)]) == 0


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_to_a_chunk_it_is_never_read_as_something_else(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("store") / "cube.zarr"
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    fetch(cube, progress=False, path=path)
    service.asked.clear()
    files = sorted((path / "reflectance" / "c").rglob("*/*/*/*"))
    file, other = data.draw(st.lists(st.sampled_from(files), min_size=2, max_size=2, unique=True))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = data.draw(st.sampled_from([b"", content, content[:place], other.read_bytes(), None]))
    file.unlink() if changed is None else file.write_bytes(changed)
    name = file.relative_to(path).as_posix()
    with pytest.raises(TimoError, match=rf"chunk {name} \("):
        open_store(path).compute()
    np.testing.assert_array_equal(fetch(cube, progress=False, path=path), service.pixels)
    assert service.asked == [tuple(map(int, file.parts[-4:]))]


@pytest.mark.parametrize("file", ["time/c/0", "time/zarr.json", "zarr.json", "x/c/0"])
def test_lost_coordinates_and_metadata_are_named_and_repaired(stored, file):
    service, cube, path = stored
    (path / file).unlink()
    with pytest.raises(TimoError, match=f"{file} is lost.*timo.fetch"):
        open_store(path)
    xr.testing.assert_identical(
        fetch(cube, progress=False, path=path).compute(), fetch(cube, progress=False)
    )
    assert len(service.asked) == 32


def test_the_same_request_is_not_fetched_again_and_another_replaces_it_if_it_may(stored):
    service, cube, path = stored
    np.testing.assert_array_equal(fetch(cube, progress=False, path=path), service.pixels)
    assert service.asked == []
    # Another cube does not take its place unless that is said.
    with pytest.raises(TimoError, match=r"holds another cube.*overwrite=True"):
        fetch(cube[:2], progress=False, path=path)
    assert service.asked == []
    np.testing.assert_array_equal(open_store(path), service.pixels)
    fetch(cube[:2], progress=False, path=path, overwrite=True)
    assert len(service.asked) == 16
    assert open_store(path).sizes["time"] == 2


def test_a_store_of_somebody_else_is_not_replaced_without_a_word(tmp_path):
    path = tmp_path / "mine.zarr"
    xr.Dataset({"precious": ("i", [1, 2, 3])}).to_zarr(path, zarr_format=3, consolidated=False)
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, None, "a"))
    with pytest.raises(TimoError, match=r"did not write\. Choose another path"):
        fetch(cube, progress=False, path=path)
    with xr.open_zarr(path, consolidated=False) as kept:
        assert kept.precious.values.tolist() == [1, 2, 3]
    # Both remedies.
    fetch(cube, progress=False, path=tmp_path / "other.zarr")
    fetch(cube, progress=False, path=path, overwrite=True)
    assert open_store(path).shape == SHAPE


def test_an_error_keeps_what_is_complete_and_says_so(tmp_path):
    def fail(number):
        if number == 9 and service.failing:
            raise TimoError("Item S2A_1 of 2020-01-01 cannot be read: asset B04.")

    service = Service(before=fail)
    service.failing = True
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    with pytest.raises(TimoError, match=r"Item S2A_1.*is kept.*the same call resumes"):
        fetch(cube, progress=False, path=tmp_path / "cube.zarr", workers=1)
    assert own_threads() == []
    service.failing = False
    found = fetch(cube, progress=False, path=tmp_path / "cube.zarr", workers=1)
    assert len(service.asked) == 33
    np.testing.assert_array_equal(found, service.pixels)


def test_a_full_disk_is_one_error_and_what_is_complete_is_kept(tmp_path, monkeypatch):
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    written, replace = [], Path.replace

    def full(path, target):
        if "/c/" in str(target) and "reflectance" in str(target):
            written.append(target)
            if len(written) > 9:
                raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TimoError, match=r"No space left.*resumes"):
        fetch(cube, progress=False, path=tmp_path / "cube.zarr", workers=1)
    monkeypatch.setattr(Path, "replace", replace)
    np.testing.assert_array_equal(
        fetch(cube, progress=False, path=tmp_path / "cube.zarr"), service.pixels
    )
    assert len(service.asked) == 33


def test_a_damaged_chunk_of_an_unfinished_store_is_fetched_again(tmp_path):
    stop = threading.Event()
    service = Service(before=lambda number: stop.set() if number == 20 else None)
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    with pytest.raises(CancelledError):
        fetch(cube, progress=False, stop=stop, path=tmp_path / "cube.zarr")
    chunks = next(tmp_path.glob(".cube.zarr.unfinished-*/reflectance/c"))
    index, other = sorted(service.asked)[:2]
    one, two = (chunks.joinpath(*map(str, i)) for i in (index, other))
    one.write_bytes(two.read_bytes())
    found = fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    assert {i for i in service.asked if service.asked.count(i) == 2} == {index}
    np.testing.assert_array_equal(found, service.pixels)


def test_another_request_is_not_mixed_in_and_warns(tmp_path):
    stop = threading.Event()
    service = Service(before=lambda number: stop.set() if number == 5 else None)
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    with pytest.raises(CancelledError):
        fetch(cube, progress=False, stop=stop, path=tmp_path / "cube.zarr")
    with pytest.warns(UserWarning, match=r"another request.*begins from the start") as caught:
        found = fetch(cube + 1, progress=False, path=tmp_path / "cube.zarr")
    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(found, service.pixels + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"cube.zarr"}


def test_two_calls_at_once_do_not_write_the_same_store(tmp_path):
    begun, end = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        end.wait(10)

    service = Service(before=wait)
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    options = {"progress": False, "path": tmp_path / "cube.zarr"}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, cube, **options)
        begun.wait(10)
        with pytest.raises(TimoError, match=r"being written by another call: wait for it"):
            fetch(cube, **options)
        end.set()
        np.testing.assert_array_equal(first.result(), service.pixels)
    # It was waited for.
    np.testing.assert_array_equal(fetch(cube, **options), service.pixels)
    assert len(service.asked) == 32


def test_chunks_of_nothing_but_gaps_are_files_too(tmp_path):
    service = Service()
    service.pixels[1] = np.nan
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    stored = fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    np.testing.assert_array_equal(stored, service.pixels)
    (tmp_path / "cube.zarr/reflectance/c/1/0/0/0").unlink()
    with pytest.raises(TimoError, match="is lost"):
        open_store(tmp_path / "cube.zarr")


def test_values_that_cannot_be_are_refused_and_nothing_is_lost(tmp_path):
    service = Service()
    service.pixels *= 10_000
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    for options in ({}, {"path": tmp_path / "cube.zarr"}, {"path": tmp_path / "cube.zarr"}):
        with pytest.raises(TimoError, match="10,000"):
            fetch(cube, progress=False, **options)
    assert not (tmp_path / "cube.zarr").exists()
    # The chunks were fetched once for memory and once for the store.
    assert len(service.asked) == 64
    # The remedy: divided by the factor.
    found = (cube / 10_000).assign_attrs(cube.attrs)
    with pytest.warns(UserWarning, match="another request"):
        assert fetch(found, progress=False, path=tmp_path / "cube.zarr").max() < 1


def test_a_fetched_store_can_be_fetched_from(stored, tmp_path):
    service, _, path = stored
    copy = fetch(open_store(path)[1:, :, 3:], progress=False, path=tmp_path / "part.zarr")
    np.testing.assert_array_equal(copy, service.pixels[1:, :, 3:])
    # Onto itself, too.
    copy = fetch(open_store(path)[:, :, 5:], progress=False, path=path, overwrite=True)
    np.testing.assert_array_equal(copy, service.pixels[:, :, 5:])


def test_the_progress_bar_counts_requests(cached, capsys):
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    fetch(cube.isel(time=0).mean("band"))
    assert "8/8" in capsys.readouterr().err
    fetch(cube, progress=False)
    fetch(cube.chunk(time=2), progress=np.bool_(False))
    assert capsys.readouterr().err == ""


def counts(reports):
    return [(report.step, report.steps) for report in reports]


def test_each_chunk_is_reported(cached):
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    for _ in range(2):  # from the service, then from the cache
        reports, inside = [], threading.Lock()

        def note(report, reports=reports, inside=inside):
            assert inside.acquire(blocking=False)
            reports.append(report)
            time.sleep(0.001)
            inside.release()

        fetch(cube, progress=False, on_step=note)
        assert counts(reports) == [(done, 32) for done in range(33)]
        assert reports[-1].eta == 0


def test_chunks_that_are_written_to_a_store_are_reported_too(cached, tmp_path):
    reports = []
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    fetch(cube, progress=False, on_step=reports.append, path=tmp_path / "cube.zarr")
    assert counts(reports) == [(done, 32) for done in range(33)]


def test_of_a_cube_of_another_kind_the_tasks_are_reported():
    reports = []
    pixels = Service().pixels
    data = da.map_blocks(np.sqrt, da.from_array(pixels, chunks=CHUNKS), dtype="float32")
    found = fetch(cube_of(data), progress=False, on_step=reports.append)
    np.testing.assert_array_equal(found, np.sqrt(pixels))
    total = reports[-1].steps
    assert counts(reports) == [(done, total) for done in range(total + 1)]
    assert total >= data.npartitions


def test_the_former_names_of_options_work_with_a_warning():
    told, stop = [], threading.Event()
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, None, "a"))
    with pytest.warns(DeprecationWarning, match="a function is on_step=") as caught:
        fetch(cube, progress=lambda done, total: told.append((done, total)))
    assert [warning.filename for warning in caught] == [__file__]
    assert told == [(done, 32) for done in range(33)]
    stop.set()
    with pytest.warns(DeprecationWarning, match="stop= now"), pytest.raises(CancelledError):
        fetch(cube, progress=False, cancel=stop)


def test_an_error_of_who_watches_loses_no_chunk_and_is_warned_of_once(cached, tmp_path):
    steps = []

    def fail(report):
        steps.append(report.step)
        if report.step == 3:
            raise ZeroDivisionError("my bar")

    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    with pytest.warns(
        UserWarning, match=r"on_step= raised ZeroDivisionError: my bar.*went on"
    ) as seen:
        found = fetch(cube, progress=False, on_step=fail)
    assert steps == [0, 1, 2, 3]
    assert [warning.filename for warning in seen] == [__file__]
    np.testing.assert_array_equal(found, service.pixels)
    assert len(cached.present()) == 32
    stop = threading.Event()

    def stop_and_fail(report):
        if report.step == 3:
            stop.set()
            raise ZeroDivisionError("my bar")

    again = Service()
    cube = cube_of(fetched_array(again, SHAPE, CHUNKS, None, "b"))
    with pytest.raises(CancelledError, match="of 32"), pytest.warns(UserWarning, match="my bar"):
        fetch(cube, workers=1, progress=False, on_step=stop_and_fail, stop=stop)
    assert len(again.asked) == 3


def test_a_graph_travels(cached):
    arrived = cloudpickle.loads(
        cloudpickle.dumps(fetched_array(lambda i, _: np.full((1, 2, 16, 16), sum(i), "float32"),
                                        SHAPE, CHUNKS, cached, "a"))
    )  # fmt: skip
    assert (arrived[2, :, :16, 16:32].compute(scheduler="threads") == 3).all()
    assert cached.present() == {(2, 0, 0, 1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"workers": workers}, "workers must be a whole number from 1 to 1000; got")
          for workers in (0, -1, 10**6, "8", 2.5, None, True)),
        ({"path": "cube.tif"}, r"must end in \.zarr"),
        ({"path": 5}, "path must be text or a path or None; got 5"),
        ({"progress": "yes"}, "progress must be True or False or a function; got 'yes'"),
        ({"on_step": True}, "on_step must be a function or None; got True"),
        ({"stop": lambda: 1 / 0}, r"given as stop= raised ZeroDivisionError.*threading\.Event"),
        ({"cube": cube_of(np.full((1, 1, 2, 2), "a"))}, "cube must hold numbers; got <U1"),
        *(({"stop": stop}, "stop must be a threading.Event or a function or None; got")
          for stop in (5, "stop")),
        *(({"cube": cube}, "cube must be an xarray.DataArray; got")
          for cube in (5, None, "cube.zarr", np.zeros(3))),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options, message):
    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, None, "a"))
    with pytest.raises(TimoError, match=message):
        fetch(**{"cube": cube, "progress": False, **options})
    assert service.asked == []


def test_digital_numbers_are_refused_too():
    numbers = cube_of(np.random.default_rng(0).integers(200, 4000, (2, 1, 30, 30), "int16"))
    with pytest.raises(TimoError, match="10,000"):
        fetch(numbers, progress=False)


def test_a_cube_in_memory_stays_as_it_is():
    cube = cube_of(np.zeros((2, 1, 3, 3), "float32"))
    xr.testing.assert_identical(fetch(cube, progress=False), cube)
