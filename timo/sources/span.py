"""The dates that are asked for; moved to `timo.sources.dates`."""

from timo.sources.dates import make_open_span, make_span

__all__ = ["make_open_span", "make_span"]
