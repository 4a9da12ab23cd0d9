"""State dicts from files and wrappers that others wrote, without running any code of theirs."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from timo.errors import TimoError

WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_checkpoint(source: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """State dict of a file or a mapping, by the names that its model had.

    Parameters
    ----------
    source : mapping or path
        A .safetensors file, a file of `torch.save`, or what one holds. The state dict may lie under "model" or
        "state_dict", and names may begin with "module.".

    Returns
    -------
    dict
        From names to tensors, and to whatever else lay beside them.

    Raises
    ------
    TimoError
        If the file is missing or damaged, holds more than weights (such a pickle is never run), or there is no tensor.
    """
    if isinstance(source, str | Path):
        return _unwrap(_read(Path(source).expanduser()))
    return _unwrap(source)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise TimoError(f"no checkpoint at {path}: expected a .safetensors, .pt or .pth file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise TimoError(
                f"{path} is damaged or not a safetensors file ({error}): fetch it again"
            ) from error
    try:
        # Memory-mapped: the weights are read once, into the model. The format before torch 1.6 cannot be.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError) as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign is None:
            raise TimoError(f"{path} is damaged or not a checkpoint: fetch it again") from error
        raise TimoError(
            f"{path} holds more than weights ({foreign[1]}), and reading that could run code: it was not read. If you "
            "trust it, load it yourself and save its state dict alone, as safetensors"
        ) from error


def _unwrap(found: Any) -> dict[str, Any]:
    """The state dict itself, without wrappers round it and before its names."""
    while isinstance(found, Mapping):
        inner = next((found[w] for w in WRAPPERS if isinstance(found.get(w), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise TimoError(
            f"expected a state dict, a mapping from names to tensors, got {_describe(found)}"
        )
    plain = {_without_prefix(str(name)): value for name, value in found.items()}
    for wrapper in WRAPPERS:
        inside = {
            n.removeprefix(f"{wrapper}."): v
            for n, v in plain.items()
            if n.startswith(f"{wrapper}.")
        }
        if inside:
            return inside
    return plain


def _without_prefix(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _describe(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a mapping with {', '.join(map(repr, list(found)[:5])) or 'nothing'}"
    if isinstance(found, nn.Module):
        return f"the module {type(found).__name__}: give its state_dict()"
    return f"a {type(found).__name__}"
