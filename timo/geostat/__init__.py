"""Statistics in space and time: variograms, kriging, filled gaps, regions.

Arrays of xarray in, arrays of xarray out; distances are metres, in any coordinate reference system. It stands
apart from the rest: nothing here knows of cubes, models or training.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clustering": ["find_regions", "gaussian_w2", "local_gaussians"],
        "fitting": ["fit_best", "fit_model"],
        "interpolation": ["EOFInterpolator", "EOFs", "decompose", "dineof"],
        "kriging": ["cross_validate", "interval", "krige"],
        "models": ["VariogramModel", "random_field"],
        "places": ["Places", "distances", "points"],
        "temporal": ["acf", "lag_curves", "pacf", "wasserstein1"],
        "variograms": ["generalized_variogram", "variogram"],
    },
)
