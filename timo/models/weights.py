"""Weights on disk: safetensors and JSON, nothing that can run code."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from timo.atomic import replacing
from timo.errors import TimoError
from timo.models.tasks import TiMo, build

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

    Raises
    ------
    TimoError
        If the folder cannot be written, or holds something other than a model.
    """
    path = Path(path)
    if path.exists() and not (path / CONFIG).exists() and (path.is_file() or any(path.iterdir())):
        raise TimoError(f"{path} holds something other than a model: choose another folder")
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with replacing(path) as partial:
        partial.mkdir(parents=True)
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        config = {"format": FORMAT, "model": asdict(model.config)}
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def load(path: str | Path) -> TiMo:
    """Read a model that `save` wrote.

    Raises
    ------
    TimoError
        If the folder is not a model, its files are damaged, or weights and config do not fit each other.
    """
    path = Path(path)
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
    model = build(_read_config(path / CONFIG))
    try:
        tensors = load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise TimoError(
            f"{path / WEIGHTS} is damaged or not a safetensors file ({error}): save the model again, or fetch the "
            "file again"
        ) from error
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise TimoError(
            f"weights and config of {path} do not fit each other: missing {missing}, unexpected {unexpected}"
        )
    return model.eval()


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TimoError(f"{path} is damaged: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT or "model" not in config:
        raise TimoError(f"{path} is not the config of a timo model of format {FORMAT}")
    return dict(config["model"])
