"""Where chips come from, as the fetching sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from timo.errors import TimoError
from timo.sources.request import CubeRequest


@dataclass(frozen=True)
class Image:
    """What the catalogue says of an image: its index, start in UTC, and percent of it that will be masked."""

    index: str
    time: pd.Timestamp
    unseen: float


class RefusedError(TimoError):
    """The source says that it will never answer this request."""


class Source(Protocol):
    """Images of places; called from many threads."""

    def list_images(self, requests: Sequence[CubeRequest]) -> list[list[Image]]:
        """The images that meet each request."""

    def read(self, request: CubeRequest, dates: Sequence[tuple[Image, int]]) -> np.ndarray:
        """Digital numbers (t, c, h, w) int16 of images, `NODATA` in all bands where one is masked."""
