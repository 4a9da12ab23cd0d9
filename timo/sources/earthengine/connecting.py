"""Sign in to Earth Engine with existing credentials; none is ever asked for, kept or shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ee
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from requests.adapters import HTTPAdapter

from timo.checks import Count, PathLike, checked
from timo.errors import TimoError
from timo.sources.retry import redact

_REMEDY = (
    "Sign in once, in Python: import ee; ee.Authenticate() (a page opens in the browser), then repeat the call with "
    'project="your-cloud-project". On a server, give service_account="key.json". To try timo without an account, '
    'open_cube("emulator", ...)'
)
# Earth Engine itself ends a request after five minutes
# (developers.google.com/earth-engine/guides/processing_environments).
DEADLINE_MS = 600_000
HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
_HERE = ("http://127.0.0.1", "http://localhost")


@checked
def connect(
    project: str | None = None,
    *,
    service_account: PathLike | None = None,
    url: str | None = None,
    workers: Count = 40,
) -> None:
    """Initialise Earth Engine, unless it is initialised already.

    Credentials are looked for in this order: the key of a service account, if given; those that ``ee.Authenticate()``
    or ``earthengine authenticate`` left; Google's application default credentials. No page is opened. Afterwards no
    request waits for more than ten minutes, unless ``ee.data.setDeadline`` was called before.

    Parameters
    ----------
    project : str, optional
        The Google Cloud project that is billed. By default that of the credentials.
    service_account : path, optional
        JSON key of a service account.
    url : str, optional
        Another Earth Engine: `HIGH_VOLUME` for many small requests (it keeps fewer intermediate results, so that
        composites cost more there: developers.google.com/earth-engine/guides/processing_environments), or an emulator.
    workers : int
        Threads that keep their connections open; by default, the requests that a project may have under way at once.

    Raises
    ------
    TimoError
        If there are no credentials, or Earth Engine refuses them.
    """
    if "" in (project, service_account, url):
        raise TimoError(
            'project, service_account and url must not be empty. Give the id of a Google Cloud project ("my-project"), '
            'the path of a JSON key ("key.json"), the address of an Earth Engine; or leave them out.'
        )
    url = (url or "").rstrip("/")
    # The emulator is not to be taken for the real one, nor the other way round.
    there = base_url() == url if url else not base_url().startswith(_HERE)
    if ee.data.is_initialized() and there and project is None and service_account is None:
        return
    options: dict[str, Any] = {"url": url} if url else {}
    if url.startswith(_HERE):
        options["credentials"] = AnonymousCredentials()
        project = project or "emulator"
    elif service_account:
        options["credentials"] = _read_key(Path(service_account))
    try:
        ee.Initialize(project=project, **options)
    except (ee.EEException, GoogleAuthError, OSError) as error:
        said = redact(str(error)).strip().partition("\n")[0] or "no reason given"
        raise TimoError(f"Earth Engine cannot be initialised: {said}. {_REMEDY}") from error
    # By default the client waits for ever for a connection that died, and closes all but ten after each request.
    state = ee.data._get_state()
    if not state.deadline_ms:
        ee.data.setDeadline(DEADLINE_MS)
    if state.requests_session is not None:
        for scheme in ("http://", "https://"):
            state.requests_session.mount(scheme, HTTPAdapter(pool_maxsize=max(10, workers)))


def base_url() -> str:
    """Return the address of the Earth Engine that is connected."""
    return str(getattr(ee.data._get_state(), "cloud_api_base_url", None) or "").rstrip("/")


def _read_key(path: Path) -> Any:
    try:
        path = path.expanduser()
        email = json.loads(path.read_text(encoding="utf-8"))["client_email"]
        return ee.ServiceAccountCredentials(email, str(path))
    except FileNotFoundError as error:
        raise TimoError(
            f"There is no service account key '{path}'. Give the path of its JSON file"
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        # Nothing of the file is repeated: it holds a private key.
        raise TimoError(
            f"'{path}' is no JSON key of a service account: download one from the Google Cloud console (IAM, service "
            "accounts, keys)"
        ) from None


_users_lock = threading.Lock()
_users = _usual_retries = 0


@contextmanager
def without_client_retries() -> Iterator[None]:
    """Within this block the ``ee`` client makes each request once; `Retry` makes the others.

    The client's own retries (5, the same for the whole process) know neither a deadline nor cancelling. Blocks may
    overlap in many threads: the first one to begin turns them off, the last one to end restores what was there.
    """
    global _users, _usual_retries  # noqa: PLW0603 - the client's setting is global, too
    with _users_lock:
        if _users == 0:
            _usual_retries = ee.data._get_state().max_retries
            ee.data.setMaxRetries(0)
        _users += 1
    try:
        yield
    finally:
        with _users_lock:
            _users -= 1
            # Whoever set another number within the block meant it.
            if _users == 0 and ee.data._get_state().max_retries == 0:
                ee.data.setMaxRetries(_usual_retries)
