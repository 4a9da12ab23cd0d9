import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from timo.atomic import check_writable, replacing
from timo.errors import TimoError

KILLED = """
import sys, time
from timo.atomic import replacing
with replacing(sys.argv[1]) as partial:
    if sys.argv[2] == "folder":
        partial.mkdir()
        (partial / "half").write_text("half")
    else:
        partial.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def kill_in_the_middle(path: Path, kind: str = "file") -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), kind], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "map.tif"
    with replacing(path) as partial:
        assert partial.parent == path.parent
        assert partial.name.startswith(f".map.tif.partial-{os.getpid()}-")
        assert partial.suffix == ".tif"
        assert not partial.exists()
        partial.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert names(path.parent) == ["map.tif"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "map.tif"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            partial.with_name(partial.name + ".aux.xml").write_text("side-car")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["map.tif"]


def test_a_folder_is_swapped_and_foreign_files_in_it_survive(tmp_path):
    path = tmp_path / "model"
    for content in ("first", "second"):
        with replacing(path) as partial:
            partial.mkdir()
            (partial / "weights").write_text(content)
        (path / "notes.txt").write_text("mine")
    assert (path / "weights").read_text() == "second"
    assert names(path) == ["notes.txt", "weights"]
    assert names(tmp_path) == ["model"]


def test_a_zarr_store_is_replaced_whole(tmp_path):
    path = tmp_path / "map.zarr"
    for array in ("label", "entropy"):
        with replacing(path) as partial:
            (partial / array).mkdir(parents=True)
            (partial / "zarr.json").write_text("{}")
    assert names(path) == ["entropy", "zarr.json"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.mkdir()
            (partial / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_process_leaves_nothing_that_looks_finished_and_a_rerun_works(tmp_path, kind):
    path = tmp_path / "a [b] *.tif"  # what glob would take for a pattern
    kill_in_the_middle(path, kind)
    (left,) = names(tmp_path)
    assert left.startswith(".a [b] *.tif.partial-")
    with replacing(path) as partial:
        partial.write_text("done")
    assert names(tmp_path) == ["a [b] *.tif"]
    assert path.read_text() == "done"


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "map.tif"
    path.write_text("old")
    kill_in_the_middle(path)
    assert path.read_text() == "old"


def test_partials_of_living_processes_and_other_files_are_left_alone(tmp_path):
    path = tmp_path / "map.tif"
    other = tmp_path / ".map.tif.partial-mine.tif"
    other.write_text("not written by timo")
    with replacing(path) as outer:
        outer.write_text("outer")
        with replacing(path) as inner:
            inner.write_text("inner")
        assert outer.exists()
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"
    assert names(tmp_path) == [other.name, "map.tif"]


def test_a_link_is_followed(tmp_path):
    real, link = tmp_path / "real.tif", tmp_path / "link.tif"
    real.write_text("old")
    link.symlink_to(real)
    with replacing(link) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_kinds_are_not_mixed(tmp_path):
    folder = tmp_path / "map.tif"
    folder.mkdir()

    def write() -> None:
        with replacing(folder) as partial:
            partial.write_text("a file")

    with pytest.raises(TimoError, match="is a folder and would be replaced by a file: choose"):
        write()
    assert folder.is_dir()


def test_a_block_that_wrote_nothing_is_an_error(tmp_path):
    with (
        pytest.raises(TimoError, match=r"nothing was written .* so there is no 'map.tif'"),
        replacing(tmp_path / "map.tif"),
    ):
        pass


@pytest.mark.parametrize("below", ["file/out", "file"])
def test_a_folder_that_cannot_be_written_is_said_so_at_once(tmp_path, below):
    (tmp_path / "file").write_text("a regular file")
    message = r"cannot write to the folder '.*': .+; choose another output folder"
    with pytest.raises(TimoError, match=message):
        check_writable(tmp_path / below)
    with pytest.raises(TimoError, match=message), replacing(tmp_path / below / "map.tif"):
        pytest.fail("the block ran")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
def test_a_read_only_file_system(tmp_path):
    with pytest.raises(TimoError, match="cannot write to the folder '/proc'"):
        check_writable("/proc")


def test_check_writable_creates_the_folder_and_leaves_it_empty(tmp_path):
    folder = check_writable(tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b"
    assert names(folder) == []
