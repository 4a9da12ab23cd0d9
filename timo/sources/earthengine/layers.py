"""The images of a cube's dates as xee takes them: one band each, and in a request no more than it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ee

BAND = "value"


@dataclass(frozen=True)
class Dated:
    """One image for each date of a cube.

    Attributes
    ----------
    sources : tuple
        What the image of each date is made of: images, or numbers, or lists of them.
    make : callable
        Makes it, on Earth Engine, of one of these.
    bands : tuple of str
        Of each image.
    """

    sources: tuple[Any, ...]
    make: Callable[[Any], ee.Image]
    bands: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def layers(self, first: int, after: int) -> ee.List:
        """Images of one band, "value", of some dates: date by date, band by band.

        xee asks for one band of many images at a time. What it takes to mask a pixel is the same for all bands, and
        would be computed once for each: in this form all bands of a date come with one request.
        """

        def split(source: Any) -> ee.List:
            image = self.make(source)
            return ee.List(list(self.bands)).map(
                lambda band: image.select([band], [BAND]).set("system:time_start", 0)
            )

        return ee.List(list(self.sources[first:after])).map(split).flatten()

    def serialize(self) -> str:
        """The graph of all of it."""
        return str(self.layers(0, len(self)).serialize())


class Layers(ee.ImageCollection):
    """A collection of the layers of all dates, of which a request holds only those that it is for.

    xee cuts out of a collection with `toList`, for which Earth Engine makes every image up to the last one that is
    wanted: the documentation advises against (developers.google.com/earth-engine/guides/best_practices, "Avoid
    converting to list unnecessarily"), and xee warns of it. Here the dates are known on this side, and `toList` is
    answered with the graph of those that are asked for. As a collection, it is the first layer so many times: enough
    for what is asked of it when it is opened, the size and the type of the bands.
    """

    def __init__(self, dated: Dated) -> None:
        first = dated.layers(0, 1).get(0)
        super().__init__(ee.List.repeat(first, len(dated) * len(dated.bands)))
        self.dated = dated

    def toList(self, count: Any, offset: Any = 0) -> ee.List:  # noqa: N802 - Earth Engine's name
        """Layers from `offset` on, at most `count`."""
        bands = len(self.dated.bands)
        first, after = int(offset) // bands, -(-(int(offset) + int(count)) // bands)
        skipped = int(offset) - first * bands
        return self.dated.layers(first, after).slice(skipped, skipped + int(count))
