import json
import math
import sys
import types

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import MultiPolygon, Point, Polygon, box
from shapely.affinity import affine_transform, translate

from timo.errors import TimoError
from timo.sources.place.aoi import Area, parse_aoi

PLACE = box(22.0, 45.0, 22.1, 45.1)
GEOMETRY = shapely.geometry.mapping(PLACE)
FEATURE = {"type": "Feature", "properties": {}, "geometry": GEOMETRY}
# Taveuni in Fiji, drawn as maps give it: over the antimeridian with a jump of 360 degrees.
JUMPING = Polygon([(179.5, -17), (-179.5, -17), (-179.5, -16), (179.5, -16)])
RING = [[0, 80], [90, 80], [180, 80], [-90, 80], [0, 80]]


def collection(*geometries):
    features = [{"type": "Feature", "properties": {}, "geometry": g} for g in geometries]
    return {"type": "FeatureCollection", "features": features}


def refusal(aoi):
    with pytest.raises(TimoError) as caught:
        parse_aoi(aoi)
    return str(caught.value)


# --- the forms


@pytest.mark.parametrize(
    "aoi",
    [
        (22.0, 45.0, 22.1, 45.1),
        [22.0, 45.0, 22.1, 45.1],
        np.array([22.0, 45.0, 22.1, 45.1], dtype="float64"),
        (np.float64(22.0), 45, 22.1, 45.1),
        GEOMETRY,
        FEATURE,
        collection(GEOMETRY),
        collection(None, GEOMETRY),
        {"type": "GeometryCollection", "geometries": [GEOMETRY]},
        json.dumps(FEATURE),
        PLACE,
        PLACE.wkt,
        PLACE.wkt.lower(),
        f"SRID=4326;{PLACE.wkt}",
        shapely.force_3d(PLACE, 700.0),
        MultiPolygon([PLACE]),
        Area(PLACE),
        types.SimpleNamespace(__geo_interface__=GEOMETRY),
    ],
)
def test_forms_of_one_place(aoi):
    area = parse_aoi(aoi)
    assert area.geometry.equals(PLACE)
    assert not area.geometry.has_z
    assert area.centre == pytest.approx((22.05, 45.05))


@pytest.mark.parametrize("kind", [str, None])
def test_a_geojson_file(tmp_path, kind):
    path = tmp_path / "place.geojson"
    # With the byte order mark that some Windows programs write.
    path.write_text(json.dumps(FEATURE), encoding="utf-8-sig")
    assert parse_aoi(kind(path) if kind else path).geometry.equals(PLACE)


def test_a_file_of_another_format(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / "place.gpkg"
    geopandas.GeoSeries([PLACE], crs=4326).to_file(path)
    assert parse_aoi(path).geometry.equals(PLACE)


def test_a_file_of_another_format_without_geopandas(tmp_path, monkeypatch):
    path = tmp_path / "place.gpkg"
    path.touch()
    monkeypatch.setitem(sys.modules, "geopandas", None)
    assert "pip install geopandas" in refusal(path)


def test_features_are_united_and_holes_kept():
    holed = box(0, 0, 4, 4).difference(box(1, 1, 2, 2))
    area = parse_aoi(collection(*(shapely.geometry.mapping(g) for g in (holed, box(3, 3, 6, 6)))))
    assert area.geometry.equals(holed.union(box(3, 3, 6, 6)))
    assert area.geometry.area == pytest.approx(16 - 1 + 9 - 1)


@pytest.mark.parametrize("columns", ["series", "frame"])
def test_a_geodataframe_is_reprojected(columns):
    geopandas = pytest.importorskip("geopandas")
    square = box(500_000, 5_000_000, 501_000, 5_001_000)
    series = geopandas.GeoSeries([square], crs=32634)
    area = parse_aoi(series if columns == "series" else series.to_frame("geometry"))
    assert area.planar == ("EPSG:32634", square)
    lon, lat = pyproj.Transformer.from_crs(32634, 4326, always_xy=True).transform(5e5, 5e6)
    assert area.bounds[:2] == pytest.approx((lon, lat), abs=2e-5)
    # UTM is 0.04 % short on its central meridian.
    assert area.hectares == pytest.approx(100, rel=1e-3)


def test_a_large_square_follows_the_bend_of_its_edges():
    square = box(4_000_000, 3_000_000, 4_500_000, 3_500_000)
    area = parse_aoi(f"SRID=3035;{square.wkt}")
    back = pyproj.Transformer.from_crs(4326, 3035, always_xy=True)
    points = shapely.get_coordinates(shapely.segmentize(area.geometry, 0.01))
    moved = shapely.points(np.column_stack(back.transform(*points.T)))
    assert shapely.distance(moved, square.exterior).max() < 2  # metres, over 500 km
    assert area.hectares == pytest.approx(25e6, rel=1e-4)  # EPSG:3035 keeps areas
    assert len(points) > shapely.get_num_coordinates(area.geometry)


def test_geographic_systems_other_than_wgs84_are_degrees_too():
    assert parse_aoi(f"SRID=4258;{JUMPING.wkt}").bounds == pytest.approx((179.5, -17, 180.5, -16))


@pytest.mark.parametrize(
    "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"]
)
def test_the_crs_of_old_geojson(name):
    member = {"type": "name", "properties": {"name": name}}
    assert parse_aoi({**FEATURE, "crs": member}).geometry.equals(PLACE)


def test_old_geojson_in_metres_is_reprojected():
    metres = shapely.geometry.mapping(box(500_000, 5_000_000, 501_000, 5_001_000))
    member = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32634"}}
    assert parse_aoi({**metres, "crs": member}).centre == pytest.approx((21.006, 45.157), abs=1e-3)


def test_old_geojson_with_an_unreadable_crs():
    assert "crs 'moon' cannot be read" in refusal({**GEOMETRY, "crs": "moon"})
    member = {"type": "name", "properties": {"name": "EPSG:1"}}
    assert "the area's crs='EPSG:1' cannot be read" in refusal({**GEOMETRY, "crs": member})


# --- a place drawn on a map


class Control:
    """What timo looks at in a draw control of ipyleaflet."""

    def __init__(self, last_draw=None, last_action="", data=()):
        self.last_draw, self.last_action, self.data = last_draw, last_action, list(data)


NOTHING = {"type": "Feature", "geometry": None}


@pytest.mark.parametrize(
    "drawn",
    [
        types.SimpleNamespace(user_roi=FEATURE),
        types.SimpleNamespace(user_roi=None, draw_control=Control(FEATURE)),
        types.SimpleNamespace(controls=(object(), Control(FEATURE, "created"))),
        types.SimpleNamespace(user_roi=None, draw_control=Control(NOTHING, "deleted", [FEATURE])),
    ],
)
def test_the_shape_drawn_last(drawn):
    assert parse_aoi(drawn).geometry.equals(PLACE)


@pytest.mark.parametrize(
    "drawn",
    [
        types.SimpleNamespace(user_roi=None),
        types.SimpleNamespace(user_roi=None, draw_control=Control(NOTHING)),
        types.SimpleNamespace(user_roi=FEATURE, draw_control=Control(FEATURE, "deleted")),
        types.SimpleNamespace(controls=()),
    ],
)
def test_nothing_is_drawn(drawn):
    assert "Nothing is drawn on the map yet" in refusal(drawn)


def test_a_real_map():
    ipyleaflet = pytest.importorskip("ipyleaflet")
    control = ipyleaflet.DrawControl()
    drawn = ipyleaflet.Map(controls=(control,))
    assert "Nothing is drawn" in refusal(drawn)
    # What the browser sends.
    control._handle_leaflet_event(None, {"event": "draw:created", "geo_json": FEATURE}, None)
    assert parse_aoi(drawn).geometry.equals(PLACE)


def earth_engine(name, **attributes):
    """An object whose class seems to come from the package ee."""
    return type(name, (), {"__module__": "ee.geometry", **attributes})()


def test_literal_earth_engine_objects():
    literal = {"func": None, "args": None, "toGeoJSON": lambda _: GEOMETRY}
    geometry = earth_engine("Geometry", **literal)
    assert parse_aoi(geometry).geometry.equals(PLACE)
    arguments = {"geometry": geometry, "metadata": None}
    feature = earth_engine("Feature", func=object(), args=arguments)
    assert parse_aoi(feature).geometry.equals(PLACE)


@pytest.mark.parametrize("arguments", [{"geometry": 1, "distance": 2}, {"collection": 1}])
def test_computed_earth_engine_objects(arguments):
    thing = earth_engine("Geometry", func=object(), args=arguments, toGeoJSON=None)
    message = refusal(thing)
    assert "ee.Geometry is known to Earth Engine's servers only" in message
    assert "getInfo()" in message


# --- refused


@pytest.mark.parametrize(
    ("aoi", "words"),
    [
        (None, ("NoneType is no area", "(west, south, east, north)")),
        (42, ("int is no area",)),
        ((1, 2, 3), ("not four finite numbers",)),
        ([[22, 45], [22.1, 45.1]], ("not four finite numbers",)),
        (("22", "45", "23", "46"), ("not four finite numbers",)),
        ((True, 45, 23, 46), ("not four finite numbers",)),
        ((math.nan, 45, 23, 46), ("(nan, 45, 23, 46) is not four finite numbers",)),
        ((22, 45, math.inf, 46), ("is not four finite numbers",)),
        ((22, 46, 23, 45), ("south 46 lies north of its north 45", "(west, south, east, north)")),
        ((23, 45, 22, 46), ("west 23 lies east of its east 22", "359 degrees wide")),
        ((-200, 45, 200, 46), ("400 degrees wide", "360")),
        ((22, 45, 22, 46), ("0 wide or 0 high",)),
        ((22, 45, 23, 45), ("0 wide or 0 high",)),
        ((22, 45, 23, 91), ("within -90..90", "got 91", "Longitude (x) comes first")),
        ((500_000, 5e6, 501_000, 5.001e6), ("seem to be metres", 'crs="EPSG:..."')),
        (box(500_000, 5e6, 501_000, 5.001e6), ("seem to be metres",)),
        (box(45, 110, 46, 111), ("swapped: longitude (x) comes first",)),
        (box(0, 0, 0, 1), ("0 wide or 0 high",)),
        (Polygon([(0, 0), (1, 1), (2, 2)]), ("0 wide or 0 high",)),
        (
            Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]),
            ("Self-intersection at (0.5 0.5)", "make_valid"),
        ),
        (Polygon([(0, 0), (1, 0), (1, math.nan)]), ("NaN",)),
        (Polygon([(0, 0), (1, 0), (1, math.inf)]), ("infinity",)),
        (Polygon(), ("empty",)),
        (Point(22, 45), ("Point", "Buffer it", "box around it")),
        (Point(22, 45).boundary, ("empty",)),
        (shapely.LineString([(0, 0), (1, 1)]), ("LineString", "covers no ground")),
        (collection(GEOMETRY, {"type": "Point", "coordinates": [1, 2]}), ("Point", "leave it out")),
        (collection(), ("empty", "holds no polygon")),
        (collection(None), ("empty",)),
        ({"type": "Feature", "geometry": None}, ("empty",)),
        ({"type": "Topology"}, ("no GeoJSON", "'Topology'")),
        ({"west": 1}, ("no GeoJSON", "None")),
        ({"type": "FeatureCollection", "features": [3]}, ("no GeoJSON",)),
        ({"type": "Polygon", "coordinates": [[1, 2], [3, 4]]}, ("coordinates", "Polygon")),
        ({"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [5, 6]]]}, ("cannot be read",)),
        ({"type": "Polygon"}, ("cannot be read",)),
        ("{broken", ("The text given as aoi is no GeoJSON",)),
        ("POLYGON((1 2, 3", ("no WKT",)),
        ("nowhere.geojson", ("not there", "nowhere.geojson")),
        (f"SRID=32634;{box(0, 0, 1, 1).exterior.wkt}", ("LinearRing", "covers no ground")),
        ("SRID=99999;POLYGON((0 0,1 0,1 1,0 0))", ("crs=99999 cannot be read",)),
        ("SRID=32634;POLYGON((0 0,9 9,9 0,0 9,0 0))", ("Self-intersection at (4.5 4.5)",)),
        (Polygon(RING), ("pole is inside", "(-180, 84, 180, 90)")),
        ("SRID=3413;POLYGON((-9 -9,9 -9,9 9,-9 9,-9 -9))", ("pole",)),
        ("SRID=32634;POLYGON((1e9 0,2e9 0,2e9 1,1e9 0))", ("cannot be drawn in 'WGS 84'",)),
    ],
)
def test_refused(aoi, words):
    message = refusal(aoi)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "is no GeoJSON"),
        ("[1, 2]", "holds a list"),
        ("\udcff", "cannot be read as GeoJSON"),
    ],
)
def test_files_that_are_no_geojson(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    message = refusal(path)
    assert words in message
    assert "a.json" in message


def test_a_file_that_no_library_reads(tmp_path):
    pytest.importorskip("geopandas")
    path = tmp_path / "a.gpkg"
    path.write_text("nothing")
    assert "cannot be read as a vector file" in refusal(path)


def test_a_geodataframe_without_crs():
    geopandas = pytest.importorskip("geopandas")
    assert "has no CRS" in refusal(geopandas.GeoSeries([PLACE]))
    empty = geopandas.GeoDataFrame(geometry=[None], crs=4326)
    assert "empty" in refusal(empty)


# --- units

UTM = box(600_000, 5_000_000, 601_000, 5_001_000)
KM = "+proj=utm +zone=34 +datum=WGS84 +units=km"


@pytest.mark.parametrize(
    ("aoi", "words"),
    [
        (box(600, 5000, 601, 5001), ("(601, 5001)", "no degrees but seem to be kilometres")),
        ((500, 4000, 510, 4010), ("kilometres", "times 1,000")),
        (UTM, ("no degrees but seem to be metres",)),
        ((500_000, 4, 500_001, 5), ("no degrees but seem to be metres",)),
    ],
)
def test_numbers_that_are_no_degrees_name_their_unit(aoi, words):
    for word in words:
        assert word in refusal(aoi)


@pytest.mark.parametrize(
    ("shape", "crs", "unit"),
    [
        (affine_transform(UTM, [1e-3, 0, 0, 1e-3, 0, 0]), 32634, "kilometres"),
        (affine_transform(UTM, [1e-3, 0, 0, 1e-3, 0, 0]), 32734, "kilometres"),
        (box(4321, 3210, 4322, 3211), 3035, "kilometres"),
        (PLACE, 32634, "degrees"),
        (PLACE, 3035, "degrees"),
        (UTM, 4326, "metres"),
        (UTM, 4258, "metres"),
    ],
)
def test_a_frame_in_another_unit_than_its_crs_is_refused(shape, crs, unit):
    geopandas = pytest.importorskip("geopandas")
    message = refusal(geopandas.GeoSeries([shape], crs=crs))
    assert f"seem to be {unit}" in message


def test_the_remedies_for_units_work():
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoSeries([PLACE], crs=32634)
    assert 'frame.set_crs("EPSG:...", allow_override=True)' in refusal(frame)
    assert parse_aoi(frame.set_crs("EPSG:4326", allow_override=True)).geometry.equals(PLACE)
    kilometres = affine_transform(UTM, [1e-3, 0, 0, 1e-3, 0, 0])
    right = parse_aoi(geopandas.GeoSeries([UTM], crs="EPSG:32634"))
    assert "kilometres" in refusal(geopandas.GeoSeries([kilometres], crs="EPSG:32634"))
    mended = parse_aoi(geopandas.GeoSeries([kilometres], crs=KM))
    assert mended.bounds == pytest.approx(right.bounds, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        # Far from the middle of their system, or near its origin, but right.
        (box(950_000, 5_500_000, 951_000, 5_501_000), 32632),
        (box(-5_000, -5_000, 5_000, 5_000), 6933),
        (box(-1_000, -1_000, 1_000, 1_000), 3857),
        (box(0, 0, 100, 100), 2154),
        (box(100, 100, 200, 200), 27700),
    ],
)
def test_places_that_are_right_pass(shape, crs):
    assert parse_aoi(f"SRID={crs};{shape.wkt}").planar[1].equals(shape)


@pytest.mark.parametrize("turn", [0, 360])
def test_longitudes_from_0_to_360(turn):
    area = parse_aoi((199 + turn - 360, -17, 200 + turn - 360, -16))
    assert area.bounds == (-161, -17, -160, -16)
    assert parse_aoi((179.5 + turn, -17, 180.5 + turn, -16)).bounds == (179.5, -17, 180.5, -16)


# --- the antimeridian


@pytest.mark.parametrize(
    "aoi",
    [
        JUMPING,
        (179.5, -17, -179.5, -16),
        (179.5, -17, 180.5, -16),
        (-180.5, -17, -179.5, -16),
        # Cut in two, as RFC 7946 has it.
        MultiPolygon([box(179.5, -17, 180, -16), box(-180, -17, -179.5, -16)]),
        collection(
            *(
                shapely.geometry.mapping(b)
                for b in (box(-180, -17, -179.5, -16), box(179.5, -17, 180, -16))
            )
        ),
    ],
)
def test_an_area_across_the_antimeridian(aoi):
    area = parse_aoi(aoi)
    assert area.geometry.equals(box(179.5, -17, 180.5, -16))
    assert area.centre == pytest.approx((-180, -16.5))
    halves = MultiPolygon([box(179.5, -17, 180, -16), box(-180, -17, -179.5, -16)])
    assert area.wrapped.equals(halves)
    assert shapely.geometry.shape(area.geojson).equals(halves)
    assert area.hectares == pytest.approx(parse_aoi((20, -17, 21, -16)).hectares, rel=1e-9)


def test_a_reprojected_area_across_the_antimeridian():
    area = parse_aoi("SRID=32601;POLYGON((3e5 8e6,5e5 8e6,5e5 8.1e6,3e5 8.1e6,3e5 8e6))")
    west, _, east, _ = area.bounds
    assert west < 180 < east < 190
    assert area.hectares == pytest.approx(2e6, rel=0.01)


def test_a_hole_across_the_antimeridian():
    hole = [(179.8, -16.8), (-179.8, -16.8), (-179.8, -16.2), (179.8, -16.2)]
    area = parse_aoi(Polygon(JUMPING.exterior.coords, [hole]))
    assert area.geometry.equals(box(179.5, -17, 180.5, -16) - box(179.8, -16.8, 180.2, -16.2))
    hole = [(-179.8, -16.8), (-179.6, -16.8), (-179.6, -16.2), (-179.8, -16.2)]
    area = parse_aoi(Polygon(JUMPING.exterior.coords, [hole]))
    assert area.geometry.equals(box(179.5, -17, 180.5, -16) - box(180.2, -16.8, 180.4, -16.2))


def test_parts_on_both_sides_take_the_short_way():
    area = parse_aoi(MultiPolygon([box(-100, 0, -99, 1), box(100, 0, 101, 1)]))
    assert area.bounds == (100, 0, 261, 1)
    area = parse_aoi(MultiPolygon([box(-10, 0, -9, 1), box(10, 0, 11, 1)]))
    assert area.bounds == (-10, 0, 11, 1)


def test_an_area_that_ends_at_the_antimeridian_is_not_cut():
    assert parse_aoi((170, 0, 180, 1)).wrapped.equals(box(170, 0, 180, 1))
    assert parse_aoi((-180, 0, -170, 1)).geometry.equals(box(-180, 0, -170, 1))


def test_the_world_and_a_cap_around_the_pole():
    world = parse_aoi((-180, -90, 180, 90))
    radius = 6371007.181  # of the sphere with the area of the WGS 84 ellipsoid
    assert world.hectares == pytest.approx(4 * math.pi * radius**2 / 1e4, rel=1e-6)
    assert world.wrapped.equals(box(-180, -90, 180, 90))
    assert parse_aoi(box(-180, 85, 180, 90)).bounds == (-180, 85, 180, 90)


# --- what an area says


def test_geojson_is_counterclockwise_and_hectares_ignore_the_order():
    clockwise = Polygon(list(PLACE.exterior.coords)[::-1])
    assert not clockwise.exterior.is_ccw
    area = parse_aoi(clockwise)
    assert shapely.geometry.shape(area.geojson).exterior.is_ccw
    assert json.loads(json.dumps(area.geojson))["type"] == "Polygon"
    assert area.hectares == pytest.approx(parse_aoi(PLACE).hectares)
    holed = parse_aoi(PLACE - box(22.02, 45.02, 22.04, 45.04))
    assert holed.hectares == pytest.approx(
        area.hectares - parse_aoi((22.02, 45.02, 22.04, 45.04)).hectares, rel=1e-6
    )


def test_repr():
    assert repr(parse_aoi(PLACE)) == "Area(8,755 ha around 45.0500 N, 22.0500 E)"
    assert str(parse_aoi((-60.1, -3.1, -60, -3))).endswith("around 3.0500 S, 60.0500 W)")


# --- laws

longitudes = st.floats(-180, 179.99).map(lambda x: round(x, 5))
latitudes = st.floats(-80, 79).map(lambda x: round(x, 5))
sizes = st.floats(0.001, 10).map(lambda x: round(x, 5) + 0.001)


@st.composite
def polygons(draw):
    """Star-shaped around a place anywhere, not wider than 10 degrees, maybe with a hole."""
    count = draw(st.integers(3, 9))
    radii = draw(st.lists(st.floats(0.3, 1), min_size=count, max_size=count))
    angles = 2 * np.pi * np.arange(count) / count
    size = draw(sizes) / 2
    outline = np.column_stack([np.cos(angles), np.sin(angles)]) * np.array(radii)[:, None] * size
    place = np.array([draw(longitudes), draw(latitudes)])
    holes = [outline * 0.3 + place] if draw(st.booleans()) else []
    return Polygon(outline + place, holes)


def jumping(polygon):
    """The same with all longitudes within -180..180, as a map or a file has them."""
    return shapely.transform(
        polygon, lambda p: np.column_stack([(p[:, 0] + 180) % 360 - 180, p[:, 1]])
    )


def same(one, other):
    return one.symmetric_difference(other).area <= 1e-9 * one.area


@given(polygons())
def test_longitudes_that_jump_are_made_continuous(polygon):
    area = parse_aoi(jumping(polygon))
    west, _, east, _ = area.bounds
    assert -180 <= west < 180
    assert east - west <= 10.01
    turns = round((west - polygon.bounds[0]) / 360)
    assert same(area.geometry, translate(polygon, 360 * turns))


@given(polygons(), st.sampled_from([-360, 360]))
def test_a_turn_of_the_globe_changes_nothing(polygon, turn):
    one, other = parse_aoi(polygon), parse_aoi(translate(polygon, turn))
    # West of a hair below 180 and one of -180 are the same place, and both are allowed.
    turns = round((one.bounds[0] - other.bounds[0]) / 360)
    assert same(one.geometry, translate(other.geometry, 360 * turns))
    assert one.hectares == pytest.approx(other.hectares, rel=1e-6)


@given(polygons())
def test_cutting_loses_nothing(polygon):
    area = parse_aoi(polygon)
    west, _, east, _ = area.wrapped.bounds
    assert -180 <= west < east <= 180
    assert area.wrapped.is_valid
    assert area.wrapped.area == pytest.approx(area.geometry.area, rel=1e-9)
    # And cut as a file has it, it is read as the same area.
    assert same(parse_aoi(area.geojson).geometry, area.geometry)
    # Its edges are measured in pieces of a tenth of a degree, which a cut makes others: millionths of the area.
    assert parse_aoi(area.geojson).hectares == pytest.approx(area.hectares, rel=1e-5)
