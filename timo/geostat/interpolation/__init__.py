"""Fields from stations, and series without gaps, by empirical orthogonal functions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "eof": ["EOFs", "decompose"],
        "gappy": ["dineof"],
        "in_time": ["linear_in_time", "monthly_climatology"],
        "interpolator": ["EOFInterpolator"],
    },
)
