"""Prithvi-EO's encoder, from terratorch's one module that holds it, where that can be imported.

terratorch as a whole needs torchvision and much else; ``prithvi_mae.py`` needs of timm a block and a helper. Where timm
is not there, or cannot be imported because torchvision cannot, they are stood in for by the same block written here.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn
from torch.nn import functional as F

from timo.errors import TimoError

MODULE = Path("models", "backbones", "prithvi_mae.py")
BANDS = 6
# Prithvi-EO-2.0 (Szwarcman et al. 2024), table 1.
SIZES = {
    "prithvi-100m": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "prithvi-300m": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


class Block(nn.Module):
    """The pre-norm block of a vision transformer, as timm's of that name without its options."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, *, norm_layer: type[nn.Module], **_: Any
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.heads = num_heads
        self.norm1, self.norm2 = norm_layer(dim), norm_layer(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, c // self.heads)
        attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.proj(attended.transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.norm2(x))


@contextmanager
def timm() -> Iterator[str]:
    """Timm, or what stands in for it; gives a word on which it is."""
    try:
        import timm.models.vision_transformer  # noqa: F401
    except (ImportError, RuntimeError) as error:
        parts = {name: ModuleType(name) for name in ("timm", "timm.layers", "timm.models")}
        transformer = ModuleType("timm.models.vision_transformer")
        parts["timm.layers"].to_2tuple = lambda x: (x, x) if isinstance(x, int) else tuple(x)  # type: ignore[attr-defined]
        transformer.Block = Block  # type: ignore[attr-defined]
        with patch.dict(sys.modules, {**parts, transformer.__name__: transformer}):
            yield f"timm's block stood in for, because timm cannot be imported ({error})"
    else:
        yield "with timm's block"


def find(given: Path | None) -> Path:
    """``prithvi_mae.py`` itself, in a folder, or in an installed terratorch (which is not imported).

    Raises
    ------
    TimoError
        If it is not there.
    """
    installed = importlib.util.find_spec("terratorch")
    places = [given] if given else []
    places += [Path(installed.origin).parent] if installed and installed.origin else []
    for place in places:
        if place.is_file():
            return place
        if found := next(iter(sorted(place.rglob(MODULE.name))), None):
            return found
    raise TimoError(
        "terratorch's prithvi_mae.py was not found: unpack its wheel (pip download --no-deps terratorch) and give "
        "the folder by --peer"
    )


def load(path: Path) -> tuple[ModuleType, str]:
    """The module at a path, and a word on how it was imported."""
    with timm() as how:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise TimoError(f"{path} is no Python module")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module, how


class Prithvi(nn.Module):
    """A Prithvi encoder that takes a series as TiMo does: x (b t c h w)."""

    def __init__(self, module: ModuleType, size: str, dates: int, pixels: int) -> None:
        super().__init__()
        patch_size = (1, 16, 16)
        self.vit = module.PrithviViT(
            img_size=pixels, patch_size=patch_size, num_frames=dates, in_chans=BANDS, **SIZES[size]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.vit.forward_features(x.transpose(1, 2))
        return features[-1:]
