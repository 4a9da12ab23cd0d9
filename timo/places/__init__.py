"""Many labelled cubes: places, their labels from files and tables, their splits, and their packed form."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chip": ["Chip"],
        "place": ["Place"],
        "places": ["Places"],
        "split": ["Split"],
    },
)
