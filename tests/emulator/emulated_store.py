"""A small store for the emulator, whose every number is known, and how its pixels are asked for."""

import ee
import numpy as np
from ee_emulator import BackedBand, BackedImage, Backing
from ee_emulator.grid import Grid, Projection
from ee_emulator.image import Band, Image, Pixels, Workspace
from ee_emulator.pixeltype import of_dtype

COLLECTION = "TEST/SMALL"
CRS = "EPSG:32634"
LEFT, TOP, SIDE = 600_000.0, 5_000_000.0, 10.0
HEIGHT, WIDTH = 6, 8
DAY = 86_400_000
FIRST = 1_546_300_800_000  # 2019-01-01
TRANSFORM = (SIDE, 0.0, LEFT, 0.0, -SIDE, TOP)
GRID = Grid(Projection(CRS, TRANSFORM), WIDTH, HEIGHT)


def numbers(image: int) -> np.ndarray:
    """Band A of an image: 100 x (image + 1) + position; the pixel at (image, 0) has no data."""
    values = 100 * (image + 1) + np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    values[image, 0] = 0
    return values.astype("uint16")


def small_backing(images: int = 3) -> Backing:
    """Images ten days apart: A uint16 (0 = no data), B float32 with a NaN, Q uint8, C uint16 at 20 m."""
    return Backing({COLLECTION: [_image(i) for i in range(images)]})


def _image(number: int) -> BackedImage:
    rng = np.random.default_rng(number)
    real = (numbers(number) / 7).astype("float32")
    real[0, 1] = np.nan
    bands = {
        "A": BackedBand(numbers(number), nodata=0),
        "B": BackedBand(real),
        "Q": BackedBand(rng.integers(0, 4, (HEIGHT, WIDTH)).astype("uint8"), policy="mode"),
        "C": BackedBand(np.arange(12, dtype="uint16").reshape(3, 4) + number, scale=20.0),
    }
    start = FIRST + number * 10 * DAY
    properties = {"CLOUD": 30.0 - 10 * number, "NAME": f"n{number}", "KINDS": ["x", f"k{number}"]}
    return BackedImage(f"i{number}", start, start + DAY, CRS, TRANSFORM, bands, properties)


def asked_grid(*, scale=SIDE, left=LEFT, top=TOP, width=WIDTH, height=HEIGHT, crs=CRS) -> dict:
    """A pixel grid as computePixels takes it."""
    affine = {
        "scaleX": scale,
        "shearX": 0,
        "translateX": left,
        "shearY": 0,
        "scaleY": -scale,
        "translateY": top,
    }
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": affine,
        "crsCode": crs,
    }


def image(number: int = 0) -> ee.Image:
    """An image of the store, as the client names it."""
    return ee.Image(f"{COLLECTION}/i{number}")


def pixels(image: ee.Image, **grid) -> np.ndarray:
    """A structured array (height, width), a field for each band."""
    request = {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": asked_grid(**grid)}
    return ee.data.computePixels(request)


def masked(image: ee.Image, **grid) -> np.ma.MaskedArray:
    """The first band of an image with its mask."""
    values, mask = pixels(image, **grid), pixels(image.mask(), **grid)
    name = values.dtype.names[0]
    return np.ma.masked_array(values[name], mask[name] == 0)


def local(values: np.ndarray, valid: np.ndarray | None = None, name: str = "v") -> Image:
    """An image of the evaluator itself, of an array, without a server; it knows its own grid only."""

    def source(grid: Grid, _: Workspace) -> Pixels:
        left = round((grid.projection.transform[2] - LEFT) / SIDE)
        top = round((TOP - grid.projection.transform[5]) / SIDE)
        around = [
            (max(0, -top), max(0, grid.height + top - values.shape[0])),
            (max(0, -left), max(0, grid.width + left - values.shape[1])),
        ]
        mask = np.ones(values.shape, bool) if valid is None else valid
        seen = Pixels(np.pad(values, around), np.pad(mask, around))
        if valid is None and not any(map(any, around)):
            return Pixels(values, None)
        return seen

    return Image((Band(name, of_dtype(values.dtype), source, GRID.projection),))


def local_pixels(image: Image, shape: tuple[int, int]) -> Pixels:
    """The pixels of such an image's first band."""
    grid = Grid(GRID.projection, shape[1], shape[0])
    return image.bands[0].at(grid, Workspace())
