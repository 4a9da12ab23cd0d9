"""Drawing dates, at their former place."""

from timo.training.chips.chip import draw_dates  # noqa: F401
