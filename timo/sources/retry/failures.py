"""What an error of a web service or of a read means: whether to try again, what to say, and nothing that is secret."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, Literal

from timo.errors import TimoError

Kind = Literal["transient", "quota", "permanent", "unknown"]


@dataclass(frozen=True)
class Sorted:
    """What to do about an error.

    `kind` is "transient" (try again soon), "quota" (try again later and more slowly), "permanent" (do not try again) or
    "unknown" (not of the service: raise it as it is). `message` is the service's, without credentials.
    """

    kind: Kind
    message: str
    remedy: str = ""


_SIGN_IN = (
    "The credentials have expired or are not valid: run ee.Authenticate() once "
    "(with force=True to replace those that are stored), then ee.Initialize(project=...)."
)
_PROJECT = (
    "Give a Google Cloud project that is registered for Earth Engine and that you may use: "
    'ee.Initialize(project="..."); see https://developers.google.com/earth-engine/guides/access.'
)
_NO_IMAGE = "No image meets the request: widen the dates, the area or max_cloud."
_DEFECT = "If the request looks right to you, report it with this message."
_OFFLINE = "Check the connection to the internet."

# Texts of Earth Engine's replies (developers.google.com/earth-engine/guides/debugging, "Scaling errors"; guides/usage,
# "Quotas") and of google-auth, looked for in this order; where none is found, the HTTP status counts (400 for most), if
# it is one of these. A failing server's text, or a proxy's page, is believed only where it says that the request was
# too large, or one too many.
_TEXTS: tuple[tuple[Kind, str, int, str], ...] = (
    ("permanent", _SIGN_IN, 401, (
        r"invalid_grant|invalid_client|invalid_rapt|expired or revoked|reauthenticat|please authorize access|"
        r"invalid authentication credential|default credentials were not found")),
    ("permanent", "Call ee.Initialize(project=...) first.", 0, r"not initialized"),
    ("permanent", (
        "Enable the Earth Engine API for this project and register it at https://code.earthengine.google.com/register, "
        "or give another project to ee.Initialize; it takes a few minutes to become effective."), 0, (
        r"has not been used in project|it is disabled|SERVICE_DISABLED|not signed up|"
        r"not registered to use earth engine|is not registered")),
    ("permanent", _PROJECT, 0, r"no project found|required permission to use project|serviceusage|USER_PROJECT_DENIED"),
    ("permanent", "This quota is not renewed within minutes: wait, use another project, or ask for more.", 0,
        r"storage quota|per day\b|\bdaily\b"),
    ("quota", "Use fewer workers, or ask Google for a higher quota of concurrent requests.", 429,
        r"too many (concurrent|requests)|quota|rate limit|rateLimitExceeded|RESOURCE_EXHAUSTED"),
    ("permanent", "Ask for less at a time: smaller chunks, fewer dates or bands, or a smaller area.", 413, (
        r"computation timed out|user memory limit|execution failed; out of memory|computed value is too large|"
        r"total request size|too many pixels|(pixel grid|output) dimensions?.*(must be|too large|exceed)")),
    ("permanent", "The request is too long, mostly by the outline of the area: simplify it, or give its bounds.", 0,
        r"payload size exceeds"),
    ("transient", "", 408, r"capacity exceeded|currently unavailable|backend error|try again"),
    ("permanent", f"No image has such a band: check bands= and the collection. {_NO_IMAGE}", 0,
        r"did not match any bands|band pattern|no band named|with no bands"),
    ("permanent", _NO_IMAGE, 0,
        r"collection\.first|empty collection|collection is empty|'image' is required and may not be null"),
    ("transient", "", 0, r"internal (server )?error|deadline exceeded|service unavailable"),
    ("permanent", "Check the identifier of the collection or asset, and that this account may read it.", 404,
        r"not found|does not exist"),
    ("permanent", _PROJECT, 403, r"permission|forbidden|access denied"),
)  # fmt: skip
# Errors that say nothing else, by a class of theirs, in this order. What the client says of what it was asked to do is
# not the network's.
_CLASSES: tuple[tuple[Kind, str, set[tuple[str, str]]], ...] = (
    ("permanent", _DEFECT, {("ee", "EEException"), ("requests", "InvalidURL")}),
    ("permanent", "Check the computer's clock, its certificates and its proxy.",
        {("ssl", "SSLCertVerificationError"), ("requests", "SSLError")}),
    ("transient", _OFFLINE, {("google", "TransportError")}),
    ("permanent", _SIGN_IN, {("google", "GoogleAuthError")}),
)  # fmt: skip
# Modules whose errors are those of the connection or of the service; none of them is imported for it.
_LIBRARIES = {"ee", "googleapiclient", "google", "httplib2"}
_LIBRARIES |= {"requests", "urllib3", "http", "ssl", "socket"}
_READERS = re.compile(r"numpy\.lib\.|json\.decoder")
# Network disks and connections that may be back a moment later.
_PASSING = {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EPIPE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH),
}


def sort_earthengine_error(error: BaseException) -> Sorted:
    """Sort an error of the ``ee`` client, of the libraries below it, or of reading a reply that was cut short.

    "unknown" are errors of other code, and a `TimoError`, whose message is complete.
    """
    message = redact(_message(error))
    if isinstance(error, TimoError) or not isinstance(error, Exception):
        return Sorted("unknown", message)
    # Raised while NumPy or the JSON reader read a reply.
    readers = [f.f_globals.get("__name__", "") for f, _ in walk_tb(error.__traceback__)]
    if any(map(_READERS.match, readers)):
        if isinstance(error, ValueError | EOFError):
            return Sorted("transient", f"the reply was cut short or garbled ({message})")
        # Python before 3.12.1 now and then parses no literal, as NumPy's header is, where threads do so at the same
        # time (github.com/python/cpython/issues/106905); the next attempt finds nothing wrong.
        if isinstance(error, SystemError):
            return Sorted("transient", message)
    names = {(c.__module__.partition(".")[0], c.__name__) for c in type(error).__mro__}
    if not _is_passing(error) and not {module for module, _ in names} & _LIBRARIES:
        return Sorted("unknown", message)
    # The client leaves the reply on the error that its own one replaced.
    status = next(iter(_statuses([error, error.__cause__, error.__context__])), None)
    believed = [row for row in _TEXTS if status is None or status < 500 or row[2] in {413, 429}]
    rows: list[Any] = [row for row in believed if re.search(row[3], message, re.IGNORECASE)]
    rows = rows or [row for row in _TEXTS if row[2] == status]
    if not rows and status is not None:
        rows = [("transient", "") if status >= 500 else ("permanent", _DEFECT)]
    if not rows and not getattr(error, "retryable", False):
        rows = [row for row in _CLASSES if names & row[2]]
    if not rows:
        return Sorted("transient", message, _OFFLINE)
    kind, remedy = rows[0][:2]
    return Sorted(kind, message, remedy)


def _message(error: BaseException) -> str:
    text = getattr(error, "reason", None) if hasattr(error, "resp") else None
    text, name = " ".join(str(text or error).split()), type(error).__name__
    if not text or isinstance(error, OSError | EOFError | ValueError) or len(text) < 12:
        text = f"{name}: {text}" if text else name
    return text if len(text) <= 600 else f"{text[:600]} ..."


def _statuses(errors: Sequence[BaseException | None]) -> list[int]:
    """Return the HTTP statuses that errors, or the replies they hold, have: of httplib2, requests and aiohttp."""
    replies = [getattr(error, name, None) for error in errors for name in ("resp", "response")]
    found = [getattr(x, n, None) for x in (*errors, *replies) for n in ("status", "status_code")]
    return [int(status) for status in map(str, found) if status.isdigit()]


def _is_passing(error: BaseException) -> bool:
    # An errno of GDAL's own errors is no errno of the system.
    of_system = isinstance(error, OSError) and error.errno in _PASSING
    return of_system or isinstance(error, ConnectionError | TimeoutError)


# GDAL, curl and others give the HTTP status and the cause in words only.
_STATUS_TEXT = re.compile(
    r"(?:(?:response|status|error)(?:[ _]code)?|http(?:/[\d.]+)?)[ :=]{1,4}([45]\d\d)\b", re.I
)
_PASSING_TEXT = re.compile(
    r"timed? ?out|connection (?:was )?(?:reset|aborted|refused|closed)|reset by peer|broken pipe|empty reply|"
    r"could(?:n't| not) (?:connect|resolve)|failed to connect|temporar(?:y|ily)|try again|too many requests|slow ?down|"
    r"service unavailable|bad gateway|input/output error|stale (?:nfs )?file handle|server disconnected|"
    r"transfer closed|incomplete ?read|(?:recv|send) failure|network is unreachable",
    re.I,
)


def sort_read_error(error: BaseException) -> Sorted:
    """Sort an error of reading a file or an address, by what it and its causes say.

    "transient" are HTTP 408, 425, 429 and 5xx, connections that time out or break, and disks that fail for a moment
    (EIO, ESTALE); "unknown", which are not tried again, missing files, refusals (401, 403, 404) and damaged data.
    """
    message = redact(_message(error))
    lasting = TimoError | FileNotFoundError | PermissionError | IsADirectoryError
    if isinstance(error, lasting) or not isinstance(error, Exception):
        return Sorted("unknown", message)
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    texts = " ".join(map(str, links))
    if statuses := [*map(int, _STATUS_TEXT.findall(texts)), *_statuses(links)]:
        again = any(status in {408, 425, 429} or status >= 500 for status in statuses)
    else:
        again = bool(_PASSING_TEXT.search(texts)) or any(map(_is_passing, links))
    return Sorted("transient" if again else "unknown", message)


_NAMED = (
    r"(?:x-goog-[\w-]*?|x-amz-[\w-]*?|[\w-]*?(?:token|secret|password|passwd|signature|credential|api[_-]?key|"
    r"private[_-]?key(?:[_-]?id)?)|key|sig|code|auth)"
)
_SECRETS = tuple((re.compile(pattern, re.I | re.S), replacement) for pattern, replacement in (
    (r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|\Z)", "[hidden]"),
    (r"((?:proxy-)?authorization[\"']?\s*[:=]\s*)[^\r\n,}]+", r"\1[hidden]"),
    (r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", r"\1 [hidden]"),
    (r"(?<=//)[^/\s@]+@", "[hidden]@"),
    # "name": "value" and 'name': 'value', as JSON and Python print them.
    (rf"([\"']{_NAMED}[\"']\s*:\s*)([\"'])(?:\\.|(?!\2).)*(?:\2|\Z)", r"\1[hidden]"),
    # name=value in an address, a form or a sentence.
    (rf"(?<![\w-])({_NAMED}\s*=\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&\"'<>,;)]+)", r"\1[hidden]"),
    # By their looks: Google's access and refresh tokens, API keys and client secrets, JSON web tokens.
    (r"\bya29\.[\w.-]+|\b1//[\w-]{10,}|\bAIza[\w-]{20,}|\bGOCSPX-[\w-]+|\beyJ[\w-]{8,}(?:\.[\w-]+)*", "[hidden]"),
    (r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+", "[e-mail hidden]"),
))  # fmt: skip


def redact(text: str) -> str:
    """Hide credentials in a text that will be shown, logged or stored.

    Those are private keys, Authorization headers, tokens, names and passwords in addresses, values named key, token,
    secret, password or signature, keys known by their looks, and e-mail addresses, which name a person or an account.
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
