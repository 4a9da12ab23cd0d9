"""The former home of `timo.datasets.millionst`."""

import warnings

from timo.datasets.millionst import *  # noqa: F403

warnings.warn(
    "timo.sources.millionst is timo.datasets.millionst now.", DeprecationWarning, stacklevel=2
)
