"""Labels of one year on the dates of a series: see `timo.places.in_time`."""

from timo.places.in_time import labels_in_time

__all__ = ["labels_in_time"]
