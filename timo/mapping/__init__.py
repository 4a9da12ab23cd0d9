"""From a model and a cube to maps, areas and files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["loss_agreement"],
        "area": ["AreaEstimate", "estimate_area", "loss_areas"],
        "change": ["loss_year", "mean_probability"],
        "export": ["export"],
        "interpretation": ["read_sample", "write_sample"],
        "polygons": ["to_polygons"],
        "predict": ["compute", "predict"],
        "provenance": ["provenance"],
        "residuals": ["HeldOutErrors", "held_out_errors", "residuals"],
        "sampling": ["allocate", "pixel_areas", "sample_size", "stratified_sample"],
    },
)
