"""Fields from stations, and series without gaps, by empirical orthogonal functions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dineof": ["dineof"],
        "eof": ["EOFs", "decompose"],
        "interpolator": ["EOFInterpolator"],
    },
)
