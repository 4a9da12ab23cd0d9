"""The former home of `timo.datasets.millionst`, and of its command."""

import sys

from timo.datasets.millionst import *  # noqa: F403
from timo.datasets.millionst.__main__ import main
from timo.errors import warn

warn("timo.sources.millionst is timo.datasets.millionst now.", DeprecationWarning)
if __name__ == "__main__":
    sys.exit(main())
