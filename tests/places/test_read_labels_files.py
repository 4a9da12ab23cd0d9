"""Files and tables of every common kind, and what is wrong with those that cannot be read."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import shapely
from ground_truth import LEFT, TOP, cells, frame, make_cube, painted, point

import timo
from timo.errors import TimoError

CUBE = make_cube()
FIELDS = frame([cells((1, 4), (1, 5)), cells((6, 10), (3, 9))], crop=["wheat", "maize"], no=[7, 8])
EXPECTED = painted((12, 15), ((1, 4), (1, 5), 1), ((6, 10), (3, 9), 0))
# A hair smaller: in degrees an edge on the middle of pixels may come to lie on their other side.
IN_DEGREES = FIELDS.assign(geometry=FIELDS.buffer(-0.5, join_style="mitre")).to_crs(4326)
POINTS = frame([point(2, 3), point(8, 10)], kind=["b", "a"]).to_crs(4326)
TABLE = pd.DataFrame({"kind": POINTS.kind, "lon": POINTS.geometry.x, "lat": POINTS.geometry.y})
ON_POINTS = painted((12, 15), ((2, 3), (3, 4), 1), ((8, 9), (10, 11), 0))


@pytest.mark.parametrize(
    "name", ["a.geojson", "a.gpkg", "a.shp", "a.fgb", "a.parquet", "a.shp.zip"]
)
@pytest.mark.parametrize("crs", [32633, 4326])
def test_vector_files(name, crs, tmp_path):
    fields = FIELDS if crs == 32633 else IN_DEGREES
    path = tmp_path / name
    fields.to_parquet(path) if name.endswith("parquet") else fields.to_file(path)
    for given in (path, str(path)):
        labels = timo.read_labels(given, CUBE, column="crop")
        np.testing.assert_array_equal(labels, EXPECTED)
        assert labels.attrs["classes"] == ["maize", "wheat"]
    numbers = timo.read_labels(path, CUBE, column="no")
    assert numbers.attrs["classes"] == ["7", "8"]
    assert name in labels.attrs["report"]


def test_kml_with_its_folders(tmp_path):
    path = tmp_path / "a.kml"
    IN_DEGREES.rename(columns={"crop": "Name"}).to_file(path, driver="LIBKML", layer="fields")
    np.testing.assert_array_equal(timo.read_labels(path, CUBE, column="Name"), EXPECTED)


def test_of_several_layers_one_is_chosen(tmp_path):
    path = tmp_path / "a.gpkg"
    FIELDS.to_file(path, layer="fields")
    FIELDS[:1].to_file(path, layer="first")
    with pytest.raises(TimoError, match=r"has the layers \['fields', 'first'\].*layer='fields'"):
        timo.read_labels(path, CUBE, column="crop")
    labels = timo.read_labels(path, CUBE, column="crop", layer="fields")
    np.testing.assert_array_equal(labels, EXPECTED)
    with pytest.raises(TimoError, match="cannot be read as vectors"):
        timo.read_labels(path, CUBE, column="crop", layer="second")


@pytest.mark.parametrize("as_text", [True, False])
def test_geojson_as_a_mapping_or_text(as_text):
    data = json.loads(IN_DEGREES.to_json())
    labels = timo.read_labels(json.dumps(data) if as_text else data, CUBE, column="crop")
    np.testing.assert_array_equal(labels, EXPECTED)
    old = json.loads(FIELDS.to_json(to_wgs84=False)) | {
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    }
    np.testing.assert_array_equal(timo.read_labels(old, CUBE, column="crop"), EXPECTED)


def test_a_file_that_states_the_order_of_its_classes_keeps_it(tmp_path):
    """As label files of the workbench do; features may lack some of them."""
    data = json.loads(IN_DEGREES.to_json())
    data = {
        "type": data["type"],
        "classes": ["wheat", "rye", "maize"],
        "features": data["features"],
    }
    (tmp_path / "a.geojson").write_text(json.dumps(data))
    for source in (data, tmp_path / "a.geojson"):
        labels = timo.read_labels(source, CUBE, column="crop")
        assert labels.attrs["classes"] == ["wheat", "rye", "maize"]
        assert labels.values[2, 2] == 0
        assert "as the source states it" in labels.attrs["report"]


def test_labels_of_the_workbench_are_read_back(tmp_path):
    from timo_widgets import LabelStore, label_files

    store = LabelStore(CUBE, ["water", "forest"])
    store.add(shapely.geometry.mapping(IN_DEGREES.geometry[0]), "forest")
    store.paint(8, 8, "water", size=3, start="2020-06", end="2020-06")
    label_files.save(store, tmp_path / "labels.geojson")
    path = tmp_path / "labels.geojson"
    labels = timo.read_labels(path, CUBE, dates=("start", "end"), column="class")
    assert labels.attrs["classes"] == ["water", "forest"]
    # A label without dates is left out where dates are asked for.
    expected = store.labels().where(store.labels() == 0, -1)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.csv"])
def test_the_workbench_reads_what_read_labels_reads(name, tmp_path):
    from timo_widgets import LabelStore, label_files

    fields = IN_DEGREES.rename(columns={"crop": "class"})
    if name == "a.csv":
        fields.assign(geometry=fields.geometry.to_wkt()).to_csv(tmp_path / name, index=False)
    else:
        fields.to_file(tmp_path / name)
    store = LabelStore(CUBE)
    assert label_files.load(store, tmp_path / name) == 0
    assert store.classes == ["wheat", "maize"]
    np.testing.assert_array_equal(store.labels().values, np.where(EXPECTED < 0, -1, 1 - EXPECTED))


# --- tables


@pytest.mark.parametrize(
    "names",
    [("lon", "lat"), ("Longitude", "Latitude"), ("LONG", "LAT"), ("lng", "lat"), ("x", "y"), ("X", "Y"),
     ("decimalLongitude", "decimalLatitude")],
)  # fmt: skip
def test_longitude_and_latitude_are_found_by_their_names(names, tmp_path):
    table = TABLE.rename(columns=dict(zip(("lon", "lat"), names, strict=True)))
    table.to_csv(tmp_path / "a.csv", index=False)
    for source in (table, tmp_path / "a.csv"):
        labels = timo.read_labels(source, CUBE)
        np.testing.assert_array_equal(labels, ON_POINTS)
    assert ("taken for longitude" in labels.attrs["report"]) == (names[0] in "xX")


@pytest.mark.parametrize("names", [("x", "y"), ("easting", "northing"), ("POINT_X", "POINT_Y")])
def test_coordinates_in_any_system(names, tmp_path):
    there = POINTS.to_crs(3035)
    table = pd.DataFrame(
        {"kind": there.kind, names[0]: there.geometry.x, names[1]: there.geometry.y}
    )
    labels = timo.read_labels(table, CUBE, crs="EPSG:3035")
    np.testing.assert_array_equal(labels, ON_POINTS)
    with pytest.raises(TimoError, match=r'no degrees.*crs="EPSG:\.\.\.", or crs=cube\.rio\.crs'):
        timo.read_labels(table, CUBE)
    other = table.rename(columns={names[0]: "a", names[1]: "b"})
    with pytest.raises(TimoError, match=r'none that are coordinates by their names.*x="\.\.\."'):
        timo.read_labels(other, CUBE, column="kind", crs=3035)
    named = timo.read_labels(other, CUBE, column="kind", crs=3035, x="a", y="b")
    np.testing.assert_array_equal(named, ON_POINTS)
    with pytest.raises(TimoError, match="x= and y= are given together"):
        timo.read_labels(other, CUBE, column="kind", crs=3035, x="a")


@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("|", ".")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_as_programs_write_it(separator, decimal, encoding, tmp_path):
    TABLE.assign(site=["007", "7"]).to_csv(
        tmp_path / "a.csv", sep=separator, decimal=decimal, encoding=encoding, index=False
    )
    labels = timo.read_labels(tmp_path / "a.csv", CUBE, column="kind", groups="site")
    np.testing.assert_array_equal(labels, ON_POINTS)
    # Ids are text: 007 is not 7.
    assert sorted(labels.attrs["groups"]) == ["007", "7"]


def test_geometries_as_text_in_a_table():
    wkt = pd.DataFrame({"kind": POINTS.kind, "WKT": POINTS.geometry.to_wkt()})
    np.testing.assert_array_equal(timo.read_labels(wkt, CUBE), ON_POINTS)
    # As Earth Engine exports tables.
    ee = pd.DataFrame({"kind": POINTS.kind, ".geo": shapely.to_geojson(POINTS.geometry.values)})
    np.testing.assert_array_equal(timo.read_labels(ee, CUBE), ON_POINTS)
    utm = pd.DataFrame({"crop": FIELDS.crop, "geometry": FIELDS.geometry.to_wkt()})
    np.testing.assert_array_equal(timo.read_labels(utm, CUBE, crs=32633), EXPECTED)


def test_missing_coordinates_are_left_out_and_text_is_refused():
    table = pd.concat([TABLE, pd.DataFrame({"kind": ["a"]})], ignore_index=True)
    labels = timo.read_labels(table, CUBE)
    assert labels.attrs["report"].left_out.values.tolist() == [["no geometry", 1, 0]]
    wrong = TABLE.astype({"lat": str})
    wrong.loc[1, "lat"] = "45,1"
    with pytest.raises(TimoError, match=r"'lat' holds '45,1' in row 1.*decimal=','"):
        timo.read_labels(wrong, CUBE)


def test_swapped_columns_are_said():
    east = TABLE.assign(lon=TABLE.lat, lat=TABLE.lon + 100)
    with pytest.raises(TimoError, match="longitude and latitude are swapped"):
        timo.read_labels(east, CUBE)
    turned = POINTS.set_geometry(
        shapely.transform(POINTS.geometry.values, lambda xy: xy[:, ::-1] + np.array([0, 80]))
    )
    with pytest.raises(TimoError, match=r"frame\.set_geometry\(shapely\.transform\("):
        timo.read_labels(turned, CUBE)
    swapped = POINTS.set_geometry(shapely.transform(POINTS.geometry.values, lambda xy: xy[:, ::-1]))
    mended = swapped.set_geometry(
        shapely.transform(swapped.geometry.values, lambda xy: xy[:, ::-1])
    )
    np.testing.assert_array_equal(timo.read_labels(mended, CUBE), ON_POINTS)
    with pytest.raises(TimoError, match="With x and y swapped it would lie there"):
        timo.read_labels(TABLE.rename(columns={"lon": "lat", "lat": "lon"}), CUBE)


# --- reference systems


def test_the_reference_system_must_be_known():
    bare = FIELDS.set_crs(None, allow_override=True)
    with pytest.raises(TimoError, match="names no coordinate reference system"):
        timo.read_labels(bare, CUBE, column="crop")
    labels = timo.read_labels(bare, CUBE, column="crop", crs=CUBE.rio.crs)
    np.testing.assert_array_equal(labels, EXPECTED)


def test_a_file_that_names_the_wrong_system_is_found_out(tmp_path):
    """GeoJSON without a CRS is in degrees; metres in it are refused, and crs= says what they are."""
    path = tmp_path / "a.geojson"
    path.write_text(
        FIELDS.to_json(to_wgs84=False, drop_id=True).replace("EPSG::32633", "OGC::CRS84")
    )
    data = json.loads(path.read_text())
    data.pop("crs", None)
    path.write_text(json.dumps(data))
    with pytest.raises(TimoError, match=r"which are no degrees.*crs=cube\.rio\.crs"):
        timo.read_labels(path, CUBE, column="crop")
    labels = timo.read_labels(path, CUBE, column="crop", crs=CUBE.rio.crs)
    np.testing.assert_array_equal(labels, EXPECTED)
    assert "crs= was taken in place of EPSG:4326" in labels.attrs["report"]
    with pytest.raises(TimoError, match=r'coordinates in degrees.*crs="EPSG:4326"'):
        timo.read_labels(IN_DEGREES.set_crs(32633, allow_override=True), CUBE, column="crop")


def test_longitudes_of_another_turn_are_the_same_places():
    like = make_cube(crs=4326, left=190.0, top=45.0, step=1e-4)
    for turn in (-360, 0, 360):
        box = shapely.box(190.0002 + turn - 360, 44.9995, 190.0005 + turn - 360, 44.9999)
        labels = timo.read_labels(frame([box], 4326, kind=["a"]), like)
        np.testing.assert_array_equal(labels, painted((12, 15), ((1, 5), (2, 5), 0)))


# --- what is no source


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.gpkg", r"There is no file .*none\.gpkg"),
        (lambda _: "", "source is an empty text"),
        (lambda _: 3, "source=3 holds no labels. Give a GeoJSON, GeoPackage"),
        (lambda _: None, "holds no labels"),
        (lambda _: "{", "The text is no GeoJSON"),
        (lambda _: {"type": "FeatureCollection"}, "no GeoJSON FeatureCollection"),
        (lambda _: {"type": "FeatureCollection", "features": []}, "has no features"),
        (lambda _: {"type": "FeatureCollection", "features": [3]}, "cannot be read"),
        (lambda _: FIELDS[:0], "has no features"),
        (lambda _: FIELDS.assign(geometry=None), "has a geometry"),
        (lambda _: FIELDS[["geometry"]], "no column but its geometries"),
        (lambda _: pd.DataFrame(), "none that are coordinates"),
        (lambda p: text(p / "a.gpkg", "no file of this kind"), "cannot be read as vectors"),
        (lambda p: text(p / "a.csv", ""), "cannot be read as a table"),
        (lambda p: text(p / "a.csv", "lon,lat,k\n1,2,\xe9\n", "latin-1"), "no UTF-8 text"),
        (lambda p: text(p / "a.csv", "k,geometry\na,POINT (\n"), "no WKT or GeoJSON"),
        (lambda p: text(p / "a.parquet", "x"), "cannot be read as Parquet"),
    ],
)
def test_what_is_no_source_is_refused(make, message, tmp_path):
    with pytest.raises(TimoError, match=message):
        timo.read_labels(make(tmp_path), CUBE)


def text(path, words, encoding="utf-8"):
    path.write_text(words, encoding=encoding)
    return path


def test_parquet_without_its_library_names_it(tmp_path, monkeypatch):
    FIELDS.to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TimoError, match="pip install pyarrow"):
        timo.read_labels(tmp_path / "a.parquet", CUBE)


def test_a_table_in_parquet(tmp_path):
    TABLE.to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(timo.read_labels(tmp_path / "a.parquet", CUBE), ON_POINTS)


def test_the_csv_of_points_that_a_user_wrote_thirteen_lines_for(tmp_path):
    """Two points in one pixel, one beside the cube, a date each: all said."""
    rows = [(2, 3, "open"), (2, 3, "forest"), (8, 10, "forest"), (80, 10, "open")]
    there = frame([point(r, c) for r, c, _ in rows], kind=[k for *_, k in rows]).to_crs(4326)
    table = pd.DataFrame(
        {
            "lon": there.geometry.x,
            "lat": there.geometry.y,
            "class": there.kind,
            "date": "2020-06-25",
        }
    )
    table.to_csv(tmp_path / "points.csv", index=False)
    labels = timo.read_labels(tmp_path / "points.csv", CUBE, dates="date")
    assert labels.sizes["time"] == 4
    assert [int((plane >= 0).sum()) for plane in labels] == [0, 0, 1, 0]
    assert labels.attrs["report"].left_out.values.tolist() == [
        ["outside of the grid", 1, 0],
        ["conflicting, left unlabelled", 2, 1],
    ]


def test_coordinates_of_the_grid_are_those_of_the_cube():
    labels = timo.read_labels(FIELDS, CUBE, column="crop")
    assert labels.indexes["x"].equals(CUBE.indexes["x"])
    assert labels.rio.crs == CUBE.rio.crs
    assert (float(labels.x[0]), float(labels.y[0])) == (LEFT + 5, TOP - 5)
