"""Labels made for one year, laid on the dates of a series."""

from typing import Annotated

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.checks import NotNegative, Range, checked
from timo.cube.composite import season_years
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError

Month = Annotated[int, Range(least=1, most=12)]
SUMMER = (6, 8)


@checked
def labels_in_time(
    labels: xr.DataArray,
    cube: xr.DataArray,
    year: int,
    *,
    max_change: NotNegative = 0.1,
    months: tuple[Month, Month] = SUMMER,
) -> xr.DataArray:
    """Lay labels of one year on every date of a cube, except where the ground has changed.

    A label of 2018 says nothing of a date in 2017 if the pixel was cut in between. On the dates of other years a pixel
    is left unlabelled where the median NDVI of the summer differs by more than `max_change` from the labels' year, or
    where one of the two summers has no observation.

    Parameters
    ----------
    labels : xarray.DataArray
        (y, x) classes, -1 = unlabelled, or values to predict (floats), NaN = unlabelled.
    cube : xarray.DataArray
        The cube, with a red and a near infrared band.
    year : int
        Year that the labels are true for.
    max_change : float
        Largest difference of the NDVI of an unchanged pixel.
    months : (int, int)
        First and last month of the season that is compared. It may go over the turn of the year: (12, 2) is December
        to February. Its year is that of its end, and years then go from its first month on: December 2018 belongs to
        2019, and `year=2019` means the winter 2018/19.

    Returns
    -------
    xarray.DataArray
        (time, y, x) int16, -1 = unlabelled, or float32.

    Raises
    ------
    TimoError
        If the labels are on another grid, or the cube has no date in this season of this year.
    """
    cubes.check_labels(labels, cubes.check(cube), numeric=None)
    if "time" in labels.dims:
        raise TimoError(
            "labels_in_time takes labels without dates, (y, x); these have dates. Use labels.isel(time=...)."
        )
    years, within = season_years(cube.indexes["time"], months)
    # Read once: what follows asks for it several times.
    index = cubes.ndvi(cube).where(xr.DataArray(within, dims="time")).compute()
    if not index.isel(time=within & (years == year)).notnull().any():
        raise TimoError(
            f"The cube has no observation in the months {months[0]}-{months[1]} of {year}, the labels' year"
            f"{' (that of the end of the season)' if months[0] > months[1] else ''}. Open it with that year, or give "
            "other months=(first, last)."
        )
    numbers = labels.dtype.kind == "f"
    values = labels.values.astype("float32" if numbers else "int16")
    unlabelled = np.nan if numbers else UNLABELLED
    summer = {y: index.isel(time=years == y).median("time") for y in np.unique(years)}
    dated = np.empty((cube.sizes["time"], *labels.shape), dtype=values.dtype)
    for other, median in summer.items():
        same = (abs(median - summer[year]) <= max_change).values | (other == year)
        dated[years == other] = np.where(same, values, unlabelled)
    return xr.DataArray(
        dated,
        dims=("time", "y", "x"),
        coords={
            name: cube[name] for name in ("time", "y", "x", "spatial_ref") if name in cube.coords
        },
        attrs=labels.attrs,
        name=labels.name,
    )
