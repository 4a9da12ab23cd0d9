"""STAC: Planetary Computer, Earth Search, other catalogues of satellite images, or one on disk."""

from timo.sources.stac.opening import open_stac

__all__ = ["open_stac"]
