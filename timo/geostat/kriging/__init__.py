"""Ordinary kriging: values where nothing was observed, and their uncertainty."""

from timo.geostat.kriging.ordinary import krige
from timo.geostat.kriging.validation import cross_validate, interval

__all__ = ["cross_validate", "interval", "krige"]
