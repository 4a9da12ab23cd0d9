"""Random fields whose variogram is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.geostat.models import VariogramModel, _gstools
from timo.geostat.options import is_scalar
from timo.geostat.places import places_of


def random_field(
    template: xr.DataArray | xr.Dataset | tuple[int, int] | list[int],
    model: VariogramModel,
    seed: int,
    *,
    cell_m: float = 1.0,
    mean: float = 0.0,
) -> xr.DataArray:
    """Draw a Gaussian random field with a given variogram, with gstools.

    Parameters
    ----------
    template : xarray.DataArray, xarray.Dataset or (int, int)
        Where: points, a raster, or the height and width in cells of a raster on a plane.
    model : VariogramModel
        Of the field. Its nugget is drawn for each place by itself.
    seed : int
        The same seed gives the same field.
    cell_m : float
        Size of a cell in metres, if `template` is a shape.
    mean : float
        Of the field.

    Returns
    -------
    xarray.DataArray
        (y, x) or (point,) float64.

    Raises
    ------
    TimoError
        If gstools is not installed, `model` is no `VariogramModel`, or the shape or a number is none.

    Notes
    -----
    Randomization method with 1000 modes (Heße et al. 2014, Environmental Modelling & Software 55,
    32). In a geographic CRS the correlation is that of the chord, not of the great circle.
    """
    if not isinstance(model, VariogramModel):
        raise TimoError(f"model is a VariogramModel(kind, sill, range_m, nugget); got {model!r}.")
    if not is_scalar(mean) or not is_scalar(cell_m) or cell_m <= 0:
        raise TimoError(f"mean is a number and cell_m one above 0; got {mean!r} and {cell_m!r}.")
    if isinstance(template, tuple | list):
        template = _plane(template, cell_m)
    place = places_of(template).embed()
    spatial: Any = ("point",) if "point" in template.dims else ("y", "x")
    field = _gstools().SRF(model.to_gstools(place.shape[1]), mean=mean, seed=seed)
    values = np.asarray(field(tuple(place.T), mesh_type="unstructured"))
    shape = [template.sizes[dim] for dim in spatial]
    kept = {n: c for n, c in template.coords.items() if set(c.dims) <= set(spatial)}
    attrs = {key: template.attrs[key] for key in ("crs",) if key in template.attrs}
    return xr.DataArray(values.reshape(shape), dims=spatial, coords=kept, attrs=attrs)


def _plane(shape: tuple[int, ...] | list[int], cell_m: float) -> xr.DataArray:
    """An empty raster of so many cells on a plane, north up."""
    whole = [size for size in shape if is_scalar(size) and int(size) == size and size >= 1]
    if len(shape) != 2 or len(whole) != 2:
        raise TimoError(f"A shape is (height, width) in whole cells, 1 or more; got {shape!r}.")
    height, width = (int(size) for size in whole)
    return xr.DataArray(
        np.empty((height, width)),
        dims=("y", "x"),
        coords={
            "y": cell_m * (np.arange(height)[::-1] + 0.5),
            "x": cell_m * (np.arange(width) + 0.5),
        },
    )
