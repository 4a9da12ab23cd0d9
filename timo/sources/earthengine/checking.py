"""Options that only Earth Engine has, looked at before anything is asked of it."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.errors import TimoError
from timo.sources.request import make_whole
from timo.sources.retry import Retry

# Whether to keep what was fetched, or where.
Cache = bool | str | Path | None


def make_retry(retry: Any) -> Retry:
    """How patient to be; the usual patience for None.

    Raises
    ------
    TimoError
        If it is something else.
    """
    if retry is None:
        return Retry()
    if not isinstance(retry, Retry):
        how = f"attempts={retry}" if isinstance(retry, int) and retry > 0 else "attempts=5"
        raise TimoError(
            f"retry takes a Retry, and not {retry!r}: from timo.sources.retry import Retry, then retry=Retry({how})"
        )
    return retry


def make_cache(cache: Any) -> bool | str | Path:
    """Whether to keep what was fetched, or where; None keeps nothing.

    Raises
    ------
    TimoError
        If it is none of these.
    """
    if cache is None:
        return False
    if isinstance(cache, bool | np.bool_):
        return bool(cache)
    if not (isinstance(cache, str | Path) and str(cache)):
        raise TimoError(
            f"the cache is a folder: give its path, or True or False (or None); got cache={cache!r}"
        )
    return cache


def make_chunk_size(size: Any) -> int:
    """Rows and columns of a chunk.

    Raises
    ------
    TimoError
        If it is no whole number from 1 on.
    """
    return make_whole(size, "chunk_size", "a number of pixels")


def make_factor(value: Any, name: str) -> float:
    """`scale` or `offset`: a finite number, and a scale is not 0.

    Raises
    ------
    TimoError
        If it is none.
    """
    # Of text and None the service would make an image, and complain of that.
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not number or not np.isfinite(float(value)) or (name == "scale" and value == 0):
        usual = "1e-4" if name == "scale" else "0"
        raise TimoError(f"{name} is a number, as {name}={usual}; got {value!r}")
    return float(value)


def check_texts(**options: Any) -> None:
    """Refuse what is neither text nor None.

    Raises
    ------
    TimoError
        If one is something else.
    """
    for name, value in options.items():
        paths = (str, Path) if name == "service_account" else str
        if value is not None and not (isinstance(value, paths) and str(value)):
            raise TimoError(f"{name} is {_TEXTS[name]}; got {value!r}")


_TEXTS = {
    "project": 'the id of a Google Cloud project, as "my-project"',
    "service_account": 'the path of a JSON key, as "key.json"',
    "url": 'the address of an Earth Engine, as "http://127.0.0.1:8085"',
}


def dates_there(low: int | None, high: int | None) -> str:
    """What to say of the dates that images have, given as milliseconds since 1970."""
    if low is None or high is None:
        return "none at all"
    first, last = (pd.Timestamp(ms, unit="ms") for ms in (low, high))
    return f"images of {first:%Y-%m-%d} to {last:%Y-%m-%d}, and none of the dates asked for"
