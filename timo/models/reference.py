"""Checkpoints of the published code (TiMo, arXiv 2505.08723) read into our modules.

A checkpoint is known by its keys: a decoder makes it a masked autoencoder; gates in blocks whose attention uses none
make it a classifier; any other is the encoder of a segmentation model, whose `head.*` is never used.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from re import Match
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from timo.checks import Count, PathLike, Range, checked, did_you_mean
from timo.errors import TimoError
from timo.models.answering import ModelConfig
from timo.models.config import Attention, Blocks, Channels, EncoderConfig, Rate, with_tuples
from timo.models.encoder import TiMoEncoder, seeded
from timo.models.published import AutoencoderConfig, PublishedAutoencoder
from timo.models.tasks import TiMo
from timo.models.transfer import (
    STEM_KERNEL,
    Bands,
    LoadReport,
    Reshaped,
    Sources,
    adapt_kernel,
    adapt_pixels,
    announce,
    band_sources,
    fill,
    is_identity,
    read_state_dict,
)

Kind = Literal["encoder", "classifier", "autoencoder"]
Model = TiMoEncoder | TiMo | PublishedAutoencoder

ATTENTION: tuple[Attention, ...] = ("global", "stga", "d-stga")  # by the number in "local"

RENAMED: dict[str, str | Callable[[Match[str]], str]] = {
    r"^patch_embed1\.conv\.0": "stem.conv1",
    r"^patch_embed1\.conv\.1": "stem.norm1",
    r"^patch_embed1\.conv\.3": "stem.conv2",
    r"^patch_embed1\.norm": "stem.norm2",
    r"^patch_embed(\d)\.proj": lambda m: f"downsamples.{int(m[1]) - 2}.conv",
    r"^patch_embed(\d)\.norm": lambda m: f"downsamples.{int(m[1]) - 2}.norm",
    r"^block(\d)\.": lambda m: f"stages.{int(m[1]) - 1}.blocks.",
    r"^norm(\d)\.": lambda m: f"stages.{int(m[1]) - 1}.norm.",
    r"^decoder_(embed|blocks|norm)\.": r"\1.",
    r"^decoder_pred\.": "predict.",
    r"\.attn\.": ".attention.",
    r"cheap_operation\.0": "gate.linear",
    r"cheap_operation\.1": "gate.norm",
    r"mlp\.fc1": "mlp.0",
    r"mlp\.fc2": "mlp.2",
}


class Loaded(NamedTuple):
    """A model, and what became of every key of its checkpoint."""

    model: Model
    report: LoadReport


@checked
@dataclass(frozen=True)
class _Published:
    """Arguments of the published constructor; what stands as a `Literal` is all that its code was ever given."""

    embed_dims: tuple[Channels, ...]
    sa_num_heads: tuple[Count, ...]
    depths: tuple[Blocks, ...]
    local: tuple[Annotated[int, Range(least=0, most=2)], ...] | None = None
    mlp_ratios: Blocks | tuple[Blocks, ...] = 4
    in_chans: Channels | None = None
    num_classes: Count | None = None
    img_size: Any = None
    drop_path_rate: Rate = 0.0
    decoder_embed_dim: Channels | None = None
    decoder_depth: Blocks | None = None
    decoder_heads: Channels | None = None
    norm_pix_loss: bool = False
    head_conv: Literal[7] = 7
    use_pos: Literal["ts"] = "ts"
    qkv_bias: Literal[True] = True

    @classmethod
    def of(cls, config: Mapping[str, Any] | str) -> "_Published":
        """Check the arguments; in file metadata they stand as JSON under "cfg"."""
        try:
            settings = json.loads(config) if isinstance(config, str) else config
        except (ValueError, RecursionError) as error:
            raise TimoError(f"the config is not JSON ({error}): give a mapping or JSON") from error
        if not isinstance(settings, Mapping):
            raise TimoError(f"the config must be a mapping or JSON of one, got {type(settings)}")
        if "cfg" in settings:
            return cls.of(settings["cfg"])
        if missing := [n for n in ("embed_dims", "sa_num_heads", "depths") if n not in settings]:
            raise TimoError(
                f"the config lacks {', '.join(missing)} (per stage), it has {[*settings]}"
            )
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise TimoError(
                f"unknown in the config: {', '.join(unknown)}. Known are {', '.join(known)}; leave out what does not "
                f"change the model.{did_you_mean(unknown[0], known)}"
            )
        return cls(**with_tuples(settings))

    @property
    def attention(self) -> tuple[Attention, ...]:
        """Return the attention of each stage."""
        if self.local is None:
            raise TimoError(
                "the config must name the attention of each stage as 'local': 2 for D-STGA, 1 for STGA, 0 for global"
            )
        return tuple(ATTENTION[kind] for kind in self.local)


@checked
def load_reference(
    state_dict: Mapping[str, Any] | PathLike,
    config: Mapping[str, Any] | str,
    *,
    bands: Bands = None,
    kind: Kind | None = None,
    per_date: bool = False,
) -> Model:
    """Make a model of a checkpoint of the published code; its report is logged.

    Parameters
    ----------
    state_dict : mapping of str to Tensor, or path
        The weights, or a .safetensors, .pt, .pth, .bin or .ckpt file of them. They may lie under "model" or
        "state_dict", and their names may begin with "module.".
    config : mapping or JSON
        Arguments of the published constructor: ``embed_dims``, ``sa_num_heads``, ``depths`` and ``local`` (per stage: 2
        for D-STGA, 1 for STGA, 0 for global); of an autoencoder also ``decoder_heads``. Optional: ``mlp_ratios``,
        ``in_chans``, ``num_classes``, ``drop_path_rate``, ``decoder_embed_dim``, ``decoder_depth``, ``norm_pix_loss``.
    bands : int, sequence or mapping, optional
        Other bands than those of the weights. A number: the mean kernel for each. A sequence: the source channel of
        each new band, or None for the mean kernel; weights of red, green, blue for the ten bands of Sentinel-2:
        ``(2, 1, 0, None, None, None, None, None, None, None)``. A mapping: the same by name of the band. Kernels are
        scaled by the old over the new number of bands, so that the activations keep their size. None: ``in_chans`` of
        the config, or else as the weights are.
    kind : {"encoder", "classifier", "autoencoder"}, optional
        What to make of it. None: as the keys say. They leave open whether weights with gates in every block, all of
        them D-STGA, are of an encoder or a classifier: they are taken as an encoder.
    per_date : bool
        Whether a classifier scores each date.

    Returns
    -------
    TiMoEncoder, TiMo or PublishedAutoencoder
        On the CPU, in evaluation mode, in float64 if the weights are, otherwise in float32. A classifier takes
        normalised input; its bands and classes have numbers for names.

    Raises
    ------
    TimoError
        If the file cannot be read or would need to run code, the config names what the published code does not have, or
        nothing of the weights fits.

    See Also
    --------
    read_reference : The same, with the report.
    """
    model, report = read_reference(state_dict, config, bands=bands, kind=kind, per_date=per_date)
    announce(report, "published model")
    return model


@checked
def read_reference(
    state_dict: Mapping[str, Any] | PathLike,
    config: Mapping[str, Any] | str,
    *,
    bands: Bands = None,
    kind: Kind | None = None,
    per_date: bool = False,
) -> Loaded:
    """Make a model of a checkpoint of the published code, and report what became of every key.

    Parameters and errors are those of `load_reference`; nothing is logged.

    Returns
    -------
    Loaded
        ``model`` and ``report``.
    """
    published = _Published.of(config)
    source = read_state_dict(state_dict)
    tensors = {name: value for name, value in source.items() if isinstance(value, Tensor)}
    kind = kind or _kind(tensors, published)
    kernels = (t for name, t in tensors.items() if encoder_name(name) == STEM_KERNEL)
    count = next((k.shape[1] for k in kernels if k.ndim == 4), published.in_chans or 3)
    sources = band_sources((published.in_chans or count) if bands is None else bands, count)
    encoder = _encoder_config(kind, published, len(sources))
    with seeded(0):
        model: Model
        if kind == "encoder":
            model = TiMoEncoder(encoder)
        elif kind == "autoencoder":
            model = PublishedAutoencoder(_autoencoder_config(encoder, published, tensors))
        else:
            scoring = replace(_classifier_config(encoder, published, tensors), per_date=per_date)
            if isinstance(bands, Mapping):
                scoring = replace(scoring, bands=tuple(bands))
            model = TiMo(scoring)
    if {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float64}:
        model.double()
    return Loaded(model.eval(), _fill(model, source, sources, count))


def encoder_name(name: str) -> str:
    """Return our name of a weight of the published code, without the prefix of the module that holds the encoder."""
    for pattern, ours in RENAMED.items():
        name = re.sub(pattern, ours, name)
    return name


def _model_name(name: str, model: Model) -> str:
    if isinstance(model, TiMo) and name.startswith("head."):
        return f"head.classifier.{name.removeprefix('head.')}"
    ours = encoder_name(name)
    outside = isinstance(model, TiMoEncoder) or name.startswith(("decoder_", "mask_token", "head."))
    return ours if outside else f"encoder.{ours}"


def _fill(model: Model, source: Mapping[str, Any], sources: Sources, count: int) -> LoadReport:
    own = model.state_dict()
    tensors, names, unused = {}, {}, []
    for name, value in source.items():
        ours = _model_name(name, model)
        if _without_effect(ours, own):
            unused.append(name)
        else:
            tensors[ours], names[ours] = value, name
    adapted = [] if is_identity(sources, count) else _adapt(tensors, own, sources, count)
    return fill(model, tensors, adapted=adapted, unused=unused, names=names)


def _without_effect(ours: str, own: Mapping[str, Tensor]) -> bool:
    """Return whether it is of a head that nothing calls, or the gate of a block whose attention uses none."""
    block, gate, _ = ours.partition(".attention.gate.")
    idle_gate = bool(gate) and f"{block}.attention.q.weight" in own
    return ours not in own and (ours in ("head.weight", "head.bias") or idle_gate)


def _adapt(
    tensors: dict[str, Any], own: Mapping[str, Tensor], sources: Sources, count: int
) -> list[Reshaped]:
    """Fit what depends on the bands, in place: the first convolution, and the pixels that a decoder predicts."""
    adapted = []
    for name in (STEM_KERNEL, f"encoder.{STEM_KERNEL}", "predict.weight", "predict.bias"):
        found = tensors.get(name)
        # What has another number of axes, or of pixels, stays as it is, for the report.
        if name not in own or not isinstance(found, Tensor) or found.ndim != own[name].ndim:
            continue
        if name.endswith(STEM_KERNEL):
            tensors[name] = adapt_kernel(found, sources)
        elif len(found) % count == 0:
            tensors[name] = adapt_pixels(found, sources, count)
        if tensors[name].shape == own[name].shape:
            adapted.append(Reshaped(name, tuple(found.shape), tuple(tensors[name].shape)))
    return adapted


def _kind(tensors: Mapping[str, Tensor], published: _Published) -> Kind:
    if "mask_token" in tensors or any(name.startswith("decoder_") for name in tensors):
        return "autoencoder"
    gated = {int(m[1]) for n in tensors if (m := re.match(r"block(\d)\..*cheap_operation", n))}
    idle = {i for i, attention in enumerate(published.attention, start=1) if attention != "d-stga"}
    return "classifier" if gated & idle and "head.weight" in tensors else "encoder"


def _encoder_config(kind: Kind, published: _Published, count: int) -> EncoderConfig:
    ratios = published.mlp_ratios
    ratios = ratios if isinstance(ratios, tuple) else (ratios,)
    if len(set(ratios)) != 1:
        raise TimoError(f"mlp_ratios must be the same in all stages, got {ratios}")
    return EncoderConfig(
        in_channels=count,
        dims=published.embed_dims,
        depths=published.depths,
        heads=published.sa_num_heads,
        attention=("global",) * 4 if kind == "autoencoder" else published.attention,
        mlp_ratio=ratios[0],
        drop_path=published.drop_path_rate,
        norm="batch",
        position="index",
    )


def _autoencoder_config(
    encoder: EncoderConfig, published: _Published, tensors: Mapping[str, Tensor]
) -> AutoencoderConfig:
    if published.decoder_heads is None:
        raise TimoError(
            "the weights are of a masked autoencoder: its config needs decoder_heads, which no weight shows"
        )
    found = {int(m[1]) for name in tensors if (m := re.match(r"decoder_blocks\.(\d+)\.", name))}
    token = tensors.get("mask_token")
    width = 512 if token is None or not token.ndim else token.shape[-1]
    return AutoencoderConfig(
        encoder,
        decoder_dim=published.decoder_embed_dim or width,
        decoder_depth=published.decoder_depth or max(found, default=7) + 1,
        decoder_heads=published.decoder_heads,
        target="batch" if published.norm_pix_loss else "values",
    )


def _classifier_config(
    encoder: EncoderConfig, published: _Published, tensors: Mapping[str, Tensor]
) -> ModelConfig:
    head = tensors.get("head.weight")
    classes = published.num_classes or (len(head) if head is not None and head.ndim else None)
    if classes is None:
        raise TimoError("a classifier without head.weight needs num_classes in its config")
    count = encoder.in_channels
    return ModelConfig(
        encoder=encoder,
        bands=tuple(f"band {i}" for i in range(count)),
        classes=tuple(f"class {i}" for i in range(classes)),
        mean=(0.0,) * count,
        std=(1.0,) * count,
        task="classification",
    )
