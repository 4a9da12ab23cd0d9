"""Many labelled cubes: places, their labels from files and tables, their splits, and their packed form."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chip": ["Chip"],
        "labels": ["read_labels"],
        "opening": ["open_places"],
        "packed.packing": ["PackOptions", "Packed", "pack"],
        "packed.store": ["ChipStore"],
        "packed.verifying": ["Damage", "verify"],
        "place": ["Place"],
        "places": ["Places"],
        "report": ["LabelReport"],
        "split": ["Split"],
    },
)
