"""Download links for files that the kernel wrote: the file travels in the link, so that no server is needed."""

from __future__ import annotations

import html
import io
import zipfile
from pathlib import Path

import ipywidgets

from timo.sizes import size_text

from .style import data_uri

# What a link holds goes through the kernel's connection and into a saved notebook.
LARGEST = 5_000_000
_KINDS = {
    ".tif": "image/tiff",
    ".geojson": "application/geo+json",
    ".csv": "text/csv",
    ".zip": "application/zip",
    ".png": "image/png",
    ".ipynb": "application/x-ipynb+json",
}


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all the files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def zipped(folder: Path) -> bytes:
    """Pack a folder, with its own name at the top: what is unpacked is the folder again."""
    buffer = io.BytesIO()
    # Chunks of Zarr are compressed already.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path(folder.name) / file.relative_to(folder))
    return buffer.getvalue()


class Download(ipywidgets.HTML):
    """A link that saves a file or folder; nothing is shown while there is none."""

    path: Path | None = None

    def __init__(self) -> None:
        super().__init__(layout={"display": "none"})

    def offer(self, path: Path, largest: int = LARGEST) -> bool:
        """Offer a file, or a folder as a ZIP archive; return whether there is a link: none beyond `largest` bytes."""
        self.clear()
        if size_of(path) > largest:
            return False
        name, content = path.name, zipped(path) if path.is_dir() else path.read_bytes()
        if path.is_dir():
            name += ".zip"
        kind = _KINDS.get(Path(name).suffix.lower(), "application/octet-stream")
        safe = html.escape(name)
        self.value = (
            f'<a class="timo-link" download="{safe}" href="{data_uri(content, kind)}">'
            f'<i class="fa fa-download" aria-hidden="true"></i> Download {safe} ({size_text(len(content))})</a>'
        )
        self.path, self.layout.display = path, None
        return True

    def clear(self) -> None:
        """Offer nothing."""
        self.path, self.value = None, ""
        self.layout.display = "none"
