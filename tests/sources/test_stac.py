"""`open_cube("stac")` on static catalogs: the sample, and images made for one rule each."""

import json
import shutil
import time
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pyproj
import pystac
import pytest
import rasterio
import shapely
from ee_emulator import sample
from sample_catalog import sample_grid, write_catalog, write_cog

from timo.cube import check, composite
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import open_cube
from timo.sources.place.grid import PixelGrid
from timo.sources.request import CubeRequest, make_request
from timo.sources.stac import open_stac
from timo.sources.stac.opening import chunk_side

S2 = get_sensor("sentinel-2")
BANDS = ("B4", "B8A")
UTM = PixelGrid("EPSG:32634", 500_000, 5_000_000, 10, 30, 40)


@pytest.fixture(autouse=True)
def here():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Three months of the sample, 13 dates of which are in 2018."""
    return write_catalog(
        tmp_path_factory.mktemp("stac") / "sample",
        start="2018-06-01",
        end="2018-08-31",
        bands=BANDS,
    )


def ask(grid=None, *, sensor=S2, bands=BANDS, start="2018-01-01", end="2019-01-01", **options):
    """A request for these cells, by default the sample's own."""
    grid = grid or sample_grid()
    return CubeRequest(
        grid.area,
        grid,
        pd.Timestamp(start),
        pd.Timestamp(end),
        sensor,
        tuple(bands),
        **({"masked": sensor.masked} | options),
    )


def truth(buffer_m=0.0, **options):
    return open_cube(
        "sample", start="2018-06-01", end="2018-08-31", bands=BANDS, buffer_m=buffer_m, **options
    )


# --- items for one rule each


def make_item(
    folder,
    name,
    numbers,
    *,
    time="2019-05-01T09:00:00Z",
    grid=UTM,
    scl=4,
    fields=None,
    **properties,
):
    """An item with one asset for each band (a number or an array), and "scl" unless that is None."""
    outline = grid.area.geometry
    item = pystac.Item(
        name,
        shapely.geometry.mapping(outline),
        list(outline.bounds),
        pd.Timestamp(time).to_pydatetime(),
        properties,
    )
    layers = {**numbers} if scl is None else {**numbers, "scl": scl}
    for asset, value in layers.items():
        kind = "uint8" if asset == "scl" else "uint16"
        values = np.broadcast_to(np.asarray(value, kind), grid.shape).copy()
        path = Path(folder) / f"{name}_{asset}.tif"
        item.add_asset(
            asset, write_cog(path, values, grid, band="SCL" if asset == "scl" else asset)
        )
        item.assets[asset].extra_fields.update((fields or {}).get(asset, {}))
    return item


def open_items(items, grid=UTM, *, bands=("B4",), masked=(9,), **options):
    own = {k: options.pop(k) for k in list(options) if k in CubeRequest.__dataclass_fields__}
    sensor = own.pop("sensor", S2)
    request = ask(
        grid, sensor=sensor, bands=bands, start="2019-01-01", end="2020-01-01", masked=masked, **own
    )
    return open_stac(request, catalog=items, **options)


def first_value(cube):
    return cube.isel(y=0, x=0).values.ravel() * 1e4


# --- the sample


@pytest.mark.slow
def test_the_whole_catalog_is_the_samples_cube(tmp_path):
    path = write_catalog(tmp_path / "all")
    for buffer_m in (0.0, 50.0):
        request = ask(bands=sample.BANDS, start="2015-01-01", end="2022-01-01", buffer_m=buffer_m)
        cube = open_stac(request, catalog=path)
        expected = open_cube("sample", buffer_m=buffer_m)
        np.testing.assert_array_equal(cube, expected)
        for dim in ("time", "band", "y", "x"):
            np.testing.assert_array_equal(cube[dim], expected[dim])
        assert cube.attrs["attribution"] == expected.attrs["attribution"]


def test_the_cube_is_lazy_and_names_its_source(catalog):
    cube = open_stac(ask(), catalog=catalog)
    assert check(cube) is cube
    assert cube.chunks is not None
    assert cube.attrs["source"] == "stac (sample)"
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2018"
    assert cube.name == "reflectance"


@pytest.mark.parametrize("form", ["file", "folder", "string", "catalog", "collection", "items"])
def test_a_static_catalog_in_any_form(catalog, form, monkeypatch):
    tree = pystac.Catalog.from_file(str(catalog))
    given = {
        "file": catalog,
        "folder": catalog.parent,
        "string": str(catalog),
        "catalog": tree,
        "collection": tree.get_child("sentinel-2-l2a"),
        "items": pystac.ItemCollection(list(tree.get_items(recursive=True))),
    }
    cube = open_stac(ask(buffer_m=50.0), catalog=given[form], max_items=50)
    np.testing.assert_array_equal(cube, truth(50))


def test_items_saved_to_a_file_are_read_from_it(catalog, tmp_path):
    tree = pystac.Catalog.from_file(str(catalog))
    items = [item.clone() for item in tree.get_items(recursive=True)]
    for item in items:
        item.make_asset_hrefs_absolute()
    pystac.ItemCollection(items).save_object(str(tmp_path / "found.json"))
    cube = open_stac(ask(), catalog=tmp_path / "found.json")
    np.testing.assert_array_equal(cube, truth())


def test_through_the_door(catalog):
    west, south, east, north = sample_grid().area.bounds
    cube = open_cube(
        "stac",
        aoi=(west + 0.002, south + 0.002, east - 0.002, north - 0.002),
        start="2018-06-01",
        end="2018-08-31",
        bands=BANDS,
        crs="EPSG:3035",
        catalog=catalog,
        buffer_m=50,
    )
    # Cells at multiples of 10 m lie in one cell each of the sample, a few metres off its centre.
    expected = truth(50).sel(x=cube.x, y=cube.y, method="nearest")
    assert 0.2 < float(np.isfinite(expected).mean()) < 0.9
    np.testing.assert_array_equal(cube, expected)


@pytest.mark.parametrize("side", [16, 37, 64])
def test_the_chunks_do_not_show(catalog, side):
    cube = open_stac(ask(buffer_m=50.0), catalog=catalog, chunks=side)
    assert max(cube.chunks[2]) == side
    np.testing.assert_array_equal(cube[:4], truth(50)[:4])


def test_composites(catalog):
    cube = open_stac(ask(buffer_m=50.0, composite="1MS"), catalog=catalog)
    expected = composite(truth(50))
    np.testing.assert_array_equal(cube, expected)
    np.testing.assert_array_equal(cube.n_valid, expected.n_valid)
    np.testing.assert_array_equal(cube.time, expected.time)


def test_clouds_beyond_the_edge_count(catalog):
    rows, columns = slice(30, 70), slice(40, 80)
    part = open_stac(ask(sample_grid().window(rows, columns), buffer_m=50.0), catalog=catalog)
    np.testing.assert_array_equal(part, truth(50).isel(y=rows, x=columns))


def test_max_cloud_goes_by_what_the_items_say(catalog):
    cube = open_stac(ask(max_cloud=20.0), catalog=catalog)
    times, percent = sample.scene_times(), sample.cloud_percent()
    expected = times[(times >= "2018-06-01") & (times < "2018-09-01") & (percent <= 20)]
    assert 2 < len(expected) < 13
    np.testing.assert_array_equal(cube.time, expected.normalize())


def test_clip(catalog):
    grid = sample_grid()
    area = shapely.box(*grid.area.bounds).intersection(shapely.Point(22.15, 45.205).buffer(0.003))
    request = ask(clip=True, masked=())
    request = CubeRequest(**{**vars(request), "area": type(grid.area)(area)})
    cube = open_stac(request, catalog=catalog)
    inside = grid.mask_of(request.area).values
    assert 0.1 < inside.mean() < 0.9
    np.testing.assert_array_equal(np.isfinite(cube[0, 0]), inside)


# --- other grids


def test_on_a_grid_of_utm_a_pixel_is_the_nearest(catalog):
    west, south, east, north = sample_grid().area.bounds
    aoi = (west + 0.003, south + 0.003, east - 0.003, north - 0.003)
    request = make_request(aoi, "2018-06-01", "2018-06-10", bands=BANDS, masked_classes=())
    assert request.grid.crs == "EPSG:32634"
    cube = open_stac(request, catalog=catalog).compute()
    scene = sample.scene_times().get_loc(
        pd.Timestamp(cube.time.values[0]) + pd.Timedelta("9h30min")
    )
    to_sample = pyproj.Transformer.from_crs(32634, 3035, always_xy=True)
    x, y = to_sample.transform(*np.meshgrid(request.grid.x, request.grid.y))
    for number, band in enumerate(BANDS):
        cells = sample_grid(sample.resolution_m(band))
        column, row = (x - cells.left) / cells.resolution, (cells.top - y) / cells.resolution
        nearest = sample.numbers(band)[scene][row.astype(int), column.astype(int)]
        same = np.isclose(cube[0, number], nearest * 1e-4, rtol=1e-6)
        # GDAL moves a position by up to an eighth of a cell.
        edge = np.minimum(np.abs(column - column.round()), np.abs(row - row.round()))
        assert same[edge > 0.13].all()
        assert same.mean() > 0.9


def test_on_a_coarse_grid_bands_are_averaged_and_classes_are_the_commonest(tmp_path):
    rng = np.random.default_rng(0)
    red = rng.integers(100, 1000, UTM.shape)
    scl = np.where(rng.random(UTM.shape) < 0.3, 9, 4)
    scl[:2] = 9
    item = make_item(tmp_path, "a", {"red": red}, scl=scl)
    coarse = PixelGrid(UTM.crs, UTM.left, UTM.top, 50, 6, 8)
    cube = open_items([item], coarse).compute()
    blocks = red.reshape(6, 5, 8, 5).mean(axis=(1, 3))
    cloudy = (scl == 9).reshape(6, 5, 8, 5).mean(axis=(1, 3)) > 0.5
    assert 0 < cloudy.mean() < 1
    np.testing.assert_array_equal(np.isnan(cube[0, 0]), cloudy)
    np.testing.assert_allclose(cube[0, 0].values[~cloudy], blocks[~cloudy] * 1e-4, rtol=2e-3)


def test_items_that_do_not_say_how_their_images_lie_give_the_same_cube(catalog):
    items = list(pystac.Catalog.from_file(str(catalog)).get_items(recursive=True))
    for item in items:
        item.properties.pop("proj:code")
        for asset in item.assets.values():
            for name in ("proj:shape", "proj:transform", "raster:bands"):
                asset.extra_fields.pop(name)
    np.testing.assert_array_equal(open_stac(ask(), catalog=items), truth())


def test_beyond_the_image_is_no_observation(tmp_path):
    item = make_item(tmp_path, "a", {"red": 700})
    larger = UTM.pad(4)
    cube = open_items([item], larger)[0, 0].values
    assert np.isnan(cube[:4]).all()
    assert np.isnan(cube[:, -4:]).all()
    np.testing.assert_allclose(cube[4:-4, 4:-4], 0.07, rtol=1e-6)


# --- days, versions


def test_images_of_one_day_are_mosaicked_the_last_on_top(tmp_path):
    early = np.full(UTM.shape, 100)
    late = np.where(np.arange(40) < 20, 200, 0) + np.zeros(UTM.shape, int)
    scl = np.full(UTM.shape, 4)
    scl[:10] = 9
    items = [
        make_item(tmp_path, "late", {"red": late}, time="2019-05-01T09:00:10Z", scl=scl),
        make_item(tmp_path, "early", {"red": early}, time="2019-05-01T09:00:00Z"),
    ]
    cube = open_items(items)
    assert cube.sizes["time"] == 1
    expected = np.full(UTM.shape, 0.01)
    expected[10:, :20] = 0.02
    np.testing.assert_allclose(cube[0, 0], expected, rtol=1e-6)


def test_of_a_scene_processed_twice_the_newer_is_taken(tmp_path):
    tile = {"grid:code": "MGRS-34TER", "platform": "sentinel-2a"}
    old = make_item(tmp_path, "z_0", {"red": 1100}, **tile, **{"s2:processing_baseline": "02.13"})
    new = make_item(tmp_path, "a_1", {"red": 2200}, **tile, **{"s2:processing_baseline": "03.01"})
    for items in ([old, new], [new, old]):
        np.testing.assert_allclose(first_value(open_items(items)), 2200, rtol=1e-6)


def test_two_datastrips_of_a_tile_are_both_taken(tmp_path):
    tile = {"grid:code": "MGRS-34TER", "platform": "sentinel-2a"}
    strip = "S2A_OPER_MSI_L2A_DS_VGS1_20190501T120000_S20190501T09{}_N02.11"
    items = [
        make_item(
            tmp_path, "a", {"red": 1100}, **tile, **{"s2:datastrip_id": strip.format("0001")}
        ),
        make_item(tmp_path, "b", {"red": 0}, **tile, **{"s2:datastrip_id": strip.format("0500")}),
    ]
    np.testing.assert_allclose(first_value(open_items(items)), 1100, rtol=1e-6)


# --- numbers


@pytest.mark.parametrize(
    ("properties", "fields", "expected"),
    [
        ({"s2:processing_baseline": "03.01"}, {}, 3000),
        ({"s2:processing_baseline": "05.09"}, {}, 2000),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, {}, 3000),
        # What Earth Search writes whether the offset was applied or not.
        (
            {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True},
            {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]},
            3000,
        ),
        # But its scale counts.
        ({"earthsearch:boa_offset_applied": True}, {"raster:bands": [{"scale": 0.0002}]}, 6000),
        ({}, {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, 2000),
        ({}, {"raster:bands": [{"scale": 0.0002}]}, 6000),
        ({}, {"raster:scale": 0.0001, "raster:offset": -0.2}, 1000),
        ({}, {"bands": [{"name": "r", "raster:scale": 0.0001, "raster:offset": -0.2}]}, 1000),
        # What tools write of files that state nothing.
        ({}, {"raster:bands": [{"scale": 1.0, "offset": 0.0, "data_type": "uint16"}]}, 3000),
    ],
)
def test_numbers_are_brought_to_the_sensors(tmp_path, properties, fields, expected):
    item = make_item(tmp_path, "a", {"red": 3000}, fields={"red": fields}, **properties)
    np.testing.assert_allclose(first_value(open_items([item])), expected, rtol=1e-5)


def test_each_image_has_its_own_shift(tmp_path):
    items = [
        make_item(
            tmp_path,
            name,
            {"red": 3000},
            time=f"2019-0{i + 1}-01T09:00:00Z",
            **{"s2:processing_baseline": version},
        )
        for i, (name, version) in enumerate([("b", "03.01"), ("a", "04.00"), ("c", "05.00")])
    ]
    np.testing.assert_allclose(first_value(open_items(items)), [3000, 2000, 2000], rtol=1e-5)


def test_each_item_and_each_band_has_the_scale_that_it_states(tmp_path):
    fields = [
        {name: {"raster:bands": [{"scale": scale, "offset": offset}]} for name, offset in bands}
        for scale, bands in (
            (0.0001, (("red", 0), ("nir", 0.1))),
            (0.0002, (("red", 0), ("nir", 0))),
        )
    ]
    items = [
        make_item(
            tmp_path,
            f"i{n}",
            {"red": 1000, "nir": 1000},
            time=f"2019-0{n + 1}-01T09:00:00Z",
            fields=f,
        )
        for n, f in enumerate(fields)
    ]
    cube = open_items(items, bands=("B4", "B8")).compute()
    np.testing.assert_allclose(cube[:, :, 0, 0], [[0.1, 0.2], [0.2, 0.2]], rtol=1e-6)


def test_radar_is_power_and_has_an_orbit(tmp_path):
    radar = get_sensor("sentinel-1")
    items = []
    for day, (orbit, mode) in enumerate(
        [("ascending", "IW"), ("descending", "IW"), ("ascending", "EW")]
    ):
        item = make_item(
            tmp_path,
            f"i{day}",
            {"vv": 10},
            scl=None,
            time=f"2019-05-0{day + 1}T05:00:00Z",
            fields={"vv": {"raster:scale": 0.01}},
            **{"sat:orbit_state": orbit, "sar:instrument_mode": mode},
        )
        items.append(item)
    both = open_items(items, sensor=radar, bands=("VV",), masked=())
    assert both.time.dt.day.values.tolist() == [1, 2]
    np.testing.assert_allclose(both.isel(y=0, x=0), -10, rtol=1e-5)
    assert both.name == "backscatter"
    one = open_items(items, sensor=radar, bands=("VV",), masked=(), orbit="descending")
    assert one.time.dt.day.values.tolist() == [2]
    with pytest.raises(TimoError, match="orbit must be one of 'ascending', 'descending'"):
        open_items(items, sensor=radar, bands=("VV",), masked=(), orbit="up")
    with pytest.raises(TimoError, match="sentinel-1 do not say how cloudy"):
        open_items(items, sensor=radar, bands=("VV",), masked=(), max_cloud=10.0)
    with pytest.raises(TimoError, match="sentinel-2 do not say theirs"):
        open_items(items, orbit="ascending", assets={"B4": "vv"}, masked=())


# --- which assets


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("red", "scl"), None),  # Earth Search
        (("B04", "SCL"), None),  # Planetary Computer
        (("band-4", "classes"), {"B4": "band-4", "SCL": "classes"}),
        (("B04_10m", "SCL"), None),  # by the common name
    ],
)
def test_assets_are_found_by_name_or_by_what_they_state(tmp_path, names, given):
    item = make_item(tmp_path, "a", {"red": 1234})
    for old, new in zip(("red", "scl"), names, strict=True):
        item.assets[new] = item.assets.pop(old)
    if names[0] == "B04_10m":
        item.assets[names[0]].extra_fields["eo:bands"] = [{"name": "B04", "common_name": "red"}]
    np.testing.assert_allclose(first_value(open_items([item], assets=given)), 1234, rtol=1e-6)


def test_of_several_assets_of_a_band_the_finest_is_taken(tmp_path):
    item = make_item(tmp_path, "a", {"red_20m": 20, "red_10m": 10})
    for name, gsd in (("red_20m", 20), ("red_10m", 10)):
        item.assets[name].extra_fields |= {"eo:bands": [{"common_name": "red"}], "gsd": gsd}
    np.testing.assert_allclose(first_value(open_items([item])), 10, rtol=1e-6)


def test_images_without_an_asset_are_left_out(tmp_path):
    items = [
        make_item(tmp_path, "a", {"red": 100}),
        make_item(tmp_path, "b", {"red": 100}, scl=None, time="2019-06-01T09:00:00Z"),
    ]
    with pytest.warns(UserWarning, match=r"1 of 2 items were left out.*red, scl \(b\)"):
        assert open_items(items).time.dt.month.values.tolist() == [5]
    assert open_items(items, masked=()).time.dt.month.values.tolist() == [5, 6]


def test_missing_assets_are_named(tmp_path):
    item = make_item(tmp_path, "a", {"red": 100, "oops": 3}, scl=None)
    with pytest.raises(TimoError) as error:
        open_items([item])
    for words in (
        "No item has assets for SCL of sentinel-2",
        "oops, red",
        'assets={"SCL": "..."}',
        "masked_classes=()",
    ):
        assert words in str(error.value)
    with pytest.raises(TimoError, match="assets names 'red', which is no band"):
        open_items([item], assets={"red": "oops"})


def test_items_without_cloud_cover_are_kept(tmp_path):
    items = [
        make_item(tmp_path, "a", {"red": 100}, **{"eo:cloud_cover": 80.0}),
        make_item(tmp_path, "b", {"red": 100}, time="2019-06-01T09:00:00Z"),
        make_item(tmp_path, "c", {"red": 1}, time="2019-07-01T09:00:00Z", **{"eo:cloud_cover": 5}),
    ]
    assert open_items(items, max_cloud=10.0).time.dt.month.values.tolist() == [6, 7]


@pytest.mark.filterwarnings("ignore:Items were left out")
def test_landsat_of_the_wrong_kind_is_left_out(tmp_path):
    landsat = get_sensor("landsat-8-9")
    kinds = [("landsat-8", "T1"), ("landsat-7", "T1"), ("landsat-9", "T2"), ("landsat-9", "T1")]
    items = []
    for month, (platform, tier) in enumerate(kinds, start=1):
        item = make_item(
            tmp_path,
            f"i{month}",
            {"red": 20_000, "qa_pixel": 1 << 6},
            scl=None,
            time=f"2019-0{month}-01T09:00:00Z",
            platform=platform,
            **{"landsat:collection_category": tier},
        )
        items.append(item)
    cube = open_items(items, sensor=landsat, bands=("SR_B4",), masked=landsat.masked)
    assert cube.time.dt.month.values.tolist() == [1, 4]
    np.testing.assert_allclose(cube.isel(y=0, x=0), 20_000 * 2.75e-5 - 0.2, rtol=1e-5)


def test_images_of_several_days_are_dated_by_the_first(tmp_path):
    modis = get_sensor("modis-vegetation")
    served = modis.collection("planetary-computer")
    item = make_item(tmp_path, "a", {served.name("NDVI"): 5000}, scl=None)
    item.datetime = None
    item.properties |= {
        "start_datetime": "2019-05-09T00:00:00Z",
        "end_datetime": "2019-05-24T23:59:59Z",
    }
    cube = open_items([item], sensor=modis, bands=("NDVI",), masked=())
    assert cube.time.dt.strftime("%m-%d").values.tolist() == ["05-09"]
    np.testing.assert_allclose(first_value(cube), 5000, rtol=1e-6)


# --- collections, options, refusals


def test_other_collections_of_a_catalog_are_left_alone(tmp_path):
    tree = pystac.Catalog("mixed", "Two collections")
    extent = pystac.Extent(
        pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
    )
    for name, value in (("sentinel-2-l2a", 111), ("mine", 222)):
        collection = pystac.Collection(name, name, extent)
        collection.add_item(make_item(tmp_path, name, {"red": value}))
        tree.add_child(collection)
    np.testing.assert_allclose(first_value(open_items(tree)), 111, rtol=1e-6)
    np.testing.assert_allclose(first_value(open_items(tree, collection="mine")), 222, rtol=1e-6)
    with pytest.raises(
        TimoError, match=r"No item is of collection yours. There are: mine, sentinel"
    ):
        open_items(tree, collection=["yours"])


def test_a_modifier_is_called_with_each_item(catalog, tmp_path):
    tree = pystac.Catalog.from_file(str(catalog))
    items = [item.clone() for item in tree.get_items(recursive=True)]
    folder = tmp_path / "signed"
    shutil.copytree(catalog.parent, folder)
    for item in items:
        for asset in item.assets.values():
            asset.href = asset.href.rsplit("/", 1)[-1]

    def sign(item):
        for asset in item.assets.values():
            (found,) = folder.rglob(f"{item.id}/{asset.href}")
            asset.href = str(found)

    np.testing.assert_array_equal(open_stac(ask(), catalog=items, modifier=sign), truth())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": "2020-01-01", "end": "2021-01-01"}, r"No image .*seen: \d+ of other dates"),
        ({"grid": UTM}, r"No image of sentinel-2 .*seen: \d+ elsewhere"),
        ({"max_cloud": 0.0, "end": "2018-06-08"}, r"raise max_cloud \(seen: .*too cloudy"),
    ],
)
def test_no_image_is_left(catalog, options, words):
    with pytest.raises(TimoError, match=words):
        open_stac(ask(**options), catalog=catalog)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"catalog": "planetary-computre"}, "none of planetary-computer, earth-search, no address"),
        ({"catalog": "/nowhere/catalog.json"}, "no file on this machine"),
        ({"catalog": [3]}, "holds a int"),
        ({"catalog": 3}, "holds a int"),
        ({"catalog": []}, "holds no items"),
        ({"catalog": None}, "holds a NoneType"),
        ({"catalog": "https://[x/y"}, "catalog is no address: .* Write it as https://host/path"),
        ({"max_items": 0}, "max_items must be a whole number of 1 or more; got 0"),
        ({"max_items": "5"}, "Write max_items=5, without quotes"),
        ({"chunks": 0}, "chunks must be a whole number of 16 or more or None; got 0"),
        ({"timeout": 0}, "timeout must be a number above 0; got 0"),
        ({"timeout": np.inf}, "timeout must be a number above 0; got inf"),
        ({"collection": ""}, "collection is empty"),
        ({"collection": {"a"}}, "collection must be text or a list of text or None"),
        ({"assets": ["B4"]}, "assets must be a mapping of text to text or None"),
        ({"assets": {"B99": "x"}}, "assets names 'B99', which is no band"),
        ({"headers": "key"}, "headers must be a dict of text"),
        ({"headers": {"Authorization": 3}}, "headers must be a dict of text"),
        ({"modifier": 3}, "modifier must be a function or None; got 3"),
        ({"orbit": "up"}, "orbit must be one of 'ascending', 'descending' or None; got 'up'"),
        ({"request": 3}, "request must be .*CubeRequest; got 3"),
        ({"max_items": 3}, "more than 3 items .*max_items=6"),
    ],
)
def test_what_makes_no_sense_is_refused(catalog, options, words):
    with pytest.raises(TimoError, match=words):
        open_stac(**({"request": ask(), "catalog": catalog} | options))


def test_a_folder_called_as_a_preset_is_a_folder(catalog, tmp_path, monkeypatch):
    shutil.copytree(catalog.parent, tmp_path / "planetary-computer")
    for given in (tmp_path / "planetary-computer", pystac.Catalog.from_file(str(catalog))):
        if isinstance(given, pystac.Catalog):
            given.id = "planetary-computer"
        cube = open_stac(ask(), catalog=given, max_items=np.int64(5000), timeout=np.float32(9))
        assert cube.sizes["time"] == open_stac(ask(), catalog=catalog).sizes["time"]


@pytest.mark.parametrize(
    "fields", [{"raster:bands": [{"scale": "much"}]}, {"raster:bands": {"scale": 1}}]
)
def test_items_that_state_nonsense_are_refused(tmp_path, fields):
    with pytest.raises(TimoError, match="cannot be read as a STAC catalog"):
        open_items([make_item(tmp_path, "a", {"red": 3000}, fields={"red": fields})])


@pytest.mark.parametrize("text", ["no json", "[]", '{"type": "Catalog"}', '{"type": "Map"}'])
def test_a_file_that_is_no_catalog_is_refused(tmp_path, text):
    path = tmp_path / "catalog.json"
    path.write_text(text)
    with pytest.raises(TimoError, match="cannot be read as a STAC catalog"):
        open_stac(ask(), catalog=path)


def test_a_catalog_with_a_lost_item_is_refused(catalog, tmp_path):
    shutil.copytree(catalog.parent, tmp_path / "cut")
    next((tmp_path / "cut").rglob("*_L2A.json")).unlink()
    with pytest.raises(TimoError, match="cannot be read as a STAC catalog"):
        open_stac(ask(), catalog=tmp_path / "cut")


def test_an_item_that_cannot_be_placed_is_refused(tmp_path):
    item = make_item(tmp_path, "a", {"red": 1})
    item.geometry = None
    with pytest.raises(TimoError, match="Item a has no geometry"):
        open_items([item])


def test_an_item_without_a_date_is_refused(tmp_path):
    item = make_item(tmp_path, "a", {"red": 1})
    item.datetime = None
    with pytest.raises(TimoError, match="Item a has no datetime"):
        open_items([item])


def test_signing_is_the_providers(monkeypatch):
    from timo.sources.stac.catalogs import PRESETS, signer_of

    assert set(PRESETS) == {"planetary-computer", "earth-search"}
    assert signer_of("earth-search") is None
    monkeypatch.setitem(__import__("sys").modules, "planetary_computer", None)
    with pytest.raises(TimoError, match="pip install planetary-computer"):
        signer_of("planetary-computer")


def test_every_preset_serves_a_sensor_with_names_for_its_bands():
    from timo.sensors import SENSORS
    from timo.sources.stac.catalogs import PRESETS

    providers = {c.provider for sensor in SENSORS.values() for c in sensor.collections}
    assert providers - {"earthengine"} == set(PRESETS)


# --- laziness


def test_chunks_are_small_where_many_dates_meet():
    days = pd.date_range("2019-01-01", "2019-12-31", freq="5D")
    plain, monthly, yearly = (
        chunk_side(
            ask(start="2019-01-01", end="2020-01-01", composite=period, bands=S2.band_names), days
        )
        for period in (None, "1MS", "YS")
    )
    assert (plain, monthly, yearly) == (2048, 512, 256)
    # Images of one day do not add up: each chunk holds few of them.
    assert chunk_side(ask(bands=S2.band_names), days.repeat(9)) == plain


def test_of_an_immense_cube_only_the_window_is_read(tmp_path, monkeypatch):
    from timo.sources import reading

    # 24 images of 200 km x 200 km, in large cells.
    wide = PixelGrid("EPSG:32634", 300_000, 5_200_000, 4000, 50, 50)
    template = make_item(tmp_path, "a", {"red": 500}, grid=wide)
    items = []
    for number in range(24):
        item = template.clone()
        item.id = f"i{number}"
        item.datetime = (
            pd.Timestamp("2019-01-01T09:00Z") + pd.Timedelta(days=number)
        ).to_pydatetime()
        items.append(item)
    reads = []
    plain = reading.layers.rasterio.open
    monkeypatch.setattr(
        reading.layers.rasterio,
        "open",
        lambda path, *a, **k: reads.append(path) or plain(path, *a, **k),
    )
    immense = PixelGrid("EPSG:32634", 300_000, 5_200_000, 10, 20_000, 20_000)
    cube = open_items(items, immense, buffer_m=50.0, chunks=1024)
    assert cube.shape == (24, 1, 20_000, 20_000)
    assert reads == []
    window = cube.isel(time=7, y=slice(5200, 5300), x=slice(9300, 9400)).compute()
    np.testing.assert_allclose(window, 0.05, rtol=1e-6)
    # One chunk of the band, and of the quality layer also the neighbours that a cloud could reach over from.
    assert sorted(Path(uri).stem for uri in reads) == ["a_red"] + ["a_scl"] * 4


def test_the_catalog_names_itself_only_by_its_last_folder(catalog):
    from timo.sources.stac.catalogs import describe

    assert describe(catalog) == describe(catalog.parent) == "sample"
    assert describe("https://u:secret@example.org/stac/v1/?key=secret") == "example.org/stac/v1"
    assert describe(pystac.Catalog("mine", "")) == "mine"
    assert json.dumps(describe([])) == '"items"'


# --- whose images, values, validity


def test_items_of_another_product_are_refused_by_name_or_left_out_with_a_warning(tmp_path):
    surface = make_item(tmp_path, "S2A_MSIL2A_20190501T092031_N0212_R093_T34TFR", {"red": 111})
    toa = make_item(
        tmp_path,
        "S2A_MSIL1C_20190506T092031_N0207_R093_T34TFR",
        {"red": 222},
        time="2019-05-06T09:00:00Z",
    )
    with pytest.raises(TimoError, match=r'Level-1C.*sensor="sentinel-2-l1c"'):
        open_items([toa])
    with pytest.warns(UserWarning, match="left out.*Level-1C"):
        cube = open_items([surface, toa])
    np.testing.assert_allclose(first_value(cube), [111], rtol=1e-6)
    asked = open_items([toa], sensor=get_sensor("sentinel-2-l1c"), masked=(), assets={"B4": "red"})
    np.testing.assert_allclose(first_value(asked), [222], rtol=1e-6)


@pytest.mark.parametrize(
    ("collection", "properties", "words"),
    [
        ("sentinel-2-l1c", {}, r'Level-1C.*sensor="sentinel-2-l1c"'),
        ("mine", {"s2:product_type": "S2MSI1C"}, "Level-1C"),
        ("landsat-c2-l2", {"platform": "landsat-7"}, "Landsat 7"),
        ("landsat-c2-l1", {"platform": "landsat-8"}, "Landsat 8 OLI.*Level-1"),
    ],
)
def test_collections_and_properties_say_whose_images_they_are(
    tmp_path, collection, properties, words
):
    item = make_item(tmp_path, "a", {"red": 500}, **properties)
    item.collection_id = collection
    with pytest.raises(TimoError, match=words):
        open_items([item])


def test_an_address_that_fails_is_signed_again(tmp_path):
    item = make_item(tmp_path, "a", {"red": 500}, scl=None)
    good = item.assets["red"].href
    signed = []

    def sign(found):
        signed.append(found.id)
        found.assets["red"].href = "/gone.tif" if len(signed) == 1 else good

    cube = open_items([item], modifier=sign, masked=())
    time.sleep(1.1)
    np.testing.assert_allclose(first_value(cube), [500], rtol=1e-6)
    assert len(signed) == 2


def test_a_modifier_that_fails_is_named(tmp_path):
    def sign(found):
        raise KeyError("token")

    with pytest.raises(TimoError, match=r"item a .*could not be signed \(KeyError.*modifier="):
        open_items([make_item(tmp_path, "a", {"red": 500})], modifier=sign)


def test_no_signature_is_shown(tmp_path):
    item = make_item(tmp_path, "a", {"red": 500}, scl=None)
    item.assets["red"].href = "https://localhost:9/x.tif?sig=SECRET123"
    with pytest.raises(TimoError, match="item a, asset red") as error:
        open_items([item], masked=()).compute()
    assert "SECRET" not in str(error.value)


def test_every_scene_is_checked_when_it_is_computed(tmp_path):
    good, bad = (
        make_item(tmp_path, name, {"red": value}, time=f"2019-05-0{day}T09:00:00Z", fields=fields)
        for name, day, value, fields in (
            ("good", 1, np.arange(1, 1 + UTM.height * UTM.width).reshape(UTM.shape), {}),
            (
                "bad",
                2,
                np.arange(500, 500 + UTM.height * UTM.width).reshape(UTM.shape),
                {"red": {"raster:scale": 1.0, "raster:offset": 0.5}},
            ),
        )
    )
    cube = open_items([good, bad])
    assert np.isfinite(cube.isel(time=0)).all()
    with pytest.raises(TimoError, match=r"bad \(2019-05-02\).*median.*digital numbers"):
        cube.compute()


def test_nodata_is_what_the_item_or_the_file_states(tmp_path):
    values = np.full(UTM.shape, 500, "uint16")
    values[0] = 7
    stated = make_item(tmp_path, "stated", {"red": values}, fields={"red": {"nodata": 7}})
    cube = open_items([stated]).compute()
    assert np.isnan(cube[0, 0, 0]).all()
    assert np.isfinite(cube[0, 0, 1:]).all()
    values[1], values[2] = 0, 65535
    path = tmp_path / "tagged_red.tif"
    tagged = make_item(tmp_path, "tagged", {"red": values})
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.nodata = 65535
    cube = open_items([tagged]).compute()
    # The file's own, and that of the product.
    assert np.isnan(cube[0, 0, [1, 2]]).all()
    assert np.isfinite(cube[0, 0, 0]).all()


@pytest.mark.parametrize("how", ["internal", "sidecar"])
def test_masks_of_files_count_on_their_grid_and_warped(tmp_path, how):
    item = make_item(tmp_path, "masked", {"red": 500}, scl=None)
    path = tmp_path / "masked_red.tif"
    with rasterio.open(path) as file:
        profile = file.profile | {"driver": "GTiff"}
        values = file.read()
    mask = np.full(UTM.shape, 255, "uint8")
    mask[: UTM.height // 2] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "internal"),
        rasterio.open(path, "w", **profile) as file,
    ):
        file.write(values)
        file.write_mask(mask)
    own = open_items([item], masked=()).compute()
    np.testing.assert_array_equal(np.isnan(own[0, 0]), mask == 0)
    shifted = PixelGrid(UTM.crs, UTM.left + 3, UTM.top - 3, 10, UTM.height - 1, UTM.width - 1)
    warped = open_items([item], shifted, masked=()).compute()
    np.testing.assert_array_equal(np.isnan(warped[0, 0]), mask[:-1, :-1] == 0)


def test_interpolated_classes_are_refused_and_can_be_left_out(tmp_path):
    item = make_item(tmp_path, "smooth", {"red": 500}, scl=37)
    with pytest.raises(
        TimoError, match=r"SCL of 2019-05-01 .*holds 37.*interpolated.*masked_classes"
    ):
        open_items([item]).compute()
    np.testing.assert_allclose(first_value(open_items([item], masked=())), [500], rtol=1e-6)


def test_a_lost_asset_is_named_with_its_item_and_date(tmp_path):
    items = [
        make_item(tmp_path, name, {"red": 500}, time=f"2019-05-0{day}T09:00:00Z")
        for name, day in (("here", 1), ("lost", 2))
    ]
    cube = open_items(items)
    (tmp_path / "lost_red.tif").unlink()
    with pytest.raises(
        TimoError, match=r"B4 of 2019-05-02 \(item lost, asset red\) cannot be read"
    ):
        cube.compute()
    # The remedy that the message names.
    assert np.isfinite(cube.sel(time="2019-05-01")).all()


def test_addresses_are_signed_when_they_are_read_and_again_when_they_are_old(tmp_path, monkeypatch):
    from timo.sources.stac import opening

    item = make_item(tmp_path, "a", {"red": 500})
    (tmp_path / "a_red.tif").rename(tmp_path / "a_red.tif.signed")
    (tmp_path / "a_scl.tif").rename(tmp_path / "a_scl.tif.signed")
    clock = [0.0]
    monkeypatch.setattr(opening.time, "monotonic", lambda: clock[0])
    signed = []

    def sign(found):
        signed.append(clock[0])
        for asset in found.assets.values():
            asset.href += ".signed"

    cube = open_items([item], modifier=sign)
    for clock[0] in (10.0, 1000.0):
        np.testing.assert_allclose(first_value(cube), [500], rtol=1e-6)
    assert signed == [0.0, 1000.0]
    assert not item.assets["red"].href.endswith("signed")
    # No signature is part of the name by which a fetch is taken up again.
    assert cube.data.name == open_items([item], modifier=sign).data.name
