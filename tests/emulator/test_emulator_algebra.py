"""Laws of masks, types and composites, over any pixels."""

import numpy as np
from ee_emulator.functions import promotion  # noqa: F401  (the algorithms)
from ee_emulator.registry import call
from ee_emulator.values import Collection, made
from emulated_store import local, local_pixels
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPE = (4, 5)
WHOLE = st.sampled_from(["uint8", "int16", "uint16", "int32"])
MASKS = hnp.arrays(bool, SHAPE)
REALS = hnp.arrays("float32", SHAPE, elements=st.floats(-1e6, 1e6, width=32))
ARITHMETIC = st.sampled_from(
    [("add", np.add), ("subtract", np.subtract), ("multiply", np.multiply)]
)


@st.composite
def layers(draw, kinds=WHOLE):
    """Values and where they are valid."""
    return draw(hnp.arrays(draw(kinds), SHAPE)), draw(MASKS)


def of(image):
    return local_pixels(image, SHAPE)


@given(layers(), layers(), ARITHMETIC)
def test_whole_numbers_are_exact_and_fit_the_type(first, second, operation):
    name, compute = operation
    result = call(f"Image.{name}", {"image1": local(*first), "image2": local(*second)})
    pixels = of(result)
    exact = compute(first[0].astype("int64"), second[0].astype("int64"))
    valid = first[1] & second[1]
    np.testing.assert_array_equal(pixels.valid, valid)
    np.testing.assert_array_equal(pixels.values[valid].astype("int64"), exact[valid])
    assert pixels.values.dtype == result.bands[0].type.dtype
    low, high = result.bands[0].type.bounds
    assert low <= exact.min() <= exact.max() <= high


@given(layers(), MASKS, MASKS)
def test_masks_add_up(layer, first, second):
    image, one, two = local(*layer), local(first.astype("uint8")), local(second.astype("uint8"))
    twice = call(
        "Image.updateMask",
        {"image": call("Image.updateMask", {"image": image, "mask": one}), "mask": two},
    )
    both = call(
        "Image.updateMask",
        {"image": image, "mask": call("Image.and", {"image1": one, "image2": two})},
    )
    np.testing.assert_array_equal(of(twice).mask(), layer[1] & first & second)
    np.testing.assert_array_equal(of(both).mask(), of(twice).mask())
    np.testing.assert_array_equal(of(both).values, layer[0])


@given(layers(), st.integers(-(2**31), 2**31 - 1))
def test_unmask_fills_what_was_masked_and_nothing_else(layer, value):
    filled = of(
        call("Image.unmask", {"input": local(*layer), "value": value, "sameFootprint": False})
    )
    assert filled.mask().all()
    np.testing.assert_array_equal(
        filled.values, np.where(layer[1], layer[0].astype("int64"), value)
    )


@given(layers(), layers())
def test_a_mask_is_one_where_there_are_values(layer, other):
    mask = of(call("Image.mask", {"image": local(*layer)}))
    assert mask.mask().all()
    np.testing.assert_array_equal(mask.values, layer[1])
    replaced = of(
        call("Image.mask", {"image": local(*layer), "mask": local(other[1].astype("uint8"))})
    )
    np.testing.assert_array_equal(replaced.mask(), other[1])
    np.testing.assert_array_equal(replaced.values, np.where(layer[1], layer[0], 0))


def collection(stack):
    return Collection(made([local(values, valid) for values, valid in stack]))


@given(st.lists(st.tuples(REALS, MASKS), min_size=1, max_size=6))
def test_composites_ignore_what_is_masked(stack):
    values, valid = (np.stack(parts) for parts in zip(*stack, strict=True))
    seen = np.ma.masked_array(values.astype("float64"), ~valid)
    expected = {
        "median": np.ma.median(seen, axis=0),
        "mean": seen.mean(axis=0),
        "min": seen.min(axis=0),
        "max": seen.max(axis=0),
        "sum": seen.sum(axis=0),
    }
    for name, truth in expected.items():
        pixels = of(call(f"reduce.{name}", {"collection": collection(stack)}))
        some = valid.any(axis=0)
        np.testing.assert_array_equal(pixels.mask(), some)
        np.testing.assert_allclose(
            pixels.values[some], truth[some].astype("float32"), rtol=1e-5, atol=1e-2
        )
    count = of(call("reduce.count", {"collection": collection(stack)}))
    np.testing.assert_array_equal(count.filled(), valid.sum(axis=0))


@given(st.lists(layers(st.just("int16")), min_size=1, max_size=5), st.integers(0, 5))
def test_a_mosaic_of_mosaics_is_the_mosaic(stack, cut):
    cut = min(cut, len(stack))
    whole = of(call("ImageCollection.mosaic", {"collection": collection(stack)}))
    parts = [part for part in (stack[:cut], stack[cut:]) if part]
    halves = [call("ImageCollection.mosaic", {"collection": collection(part)}) for part in parts]
    nested = of(call("ImageCollection.mosaic", {"collection": Collection(made(halves))}))
    np.testing.assert_array_equal(nested.mask(), whole.mask())
    np.testing.assert_array_equal(nested.filled(), whole.filled())
    expected = np.zeros(SHAPE, "int16")
    for values, valid in stack:
        expected = np.where(valid, values, expected)
    np.testing.assert_array_equal(whole.filled(), expected)


@given(layers(), st.floats(0, 3), st.sampled_from(["circle", "square"]))
def test_the_greatest_around_a_pixel(layer, radius, shape):
    values, valid = layer
    found = of(
        call("Image.focalMax", {"image": local(*layer), "radius": radius, "kernelType": shape})
    )
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for (row, column), value in np.ndenumerate(found.filled(-1)):
        near = np.hypot(rows - row, columns - column) <= radius + 1e-9
        if shape == "square":
            near = np.maximum(abs(rows - row), abs(columns - column)) <= radius + 1e-9
        around = values[near & valid]
        assert found.mask()[row, column] == bool(around.size)
        if around.size:
            assert value == around.max()


@given(REALS, MASKS, st.floats(0.5, 3))
def test_the_least_around_is_the_greatest_of_the_opposite(values, valid, radius):
    least = of(call("Image.focalMin", {"image": local(values, valid), "radius": radius}))
    greatest = of(call("Image.focalMax", {"image": local(-values, valid), "radius": radius}))
    np.testing.assert_array_equal(least.mask(), greatest.mask())
    np.testing.assert_array_equal(least.filled(), -greatest.filled())


@given(REALS, st.sampled_from(["uint8", "int8", "uint16", "int16", "int32"]))
def test_a_cast_cuts_off_and_clamps(values, name):
    info = np.iinfo(name)
    found = of(call(f"Image.to{name.capitalize()}", {"value": local(values)})).values
    assert found.dtype == name
    np.testing.assert_array_equal(
        found, np.trunc(values.astype("float64")).clip(info.min, info.max)
    )


@given(
    layers(st.just("uint8")), st.dictionaries(st.integers(0, 255), st.integers(-9, 9), min_size=1)
)
def test_a_table_masks_what_is_not_in_it(layer, table):
    arguments = {"image": local(*layer), "from": list(table), "to": list(table.values())}
    found = of(call("Image.remap", arguments))
    known = np.isin(layer[0], list(table))
    np.testing.assert_array_equal(found.mask(), layer[1] & known)
    filled = of(call("Image.remap", {**arguments, "defaultValue": 5}))
    expected = [table.get(int(v), 5) for v in layer[0].ravel()]
    np.testing.assert_array_equal(filled.values.ravel(), expected)
    np.testing.assert_array_equal(filled.mask(), layer[1])
