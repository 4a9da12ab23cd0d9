"""What an error of a web service or of a read means: whether to try again, what to say, and nothing that is secret."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from timo.errors import TimoError

Kind = Literal["transient", "quota", "permanent", "unknown"]
_LONGEST = 600


@dataclass(frozen=True)
class Sorted:
    """What to do about an error.

    `kind` is "transient": try again soon; "quota": try again later and more slowly; "permanent": trying again is of no
    use; "unknown": not an error of the service, so let it through as it is. `message` is the service's, without
    credentials; `remedy` may be empty.
    """

    kind: Kind
    message: str
    remedy: str = ""


_SMALLER = "Ask for less at a time: smaller chunks, fewer dates or bands, or a smaller area."
_SIGN_IN = (
    "The credentials have expired or are not valid: run ee.Authenticate() once "
    "(with force=True to replace those that are stored), then ee.Initialize(project=...)."
)
_PROJECT = (
    "Give a Google Cloud project that is registered for Earth Engine and that you may use: "
    'ee.Initialize(project="..."); see https://developers.google.com/earth-engine/guides/access.'
)
_ENABLE = (
    "Enable the Earth Engine API for this project and register it at "
    "https://code.earthengine.google.com/register, or give another project to ee.Initialize; "
    "it takes a few minutes to become effective."
)
_SLOWER = "Use fewer workers, or ask Google for a higher quota of concurrent requests."
_NO_IMAGE = "No image meets the request: widen the dates, the area or max_cloud."
_DEFECT = "If the request looks right to you, report it with this message."

# Looked for in this order, before the HTTP status, which is 400 for most of these. The texts are those of Earth
# Engine's replies (developers.google.com/earth-engine/guides/debugging, "Scaling errors"; guides/usage, "Quotas") and
# of google-auth.
_TEXTS: tuple[tuple[str, Kind, str], ...] = (
    (r"invalid_grant|invalid_client|invalid_rapt|expired or revoked|reauthenticat|please authorize access",
     "permanent", _SIGN_IN),
    (r"invalid authentication credential|default credentials were not found", "permanent", _SIGN_IN),
    (r"client library not initialized|not initialized", "permanent",
     "Call ee.Initialize(project=...) first."),
    (r"has not been used in project|it is disabled|SERVICE_DISABLED", "permanent", _ENABLE),
    (r"not registered to use earth engine|not signed up|is not registered", "permanent", _ENABLE),
    (r"no project found|required permission to use project|serviceusage|USER_PROJECT_DENIED",
     "permanent", _PROJECT),
    (r"storage quota|per day\b|\bdaily\b", "permanent",
     "This quota is not renewed within minutes: wait for that, use another project, or ask for more."),
    (r"too many (concurrent|requests)|quota|rate limit|rateLimitExceeded|RESOURCE_EXHAUSTED",
     "quota", _SLOWER),
    (r"computation timed out", "permanent", _SMALLER),
    (r"user memory limit|execution failed; out of memory|computed value is too large", "permanent",
     _SMALLER),
    (r"total request size|too many pixels|(pixel grid|output) dimensions?.*(must be|too large|exceed)",
     "permanent", _SMALLER),
    (r"payload size exceeds", "permanent",
     "The request itself is too long, mostly because of the outline of the area: simplify it, or give its bounds."),
    (r"capacity exceeded|currently unavailable|backend error|try again", "transient", ""),
    (r"did not match any bands|band pattern|no band named|with no bands", "permanent",
     f"No image has such a band: check bands= and the collection. {_NO_IMAGE}"),
    (r"collection\.first|empty collection|collection is empty|'image' is required and may not be null",
     "permanent", _NO_IMAGE),
    (r"internal (server )?error|deadline exceeded|service unavailable", "transient", ""),
    (r"not found|does not exist", "permanent",
     "Check the identifier of the collection or asset, and that this account may read it."),
    (r"permission|forbidden|access denied", "permanent", _PROJECT),
)  # fmt: skip
_STATUSES: dict[int, tuple[Kind, str]] = {
    400: ("permanent", _DEFECT),
    401: ("permanent", _SIGN_IN),
    403: ("permanent", _PROJECT),
    404: ("permanent", "Check the identifier of the collection or asset, and the project."),
    408: ("transient", ""),
    413: ("permanent", _SMALLER),
    429: ("quota", _SLOWER),
}
# Modules whose errors are those of the connection or of the service; none of them is imported for it.
_LIBRARIES = {"ee", "googleapiclient", "google", "httplib2"}
_LIBRARIES |= {"requests", "urllib3", "http", "ssl", "socket"}
_UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}


def sort_earthengine_error(error: BaseException) -> Sorted:
    """Sort an error of a request to Earth Engine.

    It is from the ``ee`` client or the libraries below it, from the connection, or from reading a reply that was cut
    short. "unknown" are errors of other code, and a `TimoError`, whose message is complete.
    """
    message = redact(_message(error))
    names = {(c.__module__.partition(".")[0], c.__name__) for c in type(error).__mro__}
    if isinstance(error, TimoError) or not isinstance(error, Exception):
        return Sorted("unknown", message)
    if isinstance(error, ValueError | EOFError) and _from_reading(error.__traceback__):
        return Sorted("transient", f"the reply was cut short or garbled ({message})")
    of_network = isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in _UNREACHABLE
    )
    if not of_network and not {module for module, _ in names} & _LIBRARIES:
        return Sorted("unknown", message)
    status = _status(error)
    for pattern, kind, remedy in _TEXTS:
        # A failing server's text, or a proxy's page, is believed only where it says that the request was too large.
        believed = status is None or status < 500 or kind == "quota" or remedy == _SMALLER
        if believed and re.search(pattern, message, re.IGNORECASE):
            return Sorted(kind, message, remedy)
    if status is not None:
        kind, remedy = _STATUSES.get(status, ("transient" if status >= 500 else "permanent", ""))
        return Sorted(kind, message, remedy)
    return _sort_without_reply(error, names, message)


def _sort_without_reply(error: Exception, names: set[tuple[str, str]], message: str) -> Sorted:
    """Sort an error that no HTTP reply came with."""
    if ("google", "GoogleAuthError") in names:
        again = ("google", "TransportError") in names or getattr(error, "retryable", False)
        return Sorted("transient", message) if again else Sorted("permanent", message, _SIGN_IN)
    if names & {("ssl", "SSLCertVerificationError"), ("requests", "SSLError")}:
        return Sorted(
            "permanent", message, "Check the computer's clock, its certificates and its proxy."
        )
    # The client's own words about what it was asked to do, not the network's.
    if ("ee", "EEException") in names or ("requests", "InvalidURL") in names:
        return Sorted("permanent", message, _DEFECT)
    return Sorted("transient", message, "Check the connection to the internet.")


def _message(error: BaseException) -> str:
    text = getattr(error, "reason", None) if hasattr(error, "resp") else None
    text, name = " ".join(str(text or error).split()), type(error).__name__
    if not text or isinstance(error, OSError | EOFError | ValueError) or len(text) < 12:
        text = f"{name}: {text}" if text else name
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _status(error: BaseException) -> int | None:
    """Return the HTTP status; the ``ee`` client leaves it on the error that its own one replaced."""
    for link in (error, error.__cause__, error.__context__):
        for name in ("resp", "response"):
            reply = getattr(link, name, None)
            status = getattr(reply, "status", None) or getattr(reply, "status_code", None)
            if isinstance(status, int | str) and str(status).isdigit():
                return int(status)
    return None


def _from_reading(traceback: TracebackType | None) -> bool:
    """Return whether an error was raised while NumPy or the JSON reader read a reply."""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if module.startswith(("numpy.lib.", "json.decoder")):
            return True
        traceback = traceback.tb_next
    return False


# Network disks and connections that may be back a moment later.
_PASSING = _UNREACHABLE | {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EPIPE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED),
}
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
    # Of requests and aiohttp; an errno of GDAL's own errors is no errno of the system.
    said = [status for each in links for status in (getattr(each, "status", None), _status(each))]
    statuses = [*map(int, _STATUS_TEXT.findall(texts)), *(s for s in said if isinstance(s, int))]
    if statuses:
        again = any(status in {408, 425, 429} or status >= 500 for status in statuses)
    else:
        again = bool(_PASSING_TEXT.search(texts)) or any(
            isinstance(each, ConnectionError | TimeoutError)
            or (isinstance(each, OSError) and each.errno in _PASSING)
            for each in links
        )
    return Sorted("transient" if again else "unknown", message)


_NAMED = (
    r"(?:x-goog-[\w-]*?|x-amz-[\w-]*?|[\w-]*?(?:token|secret|password|passwd|signature|credential|api[_-]?key|"
    r"private[_-]?key(?:[_-]?id)?)|key|sig|code|auth)"
)
_HIDDEN = "[hidden]"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|\Z)", re.S), _HIDDEN),
    (re.compile(r"((?:proxy-)?authorization[\"']?\s*[:=]\s*)[^\r\n,}]+", re.I), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.I), rf"\1 {_HIDDEN}"),
    (re.compile(r"(?<=//)[^/\s@]+@"), f"{_HIDDEN}@"),
    # "name": "value" and 'name': 'value', as JSON and Python print them.
    (re.compile(rf"([\"']{_NAMED}[\"']\s*:\s*)([\"'])(?:\\.|(?!\2).)*(?:\2|\Z)", re.I | re.S), rf"\1{_HIDDEN}"),
    # name=value in an address, a form or a sentence.
    (re.compile(rf"(?<![\w-])({_NAMED}\s*=\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&\"'<>,;)]+)", re.I), rf"\1{_HIDDEN}"),
    # By their looks: Google's access and refresh tokens, API keys and client secrets, JSON web tokens.
    (re.compile(r"\bya29\.[\w.-]+|\b1//[\w-]{10,}|\bAIza[\w-]{20,}|\bGOCSPX-[\w-]+"), _HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*"), _HIDDEN),
    (re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"), "[e-mail hidden]"),
)  # fmt: skip


def redact(text: str) -> str:
    """Hide credentials in a text that will be shown, logged or stored.

    Those are private keys, Authorization headers, tokens, names and passwords in addresses, values named key, token,
    secret, password or signature, keys known by their looks, and e-mail addresses, which name a person or an account.
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
