"""Cubes from Google Earth Engine: filtered, masked, scaled and composited on its servers, fetched chunk by chunk."""

import lazy_loader

# Loaded on first use: Earth Engine's client and xee take two seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "connecting": ["connect"],
        "collection": ["from_ee_image_collection"],
        "opening": ["Estimate", "estimate", "open_earthengine"],
    },
)
