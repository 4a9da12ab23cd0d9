"""Which places were looked at and found too cloudy: remembered, so that a resumed run does not ask for them again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


class Journal:
    """Keys of rejected places, one line each; a line that a kill cut short is as if it were not there.

    Parameters
    ----------
    store : Path
        The chip store. The journal lies in the folder of one of its arrays, where Zarr libraries list no files.
    criteria : str
        By which places were judged: a place that was rejected by others is looked at anew.
    """

    def __init__(self, store: Path, criteria: str) -> None:
        self.path = store / "x" / ".rejected.jsonl"
        self.criteria = criteria
        self.keys = self._read()

    def add(self, key: int, why: str) -> None:
        """Remember a place, safe against a loss of power."""
        line = json.dumps({"key": key, "criteria": self.criteria, "why": why})
        with self.path.open("a", encoding="utf-8") as file:
            # What a kill may have left of the line before is closed off first.
            file.write(("" if self._whole() else "\n") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.keys.add(key)

    def _whole(self) -> bool:
        """Whether the file ends with a line's end."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return size == 0 or file.read(1) == b"\n"

    def _read(self) -> set[int]:
        if not self.path.exists():
            return set()
        found = set()
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                # Cut short by a kill: the place is looked at again.
                continue
            if entry["criteria"] == self.criteria:
                found.add(int(np.uint64(entry["key"])))
        return found
