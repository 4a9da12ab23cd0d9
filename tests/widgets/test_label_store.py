"""Labels without widgets: what is drawn, painted, erased, undone, saved and read."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from timo_widgets.label.cells import along, brush, cells_between, outline, shortened
from timo_widgets.label.label_files import from_geojson, load, save, to_geojson
from timo_widgets.label.sheet import starving
from timo_widgets.label.store import LabelStore

from timo.cube import check_labels
from timo.errors import TimoError

GRIDS = {
    "utm": ("EPSG:32634", 600_000.0, 5_000_000.0, 10.0, -10.0),
    "laea, rows from south to north": ("EPSG:3035", 5_000_000.0, 2_500_000.0, 20.0, 20.0),
    "degrees": ("EPSG:4326", 22.0, 45.0, 1e-4, -1e-4),
    "degrees, at the antimeridian": ("EPSG:4326", 179.9995, -17.0, 1e-4, -1e-4),
    "degrees, from 0 to 360": ("EPSG:4326", 200.0, -17.0, 1e-4, -1e-4),
    "utm, over the antimeridian": ("EPSG:32760", 817_630.0, 8_007_000.0, 10.0, -10.0),
    "web mercator, south": ("EPSG:3857", -6_000_000.0, -3_000_000.0, 0.5, -0.5),
}


def make_cube(grid="utm", height=12, width=15, dates=4):
    crs, left, top, dx, dy = GRIDS[grid]
    cube = xr.DataArray(
        np.zeros((dates, 1, height, width), "float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2019-01-01 10:30", periods=dates, freq="MS"),
            "band": ["B4"],
            "y": top + dy * (np.arange(height) + 0.5),
            "x": left + dx * (np.arange(width) + 0.5),
        },
    )
    return cube.rio.write_crs(crs)


def square(cube, rows, columns):
    """GeoJSON of rows and columns (first, after-last) of a cube."""
    mask = np.zeros((cube.sizes["y"], cube.sizes["x"]), bool)
    mask[slice(*rows), slice(*columns)] = True
    return shapely.geometry.mapping(outline(np.flatnonzero(mask), cube))


@pytest.fixture
def store():
    return LabelStore(make_cube(), ["forest", "water"])


def test_nothing_is_labelled_at_first(store):
    labels = check_labels(store.labels(), store.cube)
    assert labels.dims == ("y", "x")
    assert (labels == -1).all()
    assert labels.attrs["classes"] == ["forest", "water"]
    assert store.counts().pixels.tolist() == [0, 0]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_polygon_labels_the_pixels_whose_centre_is_in_it(grid):
    cube = make_cube(grid)
    store = LabelStore(cube, ["forest", "water"])
    store.add(square(cube, (2, 5), (3, 9)), "water")
    labels = check_labels(store.labels(), cube)
    expected = np.full((12, 15), -1)
    expected[2:5, 3:9] = 1
    np.testing.assert_array_equal(labels.values, expected)
    assert store.counts().loc["water", "pixels"] == 18


def test_the_later_label_lies_on_top(store):
    store.add(square(store.cube, (0, 6), (0, 6)), "forest")
    store.add(square(store.cube, (3, 9), (3, 9)), "water")
    labels = store.labels().values
    assert labels[4, 4] == 1
    assert labels[1, 1] == 0
    assert store.counts().pixels.tolist() == [27, 36]
    assert store.counts().hectares.tolist() == pytest.approx([0.27, 0.36], rel=2e-3)


def test_dates_outside_of_a_dated_label_are_unlabelled(store):
    store.add(square(store.cube, (0, 3), (0, 3)), "forest")
    store.add(square(store.cube, (0, 3), (0, 3)), "water", start="2019-02", end="2019-03")
    labels = check_labels(store.labels(), store.cube)
    assert labels.dims == ("time", "y", "x")
    assert labels[:, 1, 1].values.tolist() == [0, 1, 1, 0]
    assert labels[:, 6, 6].values.tolist() == [-1] * 4
    assert store.counts().pixels.tolist() == [9, 9]
    np.testing.assert_array_equal(store.plane(1), labels[1])


def test_a_brush_is_cut_by_the_edge_and_strokes_join(store):
    store.paint(0, 0, "forest", size=3)
    store.paint(0, 1, "forest", size=3)
    assert len(store.sheet.labels) == 1
    assert np.argwhere(store.labels().values == 0).max(axis=0).tolist() == [1, 2]
    store.paint(5, 5, "water")
    assert len(store.sheet.labels) == 2
    store.undo()
    store.undo()
    assert (store.labels().values == 0).sum() == 4


def test_erasing_cuts_what_was_drawn(store):
    store.add(square(store.cube, (0, 5), (0, 5)), "forest")
    assert store.erase(2, 2, size=3) == 9
    assert store.counts().pixels.tolist() == [16, 0]
    assert store.erase(2, 2) == 0
    store.undo()
    assert store.counts().pixels.tolist() == [25, 0]


def test_change_rename_and_delete(store):
    label = store.add(square(store.cube, (0, 5), (0, 5)), "forest")
    store.change(label.number, name="water", start="2019-03-01")
    assert store.labels().values[:, 0, 0].tolist() == [-1, -1, 1, 1]
    store.rename_class("water", "lake")
    store.add_class("road")
    assert store.labels().attrs["classes"] == ["forest", "lake", "road"]
    store.add(square(store.cube, (6, 8), (0, 5)), "lake", number=label.number)
    assert store.counts().pixels.tolist() == [0, 10, 0]
    store.delete(label.number)
    assert store.counts().pixels.tolist() == [0, 0, 0]
    with pytest.raises(TimoError, match="no label"):
        store.delete(label.number)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda s: s.add((0, 0, 1, 1), "forest"), "no pixel's centre"),
        (lambda s: s.add(square(s.cube, (0, 2), (0, 2)), "rock"), "no class 'rock'"),
        (lambda s: s.add("POINT (1 1)", "forest"), "covers no ground"),
        (lambda s: s.paint(12, 0, "forest"), "outside of the cube"),
        (lambda s: s.paint(0, 0, "forest", size=2), "odd"),
        (lambda s: s.paint(0, 0, "forest", start="07/08/2019"), "cannot be read as a date"),
        (lambda s: s.paint(0, 0, "forest", start="2020", end="2019"), "before start"),
        (lambda s: s.add_class(" "), "empty"),
        (lambda s: s.rename_class("water", "forest"), "two classes 'forest'"),
        (lambda s: from_geojson(s, "{"), "no GeoJSON"),
        (lambda s: from_geojson(s, "[]"), "FeatureCollection"),
        (lambda s: from_geojson(s, {"type": "FeatureCollection"}), "no list of features"),
        (lambda s: load(s, "not there.geojson"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(store, do, message):
    before = store.sheet
    with pytest.raises(TimoError, match=message):
        do(store)
    assert store.sheet is before
    assert not store.can_undo


def test_starving_classes_are_named():
    said = starving({"forest": 400, "water": 3, "road": 0})
    assert set(said) == {"water", "road"}
    assert "only 3 pixels" in said["water"]
    assert "no pixel" in said["road"]


STEPS = st.one_of(
    st.tuples(st.just("paint"), st.integers(0, 11), st.integers(0, 14), st.sampled_from([1, 3, 5])),
    st.tuples(st.just("add"), st.integers(0, 9), st.integers(0, 12), st.sampled_from([2, 3])),
    st.tuples(st.just("dated"), st.integers(0, 9), st.integers(0, 12), st.sampled_from([1, 3])),
    st.tuples(st.just("erase"), st.integers(0, 11), st.integers(0, 14), st.sampled_from([1, 5])),
    st.tuples(st.just("change"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("delete"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("class"), st.integers(0, 10**6), st.just(0), st.just(0)),
)


def take(store, step):
    what, a, b, c = step
    names = store.classes
    if what == "paint":
        store.paint(a, b, names[(a + b) % len(names)], size=c)
    elif what == "add":
        store.add(square(store.cube, (a, a + c), (b, b + c)), names[a % len(names)])
    elif what == "dated":
        store.paint(a, b, names[b % len(names)], size=c, start="2019-02", end="2019-03")
    elif what == "erase":
        store.erase(a, b, size=c)
    elif what == "class" and f"class {a}" not in names:
        store.add_class(f"class {a}")
    elif store.sheet.labels and what in {"change", "delete"}:
        number = store.sheet.labels[a % len(store.sheet.labels)].number
        if what == "delete":
            store.delete(number)
        else:
            store.change(number, name=names[-1])


def pictures(store):
    return store.classes, store.labels()


def same(one, other):
    return one[0] == other[0] and one[1].identical(other[1])


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=10), back=st.integers(1, 10))
def test_undo_and_redo_lead_through_the_same_states(steps, back):
    store = LabelStore(make_cube(), ["forest", "water"])
    seen, sheets = [pictures(store)], [store.sheet]
    for step in steps:
        take(store, step)
        if store.sheet is not sheets[-1]:
            seen.append(pictures(store))
            sheets.append(store.sheet)
    back = min(back, len(seen) - 1)
    for expected in seen[::-1][1 : back + 1]:
        assert store.undo()
        assert same(pictures(store), expected)
    for expected in seen[len(seen) - back :]:
        assert store.redo()
        assert same(pictures(store), expected)
    assert not store.redo()
    numbers = [label.number for label in store.sheet.labels]
    assert len(set(numbers)) == len(numbers)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=8), grid=st.sampled_from(list(GRIDS)))
def test_what_is_saved_and_read_has_the_same_pixels(steps, grid):
    cube = make_cube(grid)
    store = LabelStore(cube, ["forest", "water"])
    for step in steps:
        take(store, step)
    text = json.dumps(to_geojson(store))
    read = LabelStore(cube)
    if store.sheet.labels:
        assert from_geojson(read, text) == 0
        assert same(pictures(read), pictures(store))
        assert json.dumps(to_geojson(read)) == text


@pytest.mark.parametrize("grid", ["utm, over the antimeridian", "degrees, at the antimeridian"])
def test_painted_pixels_over_the_antimeridian_are_two_small_polygons(grid):
    store = LabelStore(make_cube(grid), ["forest"])
    store.paint(6, 7, "forest", size=11)
    shape = shapely.geometry.shape(to_geojson(store)["features"][0]["geometry"])
    assert shape.geom_type == "MultiPolygon"
    assert {-180, 180} <= {edge for part in shape.geoms for edge in part.bounds}
    assert all(part.bounds[2] - part.bounds[0] < 0.002 for part in shape.geoms)


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=3, max_size=8)
)
def test_any_polygon_comes_back_with_its_pixels(points):
    cube = make_cube("utm")
    hull = shapely.MultiPoint(points).convex_hull
    west, south, east, north = cube.rio.transform_bounds("EPSG:4326")
    shape = shapely.transform(hull, lambda p: [west, south] + p * [east - west, north - south])
    store = LabelStore(cube, ["forest"])
    try:
        store.add(shape, "forest")
    except TimoError:
        return
    read = LabelStore(cube)
    from_geojson(read, json.dumps(to_geojson(store)))
    assert read.labels().identical(store.labels())


def test_files_of_others_are_read(store, tmp_path):
    inside = square(store.cube, (0, 3), (0, 3))
    path = tmp_path / "fields.geojson"
    path.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
                "features": [
                    {"type": "Feature", "properties": {"Class": "maize"}, "geometry": inside},
                    {
                        "type": "Feature",
                        "properties": {"class": 1},
                        "geometry": square(store.cube, (2, 5), (2, 5)),
                    },
                    {
                        "type": "Feature",
                        "properties": {"class": "far"},
                        "geometry": shapely.geometry.mapping(shapely.box(0, 0, 1, 1)),
                    },
                ],
            }
        )
    )
    assert load(store, path) == 1
    # A number is a name, and no position in the list.
    assert store.classes == ["forest", "water", "maize", "1", "far"]
    assert store.counts().pixels.tolist() == [0, 0, 8, 9, 0]


@pytest.mark.parametrize(
    "codes", [[1, 2, 1], [2, 1, 0], [3, 2, 1], [1.0, 2.0, 1.0], ["1", "2", "1"], [10, 9, 2]]
)
def test_a_number_as_a_class_is_its_own_name(codes):
    store = LabelStore(make_cube())
    features = [
        {
            "type": "Feature",
            "properties": {"class": code},
            "geometry": square(store.cube, (0, 2), (2 * i, 2 * i + 2)),
        }
        for i, code in enumerate(codes)
    ]
    from_geojson(store, {"type": "FeatureCollection", "features": features})
    numbers = sorted({int(code) for code in codes})
    assert store.classes == [str(number) for number in numbers]
    named = [store.classes[label.code] for label in store.sheet.labels]
    assert named == [str(int(code)) for code in codes]
    # A second file with other numbers adds them, and moves none.
    features[0]["properties"]["class"] = 7
    from_geojson(store, {"type": "FeatureCollection", "features": features[:1]}, keep=True)
    assert store.classes == [str(number) for number in [*numbers, 7]]


def test_a_thousand_small_features_are_labels():
    cube = make_cube(height=100, width=100)
    west, south, east, north = cube.rio.transform_bounds("EPSG:4326")
    rng = np.random.default_rng(0)
    corners = rng.uniform([west, south], [east - 1e-4, north - 1e-4], (1000, 2))
    features = [
        {
            "type": "Feature",
            "properties": {"class": "forest"},
            "geometry": shapely.geometry.mapping(shapely.box(x, y, x + 1e-4, y + 1e-4)),
        }
        for x, y in corners
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    store = LabelStore(cube)
    from_geojson(store, text)
    assert len(store.sheet.labels) > 700


def test_a_projected_file_is_read(store):
    left, top = 600_000, 5_000_000
    ring = shapely.geometry.mapping(shapely.box(left, top - 30, left + 40, top))
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32634"}}
    feature = {"type": "Feature", "properties": {"class": "water"}, "geometry": ring}
    from_geojson(store, {"type": "FeatureCollection", "crs": crs, "features": [feature]})
    assert store.counts().loc["water", "pixels"] == 12


def test_a_feature_without_a_class_is_named_and_nothing_changes(store):
    store.add(square(store.cube, (0, 3), (0, 3)), "forest")
    before = store.sheet
    feature = {"type": "Feature", "properties": {"kind": "x"}, "geometry": None}
    data = {"type": "FeatureCollection", "features": [feature]}
    with pytest.raises(TimoError, match="Feature 1: it has no geometry"):
        from_geojson(store, data)
    feature["geometry"] = square(store.cube, (0, 3), (0, 3))
    with pytest.raises(TimoError, match="it has: kind"):
        from_geojson(store, data)
    assert store.sheet is before


def test_saved_files_keep_the_order_of_the_classes(store, tmp_path):
    store.paint(0, 0, "water")
    save(store, tmp_path / "a.geojson")
    read = LabelStore(store.cube)
    load(read, tmp_path / "a.geojson")
    assert read.classes == ["forest", "water"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


@settings(max_examples=30, deadline=None)
@given(data=st.data(), dated=st.booleans())
def test_labels_made_elsewhere_are_adopted(data, dated):
    cube = make_cube(height=4, width=5)
    shape = (4, 4, 5) if dated else (4, 5)
    size = 80 if dated else 20
    flat = data.draw(st.lists(st.integers(-1, 2), min_size=size, max_size=size))
    dims = ("time", "y", "x") if dated else ("y", "x")
    coords = {name: cube[name] for name in dims}
    labels = xr.DataArray(np.array(flat, "int16").reshape(shape), dims=dims, coords=coords)
    store = LabelStore(cube, ["a", "b", "c"])
    store.adopt(labels.assign_attrs(classes=["a", "b", "c"]))
    made, expected = xr.broadcast(store.labels().drop_vars("spatial_ref"), labels)
    np.testing.assert_array_equal(made.transpose(*expected.dims).values, expected.values)


PATHS = st.lists(st.tuples(st.integers(-6, 18), st.integers(-6, 20)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(PATHS)
def test_a_way_has_no_holes_and_is_the_same_with_fewer_corners(path):
    cells = cells_between(path)
    assert (cells[0], cells[-1]) == (path[0], path[-1])
    assert (abs(np.diff(cells, axis=0)).max(axis=1) == 1).all() if len(cells) > 1 else True
    assert cells_between(shortened(path)) == cells
    assert cells_between(shortened(cells)) == cells
    assert len(shortened(cells)) <= len(cells)


@settings(max_examples=100, deadline=None)
@given(PATHS, st.sampled_from([1, 3, 5]))
def test_a_stroke_covers_what_the_brush_covers_on_its_way(path, size):
    shape = 12, 15
    reached = np.zeros((30, 32), bool)
    half = size // 2
    for row, column in cells_between(path):
        reached[row + 8 - half : row + 9 + half, column + 8 - half : column + 9 + half] = True
    expected = np.flatnonzero(reached[8:20, 8:23])
    if expected.size:
        np.testing.assert_array_equal(along(path, size, shape), expected)
    else:
        with pytest.raises(TimoError, match="covers no pixel"):
            along(path, size, shape)


def test_a_stroke_is_one_step_and_joins_the_label_before_it(store):
    store.paint(2, 2, "water")
    label = store.paint_along([(2, 2), (2, 8), (7, 8)], "water", size=3)
    assert (label.number, label.cells.size) == (1, 9 * 3 + 5 * 3)
    assert store.erase_along([(0, 8), (11, 8)]) == 8
    assert store.counts().pixels["water"] == 42 - 8
    assert [store.undo() for _ in range(4)] == [True, True, True, False]
    assert [store.redo() for _ in range(4)] == [True, True, True, False]
    assert store.counts().pixels["water"] == 42 - 8
    # What changes nothing is no step.
    store.erase_along([(0, 8), (11, 8)])
    assert [store.undo() for _ in range(4)] == [True, True, True, False]


def test_a_stroke_of_one_pixel_is_a_click():
    for size in (1, 3, 5):
        np.testing.assert_array_equal(along([(1, 0)], size, (12, 15)), brush(1, 0, size, (12, 15)))
    with pytest.raises(TimoError, match="must be odd"):
        along([(1, 1)], 2, (12, 15))
