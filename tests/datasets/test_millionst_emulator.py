"""The command against an Earth Engine on the loopback: the same in spite of faults and kills, and within the quota."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ee")
pytest.importorskip("nrt")

from ee_emulator import Emulator, Faults, sample_backing

from timo.datasets.millionst import ChipPlan, PlaceRule
from timo.datasets.millionst.__main__ import main
from timo.datasets.millionst.earthengine import EarthEngineChips
from timo.datasets.millionst.plan import RefusedError
from timo.places import ChipStore, verify
from timo.places.packed.layout import METADATA, NODATA, read_root
from timo.sources.place.aoi import make_area
from timo.sources.retry import Retry

SMALL = ("--source", "emulator", "--size", "8", "--dates", "3", "--bands", "B4", "B8A")


@pytest.fixture(scope="module")
def everywhere():
    return sample_backing(everywhere=True)


@pytest.fixture
def emulator(everywhere):
    with Emulator(everywhere) as running:
        yield running


def fetch(store, emulator, *options):
    return main([str(store), *SMALL, "--url", emulator.url, *map(str, options)])


def contents(path):
    """Key -> all that is stored of a place; each key once."""
    store = ChipStore(path)
    keys = store.table["key"].tolist()
    assert len(set(keys)) == len(keys)
    found = {}
    for i, key in enumerate(keys):
        chip = store.read(i)
        found[key] = (
            store.crs(i),
            store.bounds(i),
            chip.dates.tobytes(),
            chip.x.tobytes(),
            chip.valid.tobytes(),
        )
    return found


@pytest.fixture(scope="module")
def calm(everywhere, tmp_path_factory):
    """Forty places as they come when nothing goes wrong."""
    path = tmp_path_factory.mktemp("calm") / "store"
    with Emulator(everywhere) as emulator:
        assert fetch(path, emulator, "--places", 40) == 0
    return contents(path)


# --- what comes


@pytest.mark.parametrize("masked", [True, False])
def test_numbers_and_masks_are_those_of_the_sample(masked):
    from ee_emulator import sample

    from timo.sources import open_cube
    from timo.sources.place.grid import PixelGrid

    bands = ("B2", "B4", "B8", "B8A", "B11")
    at = sample.sample_grid(10).projection
    grid = PixelGrid(at.crs, at.transform[2], at.transform[5], 10, 100, 100)
    plan = ChipPlan(dates=6, start="2016", end="2020", size=100, bands=bands)
    target = replace(plan.target(next(plan.targets()).place), grid=grid)
    request = replace(plan.request(target), masked=plan.request(target).masked if masked else ())
    assert request.area == make_area([request.area.planar[1]], at.crs)
    truth = open_cube("sample", bands=bands, masked_classes=request.masked, buffer_m=50)
    with Emulator() as emulator:
        emulator.initialize()
        source = EarthEngineChips()
        (images,) = source.list_images([request])
        dates = plan.choose(images, request)
        assert len(dates) == 6
        got = source.read(request, dates)
    days = [np.datetime64(day, "D").astype("datetime64[ns]") for _, day in dates]
    expected = truth.sel(time=days).values
    numbers = np.where(np.isnan(expected), NODATA, np.rint(np.nan_to_num(expected) * 1e4))
    assert got.dtype == np.int16
    assert np.array_equal(got, numbers.astype("int16"))
    assert (got == NODATA).any() == masked


def test_the_clearest_images_are_asked_for(emulator, tmp_path):
    assert fetch(tmp_path / "s", emulator, "--places", 3) == 0
    store = ChipStore(tmp_path / "s")
    # Ten months each, of a series that has some clear days in all of them.
    assert [len(store.dates(i)) for i in range(3)] == [3, 3, 3]
    assert (store.table["clear"] > 0.5).all()
    assert store.layout.bands == ("B4", "B8A")
    assert store.cube(0).attrs["sensor"] == "sentinel-2"


def test_a_chip_of_the_full_size_is_one_request_and_larger_ones_are_cut(emulator, tmp_path):
    options = ["--source", "emulator", "--url", emulator.url, "--places", "1"]
    assert main([str(tmp_path / "a"), *options]) == 0
    assert ChipStore(tmp_path / "a").read(0).x.shape == (10, 6, 264, 264)
    assert emulator.requests["pixels"] == 1
    emulator.reset()
    large = ["--size", "540", "--distance-m", "8000"]
    assert main([str(tmp_path / "b"), *options, *large]) == 0
    assert emulator.requests["pixels"] == 2
    assert ChipStore(tmp_path / "b").read(0).x.shape == (10, 6, 540, 540)
    assert verify(tmp_path / "b") == []


# --- what it costs


def test_the_dry_run_says_what_is_then_asked_for(emulator, tmp_path, capsys):
    store = tmp_path / "s"
    # Any place is good enough: none is replaced.
    plan = ("--places", 30, "--min-clear", 0, "--min-dates", 1)
    assert fetch(store, emulator, *plan, "--dry-run") == 0
    said = capsys.readouterr().out
    assert not store.exists()
    assert emulator.requests["value"] == emulator.requests["pixels"] == 0
    assert fetch(store, emulator, *plan) == 0
    ran = capsys.readouterr()
    assert ran.out.startswith(said)
    listings, pixels = emulator.requests["value"], emulator.requests["pixels"]
    assert (listings, pixels) == (2, 30)
    assert f"{listings + pixels}: {listings} for lists of images, {pixels} for pixels" in said
    size = 30 * 3 * 2 * 8 * 8 * 2
    assert f"{size / 1000:.3g} kB of pixels" in said
    assert f"{listings + pixels} requests, none tried again, {size / 1000:.3g} kB in" in ran.err
    assert fetch(store, emulator, *plan, "--places", 50, "--dry-run") == 0
    assert "20 to fetch" in capsys.readouterr().out


def test_requests_keep_to_the_quota(emulator, tmp_path):
    emulator.faults = Faults(latency=0.05)
    options = ["--places", 12, "--workers", 8, "--concurrent", 3, "--requests-per-second", 1000]
    assert fetch(tmp_path / "a", emulator, *options) == 0
    assert emulator.gate.peak == 3
    emulator.faults = Faults()
    began = time.monotonic()
    options = ["--places", 12, "--workers", 8, "--requests-per-second", 10]
    assert fetch(tmp_path / "b", emulator, *options) == 0
    # Thirteen requests begin at twelve distances of a tenth of a second.
    assert time.monotonic() - began >= 1.2


# --- what goes wrong


def quick_retry(**options):
    return Retry(initial_s=0.01, largest_s=0.05, quota_initial_s=0.01, **options)


def count(emulator, kind="pixels"):
    """Requests that were answered, and those that failed on purpose."""
    entries = [entry for entry in emulator.log if entry.kind == kind]
    failed = sum(entry.fault is not None for entry in entries)
    return len(entries) - failed, failed


def test_faults_change_nothing(emulator, tmp_path, calm, monkeypatch, capsys):
    monkeypatch.setattr("timo.datasets.millionst.__main__.Retry", quick_retry)
    emulator.faults = Faults(quota=0.1, internal=0.1, truncated=0.1)
    assert fetch(tmp_path / "s", emulator, "--places", 40, "--workers", 4) == 0
    said = capsys.readouterr()
    answered, failed = count(emulator)
    replaced = int(re.search(r"(\d+) too cloudy", said.out)[1])
    assert answered == 40 + replaced
    assert failed > 3
    failed += count(emulator, "value")[1]
    assert re.search(rf"{failed} tried again \(\d+ quota, \d+ transient\)", said.err)
    assert contents(tmp_path / "s") == calm
    assert verify(tmp_path / "s") == []


@pytest.mark.slow
def test_two_hundred_places_with_five_percent_of_faults(emulator, tmp_path, monkeypatch):
    monkeypatch.setattr("timo.datasets.millionst.__main__.Retry", quick_retry)
    options = ("--places", 200, "--size", 32)
    assert fetch(tmp_path / "calm", emulator, *options) == 0
    emulator.reset()
    emulator.faults = Faults(quota=0.02, internal=0.02, truncated=0.01)
    assert fetch(tmp_path / "s", emulator, *options) == 0
    answered, failed = count(emulator)
    assert answered >= 200
    assert failed >= 5
    found = contents(tmp_path / "s")
    assert len(found) == 200
    assert found == contents(tmp_path / "calm")
    assert verify(tmp_path / "s") == []


def test_what_is_refused_for_good_says_why(emulator, tmp_path, capsys):
    assert fetch(tmp_path / "s", emulator, "--places", 2) == 0
    emulator.faults = Faults(expired=1.0)
    assert fetch(tmp_path / "s", emulator, "--places", 5) == 2
    assert "credentials" in capsys.readouterr().err
    assert len(ChipStore(tmp_path / "s")) == 2


def test_a_request_that_is_refused_is_told_from_one_that_was_given_up(emulator):
    plan = ChipPlan(places=1, dates=3, start="2016", end="2018", size=8, bands=("B4",))
    request = plan.request(next(plan.targets()))
    emulator.initialize()
    source = EarthEngineChips(Retry(deadline_s=0.2, initial_s=0.01))
    (images,) = source.list_images([request])
    missing = replace(images[0], index="no_such_image")
    with pytest.raises(RefusedError):
        source.read(request, [(missing, 17000)])
    emulator.faults = Faults(internal=1.0)
    with pytest.raises(ValueError, match="failed each time") as given_up:
        source.read(request, plan.choose(images, request))
    assert not isinstance(given_up.value, RefusedError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--places", "0"], "places must be a whole number of 1 or more"),
        (["--dates", "0"], "dates must be a whole number of 1 or more"),
        (["--bands", "B77"], "B77"),
        (["--start", "2030-01-01"], "is before"),
        (["--workers", "0"], "workers"),
        (["--concurrent", "0"], "concurrent"),
        (["--requests-per-second", "0"], "requests_per_second must be a number above 0"),
        (["--requests-per-second", "inf"], "must be a number"),
        (["--around-cities", "2"], "around_cities"),
        (["--size", "4000"], "overlap"),
        (["--seed", "-1"], "seed"),
        (["--start", "2001", "--end", "2003", "--places", "200"], "places were looked at"),
    ],
)
def test_options_that_make_no_sense_are_explained(emulator, tmp_path, capsys, options, said):
    assert fetch(tmp_path / "s", emulator, *options) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert said in error


# --- interrupts


def start(store, emulator, places):
    """The command in a process of its own."""
    options = [*SMALL, "--url", emulator.url, "--places", str(places), "--workers", "2"]
    often = ["--commit-seconds", "0.1", "--report-seconds", "0.2"]
    return subprocess.Popen(
        [sys.executable, "-m", "timo.datasets.millionst", str(store), *options, *often],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(store, places, process):
    """Until so many places count."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if (store / METADATA).is_file() and read_root(store)[1].places >= places:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def test_a_kill_loses_nothing_that_counted_and_doubles_nothing(emulator, tmp_path, calm):
    store = tmp_path / "s"
    emulator.faults = Faults(latency=0.05)
    counted = 0
    for _ in range(2):
        process = start(store, emulator, 40)
        wait_for(store, counted + 4, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        counted = read_root(store)[1].places
        assert counted < 40
        assert verify(store) == []
        assert contents(store).items() <= calm.items()
    emulator.faults = Faults()
    emulator.reset()
    assert fetch(store, emulator, "--places", 40) == 0
    assert count(emulator)[0] >= 40 - counted
    assert contents(store) == calm
    assert verify(store) == []


def test_ctrl_c_finishes_what_is_under_way(emulator, tmp_path, calm):
    store = tmp_path / "s"
    emulator.faults = Faults(latency=0.1)
    process = start(store, emulator, 40)
    wait_for(store, 2, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what has arrived is kept" in error
    assert "Traceback" not in error
    assert re.search(
        r"\d+ of 40 places, [\d. ]+(place/s|s/place), \d\d:\d\d to go, \d+ requests", error
    )
    answered = sum(1 for entry in emulator.log if entry.kind == "pixels")
    # Two of the places are too cloudy.
    assert answered - 2 <= len(ChipStore(store)) <= answered
    assert fetch(store, emulator, "--places", 40) == 0
    assert contents(store) == calm


def test_two_processes_do_not_write_one_store(emulator, tmp_path, capsys):
    store = tmp_path / "s"
    emulator.faults = Faults(latency=0.2)
    process = start(store, emulator, 40)
    try:
        wait_for(store, 1, process)
        assert fetch(store, emulator, "--places", 40) == 2
        assert "another process" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def test_places_depend_on_the_seed_alone(emulator, tmp_path):
    for seed in (0, 1):
        assert fetch(tmp_path / str(seed), emulator, "--places", 3, "--seed", seed) == 0
        store = ChipStore(tmp_path / str(seed))
        plan = ChipPlan(places=3, size=8, rule=PlaceRule(seed))
        wanted = {target.grid.bounds for target, _ in zip(plan.targets(), range(3), strict=False)}
        assert {store.bounds(i) for i in range(3)} == wanted
