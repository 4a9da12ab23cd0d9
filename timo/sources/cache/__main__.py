"""The cache of fetched chunks from the command line: ``python -m timo.sources.cache info|clear``."""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from timo.errors import TimoError
from timo.sources.cache.store import ChunkCache


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 = done, 2 = bad input."""
    parser = argparse.ArgumentParser(prog="python -m timo.sources.cache", description=__doc__)
    parser.add_argument("action", choices=["info", "clear"])
    parser.add_argument("--folder", help="by default the one of open_cube")
    parser.add_argument("--older-than-days", type=float, help="clear only what was not used since")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(_run(given))
    except TimoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _run(given: argparse.Namespace) -> str:
    cache = ChunkCache(given.folder)
    if given.action == "info":
        return f"{cache.info()}\n"
    days = given.older_than_days
    gone = cache.clear(None if days is None else timedelta(days=days))
    return f"removed {gone.bytes / 1e6:.1f} MB of {len(gone.arrays)} requests\n"


if __name__ == "__main__":
    sys.exit(main())
