import json
import re

import ee
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from ee_emulator import (
    BackedBand,
    BackedImage,
    Backing,
    Emulator,
    sample_backing,
)
from ee_emulator.service import Service
from synthetic_sensors import synthetic_backing

from timo.cube import check, composite
from timo.errors import TimoError
from timo.sources import from_ee_image_collection, open_cube
from timo.sources.earthengine import connect, estimate
from timo.sources.earthengine.connecting import DEADLINE_MS
from timo.sources.earthengine.images import PROVIDER, filtered, listing_of, millis, read_listing
from timo.sources.earthengine.requests import Dated, Layers, ask, chunk_of
from timo.sources.emulated import connect_emulator, emulator
from timo.sources.request import make_request
from timo.sources.retry import Retry

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ["B2", "B3", "B4", "B8", "B8A", "B11"]
BOX = (22.1472, 45.2013, 22.1572, 45.2083)
SUMMER = {"start": "2018-06", "end": "2018-08", "bands": BANDS}
PATIENT = Retry(initial_s=0.01, quota_initial_s=0.02, deadline_s=60)


@pytest.fixture(scope="module")
def sample():
    return open_cube("sample", start="2018-06", end="2018-08")


def opened(sample, **options):
    return open_cube("emulator", **{"like": sample, "cache": False, **SUMMER, **options})


def pixels():
    return emulator().requests["pixels"]


def test_on_the_grid_of_the_sample_the_cube_is_the_sample(sample):
    cube = opened(sample)
    assert cube.chunks is not None
    assert check(cube.compute()).dtype == np.float32
    xr.testing.assert_allclose(
        cube.drop_vars("spatial_ref"), sample.drop_vars(["spatial_ref", "scl"]), rtol=2e-7
    )
    assert cube.rio.crs == sample.rio.crs
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2018"
    assert S2 in cube.attrs["source"]


@pytest.mark.parametrize(
    "options", [{"buffer_m": 0}, {"masked_classes": ()}, {"masked_classes": (9,), "buffer_m": 35}]
)
def test_masks_and_buffers_are_those_of_the_sample(sample, options):
    there = open_cube("sample", start="2018-06", end="2018-08", **options)
    here = opened(sample, **options)
    np.testing.assert_allclose(here.values, there.values, rtol=2e-7)


@pytest.mark.parametrize("period", ["1MS", "16D", "QS-DEC"])
def test_a_composite_of_the_servers_is_that_of_the_cube(sample, period):
    here = opened(sample, composite=period)
    there = composite(sample, period, origin="2018-06-01")
    np.testing.assert_array_equal(here.time.values, there.time.values)
    np.testing.assert_allclose(here.values, there.values, rtol=2e-6)
    np.testing.assert_array_equal(here.n_valid.values, there.n_valid.values)
    assert here.n_valid.dtype == np.int16
    assert here.attrs["composite"] == f"{period} median"


def test_nothing_is_fetched_before_it_is_used_and_then_only_what_is(sample):
    before = pixels()
    cube = opened(sample, chunks=40)
    assert pixels() == before
    cube.isel(time=slice(0, 2), y=slice(0, 10), x=slice(0, 10)).load()
    assert pixels() - before == 1


def test_what_was_fetched_is_not_fetched_again(sample, tmp_path):
    first = opened(sample, cache=tmp_path).load()
    before = pixels()
    again = opened(sample, cache=tmp_path).load()
    assert pixels() == before
    np.testing.assert_array_equal(first, again)


def test_another_request_is_another_key(sample, tmp_path):
    opened(sample, cache=tmp_path).load()
    before = pixels()
    opened(sample, cache=tmp_path, buffer_m=0).load()
    assert pixels() > before


@pytest.mark.parametrize("reprocessed", [False, True])
def test_what_is_kept_of_an_image_is_fetched_anew_when_it_was_reprocessed(reprocessed, tmp_path):
    # https://developers.google.com/earth-engine/guides/image_info: the property system:version is the "version number
    # (ingestion timestamp as microseconds since Unix epoch)".
    with Emulator(small_store()) as service:
        first = small_cube(service, cache=tmp_path).load()
        known = service.service
        service.service = Service(small_store(newer=reprocessed))
        again = small_cube(service, cache=tmp_path).load()
        service.service = known
        assert service.requests["pixels"] == 1 + reprocessed
    connect_emulator()
    assert float(abs(again - first).max()) == pytest.approx(0.1 if reprocessed else 0, abs=1e-6)


def small_store(*, newer: bool = False, moved: int = 0) -> Backing:
    """Three images of one hour, two of them of one second, with B4 of 0.1, 0.2 and 0.3 and a gap in the last."""
    start = 1_561_975_200_000 + moved  # 2019-07-01 10:00
    images = []
    for number, (index, seconds) in enumerate([("b", 0), ("z", 7), ("a", 7)]):
        values = np.full((40, 40), 1000 * (number + 1) + 1000 * newer, "uint16")
        values[:20] = np.where(index == "z", 0, values[:20])
        bands = {
            "B4": BackedBand(values, nodata=0),
            "SCL": BackedBand(np.full((40, 40), 4, "uint8")),
        }
        time = start + 1000 * seconds
        images.append(
            BackedImage(
                f"20190701T100000_{index}",
                time,
                time,
                "EPSG:32634",
                (10.0, 0.0, 590_000.0, 0.0, -10.0, 5_006_400.0),
                bands,
                {"CLOUDY_PIXEL_PERCENTAGE": 0.0},
                version=7 + newer,
            )
        )
    return Backing({S2: images})


def small_cube(service, **options):
    near = {"aoi": (22.1435, 45.2035, 22.1475, 45.2060), "bands": ["B4"], "start": "2019-07-01"}
    return open_cube(
        "earthengine",
        **{**near, "end": "2019-07-01", "url": service.url, "cache": False, **options},
    )


def test_of_two_images_of_one_time_the_later_name_is_on_top_whatever_the_order_they_come_in():
    with Emulator(small_store()) as service:
        cube = small_cube(service).load()
        # What Earth Engine's `sort` does with equal times, nobody says: here, the other way round.
        service.service.backing._images[S2].reverse()
        again = small_cube(service).load()
    connect_emulator()
    np.testing.assert_array_equal(cube, again)
    values = np.unique(cube.values[np.isfinite(cube.values)])
    # "z" is on top of "a", which is seen through its gap; both are later than "b".
    np.testing.assert_allclose(values, [0.2, 0.3])


@pytest.mark.parametrize(("moved", "dates"), [(0, 1), (-1, 0)])
def test_a_day_begins_at_its_millisecond(moved, dates):
    """Local solar midnight is at no whole second."""
    request = make_request(aoi=(22.1435, 45.2035, 22.1475, 45.2060), start=2019, end=2019)
    midnight = millis(request.utc(pd.Timestamp("2019-07-01")))
    assert midnight % 1000
    with Emulator(small_store(moved=midnight - 1_561_975_200_000 + moved)) as service:
        images = list(service.service.backing.collections[S2])
        service.service = Service(Backing({S2: images[:1]}))
        if dates:
            assert small_cube(service).sizes["time"] == dates
        else:
            with pytest.raises(TimoError, match="No image of sentinel-2"):
                small_cube(service)
    connect_emulator()


def test_a_request_holds_the_images_of_its_dates_and_no_others(sample):
    sent = []
    real = ee.data.computePixels

    def note(params):
        sent.append(params["expression"].serialize())
        return real(params)

    cube = opened(sample)
    assert cube.sizes["time"] > 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ee.data, "computePixels", note)
        cube.isel(time=slice(3, 5)).data.blocks[0].compute()
        part = opened(sample, chunks=256).isel(time=[4])
        layers = Layers(Dated(tuple([ee.Image(f"{S2}/{n}")] for n in "abcd"), first_of, ("p", "q")))
        ids = set(re.findall(r"S2_SR_HARMONIZED/(\w)", layers.toList(3, 3).serialize()))
    assert ids == {"b", "c"}
    assert len(sent) == 1
    # Neither a search of the collection nor the outline of the area goes with it.
    assert "ImageCollection.load" not in sent[0]
    assert "Filter" not in sent[0]
    assert part.sizes["time"] == 1


def test_a_small_place_on_many_dates_comes_in_replies_that_numpy_reads():
    """It refuses headers of more than 10,000 characters, which 500 bands have."""
    before = pixels()
    place = {"aoi": (22.1500, 45.2040, 22.1512, 45.2048), "bands": BANDS, "masked_classes": ()}
    cube = open_cube("emulator", **place, start=2015, end=2021, cache=False).load()
    assert cube.sizes["time"] * cube.sizes["band"] > 800
    assert pixels() - before == 4
    assert float(np.isfinite(cube).mean()) > 0.9


def first_of(images) -> ee.Image:
    return ee.Image(ee.List(images).get(0))


def test_collections_of_several_satellites_are_listed_each_by_its_ids():
    with Emulator(synthetic_backing("landsat-8-9")) as service:
        connect(url=service.url)
        request = make_request(aoi=BOX, sensor="landsat-8-9", start=2018, end=2020)
        parts = filtered(request, request.sensor.collection(PROVIDER))
        listing = read_listing(ask(listing_of(parts), PATIENT), list(parts))
    connect_emulator()
    assert {i.rpartition("/")[0] for i in listing.ids} == set(parts)
    assert listing.times.is_monotonic_increasing
    assert len(listing.versions) == len(listing.ids)


def test_a_chunk_keeps_the_limits_of_a_request_even_if_it_came_in_64_bits():
    # https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels
    for shape, size in [
        ((500, 10, 256, 256), 256),
        ((500, 1, 3000, 3000), 900),
        ((3000, 12, 9, 9), 256),
    ]:
        dates, bands, rows, columns = chunk_of(shape, size)
        assert dates * bands * rows * columns * 9 <= 48 * 2**20
        assert dates * bands <= 256
    with pytest.raises(TimoError, match=r"Earth Engine sends at most 48. Give chunks=\d+ or less"):
        chunk_of((1, 12, 2000, 2000), 1000)
    with pytest.raises(TimoError, match="300 bands are more than the 256 of a request"):
        chunk_of((1, 300, 10, 10))


def test_a_request_is_made_of_a_thousand_images_at_most_where_dates_can_be_parted():
    assert chunk_of((12, 3, 64, 64), images=300) == (3, 3, 64, 64)
    assert chunk_of((12, 3, 64, 64), images=5000) == (1, 3, 64, 64)
    assert chunk_of((12, 3, 64, 64), images=3) == (12, 3, 64, 64)


@pytest.mark.parametrize("own", [0, 5000])
def test_where_timo_initialises_no_request_waits_for_ever_and_connections_are_kept(own):
    with Emulator(small_store()) as service:
        ee.Reset()
        if own:
            emulator().initialize()
            ee.data.setDeadline(own)
        connect(url=service.url, workers=25)
        state = ee.data._get_state()
        assert state.deadline_ms == (own or DEADLINE_MS)
        assert state.requests_session.get_adapter(service.url)._pool_maxsize == 25
    ee.Reset()
    connect_emulator()


def test_what_the_user_has_initialised_stays_as_it_is():
    with Emulator(small_store()) as service:
        ee.Reset()
        service.initialize()
        connect(url=service.url)
        assert ee.data._get_state().deadline_ms == 0
    ee.Reset()
    connect_emulator()


def test_images_made_of_others_have_no_resolution_of_their_own():
    # https://developers.google.com/earth-engine/guides/projections: "composites or mosaics with different projections
    # will have a default WGS84 projection with a 1-degree scale".
    with Emulator(small_store()) as service:
        connect(url=service.url)
        mosaic = ee.ImageCollection(S2).mosaic().set("system:time_start", 1_561_975_200_000)
        images = ee.ImageCollection([mosaic])
        options = {"aoi": (22.1435, 45.2035, 22.1475, 45.2060), "url": service.url, "cache": False}
        with pytest.raises(TimoError, match=r"made of others .*: give resolution="):
            from_ee_image_collection(images, bands=["B4"], **options)
        cube = from_ee_image_collection(images, bands=["B4"], resolution=10, **options)
        assert float(cube.max()) == 3000
    connect_emulator()


def test_an_estimate_is_what_is_then_fetched(sample):
    emulated = emulator().url
    figures = estimate(like=sample, url=emulated, chunks=50, **SUMMER)
    before = pixels()
    cube = opened(sample, chunks=50)
    cube.load()
    assert figures.requests == pixels() - before
    assert figures.bytes == cube.nbytes
    assert (figures.dates, figures.height, figures.width) == (cube.sizes["time"], 100, 100)
    assert f"{figures.requests} requests" in str(figures)


def test_an_estimate_fetches_no_pixel(sample):
    before = pixels()
    estimate(aoi=BOX, url=emulator().url, composite="1MS", **SUMMER)
    assert pixels() == before


def test_cloudy_images_are_left_out(sample):
    clear = opened(sample, max_cloud=10)
    assert 0 < clear.sizes["time"] < sample.sizes["time"]
    np.testing.assert_allclose(clear.values, sample.sel(time=clear.time).values, rtol=2e-7)


def test_a_second_opinion_on_clouds(sample):
    scored = opened(sample, cloud_score=True)
    assert scored.sizes == sample.sizes
    assert "Cloud Score+" in scored.attrs["attribution"]
    assert "Cloud Score+" not in opened(sample, cloud_score=None).attrs["attribution"]
    share = float(np.isfinite(scored.isel(band=0)).mean())
    assert 0.2 < share < 1
    stricter = opened(sample, cloud_score=0.95)
    assert float(np.isfinite(stricter.isel(band=0)).mean()) <= share


@pytest.mark.parametrize("name", ["sentinel-1", "landsat-8-9", "modis", "modis-vegetation"])
def test_other_sensors(name, tmp_path):
    with Emulator(synthetic_backing(name)) as other:
        cube = open_cube(
            "earthengine",
            aoi=BOX,
            sensor=name,
            start="2018",
            end="2020",
            url=other.url,
            cache=tmp_path,
        ).load()
    connect_emulator()
    check(cube)
    assert cube.attrs["sensor"] == name
    assert cube.attrs["attribution"]
    assert cube.name == ("backscatter" if name == "sentinel-1" else "reflectance")
    assert np.isfinite(cube).any()


def test_a_cube_of_images_that_the_user_has_prepared(sample):
    connect_emulator()

    def index(image):
        ndvi = image.normalizedDifference(["B8", "B4"]).rename("NDVI")
        return ndvi.copyProperties(image, ["system:time_start"])

    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01").map(index)
    cube = from_ee_image_collection(images, like=sample, cache=False, url=emulator().url).load()
    bare = open_cube("sample", start="2018-06", end="2018-08", masked_classes=())
    red, nir = bare.sel(band="B4", drop=True), bare.sel(band="B8", drop=True)
    assert list(cube.band.values) == ["NDVI"]
    assert "sensor" not in cube.attrs
    np.testing.assert_allclose(cube.sel(band="NDVI"), (nir - red) / (nir + red), atol=2e-6)


def test_a_cube_of_raw_images_takes_the_area_as_earth_engine_has_it(sample):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01").select(["B4", "B8"])
    area = ee.Geometry.Rectangle(list(BOX), None, False)
    cube = from_ee_image_collection(
        images, aoi=area, sensor="sentinel-2", scale=1e-4, cache=False, url=emulator().url
    )
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.rio.resolution() == (10, -10)
    assert cube.rio.crs.to_epsg() == 32634
    assert 0.2 < float(cube.sel(band="B8", time="2018-07-01").mean()) < 0.5


def test_a_collection_without_an_image_is_refused(sample):
    connect_emulator()
    none = ee.ImageCollection(S2).filterDate("1999-01-01", "1999-02-01")
    with pytest.raises(TimoError, match="holds no image"):
        from_ee_image_collection(none, like=sample, cache=False, url=emulator().url)
    bare = ee.ImageCollection([ee.Image(1).rename("B4")])
    with pytest.raises(TimoError, match=r"the images have no system:time_start"):
        from_ee_image_collection(bare, like=sample, cache=False, url=emulator().url)


BAD = {
    "band": ({"bands": ["B4", "B5"]}, r"there is no B5 here. The emulator holds .*'B11'\]: give"),
    "sensor": ({"sensor": "modis", "bands": None}, r"there is no modis here. The emulator holds"),
    "orbit": ({"orbit": "ascending"}, r"orbit cannot be chosen: the images of sentinel-2"),
    "no image": (
        {"start": "2012", "end": "2013"},
        r"No image of sentinel-2 between 2012-01-01 and 2013-12-31 .*of 2015-08-01 to 2021-01-01",
    ),
    "after the last": ({"start": 2030, "end": 2031}, r"seen: images of 2015-08-01 to 2021-01-01"),
    "clear": ({"max_cloud": 0, "start": "2018-02", "end": "2018-02"}, r"raise max_cloud"),
    "score": ({"cloud_score": 2}, r"a number from 0 to 1 or None; got 2"),
    "chunk": ({"chunks": 0}, r"chunks must be a whole number of 1 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(sample, case):
    options, message = BAD[case]
    with pytest.raises(TimoError, match=message):
        opened(sample, **options).load()


def test_a_band_that_the_service_has_not_is_said_in_its_words():
    with pytest.raises(TimoError, match=r"Band pattern 'B5' did not match any bands"):
        open_cube(
            "earthengine", aoi=BOX, url=emulator().url, cache=False, **{**SUMMER, "bands": ["B5"]}
        )
    with pytest.raises(TimoError, match=r"do not say how cloudy"):
        estimate(
            aoi=BOX, start=2018, end=2018, sensor="sentinel-1", max_cloud=5, url=emulator().url
        )


def test_a_cube_of_one_service_does_not_ask_another(sample):
    cube = opened(sample)
    with Emulator(sample_backing()) as other:
        connect(url=other.url)
        try:
            with pytest.raises(TimoError, match=r"another is connected now. Open it again"):
                cube.load()
        finally:
            connect_emulator()


def test_without_credentials_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    ee.Reset()
    asked = []
    monkeypatch.setattr(ee, "Authenticate", lambda *a, **_: asked.append(a))
    with pytest.raises(
        TimoError, match=r"Earth Engine cannot be initialised: .*ee.Authenticate\(\)"
    ):
        open_cube("earthengine", aoi=BOX, start="2019", end="2019")
    assert not asked
    connect_emulator()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no service account key"),
        ("no json", r"is no JSON key of a service account"),
        (json.dumps({"private_key": "SECRET"}), r"is no JSON key of a service account"),
        (json.dumps({"client_email": "a@b.c", "private_key": "SECRET"}), r"is no JSON key"),
    ],
)
def test_a_bad_key_is_refused_without_repeating_it(tmp_path, content, message):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TimoError, match=message) as caught:
        connect("project", service_account=path)
    assert "SECRET" not in str(caught.value)
    connect_emulator()
