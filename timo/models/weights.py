"""Weights on disk: safetensors and JSON, nothing that can run code."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from timo.atomic import replacing
from timo.errors import TimoError
from timo.models.config import EncoderConfig
from timo.models.tasks import ModelConfig, TiMo, build

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1


def save(model: TiMo, path: str | Path) -> Path:
    """Write a model to a folder: ``weights.safetensors`` and ``config.json``.

    The folder appears whole or not at all.

    Parameters
    ----------
    model : TiMo
        The model.
    path : path
        Folder to write; an older model there is replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TimoError
        If the folder cannot be written, or holds something other than a model.
    """
    path = Path(path).expanduser()
    if path.exists() and not (path / CONFIG).exists() and (path.is_file() or any(path.iterdir())):
        raise TimoError(f"{path} holds something other than a model: choose another folder")
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with replacing(path) as partial:
        partial.mkdir(parents=True)
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        config = {
            "format": FORMAT,
            "weights_sha256": _sha256(partial / WEIGHTS),
            "model": asdict(model.config),
        }
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def load(path: str | Path) -> TiMo:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    TiMo
        The model, on the CPU, in evaluation mode.

    Raises
    ------
    TimoError
        If the folder is not a model, its files are damaged, or weights and config do not fit each other.
    """
    path = Path(path).expanduser()
    if path.is_file():
        raise TimoError(
            f"{path.name} is a file, a model is a folder with {WEIGHTS} and {CONFIG}. Pickled weights (.pt, .pth, "
            ".ckpt, .pkl) can run code and are not read"
        )
    for name in (WEIGHTS, CONFIG):
        if not (path / name).is_file():
            raise TimoError(
                f"no model at {path}: {name} is missing; write one with timo.save(model, folder)"
            )
    config, checksum = _read_config(path / CONFIG)
    tensors = _read_weights(path / WEIGHTS, checksum)
    model = build(config)
    if misfits := _misfits(tensors, model.state_dict()):
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise TimoError(
            f"weights and config of {path} do not fit each other: {'; '.join(misfits[:3])}{more}"
        )
    model.load_state_dict(tensors)
    return model


def _misfits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    return [
        *(f"missing {name}" for name in expected if name not in found),
        *(f"unexpected {name}" for name in found if name not in expected),
        *(
            f"{name} is {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
    ]


def _read_weights(path: Path, checksum: str | None) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
        # safetensors would not notice a changed number. A config written by hand need not hold the checksum.
        changed = checksum is not None and _sha256(path) != checksum
    except (SafetensorError, OSError) as error:
        raise TimoError(
            f"{path} is damaged or not a safetensors file ({error}): save the model again, or fetch the file again. "
            "Pickled weights can run code and are not read"
        ) from error
    if changed:
        raise TimoError(
            f"{path} is damaged, or of another model: its checksum is not the one in {CONFIG}. Save the model again, "
            "or fetch both files again"
        )
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(path: Path) -> tuple[ModelConfig, str | None]:
    """Config of the model, and checksum of its weights."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_hook=_with_tuples)
    except (ValueError, OSError) as error:
        raise TimoError(f"{path} is damaged: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT or "model" not in config:
        raise TimoError(f"{path} is not the config of a timo model of format {FORMAT}")
    try:
        model = dict(config["model"])
        encoder = EncoderConfig(**model.pop("encoder", {}))
        return ModelConfig(encoder=encoder, **model), config.get("weights_sha256")
    except (TypeError, ValueError) as error:
        raise TimoError(f"{path} is not the config of a timo model: {error}") from error


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; the configs hold tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
