"""Images: their bands, types, maths, neighbourhoods, projections and pictures, asked for by the real client."""

import ee
import numpy as np
import pytest
from emulated_store import (
    COLLECTION,
    CRS,
    HEIGHT,
    LEFT,
    SIDE,
    TOP,
    WIDTH,
    image,
    masked,
    numbers,
    pixels,
)

pytestmark = pytest.mark.usefixtures("emulator")


def kind(of: ee.Image) -> dict:
    found = of.getInfo()["bands"][0]["data_type"]
    return {key: found[key] for key in ("precision", "min", "max") if key in found}


TYPES = {
    "as stored": (lambda a: a, {"precision": "int", "min": 0, "max": 65535}, "uint16"),
    "sum": (lambda a: a.add(1), {"precision": "int", "min": 1, "max": 65536}, "uint32"),
    "difference": (lambda a: a.subtract(1), {"precision": "int", "min": -1, "max": 65534}, "int32"),
    "product": (lambda a: a.multiply(-1), {"precision": "int", "min": -65535, "max": 0}, "int32"),
    "with a double": (lambda a: a.multiply(0.5), {"precision": "double"}, "float64"),
    "quotient": (lambda a: a.divide(2), {"precision": "float"}, "float32"),
    "comparison": (lambda a: a.gt(120), {"precision": "int", "min": 0, "max": 1}, "uint8"),
    "cast": (lambda a: a.toFloat(), {"precision": "float"}, "float32"),
    "filled": (
        lambda a: a.unmask(2147483647),
        {"precision": "int", "min": 0, "max": 2147483647},
        "uint32",
    ),
    "clamped": (lambda a: a.clamp(5, 7), {"precision": "int", "min": 5, "max": 7}, "uint8"),
}


@pytest.mark.parametrize("case", TYPES)
def test_the_type_of_a_result(case):
    compute, info, dtype = TYPES[case]
    result = compute(image().select("A"))
    assert kind(result) == info
    assert pixels(result).dtype[0] == dtype


def test_what_an_image_tells():
    info = image().getInfo()
    assert (info["type"], info["id"]) == ("Image", f"{COLLECTION}/i0")
    assert [band["id"] for band in info["bands"]] == ["A", "B", "Q", "C"]
    assert info["bands"][0]["dimensions"] == [WIDTH, HEIGHT]
    assert info["bands"][3]["crs_transform"] == [20, 0, LEFT, 0, -20, TOP]
    assert info["properties"]["system:footprint"]["type"] == "Polygon"


def test_choosing_and_naming_bands():
    def names(of):
        return of.bandNames().getInfo()

    whole = image()
    assert names(whole.select("[AB]")) == ["A", "B"]
    assert names(whole.select([2, "A"])) == ["Q", "A"]
    assert names(whole.select(["A", "Q"], ["x", "y"])) == ["x", "y"]
    assert names(whole.addBands(whole.select("A"))) == ["A", "B", "Q", "C", "A_1"]
    assert names(whole.addBands(whole.select("B").rename("A"), None, True)) == ["A", "B", "Q", "C"]
    assert names(ee.Image.cat([whole.select("A"), 5])) == ["A", "constant"]
    assert names(ee.ImageCollection(COLLECTION).select("A").toBands()) == ["i0_A", "i1_A", "i2_A"]
    assert names(ee.Image.constant([1, 2])) == ["constant", "constant_1"]


def test_an_empty_image_is_masked():
    assert masked(ee.Image()).mask.all()


def test_masked_pixels_are_zero_in_an_answer():
    assert pixels(image().select("A"))["A"][0, 0] == 0
    assert pixels(image().select("A").add(5))["A"][0, 0] == 0


def test_several_bands_in_one_answer():
    found = pixels(image().select(["A", "C"]))
    assert found.dtype.names == ("A", "C")
    np.testing.assert_array_equal(found["A"], numbers(0))
    np.testing.assert_array_equal(found["C"], np.arange(12).reshape(3, 4).repeat(2, 0).repeat(2, 1))


def test_outside_the_image_is_masked():
    wide = masked(image().select("A"), left=LEFT - 2 * SIDE, width=WIDTH + 4)
    assert wide.mask[:, :2].all()
    assert wide.mask[:, -2:].all()
    np.testing.assert_array_equal(wide.data[:, 2:-2], numbers(0))


def test_where_changes_nothing_that_is_masked():
    layer = image().select("A")
    changed = masked(layer.where(layer.gt(120), layer.multiply(10)))
    np.testing.assert_array_equal(changed.mask, numbers(0) == 0)
    expected = np.where(numbers(0) > 120, numbers(0) * 10, numbers(0))
    np.testing.assert_array_equal(changed.compressed(), expected[numbers(0) > 0])
    untouched = masked(layer.where(layer.unmask(0).gte(0), ee.Image().select(0)))
    np.testing.assert_array_equal(untouched, masked(layer))


EXPRESSIONS = {
    "b('A') + 1": lambda a, _: a + 1,
    "(b('B') - b('A')) / (b('B') + b('A'))": lambda a, b: (b - a) / (b + a),
    "-b(0) ** 2": lambda a, _: -(a**2),
    "b('A') > 110 && b('B') < 18 ? 1 : -1": lambda a, b: np.where((a > 110) & (b < 18), 1, -1),
    "x.A * 2 + other": lambda a, _: a * 2 + 3,
    "sqrt(abs(b('A') - 120)) + max(b('A'), 130)": lambda a, _: (
        np.sqrt(abs(a - 120)) + np.maximum(a, 130)
    ),
    "y = b('A') % 7 == 3 || !(b('A') != 101)": lambda a, _: (a % 7 == 3) | (a == 101),
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression(text):
    found = masked(image().expression(text, {"x": image(), "other": 3}))
    a = np.ma.masked_equal(numbers(0), 0).astype("float64")
    b = np.ma.masked_array((numbers(0) / 7).astype("float32").astype("float64"))
    b[0, 1] = np.ma.masked
    expected = np.ma.array(EXPRESSIONS[text](a, b))
    if "b('B')" in text:
        expected = np.ma.masked_where(np.ma.getmaskarray(a) | np.ma.getmaskarray(b), expected)
    np.testing.assert_array_equal(found.mask, np.ma.getmaskarray(expected))
    np.testing.assert_allclose(
        found.compressed(), expected.compressed().astype("float64"), rtol=1e-5
    )


def test_a_logarithm_of_nothing_is_masked():
    layer = image().select("A").subtract(110)
    np.testing.assert_array_equal(masked(layer.log10()).mask, numbers(0) <= 110)


def test_bits():
    layer = image().select("A")
    high = pixels(layer.rightShift(3).bitwiseAnd(3))["A"]
    np.testing.assert_array_equal(high, (numbers(0) >> 3) & 3)
    np.testing.assert_array_equal(pixels(layer.leftShift(2))["A"], numbers(0).astype("int64") << 2)


def test_kernels_in_metres_are_those_of_the_grid():
    peak = image().select("A").eq(120).unmask(0)
    by_pixels = pixels(peak.focalMax(2, "circle", "pixels"))["A"]
    np.testing.assert_array_equal(pixels(peak.focalMax(20, "circle", "meters"))["A"], by_pixels)
    assert by_pixels.sum() == 13
    assert pixels(peak.focalMax(1, "square"))["A"].sum() == 9
    assert pixels(peak.focalMax(1, "square", iterations=2))["A"].sum() == 25
    np.testing.assert_array_equal(pixels(peak.focalMax(kernel=ee.Kernel.circle(2)))["A"], by_pixels)


def test_a_neighbourhood_reaches_beyond_the_request():
    layer = image(1).select("A")
    whole = pixels(layer.focalMax(2))["A"]
    part = pixels(layer.focalMax(2), left=LEFT + 3 * SIDE, width=2)["A"]
    np.testing.assert_array_equal(part, whole[:, 3:5])


def test_bands_are_reduced():
    both = image().select(["A", "C"])
    np.testing.assert_array_equal(
        masked(both.reduce(ee.Reducer.max())), np.ma.masked_equal(numbers(0), 0).clip(11, None)
    )
    assert both.mask().reduce(ee.Reducer.min()).bandNames().getInfo() == ["min"]
    assert masked(both.reduce(ee.Reducer.allNonZero())).min() == 0


def test_where_pixels_are():
    import pyproj

    found = pixels(ee.Image.pixelLonLat())
    x, y = pyproj.Transformer.from_crs(4326, CRS, always_xy=True).transform(
        found["longitude"], found["latitude"]
    )
    np.testing.assert_allclose(x[0], LEFT + (np.arange(WIDTH) + 0.5) * SIDE, atol=1e-4)
    np.testing.assert_allclose(y[:, 0], TOP - (np.arange(HEIGHT) + 0.5) * SIDE, atol=1e-4)
    np.testing.assert_allclose(pixels(ee.Image.pixelArea())["area"], 100, rtol=2e-3)


def test_clip_masks_outside():
    half = ee.Geometry.Rectangle([LEFT, TOP - 60, LEFT + 40, TOP], CRS, False)
    found = masked(image(1).select("C").clip(half))
    assert not found.mask[:, :4].any()
    assert found.mask[:, 4:].all()


def test_statistics_of_a_region():
    layer = image().select(["A", "B"])
    whole = layer.reduceRegion(ee.Reducer.mean(), image().geometry().buffer(20), 10).getInfo()
    assert whole["A"] == pytest.approx(numbers(0)[numbers(0) > 0].mean())
    both = ee.Reducer.min().combine(ee.Reducer.count(), "", True)
    named = layer.select("A").reduceRegion(both, image().geometry().buffer(20), 10).getInfo()
    assert named == {"A_min": 101, "A_count": 47}
    with pytest.raises(
        ee.EEException,
        match=r"Too many pixels in the region. Found \d+, but maxPixels allows only 10",
    ):
        layer.reduceRegion(ee.Reducer.mean(), image().geometry(), 10, maxPixels=10).getInfo()


def test_colours():
    drawn = pixels(image(1).select("A").visualize(min=200, max=240, palette=["000000", "white"]))
    assert drawn.dtype.names == ("vis-red", "vis-green", "vis-blue")
    expected = np.round((numbers(1).astype(float).clip(200, 240) - 200) / 40 * 255)
    expected[numbers(1) == 0] = 0
    np.testing.assert_array_equal(drawn["vis-red"], expected)


def test_colours_of_three_bands_and_gamma():
    drawn = pixels(
        image(1).select(["A", "A", "C"]).visualize(min=[200, 0, 0], max=[240, 255, 11], gamma=2)
    )
    share = (numbers(1).astype(float).clip(200, 240) - 200) / 40
    assert drawn["vis-red"][3, 3] == np.round(255 * np.sqrt(share[3, 3]))
    grey = image(1).select("A").visualize(min=0, max=300)
    assert grey.bandNames().getInfo() == ["vis-gray"]


def test_each_pixel_of_a_region_becomes_a_feature():
    half = ee.Geometry.Rectangle([LEFT, TOP - 60, LEFT + 40, TOP], CRS, False)
    region = ee.Feature(half, {"kind": 7, "name": "half"})
    found = image(1).select(["A", "C"]).sampleRegions(region, ["kind"], 10, geometries=True)
    samples = [feature["properties"] for feature in found.getInfo()["features"]]
    # One of the 24 pixels has no data.
    assert sorted(sample["A"] for sample in samples) == sorted(
        numbers(1)[:, :4][numbers(1)[:, :4] > 0].tolist()
    )
    assert {tuple(sorted(sample)) for sample in samples} == {("A", "C", "kind", "system:index")}
    points = found.geometry().coordinates().getInfo()
    assert len(points) == 23


def test_points_are_in_the_pixels_that_hold_them():
    import pyproj

    to_degrees = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True)
    places = [
        to_degrees.transform(LEFT + 10 * x + 9, TOP - 10 * y - 1) for x, y in ((2, 3), (5, 1))
    ]
    found = (
        image(1).select("A").reduceRegion(ee.Reducer.toList(), ee.Geometry.MultiPoint(places), 10)
    )
    assert sorted(found.getInfo()["A"]) == sorted([numbers(1)[3, 2], numbers(1)[1, 5]])
