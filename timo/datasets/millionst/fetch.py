"""Fetch chips: many requests under way, few results in memory, one writer; complete places are never fetched again."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.cancel import CancelledError, Stop, is_stopped
from timo.checks import Count, NotNegative, PathLike, checked
from timo.compute import StepReport, report_to
from timo.datasets.millionst.plan import (
    LISTED,
    SENSOR,
    ChipPlan,
    Image,
    RefusedError,
    Source,
    Target,
)
from timo.errors import TimoError, warn
from timo.places.packed.layout import NODATA, SHARD_BYTES, Layout
from timo.places.packed.store import ChipStore
from timo.places.packed.writer import Row, StoreWriter
from timo.sources.request import CubeRequest

# Chips beyond one for each worker that are asked for, or have arrived and wait for the writer: what is in memory.
_SPARE = 2
# Lists of images that are under way at once: enough that no worker waits for one.
_LISTINGS = 2
# Places that may be refused before all requests are taken to be at fault: this number, and a share of what arrived.
_REFUSED, _REFUSED_SHARE = 3, 0.01
# As many places may be too cloudy for each that is there, and these besides: then it is not the places.
_CLOUDY, _CLOUDY_EACH = 100, 20
_PAUSE_S = 0.2


@checked
@dataclass(frozen=True)
class Fetched:
    """Counts of places of a run: written, there before, too cloudy and replaced, refused; and whether all are there."""

    written: int
    already: int
    replaced: int
    refused: int
    complete: bool


@dataclass(frozen=True)
class FetchReport(StepReport):
    """The state of a run: `step` of `steps` places are there, and `replaced` were too cloudy."""

    replaced: int = 0


@dataclass(frozen=True)
class _Chosen:
    """A place and the images to fetch of it."""

    target: Target
    request: CubeRequest
    dates: list[tuple[Image, int]]


@checked
def fetch_chips(
    plan: ChipPlan,
    store: PathLike,
    source: Source,
    *,
    workers: Count = 20,
    commit_s: NotNegative = 60.0,
    stop: Stop | None = None,
    on_step: Callable[[FetchReport], Any] | None = None,
    report: Callable[[int, int], Any] | None = None,
) -> Fetched:
    """Fetch the places of a plan that a chip store lacks, and add them to it.

    The places are the first of the sequence that are clear enough, in any order of arrival.

    Parameters
    ----------
    plan, store, source
        The places and images; the chip store, created if it is not there; where from.
    workers : int
        Threads that fetch.
    commit_s : float
        Seconds after which arrived places are committed; those that are not yet are lost by a kill, and fetched again.
    stop : threading.Event or callable, optional
        Ends the run early: requests under way are finished and kept. An event is set when the run ends.
    on_step : callable, optional
        Called with a `FetchReport` when something has arrived, and several times a second.
    report : callable, optional
        Former `on_step`: called with the places that are there and those that were replaced.

    Raises
    ------
    TimoError
        If the store cannot be written or holds something else, or Earth Engine refuses or does not answer. Complete
        places stay, and the same call resumes.
    """
    if report is not None:
        warn("report= is called on_step= now, and gets a FetchReport.", DeprecationWarning)
        on_step = lambda done: report(done.step, done.replaced)  # noqa: E731
    # Digital numbers as they are.
    layout = Layout(
        bands=plan.band_names,
        size=plan.size,
        dates=plan.dates,
        sensor=SENSOR.name,
        scale=float(SENSOR.scale),
        offset=float(SENSOR.offset),
        units=SENSOR.units,
    ).with_shards_of(SHARD_BYTES)
    with StoreWriter(store, layout).open() as writer:
        years = sorted({plan.windows[0].year, (plan.windows[-1] - pd.Timedelta(1, "D")).year})
        attribution = SENSOR.attribution.format(years="-".join(str(year) for year in years))
        writer.note([attribution], [f"Earth Engine: {SENSOR.product}"], 0.0)
        return _Run(plan, writer, source, stop).go(workers, commit_s, on_step)


def present(plan: ChipPlan, store: str | Path) -> int:
    """Return how many of the places of a plan are in a store."""
    path = Path(store).expanduser()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return 0
    keys = set(ChipStore(path).table["key"].tolist())
    rejected = Journal(path, plan.criteria).keys
    acceptable = (target.key for target in plan.targets() if target.key not in rejected)
    return sum(key in keys for key in islice(acceptable, plan.places))


class Journal:
    """Keys of places that were found too cloudy, one line each, so that a resumed run does not ask for them again.

    It lies in the folder of one of the store's arrays, where Zarr libraries list no files. Places that were judged by
    other `criteria` are looked at again.
    """

    def __init__(self, store: Path, criteria: str) -> None:
        self.path = store / "x" / ".rejected.jsonl"
        self.criteria = criteria
        self.keys = self._read()

    def add(self, key: int, why: str) -> None:
        """Remember a place, safe against a loss of power."""
        line = json.dumps({"key": key, "criteria": self.criteria, "why": why})
        with self.path.open("a", encoding="utf-8") as file:
            # What a kill may have left of the line before is closed off first; empty lines are passed over.
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self.keys.add(key)

    def _read(self) -> set[int]:
        if not self.path.exists():
            return set()
        found = set()
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                # Empty, or cut short by a kill: the place is looked at again.
                continue
            if entry["criteria"] == self.criteria:
                found.add(int(np.uint64(entry["key"])))
        return found


class _Run:
    """One run: undecided places, requests under way, and their outcome. For one thread."""

    def __init__(
        self, plan: ChipPlan, writer: StoreWriter, source: Source, asked: Stop | None
    ) -> None:
        self.plan, self.writer, self.source, self.asked = plan, writer, source, asked
        # Set by errors as well; a source that was given the event makes no more requests then.
        self.stop = asked if isinstance(asked, threading.Event) else threading.Event()
        self.journal = Journal(writer.path, plan.criteria)
        self.known = writer.keys
        self.already = self.written = self.replaced = self.refused = self.undecided = 0
        self.rejected = 0
        self.failure: TimoError | None = None
        self.targets = plan.targets()
        self.ready: deque[_Chosen] = deque()
        self.listings: dict[Future[list[list[Image]]], list[tuple[Target, CubeRequest]]] = {}
        self.reads: dict[Future[np.ndarray], _Chosen] = {}

    @property
    def done(self) -> int:
        """Return the number of places that are in the store, or will be with the next commit."""
        return self.already + self.written

    def go(
        self, workers: int, commit_s: float, on_step: Callable[[FetchReport], Any] | None
    ) -> Fetched:
        """Fetch until all places are there, or it is to stop."""
        pool = ThreadPoolExecutor(workers, thread_name_prefix="chips")
        began = committed = time.monotonic()
        try:
            while self._submit(pool, workers):
                self._take_finished()
                if is_stopped(self.asked):
                    self.stop.set()
                if time.monotonic() - committed > commit_s:
                    self.writer.commit()
                    committed = time.monotonic()
                if on_step is not None:
                    seconds, places = time.monotonic() - began, self.plan.places
                    each = seconds / self.written if self.written else math.nan
                    eta, replaced = each * (places - self.done), self.replaced
                    report = FetchReport(self.done, places, -1, math.nan, seconds, eta, replaced)
                    report_to(on_step, report)
        finally:
            # After an error, requests under way are not waited for.
            self.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        self.writer.commit()
        if self.failure is not None:
            raise self.failure
        complete = self.done >= self.plan.places
        return Fetched(self.written, self.already, self.replaced, self.refused, complete)

    def _submit(self, pool: ThreadPoolExecutor, workers: int) -> bool:
        """Ask for more, as far as there is room; False if nothing is under way."""
        room = workers + _SPARE
        while self.ready and len(self.reads) < room and not self.stop.is_set():
            chosen = self.ready.popleft()
            self.reads[pool.submit(self._read, chosen)] = chosen
        while len(self.listings) < _LISTINGS and len(self.ready) < room and not self.stop.is_set():
            asked = [(target, self.plan.request(target)) for target in self._draw(LISTED)]
            if not asked:
                break
            requests = [request for _, request in asked]
            self.listings[pool.submit(self.source.list_images, requests)] = asked
        return bool(self.listings or self.reads)

    def _draw(self, most: int) -> list[Target]:
        """Return the next undecided places, as many as are still needed."""
        drawn: list[Target] = []
        while len(drawn) < most and self.done + self.undecided < self.plan.places:
            target = next(self.targets)
            if target.key in self.known:
                self.already += 1
            elif target.key in self.journal.keys:
                self.replaced += 1
            else:
                self.undecided += 1
                drawn.append(target)
        return drawn

    def _read(self, chosen: _Chosen) -> np.ndarray:
        """Read all dates of a place, in as many requests as it takes; in a worker."""
        step = -(-len(chosen.dates) // self.plan.parts)
        parts = [chosen.dates[i : i + step] for i in range(0, len(chosen.dates), step)]
        return np.concatenate([self.source.read(chosen.request, part) for part in parts])

    def _take_finished(self) -> None:
        """Wait for something to arrive, and decide on the places it is about."""
        under_way: list[Future[Any]] = [*self.reads, *self.listings]
        for future in wait(under_way, _PAUSE_S, FIRST_COMPLETED).done:
            listed, chosen = self.listings.pop(future, None), self.reads.pop(future, None)
            try:
                answer = future.result()
            except CancelledError:
                continue
            except RefusedError as error:
                self._refuse(error, chosen)
            except TimoError as error:
                self._fail(error)
            else:
                if listed is not None:
                    self._take_images(listed, answer)
                elif chosen is not None:
                    self._take_pixels(chosen, answer)

    def _take_images(
        self, asked: list[tuple[Target, CubeRequest]], found: list[list[Image]]
    ) -> None:
        for (target, request), images in zip(asked, found, strict=True):
            dates = self.plan.choose(images, request)
            if len(dates) < self.plan.fewest:
                self._reject(target, f"{len(dates)} windows with an image")
            else:
                self.ready.append(_Chosen(target, request, dates))

    def _take_pixels(self, chosen: _Chosen, stored: np.ndarray) -> None:
        valid = (stored != NODATA).all(axis=1)
        clear = valid.mean(axis=(1, 2))
        keep = (clear >= self.plan.min_clear) & (clear > 0)
        if keep.sum() < self.plan.fewest:
            self._reject(chosen.target, f"{keep.sum()} clear dates of {len(keep)}")
            return
        grid, days = chosen.target.grid, np.array([day for _, day in chosen.dates], "int32")
        self.writer.add(
            Row(
                stored=np.where(valid[keep, None], stored[keep], np.int16(NODATA)),
                valid=valid[keep],
                days=days[keep],
                crs=grid.crs,
                left=grid.left,
                top=grid.top,
                cell=grid.resolution,
                key=chosen.target.key,
            )
        )
        self.undecided -= 1
        self.written += 1

    def _reject(self, target: Target, why: str) -> None:
        self.journal.add(target.key, why)
        self.undecided -= 1
        self.replaced += 1
        self.rejected += 1
        if self.rejected > _CLOUDY + _CLOUDY_EACH * self.done:
            plan = self.plan
            self._fail(
                TimoError(
                    f"{self.rejected} places were looked at, and only {self.done} of them have {plan.fewest} dates of "
                    f"at most {plan.max_cloud:g} % cloud with {100 * plan.min_clear:g} % of valid pixels (the last: "
                    f"{why}). Check the span, or lower min_dates or min_clear, or raise max_cloud"
                )
            )

    def _refuse(self, error: RefusedError, chosen: _Chosen | None) -> None:
        """Leave a place out for this run; if it is not the only one, the fault is not the place's."""
        self.refused += 1
        self.undecided -= 1
        if chosen is None or self.refused > _REFUSED + _REFUSED_SHARE * self.written:
            self._fail(error)

    def _fail(self, error: TimoError) -> None:
        """End the run with this error, once what is under way has ended."""
        self.failure = self.failure or error
        self.stop.set()
