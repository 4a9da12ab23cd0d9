"""What Earth Engine's documentation says, and the emulator must do. Each test names the page."""

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


@pytest.mark.parametrize(
    "operation", ["add", "subtract", "multiply", "divide", "gt", "eq", "And", "max"]
)
def test_only_where_both_inputs_are_unmasked_is_the_result_unmasked(operation):
    # https://developers.google.com/earth-engine/guides/image_math: "Only the intersection of unmasked pixels between
    # the two inputs are considered and returned as unmasked, all else are masked."
    first, second = image(0).select("A"), image(1).select("A")
    result = masked(getattr(first, operation)(second))
    expected = (numbers(0) == 0) | (numbers(1) == 0)
    np.testing.assert_array_equal(result.mask, expected)
    assert expected.sum() == 2


def test_a_constant_has_no_masked_pixels():
    # https://developers.google.com/earth-engine/guides/image_math: a constant term "is interpreted as a single-band
    # constant image with no masked pixels".
    np.testing.assert_array_equal(masked(image(0).select("A").add(1)).mask, numbers(0) == 0)


def test_a_mask_is_updated_only_where_the_existing_one_is_not_zero():
    # https://developers.google.com/earth-engine/apidocs/ee-image-updatemask: "Updates an image's mask at all positions
    # where the existing mask is not zero."
    layer = image(0).select("A")
    found = masked(layer.updateMask(layer.lte(120).unmask(1, False)))
    np.testing.assert_array_equal(found.mask, (numbers(0) == 0) | (numbers(0) > 120))


def test_unmask_fills_with_the_value():
    # https://developers.google.com/earth-engine/apidocs/ee-image-unmask: "Replaces mask and value of the input image
    # with the mask and value of another image at all positions where the input mask is zero."
    filled = masked(image(0).select("A").unmask(7))
    assert not filled.mask.any()
    np.testing.assert_array_equal(filled, np.where(numbers(0) == 0, 7, numbers(0)))


def test_unmask_stays_within_the_footprint_unless_told_otherwise():
    # The same page: "By default, the output image also retains the footprint of the input, but setting sameFootprint to
    # false allows to extend the footprint."
    wide = {"left": LEFT - 20 * SIDE, "width": WIDTH + 20}
    layer = image(0).select("A")
    assert masked(layer.unmask(7), **wide).mask[:, :19].all()
    assert not masked(layer.unmask(7, False), **wide).mask.any()


def test_the_median_is_that_of_the_unmasked_pixels():
    # https://developers.google.com/earth-engine/guides/ic_reducing: "the pixel value is the median of all unmasked
    # pixels in the input imagery".
    stack = np.ma.masked_equal([numbers(i) for i in range(3)], 0)
    found = masked(ee.ImageCollection(COLLECTION).select("A").median())
    np.testing.assert_array_equal(found, np.ma.median(stack, axis=0))
    # One of three is masked here: the mean of the two that are left.
    assert found[1, 0] == (float(numbers(0)[1, 0]) + numbers(2)[1, 0]) / 2


def test_reduce_appends_the_reducers_name_and_the_shorthand_does_not():
    # https://developers.google.com/earth-engine/guides/ic_reducing: "the names of the reducer have been appended to the
    # band names".
    collection = ee.ImageCollection(COLLECTION).select(["A", "B"])
    assert collection.median().bandNames().getInfo() == ["A", "B"]
    assert collection.reduce(ee.Reducer.median()).bandNames().getInfo() == ["A_median", "B_median"]


def test_reprojection_takes_the_nearest_neighbour():
    # https://developers.google.com/earth-engine/guides/resample: "Earth Engine performs nearest neighbor resampling by
    # default during reprojection."
    shifted = {"left": LEFT + 4, "top": TOP - 6, "width": WIDTH - 1, "height": HEIGHT - 1}
    found = pixels(image(1).select("A"), **shifted)["A"]
    # Centres 4 m to the right and 6 m down of the native ones: the same column, the next row.
    np.testing.assert_array_equal(found, numbers(1)[1:, : WIDTH - 1])


def test_reprojection_to_another_reference_system_takes_the_nearest_neighbour():
    import pyproj

    to_utm = pyproj.Transformer.from_crs(4326, CRS, always_xy=True)
    to_degrees = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True)
    lon, lat = to_degrees.transform(LEFT + WIDTH * SIDE / 2, TOP - HEIGHT * SIDE / 2)
    step = 5e-5
    found = pixels(
        image(2).select("A"), scale=step, left=lon, top=lat, width=5, height=4, crs="EPSG:4326"
    )["A"]
    columns, rows = np.meshgrid(
        lon + (np.arange(5) + 0.5) * step, lat - (np.arange(4) + 0.5) * step
    )
    x, y = to_utm.transform(columns, rows)
    inside = numbers(2)[
        ((TOP - y) // SIDE).astype(int).clip(0, 5), ((x - LEFT) // SIDE).astype(int).clip(0, 7)
    ]
    np.testing.assert_array_equal(found, inside)


@pytest.mark.parametrize(("scale", "level"), [(10, 1), (19, 1), (20, 2), (39, 2), (40, 4)])
def test_the_level_of_the_pyramid_is_the_closest_of_a_scale_less_or_equal(scale, level):
    # https://developers.google.com/earth-engine/guides/scale: "Earth Engine chooses a level of the pyramid with the
    # closest scale less than or equal to the scale specified by your analysis and resamples (using nearest neighbor by
    # default) as necessary", and "the pixel values of upper levels of the pyramid are the mean of pixels at the next
    # lower level".
    found = pixels(
        image(1).select("B"), scale=scale, top=TOP - 2 * 20, width=1, height=1, left=LEFT + 40
    )["B"]
    values = (numbers(1) / 7).astype("float32")
    row, column = 4 + int(scale / 2 // SIDE), 4 + int(scale / 2 // SIDE)
    row, column = row // level * level, column // level * level
    block = values[row : row + level, column : column + level]
    np.testing.assert_allclose(found[0, 0], block.mean(), rtol=1e-6)


def test_a_composite_of_different_projections_has_the_default_one():
    # https://developers.google.com/earth-engine/guides/projections: "Image collections reduced into composites or
    # mosaics with different projections will have a default WGS84 projection with a 1-degree scale."
    other = image(1).select("A").setDefaultProjection("EPSG:3035", None, 10)
    mixed = ee.ImageCollection([image(0).select("A"), other])
    for composite in (mixed.mean(), mixed.mosaic()):
        info = composite.projection().getInfo()
        assert (info["crs"], info["transform"]) == ("EPSG:4326", [1, 0, 0, 0, 1, 0])


def test_an_image_keeps_its_own_projection():
    info = image(0).select("A").projection().getInfo()
    assert (info["crs"], info["transform"]) == (CRS, [SIDE, 0, LEFT, 0, -SIDE, TOP])


def test_the_last_image_is_uppermost_in_a_mosaic():
    # https://developers.google.com/earth-engine/guides/ic_composite_mosaic: the images are overlaid "according to their
    # order in the collection (last on top)".
    found = masked(ee.ImageCollection(COLLECTION).select("A").mosaic())
    expected = np.where(numbers(2) > 0, numbers(2), numbers(1))
    np.testing.assert_array_equal(found, expected)


def test_of_several_modes_the_least_is_taken():
    # https://developers.google.com/earth-engine/apidocs/ee-imagecollection-mosaic: "If multiple mode values occur, the
    # minimum mode value is returned."
    images = ee.ImageCollection([ee.Image(value).toByte() for value in (7, 3, 7, 3, 9)])
    assert (masked(images.mode()) == 3).all()


def test_a_normalised_difference_masks_negative_inputs_and_loses_the_properties():
    # https://developers.google.com/earth-engine/apidocs/ee-image-normalizeddifference: "the input image properties are
    # not retained in the output image, and a negative pixel value in either input band will cause the output pixel to
    # be masked".
    layer = image(0).select("A")
    both = layer.addBands(layer.subtract(110))
    index = both.normalizedDifference()
    np.testing.assert_array_equal(masked(index).mask, numbers(0) < 110)
    assert index.bandNames().getInfo() == ["nd"]
    assert "properties" not in index.getInfo()


def test_division_by_zero_is_zero():
    # https://developers.google.com/earth-engine/apidocs/ee-image-divide: "returning 0 for division by 0".
    found = masked(image(0).select("A").divide(0))
    assert (found.compressed() == 0).all()
    assert found.mask.sum() == 1


def test_an_image_without_a_match_is_linked_to_masked_bands():
    # https://developers.google.com/earth-engine/apidocs/ee-image-linkcollection: "If a matching image is not found, any
    # new or updated bands will be fully masked".
    others = (
        ee.ImageCollection(COLLECTION).filter(ee.Filter.eq("NAME", "n1")).select(["A"], ["extra"])
    )
    linked = ee.ImageCollection(COLLECTION).linkCollection(others, ["extra"]).toList(3)
    shares = [1 - masked(ee.Image(linked.get(i)).select("extra")).mask.mean() for i in range(3)]
    assert shares[0] == shares[2] == 0
    assert shares[1] > 0.9


def test_a_request_for_more_bands_than_1024_is_refused():
    # https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels: "at most 32K pixels in
    # either dimension and at most 1024 bands. Requests exceeding these limits will result in an error code of 400".
    many = ee.Image.constant([1] * 1025).toByte()
    with pytest.raises(
        ee.EEException, match=r"Number of bands \(1025\) must be less than or equal"
    ):
        pixels(many)
    assert len(pixels(many.select(list(range(400)))).dtype) == 400


def test_a_request_of_more_than_10_mib_is_refused():
    # https://pygadm.readthedocs.io/en/stable/usage.html: "EEException: Request payload size exceeds the limit: 10485760
    # bytes."
    with pytest.raises(ee.EEException, match="Request payload size exceeds the limit: 10485760"):
        ee.String("x" * 10 * 2**20).getInfo()


def test_an_asset_has_a_version_and_what_is_computed_has_none():
    # https://developers.google.com/earth-engine/guides/image_info: image.get('system:version') is the "version number
    # (ingestion timestamp as microseconds since Unix epoch)".
    images = ee.ImageCollection(COLLECTION)
    versions = images.aggregate_array("system:version").getInfo()
    assert len(versions) == 3
    assert versions[0] == image(0).getInfo()["version"]
    # https://developers.google.com/earth-engine/apidocs/ee-imagecollection-aggregate_array: the list of all "values of
    # the selected property".
    computed = images.map(lambda i: ee.Image(i).add(1))
    assert computed.aggregate_array("system:version").getInfo() == []
