"""``python -m timo.datasets.millionst STORE``: chips of Sentinel-2 from all over the world, for pretraining."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from timo.cancel import CancelledError
from timo.datasets.millionst.fetch import Fetched, fetch_chips, present
from timo.datasets.millionst.places import PlaceRule
from timo.datasets.millionst.plan import CONCURRENT, PER_SECOND, ChipPlan, estimate
from timo.errors import TimoError
from timo.sources.retry import Gate, Retry

DESCRIPTION = """\
Fetch chips of Sentinel-2 from places all over the world, each at several dates, into a chip store for pretraining.

The cost is printed first; with --dry-run, that is all. After an interruption of any kind, give the same command again:
it resumes. More --places enlarge a store. Inspect it with python -m timo.training.chips info|verify STORE."""

_PLAN, _RULE = ChipPlan(), PlaceRule()
# The sample, which the emulator shows.
_SAMPLE_BANDS = ("B2", "B3", "B4", "B8", "B8A", "B11")
_EMULATED: dict[str, Any] = {"start": "2016-01-01", "end": "2020-12-31", "bands": _SAMPLE_BANDS}
# Group -> option: type, default, help.
_OPTIONS: dict[str, dict[str, tuple[Any, Any, str]]] = {
    "what": {
        "places": (int, _PLAN.places, "number of places"),
        "dates": (int, _PLAN.dates, "windows of time, and an image of each"),
        "start": (str, None, f"first day (default: {_PLAN.start})"),
        "end": (str, None, f"last day (default: {_PLAN.end})"),
        "size": (int, _PLAN.size, "height and width in pixels of 10 m"),
        "max-cloud": (float, _PLAN.max_cloud, "percent of an image, by its metadata"),
        "min-clear": (float, _PLAN.min_clear, "least share of valid pixels of a date"),
        "min-dates": (int, None, "least number of such dates (default: 7 in 10 of --dates)"),
        "seed": (int, _RULE.seed, "another seed, other places"),
        "around-cities": (float, _RULE.around_cities, "share of places around cities"),
        "city-km": (float, _RULE.city_km, "how far around them (standard deviation)"),
        "distance-m": (float, _RULE.distance_m, "least distance of two places"),
    },
    "how": {
        "workers": (int, 20, "threads that fetch"),
        "requests-per-second": (float, PER_SECOND, "quota"),
        "concurrent": (int, CONCURRENT, "quota"),
        "patience-minutes": (float, 30, "how long a failed request is made again"),
        "commit-seconds": (float, 60, "what a kill may lose at most"),
        "report-seconds": (float, 5, "time between two reports"),
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 = done, 2 = something given was wrong or Earth Engine refused, 130 = interrupted."""
    options = _parser().parse_args(arguments)
    try:
        done = _run(options)
    except TimoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 130 if isinstance(error, CancelledError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: complete places are kept; the same command resumes\n")
        return 130
    if done is None or done.complete:
        return 0
    sys.stderr.write("interrupted: what has arrived is kept; the same command resumes\n")
    return 130


def _run(options: argparse.Namespace) -> Fetched | None:
    plan = _plan(options)
    # Wrong numbers are met before the store is looked at.
    if options.workers < 1:
        raise TimoError(f"workers must be at least 1; got {options.workers}")
    if not options.requests_per_second < float("inf"):
        raise TimoError(
            f"--requests-per-second must be a number; got {options.requests_per_second}"
        )
    gate = Gate(per_second=options.requests_per_second, concurrent=options.concurrent)
    retry = Retry(deadline_s=60 * options.patience_minutes, gate=gate)
    concurrent = min(options.workers, options.concurrent)
    there = present(plan, options.store)
    cost = estimate(plan, there, per_second=gate.per_second, concurrent=concurrent)
    sys.stdout.write(f"{cost.describe()}\n")
    sys.stdout.flush()
    if options.dry_run or not cost.places:
        return None
    with ExitStack() as stack:
        stop = stack.enter_context(_interruptible())
        _connect(options, stack)
        done = _fetch(options, plan, retry, stop)
    refused = f", {done.refused} refused by Earth Engine" if done.refused else ""
    counts = f"{done.already} were there, {done.replaced} too cloudy and replaced{refused}"
    sys.stdout.write(f"{done.written} places written, {counts}\n")
    return done


def _fetch(
    options: argparse.Namespace, plan: ChipPlan, retry: Retry, stop: threading.Event
) -> Fetched:
    from timo.datasets.millionst.earthengine import EarthEngineChips, Tally

    bars: list[tqdm] = []
    tally, began = Tally(), time.monotonic()

    def report(done: int, replaced: int) -> None:
        if not bars:
            bars.append(_bar(plan.places, done, options.report_seconds))
        bars[0].set_postfix_str(f"{tally}, {replaced} places replaced", refresh=False)
        bars[0].update(done - bars[0].n)

    pace = {"workers": options.workers, "commit_s": options.commit_seconds}
    source = EarthEngineChips(retry, tally, stop)
    try:
        return fetch_chips(plan, options.store, source, **pace, stop=stop, report=report)
    finally:
        for bar in bars:
            bar.close()
        took = timedelta(seconds=round(time.monotonic() - began))
        sys.stderr.write(f"{tally} in {took}\n")


def _bar(places: int, done: int, every_s: float) -> tqdm:
    """Return a bar on a terminal, and text now and then elsewhere."""
    text = "{n_fmt} of {total_fmt} places, {rate_fmt}, {remaining} to go{postfix}"
    plain = {} if sys.stderr.isatty() else {"mininterval": every_s, "bar_format": text}
    return tqdm(total=places, initial=done, unit="place", smoothing=0, miniters=0, **plain)


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
    """Give an event that Ctrl-C sets: requests under way are finished. A second Ctrl-C ends at once."""
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
    usual: dict[str, Any] = {"start": _PLAN.start, "end": _PLAN.end, "bands": None}
    usual |= _EMULATED if options.source == "emulator" else {}
    chosen = {name: getattr(options, name) or default for name, default in usual.items()}
    names = ("places", "dates", "size", "max_cloud", "min_clear", "min_dates")
    chosen |= {name: getattr(options, name) for name in names}
    rule = PlaceRule(options.seed, options.around_cities, options.distance_m, options.city_km)
    return ChipPlan(**chosen, rule=rule)


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
    for title, listed in _OPTIONS.items():
        group = made.add_argument_group(title)
        for name, (kind, default, text) in listed.items():
            shown = text if default is None else f"{text} (%(default)s)"
            group.add_argument(f"--{name}", type=kind, default=default, help=shown)
    return made


if __name__ == "__main__":
    sys.exit(main())
