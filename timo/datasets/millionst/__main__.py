"""``python -m timo.datasets.millionst STORE``: chips of Sentinel-2 from all over the world, for pretraining."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from timo.checks import Count, NotNegative, Positive, checked
from timo.commands import add_fields, run_command
from timo.datasets.millionst.fetch import Fetched, FetchReport, fetch_chips, present
from timo.datasets.millionst.places import PlaceRule
from timo.datasets.millionst.plan import CONCURRENT, PER_SECOND, ChipPlan, estimate
from timo.sources.retry import Gate, Retry

DESCRIPTION = """\
Fetch chips of Sentinel-2 from places all over the world, each at several dates, into a chip store for pretraining.

The cost is printed first; with --dry-run, that is all. After an interruption of any kind, give the same command again:
it resumes. More --places enlarge a store. Inspect it with python -m timo.places info|verify STORE."""

# The sample, which the emulator shows.
_SAMPLE_BANDS = ("B2", "B3", "B4", "B8", "B8A", "B11")
_EMULATED: dict[str, Any] = {"start": "2016-01-01", "end": "2020-12-31", "bands": _SAMPLE_BANDS}
# Fields of `ChipPlan` and of `PlaceRule` -> help.
_PLAN = {
    "places": "number of places",
    "dates": "windows of time, and an image of each",
    "size": "height and width in pixels of 10 m",
    "max_cloud": "percent of an image, by its metadata",
    "min_clear": "least share of valid pixels of a date",
    "min_dates": "least number of such dates (default: 7 in 10 of --dates)",
}
_RULE = {
    "seed": "another seed, other places",
    "around_cities": "share of places around cities",
    "city_km": "how far around them (standard deviation)",
    "distance_m": "least distance of two places",
}


@checked
@dataclass(frozen=True)
class Pace:
    """How a plan is fetched."""

    workers: Count = 20
    requests_per_second: Positive = PER_SECOND
    concurrent: Count = CONCURRENT
    patience_minutes: NotNegative = 30.0
    commit_seconds: NotNegative = 60.0
    report_seconds: NotNegative = 5.0


_PACE = {
    "workers": "threads that fetch",
    "requests_per_second": "quota",
    "concurrent": "quota",
    "patience_minutes": "how long a failed request is made again",
    "commit_seconds": "what a kill may lose at most",
    "report_seconds": "time between two reports",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 = done, 2 = bad input or Earth Engine refused, 130 = interrupted."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    plan, pace = _plan(options), Pace(**{name: getattr(options, name) for name in _PACE})
    gate = Gate(per_second=pace.requests_per_second, concurrent=pace.concurrent)
    concurrent = min(pace.workers, pace.concurrent)
    there = present(plan, options.store)
    cost = estimate(plan, there, per_second=pace.requests_per_second, concurrent=concurrent)
    sys.stdout.write(f"{cost.describe()}\n")
    sys.stdout.flush()
    if options.dry_run or not cost.places:
        return 0
    with ExitStack() as stack:
        stop = stack.enter_context(_interruptible())
        _connect(options, stack)
        retry = Retry(deadline_s=60 * pace.patience_minutes, gate=gate)
        done = _fetch(plan, options.store, pace, retry, stop)
    refused = f", {done.refused} refused by Earth Engine" if done.refused else ""
    counts = f"{done.already} were there, {done.replaced} too cloudy and replaced{refused}"
    sys.stdout.write(f"{done.written} places written, {counts}\n")
    if done.complete:
        return 0
    sys.stderr.write("interrupted: what has arrived is kept; the same command resumes\n")
    return 130


def _fetch(plan: ChipPlan, store: Path, pace: Pace, retry: Retry, stop: threading.Event) -> Fetched:
    from timo.datasets.millionst.earthengine import EarthEngineChips, Tally

    bars: list[tqdm] = []
    tally, began = Tally(), time.monotonic()

    def report(state: FetchReport) -> None:
        if not bars:
            bars.append(_bar(state, pace.report_seconds))
        bars[0].set_postfix_str(f"{tally}, {state.replaced} places replaced", refresh=False)
        bars[0].update(state.step - bars[0].n)

    source = EarthEngineChips(retry, tally, stop)
    usual: Any = {"workers": pace.workers, "commit_s": pace.commit_seconds}
    try:
        return fetch_chips(plan, store, source, **usual, stop=stop, on_step=report)
    finally:
        for bar in bars:
            bar.close()
        took = timedelta(seconds=round(time.monotonic() - began))
        sys.stderr.write(f"{tally} in {took}\n")


def _bar(state: FetchReport, every_s: float) -> tqdm:
    """Return a bar on a terminal, and text now and then elsewhere."""
    text = "{n_fmt} of {total_fmt} places, {rate_fmt}, {remaining} to go{postfix}"
    plain = {} if sys.stderr.isatty() else {"mininterval": every_s, "bar_format": text}
    usual: Any = {"unit": "place", "smoothing": 0, "miniters": 0, **plain}
    return tqdm(total=state.steps, initial=state.step, **usual)


def _connect(options: argparse.Namespace, stack: ExitStack) -> None:
    from timo.sources.earthengine.connecting import HIGH_VOLUME, connect

    url = options.url
    if options.source == "emulator" and url is None:
        from timo.sources.emulated import start_emulator

        url = stack.enter_context(start_emulator(everywhere=True)).url
    key, url = options.service_account, url or HIGH_VOLUME
    connect(options.project, service_account=key, url=url, workers=options.workers)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets: requests under way are finished. A second Ctrl-C ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(*_: Any) -> None:
        signal.signal(signal.SIGINT, usual)
        sys.stderr.write("interrupted: finishing requests; Ctrl-C again to stop at once\n")
        stop.set()

    usual = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)


def _plan(options: argparse.Namespace) -> ChipPlan:
    usual: dict[str, Any] = {"start": ChipPlan.start, "end": ChipPlan.end, "bands": None}
    usual |= _EMULATED if options.source == "emulator" else {}
    chosen = {name: getattr(options, name) or default for name, default in usual.items()}
    chosen |= {name: getattr(options, name) for name in _PLAN}
    return ChipPlan(**chosen, rule=PlaceRule(**{name: getattr(options, name) for name in _RULE}))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        prog="python -m timo.datasets.millionst", description=DESCRIPTION, formatter_class=raw
    )
    add = made.add_argument
    add("store", metavar="STORE", type=Path, help="created if it is not there")
    add("--dry-run", action="store_true", help="print the cost, and stop")
    add("--bands", nargs="+", help="default: the ten of 10 and 20 m")
    emulated = "the emulator shows the sample of timo, wherever a place is: to try it without an account (%(default)s)"
    kinds = ("earthengine", "emulator")
    add("--source", choices=kinds, default="earthengine", help=emulated)
    add("--project", help="the Google Cloud project that is billed")
    add("--service-account", type=Path, metavar="KEY.json")
    add("--url", help="of an emulator that runs already")
    what, how = (made.add_argument_group(title) for title in ("what", "how"))
    what.add_argument("--start", help=f"first day (default: {ChipPlan.start})")
    what.add_argument("--end", help=f"last day (default: {ChipPlan.end})")
    add_fields(what, ChipPlan(), _PLAN)
    add_fields(what, PlaceRule(), _RULE)
    add_fields(how, Pace(), _PACE)
    return made


if __name__ == "__main__":
    sys.exit(main())
