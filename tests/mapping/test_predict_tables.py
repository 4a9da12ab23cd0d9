"""Chips, parcels and points: tables of `timo.predict`, and the files that they are written to."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
import xarray as xr

import timo
from timo.errors import TimoError
from timo.mapping import export, predict
from timo.mapping.parcels import members_of
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.heads import pool_parcels
from timo.models.tasks import build
from timo.places import Places

BANDS, CLASSES = ("B4", "B8"), ("barley", "maize", "wheat")


def make_cube(dates=5, height=20, width=24, *, seed=0, gaps=0.2, crs=32634):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 0.5, (dates, 2, height, width)).astype("float32")
    values[np.broadcast_to(rng.random((dates, 1, height, width)) < gaps, values.shape)] = np.nan
    return xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2019-04-01", periods=dates, freq="15D"),
            "band": list(BANDS),
            "y": 5_000_000 - 10 * (np.arange(height) + 0.5),
            "x": 500_000 + 10 * (np.arange(width) + 0.5),
        },
        attrs={"sensor": "sentinel-2"},
    ).rio.write_crs(crs)


def make_model(seed=0, **options):
    """A small model of parcels of three classes, or whatever else is said."""
    encoder = EncoderConfig(
        in_channels=2, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)
    )
    options = {"task": "classification", "unit": "parcel", "per_date": False} | options
    classes = () if options["task"] == "regression" else CLASSES
    config = ModelConfig(
        encoder=encoder,
        bands=BANDS,
        classes=classes,
        mean=(0.2, 0.2),
        std=(0.1, 0.1),
        head_width=8,
        detail=4,
        **options,
    )
    return build(config, seed)


def parcels_on(cube, side=6):
    """Square parcels of `side` pixels, numbered 3, 6, 9, ..., every other of them."""
    rows, columns = (np.arange(cube.sizes[dim]) // side for dim in ("y", "x"))
    number = rows[:, None] * 10 + columns
    number = np.where((rows[:, None] + columns) % 2 == 0, 3 * number + 3, -1).astype("int32")
    return xr.DataArray(number, dims=("y", "x"), coords={"y": cube.y, "x": cube.x}).rio.write_crs(
        cube.rio.crs
    )


def outlines(cube, numbers):
    """The squares of `parcels_on` as polygons."""
    squares = []
    for number in np.unique(numbers.values[numbers.values >= 0]):
        row, column = np.nonzero(numbers.values == number)
        west, north = 500_000 + 10 * column.min(), 5_000_000 - 10 * row.min()
        east, south = 500_000 + 10 * (column.max() + 1), 5_000_000 - 10 * (row.max() + 1)
        squares.append(shapely.box(west, south, east, north))
    return gpd.GeoDataFrame({"owner": range(len(squares))}, geometry=squares, crs=cube.rio.crs)


def pooled(model, cube, numbers):
    """Probabilities of parcels by one forward pass of the whole cube."""
    x = torch.from_numpy(cube.values)[None]
    dates = torch.from_numpy(timo.cube.days_since_epoch(cube.time))[None]
    seen = x.isfinite().all(dim=2).any(dim=1)
    with torch.no_grad():
        scores = model(x, dates)
        each, _, names = pool_parcels(
            scores, torch.from_numpy(numbers.values.astype("int64"))[None], seen
        )
    return names.numpy(), model.answer(each).numpy()


# --- parcels


def test_the_score_of_a_parcel_is_that_of_its_pooled_pixels():
    cube, model = make_cube(), make_model()
    numbers = parcels_on(cube)
    found = predict(model, cube, parcels=numbers)
    names, expected = pooled(model, cube, numbers)
    assert found.feature.tolist() == names.tolist()
    np.testing.assert_allclose(found[[f"probability_{c}" for c in CLASSES]], expected, atol=1e-5)
    assert found["class"].tolist() == [CLASSES[i] for i in expected.argmax(axis=1)]
    entropy = -(expected * np.log2(expected)).sum(axis=1)
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-5)
    seen = np.isfinite(cube.values).all(axis=1).any(axis=0)
    assert found.pixels.tolist() == [int((seen & (numbers.values == n)).sum()) for n in names]


def pixel_model(**options):
    """A model whose scores are those of single pixels and dates: tiles cannot differ."""
    model = make_model(**options)

    def forward(x, dates, valid=None):
        seen = x.isfinite().all(dim=2, keepdim=True)
        mean = torch.where(seen, x, 0).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        return torch.stack([mean[:, 0] * 3, mean[:, 1] * 5, mean[:, 0] - mean[:, 1]], dim=1)

    model.forward = forward
    model.__class__ = type("Pixel", (type(model),), {"__deepcopy__": lambda self, _: self})
    return model


@pytest.mark.parametrize("window", [None, 2])
def test_parcels_across_tiles_are_one(window):
    cube, model = make_cube(dates=6), pixel_model()
    numbers = parcels_on(cube)
    whole = predict(model, cube, parcels=numbers, tile=100, window=window)
    tiled = predict(model, cube, parcels=numbers, tile=5, halo=1, window=window)
    pd.testing.assert_frame_equal(pd.DataFrame(whole), pd.DataFrame(tiled), atol=1e-6)
    lazy = predict(model, cube.chunk(y=7, x=9), parcels=numbers, tile=5, halo=1, window=window)
    pd.testing.assert_frame_equal(pd.DataFrame(lazy), pd.DataFrame(tiled), atol=1e-6)


def test_parcels_as_numbers_labels_polygons_and_files_are_the_same(tmp_path):
    cube, model = make_cube(), make_model()
    numbers = parcels_on(cube)
    expected = predict(model, cube, parcels=numbers).filter(like="probability")
    polygons = outlines(cube, numbers)
    labels = xr.zeros_like(numbers).astype("int16").assign_coords(feature=numbers)
    labels.attrs["classes"] = list(CLASSES)
    polygons.to_file(tmp_path / "parcels.gpkg")
    for given in (labels, polygons, polygons.to_crs(4326), tmp_path / "parcels.gpkg"):
        found = predict(model, cube, parcels=given)
        np.testing.assert_allclose(found.filter(like="probability"), expected, atol=1e-6)
    assert found.owner.tolist() == polygons.owner.tolist()
    assert found.crs == polygons.crs
    outline = predict(model, cube, parcels=numbers).geometry
    assert outline.geom_equals(polygons.geometry).all()


def test_overlapping_parcels_and_points_in_one_pixel_each_have_an_answer():
    cube, model = make_cube(gaps=0), make_model()
    x, y = 500_055.0, 4_999_945.0
    shapes = [
        shapely.Point(x, y),
        shapely.Point(x + 4, y - 4),
        shapely.box(500_000, 4_999_900, 500_100, 5_000_000),
    ]
    frame = gpd.GeoDataFrame(geometry=shapes, crs=32634)
    found = predict(model, cube, parcels=frame)
    assert found.pixels.tolist() == [1, 1, 100]
    assert found.probability_maize[0] == found.probability_maize[1]
    alone = predict(model, cube, parcels=frame.iloc[[2]])
    assert alone.probability_maize.tolist() == [found.probability_maize[2]]


def test_parcels_that_nothing_is_known_of_stay_in_the_table_and_are_said():
    cube = make_cube(gaps=0)
    cube.values[:, :, :4, :4] = np.nan
    small = shapely.box(500_041, 4_999_951, 500_044, 4_999_954)  # between the centres
    away, dark = shapely.Point(0, 0), shapely.box(500_000, 4_999_960, 500_040, 5_000_000)
    light = shapely.box(500_100, 4_999_900, 500_140, 4_999_940)
    frame = gpd.GeoDataFrame({"id": [7, 8, 9, 10]}, geometry=[small, away, dark, light], crs=32634)
    with pytest.warns(UserWarning, match="3 of 4 parcels have no observed pixel"):
        found = predict(make_model(), cube, parcels=frame)
    assert found.id.tolist() == [7, 8, 9, 10]
    assert found.pixels.tolist() == [0, 0, 0, 16]
    assert found["class"].isna().tolist() == [True, True, True, False]
    assert found.probability_maize.isna().tolist() == [True, True, True, False]


def test_a_source_may_have_columns_of_the_same_names():
    cube = make_cube()
    frame = outlines(cube, parcels_on(cube)).rename(columns={"owner": "class"})
    found = predict(make_model(), cube, parcels=frame)
    assert found["class_source"].tolist() == frame["class"].tolist()
    assert set(found["class"]) <= set(CLASSES)


def test_pixels_of_a_polygon_are_those_whose_centres_lie_in_it_of_a_line_those_it_touches():
    cube = make_cube(height=6, width=7)
    shapes = [
        shapely.box(500_004, 4_999_976, 500_024, 4_999_996),
        shapely.LineString([(500_005, 4_999_995), (500_045, 4_999_995)]),
        shapely.box(400_000, 4_000_000, 600_000, 6_000_000),
        None,
    ]
    members = members_of(gpd.GeoDataFrame(geometry=shapes, crs=32634), cube)
    counts = np.bincount(members.parcel, minlength=4).tolist()
    assert counts == [4, 5, 42, 0]
    first = members.parcel == 0
    assert set(zip(members.row[first].tolist(), members.column[first].tolist(), strict=True)) == {
        (0, 0), (0, 1), (1, 0), (1, 1)
    }  # fmt: skip


def test_a_regression_of_parcels_has_values():
    cube = make_cube()
    model = make_model(task="regression", target="yield", target_units="t/ha")
    model.set_target(5.0, 2.0)
    found = predict(model, cube, parcels=parcels_on(cube))
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert "class" not in found
    _, expected = pooled(model, cube, parcels_on(cube))
    np.testing.assert_allclose(found[["value", "low", "high"]], expected, atol=1e-4)


def test_parcels_of_places():
    cubes = [make_cube(seed=i, crs=32634 + i) for i in range(2)]
    labels = []
    for cube in cubes:
        numbers = parcels_on(cube)
        known = xr.where(numbers >= 0, 1, -1).astype("int16").assign_coords(feature=numbers)
        labels.append(known.assign_attrs(classes=list(CLASSES)).rio.write_crs(cube.rio.crs))
    model = make_model()
    places = Places(list(zip(cubes, labels, strict=True)), names=["north", "south"])
    found = predict(model, places)
    one = predict(model, cubes[1], parcels=labels[1])
    assert found.place.tolist() == ["north"] * (len(found) - len(one)) + ["south"] * len(one)
    assert found.crs == "EPSG:4326"
    south = found[found.place == "south"].filter(like="probability")
    np.testing.assert_allclose(south, one.filter(like="probability"), atol=1e-6)


# --- chips


@pytest.mark.parametrize("per_date", [True, False])
def test_a_chip_is_a_row_or_a_row_a_date(per_date):
    cube = make_cube(dates=4, height=8, width=9)
    cube.values[2] = np.nan
    model = make_model(unit="chip", per_date=per_date)
    found = predict(model, cube)
    with torch.no_grad():
        seen = [0, 1, 3]
        scores = model(
            torch.from_numpy(cube.values[seen])[None],
            torch.from_numpy(timo.cube.days_since_epoch(cube.time)[seen])[None],
        )[0]
    expected = model.answer(scores).numpy()
    probability = found.filter(like="probability").to_numpy()
    if per_date:
        assert found.time.tolist() == list(cube.indexes["time"])
        assert np.isnan(probability[2]).all()
        assert found["class"].isna().tolist() == [False, False, True, False]
        probability = probability[seen]
        assert found.pixels.tolist()[2] == 0
    np.testing.assert_allclose(probability, np.atleast_2d(expected), atol=1e-6)
    assert found.geometry.iloc[0].bounds == (500_000, 4_999_920, 500_090, 5_000_000)


def test_chips_of_places_are_as_each_by_itself():
    """Places of one size go through the model together, whatever their dates."""
    sizes = [(4, 6), (4, 3), (4, 5), (8, 4), (1, 9), (1, 2)]
    cubes = [
        make_cube(dates, size, size, seed=i, gaps=0.1) for i, (size, dates) in enumerate(sizes)
    ]
    model = make_model(unit="chip")
    together = predict(model, Places(cubes, names=list("abcdef")))
    assert together.place.tolist() == list("abcdef")
    each = pd.concat([predict(model, cube) for cube in cubes])
    np.testing.assert_allclose(
        together.filter(like="probability"), each.filter(like="probability"), atol=1e-6
    )
    assert together.pixels.tolist() == each.pixels.tolist()


def test_places_and_a_model_of_pixels_give_maps_one_by_one():
    cubes = [make_cube(3, 6, 7 + i, seed=i) for i in range(2)]
    model = make_model(task="segmentation", unit="pixel")
    found = predict(model, Places(cubes, names=["a", "b"]))
    maps = dict(found)
    assert list(maps) == ["a", "b"]
    for name, cube in zip(maps, cubes, strict=True):
        xr.testing.assert_equal(maps[name].label.compute(), predict(model, cube).label.compute())


# --- errors


def test_what_does_not_fit_is_said():
    cube = make_cube()
    with pytest.raises(TimoError, match=r"answers for parcels\. Give parcels="):
        predict(make_model(), cube)
    with pytest.raises(TimoError, match="this model answers for a chip"):
        predict(make_model(unit="chip"), cube, parcels=parcels_on(cube))
    with pytest.raises(TimoError, match="parcels are on another grid: their y has 19 cells"):
        predict(make_model(), cube, parcels=parcels_on(cube)[1:])
    labels = parcels_on(cube).assign_attrs(classes=["a"])
    with pytest.raises(TimoError, match="no coordinate `feature`"):
        predict(make_model(), cube, parcels=labels)
    with pytest.raises(TimoError, match="No pixel is of a parcel"):
        predict(make_model(), cube, parcels=parcels_on(cube) * 0 - 1)
    with pytest.raises(TimoError, match="parcels= cannot be read"):
        predict(make_model(), cube, parcels="nowhere.gpkg")
    with pytest.raises(TimoError, match="parcels= cannot be read"):
        predict(
            make_model(),
            cube,
            parcels=outlines(cube, parcels_on(cube)).set_crs(None, allow_override=True),
        )


# --- files


@pytest.fixture(scope="module")
def table():
    cube = make_cube()
    return predict(make_model(), cube, parcels=outlines(cube, parcels_on(cube)))


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_a_table_is_read_back(table, suffix, tmp_path):
    path = export(table, tmp_path / f"parcels.{suffix}")
    back = gpd.read_parquet(path) if suffix == "parquet" else gpd.read_file(path)
    assert back.crs == ("EPSG:4326" if suffix == "geojson" else table.crs)
    columns = [name for name in table.columns if name != "geometry"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(back[columns]), pd.DataFrame(table[columns]), check_dtype=False
    )
    shapes = back.geometry.to_crs(table.crs)
    assert shapes.geom_equals_exact(table.geometry, 1e-3).all()


def test_a_csv_has_longitude_latitude_and_outlines(table, tmp_path):
    back = pd.read_csv(export(table, tmp_path / "parcels.csv"))
    inside = table.geometry.representative_point().to_crs(4326)
    np.testing.assert_allclose(back.longitude, inside.x, atol=1e-6)
    np.testing.assert_allclose(back.latitude, inside.y, atol=1e-6)
    assert shapely.from_wkt(back.wkt[0]).equals(table.geometry[0])
    points = table.set_geometry(table.geometry.centroid)[["class", "geometry"]]
    assert "wkt" not in pd.read_csv(export(points, tmp_path / "points.csv"))


def test_a_table_says_where_it_comes_from(table, tmp_path):
    record = json.loads(table.attrs["provenance"])
    assert record["parameters"]["window"] == 64
    path = export(table, tmp_path / "parcels.geojson")
    assert json.loads(path.read_text())["provenance"]["model"] == record["model"]
    import pyogrio

    info = pyogrio.read_info(export(table, tmp_path / "parcels.gpkg"))
    assert json.loads(info["layer_metadata"]["provenance"])["model"] == record["model"]


def test_what_cannot_be_written_is_said(table, tmp_path):
    with pytest.raises(TimoError, match=r"A table is written as \.gpkg, \.geojson"):
        export(table, tmp_path / "parcels.tif")
    with pytest.raises(TimoError, match="has no geometry"):
        export(pd.DataFrame(table.drop(columns="geometry")), tmp_path / "parcels.gpkg")
    with pytest.raises(TimoError, match="options of maps"):
        export(table, tmp_path / "parcels.gpkg", nodata=0)
    path = export(table, tmp_path / "parcels.gpkg")
    with pytest.raises(TimoError, match="exists"):
        export(table, path, overwrite=False)
