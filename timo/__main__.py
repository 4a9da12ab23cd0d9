"""``python -m timo`` is the command ``timo``."""

import sys

from timo.cli import main

sys.exit(main())
