"""One function in front of all kinds of places on disk."""

from __future__ import annotations

from typing import Any, Literal

from timo.checks import checked
from timo.places.places import Places


@checked
def open_places(kind: Literal["folder", "series", "store"], source: Any, **options: Any) -> Places:
    """Open places of a kind.

    Parameters
    ----------
    kind : {"folder", "series", "store"}
        "folder": cubes and labels in files, with a table (`Places.from_folder`). "series": a table of pixels' series
        (`Places.from_series`). "store": places that were packed (`Places.from_store`).
    source : path or DataFrame
        The folder, the table or the store.
    **options
        Of that function.

    Raises
    ------
    TimoError
        If there is no such kind or option, or the source cannot be read.
    """
    opened: Places = getattr(Places, f"from_{kind}")(source, **options)
    return opened
