"""`open_cube("stac")` and a STAC API, which runs on the loopback: what is asked, page by page, and what goes wrong."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dask
import numpy as np
import pandas as pd
import pystac
import pytest
import shapely
from sample_catalog import sample_grid, write_catalog

from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import open_cube
from timo.sources.request import CubeRequest
from timo.sources.stac import open_stac

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
]
S2 = get_sensor("sentinel-2")


class Api(ThreadingHTTPServer):
    """A STAC API over some items, a few a page, that notes what it is asked."""

    daemon_threads = True

    def __init__(self, items, page=4):
        super().__init__(("127.0.0.1", 0), Handler)
        self.items, self.page = items, page
        self.collections = ["other", "sentinel-2-l2a"]
        self.searches, self.headers = [], []
        self.failures = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_args):
        pass

    def do_GET(self):
        self.server.headers.append(dict(self.headers))
        root = self.server.url
        if self.failed("GET"):
            return
        if self.path == "/v1":
            self.reply(
                {
                    "type": "Catalog",
                    "stac_version": "1.0.0",
                    "id": "loopback",
                    "description": "A catalog",
                    "conformsTo": CONFORMS,
                    "links": [
                        {"rel": "self", "href": root},
                        {"rel": "root", "href": root},
                        {"rel": "data", "href": f"{root}/collections"},
                        {
                            "rel": "search",
                            "method": "POST",
                            "type": "application/geo+json",
                            "href": f"{root}/search",
                        },
                    ],
                }
            )
        elif self.path.startswith("/v1/collections"):
            self.reply(
                {"collections": [collection(c) for c in self.server.collections], "links": []}
            )
        else:
            self.reply({"code": "NotFound"}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.searches.append(asked)
        if self.failed("POST"):
            return
        first, last = (pd.Timestamp(t) for t in asked["datetime"].split("/"))
        area = shapely.geometry.shape(asked["intersects"])
        found = [
            item
            for item in self.server.items
            if item["collection"] in asked["collections"]
            and first <= pd.Timestamp(item["properties"]["datetime"]) <= last
            and shapely.intersects(area, shapely.geometry.shape(item["geometry"]))
        ]
        begin = int(asked.get("token", 0))
        after = begin + min(self.server.page, asked["limit"])
        links = [{"rel": "root", "href": self.server.url}]
        if after < len(found):
            body = {**asked, "token": str(after)}
            link = {
                "rel": "next",
                "method": "POST",
                "href": f"{self.server.url}/search",
                "body": body,
            }
            links.append(link)
        self.reply({"type": "FeatureCollection", "features": found[begin:after], "links": links})

    def failed(self, method):
        """Answer with the next failure that is planned, if there is one."""
        planned = self.server.failures.get(method) or []
        if not planned:
            return False
        status = planned.pop(0)
        if status == "slow":
            time.sleep(1.5)
        elif status == "text":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")
        else:
            self.reply({"code": "Trouble", "description": "as planned"}, status)
        return True

    def reply(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def collection(name):
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": name,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [],
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Items of 2018's summer, as an API hands them out."""
    path = write_catalog(
        tmp_path_factory.mktemp("api") / "sample",
        start="2018-06-01",
        end="2018-08-31",
        bands=["B4"],
    )
    found = []
    for item in pystac.Catalog.from_file(str(path)).get_items(recursive=True):
        item.make_asset_hrefs_absolute()
        found.append(item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []})
    return sorted(found, key=lambda item: item["properties"]["datetime"], reverse=True)


@pytest.fixture
def api(items):
    server = Api(items)
    with dask.config.set(scheduler="synchronous"):
        yield server
    server.shutdown()
    server.server_close()


def ask(start="2018-01-01", end="2019-01-01", **options):
    grid = sample_grid()
    dates = (pd.Timestamp(start), pd.Timestamp(end))
    return CubeRequest(grid.area, grid, *dates, S2, ("B4",), S2.masked, **options)


def test_a_search_is_paged_to_its_end(api, items):
    cube = open_stac(ask(buffer_m=50.0), catalog=api.url)
    expected = open_cube("sample", start="2018-06", end="2018-08", bands=["B4"])
    np.testing.assert_array_equal(cube, expected)
    np.testing.assert_array_equal(cube.time, expected.time)
    assert len(api.searches) == -(-len(items) // api.page) > 2
    assert cube.attrs["source"] == "stac (127.0.0.1/v1)"


def test_it_is_asked_for_the_area_the_dates_and_the_sensors_collection(api):
    open_stac(ask("2018-07-01", "2018-08-01"), catalog=api.url)
    asked = api.searches[0]
    assert asked["collections"] == ["sentinel-2-l2a"]
    assert asked["intersects"]["type"] == "Polygon"
    # Solar days at 22.15 E begin 89 minutes before UTC's.
    first, last = (pd.Timestamp(t) for t in asked["datetime"].split("/"))
    assert first == pytest.approx(pd.Timestamp("2018-06-30T22:31:23Z"), abs=pd.Timedelta("3s"))
    assert last == pytest.approx(pd.Timestamp("2018-07-31T22:31:24Z"), abs=pd.Timedelta("3s"))


def test_one_can_name_the_collection_and_send_headers(api):
    open_stac(
        ask(), catalog=api.url, collection="sentinel-2-l2a", headers={"Authorization": "Bearer x"}
    )
    assert {h.get("Authorization") for h in api.headers} == {"Bearer x"}
    with pytest.raises(TimoError, match="No image of sentinel-2"):
        open_stac(ask(), catalog=api.url, collection=["other"])


def test_items_are_signed_by_a_modifier(api):
    signed = []
    cube = open_stac(ask(), catalog=api.url, modifier=lambda found: signed.append(found.id))
    assert len(signed) == 1
    cube.compute()
    assert len(signed) == len(set(signed)) > 5


def test_a_signing_that_fails(api):
    def sign(_item):
        raise ConnectionError("nobody there")

    with pytest.raises(TimoError, match=r"could not be signed \(ConnectionError: nobody there\)"):
        open_stac(ask(), catalog=api.url, modifier=sign)


def test_a_preset_is_an_api_whose_names_are_known(api, monkeypatch):
    from timo.sources.stac import catalogs

    monkeypatch.setitem(catalogs.PRESETS, "earth-search", api.url)
    cube = open_stac(ask(buffer_m=50.0), catalog="earth-search")
    assert cube.attrs["source"] == "stac (earth-search)"
    expected = open_cube("sample", start="2018-06", end="2018-08", bands=["B4"])
    np.testing.assert_array_equal(cube, expected)
    modis = {"sensor": get_sensor("modis"), "bands": ("sur_refl_b01",), "masked": ()}
    request = CubeRequest(**{**vars(ask()), **modis})
    with pytest.raises(TimoError, match="modis is not served by 'earth-search'"):
        open_stac(request, catalog="earth-search")


def test_an_api_without_the_sensors_collection_says_what_it_has(api):
    api.collections = ["aerial", "other"]
    with pytest.raises(TimoError, match=r"no collection that timo knows .*aerial, other"):
        open_stac(ask(), catalog=api.url)


def test_too_many_items_are_refused_before_all_pages_are_read(api):
    with pytest.raises(TimoError, match="more than 3 items"):
        open_stac(ask(), catalog=api.url, max_items=3)
    assert len(api.searches) == 1


def test_failures_that_pass_are_not_noticed(api):
    api.failures = {"GET": [503], "POST": [502, 429]}
    assert open_stac(ask(), catalog=api.url).sizes["time"] > 5


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ({"POST": [500]}, r"out of order \(HTTP 500\).*as planned"),
        ({"POST": [400]}, r"refused the search \(HTTP 400\)"),
        ({"POST": [403]}, r"wants an authorisation \(HTTP 403\)"),
        ({"GET": [404]}, r"is no STAC API \(HTTP 404\)"),
        ({"GET": ["text"]}, "cannot be read as a STAC catalog or API"),
        ({"POST": ["text"]}, "cannot be read as a STAC catalog or API"),
    ],
)
def test_failures_that_stay_are_one_error_with_a_remedy(api, failures, words):
    api.failures = failures
    with pytest.raises(TimoError, match=words) as error:
        open_stac(ask(), catalog=api.url)
    assert "127.0.0.1/v1" in str(error.value)


def test_an_answer_that_takes_too_long(api):
    api.failures = {"POST": ["slow"] * 9}
    with pytest.raises(TimoError, match=r"could not be reached.*timeout="):
        open_stac(ask(), catalog=api.url, timeout=0.2)


def test_nobody_there(api):
    url = api.url
    api.shutdown()
    api.server_close()
    with pytest.raises(TimoError, match="could not be reached"):
        open_stac(ask(), catalog=url)


def test_a_static_catalog_can_have_an_address(items, api, tmp_path):
    path = write_catalog(tmp_path / "sample", start="2018-07-01", end="2018-07-20", bands=["B4"])
    from functools import partial
    from http.server import SimpleHTTPRequestHandler

    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(path.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cube = open_stac(ask(), catalog=f"http://127.0.0.1:{server.server_port}/catalog.json")
    server.shutdown()
    server.server_close()
    assert cube.time.dt.strftime("%m-%d").values.tolist() == ["07-01", "07-06"]
