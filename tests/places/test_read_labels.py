"""Points, lines and polygons as labels: which pixels, which class, which date, and what is left out."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from ground_truth import CELL, DATES, LEFT, TOP, cells, frame, make_cube, painted, point
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import timo
from timo.cube import check_labels
from timo.errors import TimoError
from timo.places import LabelReport

CUBE = make_cube()
TWO = ((0, 4), (0, 5)), ((6, 10), (3, 9))


def two(**columns):
    """Two fields that do not touch."""
    return frame([cells(*TWO[0]), cells(*TWO[1])], **columns)


def left_out(labels):
    """Reason -> (features, pixels)."""
    table = labels.attrs["report"].left_out
    return {row.reason: (row.features, row.pixels) for row in table.itertuples()}


def test_polygons_label_the_pixels_whose_centre_is_inside():
    labels = timo.read_labels(two(crop=["wheat", "maize"], area=[1, 2]), CUBE, column="crop")
    check_labels(labels, CUBE)
    assert labels.dims == ("y", "x")
    assert labels.dtype == "int16"
    assert labels.attrs["classes"] == ["maize", "wheat"]
    assert labels.attrs["long_name"] == "crop"
    np.testing.assert_array_equal(labels, painted((12, 15), (*TWO[0], 1), (*TWO[1], 0)))
    rows = painted((12, 15), (*TWO[0], 0), (*TWO[1], 1))
    np.testing.assert_array_equal(labels.feature, rows)
    np.testing.assert_array_equal(labels.group, rows)
    assert labels.feature.dtype == labels.group.dtype == "int32"
    report = labels.attrs["report"]
    assert report.classes.features.to_dict() == {"maize": 1, "wheat": 1}
    assert report.classes.pixels.to_dict() == {"maize": 24, "wheat": 20}
    assert report.left_out.empty
    assert "Order of the classes (alphabetical): maize, wheat." in report


@pytest.mark.parametrize("axes", ["north up", "south up", "west"])
@pytest.mark.parametrize("crs", [4326, 3035, 32634])
def test_features_in_another_system_and_axes_the_other_way(crs, axes):
    """Carried to the grid, a field has the same pixels: its edges follow the bend."""
    like = {"north up": CUBE, "south up": CUBE[:, :, ::-1], "west": CUBE[..., ::-1]}[axes]
    inside = frame([cells((1, 11), (1, 14)).buffer(-1)], crop=["a"]).to_crs(crs)
    labels = timo.read_labels(inside, like)
    expected = painted((12, 15), ((1, 11), (1, 14), 0))
    np.testing.assert_array_equal(labels.reindex_like(CUBE), expected)


def test_a_long_edge_is_bent_as_it_runs_in_the_other_system():
    """A parallel of 100 km is no straight line in UTM: it is off by some 70 m between its ends."""
    like = make_cube(rows=2000, columns=2, left=450_000, step=50)
    west, south, east, north = 14.0, 44.9, 15.6, 45.1
    labels = timo.read_labels(frame([shapely.box(west, south, east, north)], 4326, a=["x"]), like)
    lat = xr.DataArray(
        np.array(
            [
                shapely.get_y(p)
                for p in frame(
                    [shapely.Point(450_025, y) for y in like.y.values], 32633
                ).to_crs(4326).geometry
            ]
        ),
        dims="y",
    )  # fmt: skip
    expected = (lat > south) & (lat < north)
    np.testing.assert_array_equal(labels[:, 0] == 0, expected)


def test_points_label_their_pixel_or_those_around():
    points = frame([point(2, 3), point(8, 10, right=4, down=-4)], kind=["a", "b"])
    labels = timo.read_labels(points, CUBE)
    assert np.argwhere(labels.values == 0).tolist() == [[2, 3]]
    assert np.argwhere(labels.values == 1).tolist() == [[8, 10]]
    wide = timo.read_labels(points, CUBE, radius_m=15)
    y, x = np.meshgrid(np.arange(12), np.arange(15), indexing="ij")
    for (row, column), number in (((2, 3), 0), ((7.6, 10.4), 1)):
        near = np.hypot(y - row, x - column) * CELL <= 15
        np.testing.assert_array_equal(wide == number, near)
    # However small the circle is, a point labels its own pixel.
    tiny = timo.read_labels(points, CUBE, radius_m=0.1)
    np.testing.assert_array_equal(tiny, labels)


@pytest.mark.parametrize(
    ("crs", "left", "top", "step"),
    [(4326, 15.0, 60.0, 1e-4), (3857, 1_669_800.0, 8_399_738.0, 20.0), (3035, 4_321_000.0, 3_210_000.0, 10.0)],
)  # fmt: skip
def test_a_radius_is_in_metres_on_the_ground_in_any_system(crs, left, top, step):
    like = make_cube(60, 120, crs=crs, left=left, top=top, step=step)
    middle = shapely.Point(like.x.values[60], like.y.values[30])
    labels = timo.read_labels(frame([middle], crs, a=["x"]), like, radius_m=100)
    x, y = np.meshgrid(like.x, like.y)
    lonlat = frame(shapely.points(np.stack([x, y], -1).reshape(-1, 2)), crs).to_crs(4326)
    there = frame([middle], crs).to_crs(4326).geometry.iloc[0]
    from pyproj import Geod

    metres = (
        Geod(ellps="WGS84")
        .inv(
            np.full(x.size, there.x), np.full(x.size, there.y), lonlat.geometry.x, lonlat.geometry.y
        )[2]
        .reshape(x.shape)
    )
    # But for what lies on the edge of the circle.
    sure = np.abs(metres - 100) > 0.5
    np.testing.assert_array_equal((labels == 0).values[sure], (metres < 100)[sure])
    assert (labels == 0).sum() > 20


def test_lines_label_the_pixels_that_they_run_through():
    line = shapely.LineString([(LEFT + 5, TOP - 5), (LEFT + 35, TOP - 5), (LEFT + 35, TOP - 28)])
    labels = timo.read_labels(frame([line], road=["path"]), CUBE)
    assert np.argwhere(labels.values == 0).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [0, 3],
        [1, 3],
        [2, 3],
    ]


def test_touched_takes_all_pixels_that_a_polygon_touches_and_none_beside_its_edge():
    slim = shapely.box(LEFT + 12, TOP - 39, LEFT + 14, TOP - 1)
    whole = cells((6, 8), (6, 8))
    both = frame([slim, whole], kind=["slim", "whole"])
    labels = timo.read_labels(both, CUBE)
    assert (labels == 0).sum() == 0
    assert left_out(labels) == {"too small, no pixel's centre inside": (1, 0)}
    assert "touched=True" in labels.attrs["report"]
    touched = timo.read_labels(both, CUBE, touched=True)
    np.testing.assert_array_equal(
        touched, painted((12, 15), ((0, 4), (1, 2), 0), ((6, 8), (6, 8), 1))
    )


def test_each_pixel_of_a_shared_edge_is_in_one_of_the_two():
    """Fields that touch, with their edge through the middle of pixels, share all pixels out between them."""
    edge = LEFT + 5 * CELL + CELL / 2
    a = shapely.box(LEFT, TOP - 120, edge, TOP)
    b = shapely.box(edge, TOP - 120, LEFT + 150, TOP)
    labels = timo.read_labels(frame([a, b], kind=["a", "b"]), CUBE)
    assert (labels >= 0).all()
    assert left_out(labels) == {}


@settings(max_examples=25)
@given(
    corners=st.lists(
        st.tuples(st.integers(-20, 170), st.integers(-20, 140)), min_size=3, max_size=9, unique=True
    ),
    hole=st.booleans(),
)
def test_the_pixels_are_those_that_shapely_says(corners, hole):
    """Of any polygon, with holes or of several parts, whatever lies beside the grid."""
    points = np.array(corners) + 0.25  # no corner on a centre
    shape = shapely.make_valid(shapely.Polygon(points), method="structure", keep_collapsed=False)
    if hole:
        shape = shape.difference(shapely.box(40.25, 30.25, 71.25, 66.25))
    shape = shapely.transform(shape, lambda p: p * [1, -1] + [LEFT, TOP])
    x, y = np.meshgrid(CUBE.x, CUBE.y)
    # A centre on an edge itself is inside by one rounding and outside by another.
    assume(shapely.distance(shapely.boundary(shape), shapely.points(x, y)).min() > 1e-6)
    expected = shapely.contains_xy(shape, x, y)
    for kind in (shape, shapely.GeometryCollection([shape, shape])):
        if not expected.any():
            with pytest.raises(TimoError, match=r"labels a pixel|has a geometry"):
                timo.read_labels(frame([kind], a=["x"]), CUBE)
        else:
            labels = timo.read_labels(frame([kind], a=["x"]), CUBE)
            np.testing.assert_array_equal(labels == 0, expected)
    pixels = shapely.box(x - 5, y - 5, x + 5, y + 5)
    touched = shapely.area(shapely.intersection(pixels, shape)) > 0
    if touched.any():
        labels = timo.read_labels(frame([shape], a=["x"]), CUBE, touched=True)
        # A pixel of which the shape has no more than a point or an edge may be either.
        sure = touched | ~shapely.intersects(pixels, shape)
        np.testing.assert_array_equal((labels == 0).values[sure], touched[sure])


# --- conflicts


OVER = [cells((0, 4), (0, 4)), cells((2, 6), (2, 6)), cells((3, 4), (3, 4))]


@pytest.mark.parametrize(
    ("rule", "twice", "thrice"),
    [("drop", -1, -1), ("first", 0, 0), ("last", 1, 1), ("majority", -1, 1)],
)
def test_what_becomes_of_a_pixel_that_several_features_claim(rule, twice, thrice):
    """Rows 2 and 3 of the first two overlap; one pixel has a third, of the second's class."""
    over = frame(OVER, kind=["a", "b", "b"])
    labels = timo.read_labels(over, CUBE, conflicts=rule)
    assert labels.values[0, 0] == 0
    assert labels.values[5, 5] == 1
    assert labels.values[2, 2] == twice
    assert labels.values[3, 3] == thrice
    ((reason, counts),) = left_out(labels).items()
    assert reason.startswith("conflicting")
    assert counts == (3, 4)
    source = {-1: -1, 0: 0, 1: {"last": 2, "majority": 1}.get(rule)}[thrice]
    assert labels.feature.values[3, 3] == source


def test_conflicts_can_be_refused_and_agreement_is_none():
    with pytest.raises(
        TimoError, match=r"4 pixels lie in features that disagree, such as rows \[0, 1\]"
    ):
        timo.read_labels(frame(OVER, kind=["a", "b", "b"]), CUBE, conflicts="error")
    same = timo.read_labels(frame(OVER, kind=["b", "b", "b"]), CUBE, conflicts="error")
    assert (same == 0).sum() == 28
    assert same.feature.values[3, 3] == 0
    covered = "with the same answer as others, which its pixels are labelled from"
    assert left_out(same) == {covered: (1, 0)}


def test_every_point_of_a_pixel_is_accounted_for():
    points = frame([point(2, 2), point(2, 2), point(2, 2), point(5, 5)], kind=["a", "a", "a", "b"])
    report = timo.read_labels(points, CUBE).attrs["report"]
    assert report.classes.features.to_dict() == {"a": 1, "b": 1}
    assert report.left_out.features.tolist() == [2]
    assert "2 features: with the same answer as others" in report


def test_values_of_a_pixel_can_be_averaged():
    over = frame(OVER, t_ha=[4.0, 8.0, 9.0])
    labels = timo.read_labels(over, CUBE, numeric=True, conflicts="mean", units="t/ha")
    check_labels(labels, CUBE, numeric=True)
    assert labels.dtype == "float32"
    assert labels.attrs["units"] == "t/ha"
    assert labels.attrs["long_name"] == "t_ha"
    assert "classes" not in labels.attrs
    assert labels.values[[0, 2, 3, 5], [0, 2, 3, 5]].tolist() == [4, 6, 7, 8]
    assert np.isnan(labels.values[11, 11])
    row = labels.attrs["report"].classes.iloc[0]
    assert (row.pixels, row.lowest, row.highest) == (28, 4, 8)
    with pytest.raises(TimoError, match="Use 'majority'"):
        timo.read_labels(frame(OVER, kind=["a", "b", "b"]), CUBE, conflicts="mean")
    with pytest.raises(TimoError, match="Use 'mean'"):
        timo.read_labels(over, CUBE, numeric=True, conflicts="majority")


# --- what is left out


def test_all_that_is_left_out_is_reported_once_for_its_first_reason():
    shapes = [
        cells((0, 4), (0, 4)),
        cells((100, 120), (0, 4)),
        None,
        shapely.Polygon(),
        point(8, 8).buffer(1),
        cells((6, 8), (6, 8)),
        cells((6, 8), (10, 12)),
        cells((9, 10), (1, 2)),
    ]
    kinds = ["a", "b", "a", "a", "a", None, "water", "b"]
    points = frame([*shapes[:4], point(8, 8, right=4.9).buffer(0.01), *shapes[5:]], kind=kinds)
    labels = timo.read_labels(points, CUBE, ignore=["water"], min_pixels=2)
    assert left_out(labels) == {
        "no class in 'kind'": (1, 0),
        "ignored": (1, 0),
        "no geometry": (2, 0),
        "outside of the grid": (1, 0),
        "too small, no pixel's centre inside": (1, 0),
        "fewer than 2 pixels": (1, 0),
    }
    assert labels.attrs["classes"] == ["a", "b"]
    report = labels.attrs["report"]
    assert report.classes.features.tolist() == [1, 0]
    for reason in left_out(labels):
        assert reason in report


def test_crossed_outlines_heights_and_several_parts():
    bow = shapely.Polygon([(0, 2), (40, 37), (40, 2), (0, 37)])
    bow = shapely.transform(bow, lambda p: p + np.array([LEFT, TOP - 40]))
    high = shapely.force_3d(cells((6, 8), (0, 2)), 7)
    parts = shapely.MultiPolygon([cells((6, 8), (4, 6)), cells((6, 8), (8, 10))])
    labels = timo.read_labels(frame([bow, high, parts], kind=["bow", "high", "parts"]), CUBE)
    # Of the two triangles, which meet in the middle.
    expected = painted((12, 15), ((6, 8), (0, 2), 1), ((6, 8), (4, 6), 2), ((6, 8), (8, 10), 2))
    halves = shapely.make_valid(bow)
    expected[shapely.contains_xy(halves, *np.meshgrid(CUBE.x, CUBE.y))] = 0
    assert (expected == 0).sum() == 4
    np.testing.assert_array_equal(labels, expected)
    assert "1 invalid geometries were repaired" in labels.attrs["report"]


def test_nothing_labelled_is_refused_with_the_reasons():
    far = frame([cells((100, 120), (0, 4)), None], kind=["a", "a"])
    with pytest.raises(TimoError, match=r"1 no geometry, 1 outside of the grid.*another place\?"):
        timo.read_labels(far, CUBE)
    swapped = two(kind=["a", "b"])
    swapped["geometry"] = shapely.transform(
        swapped.to_crs(4326).geometry.values, lambda p: p[:, ::-1]
    )
    with pytest.raises(TimoError, match="x and y swapped"):
        timo.read_labels(swapped.set_crs(4326, allow_override=True), CUBE)


def test_the_report_survives_copies_pickles_and_files(tmp_path):
    labels = timo.read_labels(two(kind=["a", "b"]), CUBE)
    report = labels.attrs["report"]
    assert isinstance(report, LabelReport)
    assert repr(report) == str(report)
    for copied in (copy.deepcopy(report), pickle.loads(pickle.dumps(report))):  # noqa: S301
        assert copied == report
        assert copied.classes.equals(report.classes)
    assert labels.copy(deep=True).attrs["report"].classes.equals(report.classes)
    timo.export(labels, tmp_path / "labels.zarr")
    timo.export(labels, tmp_path / "labels.tif")
    again = timo.read_labels(tmp_path / "labels.tif", CUBE)
    assert again.attrs["classes"] == ["a", "b"]
    np.testing.assert_array_equal(again, labels)


# --- groups


def test_groups_keep_their_names_and_number_by_name():
    sites = frame(
        [cells((0, 2), (0, 2)), cells((3, 5), (0, 2)), cells((6, 8), (0, 2)), cells((9, 11), (0, 2))],
        kind=["a", "b", "a", "b"],
        site=["s10", "s2", "s10", None],
    )  # fmt: skip
    labels = timo.read_labels(sites, CUBE, column="kind", groups="site")
    assert labels.attrs["groups"] == ["feature 3", "s10", "s2"]
    assert labels.group.values[[0, 3, 6, 9], 0].tolist() == [1, 2, 1, 0]
    assert labels.feature.values[[0, 3, 6, 9], 0].tolist() == [0, 1, 2, 3]
    assert (labels.group.values[:, 5:] == -1).all()
    assert "feature_ids" not in labels.attrs


# --- dates


def test_a_span_holds_from_its_first_to_its_last_day():
    fields = two(
        crop=["a", "b"], start=["2020-03-11", "2020-06-01"], end=["2020-06-20", "2020-06-01"]
    )
    labels = timo.read_labels(fields, CUBE, column="crop", dates=("start", "end"))
    check_labels(labels, CUBE)
    assert labels.dims == ("time", "y", "x")
    assert labels.values[:, 0, 0].tolist() == [-1, 0, 0, -1]
    assert labels.values[:, 7, 4].tolist() == [-1, 1, -1, -1]
    assert labels.attrs["report"].classes.pixels.tolist() == [20, 24]
    assert labels.feature.dims == ("y", "x")
    assert labels.feature.values[7, 4] == 1


def test_open_spans_missing_dates_and_conflicts_on_a_date_only():
    fields = frame(
        [cells((0, 2), (0, 2))] * 3 + [cells((5, 7), (0, 2)), cells((9, 11), (0, 2))],
        crop=["a", "b", "a", "b", "a"],
        start=["2020-01-01", "2020-06-10", None, "2021-01-01", None],
        end=["2020-06-05", None, "2020-03-31", "2021-02-01", None],
    )
    labels = timo.read_labels(fields, CUBE, column="crop", dates=("start", "end"))
    assert labels.values[:, 0, 0].tolist() == [0, 0, 1, 1]
    assert left_out(labels) == {
        "no date": (1, 0),
        "on no date of the cube": (1, 0),
        # The third is where and when the first is.
        "with the same answer as others, which its pixels are labelled from": (1, 0),
    }
    assert "2 features state one end" in labels.attrs["report"]
    fields.loc[1, "start"] = "2020-05-01"
    fought = timo.read_labels(fields, CUBE, column="crop", dates=("start", "end"))
    assert fought.values[:, 0, 0].tolist() == [0, -1, 1, 1]
    assert left_out(fought)["conflicting, left unlabelled"] == (2, 4)


@pytest.mark.parametrize("kind", ["text", "datetime", "date", "zone"])
def test_a_day_is_laid_on_the_nearest_date_of_the_cube(kind):
    days = ["2020-06-04", "2020-06-12", "2020-08-01", None]
    column = {
        "text": days,
        "datetime": pd.to_datetime(days),
        "date": [None if d is None else pd.Timestamp(d).date() for d in days],
        "zone": pd.to_datetime(days).tz_localize("Asia/Tokyo"),
    }[kind]
    points = frame([point(i, i) for i in range(4)], crop=["a", "b", "a", "b"], seen=column)
    labels = timo.read_labels(points, CUBE, column="crop", dates="seen")
    assert labels.values[:, 0, 0].tolist() == [-1, 0, -1, -1]
    assert labels.values[:, 1, 1].tolist() == [-1, -1, 1, -1]
    assert left_out(labels) == {"no date": (1, 0), "on no date of the cube": (1, 0)}
    assert "up to 8 days away" in labels.attrs["report"]
    wider = timo.read_labels(points, CUBE, column="crop", dates="seen", within_days=40)
    assert wider.values[:, 2, 2].tolist() == [-1, -1, -1, 0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2020, [0, 0, 0, 0]), (2020.0, [0, 0, 0, 0]), ("2020-06", [-1, 0, 0, -1]), ("2020", [0] * 4)],
)
def test_a_month_or_a_year_means_all_of_it(value, expected):
    points = frame([point(0, 0), point(1, 1)], crop=["a", "b"], when=[value, None])
    labels = timo.read_labels(points, CUBE, column="crop", dates="when")
    assert labels.values[:, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("dates", "values", "message"),
    [
        ("when", ["07/08/2019", "2020"], "Column 'when' holds a date that cannot be read.*may be"),
        ("when", [True, False], "cannot be read"),
        ("wehn", ["2020", "2020"], "dates='wehn' is no column.*Did you mean 'when'"),
        (("when", "crop"), ["2020", "2021"], "cannot be read"),
    ],
)
def test_dates_that_cannot_be_are_refused(dates, values, message):
    with pytest.raises(TimoError, match=message):
        timo.read_labels(two(crop=["a", "b"], when=values), CUBE, column="crop", dates=dates)


def test_dates_need_dates_and_their_order():
    fields = two(crop=["a", "b"], start=["2020-06", "2020"], end=["2020-07", "2019"])
    with pytest.raises(TimoError, match="Feature 1 ends on 2019-12-31 before it begins") as caught:
        timo.read_labels(fields, CUBE, column="crop", dates=("start", "end"))
    assert "dates=('end', 'start')" in str(caught.value)
    with pytest.raises(TimoError, match="Labels hold on dates, and the grid has none"):
        timo.read_labels(fields, CUBE[0, 0].drop_vars("time"), column="crop", dates="start")


# --- options that do not fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "plnat"}, "column='plnat' is no column.*Did you mean 'plant'"),
        ({}, r"Which column of GeoDataFrame has the labels\? It has \['plant', 'yield'\]"),
        ({"column": "plant", "numeric": True}, "holds 'wheat' in row 0, which is no number"),
        ({"column": "yield", "numeric": True, "classes": ["a"]}, "values, which have no classes"),
        ({"column": "plant", "units": "t"}, "units= is of values"),
        ({"column": "plant", "resampling": "nearest"}, "resampling: for a raster.*Leave it out"),
        ({"column": "plant", "radius_m": 5}, "radius_m= is for points"),
        ({"column": "plant", "x": "a", "y": "b"}, "has geometries: leave x= and y= out"),
        ({"column": "plant", "crs": 4326}, r"no degrees, as in EPSG:4326 \(crs=\)"),
        ({"column": "plant", "conflicts": "most"}, "conflicts must be one of"),
        ({"column": "plant", "dates": ("a", "b", "c")}, "dates must be"),
        ({"column": "plant", "groups": "site"}, "groups='site' is no column"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    fields = two(plant=["wheat", "maize"])
    fields["yield"] = [3.5, 4.5]
    with pytest.raises(TimoError, match=message):
        timo.read_labels(fields, CUBE, **options)


def test_a_single_cell_has_the_size_that_its_crs_states():
    one = CUBE[:, :, :1, :1]
    with pytest.raises(TimoError, match="The size of a single cell"):
        timo.read_labels(two(kind=["a", "b"]), one)
    stated = one.rio.write_transform(CUBE.rio.transform())
    assert timo.read_labels(two(kind=["a", "b"]), stated).values.tolist() == [[0]]
    row = timo.read_labels(two(kind=["a", "b"]), CUBE[:, :, :1])
    assert (row.values[0] == [0] * 5 + [-1] * 10).all()


def test_each_pixel_has_the_class_of_the_last_of_twenty_thousand_fields():
    """All features are burnt at once, whatever their number."""
    like = make_cube(2000, 2000, dates=DATES[:1])
    rng = np.random.default_rng(0)
    corner = rng.uniform([LEFT, TOP - 20_000], [LEFT + 19_800, TOP - 200], (20_000, 2))
    size = rng.uniform(20, 200, (20_000, 2))
    boxes = shapely.box(*corner.T, *(corner + size).T)
    fields = frame(boxes, crop=rng.choice(list("abcdefgh"), 20_000))
    labels = timo.read_labels(fields, like, conflicts="last")
    last = fields.crop.iloc[labels.feature.values[labels.values >= 0]]
    names = np.array(labels.attrs["classes"])[labels.values[labels.values >= 0]]
    assert (last.to_numpy() == names).all()
