"""The command `timo`: what is in the cache, and what is damaged in it or in a store."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from timo.cli import main
from timo.sensors.__main__ import page
from timo.sources.cache import ChunkCache

KEY = "0123456789abcdef" * 4


@pytest.fixture
def array(tmp_path):
    array = ChunkCache(tmp_path).array(KEY, (2, 100, 100), (1, 100, 100))
    for number in range(2):
        values = np.random.default_rng(number).random((1, 100, 100), dtype="float32")
        array.write((number, 0, 0), values)
    os.utime(array.path / "zarr.json", (time.time() - 100_000,) * 2)
    return array


def test_info_and_clear(array, tmp_path, capsys):
    assert main(["cache", "info", "--folder", str(tmp_path)]) == 0
    assert KEY[:12] in capsys.readouterr().out
    assert main(["cache", "clear", "--folder", str(tmp_path), "--older-than-days", "3"]) == 0
    assert "of 0 requests" in capsys.readouterr().out
    assert main(["cache", "clear", "--folder", str(tmp_path), "--older-than-days", "nan"]) == 2
    assert "--older-than-days must be a number from 0 to 36500" in capsys.readouterr().err
    assert main(["cache", "clear", "--folder", str(tmp_path)]) == 0
    assert "of 1 requests" in capsys.readouterr().out
    assert ChunkCache(tmp_path).info().arrays == ()


def test_verify_prints_each_damaged_chunk_and_fails(array, tmp_path, capsys):
    verify = ["cache", "verify", "--folder", str(tmp_path)]
    assert main(verify) == 0
    assert capsys.readouterr().out == "every chunk is what was written\n"
    (array.path / "c/1/0/0").unlink()
    assert main(verify) == 1
    assert "c/1/0/0 is lost\n1 damaged chunks" in capsys.readouterr().out
    # What the last line says of the next fetch: it asks for the chunk again, and writes it.
    assert array.read((1, 0, 0)) is None
    array.write((1, 0, 0), np.ones((1, 100, 100), "float32"))
    assert main(verify) == 0


def test_what_is_no_store_is_refused(tmp_path, capsys):
    assert main(["cache", "verify", str(tmp_path)]) == 2
    assert "no store that timo.fetch" in capsys.readouterr().err


def test_the_page_of_the_sensors_and_the_module(capsys):
    assert main(["sensors"]) == 0
    assert capsys.readouterr().out == page()
    command = [sys.executable, "-m", "timo", "cache", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(word in shown for word in ("info", "clear", "verify"))
