"""Where values lie, and how far apart in metres, whatever the coordinate reference system."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import xarray as xr

from timo.errors import TimoError
from timo.geostat.crs import crs_of, read_crs, short
from timo.geostat.values import as_floats

# Mean radius of the Earth in metres (IUGG).
EARTH_RADIUS_M = 6_371_008.8
# A projection whose lengths differ more than this from those on the ground is warned of.
_SCALE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Places:
    """Places with their coordinate reference system.

    Parameters
    ----------
    x, y : numpy.ndarray
        (n,) coordinates in the unit of the CRS: longitude and latitude where it is geographic.
    crs : pyproj.CRS or whatever makes one, optional
        None: a plane in metres.

    Raises
    ------
    TimoError
        If x and y differ in length, are not finite, or the CRS is none of the ground's.
    """

    x: np.ndarray
    y: np.ndarray
    crs: pyproj.CRS | None = None

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            values = np.atleast_1d(as_floats(getattr(self, name), name)).ravel()
            object.__setattr__(self, name, values)
        object.__setattr__(self, "crs", read_crs(self.crs))
        if self.x.shape != self.y.shape:
            raise TimoError(f"As many x as y are needed; got {self.x.size} and {self.y.size}.")
        if not (np.isfinite(self.x).all() and np.isfinite(self.y).all()):
            raise TimoError("Some coordinates are not finite. Drop these points first.")
        if self.geographic and (np.abs(self.radians()[1]) > np.pi / 2 + 1e-9).any():
            raise TimoError("Latitudes must be -90 to 90 degrees; are x and y swapped?")

    def __len__(self) -> int:
        return self.x.size

    def __getitem__(self, which: Any) -> Places:
        return Places(self.x[which], self.y[which], self.crs)

    @property
    def geographic(self) -> bool:
        """Whether the coordinates are degrees, and distances go along great circles."""
        return self.crs is not None and self.crs.is_geographic

    def radians(self) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude in radians, of degrees or whatever the geographic CRS counts in."""
        return self.x * self.unit(), self.y * self.unit()

    def unit(self) -> float:
        """Metres of one unit of the coordinates, of a geographic CRS radians; 1 without a CRS."""
        if self.crs is None:
            return 1.0
        units = {axis.unit_conversion_factor for axis in self.crs.axis_info[:2]}
        if len(units) != 1 or not min(units) > 0:
            raise TimoError(f"The axes of {self.crs.name!r} have no common unit. Reproject first.")
        return float(units.pop())

    def embed(self) -> np.ndarray:
        """Coordinates in metres, (n, 2) of a plane or (n, 3) on the sphere, for a KD-tree.

        On the sphere the straight line between two places is a chord; `distance_of_chord` gives the
        great-circle distance, and `chord_of_distance` turns a search radius into a chord.
        """
        if not self.geographic:
            return np.stack([self.x, self.y], axis=1) * self.unit()
        lon, lat = self.radians()
        cos = np.cos(lat)
        return EARTH_RADIUS_M * np.stack([cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)], 1)

    def distance_of_chord(self, chord: Any) -> Any:
        """Metres along the ground of a straight line between embedded places."""
        if not self.geographic:
            return chord
        return 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(chord / (2 * EARTH_RADIUS_M), 1))

    def chord_of_distance(self, distance: Any) -> Any:
        """Straight line between embedded places so many metres apart along the ground."""
        if not self.geographic:
            return distance
        angle = np.minimum(distance / (2 * EARTH_RADIUS_M), np.pi / 2)
        return 2 * EARTH_RADIUS_M * np.sin(angle)

    def extent_m(self) -> float:
        """Metres across: the diagonal of the box around the (embedded) places."""
        box = np.ptp(self.embed(), axis=0) if len(self) else np.zeros(2)
        return float(self.distance_of_chord(np.hypot.reduce(box)))


def points(x: Any, y: Any, values: Any, crs: Any = None, *, time: Any = None) -> xr.DataArray:
    """Make a set of points, as everything in `timo.geostat` takes it.

    Parameters
    ----------
    x, y : array_like
        (n,) coordinates in the unit of the CRS (longitude and latitude in degrees).
    values : array_like
        (n,), or (time, n) with `time`; copied. What a numpy mask hides becomes NaN.
    crs : anything that pyproj.CRS.from_user_input takes, optional
        None: a plane in metres.
    time : array_like, optional
        Dates of the values' first axis (texts are read as such), or numbers.

    Returns
    -------
    xarray.DataArray
        Dim "point" (and "time"), coordinates x and y; the CRS in `attrs["crs"]` and in the
        coordinate spatial_ref, which arithmetic keeps.

    Raises
    ------
    TimoError
        If the lengths differ, values or coordinates are no numbers, coordinates are not finite, or
        the CRS or the dates are not understood.

    Warns
    -----
    UserWarning
        If no CRS is given and the coordinates look like degrees.
    """
    places = Places(x, y, crs)
    _warn_of_degrees(places)
    data = as_floats(values)
    time = None if time is None else _dates(time)
    shape = (len(places),) if time is None else (time.size, len(places))
    if data.shape != shape:
        raise TimoError(f"The values must have the shape {shape}; got {data.shape}.")
    coords: dict[str, Any] = {"x": ("point", places.x), "y": ("point", places.y)}
    dims: tuple[str, ...] = ("point",)
    if time is not None:
        coords["time"], dims = time, ("time", "point")
    attrs = {} if places.crs is None else {"crs": short(places.crs)}
    if places.crs is not None:
        coords["spatial_ref"] = ((), 0, places.crs.to_cf())
    return xr.DataArray(data, dims=dims, coords=coords, attrs=attrs)


def places_of(obj: xr.DataArray | xr.Dataset | Places) -> Places:
    """Places of a set of points, or of a raster's cells row by row.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
        With the dim "point" and the coordinates x and y on it, or with dims y and x.

    Returns
    -------
    Places
        (n,) or (y * x,), in the order of `values.ravel()` over these dims.

    Raises
    ------
    TimoError
        If it is neither, or names two reference systems.

    Warns
    -----
    UserWarning
        If it has no CRS and the coordinates look like degrees.
    """
    if isinstance(obj, Places):
        return obj
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        raise TimoError(
            f"Takes an xarray.DataArray; got {type(obj).__name__}. "
            "Use timo.geostat.points(x, y, values, crs=...)."
        )
    if "point" in obj.dims:
        if any(name not in obj.coords or obj[name].dims != ("point",) for name in "xy"):
            raise TimoError(
                'Points need the coordinates x and y on the dim "point". '
                "Use timo.geostat.points(x, y, values, crs=...)."
            )
        places = Places(obj["x"].values, obj["y"].values, crs_of(obj))
        _warn_of_degrees(places)
        return places
    if not {"y", "x"} <= set(obj.dims) or not {"y", "x"} <= set(obj.coords):
        raise TimoError(
            'Takes points (dim "point", coordinates x and y) or a raster (dims and coordinates y and x); '
            f"got dims {tuple(obj.dims)} and coordinates {tuple(obj.coords)}."
        )
    x, y = np.meshgrid(obj["x"].values, obj["y"].values)
    places = Places(x.ravel(), y.ravel(), crs_of(obj))
    _warn_of_degrees(places)
    return places


def _warn_of_degrees(places: Places) -> None:
    """Warn where coordinates without a CRS look like longitude and latitude."""
    if places.crs is not None or len(places) < 2:
        return
    x, y = places.x, places.y
    if np.abs(x).max() > 360 or np.abs(y).max() > 90 or max(np.ptp(x), np.ptp(y)) >= 90:
        return
    # Numbers of pixels, or their middles, are no degrees; nor is a made-up square from 0 on.
    halves = all((2 * axis == np.rint(2 * axis)).all() for axis in (x, y))
    from_zero = all(0 <= axis.min() <= 0.25 * np.ptp(axis) for axis in (x, y))
    if not (halves or from_zero):
        warnings.warn(
            "These look like degrees, and no CRS was given: distances are counted as metres. "
            'Pass crs="EPSG:4326".',
            UserWarning,
            stacklevel=3,
        )


def _dates(time: Any) -> np.ndarray:
    """Dates as datetime64, or numbers as they are."""
    import pandas as pd

    array = np.atleast_1d(np.asarray(time))
    if array.dtype.kind in "iufM":
        return array
    try:
        read = pd.to_datetime(array)
    except (ValueError, TypeError) as error:
        raise TimoError(f"The dates are not understood ({error}). Use pd.to_datetime.") from error
    if not isinstance(read, pd.DatetimeIndex):
        raise TimoError("The dates have no common time zone. Use pd.to_datetime(dates, utc=True).")
    return (read if read.tz is None else read.tz_convert("UTC").tz_localize(None)).to_numpy()


def check_same_crs(a: Places, b: Places) -> None:
    """Refuse places of two reference systems: nothing here reprojects unasked.

    Raises
    ------
    TimoError
        If the two differ, or only one of them is known.
    """
    if a.crs is None and b.crs is None:
        return
    if a.crs is None or b.crs is None or not a.crs.equals(b.crs, True):
        names = [None if p.crs is None else p.crs.name for p in (a, b)]
        raise TimoError(
            f"Places of two reference systems, {names[0]!r} and {names[1]!r}. Bring one to the other: "
            "raster.rio.reproject(...), or pyproj.Transformer for points."
        )


def distances(a: Places | xr.DataArray, b: Places | xr.DataArray | None = None) -> np.ndarray:
    """Distances in metres between all of `a` and all of `b` (or of `a`).

    Parameters
    ----------
    a, b : Places, or whatever `places_of` takes
        n and m places.

    Returns
    -------
    numpy.ndarray
        (n, m) float64. On a plane straight lines; of degrees great circles on a sphere of radius
        6,371,008.8 m by the haversine formula (Sinnott 1984, Sky & Telescope 68, 159), which differ
        from the ellipsoid's by up to 0.56 %.

    Raises
    ------
    TimoError
        If the two are in different reference systems.
    """
    a = places_of(a)
    b = a if b is None else places_of(b)
    check_same_crs(a, b)
    if not a.geographic:
        return np.hypot(a.x[:, None] - b.x, a.y[:, None] - b.y) * a.unit()
    (lon_a, lat_a), (lon_b, lat_b) = a.radians(), b.radians()
    lat_a, half_lon = lat_a[:, None], (lon_a[:, None] - lon_b) / 2
    sin2 = np.sin((lat_a - lat_b) / 2) ** 2
    sin2 = sin2 + np.cos(lat_a) * np.cos(lat_b) * np.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(sin2, 1)))


def warn_of_distortion(places: Places) -> None:
    """Warn where the projection's metres are not those on the ground (Web Mercator, a wrong zone)."""
    if places.crs is None or places.geographic or not len(places):
        return
    scale = _scale(places.crs, round(float(places.x.mean())), round(float(places.y.mean())))
    if not abs(scale - 1) <= _SCALE_TOLERANCE:
        warnings.warn(
            f"Distances in {places.crs.name!r} are {scale:.3g} times the true ones here, and so are ranges. "
            "Reproject to the UTM zone first: array.rio.reproject(array.rio.estimate_utm_crs()).",
            UserWarning,
            stacklevel=3,
        )


@lru_cache(maxsize=256)
def _scale(crs: pyproj.CRS, x: int, y: int) -> float:
    """Length on the map over that on the ground, the geometric mean of both directions."""
    if not crs.is_projected:
        return 1.0
    projection = pyproj.Proj(crs)
    lon, lat = projection(x, y, inverse=True)
    if not (np.isfinite(lon) and np.isfinite(lat)):
        return 1.0
    return float(np.sqrt(projection.get_factors(lon, lat).areal_scale))
