"""Fetching from any source: complete, nothing twice, the same whatever happens on the way, little in memory."""

import os
import threading
import time

import numpy as np
import pandas as pd
import pytest

from timo.cancel import CancelledError
from timo.datasets.millionst import ChipPlan, fetch_chips
from timo.datasets.millionst.fetch import _SPARE, Journal, present
from timo.datasets.millionst.plan import Image, RefusedError
from timo.errors import TimoError
from timo.places import ChipStore, verify
from timo.places.packed.layout import NODATA

PLAN = ChipPlan(places=30, dates=4, size=6, bands=("B4", "B8"), end="2019-12-31")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Against a loss of power, which no test brings about, and the slowest thing here by far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Sky:
    """Images every ten days; what a place looks like depends on the place and the day alone."""

    def __init__(self, cloudy=(), hidden=()):
        self.cloudy, self.hidden = set(cloudy), set(hidden)
        self.listed, self.fetched, self.read_by = [], [], []
        self.lock = threading.Lock()

    def list_images(self, requests):
        days = pd.date_range("2019-01-01T10:00", "2019-12-31", freq="10D")
        with self.lock:
            self.listed += [request.grid for request in requests]
        return [
            [] if r.grid in self.cloudy else [Image(str(d), d, d.day) for d in days]
            for r in requests
        ]

    def read(self, request, dates):
        with self.lock:
            self.fetched.append(request.grid)
        shape = (len(request.bands), *request.grid.shape)
        seeds = [[int(abs(request.grid.left)), int(abs(request.grid.top)), day] for _, day in dates]
        values = np.stack([np.random.default_rng(s).integers(0, 9000, shape) for s in seeds])
        values[:, :, 0, 0] = NODATA
        if request.grid in self.hidden:
            values[:] = NODATA
        return values.astype("int16")


def grids(count, plan=PLAN):
    return [target.grid for target, _ in zip(plan.targets(), range(count), strict=False)]


def contents(path):
    """Key -> all that is stored of a place."""
    store = ChipStore(path)
    keys = store.table["key"].tolist()
    assert len(set(keys)) == len(keys)
    chips = (store.read(i) for i in range(len(store)))
    return {
        key: (chip.x.tobytes(), chip.dates.tobytes(), chip.valid.tobytes(), store.bounds(i))
        for i, (key, chip) in enumerate(zip(keys, chips, strict=True))
    }


@pytest.fixture
def whole(tmp_path):
    """What comes out when nothing happens."""
    fetch_chips(PLAN, tmp_path / "whole", Sky())
    return contents(tmp_path / "whole")


def test_what_is_fetched_is_what_is_stored(tmp_path):
    done = fetch_chips(PLAN, tmp_path / "s", Sky(), workers=3)
    assert (done.written, done.already, done.complete) == (30, 0, True)
    assert verify(tmp_path / "s") == []
    store = ChipStore(tmp_path / "s")
    targets = {target.key: target for target, _ in zip(PLAN.targets(), range(30), strict=False)}
    assert set(store.table["key"].tolist()) == set(targets)
    for i, key in enumerate(store.table["key"].tolist()):
        request = PLAN.request(targets[key])
        dates = PLAN.choose(Sky().list_images([request])[0], request)
        raw = Sky().read(request, dates)
        chip = store.read(i)
        assert store.bounds(i) == request.grid.bounds
        assert store.crs(i) == request.grid.crs
        assert chip.dates.tolist() == [day for _, day in dates]
        assert (chip.valid == (raw[:, 0] != NODATA)).all()
        expected = np.where(chip.valid[:, None], raw.astype("float32") * np.float32(1e-4), 0)
        assert np.array_equal(chip.x, expected)
    assert store.layout.sensor == "sentinel-2"
    assert "2019" in store.state.attribution[0]


def test_a_store_is_enlarged(tmp_path, whole):
    sky = Sky()
    for places in (7, 7, 30):
        plan = ChipPlan(places=places, dates=4, size=6, bands=("B4", "B8"), end="2019-12-31")
        done = fetch_chips(plan, tmp_path / "s", sky)
        assert done.written + done.already == places
    assert len(sky.fetched) == 30
    assert contents(tmp_path / "s") == whole


def test_cloudy_places_are_replaced_by_the_next_and_never_asked_for_again(tmp_path):
    first = grids(40)
    sky = Sky(cloudy=first[3:8], hidden=first[20:22])
    done = fetch_chips(PLAN, tmp_path / "s", sky, workers=4)
    assert (done.written, done.replaced) == (30, 7)
    bounds = {ChipStore(tmp_path / "s").bounds(i) for i in range(30)}
    assert bounds == {g.bounds for g in first[:37] if g not in sky.cloudy | sky.hidden}
    again = Sky()
    done = fetch_chips(PLAN, tmp_path / "s", again)
    assert (done.written, done.already, done.replaced) == (0, 30, 7)
    assert again.listed == again.fetched == []
    assert present(PLAN, tmp_path / "s") == 30
    # Judged by another measure, they are looked at again.
    more = ChipPlan(places=31, dates=4, size=6, bands=("B4", "B8"), end="2019-12-31", min_dates=1)
    fetch_chips(more, tmp_path / "s", again)
    assert [g for g in again.fetched if g in sky.cloudy | sky.hidden]


def test_dates_without_enough_valid_pixels_are_left_out(tmp_path):
    class Hazy(Sky):
        def read(self, request, dates):
            values = super().read(request, dates)
            values[1] = NODATA
            return values

    fetch_chips(PLAN, tmp_path / "s", Hazy())
    store = ChipStore(tmp_path / "s")
    assert {len(store.dates(i)) for i in range(30)} == {3}


def test_a_pixel_is_valid_in_all_bands_or_in_none(tmp_path):
    class Torn(Sky):
        def read(self, request, dates):
            values = super().read(request, dates)
            values[:, 1, 3, 3] = NODATA
            return values

    fetch_chips(PLAN, tmp_path / "s", Torn())
    assert not ChipStore(tmp_path / "s").read(0).valid[:, 3, 3].any()
    assert verify(tmp_path / "s") == []


def test_an_interrupt_keeps_what_arrived_and_the_next_run_completes_it(tmp_path, whole):
    stop = threading.Event()
    done = fetch_chips(
        PLAN,
        tmp_path / "s",
        Sky(),
        workers=1,
        stop=stop,
        on_step=lambda state: stop.set() if state.step >= 5 else None,
    )
    assert not done.complete
    assert 5 <= done.written < 30
    assert len(ChipStore(tmp_path / "s")) == done.written
    rest = fetch_chips(PLAN, tmp_path / "s", Sky())
    assert (rest.already, rest.written) == (done.written, 30 - done.written)
    assert contents(tmp_path / "s") == whole


def test_a_function_stops_it_too_and_reports_say_how_far_it_is(tmp_path):
    reports = []
    cloudy = Sky(cloudy=grids(1))
    done = fetch_chips(
        PLAN,
        tmp_path / "s",
        cloudy,
        workers=1,
        stop=lambda: reports and reports[-1].step >= 5,
        on_step=reports.append,
    )
    assert not done.complete
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert {report.steps for report in reports} == {30}
    assert reports[-1].replaced == done.replaced == 1
    assert reports[-1].eta >= 0


def test_the_former_report_is_two_numbers(tmp_path):
    seen = []
    with pytest.warns(DeprecationWarning, match="report= is called on_step= now"):
        fetch_chips(PLAN, tmp_path / "s", Sky(), report=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (30, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "earthengine"}, "source must be a timo.Source"),
        ({"workers": 0}, "workers must be a whole number of 1 or more; got 0"),
        ({"commit_s": -1}, "commit_s must be a number of 0 or more; got -1"),
        ({"plan": "all"}, "plan must be a timo.ChipPlan; got 'all'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, wrong, message):
    with pytest.raises(TimoError, match=message):
        fetch_chips(**({"plan": PLAN, "store": tmp_path / "s", "source": Sky()} | wrong))
    assert not (tmp_path / "s").exists()


def test_the_order_of_arrival_does_not_matter(tmp_path, whole):
    class Late(Sky):
        def read(self, request, dates):
            time.sleep(int(abs(request.grid.left)) % 7 / 500)
            return super().read(request, dates)

    fetch_chips(PLAN, tmp_path / "s", Late(), workers=8)
    assert contents(tmp_path / "s") == whole


def test_few_chips_are_in_memory_however_slow_the_writer_is(tmp_path, monkeypatch):
    workers, held, most = 3, [0], [0]

    class Counting(Sky):
        def read(self, request, dates):
            values = super().read(request, dates)
            with self.lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            return values

    from timo.places.packed.writer import StoreWriter

    add = StoreWriter.add

    def slowly(self, place):
        time.sleep(0.01)
        add(self, place)
        held[0] -= 1

    monkeypatch.setattr(StoreWriter, "add", slowly)
    fetch_chips(PLAN, tmp_path / "s", Counting(), workers=workers)
    assert most[0] <= workers + _SPARE
    assert held[0] == 0


def test_a_place_that_is_refused_is_left_out_and_asked_for_in_the_next_run(tmp_path):
    bad = grids(2)[1]

    class Refusing(Sky):
        def read(self, request, dates):
            if request.grid == bad:
                raise RefusedError("no such image")
            return super().read(request, dates)

    done = fetch_chips(PLAN, tmp_path / "s", Refusing())
    assert (done.written, done.refused, done.complete) == (30, 1, True)
    sky = Sky()
    fetch_chips(ChipPlan(places=31, dates=4, size=6, bands=("B4", "B8"), end="2019-12-31"),
                tmp_path / "s", sky)  # fmt: skip
    assert sky.fetched == [bad]


@pytest.mark.parametrize("error", [RefusedError("permission denied"), TimoError("gave up")])
def test_an_error_of_all_requests_ends_the_run_and_keeps_what_arrived(tmp_path, whole, error):
    class Failing(Sky):
        def read(self, request, dates):
            if len(self.fetched) >= 10:
                raise error
            return super().read(request, dates)

    with pytest.raises(TimoError, match=str(error)):
        fetch_chips(PLAN, tmp_path / "s", Failing(), workers=2)
    assert 1 <= len(ChipStore(tmp_path / "s")) <= 12
    fetch_chips(PLAN, tmp_path / "s", Sky())
    assert contents(tmp_path / "s") == whole


def test_a_list_that_is_refused_ends_the_run(tmp_path):
    class Closed(Sky):
        def list_images(self, requests):  # noqa: ARG002
            raise RefusedError("not registered")

    with pytest.raises(TimoError, match="not registered"):
        fetch_chips(PLAN, tmp_path / "s", Closed())


def test_cancelled_requests_are_no_failures(tmp_path):
    stop = threading.Event()

    class Cancelling(Sky):
        def read(self, request, dates):  # noqa: ARG002
            stop.set()
            raise CancelledError("cancelled by the user")

    done = fetch_chips(PLAN, tmp_path / "s", Cancelling(), stop=stop)
    assert (done.written, done.complete) == (0, False)


def test_an_error_in_the_code_is_not_swallowed(tmp_path):
    class Broken(Sky):
        def read(self, request, dates):  # noqa: ARG002
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch_chips(PLAN, tmp_path / "s", Broken())


def test_a_store_of_other_chips_is_refused(tmp_path):
    fetch_chips(PLAN, tmp_path / "s", Sky())
    other = ChipPlan(places=3, dates=4, size=8, bands=("B4", "B8"), end="2019-12-31")
    with pytest.raises(TimoError, match="size"):
        fetch_chips(other, tmp_path / "s", Sky())


# --- the journal


def test_a_line_that_a_kill_cut_short_is_looked_at_again(tmp_path):
    (tmp_path / "x").mkdir()
    journal = Journal(tmp_path, "c")
    keys = [2**64 - 1, 0, 5]
    for key in keys:
        journal.add(key, "0 windows")
    assert Journal(tmp_path, "c").keys == set(keys)
    assert Journal(tmp_path, "d").keys == set()
    text = journal.path.read_bytes()
    for cut in range(len(text)):
        journal.path.write_bytes(text[:cut])
        half = Journal(tmp_path, "c")
        assert half.keys <= set(keys)
        half.add(7, "1 window")
        assert Journal(tmp_path, "c").keys == half.keys
