"""Former home of the chip stores, now in `timo.places`, and of the chips, now `timo.training.Windows`."""

import importlib
from typing import Any

from timo.errors import warn

# Name here -> where it is now.
_NOW = {
    **{name: f"timo.places.{name}" for name in ("Chip", "ChipStore", "Damage", "PackOptions")},
    **{name: f"timo.places.{name}" for name in ("Packed", "pack", "verify")},
    **{name: f"timo.training.{name}" for name in ("ChipOptions", "collate")},
    **{name: f"timo.training.chips.former.{name}" for name in ("ChipDataset", "StoreDataset")},
    "StoreOptions": "timo.training.chips.former.StoreOptions",
    "UNLABELLED": "timo.cube.labels.UNLABELLED",
}
__all__ = list(_NOW)


def __getattr__(name: str) -> Any:
    if name not in _NOW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _NOW[name].rpartition(".")
    if module != f"{__name__}.former":
        warn(f"timo.training.chips.{name} is called {_NOW[name]} now.", DeprecationWarning)
    return getattr(importlib.import_module(module), attribute)
