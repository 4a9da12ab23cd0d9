"""Ask Earth Engine for the images of a place, and for the pixels of those that were chosen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ee
import numpy as np
import pandas as pd

from timo.cancel import CancelledError
from timo.datasets.millionst.fetch import NODATA
from timo.datasets.millionst.plan import Image, RefusedError
from timo.errors import TimoError
from timo.sizes import size_text
from timo.sources.earthengine.connecting import without_client_retries
from timo.sources.earthengine.images import PROVIDER, filtered, prepared
from timo.sources.request import CubeRequest
from timo.sources.retry import GivenUpError, Retry

T = TypeVar("T")
# Shares of an image in percent, besides that of clouds, that will be masked. An image may lack them.
_UNSEEN = ("SNOW_ICE_PERCENTAGE", "NODATA_PIXEL_PERCENTAGE")
_MOST = int(np.iinfo("int16").max)


class Tally:
    """Counts of a run, from all threads: requests and bytes that arrived, and requests that were made again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests, self.bytes = 0, 0
        self.again: Counter[str] = Counter()

    def answered(self, size: int) -> None:
        """Count a request that succeeded."""
        with self._lock:
            self.requests += 1
            self.bytes += size

    def retried(self, kind: str) -> None:
        """Count a request that failed."""
        with self._lock:
            self.again[kind] += 1

    def __str__(self) -> str:
        again = ", ".join(f"{number} {kind}" for kind, number in sorted(self.again.items()))
        tried = f"{self.again.total()} tried again ({again})" if again else "none tried again"
        return f"{self.requests:,} requests, {tried}, {size_text(self.bytes)}"


@dataclass(frozen=True)
class EarthEngineChips:
    """Asks the Earth Engine that is connected; safe to call from many threads.

    `retry` says how patiently, and at which pace (`Retry.gate`); `tally` counts requests; once `stop` is set, no
    request is made any more.
    """

    retry: Retry = field(default_factory=Retry)
    tally: Tally = field(default_factory=Tally)
    stop: threading.Event = field(default_factory=threading.Event)

    def list_images(self, requests: Sequence[CubeRequest]) -> list[list[Image]]:
        """Return the images that meet each request, in order of time; one request to Earth Engine."""
        question = ee.List([_listing(request) for request in requests])
        answers: list[dict[str, Any]] = self._call(lambda: question.getInfo() or [], lambda _: 0)
        return [_read(answer) for answer in answers]

    def read(self, request: CubeRequest, dates: Sequence[tuple[Image, int]]) -> np.ndarray:
        """Return digital numbers (t, c, h, w) int16 of images, `NODATA` in all bands where one is masked.

        Numbers beyond 32,767 (reflectance 3.3) become 32,767.
        """
        grid = request.grid
        names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
        parameters = {
            "expression": chip_image(request, dates),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "dimensions": {"width": grid.width, "height": grid.height},
                "affineTransform": dict(zip(names, tuple(grid.transform)[:6], strict=True)),
                "crsCode": grid.crs,
            },
        }
        got = self._call(lambda: ee.data.computePixels(parameters), lambda array: int(array.nbytes))
        shape = (len(dates), len(request.bands), *grid.shape)
        # One field for each band, in order; each is a plane of the array.
        values = np.stack([got[name] for name in got.dtype.names or ()])
        if values.dtype != np.int16 or values.size != np.prod(shape):
            raise RefusedError(
                f"Earth Engine sent {values.shape} {values.dtype}, not {shape} int16"
            )
        return values.reshape(shape)

    def _call(self, function: Callable[[], T], size: Callable[[T], int]) -> T:
        try:
            with without_client_retries():
                answer = self.retry.call(
                    function,
                    stop=self.stop,
                    on_retry=lambda _, __, failure: self.tally.retried(failure.kind),
                )
        except (CancelledError, GivenUpError):
            raise
        except TimoError as error:
            raise RefusedError(str(error)) from None
        self.tally.answered(size(answer))
        return answer


def chip_image(request: CubeRequest, dates: Sequence[tuple[Image, int]]) -> ee.Image:
    """Return one image of all bands of all dates, date by date, int16."""
    collection = request.sensor.collection(PROVIDER).ids[0]
    layers = []
    for number, (image, _) in enumerate(dates):
        # By its id: nothing is searched for.
        one = prepared(ee.Image(f"{collection}/{image.index}"), request)
        layers.append(one.rename([f"{number}_{band}" for band in request.bands]))
    stored = ee.Image.cat(layers).min(_MOST).unmask(NODATA, False)
    return stored.toInt16()


def _listing(request: CubeRequest) -> ee.Dictionary:
    served = request.sensor.collection(PROVIDER)
    (images,) = filtered(request, served).values()
    names = ("system:index", "system:time_start", served.cloud_cover, *_UNSEEN)
    return ee.Dictionary({str(i): images.aggregate_array(name) for i, name in enumerate(names)})


def _read(answer: dict[str, Any]) -> list[Image]:
    indices, times, *shares = (answer.get(str(i)) or [] for i in range(3 + len(_UNSEEN)))
    # Values that are missing are left out of such a list: what does not have one for each image cannot be told apart.
    unseen = np.sum([s for s in shares if len(s) == len(indices)], axis=0)
    found = zip(indices, times, np.broadcast_to(unseen, len(indices)), strict=True)
    return [Image(str(i), pd.Timestamp(t, unit="ms"), float(share)) for i, t, share in found]
