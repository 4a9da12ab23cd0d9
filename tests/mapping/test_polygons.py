import json

import numpy as np
import pyproj
import pytest
import rasterio.features
import rioxarray  # noqa: F401 - registers .rio
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import timo
from timo import cube as cubes
from timo.errors import TimoError
from timo.mapping import to_polygons
from timo.mapping.geotiff import grid_transform

CLASSES = ["forest", "meadow", "road"]
# A grid in metres of UTM, one of an equal-area projection, one in degrees; and one from south to north.
GRIDS = {
    "utm": ("EPSG:32634", 500_000.0, 5_000_000.0, 10.0, -10.0),
    "laea": ("EPSG:3035", 5_400_000.0, 3_000_000.0, 30.0, -30.0),
    "degrees": ("EPSG:4326", 22.0, 45.0, 1e-3, -1e-3),
    "upwards": ("EPSG:32634", 500_000.0, 5_000_000.0, 10.0, 10.0),
}


def a_map(values, grid="utm", classes=CLASSES) -> xr.DataArray:
    crs, west, north, dx, dy = GRIDS[grid]
    values = np.asarray(values, dtype="int16")
    coords = {
        "y": north + dy * (0.5 + np.arange(values.shape[0])),
        "x": west + dx * (0.5 + np.arange(values.shape[1])),
    }
    array = xr.DataArray(values, dims=("y", "x"), coords=coords, name="label").rio.write_crs(crs)
    return array.assign_attrs(classes=list(classes)) if classes else array


def burn(collection, like) -> np.ndarray:
    """The polygons back on the grid of the map, by the centres of its cells."""
    back = pyproj.Transformer.from_crs("EPSG:4326", like.rio.crs, always_xy=True)
    shapes = [
        (
            shapely.transform(
                shapely.geometry.shape(f["geometry"]),
                lambda c: np.column_stack(back.transform(c[:, 0], c[:, 1])),
            ),
            f["properties"]["value"],
        )
        for f in collection["features"]
    ]
    if not shapes:
        return np.full(like.shape, -1)
    return rasterio.features.rasterize(
        shapes, like.shape, fill=-1, transform=grid_transform(like), dtype="int16"
    )


def geometries(collection):
    return [shapely.geometry.shape(feature["geometry"]) for feature in collection["features"]]


@given(
    values=hnp.arrays(
        "int16",
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12),
        elements=st.integers(-1, 2),
    ),
    grid=st.sampled_from(sorted(GRIDS)),
)
@settings(max_examples=60, deadline=None)
def test_polygons_burn_back_to_the_map_and_their_areas_add_up(values, grid):
    label = a_map(values, grid)
    collection = to_polygons(label)
    np.testing.assert_array_equal(burn(collection, label), values)
    shapes = geometries(collection)
    assert all(shape.is_valid and shape.exterior.is_ccw for shape in shapes)
    assert all(not hole.is_ccw for shape in shapes for hole in shape.interiors)
    areas = dict.fromkeys(CLASSES, 0.0)
    for feature in collection["features"]:
        areas[feature["properties"]["class"]] += feature["properties"]["hectares"]
    counted = cubes.hectares(label)
    for name in CLASSES:
        # Each polygon's hectares are rounded to a square metre.
        assert areas[name] == pytest.approx(counted[name], abs=1e-4 * (1 + len(shapes)))


def test_the_outline_is_that_of_the_pixels_holes_and_corners_included():
    label = a_map([[0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [-1, 0, 0, 1]])
    collection = to_polygons(label)
    shapes = geometries(collection)
    # Cells that touch at a corner only are two polygons.
    assert sorted(f["properties"]["class"] for f in collection["features"]) == ["forest"] + 3 * [
        "meadow"
    ]
    forest = next(
        s
        for s, f in zip(shapes, collection["features"], strict=True)
        if f["properties"]["value"] == 0
    )
    assert len(forest.interiors) == 1
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32634", always_xy=True)
    corners = np.column_stack(to_metres.transform(*shapely.get_coordinates(forest).T))
    # On the corners of cells, to a centimetre.
    np.testing.assert_allclose(corners, np.round(corners / 10) * 10, atol=0.01)
    area = shapely.transform(forest, lambda c: np.column_stack(to_metres.transform(*c.T))).area
    assert area == pytest.approx(1100, rel=1e-4)


def test_geojson_as_rfc_7946_has_it():
    collection = to_polygons(a_map([[0, 1], [1, 0]]))
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection
    assert json.loads(json.dumps(collection))["features"][0]["type"] == "Feature"
    west, south, east, north = shapely.MultiPolygon(geometries(collection)).bounds
    assert 20.9 < west < east < 21.1
    assert 45.1 < south < north < 45.2


def test_long_edges_follow_the_grid():
    # 30 km of one cell's height: a straight edge in degrees would leave the grid by more than a cell.
    label = a_map(np.repeat([[0], [1], [0]], 3000, axis=1))
    np.testing.assert_array_equal(burn(to_polygons(label), label), label)


def test_mean_probability_is_that_of_the_polygons_class():
    label = a_map([[0, 0, 1], [1, 1, 1], [-1, 0, 0]])
    values = np.arange(27, dtype="float32").reshape(3, 3, 3) / 30
    values[0, 0, 1] = np.nan
    probability = xr.DataArray(values, dims=("class", "y", "x"), coords={"class": CLASSES})
    result = xr.Dataset({"label": label, "probability": probability, "entropy": probability[0]})
    features = [f["properties"] for f in to_polygons(result)["features"]]
    means = sorted((p["class"], p["hectares"], p["mean_probability"]) for p in features)
    assert (
        means
        == [
            ("forest", 0.02, 0.0),  # of the one pixel that is known
            ("forest", 0.02, pytest.approx(values[0, 2, 1:].mean(), abs=1e-4)),
            ("meadow", 0.04, pytest.approx((values[1, 0, 2] + values[1, 1].sum()) / 4, abs=1e-4)),
        ]
    )


def test_small_polygons_can_be_left_out():
    label = a_map([[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert [
        f["properties"]["class"] for f in to_polygons(label, smallest_ha=0.01)["features"]
    ].count("meadow") == 1
    kept = to_polygons(label, smallest_ha=0.02)["features"]
    assert [f["properties"]["class"] for f in kept] == ["forest"]
    assert len(kept[0]["geometry"]["coordinates"]) == 1


def test_years_and_masks_need_no_names():
    years = a_map([[0, 2019], [2019, -1]], classes=None)
    assert sorted(f["properties"]["class"] for f in to_polygons(years)["features"]) == [
        0,
        2019,
        2019,
    ]
    assert [f["properties"]["class"] for f in to_polygons(years, nodata=0)["features"]] == [
        2019,
        2019,
    ]
    mask = to_polygons(years == 2019)["features"]
    assert sum(f["properties"]["hectares"] for f in mask) == pytest.approx(0.02)
    assert to_polygons(years.where(years < -5, -1))["features"] == []


def test_a_polygon_across_the_antimeridian_is_cut_in_two():
    crs, rows, columns = "EPSG:32601", 4, 200
    # West of zone 1, whose western edge is the antimeridian.
    east, north = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(
        180.0, -17.0
    )
    label = xr.DataArray(
        np.zeros((rows, columns), "int16"),
        dims=("y", "x"),
        coords={
            "y": north - 10 * np.arange(rows),
            "x": east + 10 * (np.arange(columns) - columns // 2),
        },
        attrs={"classes": ["water"]},
    ).rio.write_crs(crs)
    (shape,) = geometries(to_polygons(label))
    assert shape.geom_type == "MultiPolygon"
    assert len(shape.geoms) == 2
    assert {bool(part.bounds[0] > 0) for part in shape.geoms} == {True, False}
    assert all(part.bounds[2] - part.bounds[0] < 0.02 for part in shape.geoms)
    # And longitudes of 0..360 come out as -180..180.
    label = label.drop_vars("spatial_ref").assign_coords(
        x=200 + 0.1 * np.arange(columns), y=-0.1 * np.arange(rows)
    )
    (shape,) = geometries(to_polygons(label.rio.write_crs("EPSG:4326")))
    assert shape.bounds == pytest.approx((-160.05, -0.35, -140.05, 0.05))


def test_a_polygon_around_the_pole_is_refused():
    label = xr.DataArray(
        np.zeros((4, 4), "int16"),
        dims=("y", "x"),
        coords={"y": 1500.0 - 1000 * np.arange(4), "x": 1000.0 * np.arange(4) - 1500},
    ).rio.write_crs("EPSG:6931")
    with pytest.raises(TimoError, match="pole"):
        to_polygons(label)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: a_map([[0, 1]]).values, "xarray"),
        (lambda: a_map([[0, 1], [1, 0]]).expand_dims(time=2), "time.*isel"),
        (lambda: a_map([[0, 1], [1, 0]]).astype("float32"), "classes"),
        (lambda: a_map([[0, 1], [1, 0]]).drop_vars("spatial_ref"), "reference system"),
        (lambda: a_map([[0, 1], [1, 0]]).rename(x="lon"), "y and x"),
        (lambda: xr.Dataset({"a": a_map([[0, 1]]), "b": a_map([[0, 1]])}), "choose one"),
    ],
)
def test_what_cannot_be_polygons_is_met_at_the_door(data, message):
    with pytest.raises(TimoError, match=message):
        to_polygons(data())


def test_a_negative_size_is_refused():
    with pytest.raises(TimoError, match="smallest_ha"):
        to_polygons(a_map([[0, 1], [1, 0]]), smallest_ha=-1)


# --- written by export


def test_export_writes_what_a_gis_reads(tmp_path):
    label = a_map(np.random.default_rng(0).integers(-1, 3, (20, 30)))
    label.attrs["attribution"] = "contains modified Copernicus Sentinel data 2019"
    path = timo.export(label, tmp_path / "map.geojson", provenance={"parameters": {"tile": 3}})
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["features"] == json.loads(json.dumps(to_polygons(label)))["features"]
    assert written["attribution"].startswith("contains")
    assert written["provenance"] == {"parameters": {"tile": 3}}
    np.testing.assert_array_equal(burn(written, label), label)
    # One polygon a line.
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(written["features"]) + 2
    pyogrio = pytest.importorskip("pyogrio")
    assert pyogrio.read_info(path)["features"] == len(written["features"])


def test_a_failed_export_leaves_nothing_and_keeps_the_old(tmp_path):
    path = tmp_path / "map.geojson"
    label = a_map([[0, 1], [1, 0]])
    with pytest.raises(TimoError, match="classes"):
        timo.export(label.astype("float32"), path)
    assert not list(tmp_path.iterdir())
    timo.export(label, path, smallest_ha=0.01)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(TimoError, match="exists"):
        timo.export(label, path, overwrite=False)
    with pytest.raises(TimoError, match="smallest_ha"):
        timo.export(label, tmp_path / "map.tif", smallest_ha=1)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["map.geojson"]


def test_a_comparison_bears_no_names_of_classes():
    labels = a_map([[0, 2], [2, 1]])
    assert "classes" in (labels == 2).attrs  # as xarray keeps them
    properties = [f["properties"] for f in to_polygons(labels == 2)["features"]]
    assert [p["class"] for p in properties] == [1, 1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64"])
def test_what_is_no_data_is_in_no_polygon_after_a_cast_too(dtype):
    label = a_map([[0, 1, -1], [1, 0, -1], [1, 1, -1]]).astype("int8").assign_attrs(nodata=-1)
    expected = burn(to_polygons(label), label)
    assert (expected[:, 2] == -1).all()
    np.testing.assert_array_equal(burn(to_polygons(label.astype(dtype)), label), expected)
    filled = label.where(label >= 0, 255).astype("uint8")
    filled.attrs = {}
    np.testing.assert_array_equal(burn(to_polygons(filled, nodata=255), label), expected)
