"""What people give to `open_cube`, good and bad: each bad input gets one message, and each good form the same cube."""

import datetime as dt
import inspect
import json
import pydoc
import re
import subprocess
import sys
import threading
import warnings
from importlib import import_module
from pathlib import Path

import geopandas
import ipyleaflet
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from sample_catalog import write_catalog

import timo
from timo.errors import TimoError
from timo.sources import SOURCES, fetch, open_cube
from timo.sources.request import make_request

BOX = (22.1472, 45.2013, 22.1572, 45.2083)
HERE = shapely.box(*BOX)
MONTHS = {"start": "2018-05", "end": "2018-06"}
PLACE = {"aoi": BOX, "bands": ["B4"], **MONTHS}
TWO = [shapely.box(22.148, 45.202, 22.150, 45.204), shapely.box(22.153, 45.205, 22.156, 45.207)]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return str(write_catalog(tmp_path_factory.mktemp("stac") / "catalog", **MONTHS))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A cube on disk."""
    path = tmp_path_factory.mktemp("files") / "cube.nc"
    cube = open_cube("sample", **MONTHS).drop_vars("scl")
    cube.to_dataset(name="cube").to_netcdf(path)
    return str(path)


@pytest.fixture(scope="module")
def lazy():
    return open_cube("emulator", **PLACE, cache=False, chunks=40)


def refusal(call, *arguments, **options):
    """The message of the one error that a call raises."""
    with pytest.raises(TimoError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def drawn(shape=HERE):
    """A map on which a shape was drawn; None: nothing."""
    empty, control = ipyleaflet.Map(), ipyleaflet.DrawControl()
    empty.add(control)
    if shape is not None:
        geometry = shapely.geometry.mapping(shape)
        control.last_draw = {"type": "Feature", "properties": {}, "geometry": geometry}
    return empty


def frame(*shapes, crs=4326):
    return geopandas.GeoDataFrame(geometry=list(shapes), crs=crs)


BAD_AREAS = {
    "latitude first": ((45.2013, 22.1472, 45.2083, 22.1572), ["longitude comes first"]),
    "west, east, south, north": (
        (22.1472, 22.1572, 45.2013, 45.2083),
        ["too wide for one UTM zone", "west, south, east, north?"],
    ),
    "south above north": ((22.15, 45.2083, 22.16, 45.2013), ["south 45.2083 lies north"]),
    "all of Romania": (
        (20.2, 43.6, 29.7, 48.3),
        ["4,176 megapixels", "17 GB a date and band", "It would fit at resolution=21"],
    ),
    "Fiji": ((178, -19, -178, -16), ["1,459 megapixels", "max_megapixels=1460"]),
    "a pole, where no image is": ((0, 89.99, 10, 90), ["No image of sentinel-2", "89.99..90 N"]),
    "a bow tie": (
        shapely.Polygon([(22.1, 45.2), (22.2, 45.3), (22.2, 45.2), (22.1, 45.3)]),
        ["Self-intersection", "make_valid"],
    ),
    "nothing": (shapely.Polygon(), ["The area is empty"]),
    "a frame of nothing": (frame(), ["The area is empty"]),
    "no features": ({"type": "FeatureCollection", "features": []}, ["The area is empty"]),
    "a point": (shapely.Point(22.15, 45.2), ["covers no ground", "Buffer it"]),
    "a point as numbers": (
        (22.15, 45.2),
        ["is not four finite numbers", "(west, south, east, north)"],
    ),
    "a box of no size": ((22.1, 45.2, 22.1, 45.2), ["a point or a line"]),
    "metres": ((4e5, 5e6, 4.1e5, 5.1e6), ["no degrees but seem to be metres", "crs="]),
    "immense": ((1e300, 0, 2e300, 1), ["no degrees"]),
    "NaN": ((np.nan, 0, 1, 1), ["is not four finite numbers"]),
    "numbers as text": ("22.1, 45.2, 22.2, 45.3", ["without quotes: (22.1, 45.2, 22.2, 45.3)"]),
    "numbers as texts": (("22.1", "45.2", "22.2", "45.3"), ["is not four finite numbers"]),
    "corners": ([[45.2, 22.1], [45.3, 22.2]], ["is not four finite numbers"]),
    "an empty text": ("", ["aoi is an empty text"]),
    "an address": ("https://example.com/a.geojson", ["is an address", "Download it"]),
    "a file that is not there": ("forest.geojson", ["is not there", "seen from"]),
    "the name of a country": ("Romania", ["is not there", "Give (west, south, east, north)"]),
    "a folder": (Path(__file__).parent, ["is a folder"]),
    "some other file": (Path(__file__), ["cannot be read as a vector file", "GeoJSON"]),
    "half of a WKT": ("POLYGON ((22 45, 23", ["no WKT that can be read", "Expected, for example"]),
    "a dict of sides": ({"west": 22, "south": 45}, ["is no GeoJSON", "Give (west"]),
    "no CRS": (frame(HERE, crs=None), ["has no CRS", "set_crs"]),
    "a number": (5, ["type int is no area"]),
    "a table": (pd.DataFrame({"a": [1]}), ["type DataFrame is no area"]),
    "a raster": (xr.DataArray([[1.0]], dims=("y", "x")), ["type DataArray", "give like="]),
    "well-known binary": (HERE.wkb, ["is not four finite numbers"]),
    "a map without a drawing": (drawn(None), ["Nothing is drawn on the map yet"]),
    "none": (None, ["aoi is missing: where?"]),
}
BAD_OPTIONS = {
    "dates reversed": ({"start": "2019", "end": "2018"}, "end='2018' is before start='2019'"),
    "dates of the future": (
        {"start": "2090", "end": "2091"},
        "No image of sentinel-2 between 2090-",
    ),
    "before the sensor": ({"start": "1990", "end": "1991"}, "No image of sentinel-2 between 1990-"),
    "day first": ({"start": "01/05/2018"}, 'write "2018-05-01" or "2018-01-05"'),
    "no such day": ({"start": "2018-02-30"}, "cannot be read as a date"),
    "words": ({"start": "today"}, "cannot be read as a date"),
    "a fraction of a year": ({"start": 2018.5}, "cannot be read as a date"),
    "no date": ({"start": pd.NaT}, "cannot be read as a date"),
    "an end alone": ({"start": None}, "start is missing"),
    "centuries": ({"start": "1900", "end": "2300"}, "not within the years 1950 to 2200"),
    "a band that is not": ({"bands": ["B99"]}, "no band 'B99'"),
    "a misspelt band": ({"bands": ["gren"]}, "Did you mean 'B3'?"),
    "the quality layer": ({"bands": ["SCL"]}, "SCL is its quality layer"),
    "a band twice": ({"bands": ["B4", "B4"]}, "each once"),
    "a band by two names": ({"bands": ["red", "B04"]}, "each once"),
    "no band": ({"bands": []}, "at least one band"),
    "bands in one text": ({"bands": "B4,B8"}, "Give a list of names"),
    "a number for a band": ({"bands": 4}, "bands must be text or a list of text"),
    "numbers for bands": ({"bands": [4, 8]}, "number 0 is 4"),
    "a set of bands": ({"bands": {"B4", "B8"}}, "bands must be text or a list of text"),
    "cells of no size": ({"resolution": 0}, "resolution must be a number above 0"),
    "cells of less": ({"resolution": -10}, "resolution must be a number above 0"),
    "cells with a unit": ({"resolution": "10m"}, "resolution must be a number"),
    "two resolutions": ({"resolution": (10, 10)}, "resolution must be a number"),
    "degrees in UTM": ({"resolution": 1e-3}, "0.001 degrees would be 111.3 here"),
    "cells of 1000 km": ({"resolution": 1e6}, "cells may be from 0.1 to 112000"),
    "not a number": ({"resolution": np.nan}, "resolution must be a number"),
    "no system": ({"crs": "nonsense"}, "crs='nonsense' cannot be read"),
    "no such code": ({"crs": 99999}, "cannot be read"),
    "no system for maps": ({"crs": 4978}, "no system for maps"),
    "metres in degrees": ({"crs": 4326, "resolution": 10}, "10 metres are 8.983e-05"),
    "monthly": ({"composite": "monthly"}, "Did you mean '1MS'?"),
    "the end of months": ({"composite": "ME"}, "Did you mean '1MS'?"),
    "the end of years": ({"composite": "YE"}, "Did you mean 'YS'?"),
    "milliseconds": ({"composite": "1ms"}, "Did you mean '1MS'?"),
    "a composite of hours": ({"composite": "1h"}, "is no period"),
    "a thousand years": ({"composite": "1000YS"}, "at most a hundred years"),
    "a number of days": ({"composite": 16}, '"16D"'),
    "200 percent": (
        {"max_cloud": 200},
        "max_cloud must be a number from 0 to 100 or None; got 200",
    ),
    "a text for percents": ({"max_cloud": "20"}, "Write max_cloud=20, without quotes"),
    "no cloud at all?": ({"max_cloud": True}, "max_cloud must be a number"),
    "a buffer of less": ({"buffer_m": -1}, "buffer_m must be a number from 0 to 10000"),
    "a buffer of text": ({"buffer_m": "50"}, "Write buffer_m=50, without quotes"),
    "a buffer of 1000 cells": ({"buffer_m": 10_000}, "is 1,000 cells of 10 m; 512 cells"),
    "a class that is not": ({"masked_classes": [99]}, "no quality class 99"),
    "the layer's name": ({"masked_classes": "SCL"}, "must be a list of whole numbers"),
    "a class for true": ({"masked_classes": [True]}, "must be a list of whole numbers"),
    "clip by a word": ({"clip": "yes"}, "clip must be True or False"),
    "no megapixels": ({"max_megapixels": 0}, "must be a number above 0"),
    "the family's name": ({"sensor": "Sentinel-2"}, "Did you mean 'sentinel-2'?"),
    "S2": ({"sensor": "S2"}, "Did you mean 'sentinel-2'?"),
    "landsat8": ({"sensor": "landsat8"}, "Did you mean 'landsat-8-9'?"),
    "an id of a collection": (
        {"sensor": "COPERNICUS/S2_SR_HARMONIZED"},
        "Did you mean 'sentinel-2'",
    ),
    "no sensor": ({"sensor": None}, "sensor must be text or a timo.Sensor; got None"),
    "like a path": ({"aoi": None, "like": "map.tif"}, "rioxarray.open_rasterio"),
    "like numbers": ({"aoi": None, "like": np.zeros((3, 3))}, "like= takes a cube or raster"),
    "like a bare array": ({"aoi": None, "like": xr.DataArray([1.0])}, "no dimension 'y'"),
}


@pytest.mark.parametrize("case", BAD_AREAS)
def test_an_area_that_is_none(case):
    aoi, words = BAD_AREAS[case]
    message = refusal(open_cube, "emulator", **{**PLACE, "aoi": aoi}, cache=False)
    for some in words:
        assert some in message


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_an_option_that_makes_no_sense(case, catalog):
    options, words = BAD_OPTIONS[case]
    own = {"emulator": {"cache": False}, "stac": {"catalog": catalog}}
    for source, its_own in own.items():
        assert words in refusal(open_cube, source, **{**PLACE, **options}, **its_own)


OF_FILES = {"dates of the future", "before the sensor", "an end alone", "no sensor", "200 percent"}
OF_FILES |= {"a text for percents", "no cloud at all?", "a misspelt band", "a buffer of 1000 cells"}


@pytest.mark.parametrize("case", sorted(set(BAD_OPTIONS) - OF_FILES))
def test_files_refuse_the_same(case, store):
    options, words = BAD_OPTIONS[case]
    # A resolution, so that it is not given back as it was written.
    given = {"resolution": None if options.get("crs") else 10, "aoi": BOX, **options}
    if "like" in options:
        given["resolution"] = None
    assert words in refusal(open_cube, "files", path=store, **given)


BAD_FILES = {
    "nothing to open": ({"path": None}, "Give a file, a folder, a glob"),
    "an empty text": ({"path": ""}, "path is an empty text"),
    "a file that is not there": ({"path": "scenes/none.tif"}, "There is no file"),
    "a number of clouds": ({"max_cloud": 20}, "files do not say how cloudy they are"),
    "dates after the last": ({"start": "2019"}, "the cube goes from 2018-05-02 to 2018-06-11"),
    "dates before the first": ({"end": "2017"}, "the cube goes from 2018-05-02 to 2018-06-11"),
    "degrees, as metres": ({"crs": 4326, "resolution": 10}, "Give degrees"),
    "chunks of one cell": ({"chunks": 1}, "chunks must be a whole number of 16 or more"),
    "chunks of nothing": ({"chunks": True}, "chunks must be a whole number"),
    "no scale": ({"scale": 0}, "would make all values the same"),
    "a scale of text": ({"scale": "1e-4"}, "scale must be a number"),
    "an offset of text": ({"offset": "0.1"}, "offset must be a number"),
    "several nodata": ({"nodata": [0]}, "nodata must be a number"),
    "no limit": ({"max_megapixels": None, "resolution": 10}, "max_megapixels must be a number"),
    "dates of a number": ({"dates": 5}, "dates must be a list, a dict or a function"),
    "bands of a number": ({"band_names": 5}, "band_names must be text or a list of text"),
    "another sensor": ({"sensor": "modis"}, "is a cube of sentinel-2"),
    "another place": ({"aoi": (1, 1, 1.1, 1.1)}, "None of the 7 scenes overlaps the area"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_files_cannot_do(case, store):
    options, words = BAD_FILES[case]
    assert words in refusal(open_cube, "files", **{"path": store, **options})


BAD_CATALOGS = {
    "a misspelt preset": ({"catalog": "planetarycomputer"}, "Did you mean 'planetary-computer'?"),
    "another name of it": ({"catalog": "microsoft"}, "Did you mean 'planetary-computer'?"),
    "a number": ({"catalog": 5}, "catalog holds a int"),
    "no item": ({"catalog": []}, "The list given as catalog holds no items"),
    "a folder of something": ({"catalog": str(Path(__file__).parent)}, "no file on this machine"),
    "nobody there": (
        {"catalog": "http://127.0.0.1:9/stac", "timeout": 2},
        "127.0.0.1/stac could not be reached",
    ),
    "no such collection": ({"collection": "nope"}, "There are: sentinel-2-l2a"),
    "a number for a collection": ({"collection": 5}, "collection must be text or a list of text"),
    "a band that it lacks": ({"bands": ["B1", "B4"]}, "bands=['B4']"),
    "all the usual bands": ({"bands": None}, "assets for B5, B6, B7, B12 of sentinel-2"),
    "assets of a text": ({"assets": "red"}, "assets must be a mapping of text to text"),
    "assets by colour": ({"assets": {"red": "red"}}, "assets names 'red'"),
    "chunks of one cell": ({"chunks": 1}, "chunks must be a whole number of 16 or more"),
    "no time": ({"timeout": 0}, "timeout must be a number above 0"),
    "time without end": ({"timeout": None}, "timeout must be a number"),
    "no items": ({"max_items": 0}, "max_items must be a whole number of 1 or more"),
    "a key that is no header": ({"headers": "secret"}, "headers must be a dict"),
    "a modifier of text": ({"modifier": "sign"}, "modifier must be a function"),
    "an orbit of Sentinel-2": ({"orbit": "ascending"}, "orbit cannot be chosen"),
    "other dates": ({"start": "2011", "end": "2012"}, "seen: 7 of other dates"),
    "another place": ({"aoi": (1, 1, 1.01, 1.01)}, "seen: 7 elsewhere"),
}


@pytest.mark.parametrize("case", BAD_CATALOGS)
def test_what_a_catalog_cannot_do(case, catalog):
    options, words = BAD_CATALOGS[case]
    message = refusal(open_cube, "stac", **{**PLACE, "catalog": catalog, **options})
    assert words in message
    assert "secret" not in message


# --- sources and the names of options


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("gee", "Did you mean 'earthengine'?"),
        ("Earth Engine", "Did you mean 'earthengine'?"),
        ("emulater", "Did you mean 'emulator'?"),
        ("STAC", "Did you mean 'stac'?"),
        ("planetary-computer", 'open_cube("stac", catalog="planetary-computer")'),
        ("scenes/*.tif", "open_cube(\"files\", path='scenes/*.tif')"),
        ("", "Known: earthengine, emulator, files, sample, stac"),
        (None, "or text; got None"),
        (["sample"], "or text; got ['sample']"),
    ],
)
def test_a_source_that_is_not(source, words):
    assert words in refusal(open_cube, source)


@pytest.mark.parametrize(
    ("source", "option", "words"),
    [
        ("emulator", "resolutoin", "Did you mean 'resolution'?"),
        ("emulator", "Bands", "Did you mean 'bands'?"),
        ("emulator", "bbox", "Did you mean 'aoi'?"),
        ("emulator", "roi", "Did you mean 'aoi'?"),
        ("emulator", "start_date", "Did you mean 'start'?"),
        ("emulator", "end_date", "Did you mean 'end'?"),
        ("emulator", "cloud_cover", "Did you mean 'max_cloud'?"),
        ("emulator", "epsg", "Did you mean 'crs'?"),
        ("emulator", "workers", "It is one of timo.fetch."),
        ("emulator", "path", 'It is one of open_cube("files") and timo.fetch.'),
        ("emulator", "catalog", 'It is one of open_cube("stac").'),
        ("files", "project", 'It is one of open_cube("earthengine").'),
        ("stac", "chunk_sizes", "Did you mean 'chunks'?"),
        ("sample", "aoi", "The sample is one place and one sensor"),
        ("sample", "xyz", "It takes: start, end, bands"),
    ],
)
def test_an_option_that_is_not(source, option, words):
    message = refusal(open_cube, source, **{option: "1"})
    assert f"takes no option {option!r}" in message
    assert words in message


def test_files_need_a_path():
    assert 'open_cube("files") needs path=' in refusal(open_cube, "files")


def own_options(source):
    """Options that a source's function takes, and whether it takes the shared ones beside them."""
    module, function = SOURCES[source].split(":")
    own = dict(inspect.signature(getattr(import_module(module), function)).parameters)
    shared = own.pop("request", None) is not None
    return own, shared


def test_help_shows_and_describes_every_option():
    shown = inspect.signature(timo.open_cube).parameters
    assert list(shown)[:4] == ["source", "aoi", "start", "end"]
    described = set()
    for line in timo.open_cube.__doc__.split("    Returns\n")[0].splitlines():
        if found := re.fullmatch(r"    (\w+(?:, \w+)*)(?: : .*)?", line):
            described |= set(found[1].split(", "))
    options = {"source", *inspect.signature(make_request).parameters}
    for source in SOURCES:
        module, function = SOURCES[source].split(":")
        opener = getattr(import_module(module), function)
        options |= inspect.signature(opener).parameters.keys() - {"request"}
    assert set(shown) - {"unknown"} == described - {"Parameters"} == options
    assert "Cloud Score+" in pydoc.render_doc(timo.open_cube)


def test_chunk_size_is_taken_for_chunks_with_a_warning(lazy):
    with pytest.warns(DeprecationWarning, match="chunk_size= is called chunks= now") as caught:
        cube = open_cube("emulator", **PLACE, cache=False, chunk_size=40)
    assert caught[0].filename == __file__
    assert cube.chunks == lazy.chunks
    assert "give chunks= alone" in refusal(open_cube, "emulator", **PLACE, chunk_size=40, chunks=40)


# --- what is good


def geojson(tmp_path):
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for shape in TWO
    ]
    path = tmp_path / "two.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize(
    "aoi",
    [
        list(BOX),
        np.array(BOX),
        HERE,
        HERE.wkt,
        shapely.geometry.mapping(HERE),
        json.dumps(shapely.geometry.mapping(HERE)),
        frame(HERE),
        frame(HERE).geometry,
        frame(HERE).total_bounds,
        drawn(),
    ],
    ids=lambda aoi: type(aoi).__name__,
)
def test_every_form_of_an_area_is_the_same_cube(aoi, lazy):
    cube = open_cube("emulator", **{**PLACE, "aoi": aoi}, cache=False, chunks=40)
    xr.testing.assert_identical(cube.drop_vars("band"), lazy.drop_vars("band"))


def test_a_frame_in_metres_and_a_file_of_two_features(tmp_path):
    metres = frame(HERE).to_crs(32634)
    cube = open_cube("emulator", **{**PLACE, "aoi": metres}, cache=False)
    assert cube.shape[2:] == (80, 81)
    path = geojson(tmp_path)
    for aoi in (path, str(path)):
        both = fetch(
            open_cube(
                "emulator",
                **{**PLACE, "aoi": aoi},
                masked_classes=(),
                clip=True,
                cache=False,
            ),
            progress=False,
        )
        inside = float(np.isfinite(both[0, 0]).mean())
        shares = sum(shape.area for shape in TWO) / shapely.box(*shapely.union_all(TWO).bounds).area
        assert inside == pytest.approx(shares, abs=0.03)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2018-05-01", "2018-06-30"),
        (dt.date(2018, 5, 1), dt.datetime(2018, 6, 30, 23, 59)),
        (pd.Timestamp("2018-05-01", tz="UTC"), pd.Period("2018-06")),
        (np.datetime64("2018-05"), np.datetime64("2018-06")),
        ("20180501", "2018-6"),
    ],
)
def test_every_form_of_dates_is_the_same_cube(start, end, lazy):
    cube = open_cube("emulator", **PLACE | {"start": start, "end": end}, cache=False)
    assert cube.indexes["time"].equals(lazy.indexes["time"])


def test_a_year_means_all_of_it(lazy):
    cube = open_cube("emulator", **PLACE | {"start": 2018, "end": 2018}, cache=False)
    assert cube.sizes["time"] == 34
    assert set(lazy.indexes["time"]) < set(cube.indexes["time"])


@pytest.mark.parametrize("source", ["emulator", "stac", "files"])
@pytest.mark.parametrize("bands", ["red", ["nir", "red"], ["B08", "b4"], np.array(["B8", "B4"])])
def test_bands_by_their_common_names(source, bands, catalog, store):
    own = {"emulator": {"cache": False}, "stac": {"catalog": catalog}, "files": {"path": store}}
    cube = open_cube(source, **{**PLACE, "bands": bands, **own[source]})
    assert cube.band.values.tolist() == (["B4"] if isinstance(bands, str) else ["B8", "B4"])


def test_a_fraction_of_a_percent_is_questioned():
    with pytest.warns(UserWarning, match="For 20 % write max_cloud=20"):
        open_cube("emulator", **PLACE, max_cloud=0.2, cache=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        open_cube("emulator", **PLACE, max_cloud=0, cache=False)


@pytest.mark.parametrize("size", [16, 10**9])
def test_chunks_of_any_size_are_the_same_cube(size, lazy):
    cube = open_cube("emulator", **PLACE, chunks=size, cache=False)
    xr.testing.assert_identical(fetch(cube, progress=False), lazy.compute())


# --- the cache and the fetch


def test_a_cache_that_cannot_be_written_is_told_of_once_and_done_without(tmp_path, lazy):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.warns(UserWarning, match="Fetched chunks cannot be kept in"):
        cube = fetch(open_cube("emulator", **PLACE, cache=file / "cache"), progress=False)
    np.testing.assert_array_equal(cube, lazy)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("cache", [5, "", ["folder"]])
def test_a_cache_that_is_no_folder(cache):
    assert re.match(
        "cache (must be|is an empty)", refusal(open_cube, "emulator", **PLACE, cache=cache)
    )


def test_a_place_to_write_is_looked_at_before_anything_is_fetched(lazy, tmp_path):
    file, folder = tmp_path / "file.zarr", tmp_path / "folder.zarr"
    file.write_text("precious")
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    asked = threading.Event()

    def stop():
        asked.set()
        return False

    for path, words in (
        (file, "is a file"),
        (folder, "something else in it"),
        (tmp_path / "cube.nc", "must end in .zarr"),
        ("", "must end in .zarr"),
    ):
        assert words in refusal(fetch, lazy, path=path, progress=False, stop=stop)
    assert not asked.is_set()
    assert file.read_text() == (folder / "notes.txt").read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [file, folder]


def test_no_cube_stands_there_after_a_fetch_that_was_cancelled_and_the_same_call_goes_on(
    lazy, tmp_path
):
    stop, path = threading.Event(), tmp_path / "cube.zarr"
    stop.set()
    message = refusal(fetch, lazy, path=path, stop=stop, progress=False)
    assert message.startswith("The fetch was stopped after 0 of 4 chunks.")
    assert not path.exists()
    np.testing.assert_array_equal(fetch(lazy, path=path, progress=False), lazy)
    assert list(tmp_path.iterdir()) == [path]


# --- what becomes of a cube


def test_attributes_survive_every_way_to_a_file(lazy, tmp_path):
    months = open_cube("emulator", **PLACE, composite="1MS", cache=False)
    for name, cube in (("dates", lazy), ("months", months)):
        fetched = fetch(cube, progress=False)
        written = fetch(cube, path=tmp_path / f"{name}.zarr", progress=False)
        fetched.to_dataset(name="cube").to_netcdf(tmp_path / f"{name}.nc")
        again = [open_cube("files", path=tmp_path / f"{name}.{kind}") for kind in ("zarr", "nc")]
        for other in (fetched, written, *again):
            assert other.attrs == cube.attrs
            assert {"sensor", "units", "source", "attribution"} <= set(other.attrs)
            assert other.rio.crs == cube.rio.crs
            assert set(other.coords) == set(cube.coords)
            np.testing.assert_array_equal(other, fetched)


@pytest.mark.parametrize("source", ["emulator", "stac", "files", "sample"])
def test_a_cube_of_every_source_goes_through_all_that_takes_one(source, catalog, store):
    bands = ["B2", "B3", "B4", "B8"]
    own = {"emulator": {"cache": False}, "stac": {"catalog": catalog}, "files": {"path": store}}
    where = {} if source == "sample" else {"aoi": BOX}
    cube = open_cube(source, bands=bands, **where, **MONTHS, **own.get(source, {}))
    timo.cube.check(cube)
    seen = float(timo.cube.valid_mask(cube).mean())
    assert 0.1 < seen < 0.9
    monthly = timo.cube.composite(cube, "1MS").compute()
    assert monthly.sizes["time"] == 2
    assert 0 < float(timo.cube.ndvi(monthly).median()) < 1
    assert timo.cube.true_colour(monthly).sizes["rgb"] == 3
    inside = xr.ones_like(monthly[0, 0], dtype=bool)
    hectares = timo.cube.hectares(inside)
    assert hectares == pytest.approx(cube.sizes["y"] * cube.sizes["x"] / 100, rel=0.01)
    parts = timo.cube.split_blocks(timo.cube.blocks(cube, 200))
    assert parts.shape == cube.shape[2:]
    assert len(np.unique(parts)) >= 3


def test_a_model_maps_a_lazy_cube(lazy):
    cube = open_cube("emulator", **PLACE | {"bands": ["B4", "B8"]}, cache=False)
    model = timo.load_model("timo-tiny", data=cube, classes=["forest", "other"])
    result = timo.predict(model, cube).isel(y=slice(0, 32), x=slice(0, 32)).compute()
    assert set(np.unique(result["label"])) <= {-1, 0, 1}
    total = result["probability"].sum("class")
    known = (result["label"] >= 0).values
    assert known.any()
    np.testing.assert_allclose(total.values[known], 1, atol=1e-5)


def test_importing_the_sources_is_light():
    code = (
        "import sys, timo, timo.sources; "
        "print(sorted({'torch', 'xarray', 'rasterio', 'ee', 'pandas', 'lightning', 'dask'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
