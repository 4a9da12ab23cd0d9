"""Where values lie, and how far apart in metres, in any coordinate reference system."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyproj
import xarray as xr

from timo.checks import checked
from timo.crs import crs_name, crs_of_mapping, parse_crs
from timo.errors import TimoError, warn
from timo.geostat.values import Field, as_floats, real_array

# Mean radius of the Earth in metres (IUGG).
EARTH_RADIUS_M = 6_371_008.8
# A projection whose lengths differ more than this from those on the ground is warned of.
_SCALE_TOLERANCE = 0.05

Placed = TypeVar("Placed", xr.DataArray, xr.Dataset)


@dataclass(frozen=True, init=False)
class Places:
    """Places with their coordinate reference system.

    Parameters
    ----------
    x, y : array_like
        (n,) coordinates in the unit of the CRS: longitude and latitude where it is geographic.
    crs : anything that pyproj.CRS.from_user_input takes, optional
        None: a plane in metres.

    Raises
    ------
    TimoError
        If x and y differ in length or are not finite, or distances in the CRS are not along the ground.
    """

    x: np.ndarray
    y: np.ndarray
    crs: pyproj.CRS | None = None

    @checked
    def __init__(self, x: Any, y: Any, crs: Any = None) -> None:
        for name, values in {"x": x, "y": y}.items():
            object.__setattr__(self, name, np.atleast_1d(as_floats(values, name)).ravel())
        object.__setattr__(self, "crs", _ground_crs(crs))
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
        """Whether the coordinates are angles, and distances go along great circles."""
        return self.crs is not None and self.crs.is_geographic

    def radians(self) -> tuple[np.ndarray, np.ndarray]:
        """Return longitude and latitude in radians, of degrees or grads."""
        return self.x * self.unit(), self.y * self.unit()

    def unit(self) -> float:
        """Return the metres of one unit of the coordinates, of a geographic CRS radians; 1 without a CRS."""
        if self.crs is None:
            return 1.0
        units = {axis.unit_conversion_factor for axis in self.crs.axis_info[:2]}
        if len(units) != 1 or not min(units) > 0:
            raise TimoError(f"The axes of {self.crs.name!r} have no common unit. Reproject first.")
        return float(units.pop())

    def embed(self) -> np.ndarray:
        """Return coordinates in metres, (n, 2) of a plane or (n, 3) on the sphere, for a KD-tree.

        Straight lines on the sphere are chords: see `distance_of_chord` and `chord_of_distance`.
        """
        if not self.geographic:
            return np.stack([self.x, self.y], axis=1) * self.unit()
        lon, lat = self.radians()
        cos = np.cos(lat)
        return EARTH_RADIUS_M * np.stack([cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)], 1)

    @checked
    def distance_of_chord(self, chord: Any) -> Any:
        """Return the metres along the ground of a straight line between embedded places."""
        chord = real_array(chord, "chord")[()]
        if not self.geographic:
            return chord
        return 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(chord / (2 * EARTH_RADIUS_M), 1))

    @checked
    def chord_of_distance(self, distance: Any) -> Any:
        """Return the straight line between embedded places that are these metres apart along the ground."""
        distance = real_array(distance, "distance")[()]
        if not self.geographic:
            return distance
        angle = np.minimum(distance / (2 * EARTH_RADIUS_M), np.pi / 2)
        return 2 * EARTH_RADIUS_M * np.sin(angle)

    def extent_m(self) -> float:
        """Return the metres across: the diagonal of the box around the (embedded) places."""
        box = np.ptp(self.embed(), axis=0) if len(self) else np.zeros(2)
        return float(self.distance_of_chord(np.hypot.reduce(box)))


@checked
def points(x: Any, y: Any, values: Any, crs: Any = None, *, time: Any = None) -> xr.DataArray:
    """Make a set of points, as everything in `timo.geostat` takes it.

    Parameters
    ----------
    x, y, crs
        As of `Places`.
    values : array_like
        (n,), or (time, n) with `time`; copied. What a mask of NumPy hides becomes NaN.
    time : array_like, optional
        Dates of the values' first axis (text is read as such), or numbers.

    Returns
    -------
    xarray.DataArray
        Dim "point" (and "time"), coordinates x and y; the CRS in `attrs["crs"]` and in the coordinate spatial_ref,
        which arithmetic keeps.

    Raises
    ------
    TimoError
        As `Places`, or if values are no numbers or of another length, or the dates are not understood.

    Warns
    -----
    UserWarning
        If no CRS is given and the coordinates look like degrees.
    """
    places = Places(x, y, crs)
    _warn_of_degrees(places)
    data = as_floats(values)
    time = None if time is None else read_dates(time)
    shape = (len(places),) if time is None else (time.size, len(places))
    if data.shape != shape:
        raise TimoError(
            f"values must have the shape {shape}, one for each place{'' if time is None else ' and date'}; "
            f"got {data.shape}."
        )
    coords: dict[str, Any] = {"x": ("point", places.x), "y": ("point", places.y)}
    dims: tuple[str, ...] = ("point",)
    if time is not None:
        coords["time"], dims = time, ("time", "point")
    attrs = {}
    if places.crs is not None:
        attrs["crs"], coords["spatial_ref"] = crs_name(places.crs), ((), 0, places.crs.to_cf())
    return xr.DataArray(data, dims=dims, coords=coords, attrs=attrs)


def read_dates(time: Any) -> np.ndarray:
    """Return dates as datetime64 (UTC where they have a time zone), or numbers as they are."""
    import pandas as pd

    try:
        array = np.atleast_1d(np.asarray(time))
        if array.ndim != 1:
            raise ValueError(f"they have {array.ndim} dimensions")
        if array.dtype.kind in "iufM":
            return array
        read = pd.to_datetime(array)
    except (ValueError, TypeError) as error:
        raise TimoError(f"The dates are not understood ({error}). Use pd.to_datetime.") from error
    if not isinstance(read, pd.DatetimeIndex):
        raise TimoError("The dates have no common time zone. Use pd.to_datetime(dates, utc=True).")
    return (read if read.tz is None else read.tz_convert("UTC").tz_localize(None)).to_numpy()


def places_of(obj: xr.DataArray | xr.Dataset | Places) -> Places:
    """Return the places of a set of points, or of a raster's cells in the order of `values.ravel()` over (y, x)."""
    if isinstance(obj, Places):
        return obj
    if spatial_dims(obj) == ("point",):
        if any(name not in obj.coords or obj[name].dims != ("point",) for name in "xy"):
            raise TimoError(
                'Points need the coordinates x and y on the dim "point". '
                "Use timo.geostat.points(x, y, values, crs=...)."
            )
        x, y = obj["x"].values, obj["y"].values
    else:
        x, y = (axis.ravel() for axis in np.meshgrid(obj["x"].values, obj["y"].values))
    places = Places(x, y, crs_of(obj))
    _warn_of_degrees(places)
    return places


def spatial_dims(obj: xr.DataArray | xr.Dataset) -> tuple[str, ...]:
    """Return the dims of the places: ("point",) or ("y", "x")."""
    if "point" in obj.dims:
        return ("point",)
    if {"y", "x"} <= set(obj.dims) & set(obj.coords):
        return ("y", "x")
    raise TimoError(
        'Takes points (dim "point", coordinates x and y) or a raster (dims and coordinates y and x); '
        f"got dims {tuple(obj.dims)} and coordinates {tuple(obj.coords)}. "
        "Use timo.geostat.points(x, y, values, crs=...)."
    )


def crs_of(obj: xr.DataArray | xr.Dataset) -> pyproj.CRS | None:
    """Return the coordinate reference system, if there is one.

    From `attrs["crs"]`, or the attributes of the coordinate that "grid_mapping" names, of spatial_ref or of crs (CF
    conventions 1.11, 5.6); if both are there, they must agree.
    """
    named, written = _ground_crs(obj.attrs.get("crs")), _written_crs(obj)
    if named is not None and written is not None and not named.equals(written, True):
        raise TimoError(
            f'Two reference systems: attrs["crs"] is {named.name!r}, spatial_ref {written.name!r}. '
            "Drop the wrong one."
        )
    return named if named is not None else written


def _written_crs(obj: xr.DataArray | xr.Dataset) -> pyproj.CRS | None:
    """Return the CRS of the first coordinate (of a dataset also variable) that has one written on it."""
    held: Any = obj.coords if isinstance(obj, xr.DataArray) else obj.variables
    arrays = [obj] if isinstance(obj, xr.DataArray) else [obj, *obj.data_vars.values()]
    named = [
        place.get("grid_mapping") for array in arrays for place in (array.encoding, array.attrs)
    ]
    for name in (*named, "spatial_ref", "crs"):
        about = held[name].attrs if isinstance(name, str) and name in held else {}
        if {"crs_wkt", "spatial_ref", "grid_mapping_name"} & set(about):
            return _ground_crs(crs_of_mapping(about, f"The coordinate {name!r}", parse_crs))
    return None


def _ground_crs(crs: Any) -> pyproj.CRS | None:
    """Return a CRS in which distances are along the ground; None stays None."""
    read = None if crs is None else parse_crs(crs)
    if read is None or read.is_geographic or read.is_projected or read.is_engineering:
        return read
    raise TimoError(f"Distances in {read.name!r} are not along the ground. Reproject first.")


def with_crs(array: Placed, crs: pyproj.CRS | None) -> Placed:
    """Write the CRS of a grid where it is looked for: of points to attrs["crs"], of a raster to spatial_ref."""
    if crs is None:
        return array
    if "point" in array.dims:
        attrs = [array.attrs]
        if isinstance(array, xr.Dataset):
            attrs += [variable.attrs for variable in array.data_vars.values()]
        for kept in attrs:
            kept["crs"] = crs_name(crs)
        return array
    written = array.coords.get("spatial_ref")
    if written is not None and {"crs_wkt", "spatial_ref"} & set(written.attrs):
        return array
    return array.assign_coords(spatial_ref=((), 0, crs.to_cf()))


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
        warn(
            "These look like degrees, and no CRS was given: distances are counted as metres. "
            'Pass crs="EPSG:4326".'
        )


def check_same_crs(a: Places, b: Places) -> None:
    """Refuse places of two reference systems, or of one and none: nothing here reprojects unasked."""
    if a.crs is None and b.crs is None:
        return
    if a.crs is None or b.crs is None or not a.crs.equals(b.crs, True):
        names = [None if p.crs is None else p.crs.name for p in (a, b)]
        raise TimoError(
            f"Places of two reference systems, {names[0]!r} and {names[1]!r}. Bring one to the other: "
            "raster.rio.reproject(...), or pyproj.Transformer for points."
        )


@checked
def distances(
    a: Places | Field | xr.Dataset, b: Places | Field | xr.Dataset | None = None
) -> np.ndarray:
    """Return the distances in metres between all of `a` and all of `b` (or of `a`).

    Parameters
    ----------
    a, b : Places, points or raster
        n and m places.

    Returns
    -------
    numpy.ndarray
        (n, m) float64. On a plane straight lines; of degrees great circles on a sphere of radius 6,371,008.8 m by the
        haversine formula (Sinnott 1984, Sky & Telescope 68, 159), which differ from the ellipsoid's by up to 0.56 %.

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
        warn(
            f"Distances in {places.crs.name!r} are {scale:.3g} times the true ones here, and so are ranges. "
            "Reproject to the UTM zone first: array.rio.reproject(array.rio.estimate_utm_crs())."
        )


@lru_cache(maxsize=256)
def _scale(crs: pyproj.CRS, x: int, y: int) -> float:
    """Return the length on the map over that on the ground, the geometric mean of both directions."""
    if not crs.is_projected:
        return 1.0
    projection = pyproj.Proj(crs)
    lon, lat = projection(x, y, inverse=True)
    if not (np.isfinite(lon) and np.isfinite(lat)):
        return 1.0
    return float(np.sqrt(projection.get_factors(lon, lat).areal_scale))
