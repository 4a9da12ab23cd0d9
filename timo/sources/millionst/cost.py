"""What a data set will cost, before anything is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timo.sizes import size_text
from timo.sources.millionst.plan import ChipPlan
from timo.sources.millionst.quota import CONCURRENT, PER_SECOND

# Places whose images are listed with one request: some hundred images each, whose names are some 50 kB.
LISTED = 20
# What the codecs of the chip store leave of Sentinel-2's digital numbers, about (bit shuffle and zstd).
_COMPRESSED = (0.4, 0.7)
# What a request for the pixels of a place may take; nobody can say before.
_SECONDS = 10.0


@dataclass(frozen=True)
class Cost:
    """What is to be fetched.

    Attributes
    ----------
    places : int
        That are not in the store yet.
    listings, pixels : int
        Requests: for the names of images, and for pixels.
    bytes : int
        Of pixels, before compression, if every window has an image: to be fetched, and the most that the store grows.
    per_second : float
        Requests that may begin in a second.
    concurrent : int
        Requests that may be under way.
    """

    places: int
    listings: int
    pixels: int
    bytes: int
    per_second: float = PER_SECOND
    concurrent: int = CONCURRENT

    @property
    def requests(self) -> int:
        """All requests."""
        return self.listings + self.pixels

    @property
    def hours(self) -> float:
        """Least time that the quota of requests allows."""
        return self.requests / self.per_second / 3600

    def hours_at(self, seconds: float) -> float:
        """Time if each request takes so many seconds."""
        return max(self.hours, math.ceil(self.requests / self.concurrent) * seconds / 3600)

    def describe(self) -> str:
        """As text, for people."""
        usual = self.hours_at(_SECONDS)
        pace = size_text(self.bytes / (3600 * usual)) if usual else "nothing"
        low, high = (share * self.bytes for share in _COMPRESSED)
        lines = {
            "places": f"{self.places:,} to fetch",
            "requests": f"{self.requests:,}: {self.listings:,} for lists of images, {self.pixels:,} for pixels; more "
            "where a place is too cloudy and replaced, or a request fails and is made again",
            "to fetch": f"{size_text(self.bytes)} of pixels, before the network's compression",
            "on disk": f"{size_text(low)} to {size_text(high)}",
            "time": f"{hours(usual)} if a request takes {_SECONDS:g} s and {self.concurrent} are "
            f"under way, which is {pace} a second; at least {hours(self.hours)} at {self.per_second:g} requests a "
            "second",
            "EECU": "cannot be known before; Earth Engine counts it, and a project without charge has a monthly limit",
        }
        return "\n".join(f"{name:<10}{text}" for name, text in lines.items())


def estimate(
    plan: ChipPlan,
    present: int = 0,
    *,
    per_second: float = PER_SECOND,
    concurrent: int = CONCURRENT,
) -> Cost:
    """What the places of a plan cost of which so many are in the store."""
    places = max(0, plan.places - present)
    return Cost(
        places=places,
        listings=math.ceil(places / LISTED),
        pixels=places * plan.parts,
        bytes=places * plan.place_bytes,
        per_second=per_second,
        concurrent=concurrent,
    )


def hours(count: float) -> str:
    """Hours, in the unit that suits."""
    if count < 1 / 60:
        return f"{3600 * count:.3g} s"
    if count < 1:
        return f"{60 * count:.0f} min"
    return f"{count:.3g} h" if count < 72 else f"{count / 24:.3g} days"
