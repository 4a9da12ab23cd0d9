"""A reading of the sample's images by eye: where forest was cleared, and when. For checking maps, not for training."""

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

    One interpretation of the images, outlines within about half a pixel, smallest patch 0.03 ha; its method and limits
    stand in ``timo/sources/sample_clearings.geojson``. It covers the whole area, so that the reference class of any
    sample of pixels can be looked up in it.

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
    text = (files("timo.sources") / "sample_clearings.geojson").read_text(encoding="utf-8")
    collection = json.loads(text)
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
