"""Where items come from: the presets, another STAC API, a static catalog, or a list of items."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import pystac
from pystac_client import Client
from pystac_client.exceptions import APIError, ParametersError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import FallbackToPystac, NoConformsTo
from shapely.errors import ShapelyError
from urllib3 import Retry

from timo.checks import did_you_mean
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.opening import CATALOGS
from timo.sources.request import CubeRequest
from timo.sources.retry import redact

# Items a page: what all of the larger APIs allow.
_PAGE = 250
_LISTED = 12
# What pystac raises of JSON that is not STAC, or not enough of it.
_UNREADABLE = (
    pystac.STACError,
    pystac.STACTypeError,
    pystac.RequiredPropertyMissing,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    ShapelyError,
)


# The address of a catalogue by its name, which is the `provider` of the sensors' collections.
PRESETS = {
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
    "earth-search": "https://earth-search.aws.element84.com/v1",
}


def find_items(
    catalog: Any,
    request: CubeRequest,
    collections: Sequence[str] | None,
    *,
    limit: int,
    timeout: float,
    headers: Mapping[str, str] | None,
) -> list[pystac.Item]:
    """Return the items of a catalogue that may belong to a request; an API is asked for its area and dates alone.

    `catalog`, `timeout` and `headers` are those of `open_stac`; without `collections` those are taken that the sensor
    is known by. More items than `limit` are refused, and a catalogue that is not there or cannot be read.
    """
    where = describe(catalog)
    if collections is None and is_preset(catalog):
        collections = request.sensor.collection(catalog).ids
    with readable(where):
        if isinstance(catalog, str | os.PathLike):
            catalog = _open(catalog, timeout, headers)
        if isinstance(catalog, Client) and catalog.conforms_to("ITEM_SEARCH"):
            ids = collections or _known_ids(catalog, where, request.sensor)
            found: Iterable[pystac.Item] = _search(catalog, request, ids)
        else:
            found = _walk(catalog, collections, request.sensor)
        items = list(islice(found, limit + 1))
    if len(items) > limit:
        raise TimoError(
            f"{where} has more than {limit:,} items for this area and these dates. Ask for less of both, or take it in "
            f"parts; or give max_items={2 * limit}, if there is memory for the graph"
        )
    return items


def is_preset(catalog: Any) -> bool:
    """Return whether a catalogue is given by the name of a preset."""
    return isinstance(catalog, str) and catalog in PRESETS


def describe(catalog: Any) -> str:
    """Name a catalogue: without a query, which may hold a key, and without folders, which are private."""
    if is_preset(catalog):
        return str(catalog)
    if isinstance(catalog, str) and _is_url(catalog):
        address = urlparse(catalog)
        return f"{address.hostname}{address.path}".rstrip("/")
    if isinstance(catalog, str | os.PathLike):
        path = Path(catalog)
        return path.parent.name if path.suffix else path.name
    return str(getattr(catalog, "id", None) or "items")


def signer_of(catalog: Any) -> Callable[[Any], Any] | None:
    """Return the provider's own function that signs the addresses of a preset's files; None if they are open."""
    if not isinstance(catalog, str) or catalog != "planetary-computer":
        return None
    try:
        import planetary_computer
    except ModuleNotFoundError as error:
        raise TimoError(
            "The files of 'planetary-computer' are signed with planetary-computer, which is not installed: pip install "
            'planetary-computer. Or use catalog="earth-search", whose Sentinel-2 images need no signing'
        ) from error
    return planetary_computer.sign_inplace


def _open(
    catalog: str | os.PathLike[str], timeout: float, headers: Mapping[str, str] | None
) -> Any:
    """Return a client of an API, or a static catalog."""
    name = os.fspath(catalog)
    if is_preset(catalog) or _is_url(name):
        url = PRESETS[name] if is_preset(catalog) else name
        return _connect(url, timeout, dict(headers or {}))
    path = Path(catalog)
    if path.is_dir():
        path = path / "catalog.json"
    if not path.is_file():
        raise TimoError(
            f"catalog={name!r} is none of {', '.join(PRESETS)}, no address (https://...) and no file on this machine."
            f"{did_you_mean(name, PRESETS, CATALOGS)} "
            "A static catalog is given by the path of its catalog.json, or of the folder that this is in"
        )
    kind = json.loads(path.read_text(encoding="utf-8")).get("type")
    if kind == "FeatureCollection":
        return pystac.ItemCollection.from_file(str(path))
    return pystac.read_file(path)


def _connect(url: str, timeout: float, headers: dict[str, str]) -> Client:
    # A search is a POST and changes nothing: it may be repeated.
    retries = Retry(
        total=5,
        connect=2,
        read=2,
        backoff_factor=0.3,
        status_forcelist=(429, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
    )
    speaker = StacApiIO(headers=headers, timeout=timeout, max_retries=retries)
    with warnings.catch_warnings():
        # What can do no search is walked, as a static catalog is.
        warnings.simplefilter("ignore", NoConformsTo)
        return Client.open(url, stac_io=speaker)


def _search(client: Client, request: CubeRequest, ids: Sequence[str]) -> Iterator[pystac.Item]:
    # Solar days are kept to a fraction of a second when the items are there.
    second = pd.Timedelta(seconds=1)
    span = (request.utc(request.start) - second, request.utc(request.end) + second)
    first, after = (f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in span)
    search = client.search(
        collections=list(ids),
        intersects=request.area.geojson,
        datetime=f"{first}/{after}",
        limit=_PAGE,
    )
    return search.items()


def _known_ids(client: Client, where: str, sensor: Sensor) -> list[str]:
    """Return those of the collections that a sensor is known by which an API has."""
    known = known_ids(sensor)
    there = [collection.id for collection in client.get_collections()]
    if shared := [name for name in known if name in there]:
        return shared
    listed = ", ".join(there[:_LISTED]) + (", ..." if len(there) > _LISTED else "")
    raise TimoError(
        f"{where} has no collection that timo knows {sensor.name} by ({', '.join(known) or 'none'}). Give "
        f'collection="..."; it has: {listed or "none"}'
    )


def known_ids(sensor: Sensor) -> list[str]:
    """Return the ids of the collections that a sensor is known by in STAC catalogues."""
    served = [c for c in sensor.collections if c.provider != "earthengine"]
    return list(dict.fromkeys(name for c in served for name in c.ids))


def _walk(catalog: Any, collections: Sequence[str] | None, sensor: Sensor) -> Iterator[pystac.Item]:
    """Return items of a static catalog or a list: those of the collections, or of the sensor's if it has them."""
    if isinstance(catalog, pystac.Catalog):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackToPystac)
            items = list(catalog.get_items(recursive=True))
    elif isinstance(catalog, Iterable):
        items = list(catalog)
    else:
        items = [catalog]
    if strange := [item for item in items if not isinstance(item, pystac.Item)]:
        raise TimoError(
            f"catalog holds a {type(strange[0]).__name__}. Give the name or address of a STAC API, the path of a "
            "catalog.json, a pystac.Catalog, a pystac.ItemCollection, or a list of pystac.Item"
        )
    if not items:
        listed = not isinstance(catalog, pystac.Catalog)
        what = "The list given as catalog" if listed else describe(catalog)
        raise TimoError(f"{what} holds no items. Is it a STAC catalog with links to them?")
    there = {str(item.collection_id) for item in items}
    wanted = set(collections or there.intersection(known_ids(sensor)) or there)
    if not wanted & there:
        asked, named = (", ".join(sorted(names)) for names in (wanted, there))
        raise TimoError(f"No item is of collection {asked}. There are: {named}")
    return (item for item in items if str(item.collection_id) in wanted)


def _is_url(name: str) -> bool:
    try:
        return urlparse(name).scheme in ("http", "https")
    except ValueError as error:
        raise TimoError(
            f"catalog is no address: {error}. Write it as https://host/path."
        ) from error


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Raise one error with a remedy for all that goes wrong while a catalogue is read."""
    try:
        yield
    except TimoError:
        raise
    except APIError as error:
        status = getattr(error, "status_code", None)
        said = redact(" ".join(str(error).split()))[:300]
        raise TimoError(f"{where} {_trouble(status)} ({said or 'no answer'})") from error
    except ParametersError as error:
        raise TimoError(f"{where} refused the search: {error}") from error
    except (*_UNREADABLE, OSError) as error:
        raise TimoError(
            f"{where} cannot be read as a STAC catalog or API ({type(error).__name__}: {redact(str(error))}). Check "
            "its address"
        ) from error


def _trouble(status: int | None) -> str:
    if status is None:
        return "could not be reached. Check the address and the network, or try a longer timeout="
    if status in (401, 403):
        return f"wants an authorisation (HTTP {status}). Give headers= or modifier= as its documentation says"
    if status == 404:
        return "has no such collection, or is no STAC API (HTTP 404). Check the address and collection="
    if status == 429 or status >= 500:
        return f"is overloaded or out of order (HTTP {status}). Try again later, or ask for less"
    return f"refused the search (HTTP {status}). Check collection= and the area"
