"""Numbers, strings, lists, dictionaries, dates, filters, geometries and reducers, asked for by the real client."""

import ee
import pytest
from emulated_store import COLLECTION, DAY, FIRST

pytestmark = pytest.mark.usefixtures("emulator")


def images() -> ee.ImageCollection:
    return ee.ImageCollection(COLLECTION)


NOON = "2019-03-31T12:00:00"
VALUES = {
    "whole number": (lambda: ee.Number(7).add(3), 10),
    "quotient": (lambda: ee.Number(7).divide(2), 3.5),
    "quotient by zero": (lambda: ee.Number(7).divide(0), 0),
    "remainder": (lambda: ee.Number(-7).mod(3), -1),
    "bits": (lambda: ee.Number(1).leftShift(5).bitwiseOr(3).rightShift(1), 17),
    "clamped": (lambda: ee.Number(300).toByte(), 255),
    "formatted": (lambda: ee.Number(3.14159).format("%.2f"), "3.14"),
    "number of text": (lambda: ee.Number.parse("2.5"), 2.5),
    "text": (lambda: ee.String("a").cat(ee.Number(3).format("%02d")), "a03"),
    "replaced": (lambda: ee.String("B8A").replace("B(\\d)", "band$1"), "band8A"),
    "split": (lambda: ee.String("a_b_c").split("_"), ["a", "b", "c"]),
    "sequence": (lambda: ee.List.sequence(1, 7, 2), [1, 3, 5, 7]),
    "counted": (lambda: ee.List.sequence(0, 1, None, 3), [0, 0.5, 1]),
    "mapped": (lambda: ee.List([1, 2]).map(lambda x: ee.Number(x).multiply(x)), [1, 4]),
    "nested": (
        lambda: ee.List([1, 2]).map(lambda x: ee.List([10, 20]).map(lambda y: ee.Number(x).add(y))),
        [[11, 21], [12, 22]],
    ),
    "iterated": (lambda: ee.List([1, 2, 3]).iterate(lambda x, s: ee.Number(x).add(s), 10), 16),
    "zipped": (lambda: ee.List([1, 2]).zip(["a", "b"]), [[1, "a"], [2, "b"]]),
    "flat": (lambda: ee.List([1, [2, [3]]]).flatten(), [1, 2, 3]),
    "distinct": (lambda: ee.List([3, 1, 3, 1]).distinct(), [3, 1]),
    "sorted by keys": (lambda: ee.List(["a", "b", "c"]).sort([3, 1, 2]), ["b", "c", "a"]),
    "slice": (lambda: ee.List([0, 1, 2, 3, 4]).slice(1, -1, 2), [1, 3]),
    "from the end": (lambda: ee.List([0, 1, 2]).get(-1), 2),
    "without nulls": (
        lambda: ee.List([1, 2, 3]).map(
            lambda x: ee.Algorithms.If(ee.Number(x).eq(2), None, x), True
        ),
        [1, 3],
    ),
    "list reduced": (lambda: ee.List([4, 1, 3, 2]).reduce(ee.Reducer.median()), 2.5),
    "several results": (lambda: ee.List([4, 1]).reduce(ee.Reducer.minMax()), {"min": 1, "max": 4}),
    "percentile": (lambda: ee.List([0, 10]).reduce(ee.Reducer.percentile([25])), 2.5),
    "dictionary": (lambda: ee.Dictionary({"b": 1}).set("a", 2).keys(), ["a", "b"]),
    "combined": (lambda: ee.Dictionary({"a": 1}).combine({"a": 2, "c": 3}), {"a": 2, "c": 3}),
    "default": (lambda: ee.Dictionary({}).get("x", 9), 9),
    "only the branch taken": (lambda: ee.Algorithms.If(True, 1, ee.List([]).get(5)), 1),
    "date": (lambda: ee.Date("2019-01-11").millis(), FIRST + 10 * DAY),
    "month later": (
        lambda: ee.Date("2020-01-31").advance(1, "month").format("YYYY-MM-dd"),
        "2020-02-29",
    ),
    "months between": (lambda: ee.Date("2019-03-01").difference("2019-01-01", "day"), 59),
    "parts": (
        lambda: ee.List([ee.Date(NOON).get(u) for u in ("year", "month", "day", "hour")]),
        [2019, 3, 31, 12],
    ),
    "day of the year": (lambda: ee.Date(NOON).getRelative("day", "year"), 89),
    "format": (lambda: ee.Date(NOON).format("yyyyMMdd'T'HHmm"), "20190331T1200"),
    "range": (lambda: ee.Date(NOON).getRange("month").end().format("YYYY-MM-dd"), "2019-04-01"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value(case):
    expression, expected = VALUES[case]
    assert expression().getInfo() == expected


def days(first: str, last: str):
    return lambda: images().filterDate(first, last)


FILTERED = {
    "all": (images, [0, 1, 2]),
    "dates, half open": (days("2019-01-01", "2019-01-11"), [0]),
    "greater": (lambda: images().filter(ee.Filter.gt("CLOUD", 10)), [0, 1]),
    "at least": (lambda: images().filter(ee.Filter.gte("CLOUD", 20)), [0, 1]),
    "less": (lambda: images().filter(ee.Filter.lt("CLOUD", 20)), [2]),
    "at most": (lambda: images().filter(ee.Filter.lte("CLOUD", 20)), [1, 2]),
    "equal": (lambda: images().filter(ee.Filter.eq("NAME", "n1")), [1]),
    "not equal": (lambda: images().filter(ee.Filter.neq("NAME", "n1")), [0, 2]),
    "in a list": (lambda: images().filter(ee.Filter.inList("NAME", ["n0", "n2"])), [0, 2]),
    "list contains": (lambda: images().filter(ee.Filter.listContains("KINDS", "k2")), [2]),
    "starts with": (lambda: images().filter(ee.Filter.stringStartsWith("NAME", "n")), [0, 1, 2]),
    "missing": (lambda: images().filter(ee.Filter.eq("none", 1)), []),
    "there": (lambda: images().filter(ee.Filter.notNull(["NAME"])), [0, 1, 2]),
    "range": (lambda: images().filter(ee.Filter.rangeContains("CLOUD", 20, 30)), [0, 1]),
    "both": (
        lambda: images().filter(
            ee.Filter.And(ee.Filter.gt("CLOUD", 10), ee.Filter.eq("NAME", "n1"))
        ),
        [1],
    ),
    "either": (
        lambda: images().filter(
            ee.Filter.Or(ee.Filter.gt("CLOUD", 20), ee.Filter.eq("NAME", "n1"))
        ),
        [0, 1],
    ),
    "not": (lambda: images().filter(ee.Filter.eq("NAME", "n1").Not()), [0, 2]),
    "day of the year": (lambda: images().filter(ee.Filter.calendarRange(5, 15)), [1]),
    "over the new year": (lambda: images().filter(ee.Filter.calendarRange(15, 5)), [0, 2]),
    "month": (lambda: images().filter(ee.Filter.calendarRange(1, 1, "month")), [0, 1, 2]),
    "here": (lambda: images().filterBounds(images().first().geometry().centroid()), [0, 1, 2]),
    "elsewhere": (lambda: images().filterBounds(ee.Geometry.Point(0, 0)), []),
    "limited": (lambda: images().limit(2), [0, 1]),
    "sorted": (lambda: images().sort("CLOUD"), [2, 1, 0]),
    "sorted the other way": (lambda: images().sort("NAME", False), [2, 1, 0]),
    "distinct": (lambda: images().map(lambda i: i.set("k", 1)).distinct("k"), [0]),
}


@pytest.mark.parametrize("case", FILTERED)
def test_a_filter(case):
    expression, expected = FILTERED[case]
    found = ee.ImageCollection(expression()).aggregate_array("system:index").getInfo()
    assert found == [f"i{number}" for number in expected]


def test_aggregates():
    clouds = images()
    assert clouds.aggregate_mean("CLOUD").getInfo() == 20
    assert clouds.aggregate_max("CLOUD").getInfo() == 30
    assert clouds.aggregate_first("NAME").getInfo() == "n0"
    assert clouds.aggregate_histogram("NAME").getInfo() == {"n0": 1, "n1": 1, "n2": 1}


def test_columns_are_reduced_and_null_is_left_out():
    some = images().map(
        lambda i: i.set(
            "x", ee.Algorithms.If(ee.Number(i.get("CLOUD")).gt(15), i.get("CLOUD"), None)
        )
    )
    lists = some.reduceColumns(ee.Reducer.toList().repeat(2), ["NAME", "x"]).get("list")
    assert lists.getInfo() == [["n0", "n1", "n2"], [30, 20]]
    assert some.reduceColumns(ee.Reducer.mean(), ["x"]).getInfo() == {"mean": 25}


def test_mapping_keeps_the_index_and_maths_loses_the_rest():
    scaled = images().map(lambda image: image.multiply(2))
    info = scaled.first().getInfo()
    assert info["properties"] == {"system:index": "i0"}
    assert "id" not in info
    kept = images().map(
        lambda image: image.multiply(2).copyProperties(image, ["system:time_start", "NAME"])
    )
    assert kept.aggregate_array("system:time_start").getInfo() == [
        FIRST + i * 10 * DAY for i in range(3)
    ]
    assert kept.first().get("CLOUD").getInfo() is None


def test_what_copies_and_selects_keeps_the_properties():
    image = images().first()
    for same in (
        image.select("A"),
        image.updateMask(1),
        image.unmask(0),
        image.addBands(ee.Image(1)),
    ):
        assert same.get("NAME").getInfo() == "n0"
    copied = ee.Image(1).copyProperties(image)
    assert copied.propertyNames().sort().getInfo() == ["CLOUD", "KINDS", "NAME"]
    assert image.toDictionary().getInfo() == {"CLOUD": 30, "NAME": "n0", "KINDS": ["x", "k0"]}


def test_geometries():
    box = ee.Geometry.BBox(10, 50, 11, 51)
    assert box.bounds().coordinates().getInfo()[0][0] in ([10, 50], [11, 50])
    assert box.area().getInfo() == pytest.approx(7.86e9, rel=0.01)
    assert box.intersects(ee.Geometry.Point(10.5, 50.5)).getInfo() is True
    # As geemap asks where the middle of a map is to be.
    assert box.transform(maxError=0.1).centroid(1).coordinates().getInfo() == [10.5, 50.5]
    assert box.intersection(ee.Geometry.BBox(10.5, 50, 12, 51)).area().getInfo() == pytest.approx(
        3.93e9, rel=0.01
    )
    around = ee.Geometry.Point(10, 50).buffer(1000)
    assert around.area().getInfo() == pytest.approx(3.1416e6, rel=0.01)
    rectangle = ee.Geometry.Rectangle([600000, 4999940, 600080, 5000000], "EPSG:32634", False)
    assert images().filterBounds(rectangle).size().getInfo() == 3
    assert rectangle.centroid().coordinates().getInfo() == pytest.approx([22.277, 45.146], abs=0.01)


def test_across_the_antimeridian():
    box = ee.Geometry.BBox(170, -10, -170, 10)
    assert box.intersects(ee.Geometry.Point(-175, 0)).getInfo()
    assert not box.intersects(ee.Geometry.Point(0, 0)).getInfo()


def test_merged_collections_have_indices_of_their_own():
    twice = images().limit(1).merge(images().limit(1))
    assert twice.aggregate_array("system:index").getInfo() == ["1_i0", "2_i0"]


WRONG = {
    "algorithm": (
        lambda: ee.Image(1).gradient(),
        "Image.gradient: the emulator does not know this algorithm; Earth Engine does. The emulator knows",
    ),
    "band": (
        lambda: images().first().select("B99"),
        r"Image.select: Band pattern 'B99' did not match any bands. Available bands: \[A, B, Q, C\]",
    ),
    "collection": (
        lambda: ee.ImageCollection("NO/SUCH").size(),
        r"ImageCollection.load: ImageCollection asset 'NO/SUCH' not found \(does not exist or caller does not have",
    ),
    "image": (lambda: ee.Image("NO/SUCH"), "Image.load: Image asset 'NO/SUCH' not found"),
    "key": (
        lambda: ee.Dictionary({"a": 1}).get("b"),
        "Dictionary.get: Dictionary does not contain key: 'b'",
    ),
    "place": (lambda: ee.List([1, 2]).get(2), "List.get: List index must be between 0 and 1"),
    "null": (
        lambda: ee.Image(images().filter(ee.Filter.eq("none", 1)).first()).bandNames(),
        "is required and may not be null",
    ),
    "function of an element": (
        lambda: images().map(lambda image: image.get("NAME")),
        "must return a Feature or Image",
    ),
    "type": (
        lambda: ee.Number(images().first()).add(1),
        "Cannot convert an object of type Image to Number",
    ),
    "bands": (
        lambda: images().first().select(["A", "B"]).add(ee.Image([1, 2, 3])),
        "Images must have the same number of bands",
    ),
    "names": (lambda: images().first().rename(["x"]), "number of names"),
    "date": (lambda: ee.Date("yesterday"), "Bad date/time 'yesterday'"),
    "zone": (lambda: ee.Date(0).format(None, "Europe/Bucharest"), "no time zone but UTC"),
    "unit": (lambda: ee.Date(0).advance(1, "fortnight"), "Invalid unit 'fortnight'"),
    "expression": (lambda: ee.Image(1).expression("b(0) +"), "Cannot read"),
    "variable": (
        lambda: ee.Image(1).expression("x + 1", {"y": ee.Image(1)}),
        "Unknown variable 'x'",
    ),
    "projections": (lambda: images().first().projection(), "contains different projections"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    expression, message = WRONG[case]
    with pytest.raises(ee.EEException, match=message):
        expression().getInfo()
