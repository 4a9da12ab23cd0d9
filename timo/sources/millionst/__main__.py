"""The former command; use ``python -m timo.datasets.millionst``."""

import sys

from timo.datasets.millionst.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
