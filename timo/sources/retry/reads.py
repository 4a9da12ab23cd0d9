"""Reads of rasters and arrays that fail for a moment are tried again: busy servers, dropped connections, network disks."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TypeVar

from timo.errors import TimoError
from timo.sources.retry.backoff import GivenUpError, Retry
from timo.sources.retry.failures import Sorted, redact

T = TypeVar("T")
_ERRNOS = {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EPIPE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH),
}
# GDAL, curl, fsspec, aiohttp and botocore give the HTTP status and the cause in words only.
_STATUS = re.compile(r"(?:response[ _]code|http(?:/[\d.]+)?|status(?:[ _]code)?|error)\D{0,12}\b([45]\d\d)\b", re.I)
_MOMENT = re.compile(
    r"timed? ?out|connection (?:was )?(?:reset|aborted|refused|closed)|reset by peer|broken pipe|empty reply|"
    r"could(?:n't| not) (?:connect|resolve)|failed to connect|temporar(?:y|ily)|try again|too many requests|slow ?down|"
    r"service unavailable|bad gateway|gateway time|input/output error|stale (?:nfs )?file handle|"
    r"server disconnected|transfer closed|incomplete read|recv failure|send failure|network is unreachable",
    re.I,
)


def sort_read_error(error: BaseException) -> Sorted:
    """Sort an error of reading a file or an address, by what it and its causes say.

    Returns
    -------
    Sorted
        "transient" for HTTP 408, 429 and 5xx, connections that time out or break, and disks that fail for a moment
        (EIO, ESTALE); "unknown", which is not tried again, for missing files, refusals (401, 403, 404) and damaged data.
    """
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    message = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:600]
    lasting = (TimoError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, lasting) or not isinstance(error, Exception):
        return Sorted("unknown", message)
    texts = " ".join(str(link) for link in links)
    statuses = [int(found) for found in _STATUS.findall(texts)]
    statuses += [s for each in links if isinstance(s := getattr(each, "status", None), int)]
    if any(status in (408, 425, 429) or status >= 500 for status in statuses):
        return Sorted("transient", message)
    if statuses:
        return Sorted("unknown", message)
    broken = any(
        isinstance(each, ConnectionError | TimeoutError) or getattr(each, "errno", None) in _ERRNOS
        for each in links
    )
    return Sorted("transient" if broken or _MOMENT.search(texts) else "unknown", message)


def read_again(call: Callable[[], T], *, what: str = "The read", attempts: int = 4) -> T:
    """Call a function that reads, and call it again where the read failed for a moment.

    Pauses grow from half a second with full jitter; they end when the `timo.fetch` that this is part of is cancelled.

    Parameters
    ----------
    call : callable
        Reads and returns.
    what : str
        What is read, for the message: "S2_20180701.tif (band B4 of 2018-07-01)".
    attempts : int
        At most this many.

    Raises
    ------
    TimoError
        If each attempt failed: what, how often and the last message.
    CancelledError
        If it was cancelled.
    Exception
        What `call` raised, unchanged, if another attempt would not help: a missing or damaged file, a refusal.
    """
    retry = Retry(attempts=attempts, initial_s=0.5, largest_s=15.0)
    try:
        return retry.call(call, classify=sort_read_error)
    except GivenUpError as error:
        raise TimoError(f"{redact(what)} could not be read: {error}") from None
