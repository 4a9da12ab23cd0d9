"""Where a result comes from: what is needed to trace it, and nothing that gives a person away."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from timo.checks import checked, described
from timo.errors import TimoError

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "timo",
    "torch",
    "numpy",
    "pandas",
    "xarray",
    "rioxarray",
    "rasterio",
    "dask",
    "zarr",
    "einops",
    "safetensors",
)
# Words of a parameter's name. The first kind is never written; the second is an everyday word of
# models too (`key_dim`, `mask_token`), so a number or a flag under it is kept.
_SECRET = {"password", "passwd", "passphrase", "secret", "credential", "credentials", "apikey"}
_MAYBE_SECRET = {"token", "key", "auth", "authorization", "bearer", "cookie", "signature", "sas"}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_ABSOLUTE = re.compile(r"^(?:[/~\\]|[A-Za-z]:[\\/])")
_LONGEST = 1000  # elements of an array that are still worth writing out


@checked
def provenance(
    *,
    model: Any = None,
    cube: xr.DataArray | None = None,
    parameters: Mapping[Any, Any] | None = None,
) -> dict[str, Any]:
    """Describe how a result was made, as JSON.

    Parameters
    ----------
    model : torch.nn.Module, optional
        The model: the hash of its weights, and its ``config`` if it has one that is a dataclass.
    cube : xarray.DataArray, optional
        The cube: sensor, attribution, dates, bands, CRS, shape.
    parameters : mapping, optional
        What was chosen for this run.

    Returns
    -------
    dict
        Only JSON values. It holds no host or user name, folders are cut off from paths, logins and queries from web
        addresses, and entries whose name says credential (token, password, secret, key, ...) are left out.
    """
    record: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": _packages(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    if model is not None:
        record["model"] = _describe_model(model)
    if cube is not None:
        record["cube"] = _describe_cube(cube)
    if parameters is not None:
        record["parameters"] = clean(parameters)
    return record


def weights_hash(model: torch.nn.Module | Mapping[str, torch.Tensor]) -> str:
    """Hash weights by their values: the file they came from does not count.

    Parameters
    ----------
    model : torch.nn.Module or mapping of str to Tensor
        The model or its state dict.

    Returns
    -------
    str
        SHA-256, in hexadecimal, over the sorted names with dtype, shape and bytes of each tensor.
    """
    # Here, because an export without a model need not wait for torch.
    import torch

    state = model.state_dict() if isinstance(model, torch.nn.Module) else model
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # As bytes first: numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def clean(value: Any) -> Any:  # noqa: PLR0911 - one line a type reads best
    """Make a value fit for JSON and for the public (see `provenance`)."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items() if not _is_credential(str(k), v)}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((clean(item) for item in value), key=str)
    if isinstance(value, PurePath):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return clean({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    return _clean_array(value)


def _clean_array(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else _day(value)
    if isinstance(value, np.generic):
        return clean(value.item())
    if isinstance(value, np.ndarray) and value.size <= _LONGEST:
        return [clean(item) for item in value] if value.ndim else clean(value[()])
    if hasattr(value, "isoformat") and not isinstance(value, type):
        return str(value.isoformat())
    shape = getattr(value, "shape", None)
    # Never repr(): that of a client or a session may hold its token.
    return f"<{type(value).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}>"


def _clean_text(text: str) -> str:
    text = _ADDRESS.sub(_clean_address, text)
    return _name(text) if _ABSOLUTE.match(text) else text


def _clean_address(match: re.Match[str]) -> str:
    # A signed address carries its signature in the query, a private one its login in front.
    parts = urlsplit(match[0])
    if parts.scheme == "file":
        return _name(parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _name(path: str) -> str:
    """Cut a path of any system down to its last part: the folders above often name a user."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _is_credential(name: str, value: Any) -> bool:
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    if words & _SECRET:
        return True
    harmless = value is None or isinstance(value, bool | int | float)
    return bool(words & _MAYBE_SECRET) and not harmless


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _describe_model(model: Any) -> dict[str, Any]:
    # Known by what it has: a record without a model needs no torch.
    if not hasattr(model, "state_dict") or isinstance(model, type):
        raise TimoError(
            f"model must be a torch.nn.Module; got {described(model)}. timo.load_model gives one."
        )
    record: dict[str, Any] = {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_sha256": weights_hash(model),
    }
    config = getattr(model, "config", None)
    if dataclasses.is_dataclass(config):
        record["config"] = clean(config)
    return record


def _describe_cube(cube: xr.DataArray) -> dict[str, Any]:
    record: dict[str, Any] = {
        name: clean(cube.attrs[name]) for name in ("sensor", "attribution") if name in cube.attrs
    }
    record["shape"] = {str(dim): int(size) for dim, size in cube.sizes.items()}
    if "time" in cube.coords and cube["time"].size and cube["time"].dtype.kind == "M":
        times = cube["time"].values.ravel()
        record["dates"] = [_day(times.min()), _day(times.max())]
    if "band" in cube.coords:
        record["bands"] = [str(band) for band in np.atleast_1d(cube["band"].values)]
    crs = cube.rio.crs
    record["crs"] = None if crs is None else crs.to_string()
    return record


def _day(time: np.datetime64) -> str:
    moment = pd.Timestamp(time)
    return moment.date().isoformat() if moment == moment.normalize() else moment.isoformat()
