"""Run the emulator as a process of its own: `python -m ee_emulator --port 0 --latency 0.05`.

It prints its address on one line, serves until it is interrupted or its standard input ends (with `--until-eof`), and
then prints how many requests there were.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence

from . import Emulator, EmulatorError, Faults, sample_backing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m ee_emulator", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="of 127.0.0.1; 0: one that is free")
    add("--everywhere", action="store_true", help="spread the sample over the whole Earth")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="that each answer waits")
    add("--quota", type=float, default=0.0, metavar="SHARE", help="answered 429")
    add("--internal", type=float, default=0.0, metavar="SHARE", help="answered 500")
    add("--unavailable", type=float, default=0.0, metavar="SHARE", help="answered 503")
    add("--truncated", type=float, default=0.0, metavar="SHARE", help="cut off")
    add("--expired", type=float, default=0.0, metavar="SHARE", help="answered 401")
    add("--concurrent", type=int, help="requests in work at once, above which the answer is 429")
    add("--seed", type=int, default=0, help="of what goes wrong")
    add("--until-eof", action="store_true", help="stop when the standard input ends")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = (
        "quota",
        "internal",
        "unavailable",
        "truncated",
        "expired",
        "latency",
        "concurrent",
        "seed",
    )
    try:
        faults = Faults(**{name: getattr(options, name) for name in names})
        backing = sample_backing(everywhere=options.everywhere)
    except EmulatorError as error:
        parser.error(str(error))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Emulator(backing, faults, port=options.port) as emulator:
        print(emulator.url, flush=True)  # noqa: T201
        if options.until_eof:
            sys.stdin.read()
        else:
            stop.wait()
        print(json.dumps({str(k): n for k, n in emulator.requests.items()}))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
