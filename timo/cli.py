"""The command ``timo``: the cache of fetched chunks, stores of cubes, and the page of sensors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from timo.checks import number
from timo.commands import run_command
from timo.errors import TimoError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if it is done, 1 if something is damaged, 2 if the input is bad."""
    given = _parser().parse_args(arguments)
    return run_command(lambda: given.run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="timo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    cache = commands.add_parser("cache", help="what was fetched and is kept on this machine")
    actions = cache.add_subparsers(required=True, metavar="action")
    info = actions.add_parser("info", help="list the requests in the cache")
    clear = actions.add_parser("clear", help="remove them")
    clear.add_argument("--older-than-days", type=float, help="only what was not used since")
    verify = actions.add_parser(
        "verify", help="read all, and print each lost, changed or swapped chunk"
    )
    verify.add_argument(
        "path", nargs="?", help="a store of timo.fetch(cube, path=...), in place of the cache"
    )
    for action, run in ((info, _info), (clear, _clear), (verify, _verify)):
        action.add_argument("--folder", help="of the cache; by default the one of open_cube")
        action.set_defaults(run=run)
    sensors = commands.add_parser("sensors", help="print the page of all sensors, as Markdown")
    sensors.set_defaults(run=_sensors)
    return parser


def _info(given: argparse.Namespace) -> int:
    from timo.sources.cache import ChunkCache

    sys.stdout.write(f"{ChunkCache(given.folder).info()}\n")
    return 0


def _clear(given: argparse.Namespace) -> int:
    from timo.sources.cache import ChunkCache

    age = None
    if given.older_than_days is not None:
        age = timedelta(
            days=number(given.older_than_days, "--older-than-days", least=0, most=36500)
        )
    gone = ChunkCache(given.folder).clear(age)
    sys.stdout.write(f"removed {gone.bytes / 1e6:.1f} MB of {len(gone.arrays)} requests\n")
    return 0


def _verify(given: argparse.Namespace) -> int:
    from timo.sources.cache import ChunkCache
    from timo.sources.cache.stores import damages, manifest_of

    if given.path is None:
        found = list(ChunkCache(given.folder).damages())
        remedy = "the next fetch asks for these again"
    elif manifest_of(given.path) is None:
        raise TimoError(f"'{given.path}' is no store that timo.fetch(cube, path=...) wrote")
    else:
        found, remedy = damages(given.path), f"timo.fetch(cube, path='{given.path}') repairs them"
    last = f"{len(found)} damaged chunks: {remedy}" if found else "every chunk is what was written"
    sys.stdout.writelines(f"{line}\n" for line in [*found, last])
    return int(bool(found))


def _sensors(_: argparse.Namespace) -> int:
    from timo.sensors.__main__ import page

    sys.stdout.write(page())
    return 0
