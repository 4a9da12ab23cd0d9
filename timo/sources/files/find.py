"""Find the files that are meant."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Literal

from timo.checks import PathLike
from timo.errors import TimoError

Kind = Literal["raster", "netcdf", "zarr"]
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".tif", ".tiff", ".jp2", ".vrt"), "raster"),
    **dict.fromkeys((".nc", ".nc4", ".cdf"), "netcdf"),
    ".zarr": "zarr",
}
_READS = "GeoTIFF (.tif, .tiff), JPEG 2000 (.jp2), .vrt, NetCDF (.nc) or Zarr (.zarr)"
# What lies in ESA's products beside the images, some of it named as bands are.
_BESIDE = re.compile(r"(^|/)((QI_DATA|AUX_DATA|[^/]*\.SAFE/HTML)/.*|MSK_[^/]*)$", re.IGNORECASE)
_ZARR_FILES = ("zarr.json", ".zgroup", ".zmetadata")


def find_files(path: PathLike | Sequence[PathLike]) -> tuple[Kind, list[Path]]:
    """Find the files that a path, a glob, a folder or a list of them means, and what all of them are.

    A list's own order is kept; what a glob or a folder holds comes in the order of names (numbers by value).
    """
    given = [path] if isinstance(path, str | os.PathLike) else path
    try:
        files = list(dict.fromkeys(file for item in given for file in _expand(item)))
    except TimoError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # No home of that user, no permission, a name too long.
        raise TimoError(
            f"path={path!r} cannot be looked for: {error}. Give the path of files that you may read."
        ) from error
    if not files:
        raise TimoError(
            f"path={path!r} names no file. Expected: {_READS}; a glob, a folder or a list of them."
        )
    files = [file for file in files if not _BESIDE.search(file.as_posix())] or files
    kinds: dict[Kind, list[Path]] = {}
    for file in files:
        kinds.setdefault(_kind(file), []).append(file)
    if len(kinds) > 1:
        each = (f"{len(some)} {kind} (such as {some[0].name})" for kind, some in kinds.items())
        raise TimoError(
            f"path={str(path)!r} holds a mixture: {', '.join(each)}. Say which are meant, for instance with a glob: "
            f'path="{files[0].parent}/*{files[0].suffix}".'
        )
    return next(iter(kinds)), files


def is_file_name(path: Path) -> bool:
    """Return whether a path ends as files do that are read: what seems to lie in it is a band of it."""
    return path.suffix.lower() in _KINDS


def _expand(item: str | os.PathLike[str]) -> list[Path]:
    text = os.fspath(item)
    if not str(text).strip():
        raise TimoError(
            f"path is an empty text. Expected: {_READS}; a glob, a folder or a list of them."
        )
    path = Path(text).expanduser()
    if path.exists():
        if path.is_dir() and _kind_or_none(path) is None:
            if files := _walk(path):
                return files
            kinds = sorted({child.suffix or child.name for child in path.iterdir()})
            seen = f"only {', '.join(kinds[:8])}" if kinds else "nothing at all"
            raise TimoError(f"{path} holds nothing that can be opened, {seen}. Expected: {_READS}.")
        _kind(path)
        return [path]
    if not has_magic(text):
        raise TimoError(f"There is no file {text!r} (seen from {Path.cwd()}).")
    found = [Path(name) for name in glob(str(path), recursive=True)]  # noqa: PTH207 - absolute ones too
    if not found:
        raise TimoError(f"No file matches {text!r} (seen from {Path.cwd()}).")
    return sorted((f for f in found if _kind(f)), key=_by_number)


def _walk(folder: Path) -> list[Path]:
    """List the files of a folder and those below it; a Zarr store is one, and not looked into."""
    files: list[Path] = []
    for child in folder.iterdir():
        if _kind_or_none(child):
            files.append(child)
        elif child.is_dir():
            files += _walk(child)
    return sorted(files, key=_by_number)


def _kind_or_none(path: Path) -> Kind | None:
    if path.is_dir() and any((path / name).exists() for name in _ZARR_FILES):
        return "zarr"
    kind = _KINDS.get(path.suffix.lower())
    return None if kind != "zarr" and path.is_dir() else kind


def _kind(path: Path) -> Kind:
    kind = _kind_or_none(path)
    if kind is None:
        raise TimoError(f"{path} is no {_READS}. Leave it out, or convert it (gdal_translate).")
    return kind


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    """Return the order of names in which 10 follows 9."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.split(r"(\d+)", str(path))
    ]
