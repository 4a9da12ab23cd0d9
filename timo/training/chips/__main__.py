"""Former name of ``python -m timo.places``."""

import sys

from timo.places.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
