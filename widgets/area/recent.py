"""The areas of interest that were used last, in a small file of the user's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import platformdirs

from timo.atomic import replacing
from timo.errors import TimoError
from timo.sources import Area, parse_aoi

from .text import area_name

MOST = 12
# Outlines of more characters are not remembered: they come from files, which are there anyway.
_LONGEST = 100_000


def default_file() -> Path:
    """Return ``$TIMO_CONFIG/areas.json``; else a file in the system's folder for settings, by platformdirs."""
    if own := os.environ.get("TIMO_CONFIG"):
        return Path(own).expanduser() / "areas.json"
    return platformdirs.user_config_path("timo", appauthor=False, roaming=True) / "areas.json"


class RecentAreas:
    """The latest areas, the newest first, kept in a file.

    It never fails: a file that cannot be read counts as empty, and one that cannot be written is left as it is.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        self.file = default_file() if file is None else Path(file)

    def all(self) -> list[dict[str, Any]]:
        """Return the areas: each a dict with "name" and "geometry" (GeoJSON)."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # No file yet, or one of another program: nothing is remembered.
            return []
        return [e for e in found if _is_entry(e)][:MOST] if isinstance(found, list) else []

    def add(self, area: Area) -> str:
        """Remember an area as the newest; return why it could not be remembered, or an empty string."""
        entry = {"name": area_name(area), "geometry": area.geojson}
        if len(json.dumps(entry)) > _LONGEST:
            return "its outline is too long"
        # As it comes back from the file, so that the same area is found again.
        entry = json.loads(json.dumps(entry))
        others = [e for e in self.all() if e["geometry"] != entry["geometry"]]
        try:
            with replacing(self.file) as partial:
                partial.write_text(json.dumps([entry, *others][:MOST], indent=1), encoding="utf-8")
        except (OSError, TimoError) as error:
            return str(error)
        return ""


def _is_entry(entry: Any) -> bool:
    """Return whether it can be shown and used; files are edited by hand, too."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    try:
        parse_aoi(entry.get("geometry"))
    except TimoError:
        return False
    return True
