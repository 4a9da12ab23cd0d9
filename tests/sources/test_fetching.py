"""Lazy arrays whose chunks are requests: what is fetched, when it stops, and what is kept."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.cube import check
from timo.errors import TimoError
from timo.sources.cache import ChunkCache
from timo.sources.fetching import fetch, fetched_array
from timo.sources.retry import CancelledError, Retry, Sorted, current_cancel

KEY = "0123456789abcdef" * 4
SHAPE, CHUNKS = (4, 2, 30, 50), (1, 2, 16, 16)


class Service:
    """Answers requests from an array, counts them, and does what a test wants before each."""

    def __init__(self, shape=SHAPE, before=lambda _: None):
        self.pixels = np.random.default_rng(0).random(shape, dtype="float32")
        self.pixels[self.pixels < 0.1] = np.nan
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
            "y": 10.0 * np.arange(array.shape[2])[::-1],
            "x": 10.0 * np.arange(array.shape[3]),
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
    with pytest.raises(CancelledError, match=r"of 32 chunks.*in the cache.*goes on") as caught:
        fetch(cube, workers=3, progress=False, cancel=stop)
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
            workers=1, progress=False, cancel=stop,
        )  # fmt: skip


def test_a_cube_of_another_kind_can_be_cancelled_too():
    stop = threading.Event()

    def slow(block, block_id=None):
        if block_id == (2, 0, 0, 0):
            stop.set()
        return block

    data = da.map_blocks(slow, da.zeros(SHAPE, chunks=CHUNKS, dtype="float32"), dtype="float32")
    with pytest.raises(CancelledError):
        fetch(cube_of(data), workers=1, progress=False, cancel=stop)


def test_a_pause_between_attempts_ends_when_it_is_cancelled():
    stop, pausing = threading.Event(), threading.Event()
    retry = Retry(initial_s=30, uniform=lambda _, high: high)

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
        fetch(
            cube_of(fetched_array(request, SHAPE, CHUNKS, None, "a")), progress=False, cancel=stop
        )
    assert time.monotonic() - times[0] < 0.2
    thread.join()
    assert own_threads() == []
    assert current_cancel() is None


def test_one_failure_ends_the_pauses_of_the_others():
    retry = Retry(initial_s=30, uniform=lambda _, high: high)

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
    from timo.sources.retry import current_cancel, is_cancelled

    # A shell that runs the tests in the background has its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number = itertools.count(1)

    def request(index, slices):
        if next(number) > 10:
            while not is_cancelled(current_cancel()):
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
    assert "goes on from there" in lines[-1]
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
    with pytest.raises(TimoError, match="the cache is of"):
        fetched_array(Service(), SHAPE, (2, 2, 16, 16), cached, "a")
    with pytest.raises(TimoError, match="the cache is of"):
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
    with pytest.raises(CancelledError, match="goes on from there"):
        fetch(cube, progress=False, cancel=stop, path=tmp_path / "cube.zarr")
    hidden = [path.name for path in tmp_path.iterdir() if path.name != "cache"]
    assert [name.startswith(".cube.zarr.unfinished-") for name in hidden] == [True]
    fetch(cube, progress=False, path=tmp_path / "cube.zarr")
    assert len(service.asked) == 32
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "cube.zarr"}


def test_the_progress_bar_counts_requests(cached, capsys):
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    fetch(cube.isel(time=0).mean("band"))
    assert "8/8" in capsys.readouterr().err
    fetch(cube, progress=False)
    fetch(cube.chunk(time=2), progress=np.bool_(False))
    assert capsys.readouterr().err == ""


def test_a_function_is_told_how_far_it_is(cached):
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    for _ in range(2):  # from the service, then from the cache
        told, inside = [], threading.Lock()

        def note(done, total, told=told, inside=inside):
            assert inside.acquire(blocking=False)
            told.append((done, total))
            time.sleep(0.001)
            inside.release()

        fetch(cube, progress=note)
        assert told == [(done, 32) for done in range(33)]


def test_a_store_that_is_written_tells_too(cached, tmp_path):
    told = []
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    fetch(cube, progress=lambda *both: told.append(both), path=tmp_path / "cube.zarr")
    assert told == [(done, 32) for done in range(33)]


def test_a_cube_of_another_kind_tells_how_many_of_its_tasks_are_done():
    told = []
    data = da.map_blocks(np.sqrt, da.ones(SHAPE, chunks=CHUNKS, dtype="float32"))
    found = fetch(cube_of(data), progress=lambda *both: told.append(both))
    assert (found == 1).all()
    assert told[0] == (0, told[-1][1])
    assert [done for done, _ in told] == list(range(told[-1][1] + 1))
    assert told[-1][0] >= data.npartitions


def test_an_error_of_who_watches_loses_no_chunk_and_is_told_once(cached, tmp_path):
    told = []

    def fail(done, total):
        told.append(done)
        if done == 3:
            raise ZeroDivisionError("my bar")

    service = Service()
    cube = cube_of(fetched_array(service, SHAPE, CHUNKS, cached, "a"))
    with pytest.warns(
        UserWarning, match=r"progress= raised ZeroDivisionError: my bar.*went on"
    ) as seen:
        found = fetch(cube, progress=fail)
    assert told == [0, 1, 2, 3]
    assert [warning.filename for warning in seen] == [__file__]
    np.testing.assert_array_equal(found, service.pixels)
    assert len(cached.present()) == 32
    stop = threading.Event()

    def stop_and_fail(done, total):
        if done == 3:
            stop.set()
            raise ZeroDivisionError("my bar")

    again = Service()
    cube = cube_of(fetched_array(again, SHAPE, CHUNKS, None, "b"))
    with pytest.raises(CancelledError, match="of 32"), pytest.warns(UserWarning, match="my bar"):
        fetch(cube, workers=1, progress=stop_and_fail, cancel=stop)
    assert len(again.asked) == 3


def test_a_graph_travels(cached):
    arrived = cloudpickle.loads(
        cloudpickle.dumps(fetched_array(lambda i, _: np.full((1, 2, 16, 16), sum(i), "float32"),
                                        SHAPE, CHUNKS, cached, "a"))
    )  # fmt: skip
    assert (arrived[2, :, :16, 16:32].compute(scheduler="threads") == 3).all()
    assert cached.present() == {(2, 0, 0, 1)}


def test_bad_options_are_refused(cached, tmp_path):
    cube = cube_of(fetched_array(Service(), SHAPE, CHUNKS, cached, "a"))
    with pytest.raises(TimoError, match="workers"):
        fetch(cube, workers=0)
    with pytest.raises(TimoError, match=r"\.zarr"):
        fetch(cube, path=tmp_path / "cube.tif")
    with pytest.raises(TimoError, match=r"progress is True, False, or a function .*got 'yes'"):
        fetch(cube, progress="yes")


def test_a_cube_in_memory_stays_as_it_is():
    cube = cube_of(np.zeros((2, 1, 3, 3), "float32"))
    xr.testing.assert_identical(fetch(cube, progress=False), cube)
