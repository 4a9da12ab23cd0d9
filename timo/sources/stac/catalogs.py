"""Where items come from: the presets, another STAC API, a static catalog, or items that somebody has already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import pystac
from pystac_client import Client
from pystac_client.exceptions import APIError, ParametersError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from timo.checks import did_you_mean
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.opening import CATALOGS
from timo.sources.request import CubeRequest

# Items a page: what all of the larger APIs allow.
_PAGE = 250
_TELL = 12
# What pystac raises of JSON that is not STAC, or not enough of it.
_UNREADABLE = (
    pystac.STACError,
    pystac.STACTypeError,
    pystac.RequiredPropertyMissing,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Preset:
    """A catalogue that timo knows: its name is the `provider` of the sensors' collections.

    Parameters
    ----------
    url : str
        Its STAC API.
    signer : str, optional
        The provider's own function that makes the addresses of its files readable, "module:function".
    """

    url: str
    signer: str | None = None


PRESETS = {
    "planetary-computer": Preset(
        "https://planetarycomputer.microsoft.com/api/stac/v1", "planetary_computer:sign_inplace"
    ),
    "earth-search": Preset("https://earth-search.aws.element84.com/v1"),
}


@dataclass(frozen=True)
class Access:
    """How an API is spoken to.

    Parameters
    ----------
    timeout : float
        Seconds that an answer may take.
    headers : mapping, optional
        Sent with each request, e.g. an authorisation.
    """

    timeout: float = 60
    headers: dict[str, str] | None = None


def find_items(
    catalog: Any,
    request: CubeRequest,
    collections: Sequence[str] | None,
    access: Access,
    limit: int,
) -> list[pystac.Item]:
    """Items of a catalogue that may belong to a request: those of its area and dates, and of an API no others.

    Parameters
    ----------
    catalog : str, path, pystac.Catalog, pystac.ItemCollection or items
        As in `open_stac`.
    request : CubeRequest
        What is asked for.
    collections : sequence of str, optional
        Their ids; by default those that the sensor is known by.
    access : Access
        How an API is spoken to.
    limit : int
        More items are refused.

    Raises
    ------
    TimoError
        If there is no such catalogue, it cannot be read, or it has too many items.
    """
    where = describe(catalog)
    if where in PRESETS and collections is None:
        collections = request.sensor.collection(where).ids
    if isinstance(catalog, str | Path):
        catalog = _open(catalog, access)
    with _readable(where):
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


def describe(catalog: Any) -> str:
    """What to call a catalogue: no query, which may hold a key, and no folder, which is nobody's business."""
    if isinstance(catalog, str) and catalog in PRESETS:
        return catalog
    if isinstance(catalog, str) and _is_url(catalog):
        address = urlparse(catalog)
        return f"{address.hostname}{address.path}".rstrip("/")
    if isinstance(catalog, str | Path):
        path = Path(catalog)
        return path.parent.name if path.suffix else path.name
    return str(getattr(catalog, "id", None) or "items")


def signer_of(catalog: Any) -> Callable[[Any], Any] | None:
    """The provider's own function that makes the addresses of a preset's files readable; None if they are.

    Raises
    ------
    TimoError
        If the provider's library is not installed.
    """
    signer = PRESETS[catalog].signer if describe(catalog) in PRESETS else None
    if signer is None:
        return None
    module, function = signer.split(":")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        package = module.replace("_", "-")
        raise TimoError(
            f"The files of {catalog!r} are signed with {package}, which is not installed: pip install {package}. Or "
            'use catalog="earth-search", whose Sentinel-2 images need no signing'
        ) from error


def _open(catalog: str | Path, access: Access) -> Any:
    """A client of an API, or a static catalog."""
    name = str(catalog)
    if name in PRESETS or _is_url(name):
        return _connect(PRESETS[name].url if name in PRESETS else name, access)
    path = Path(catalog)
    if path.is_dir():
        path = path / "catalog.json"
    if not path.is_file():
        raise TimoError(
            f"catalog={name!r} is none of {', '.join(PRESETS)}, no address (https://...) and no file on this machine."
            f"{did_you_mean(name, PRESETS, CATALOGS)} "
            "A static catalog is given by the path of its catalog.json, or of the folder that this is in"
        )
    return _read_static(path)


def _connect(url: str, access: Access) -> Client:
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
    speaker = StacApiIO(headers=access.headers, timeout=access.timeout, max_retries=retries)
    with _readable(describe(url)):
        return Client.open(url, stac_io=speaker)


def _read_static(path: Path) -> Any:
    with _readable(path.name):
        kind = json.loads(path.read_text(encoding="utf-8")).get("type")
        if kind == "FeatureCollection":
            return pystac.ItemCollection.from_file(str(path))
        if kind == "Feature":
            return [pystac.Item.from_file(str(path))]
        return pystac.Catalog.from_file(str(path))


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
    """Which of the collections that a sensor is known by an API has."""
    known = known_ids(sensor)
    there = [collection.id for collection in client.get_collections()]
    if shared := [name for name in known if name in there]:
        return shared
    listed = ", ".join(there[:_TELL]) + (", ..." if len(there) > _TELL else "")
    raise TimoError(
        f"{where} has no collection that timo knows {sensor.name} by ({', '.join(known) or 'none'}). Give "
        f'collection="..."; it has: {listed or "none"}'
    )


def known_ids(sensor: Sensor) -> list[str]:
    """Collections that a sensor is known by where STAC is spoken."""
    served = [c for c in sensor.collections if c.provider != "earthengine"]
    return list(dict.fromkeys(name for c in served for name in c.ids))


def _walk(catalog: Any, collections: Sequence[str] | None, sensor: Sensor) -> Iterator[pystac.Item]:
    """Items of a static catalog or a list: those of the collections, or of the sensor's if they are in it."""
    if isinstance(catalog, pystac.Catalog):
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
        what = (
            describe(catalog)
            if isinstance(catalog, pystac.Catalog)
            else "The list given as catalog"
        )
        raise TimoError(f"{what} holds no items. Is it a STAC catalog with links to them?")
    there = {str(item.collection_id) for item in items}
    wanted = set(collections or there.intersection(known_ids(sensor)) or there)
    if not wanted & there:
        asked, named = (", ".join(sorted(names)) for names in (wanted, there))
        raise TimoError(f"No item is of collection {asked}. There are: {named}")
    return (item for item in items if str(item.collection_id) in wanted)


def _is_url(name: str) -> bool:
    return urlparse(name).scheme in ("http", "https")


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """One error with a remedy for whatever goes wrong while a catalogue is read."""
    try:
        yield
    except TimoError:
        raise
    except APIError as error:
        status = getattr(error, "status_code", None)
        said = " ".join(str(error).split())[:300]
        raise TimoError(f"{where} {_trouble(status)} ({said or 'no answer'})") from error
    except ParametersError as error:
        raise TimoError(f"{where} refused the search: {error}") from error
    except (*_UNREADABLE, OSError) as error:
        raise TimoError(
            f"{where} cannot be read as a STAC catalog or API ({type(error).__name__}: {error}). Check its address"
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
