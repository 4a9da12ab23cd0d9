"""The cache of fetched chunks: what it serves is what was written, whatever happens to the process or the disk."""

import concurrent.futures
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from datetime import timedelta
from itertools import product
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from timo.errors import TimoError
from timo.sources.cache import ChunkCache, default_folder

KEY = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.fixture
def cache(tmp_path):
    return ChunkCache(tmp_path / "cache")


def values_of(array, index, seed=0):
    rng = np.random.default_rng([seed, *index])
    values = rng.random(array.extent(index), dtype="float32")
    values[rng.random(values.shape) < 0.3] = np.nan
    return values


def indices(array):
    return list(product(*(range(count) for count in array.grid)))


layouts = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.tuples(*[st.integers(1, 9)] * n),
        st.tuples(*[st.integers(1, 5)] * n),
        st.sampled_from(["float32", "float64", "float16", "int16", "uint8", "int64", "uint16"]),
    )
)


@given(layout=layouts, data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_chunk_comes_back_as_it_was_and_zarr_reads_the_same(tmp_path_factory, layout, data):
    shape, chunks, dtype = layout
    array = ChunkCache(tmp_path_factory.mktemp("cache")).array(KEY, shape, chunks, dtype)
    whole = data.draw(hnp.arrays(dtype, shape))
    for index in indices(array):
        part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))
        assert array.read(index) is None
        assert array.write(index, whole[part])
        read = array.read(index)
        assert read.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(read, whole[part])
    assert array.present() == set(indices(array))
    opened = zarr.open_array(array.path, mode="r")
    assert opened.metadata.zarr_format == 3
    np.testing.assert_array_equal(opened[...], whole)


def test_zarr_finds_the_request_and_the_layout(cache):
    array = cache.array(KEY, (2, 5, 7), (1, 4, 4), metadata={"collection": "S2", "bands": ["B2"]})
    array.write((1, 1, 1), values_of(array, (1, 1, 1)))
    opened = zarr.open_array(array.path, mode="r")
    assert opened.attrs["request"] == {"collection": "S2", "bands": ["B2"]}
    assert (opened.shape, opened.chunks, opened.dtype) == ((2, 5, 7), (1, 4, 4), "float32")
    assert opened.nchunks_initialized == 1
    assert np.isnan(opened[0]).all()
    assert [codec.to_dict()["name"] for codec in opened.metadata.codecs] == [
        "bytes",
        "blosc",
        "crc32c",
    ]


def test_a_chunk_of_nothing_but_nan_was_fetched(cache):
    array = cache.array(KEY, (4, 4), (2, 2))
    empty = np.full((2, 2), np.nan, "float32")
    array.write((0, 1), empty)
    assert array.present() == {(0, 1)}
    np.testing.assert_array_equal(array.read((0, 1)), empty)


def test_another_opening_sees_what_is_there(cache):
    array = cache.array(KEY, (4, 4), (2, 2))
    values = values_of(array, (1, 0))
    array.write((1, 0), values)
    again = ChunkCache(cache.folder).array(KEY, (4, 4), (2, 2))
    np.testing.assert_array_equal(again.read((1, 0)), values)
    arrived = pickle.loads(pickle.dumps(array))  # noqa: S301 - our own
    np.testing.assert_array_equal(arrived.read((1, 0)), values)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_chunk_with_a_flipped_bit_is_never_served(tmp_path_factory, position, bit):
    array = ChunkCache(tmp_path_factory.mktemp("cache")).array(KEY, (5, 6), (5, 6))
    array.write((0, 0), values_of(array, (0, 0)))
    file = array.path / "c" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    file.write_bytes(data)
    assert array.read((0, 0)) is None
    assert not file.exists()
    assert array.present() == set()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 15, 16, 20, -5, -1])
def test_a_chunk_that_was_cut_short_is_never_served(cache, length):
    array = cache.array(KEY, (5, 6), (5, 6))
    array.write((0, 0), values_of(array, (0, 0)))
    file = array.path / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:length])
    assert array.read((0, 0)) is None


def test_a_sound_chunk_of_another_size_is_never_served(cache):
    small, large = cache.array(KEY, (4, 4), (2, 2)), cache.array(OTHER, (4, 4), (4, 4))
    small.write((0, 0), np.ones((2, 2), "float32"))
    file = large.path / "c" / "0" / "0"
    file.parent.mkdir(parents=True)
    file.write_bytes((small.path / "c" / "0" / "0").read_bytes())
    assert large.read((0, 0)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (4, 6)},
        {"chunks": (2, 4)},
        {"dtype": "float64"},
        {"metadata": {"start": "2020-01-01"}},
    ],
)
def test_another_description_discards_what_is_there(cache, change):
    given = {"shape": (4, 4), "chunks": (2, 2), "dtype": "float32", "metadata": {"start": "2019"}}
    array = cache.array(KEY, **given)
    array.write((0, 0), values_of(array, (0, 0)))
    path = array.path
    del array
    other = cache.array(KEY, **given | change)
    assert other.read((0, 0)) is None
    assert other.present() == set()
    assert not path.exists()


def test_an_array_of_an_older_format_is_discarded(cache, monkeypatch):
    array = cache.array(KEY, (4, 4), (2, 2))
    array.write((0, 0), values_of(array, (0, 0)))
    path = array.path
    del array
    monkeypatch.setattr("timo.sources.cache.chunks.FORMAT", 99)
    assert cache.array(KEY, (4, 4), (2, 2)).read((0, 0)) is None
    assert not path.exists()


@pytest.mark.parametrize("damage", [b"", b"{", None])
def test_metadata_that_somebody_changed_discard_the_chunks(cache, damage):
    array = cache.array(KEY, (4, 4), (2, 2))
    array.write((0, 0), values_of(array, (0, 0)))
    file = array.path / "zarr.json"
    if damage is None:
        document = json.loads(file.read_bytes())
        document["attributes"]["request"] = {"another": "request"}
        damage = json.dumps(document).encode()
    file.write_bytes(damage)
    again = cache.array(KEY, (4, 4), (2, 2))
    assert again.read((0, 0)) is None
    assert json.loads(file.read_bytes())["attributes"]["request"] == {}


def test_two_descriptions_in_use_at_once_never_mix(cache):
    one = cache.array(KEY, (4, 4), (2, 2), metadata={"version": 1})
    two = cache.array(KEY, (4, 4), (2, 2), metadata={"version": 2})
    one.write((0, 0), np.full((2, 2), 1, "float32"))
    two.write((0, 0), np.full((2, 2), 2, "float32"))
    assert (one.read((0, 0)) == 1).all()
    assert (two.read((0, 0)) == 2).all()


def test_an_array_that_was_removed_meanwhile_is_begun_anew(cache):
    array = cache.array(KEY, (4, 4), (2, 2))
    array.write((0, 0), values_of(array, (0, 0)))
    ChunkCache(cache.folder).clear()
    assert array.read((0, 0)) is None
    values = values_of(array, (0, 1))
    assert array.write((0, 1), values)
    again = ChunkCache(cache.folder).array(KEY, (4, 4), (2, 2))
    np.testing.assert_array_equal(again.read((0, 1)), values)


WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from timo.sources.cache import ChunkCache

    array = ChunkCache(sys.argv[1]).array("0123456789abcdef" * 4, (4, 4, 256, 256), (1, 1, 256, 256))
    seed, rounds = int(sys.argv[2]), int(sys.argv[3])
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    for round_ in range(rounds):
        for i in range(4):
            for j in range(4):
                # One of them at random, of which each cell tells which one it was.
                values = np.random.default_rng([seed, round_, i, j]).random((1, 1, 256, 256), dtype="float32")
                values[..., 0, 0] = seed
                values[..., 0, 1] = round_
                array.write((i, j, 0, 0), values)
                sys.stdout.write(f"{i} {j}\\n")
                sys.stdout.flush()
"""


def start_writer(folder, seed, rounds):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_written_by_somebody(array, index):
    """Every cell must be of one and the same writing."""
    values = array.read(index)
    assert values is not None
    seed, round_ = int(values[0, 0, 0, 0]), int(values[0, 0, 0, 1])
    i, j = index[:2]
    expected = np.random.default_rng([seed, round_, i, j]).random((1, 1, 256, 256), dtype="float32")
    expected[..., 0, 0], expected[..., 0, 1] = seed, round_
    np.testing.assert_array_equal(values, expected)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_loses_nothing_that_was_finished(tmp_path):
    array = ChunkCache(tmp_path).array(KEY, (4, 4, 256, 256), (1, 1, 256, 256))
    finished = set()
    for attempt in range(6):
        with start_writer(tmp_path, attempt, 10_000) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.03 + 0.02 * attempt)
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().splitlines(keepends=True)
        finished |= {tuple(map(int, line.split())) for line in lines if line.endswith("\n")}
        present = array.present()
        assert finished <= {index[:2] for index in present}
        for index in present:
            assert_written_by_somebody(array, index)
    assert finished


def test_two_processes_and_threads_write_the_same_chunks(tmp_path):
    array = ChunkCache(tmp_path).array(KEY, (4, 4, 256, 256), (1, 1, 256, 256))
    writers = [start_writer(tmp_path, seed, 4) for seed in (1, 2)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        for index in array.present():
            assert_written_by_somebody(array, index)
            reads += 1
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert reads
    assert len(array.present()) == 16
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        values = np.ones((1, 1, 256, 256), "float32")
        assert all(pool.map(lambda _: array.write((0, 0, 0, 0), values), range(50)))
    np.testing.assert_array_equal(array.read((0, 0, 0, 0)), values)
    assert list(tmp_path.rglob("*.partial")) == []


def test_clearing_while_others_write_harms_nobody(tmp_path):
    array, stop = ChunkCache(tmp_path).array(KEY, (2, 2), (1, 1)), threading.Event()
    written = []

    def write():
        while not stop.is_set():
            written.append(array.write((0, 1), np.full((1, 1), 7, "float32")))

    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(3) as pool:
        warnings.simplefilter("error")
        futures = [pool.submit(write) for _ in range(3)]
        for _ in range(30):
            ChunkCache(tmp_path).clear(timedelta(0))
            read = array.read((0, 1))
            assert read is None or read == 7
        stop.set()
        for future in futures:
            future.result()
    assert written


def test_what_a_killed_process_left_is_swept_later(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".removed-{name}" / "c").mkdir(parents=True)
    os.utime(tmp_path / ".removed-old", (time.time() - 4000,) * 2)
    array = ChunkCache(tmp_path).array(KEY, (2, 2), (1, 1))
    assert {path.name for path in tmp_path.iterdir()} == {".removed-new", array.path.name}


def read_only(folder: Path, monkeypatch) -> None:
    """Make every write into the folder fail, for root too."""
    opened, made = Path.open, Path.mkdir

    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    def open_(path, mode="r", *args, **kwargs):
        return (
            refuse(path)
            if "w" in mode and folder in path.parents
            else opened(path, mode, *args, **kwargs)
        )

    def mkdir(path, *args, **kwargs):
        if folder in (path, *path.parents) and not path.exists():
            refuse(path)
        made(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "utime", refuse)


def test_a_read_only_folder_is_read_and_warned_of_once(cache, monkeypatch):
    array = cache.array(KEY, (2, 4), (1, 2))
    values = values_of(array, (0, 0))
    array.write((0, 0), values)
    read_only(cache.folder, monkeypatch)
    with pytest.warns(UserWarning, match="Read-only file system.*TIMO_CACHE") as caught:  # noqa: PT031
        again = ChunkCache(cache.folder).array(KEY, (2, 4), (1, 2))
        np.testing.assert_array_equal(again.read((0, 0)), values)
        assert not again.write((0, 1), values)
        assert not again.write((1, 1), values)
        assert not cache.array(OTHER, (2, 4), (1, 2)).write((0, 0), values)
    assert len(caught) == 1
    assert again.read((0, 1)) is None


def test_stale_metadata_on_a_read_only_disk_are_not_served(cache, monkeypatch):
    array = cache.array(KEY, (2, 4), (1, 2))
    array.write((0, 0), values_of(array, (0, 0)))
    file = array.path / "zarr.json"
    file.write_bytes(file.read_bytes() + b" ")
    read_only(cache.folder, monkeypatch)
    with pytest.warns(UserWarning, match="Read-only"):
        again = cache.array(KEY, (2, 4), (1, 2))
    assert again.read((0, 0)) is None
    assert again.present() == set()
    assert not again.write((0, 0), values_of(array, (0, 0)))


def test_a_full_disk_leaves_no_half_chunk(cache, monkeypatch):
    array = cache.array(KEY, (2, 4), (1, 2))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert not array.write((0, 0), values_of(array, (0, 0)))
    assert array.read((0, 0)) is None
    assert list(cache.folder.rglob("*.partial")) == []


def test_a_folder_that_is_a_file_is_warned_of(tmp_path):
    (tmp_path / "cache").write_text("mine")
    with pytest.warns(UserWarning, match="cannot be kept"):  # noqa: PT031
        array = ChunkCache(tmp_path / "cache").array(KEY, (2, 2), (2, 2))
        assert not array.write((0, 0), np.zeros((2, 2), "float32"))
        assert array.read((0, 0)) is None
    assert (tmp_path / "cache").read_text() == "mine"


def fill(cache, key, used):
    """An array of about 40 kB that was last used at `used`."""
    array = cache.array(key, (2, 100, 100), (1, 100, 100))
    for number in range(2):
        values = np.random.default_rng(number).random((1, 100, 100), dtype="float32")
        array.write((number, 0, 0), values)
    os.utime(array.path / "zarr.json", (used, used))
    return array


def test_the_least_recently_used_arrays_go_first_and_those_in_use_stay(tmp_path):
    keys = [f"{number:064x}" for number in range(6)]
    unlimited, now = ChunkCache(tmp_path), time.time()
    for age, key in enumerate(keys[:5]):
        fill(unlimited, key, now - 1000 * (5 - age))
    held = unlimited.array(keys[0], (2, 100, 100), (1, 100, 100))
    os.utime(held.path / "zarr.json", (now - 9000,) * 2)
    size = unlimited.info().arrays[0].bytes
    limited = ChunkCache(tmp_path, limit_bytes=int(3.5 * size))
    fill(limited, keys[5], now)
    left = {array.key for array in limited.info().arrays}
    assert left == {keys[0], keys[4], keys[5]}
    assert limited.info().bytes <= 3.5 * size


def test_an_array_in_use_may_exceed_the_limit(tmp_path):
    cache = ChunkCache(tmp_path, limit_bytes=10_000)
    array = fill(cache, KEY, time.time())
    assert array.present() == {(0, 0, 0), (1, 0, 0)}
    assert cache.info().bytes > 10_000


def test_info_and_clear(cache):
    now = time.time()
    array = fill(cache, KEY, now - 5000)
    fill(cache, OTHER, now)
    info = cache.info()
    assert [a.key for a in info.arrays] == [OTHER, KEY]
    assert info.bytes == sum(
        file.stat().st_size for file in cache.folder.glob("*-*/**/*") if file.is_file()
    )
    assert [a.chunks for a in info.arrays] == [2, 2]
    assert abs(info.arrays[1].last_use.timestamp() - (now - 5000)) < 1
    assert KEY[:12] in str(info)
    gone = cache.clear(older_than=timedelta(seconds=2000))
    assert [a.key for a in gone.arrays] == [KEY]
    assert [a.key for a in cache.info().arrays] == [OTHER]
    assert array.read((0, 0, 0)) is None
    cache.clear()
    assert cache.info().arrays == ()


def test_clearing_touches_nothing_of_others(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    (tmp_path / "notes-0123456789abcdef").mkdir()
    cache = ChunkCache(tmp_path)
    fill(cache, KEY, time.time())
    cache.clear()
    assert {path.name for path in tmp_path.iterdir()} == {
        "thesis",
        "notes-0123456789abcdef",
    }
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_reading_is_a_use(cache):
    fill(cache, KEY, time.time() - 5000)
    array = cache.array(KEY, (2, 100, 100), (1, 100, 100))
    os.utime(array.path / "zarr.json", (1, 1))
    array._touched -= 61
    array.read((0, 0, 0))
    assert time.time() - cache.info().arrays[0].last_use.timestamp() < 60


def test_an_empty_cache_has_nothing(tmp_path):
    assert ChunkCache(tmp_path / "none").info().arrays == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "../../etc/passwd-aaaa"}, "0-9a-f"),
        ({"key": "abc"}, "16 to 128"),
        ({"shape": (4,)}, "as many dimensions"),
        ({"shape": (0, 4)}, "shape must be a list of whole numbers of 1 or more"),
        ({"chunks": (0, 4)}, "number 0 is 0"),
        ({"dtype": "complex64"}, "complex64"),
        ({"dtype": "<U4"}, "U4"),
        ({"dtype": "float7"}, "no data type"),
        ({"chunks": (40_000, 40_000)}, "6.4 GB"),
        ({"metadata": {"when": object()}}, "JSON"),
        ({"metadata": {"x": float("nan")}}, "JSON"),
    ],
)
def test_bad_layouts_are_refused(cache, options, said):
    with pytest.raises(TimoError, match=said):
        cache.array(**{"key": KEY, "shape": (4, 4), "chunks": (2, 2)} | options)
    assert cache.info().arrays == ()


def test_chunks_of_another_shape_or_type_are_refused(cache):
    array = cache.array(KEY, (4, 5), (2, 2))
    with pytest.raises(TimoError, match=r"\(2, 1\)"):
        array.write((0, 2), np.zeros((2, 2), "float32"))
    with pytest.raises(TimoError, match="float64"):
        array.write((0, 0), np.zeros((2, 2), "float64"))
    for index in [(2, 0), (0, -1), (0,), (0, 0, 0)]:
        with pytest.raises(TimoError, match="no chunk"):
            array.read(index)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("TIMO_CACHE", raising=False)
    assert default_folder() == platformdirs.user_cache_path("timo", appauthor=False)
    monkeypatch.setenv("TIMO_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    assert ChunkCache().folder == tmp_path / "own"


def test_two_chunks_that_were_swapped_are_not_served(cache):
    array = cache.array(KEY, (4, 4), (2, 2), metadata={"times": ["2020-01-01", "2020-01-11"]})
    for index in indices(array):
        array.write(index, values_of(array, index))
    one, two = array.path / "c/0/1", array.path / "c/1/0"
    kept, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(kept)
    (array.path / "c/1/1").unlink()
    found = sorted(cache.damages())
    assert [line.split("/c/")[1] for line in found] == [
        "0/1 (2020-01-01) holds what belongs to c/1/0",
        "1/0 (2020-01-11) holds what belongs to c/0/1",
        "1/1 (2020-01-11) is lost",
    ]
    assert array.read((0, 1)) is None
    assert array.read((1, 0)) is None
    again = ChunkCache(cache.folder).array(KEY, (4, 4), (2, 2), metadata=array.metadata)
    assert again.present() == {(0, 0)}
    for index in [(0, 1), (1, 0), (1, 1)]:
        assert again.write(index, values_of(again, index))
        np.testing.assert_array_equal(array.read(index), values_of(array, index))
    assert list(cache.damages()) == []


def test_a_line_of_the_manifest_that_was_cut_off_spoils_no_other(cache):
    array = cache.array(KEY, (4, 4), (2, 2))
    array.write((0, 0), values_of(array, (0, 0)))
    array.write((0, 1), values_of(array, (0, 1)))
    manifest = array.path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    again = ChunkCache(cache.folder).array(KEY, (4, 4), (2, 2))
    np.testing.assert_array_equal(again.read((0, 0)), values_of(array, (0, 0)))
    assert again.read((0, 1)) is None
    again.write((1, 1), values_of(array, (1, 1)))
    third = ChunkCache(cache.folder).array(KEY, (4, 4), (2, 2))
    np.testing.assert_array_equal(third.read((1, 1)), values_of(array, (1, 1)))
