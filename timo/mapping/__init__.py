"""From a model and a cube to maps, areas and files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "area": ["AreaEstimate", "allocate", "estimate_area", "sample_size"],
        "change": ["loss_year"],
        "export": ["export"],
        "predict": ["predict"],
        "provenance": ["provenance"],
    },
)
