"""Ordinary kriging: values where nothing was observed, and how sure they are."""

from timo.geostat.kriging.api import krige
from timo.geostat.kriging.validation import cross_validate, interval

__all__ = ["cross_validate", "interval", "krige"]
