"""What each request of the protocol is answered with, apart from HTTP."""

from __future__ import annotations

import functools
import io
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import registry
from .backing import Backing, reading
from .errors import EngineError
from .functions.bands import chosen
from .functions.promotion import to_image
from .graph import Graph
from .grid import Grid, Projection, Transform
from .image import Image, Workspace
from .reply import as_json
from .tiles import painted, png, tile_grid

# https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels
MOST_BYTES = 48 * 2**20
MOST_PIXELS_A_SIDE = 32768
MOST_BANDS = 1024


class Service:
    """Answers over a store.

    Parameters
    ----------
    backing : Backing
        The store.
    """

    def __init__(self, backing: Backing) -> None:
        self.backing = backing
        self._shown: dict[str, Mapping[str, Any]] = {}
        self._numbers = itertools.count(1)

    def value(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer `value:compute`: the value of an expression."""
        with reading(self.backing):
            return {"result": as_json(_evaluated(body))}

    def pixels(self, body: Mapping[str, Any]) -> bytes:
        """Answer `image:computePixels`: an .npy of a structured array (height, width), or a PNG."""
        with reading(self.backing):
            image = _image(body, "computePixels")
            grid = _grid(body.get("grid") or {}, image)
            kind = body.get("fileFormat", "AUTO_JPEG_PNG")
            if kind == "NPY":
                return _npy(image, grid)
            if kind in {"PNG", "JPEG", "AUTO_JPEG_PNG"}:
                check_size(grid, 4)
                return png(painted(image, grid, body.get("visualizationOptions") or {}))
        raise EngineError(f"computePixels: the emulator writes NPY and PNG, and not {kind}.")

    def create_map(self, project: str, body: Mapping[str, Any]) -> dict[str, str]:
        """Answer `maps`: an image of which tiles can be asked for."""
        with reading(self.backing):
            pixel = Grid(Projection("EPSG:3857"), 1, 1)
            painted(_image(body, "maps"), pixel, body.get("visualizationOptions") or {})
        return self._remember(f"projects/{project}/maps", body)

    def create_thumbnail(self, project: str, body: Mapping[str, Any]) -> dict[str, str]:
        """Answer `thumbnails`: an image of which one picture can be asked for."""
        with reading(self.backing):
            _grid(body.get("grid") or {}, _image(body, "thumbnails"))
        return self._remember(f"projects/{project}/thumbnails", body)

    def _remember(self, parent: str, body: Mapping[str, Any]) -> dict[str, str]:
        name = f"{parent}/{next(self._numbers):032x}"
        self._shown[name] = body
        return {"name": name}

    def _known(self, name: str) -> Mapping[str, Any]:
        if name not in self._shown:
            raise EngineError(f"Map ID '{name}' not found or expired.", 404)
        return self._shown[name]

    def tile(self, name: str, zoom: int, column: int, row: int) -> bytes:
        """Answer `tiles`: a PNG of 256 x 256 pixels of Web Mercator."""
        body = self._known(name)
        with reading(self.backing):
            grid = tile_grid(zoom, column, row)
            return png(painted(_image(body, "tiles"), grid, body.get("visualizationOptions") or {}))

    def thumbnail(self, name: str) -> bytes:
        """Answer `thumbnails.getPixels`: the picture."""
        return self.pixels({**self._known(name), "fileFormat": "PNG"})

    def asset(self, name: str) -> dict[str, Any]:
        """Answer `assets.get`: what is known of a collection or an image."""
        name = name.partition("/assets/")[2]
        known = self.backing.collection(name)
        if known is not None:
            found = {"type": "IMAGE_COLLECTION", "properties": as_json(dict(known.properties))}
            return found | _asset_name(name)
        image = self.backing.image(name)
        if image is None:
            raise EngineError(
                f"Asset '{name}' not found (does not exist or caller does not have access).", 404
            )
        return _image_asset(name, image)

    def assets(self, parent: str, size: int, token: str) -> dict[str, Any]:
        """Answer `assets.listAssets`: the images of a collection, a page at a time; or the collections."""
        name = parent.partition("/assets/")[2]
        if not name:
            listed = [
                {"type": "IMAGE_COLLECTION"} | _asset_name(n) for n in self.backing.collections
            ]
            return {"assets": listed}
        known = self.backing.collection(name)
        if known is None:
            raise EngineError(
                f"Asset '{name}' not found (does not exist or caller does not have access).", 404
            )
        start = int(token or 0)
        page = list(known.elements[start : start + size])
        more = start + size < len(known.elements)
        return {"assets": [_image_asset(str(image.id), image) for image in page]} | (
            {"nextPageToken": str(start + size)} if more else {}
        )


def _evaluated(body: Mapping[str, Any]) -> Any:
    """Evaluate the expression in a request."""
    try:
        return Graph(body.get("expression") or {}).evaluate()
    except RecursionError as error:
        raise EngineError(
            "Computation is too complex: the expression is nested too deeply."
        ) from error


def _image(body: Mapping[str, Any], asked_by: str) -> Image:
    """Return the image that a request is about, with the bands that it asks for."""
    image, names = to_image(_evaluated(body), asked_by), body.get("bandIds")
    return image.with_bands(chosen(image, names)) if names else image


def _asset_name(name: str) -> dict[str, str]:
    return {"name": f"projects/earthengine-public/assets/{name}", "id": name}


def _image_asset(name: str, image: Image) -> dict[str, Any]:
    properties = {k: as_json(v) for k, v in image.properties.items() if not k.startswith("system:")}
    bands = [{"id": band.name} for band in image.bands]
    return {"type": "IMAGE", "properties": properties, "bands": bands} | _asset_name(name)


def _grid(asked: Mapping[str, Any], image: Image) -> Grid:
    """Return the grid of a request; what it does not say is the image's own."""
    affine = asked.get("affineTransform") or {}
    crs = asked.get("crsCode") or asked.get("crsWkt") or image.projection.crs
    keys = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    given: Any = tuple(float(affine.get(key, 0)) for key in keys)
    transform: Transform = given if affine else image.projection.transform
    if transform[0] * transform[4] == transform[1] * transform[3]:
        raise EngineError(
            f"The affine transform of the pixel grid is degenerate: {list(transform)}."
        )
    size = asked.get("dimensions") or {}
    own = next((band.size for band in image.bands if band.size), None)
    width, height = size.get("width"), size.get("height")
    if width is None or height is None:
        if own is None or affine:
            raise EngineError("Unable to compute the pixel grid: its dimensions must be given.")
        width, height = own
    grid = Grid(Projection(str(crs), transform), int(width), int(height))
    if min(grid.shape) < 1:
        raise EngineError(f"Pixel grid dimensions ({width}x{height}) must be positive.")
    return grid


def check_size(grid: Grid, itemsize: int) -> None:
    """Refuse a request for more pixels or bytes than the service computes at once."""
    if max(grid.shape) > MOST_PIXELS_A_SIDE:
        raise EngineError(
            f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {MOST_PIXELS_A_SIDE}."
        )
    size = math.prod(grid.shape) * itemsize
    if size > MOST_BYTES:
        raise EngineError(
            f"Total request size ({size} bytes) must be less than or equal to {MOST_BYTES} bytes."
        )


def _npy(image: Image, grid: Grid) -> bytes:
    """Return a structured array (height, width), a field for each band, in numpy's format; masked pixels are 0."""
    if not image.bands:
        raise EngineError("Image has no bands.")
    if len(image.bands) > MOST_BANDS:
        raise EngineError(
            f"Number of bands ({len(image.bands)}) must be less than or equal to {MOST_BANDS}."
        )
    check_size(grid, sum(band.type.dtype.itemsize for band in image.bands))
    found = np.zeros(grid.shape, dtype=[(band.name, band.type.dtype) for band in image.bands])
    work = Workspace()
    for band in image.bands:
        found[band.name] = band.at(grid, work).filled()
    stream = io.BytesIO()
    np.save(stream, found)
    return stream.getvalue()


@functools.cache
def discovery(url: str) -> bytes:
    """The description of the service, with the emulator's address in it."""
    document = json.loads(registry.shipped("cloud_api_discovery_document.json").read_text("utf-8"))
    document |= {"rootUrl": url + "/", "baseUrl": url + "/", "mtlsRootUrl": url + "/"}
    return json.dumps(document).encode()


@functools.cache
def algorithms() -> bytes:
    """The description of the algorithms."""
    return registry.shipped("algorithms.json").read_bytes()
