"""Forest clearings of the sample, interpreted by eye with their years: for checking maps, not for training."""

import json
from importlib.resources import files
from typing import Literal

import numpy as np
import xarray as xr
from rasterio.features import rasterize

from timo.errors import TimoError
from timo.sources.sample import sample_tree_cover

YEARS = ("year", "first_summer")


def sample_clearings(
    dated_by: Literal["year", "first_summer"] = "first_summer", *, road_works: bool = False
) -> xr.DataArray:
    """Photo-interpreted forest clearings of the sample, 2016-2020, on the 10 m grid.

    Outlines are within about half a pixel, the smallest patch has 0.03 ha; method and limits stand in
    ``timo/sources/sample_clearings.geojson``. The whole area was interpreted, so that every pixel has its reference.

    Parameters
    ----------
    dated_by : {"first_summer", "year"}
        "first_summer": the first June-August in which a clearing is visible, which is what a map made from summer
        images can know; "year": the calendar year in which it is first visible. They differ for nine clearings (2.7 ha)
        cut in the autumn of 2019.
    road_works : bool
        Also the trees taken away along the road in 2016-2017, whose outlines are weak.

    Returns
    -------
    xarray.DataArray
        (y, x) int16: 0 = no clearing, else the year.

    Raises
    ------
    TimoError
        If `dated_by` is unknown.
    """
    if dated_by not in YEARS:
        raise TimoError(f"dated_by is one of {', '.join(YEARS)}, got {dated_by!r}")
    grid = sample_tree_cover()
    source = files("timo.sources") / "sample_clearings.geojson"
    collection = json.loads(source.read_text(encoding="utf-8"))
    shapes = [
        (feature["geometry"], feature["properties"][dated_by])
        for feature in collection["features"]
        if road_works or feature["properties"]["cause"] == "felling"
    ]
    years = rasterize(
        shapes, out_shape=grid.shape, transform=grid.rio.transform(recalc=True), dtype="int32"
    )
    clearings = grid.copy(data=years.astype(np.int16)).rename("clearing")
    # Not those of the tree cover, whose grid it is.
    clearings.attrs = {
        "long_name": f"clearing, {dated_by}",
        "flags": "0 = no clearing",
        "attribution": collection["metadata"]["attribution"],
    }
    return clearings
