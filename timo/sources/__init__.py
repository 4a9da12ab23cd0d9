"""Where cubes come from: one door, `open_cube`, in front of one module per source."""

import lazy_loader

# Loaded on first use: rasterio and xarray take a second.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["earthengine"],
    submod_attrs={
        "earthengine": ["from_ee_image_collection"],
        "fetching": ["fetch"],
        "opening": ["SOURCES", "open_cube"],
        "place.aoi": ["Area", "parse_aoi"],
        "place.grid": ["PixelGrid"],
        "request": ["CubeRequest"],
        "sample": ["open_sample", "sample_clearings", "sample_labels", "sample_tree_cover"],
        "simulated": ["simulate"],
    },
)
