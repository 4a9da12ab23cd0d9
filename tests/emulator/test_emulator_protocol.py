"""The server: the protocol, counts, limits, assets, maps, many requests at once; ee and xee as they are."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import ee
import numpy as np
import pytest
import requests
import xarray as xr
from ee_emulator import Emulator, EmulatorError
from emulated_store import (
    COLLECTION,
    CRS,
    DAY,
    FIRST,
    HEIGHT,
    TRANSFORM,
    WIDTH,
    asked_grid,
    numbers,
    pixels,
    small_backing,
)


@pytest.fixture(autouse=True)
def fresh(emulator):
    emulator.reset()


def opened(images: ee.ImageCollection, **options) -> xr.Dataset:
    grid = {"crs": CRS, "crs_transform": TRANSFORM, "shape_2d": (WIDTH, HEIGHT)}
    return xr.open_dataset(images, engine="ee", **{**grid, **options})


def test_xee_reads_a_collection(emulator):
    dataset = opened(ee.ImageCollection(COLLECTION).select(["A", "C"]))
    assert dataset.sizes == {"time": 3, "y": HEIGHT, "x": WIDTH}
    expected = np.array([FIRST + i * 10 * DAY for i in range(3)], dtype="datetime64[ms]")
    np.testing.assert_array_equal(dataset.time, expected)
    assert emulator.requests["value"] == 1
    assert emulator.requests["pixels"] == 0
    stack = np.stack([numbers(i) for i in range(3)]).astype("float32")
    np.testing.assert_array_equal(dataset.A, np.where(stack == 0, np.nan, stack))
    np.testing.assert_array_equal(dataset.C[2].values[::2, ::2], np.arange(12).reshape(3, 4) + 2)
    assert emulator.requests["pixels"] == 2 == sum(entry.kind == "pixels" for entry in emulator.log)


def test_xee_reads_a_window_of_a_computed_collection(emulator):
    def prepared(image):
        return (
            image.select("A")
            .multiply(0.5)
            .updateMask(image.select("A").lt(230))
            .copyProperties(image, ["system:time_start"])
        )

    images = ee.ImageCollection(COLLECTION).map(prepared)
    part = opened(images, io_chunks={"time": 1, "x": 4, "y": 3}).A[1:, 1:4, 2:5].load()
    expected = numbers(1)[1:4, 2:5].astype("float32")
    expected[(expected == 0) | (expected >= 230)] = np.nan
    np.testing.assert_array_equal(part[0], expected / 2)
    assert emulator.requests["pixels"] == 2


def test_xee_reads_a_collection_by_its_name():
    assert opened(f"ee://{COLLECTION}").sizes["time"] == 3


def test_statuses_are_counted(emulator):
    with pytest.raises(ee.EEException, match="not found"):
        ee.ImageCollection("NO/SUCH").size().getInfo()
    ee.Number(1).getInfo()
    assert emulator.requests == {"value": 2, 200: 1, 400: 1}
    assert "not found" in emulator.log[0].message
    assert emulator.log[1].seconds >= 0


LIMITS = {
    "bytes": (
        {"width": 5000, "height": 5034},
        r"Total request size \(50340000 bytes\) must be less than or equal to",
    ),
    "width": (
        {"width": 32769, "height": 1},
        r"Pixel grid dimensions \(32769x1\) must be less than or equal to 32768",
    ),
    "nothing": ({"width": 0, "height": 1}, r"Pixel grid dimensions \(0x1\) must be positive"),
    "scale": ({"scale": 0}, "affine transform of the pixel grid is degenerate"),
    "reference system": ({"crs": "EPSG:1"}, "could not be parsed: 'EPSG:1'"),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_request_has_limits(case):
    grid, message = LIMITS[case]
    with pytest.raises(ee.EEException, match=message):
        pixels(ee.Image(f"{COLLECTION}/i0").select("A"), **grid)


def test_the_largest_request_is_answered():
    # 48 MiB to the byte.
    found = pixels(ee.Image(1).toInt32(), width=4096, height=3072)
    assert found.nbytes == 48 * 2**20
    assert (found["constant"] == 1).all()


def test_the_images_own_grid_is_taken_where_none_is_asked_for():
    image = ee.Image(f"{COLLECTION}/i1").select("A")
    found = ee.data.computePixels({"expression": image, "fileFormat": "NUMPY_NDARRAY"})
    np.testing.assert_array_equal(found["A"], numbers(1))
    chosen = ee.data.computePixels(
        {
            "expression": ee.Image(f"{COLLECTION}/i1"),
            "fileFormat": "NUMPY_NDARRAY",
            "bandIds": ["Q"],
        }
    )
    assert chosen.dtype.names == ("Q",)


def test_a_picture():
    from PIL import Image

    request = {
        "expression": ee.Image(f"{COLLECTION}/i1").select("A"),
        "fileFormat": "PNG",
        "grid": asked_grid(),
        "visualizationOptions": {"ranges": [{"min": 200, "max": 247}]},
    }
    picture = np.asarray(Image.open(io.BytesIO(ee.data.computePixels(request))))
    assert picture.shape == (HEIGHT, WIDTH, 4)
    share = (numbers(1).astype(float).clip(200) - 200) / 47
    np.testing.assert_array_equal(picture[..., 0], np.round(share * 255))
    np.testing.assert_array_equal(picture[..., 3], 255 * (numbers(1) > 0))


def test_other_formats_are_refused():
    with pytest.raises(ee.EEException, match="writes NPY and PNG, and not GEO_TIFF"):
        ee.data.computePixels(
            {"expression": ee.Image(1), "fileFormat": "GEO_TIFF", "grid": asked_grid()}
        )


def test_assets_are_listed():
    listed = ee.data.listAssets({"parent": COLLECTION})
    assert [asset["id"] for asset in listed["assets"]] == [f"{COLLECTION}/i{i}" for i in range(3)]
    first = ee.data.listAssets({"parent": COLLECTION, "pageSize": 2})
    assert len(first["assets"]) == 2
    rest = ee.data.listAssets(
        {"parent": COLLECTION, "pageSize": 2, "pageToken": first["nextPageToken"]}
    )
    assert [asset["id"] for asset in rest["assets"]] == [f"{COLLECTION}/i2"]
    assert ee.data.getAsset(COLLECTION)["type"] == "IMAGE_COLLECTION"
    assert ee.data.getAsset(f"{COLLECTION}/i1")["properties"]["NAME"] == "n1"
    with pytest.raises(ee.EEException, match="not found"):
        ee.data.getAsset("NO/SUCH")


def test_a_map_has_tiles(emulator):
    from PIL import Image

    image = ee.Image(f"{COLLECTION}/i1").select("A")
    made = image.getMapId({"min": 200, "max": 247, "palette": ["red", "0000ff"]})
    lon, lat = image.geometry().centroid().coordinates().getInfo()
    zoom = 16
    column = int((lon + 180) / 360 * 2**zoom)
    row = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom)
    answer = requests.get(
        made["tile_fetcher"].url_format.format(x=column, y=row, z=zoom), timeout=30
    )
    assert answer.headers["Content-Type"] == "image/png"
    tile = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert tile.shape == (256, 256, 4)
    shown = tile[tile[..., 3] > 0]
    # 80 m x 60 m of an image, at some 1.7 m a pixel.
    assert 800 < len(shown) < 3000
    assert (shown[:, 1] == 0).all()
    assert np.ptp(shown[:, 0]) > 200
    assert (emulator.requests["maps"], emulator.requests["tiles"]) == (1, 1)
    elsewhere = requests.get(made["tile_fetcher"].url_format.format(x=0, y=0, z=3), timeout=30)
    assert not np.asarray(Image.open(io.BytesIO(elsewhere.content)))[..., 3].any()


def test_a_thumbnail_is_a_picture_of_a_region(emulator):
    from PIL import Image

    image = ee.Image(f"{COLLECTION}/i1").select("A")
    left, top = TRANSFORM[2], TRANSFORM[5]
    whole = ee.Geometry.Rectangle([left, top - 60, left + 80, top], CRS, False)
    shown = image.getThumbURL({"min": 200, "max": 247, "region": whole, "dimensions": 40})
    answer = requests.get(shown, timeout=30)
    assert answer.headers["Content-Type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape[1] == 40
    assert picture.shape[0] == pytest.approx(30, abs=2)
    assert picture[-5, -5, 0] > picture[5, 5, 0]
    own = requests.get(image.getThumbURL({"min": 200, "max": 247}), timeout=30)
    assert np.asarray(Image.open(io.BytesIO(own.content))).shape == (HEIGHT, WIDTH, 4)
    with pytest.raises(ee.EEException, match="dimensions must be given"):
        ee.Image(1).getThumbURL()


def test_a_map_of_nothing_is_refused_at_once():
    with pytest.raises(ee.EEException, match="did not match any bands"):
        ee.Image(f"{COLLECTION}/i1").getMapId({"bands": ["B99"]})


def test_many_requests_at_once(emulator):
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda n: pixels(ee.Image(n).toInt32())["constant"][0, 0], range(64)))
    assert found == list(range(64))
    assert emulator.requests["pixels"] == 64


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON payload"),
        (b"[]", "Invalid JSON payload"),
        (b"{}", "must have 'values' and 'result'"),
        (b'{"expression": {"result": "1", "values": {}}}', "Invalid value reference '1'"),
        (
            b'{"expression": {"result": "1", "values": {"1": {"oddValue": 1}}}}',
            "unknown kind of value: oddValue",
        ),
    ],
)
def test_a_malformed_request_is_refused(emulator, body, message):
    url = f"{emulator.url}/v1/projects/p/value:compute"
    answer = requests.post(url, data=body, timeout=30)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_an_unknown_request_is_refused_by_name(emulator):
    answer = requests.get(f"{emulator.url}/v1/projects/p/operations", timeout=30)
    assert answer.status_code == 404
    assert "GET /v1/projects/p/operations" in answer.json()["error"]["message"]


def test_the_address_is_that_of_a_running_server():
    stopped = Emulator(small_backing())
    with pytest.raises(EmulatorError, match="does not run"):
        _ = stopped.url
    url = stopped.start().url
    assert stopped.start().url == url
    stopped.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_a_graph_is_evaluated_once_where_it_is_used_twice(emulator):
    # A chain in which every step uses the one before twice: 2**60 evaluations unless each is remembered.
    values = {"0": {"constantValue": 1}}
    for step in range(1, 61):
        both = {
            "left": {"valueReference": str(step - 1)},
            "right": {"valueReference": str(step - 1)},
        }
        values[str(step)] = {
            "functionInvocationValue": {"functionName": "Number.add", "arguments": both}
        }
    body = json.dumps({"expression": {"result": "60", "values": values}})
    answer = requests.post(f"{emulator.url}/v1/projects/p/value:compute", data=body, timeout=30)
    assert answer.json()["result"] == 2**60


def test_what_does_not_depend_on_an_argument_is_evaluated_once(emulator, monkeypatch):
    asked = []
    backing = emulator.service.backing
    original = backing.collection
    monkeypatch.setattr(backing, "collection", lambda name: asked.append(name) or original(name))
    found = ee.List.sequence(1, 9).map(lambda n: ee.ImageCollection(COLLECTION).size().add(n))
    assert found.getInfo() == list(range(4, 13))
    assert asked == [COLLECTION]
