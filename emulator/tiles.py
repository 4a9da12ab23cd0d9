"""Pictures of images: the visual parameters, Web Mercator's tiles, PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import EngineError
from .grid import Grid, Projection
from .image import Image, Pixels, Workspace
from .pixeltype import PixelType

_HALF = math.pi * 6378137
_SIDE = 256


def tile_grid(zoom: int, column: int, row: int) -> Grid:
    """Return the pixels of a tile."""
    if not 0 <= row < 2**zoom:
        raise EngineError(f"There is no tile {zoom}/{column}/{row}.", 404)
    pixel = 2 * _HALF / 2**zoom / _SIDE
    left, top = column % 2**zoom * _SIDE * pixel - _HALF, _HALF - row * _SIDE * pixel
    return Grid(Projection("EPSG:3857", (pixel, 0.0, left, 0.0, -pixel, top)), _SIDE, _SIDE)


def painted(
    image: Image, grid: Grid, options: Mapping[str, Any], work: Workspace | None = None
) -> np.ndarray:
    """Paint an image.

    Parameters
    ----------
    image : Image
        One band, or three for red, green and blue.
    grid : Grid
        Its pixels.
    options : mapping
        `ranges` ({min, max} for each band), `paletteColors`, `gamma`, `opacity`, as the protocol has them.
    work : Workspace, optional
        Where what is computed is kept.

    Returns
    -------
    numpy.ndarray
        (height, width, 4) uint8: red, green, blue, opacity.
    """
    palette = options.get("paletteColors")
    bands = image.bands[:1] if palette or len(image.bands) < 3 else image.bands[:3]
    if not bands:
        raise EngineError("Image.visualize: No bands to visualize.")
    if palette and len(image.bands) > 1:
        raise EngineError(
            "Image.visualize: Cannot provide a palette when visualizing more than one band."
        )
    ranges = _ranges(options.get("ranges"), [band.type for band in bands])
    work = work or Workspace()
    layers = [band.at(grid, work) for band in bands]
    shares = [_share(pixels, *ends) for pixels, ends in zip(layers, ranges, strict=True)]
    gamma = (options.get("gamma") or {}).get("values") or [1.0]
    shares = [share ** (1 / gamma[min(i, len(gamma) - 1)]) for i, share in enumerate(shares)]
    colours = _coloured(shares[0], palette) if palette else np.stack((shares * 3)[:3], axis=-1)
    valid = np.all([pixels.mask() for pixels in layers], axis=0)
    opacity = options.get("opacity")
    alpha = valid * (1.0 if opacity is None else float(opacity))
    both = np.concatenate([colours * valid[..., None], alpha[..., None]], axis=-1)
    return np.round(both * 255).astype("uint8")


def _ranges(given: Any, types: list[PixelType]) -> list[tuple[float, float]]:
    """Return what becomes black and what becomes white, for each band."""
    if not given:
        return [_whole_range(kind) for kind in types]
    return [
        (float(r.get("min", _whole_range(kind)[0])), float(r.get("max", _whole_range(kind)[1])))
        for r, kind in zip(_repeated(given, len(types)), types, strict=True)
    ]


def _repeated(values: list[Any], size: int) -> list[Any]:
    return values * size if len(values) == 1 else values[:size]


def _whole_range(kind: PixelType) -> tuple[float, float]:
    if not kind.is_int:
        return 0.0, 1.0
    low, high = kind.bounds
    return float(low), float(high)


def _share(pixels: Pixels, low: float, high: float) -> np.ndarray:
    """Return where between the two ends the values are, 0..1."""
    span = high - low or 1.0
    return ((pixels.filled().astype("float64") - low) / span).clip(0, 1)


def _coloured(share: np.ndarray, palette: list[str]) -> np.ndarray:
    """Return the colours of a palette, between them in proportion, (height, width, 3)."""
    # matplotlib takes a second to import, and a palette is all that needs it.
    from matplotlib.colors import to_rgb

    try:
        colours = np.array([to_rgb(_named(colour)) for colour in palette])
    except ValueError as error:
        raise EngineError(f"Image.visualize: Invalid color in palette {palette}.") from error
    if len(colours) == 1:
        colours = np.repeat(colours, 2, axis=0)
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(share, stops, column) for column in colours.T], axis=-1)


def _named(colour: str) -> str:
    """Return a colour as matplotlib reads it: hexadecimal ones may lack their #."""
    digits = colour.removeprefix("#")
    is_hex = len(digits) in {3, 6} and all(c in "0123456789abcdefABCDEF" for c in digits)
    return f"#{digits}" if is_hex else colour


def png(colours: np.ndarray) -> bytes:
    """Encode colours (height, width, 4) uint8 as a PNG."""
    # As with matplotlib above: only pictures need it.
    from PIL import Image as Picture

    stream = io.BytesIO()
    Picture.fromarray(colours).save(stream, "PNG")
    return stream.getvalue()
