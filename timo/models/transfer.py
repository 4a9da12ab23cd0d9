"""State dicts of others: read without running any code of theirs, fitted into a model, every key reported."""

import logging
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from timo.atomic import check_name
from timo.checks import PathLike, checked
from timo.errors import TimoError, warn
from timo.models.config import Channels
from timo.models.encoder import TiMoEncoder

logger = logging.getLogger(__name__)

Sources = Sequence[int | None]
Bands = Channels | Sources | Mapping[str, int | None] | None
STEM_KERNEL = "stem.conv1.weight"
WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
# Of DistributedDataParallel and of torch.compile.
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")


class Reshaped(NamedTuple):
    """A weight that came in another shape than the model has."""

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.found} -> {self.expected}"


@checked
@dataclass(frozen=True)
class LoadReport:
    """Report of the weights that were loaded into a model, key by key.

    Parameters
    ----------
    loaded : tuple of str
        Weights of the model that were taken as they are.
    adapted : tuple of Reshaped
        Weights that were fitted to other bands.
    missing : tuple of str
        Weights of the model that the source does not hold: they keep the values they had.
    misshapen : tuple of Reshaped
        Weights that the source holds in a shape that does not fit: they keep the values they had.
    unexpected : tuple of str
        Keys of the source that the model does not have.
    unused : tuple of str
        Keys of the source that are known to have no effect, and were left out.
    """

    loaded: tuple[str, ...] = ()
    adapted: tuple[Reshaped, ...] = ()
    missing: tuple[str, ...] = ()
    misshapen: tuple[Reshaped, ...] = ()
    unexpected: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether every weight of the model came from the source."""
        return not (self.missing or self.misshapen)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} weights taken as they are"]
        meanings = {
            "adapted": "adapted to the bands",
            "missing": "missing: kept as they were",
            "misshapen": "of another shape: kept as they were",
            "unexpected": "unexpected: ignored",
            "unused": "without effect in this model: left out",
        }
        for field, meaning in meanings.items():
            entries = getattr(self, field)
            lines += [f"{len(entries)} {meaning}"] if entries else []
            lines += [f"  {entry}" for entry in entries]
        return "\n".join(lines)


@checked
def transfer_encoder(
    state_dict: Annotated[Mapping[str, Any], "encoder.state_dict() gives one."],
    encoder: TiMoEncoder,
    *,
    bands: Bands = None,
) -> LoadReport:
    """Start an encoder from the weights of another: copy every weight that fits.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        ``state_dict()`` of a `TiMoEncoder`, or of a model that holds one as ``encoder`` (its other weights are
        reported as unused).
    encoder : TiMoEncoder
        What to fill, in place. Weights that find no match keep their values.
    bands : int, sequence or mapping, optional
        Where each band of `encoder` takes its stem kernel from, as in `timo.models.load_reference`. None: where only
        the number of bands differs, the mean kernel.

    Returns
    -------
    LoadReport
        What became of every key. It is logged too, and a warning says how many weights kept their values.

    Raises
    ------
    TimoError
        If not a single weight fits, or `bands` does not fit the encoder or the source.
    """
    inside = within(state_dict, "encoder.")
    outside = [k for k in state_dict if not k.startswith("encoder.")] if inside else []
    tensors = dict(inside or state_dict)
    own, found = encoder.state_dict().get(STEM_KERNEL), tensors.get(STEM_KERNEL)
    adapted = []
    if own is not None and isinstance(found, Tensor):
        tensors[STEM_KERNEL] = _fit_stem(found, own, bands)
        if tensors[STEM_KERNEL] is not found:
            adapted.append(Reshaped(STEM_KERNEL, tuple(found.shape), tuple(own.shape)))
    report = fill(encoder, tensors, adapted=adapted, unused=outside)
    announce(report, "encoder")
    return report


def within(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return what has a prefix, by the names without it."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _fit_stem(found: Tensor, own: Tensor, bands: Bands) -> Tensor:
    """Return the kernel of a source for the bands of a target; itself where there is nothing to do."""
    alike = found.ndim == own.ndim == 4 and found[:, 0].shape == own[:, 0].shape
    if not alike or (bands is None and found.shape == own.shape):
        return found
    sources = band_sources(own.shape[1] if bands is None else bands, found.shape[1])
    if len(sources) != own.shape[1]:
        raise TimoError(
            f"bands names {len(sources)} bands, the encoder has {own.shape[1]}: name each of its bands"
        )
    return found if is_identity(sources, found.shape[1]) else adapt_kernel(found, sources)


def band_sources(bands: int | Sources | Mapping[str, int | None], count: int) -> Sources:
    """Return the source channel of each new band, None for the mean of all, as `timo.models.load_reference` has it."""
    if isinstance(bands, int):
        sources: Sources = tuple(range(count)) if bands == count else (None,) * bands
    else:
        sources = tuple(bands.values() if isinstance(bands, Mapping) else bands)
    if not sources or any(source not in (None, *range(count)) for source in sources):
        raise TimoError(
            f"bands={bands!r} does not fit weights of {count} bands: expected at least one band, each with its source "
            f"channel 0..{count - 1}, or None for the mean kernel"
        )
    return sources


def is_identity(sources: Sources, count: int) -> bool:
    """Return whether each band takes its own channel, and none is left over."""
    return list(sources) == list(range(count))


def adapt_kernel(
    kernel: Float[Tensor, "d c kh kw"], sources: Sources
) -> Float[Tensor, "d n kh kw"]:
    """Make kernels for other bands: those of the source channels, or their mean, times c / n.

    With that factor bands of like values excite the next layer as much as before, however many they are.
    """
    mean = kernel.mean(dim=1)
    picked = torch.stack([mean if s is None else kernel[:, s] for s in sources], dim=1)
    return picked * (kernel.shape[1] / len(sources))


def adapt_pixels(
    weight: Float[Tensor, "out *d"], sources: Sources, count: int
) -> Float[Tensor, "new *d"]:
    """Make rows that predict the pixels of other bands, band by band: of the source band, or the mean of all."""
    by_band = rearrange(weight, "(c p) ... -> c p ...", c=count)
    mean = by_band.mean(dim=0)
    return torch.cat([mean if s is None else by_band[s] for s in sources])


def fill(
    model: nn.Module,
    tensors: Mapping[str, Any],
    *,
    adapted: Sequence[Reshaped] = (),
    unused: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
) -> LoadReport:
    """Copy the tensors that fit, by the model's names, into a model, in place.

    `names` has the name in the source of those that it names otherwise; the rest is for the report.
    """
    own = model.state_dict()
    known = {n: t for n, t in tensors.items() if n in own and isinstance(t, Tensor)}
    fitting = {name: tensor for name, tensor in known.items() if tensor.shape == own[name].shape}
    if not fitting:
        raise TimoError(
            f"none of the {len(tensors)} weights fits the model: the first are {sorted(tensors)[:3]}, expected for "
            f"example {sorted(own)[:3]}. Are they of another model, or is the config?"
        )
    model.load_state_dict(fitting, strict=False)
    changed = {entry.name for entry in adapted}
    return LoadReport(
        loaded=tuple(name for name in fitting if name not in changed),
        adapted=tuple(adapted),
        missing=tuple(name for name in own if name not in known),
        misshapen=tuple(
            Reshaped(name, tuple(tensor.shape), tuple(own[name].shape))
            for name, tensor in known.items()
            if name not in fitting
        ),
        unexpected=tuple((names or {}).get(name, name) for name in tensors if name not in known),
        unused=tuple(unused),
    )


def announce(report: LoadReport, what: str) -> None:
    """Log a report, and warn of weights that the source did not give."""
    logger.info("weights of the %s:\n%s", what, report)
    kept = [*report.missing, *(entry.name for entry in report.misshapen)]
    if kept:
        more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
        warn(
            f"{len(kept)} weights of the {what} were not loaded and keep their initial (random) values: "
            f"{', '.join(kept[:3])}{more}; the report, which is logged too, names them all"
        )


def read_state_dict(source: Mapping[str, Any] | PathLike) -> dict[str, Any]:
    """Read a state dict from a file or a mapping, by the names that its model had, with all that lies beside it.

    It may lie under "model" or "state_dict", and names may begin with "module.". A pickle that holds more than weights
    is never run.
    """
    return _unwrap(source if isinstance(source, Mapping) else _read(check_name(source, "read")))


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
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
    ) as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign is None:
            raise TimoError(f"{path} is damaged or not a checkpoint: fetch it again") from error
        raise TimoError(
            f"{path} holds more than weights ({foreign[1]}), and reading that could run code: it was not read. If you "
            "trust it, load it yourself and save its state dict alone, as safetensors"
        ) from error


def _unwrap(found: Any) -> dict[str, Any]:
    """Return the state dict itself, without wrappers round it and before its names."""
    while isinstance(found, Mapping):
        inner = next((found[w] for w in WRAPPERS if isinstance(found.get(w), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        held = f"a {type(found).__name__}"
        if isinstance(found, Mapping):
            held = f"a mapping with {', '.join(map(repr, list(found)[:5])) or 'nothing'}"
        raise TimoError(f"expected a state dict, a mapping from names to tensors, got {held}")
    plain = {PREFIXES.sub("", str(name)): value for name, value in found.items()}
    for wrapper in WRAPPERS:
        if inside := within(plain, f"{wrapper}."):
            return inside
    return plain
