"""Weights on disk: safetensors and JSON, nothing that can run code."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from timo.atomic import replacing
from timo.errors import TimoError
from timo.models.config import EncoderConfig
from timo.models.encoder import TiMoEncoder
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.tasks import ModelConfig, TiMo, build

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1
# What a folder may hold, and how it is read. Folders of before there were kinds hold models.
KINDS = {
    "model": "timo.load_model(folder)",
    "autoencoder": 'timo.models.load(folder, kind="autoencoder")',
    "encoder": "timo.models.load_encoder(folder)",
}


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder out of a folder, and what its input must be.

    Attributes
    ----------
    config : EncoderConfig
        What it is made of.
    bands : tuple of str
        Names of the bands, in the order of the channels.
    mean, std : tuple of float
        Normalisation of each band, in the units of the cube.
    sensor : str
        Sensor of the bands.
    state : dict of str to Tensor
        Weights of a `TiMoEncoder`, float32 where they are floating point.
    card : dict
        What else was written down: data, recipe, figures, limits.
    sha256 : str
        Checksum of the file of the weights: which weights these are, whatever the folder is called.
    """

    config: EncoderConfig
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sensor: str
    state: dict[str, Tensor] = field(repr=False)
    card: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save(model: TiMo | MaskedAutoencoder, path: str | Path) -> Path:
    """Write a model to a folder: ``weights.safetensors`` and ``config.json``.

    The folder appears whole or not at all.

    Parameters
    ----------
    model : TiMo or MaskedAutoencoder
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
    kind = "autoencoder" if isinstance(model, MaskedAutoencoder) else "model"
    return _write(path, kind, model.state_dict(), {kind: asdict(model.config)})


def save_encoder(
    encoder: TiMoEncoder,
    path: str | Path,
    *,
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    sensor: str,
    dtype: torch.dtype = torch.float32,
    card: dict[str, Any] | None = None,
) -> Path:
    """Write an encoder alone to a folder, as what fine-tuning starts from.

    Parameters
    ----------
    encoder : TiMoEncoder
        The encoder.
    path : path
        Folder to write; an older one there is replaced.
    bands : sequence of str
        Names of the bands that it was trained on.
    mean, std : sequence of float
        Their normalisation.
    sensor : str
        Their sensor.
    dtype : torch.float32 or torch.float16
        Of the weights on disk; float16 halves the file and keeps three digits. They are float32 again when read.
    card : dict, optional
        Data, recipe, figures, limits: anything that JSON can hold.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TimoError
        If the folder cannot be written or holds something else, bands and normalisation do not fit the encoder, a
        weight is not finite in this type, or the card is not JSON.
    """
    count = encoder.config.in_channels
    if {len(bands), len(mean), len(std)} != {count}:
        raise TimoError(
            f"{count} channels need {count} bands, means and standard deviations, got {len(bands)}, {len(mean)} and "
            f"{len(std)}"
        )
    if dtype not in (torch.float32, torch.float16):
        raise TimoError(f"weights are saved in torch.float32 or torch.float16, got {dtype}")
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in encoder.state_dict().items()
    }
    if wrong := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise TimoError(f"these weights are not finite in {dtype}: {', '.join(wrong[:3])}")
    about: dict[str, Any] = {
        "encoder": asdict(encoder.config),
        "bands": list(bands),
        "sensor": sensor,
    }
    about |= {"mean": [float(m) for m in mean], "std": [float(s) for s in std]}
    return _write(path, "encoder", weights, {"encoder": about, "card": card or {}})


def _write(
    path: str | Path, kind: str, weights: dict[str, Tensor], entries: dict[str, Any]
) -> Path:
    path = Path(path).expanduser()
    if path.exists() and not (path / CONFIG).exists() and (path.is_file() or any(path.iterdir())):
        raise TimoError(f"{path} holds something other than a model: choose another folder")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replacing(path) as partial:
        partial.mkdir(parents=True)
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        config = {"format": FORMAT, "kind": kind, "weights_sha256": _sha256(partial / WEIGHTS)}
        try:
            text = json.dumps(config | entries, indent=2)
        except (TypeError, ValueError) as error:
            raise TimoError(f"the card cannot be written as JSON: {error}") from error
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        # safetensors keeps its file to whoever wrote it; a model is for all whom the folder is for.
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
    return path


@overload
def load(path: str | Path, kind: Literal["model"] = "model") -> TiMo: ...


@overload
def load(path: str | Path, kind: Literal["autoencoder"]) -> MaskedAutoencoder: ...


def load(
    path: str | Path, kind: Literal["model", "autoencoder"] = "model"
) -> TiMo | MaskedAutoencoder:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : path
        The folder.
    kind : {"model", "autoencoder"}
        What the folder is to hold.

    Returns
    -------
    TiMo or MaskedAutoencoder
        The model, on the CPU, in evaluation mode.

    Raises
    ------
    TimoError
        If the folder holds no model of this kind, its files are damaged, or weights and config do not fit each other.
    """
    path = _folder(path)
    entries = _read_config(path / CONFIG)
    if entries["kind"] != kind:
        raise TimoError(
            f"{path} holds an encoder or model of another kind: expected {kind!r}, got {entries['kind']!r}, which is "
            f"read with {KINDS[entries['kind']]}"
        )
    config = _model_config(path / CONFIG, entries)
    tensors = _read_weights(path / WEIGHTS, entries.get("weights_sha256"))
    model = build(config) if isinstance(config, ModelConfig) else _build_autoencoder(config)
    _check_fit(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model


def kind_of(path: str | Path) -> str:
    """What a folder holds: "model", "autoencoder" or "encoder".

    Raises
    ------
    TimoError
        If it is none of these.
    """
    return str(_read_config(_folder(path) / CONFIG)["kind"])


def load_encoder(path: str | Path) -> SavedEncoder:
    """Read the encoder out of a folder that `save` or `save_encoder` wrote: of a model, an autoencoder or an encoder.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    SavedEncoder
        Its weights, in float32 on the CPU, and what its input must be.

    Raises
    ------
    TimoError
        If the folder holds none of these, its files are damaged, or weights and config do not fit each other.
    """
    path = _folder(path)
    entries = _read_config(path / CONFIG)
    about = _encoder_entries(path / CONFIG, entries)
    tensors = _read_weights(path / WEIGHTS, entries.get("weights_sha256"))
    if entries["kind"] != "encoder":
        tensors = {
            name.removeprefix("encoder."): value
            for name, value in tensors.items()
            if name.startswith("encoder.")
        }
    with torch.device("meta"):
        expected = TiMoEncoder(about["config"]).state_dict()
    _check_fit(path, tensors, expected)
    state = {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
    checksum = entries.get("weights_sha256") or _sha256(path / WEIGHTS)
    return SavedEncoder(**about, state=state, card=_read_card(path / CONFIG), sha256=checksum)


def _folder(path: str | Path) -> Path:
    """A folder that holds both files."""
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
    return path


def _build_autoencoder(config: MaskedConfig) -> MaskedAutoencoder:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return MaskedAutoencoder(config).eval()


def _check_fit(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if misfits := _misfits(found, expected):
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise TimoError(
            f"weights and config of {path} do not fit each other: {'; '.join(misfits[:3])}{more}"
        )


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


def _read_config(path: Path) -> dict[str, Any]:
    """Entries of the file: the kind, what is said of it, the checksum of its weights."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"), object_hook=_with_tuples)
    except (ValueError, OSError) as error:
        raise TimoError(f"{path} is damaged: not JSON ({error})") from error
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise TimoError(f"{path} is not the config of a timo model of format {FORMAT}")
    kind = entries.setdefault("kind", "model")
    if kind not in KINDS or kind not in entries:
        raise TimoError(f"{path} is not the config of a timo model of format {FORMAT}")
    return entries


def _read_card(path: Path) -> dict[str, Any]:
    """The card as it was given, lists and all."""
    return json.loads(path.read_text(encoding="utf-8")).get("card", {})


def _model_config(path: Path, entries: dict[str, Any]) -> ModelConfig | MaskedConfig:
    try:
        config = dict(entries[entries["kind"]])
        encoder = EncoderConfig(**config.pop("encoder", {}))
        kind = ModelConfig if entries["kind"] == "model" else MaskedConfig
        return kind(encoder=encoder, **config)
    except (TypeError, ValueError) as error:
        raise TimoError(f"{path} is not the config of a timo model: {error}") from error


def _encoder_entries(path: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """What a `SavedEncoder` says of itself."""
    if entries["kind"] != "encoder":
        config = _model_config(path, entries)
        named = ("bands", "mean", "std", "sensor")
        return {"config": config.encoder} | {name: getattr(config, name) for name in named}
    try:
        about = dict(entries["encoder"])
        about["config"] = EncoderConfig(**about.pop("encoder", {}))
        about |= {name: tuple(map(float, about[name])) for name in ("mean", "std")}
        about |= {"bands": tuple(about["bands"]), "sensor": str(about["sensor"])}
    except (TypeError, ValueError, LookupError) as error:
        raise TimoError(f"{path} is not the config of a timo encoder: {error}") from error
    count = about["config"].in_channels
    if {len(about[name]) for name in ("bands", "mean", "std")} != {count}:
        raise TimoError(
            f"{path} is not the config of a timo encoder: {count} channels need {count} bands"
        )
    if unknown := sorted(set(about) - {"config", "bands", "mean", "std", "sensor"}):
        raise TimoError(f"{path} is not the config of a timo encoder: unknown {unknown}")
    return about


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; the configs hold tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
