"""Random fields whose variogram is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.geostat.models import VariogramModel, _gstools
from timo.geostat.places import places_of


def random_field(
    template: xr.DataArray | xr.Dataset | tuple[int, int],
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
        If gstools is not installed.

    Notes
    -----
    Randomization method with 1000 modes (Heße et al. 2014, Environmental Modelling & Software 55,
    32). In a geographic CRS the correlation is that of the chord, not of the great circle.
    """
    if isinstance(template, tuple):
        if len(template) != 2:
            raise TimoError(f"A shape is (height, width) in cells; got {template}.")
        template = xr.DataArray(
            np.empty(template),
            dims=("y", "x"),
            coords={
                "y": cell_m * (np.arange(template[0])[::-1] + 0.5),
                "x": cell_m * (np.arange(template[1]) + 0.5),
            },
        )
    place = places_of(template).embed()
    spatial: Any = ("point",) if "point" in template.dims else ("y", "x")
    field = _gstools().SRF(model.to_gstools(place.shape[1]), mean=mean, seed=seed)
    values = np.asarray(field(tuple(place.T), mesh_type="unstructured"))
    shape = [template.sizes[dim] for dim in spatial]
    kept = {n: c for n, c in template.coords.items() if set(c.dims) <= set(spatial)}
    attrs = {key: template.attrs[key] for key in ("crs",) if key in template.attrs}
    return xr.DataArray(values.reshape(shape), dims=spatial, coords=kept, attrs=attrs)
