"""timo: from a rectangle on a map to a trustworthy map of change.

Everything loads on first use: ``import timo`` itself imports neither torch nor xarray.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "cube",
        "errors",
        "geostat",
        "inspection",
        "mapping",
        "models",
        "places",
        "sensors",
        "sources",
        "training",
    ],
    submod_attrs={
        "errors": ["TimoError"],
        "evaluate": ["Evaluation", "cross_validate", "evaluate"],
        "filling": ["fill"],
        "loading": ["load_model"],
        "mapping": ["estimate_area", "export", "loss_areas", "loss_year", "predict"],
        "models": ["create_encoder", "save"],
        "places": ["Place", "Places", "open_places", "read_labels"],
        "sources": ["fetch", "open_cube", "sample_clearings", "sample_labels", "simulate"],
        "training": ["Features", "finetune", "fit_head", "pretrain"],
    },
)
