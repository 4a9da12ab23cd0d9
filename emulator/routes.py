"""The requests of the protocol: which is which, and what makes its answer."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from .errors import EngineError
from .service import Service, algorithms, discovery

_JSON = "application/json; charset=UTF-8"
# Of a request: what Google's services accept.
MOST_PAYLOAD = 10 * 2**20


class Answer(NamedTuple):
    """What is sent back."""

    code: int
    kind: str
    body: bytes


def refusal(error: EngineError) -> Answer:
    """Return the answer that an error is."""
    return Answer(error.code, _JSON, json.dumps(error.reply()).encode())


def _json(value: Any) -> Answer:
    return Answer(200, _JSON, json.dumps(value).encode())


def _parsed(body: bytes) -> Mapping[str, Any]:
    if len(body) > MOST_PAYLOAD:
        raise EngineError(f"Request payload size exceeds the limit: {MOST_PAYLOAD} bytes.")
    try:
        found = json.loads(body or b"{}")
    except ValueError as error:
        raise EngineError("Invalid JSON payload received.") from error
    if not isinstance(found, dict):
        raise EngineError("Invalid JSON payload received: an object was expected.")
    return found


def route(
    service: Service, url: str, method: str, path: str, body: bytes
) -> tuple[str, Callable[[], Answer]]:
    """Find the kind of a request, and what makes its answer."""
    parts = urlsplit(path)
    rest = re.sub(r"^/(v1[a-z0-9]*/)?", "", parts.path)
    for pattern, kind, respond in _ROUTES:
        if found := re.fullmatch(pattern, f"{method} {rest}"):
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            request = Request(service, url, found.groupdict(), query, body)
            return kind, functools.partial(respond, request)
    return "unknown", lambda: _refuse(
        f"The emulator does not know the request {method} {parts.path}."
    )


class Request(NamedTuple):
    """What the answer to a request is made of."""

    service: Service
    url: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


def _list_assets(request: Request) -> Answer:
    size, token = int(request.query.get("pageSize", 1000)), request.query.get("pageToken", "")
    return _json(request.service.assets(request.path["name"], size, token))


def _tile(request: Request) -> Answer:
    zoom, column, row = (int(request.path[key]) for key in ("zoom", "column", "row"))
    return _picture(request.service.tile(request.path["name"], zoom, column, row))


_ROUTES: tuple[tuple[str, str, Callable[[Request], Answer]], ...] = (
    (r"GET \$discovery/rest", "discovery", lambda r: Answer(200, _JSON, discovery(r.url))),
    (r"GET .*/algorithms", "algorithms", lambda _: Answer(200, _JSON, algorithms())),
    (r"POST .*/value:compute", "value", lambda r: _json(r.service.value(_parsed(r.body)))),
    (
        r"POST .*/image:computePixels",
        "pixels",
        lambda r: _picture(r.service.pixels(_parsed(r.body))),
    ),
    (
        r"POST projects/(?P<project>[^/]+)/maps",
        "maps",
        lambda r: _json(r.service.create_map(r.path["project"], _parsed(r.body))),
    ),
    (
        r"POST projects/(?P<project>[^/]+)/thumbnails",
        "maps",
        lambda r: _json(r.service.create_thumbnail(r.path["project"], _parsed(r.body))),
    ),
    (
        r"GET (?P<name>projects/[^/]+/thumbnails/.+):getPixels",
        "tiles",
        lambda r: _picture(r.service.thumbnail(r.path["name"])),
    ),
    (r"GET (?P<name>.+)/tiles/(?P<zoom>\d+)/(?P<column>-?\d+)/(?P<row>-?\d+)", "tiles", _tile),
    (r"GET (?P<name>.+):listAssets", "assets", _list_assets),
    (r"GET (?P<name>.+/assets/.+)", "assets", lambda r: _json(r.service.asset(r.path["name"]))),
)


def _refuse(message: str) -> Answer:
    raise EngineError(message, 404)


def _picture(body: bytes) -> Answer:
    kind = "image/png" if body.startswith(b"\x89PNG") else "application/octet-stream"
    return Answer(200, kind, body)
