"""Labelling: shapes and pixels, classes and dates, undone, saved, aligned to the cube."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["label_files"])
