"""Models in folders of timo's own, written and read: safetensors and JSON, nothing that can run code."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from timo.atomic import check_name, replacing
from timo.checks import PathLike, Positive, checked
from timo.errors import TimoError, warn
from timo.models.answering import ModelConfig, PixelConfig
from timo.models.config import EncoderConfig, check_reads_bands, with_tuples
from timo.models.encoder import TiMoEncoder, seeded
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo
from timo.models.transfer import within

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1


@checked
@dataclass(frozen=True)
class EncoderAlone:
    """Config of an encoder in a folder of its own."""

    encoder: EncoderConfig
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    sensor: str

    def __post_init__(self) -> None:
        check_reads_bands(self, self.encoder.in_channels)


Config = ModelConfig | PixelConfig | MaskedConfig | EncoderAlone
# What a folder may hold, and how it is read. Folders of before there were kinds hold models.
KINDS: dict[str, type[Config]] = {
    "model": ModelConfig,
    "pixel": PixelConfig,
    "autoencoder": MaskedConfig,
    "encoder": EncoderAlone,
}
READ_WITH = {
    "model": "timo.load_model(folder)",
    "pixel": "timo.load_model(folder)",
    "autoencoder": 'timo.models.load(folder, kind="autoencoder")',
    "encoder": "timo.models.load_encoder(folder)",
}


@dataclass(frozen=True)
class _Entries:
    """What the config file of a folder says."""

    kind: str
    config: Config
    checksum: str | None
    card: dict[str, Any]


@checked
@dataclass(frozen=True)
class SavedEncoder:
    """An encoder out of a folder, and what its input must be.

    Attributes
    ----------
    config : EncoderConfig
    bands, mean, std, sensor
        As in `ModelConfig`.
    state : dict of str to Tensor
        Weights of a `TiMoEncoder`, float32 where they are floating point.
    card : dict
        What else was written down: data, recipe, figures, limits.
    sha256 : str
        Checksum of the file of the weights: which weights these are, under any name of the folder.
    """

    config: EncoderConfig
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sensor: str
    state: dict[str, Tensor] = field(repr=False)
    card: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


@checked
def save(
    model: Annotated[nn.Module, "timo.load_model and timo.pretrain give models that can be saved."],
    path: PathLike,
) -> Path:
    """Write a model to a folder: ``weights.safetensors`` and ``config.json``.

    The folder appears whole or not at all. What `timo.load_model` could not read back is refused before anything is
    written.

    Parameters
    ----------
    model : TiMo, PixelModel or MaskedAutoencoder
    path : path
        Folder to write; an older model there is replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TimoError
        If it is another module, its layers are not those of its config, or the folder cannot be written or holds
        something else.
    """
    # By type: a subclass would be read back as what it inherits from, and answer otherwise.
    if type(model) is TiMo:
        return _write(path, "model", model.config, model.state_dict())
    if type(model) is PixelModel:
        return _write(path, "pixel", model.config, model.state_dict())
    if type(model) is MaskedAutoencoder:
        return _write(path, "autoencoder", model.config, model.state_dict())
    raise TimoError(
        "timo.save writes a TiMo, a PixelModel or a MaskedAutoencoder, which can be loaded again; got a "
        f"{type(model).__name__}. Of a wrapper give the model inside (model.module, model._orig_mod); write a "
        "TiMoEncoder with timo.models.save_encoder, any other module with safetensors.torch.save_model"
    )


@checked
def save_encoder(
    encoder: TiMoEncoder,
    path: PathLike,
    *,
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    sensor: str,
    dtype: torch.dtype = torch.float32,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder alone to a folder, as what fine-tuning starts from.

    Parameters
    ----------
    encoder : TiMoEncoder
    path : path
        Folder to write; an older one there is replaced.
    bands, mean, std, sensor
        What it was trained on, as in `ModelConfig`.
    dtype : torch.float32 or torch.float16
        Of the weights on disk; float16 halves the file and keeps three digits. They are float32 again when read.
    card : mapping, optional
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
    if dtype not in (torch.float32, torch.float16):
        raise TimoError(f"weights are saved in torch.float32 or torch.float16, got {dtype}")
    config = EncoderAlone(encoder.config, tuple(bands), tuple(mean), tuple(std), sensor)
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in encoder.state_dict().items()
    }
    return _write(path, "encoder", config, weights, card or {})


def _write(
    path: PathLike,
    kind: str,
    config: Config,
    weights: Mapping[str, Tensor],
    card: Mapping[str, Any] | None = None,
) -> Path:
    path = check_name(path)
    if path.exists() and not (path / CONFIG).exists() and (path.is_file() or any(path.iterdir())):
        raise TimoError(f"{path} holds something other than a model: choose another folder")
    entries = _check_readable(kind, config, weights, card)
    if wrong := not_finite(weights):
        dtype = next(iter(weights.values())).dtype
        raise TimoError(
            f"weights of this {kind} are not finite in {dtype}: {wrong}. Its training diverged: train again, with a "
            "lower learning rate"
        )
    with replacing(path) as partial:
        partial.mkdir(parents=True)
        try:
            tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
            save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        except RuntimeError as error:  # without data, or two weights that are one
            raise TimoError(f"the weights of this {kind} cannot be written: {error}") from error
        entries["weights_sha256"] = _sha256(partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        # safetensors gives its file to its writer alone; a model is for all who can read the folder.
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
    return path


def _check_readable(
    kind: str, config: Config, weights: Mapping[str, Tensor], card: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the entries of the config file, which give the same config when read, and that the weights fit."""
    try:
        entries = {"format": FORMAT, "kind": kind, "weights_sha256": "", kind: asdict(config)}
        entries |= {} if card is None else {"card": dict(card)}
        text = json.dumps(entries)
    except (TypeError, ValueError, RecursionError) as error:
        raise TimoError(
            f"config or card of this {kind} cannot be written as JSON: {error}. They hold text, numbers, lists and "
            "mappings of them"
        ) from error
    if _parse(text).config != config:
        raise TimoError(
            f"the config of this {kind} would not be read as it is: make a new one, e.g. by dataclasses.replace"
        )
    with torch.device("meta"):
        expected = _build(config).state_dict()
    if misfits := _misfits(weights, expected):
        raise TimoError(
            f"this {kind} could not be loaded again, its layers are not those of its config: {misfits}. Make a model "
            "of the config you want and copy the weights, or save the state_dict with safetensors.torch.save_file"
        )
    return entries


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """Return the names of the first three weights that hold NaN or infinity; empty where none does."""
    held = {name: value for name, value in weights.items() if not value.is_meta}
    return _first_three([name for name, value in held.items() if not value.isfinite().all()])


def _build(config: Config) -> nn.Module:
    if isinstance(config, EncoderAlone):
        return TiMoEncoder(config.encoder)
    if isinstance(config, MaskedConfig):
        return MaskedAutoencoder(config)
    return TiMo(config) if isinstance(config, ModelConfig) else PixelModel(config)


@overload
def load(path: PathLike, kind: Literal["model"] = "model") -> TiMo | PixelModel: ...


@overload
def load(path: PathLike, kind: Literal["autoencoder"]) -> MaskedAutoencoder: ...


@checked
def load(
    path: PathLike, kind: Literal["model", "autoencoder"] = "model"
) -> TiMo | PixelModel | MaskedAutoencoder:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : path
        The folder.
    kind : {"model", "autoencoder"}
        What it is to hold.

    Returns
    -------
    TiMo, PixelModel or MaskedAutoencoder
        On the CPU, in evaluation mode.

    Raises
    ------
    TimoError
        If the folder holds none of this kind, its files are damaged, or weights and config do not fit each other.
    """
    path = _folder(path)
    entries = _read_config(path)
    if entries.kind != kind and (entries.kind, kind) != ("pixel", "model"):
        raise TimoError(
            f"{path} holds an encoder or model of another kind: expected {kind!r}, got {entries.kind!r}, which is "
            f"read with {READ_WITH[entries.kind]}"
        )
    tensors = _read_weights(path, entries.checksum)
    with seeded(0):
        model = _build(entries.config).eval()
    _check_fit(path, tensors, model.state_dict())
    _say_not_finite(path, tensors)
    model.load_state_dict(tensors)
    assert isinstance(model, TiMo | PixelModel | MaskedAutoencoder)
    return model


def kind_of(path: PathLike) -> str:
    """Return what a folder holds: "model", "pixel", "autoencoder" or "encoder"."""
    return _read_config(_folder(path)).kind


@checked
def load_encoder(path: PathLike) -> SavedEncoder:
    """Read the encoder out of a folder that `save` or `save_encoder` wrote: of a model, an autoencoder or an encoder.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    SavedEncoder
        With weights in float32 on the CPU.

    Raises
    ------
    TimoError
        If the folder holds none of these, its files are damaged, or weights and config do not fit each other.
    """
    path = _folder(path)
    entries = _read_config(path)
    if isinstance(entries.config, PixelConfig):
        raise TimoError(
            f"{path} holds a model of single pixels, which has no encoder; it is read with {READ_WITH['pixel']}"
        )
    tensors = _read_weights(path, entries.checksum)
    if entries.kind != "encoder":
        tensors = within(tensors, "encoder.")
    config = entries.config
    with torch.device("meta"):
        expected = TiMoEncoder(config.encoder).state_dict()
    _check_fit(path, tensors, expected)
    _say_not_finite(path, tensors)
    return SavedEncoder(
        config=config.encoder,
        bands=config.bands,
        mean=config.mean,
        std=config.std,
        sensor=config.sensor,
        state={n: v.float() if v.is_floating_point() else v for n, v in tensors.items()},
        card=entries.card,
        sha256=entries.checksum or _sha256(path / WEIGHTS),
    )


def _folder(path: PathLike) -> Path:
    """Return a folder that holds both files."""
    path = check_name(path, "read")
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


def _read_config(folder: Path) -> _Entries:
    path = folder / CONFIG
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except TimoError as error:
        raise TimoError(f"{path} is {error}") from error
    except (ValueError, OSError) as error:
        raise TimoError(f"{path} is damaged: not JSON ({error})") from error


def _parse(text: str) -> _Entries:
    try:
        entries = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    kind = entries.get("kind", "model") if isinstance(entries, dict) else None
    if kind not in KINDS or entries.get("format") != FORMAT or kind not in entries:
        raise TimoError(f"not the config of a timo model of format {FORMAT}")
    try:
        options = with_tuples(entries[kind])
        if kind != "pixel":
            options["encoder"] = EncoderConfig(**with_tuples(options.get("encoder", {})))
        config = KINDS[kind](**options)
    except (TypeError, ValueError, AttributeError) as error:
        raise TimoError(f"not the config of a timo {kind}: {error}") from error
    return _Entries(kind, config, entries.get("weights_sha256"), entries.get("card", {}))


def _read_weights(folder: Path, checksum: str | None) -> dict[str, Tensor]:
    path = folder / WEIGHTS
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


def _check_fit(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if misfits := _misfits(found, expected):
        raise TimoError(f"weights and config of {path} do not fit each other: {misfits}")


def _say_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if wrong := not_finite(tensors):
        warn(
            f"weights of {path} are not finite: {wrong}. All that they predict is NaN; train again, with a lower "
            "learning rate"
        )


def _misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return the first three differences in names and shapes; empty where there are none."""
    misfits = [
        *(f"missing {name}" for name in expected if name not in found),
        *(f"unexpected {name}" for name in found if name not in expected),
        *(
            f"{name} is {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
    ]
    return _first_three(misfits)


def _first_three(found: Sequence[str]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
