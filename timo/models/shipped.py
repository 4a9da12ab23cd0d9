"""Weights that come with the package, read without the network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from timo.errors import TimoError
from timo.models.weights import CONFIG, WEIGHTS, SavedEncoder, load_encoder

# The folders of timo/weights; each holds what `save_encoder` writes and, for people, a model card.
SHIPPED = ("timo-tiny",)


def load_shipped(name: str) -> SavedEncoder:
    """Read a pretrained encoder that came with timo.

    Parameters
    ----------
    name : str
        One of `SHIPPED`, e.g. "timo-tiny".

    Returns
    -------
    SavedEncoder
        Its weights, in float32 on the CPU, and what its input must be.

    Raises
    ------
    TimoError
        If there is none of that name, or this installation lacks its files or holds damaged ones.
    """
    if name not in SHIPPED:
        raise TimoError(
            f"no weights of {name!r} come with timo: there are those of {', '.join(SHIPPED)}"
        )
    with shipped_folder(name) as folder:
        try:
            return load_encoder(folder)
        except TimoError as error:
            raise TimoError(
                f"the pretrained weights of {name} in this installation of timo cannot be used: install timo again, or "
                f"take random weights with pretrained=False ({error})"
            ) from error


@contextmanager
def shipped_folder(name: str) -> Iterator[Path]:
    """Give the folder of shipped weights; of a package inside an archive, a copy for as long as the block lasts."""
    folder = files("timo").joinpath("weights", name)
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for part in (WEIGHTS, CONFIG):
            source = folder.joinpath(part)
            if source.is_file():
                with source.open("rb") as packed, (Path(copy) / part).open("wb") as file:
                    shutil.copyfileobj(packed, file)
        yield Path(copy)
