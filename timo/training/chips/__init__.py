"""Training chips: windows of cubes, drawn from a cube in memory or from a store on disk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chip": ["UNLABELLED", "Chip", "collate"],
        "dataset": ["ChipDataset", "ChipOptions", "StoreDataset", "StoreOptions"],
        "packing": ["PackOptions", "Packed", "pack"],
        "store": ["ChipStore"],
        "verifying": ["Damage", "verify"],
    },
)
