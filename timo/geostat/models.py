"""Models of the semivariance: a few numbers that say how values come apart with distance; random fields of them.

Chilès and Delfiner 2012, Geostatistics: Modeling Spatial Uncertainty, 2nd ed., chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import kve

from timo.checks import Count, NotNegative, Positive, Seed, checked, described
from timo.errors import TimoError
from timo.geostat.places import places_of, spatial_dims
from timo.geostat.values import Field, real_array

Kind = Literal["spherical", "exponential", "gaussian", "stable", "matern"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Shapes that a model takes: the power of the stable model, the smoothness nu of Matérn's.
SHAPES = {"stable": (0.05, 2.0), "matern": (0.05, 20.0)}
_DEFAULT_SHAPE = 1.5
# exp(-_REACHED) = 0.05: what is left of the correlation at the range.
_REACHED = math.log(20)
_GSTOOLS_SHAPES = {"stable": "alpha", "matern": "nu"}


@checked
@dataclass(frozen=True)
class VariogramModel:
    """A semivariance that rises from the nugget to the sill.

    Parameters
    ----------
    kind : {"spherical", "exponential", "gaussian", "stable", "matern"}
    sill : float
        Semivariance far away, the nugget included, in squared units of the values.
    range_m : float
        Metres (of a time lag: days) at which 95 % of the way from nugget to sill is made; of the spherical model all of
        it. 0 only for a pure nugget.
    nugget : float
        Semivariance just beside a place: noise, and what varies within a cell.
    shape : float, optional
        Of "stable" the power, 0.05 to 2 (1 = exponential, 2 = gaussian); of "matern" the smoothness nu, 0.05 to 20
        (0.5 = exponential). Default 1.5. The other kinds take none.

    Raises
    ------
    TimoError
        If a number is out of its bounds.

    Notes
    -----
    With u = h / range_m and c = ln 20, the correlation is: spherical 1 - 1.5 u + 0.5 u³ up to u = 1; exponential
    exp(-c u); gaussian exp(-c u²); stable exp(-c u^shape); matern 2^(1-nu) / Gamma(nu) · v^nu · K_nu(v) with v
    proportional to u, such that it is 0.05 at u = 1.
    """

    kind: Kind
    sill: NotNegative
    range_m: NotNegative
    nugget: NotNegative = 0.0
    shape: float | None = None

    def __post_init__(self) -> None:
        for name in ("sill", "range_m", "nugget"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.nugget > self.sill:
            raise TimoError(
                "A variogram model needs 0 <= nugget <= sill, the sill with the nugget in it; "
                f"got nugget {self.nugget:g}, sill {self.sill:g}. Give a larger sill."
            )
        if self.range_m == 0 and self.partial_sill > 0:
            raise TimoError("The range must be more than 0 metres, unless the nugget is the sill.")
        object.__setattr__(self, "shape", _check_shape(self.kind, self.shape))

    @property
    def partial_sill(self) -> float:
        """Sill without the nugget: the variance that is correlated in space."""
        return self.sill - self.nugget

    @checked
    def correlation(self, h: Any) -> Any:
        """Return the correlation at a distance in metres, without the nugget: 1 at 0, 0 far away."""
        if isinstance(h, xr.DataArray):
            return xr.apply_ufunc(self.correlation, h.compute())
        u = real_array(h, "h") / (self.range_m or math.inf)
        return correlation(self.kind, u, self.shape)

    @checked
    def __call__(self, h: Any) -> Any:
        """Return the semivariance at a distance in metres, in squared units of the values; 0 at 0.

        Takes a number, an array or a DataArray, and gives the same.
        """
        if isinstance(h, xr.DataArray):
            return xr.apply_ufunc(self, h.compute())
        h = real_array(h, "h")
        gamma = self.nugget + self.partial_sill * (1 - self.correlation(h))
        return np.where(h == 0, gamma.dtype.type(0), gamma)[()]

    @checked
    def covariance(self, h: Any) -> Any:
        """Return the covariance at a distance in metres: the sill at 0, and past it without the nugget."""
        if isinstance(h, xr.DataArray):
            return xr.apply_ufunc(self.covariance, h.compute())
        h = real_array(h, "h")
        c = self.partial_sill * self.correlation(h)
        return np.where(h == 0, c.dtype.type(self.sill), c)[()]

    @checked
    def to_gstools(self, dim: Count = 2) -> Any:
        """Return the same model as a `gstools.CovModel`.

        Raises
        ------
        TimoError
            If gstools is not installed.
        """
        gstools = _gstools()
        options = {_GSTOOLS_SHAPES[self.kind]: self.shape} if self.kind in SHAPES else {}
        scale = (self.range_m or 1.0) / _units_of_range(self.kind, self.shape)
        return getattr(gstools, self.kind.capitalize())(
            dim=dim,
            var=self.partial_sill,
            len_scale=scale,
            nugget=self.nugget,
            rescale=1.0,
            **options,
        )

    @classmethod
    @checked
    def from_gstools(cls, model: Any) -> VariogramModel:
        """Make the model from an isotropic `gstools.CovModel` of one of the kinds.

        Raises
        ------
        TimoError
            If it is of another kind, or differs with the direction.
        """
        kinds = {kind.capitalize(): kind for kind in KINDS}
        isotropic = isinstance(model, _gstools().CovModel) and np.allclose(model.anis, 1)
        if not isotropic or model.name not in kinds:
            raise TimoError(
                f"model must be an isotropic gstools model of {', '.join(kinds)}; got {described(model)}."
            )
        kind = kinds[model.name]
        shape = float(getattr(model, _GSTOOLS_SHAPES[kind])) if kind in SHAPES else None
        length = float(model.len_rescaled) * _units_of_range(kind, shape)
        return cls(kind, model.var + model.nugget, length, model.nugget, shape)


def correlation(kind: str, u: np.ndarray, shape: float | None) -> np.ndarray:
    """Return the correlation at distances `u` that are counted in ranges (see `VariogramModel`)."""
    if kind == "spherical":
        u = np.minimum(u, 1)
        return 1 - 1.5 * u + 0.5 * u**3
    if kind == "matern":
        assert shape is not None
        return _matern(u * _units_of_range(kind, shape), shape)
    return np.exp(-_REACHED * u ** _power(kind, shape))


def _power(kind: str, shape: float | None) -> float:
    """Return the power of the distance in the exponent, which is the shape of the stable model."""
    return shape or (2.0 if kind == "gaussian" else 1.0)


@lru_cache(maxsize=1024)
def _units_of_range(kind: str, shape: float | None) -> float:
    """Return the range, counted in the length by which gstools divides the distance."""
    if kind == "spherical":
        return 1.0
    if kind == "matern":
        assert shape is not None
        return float(brentq(lambda u: float(_matern(np.asarray(u), shape)) - 0.05, 1e-9, 100))
    return _REACHED ** (1 / _power(kind, shape))


def _matern(u: np.ndarray, nu: float) -> np.ndarray:
    """Return Matérn's correlation, with gstools' scale: v = sqrt(nu) u.

    In logarithms, because K_nu(v) overflows near 0 where v^nu underflows.
    """
    v = math.sqrt(nu) * np.asarray(u)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rho = np.exp(
            (1 - nu) * math.log(2) - math.lgamma(nu) + nu * np.log(v) + np.log(kve(nu, v)) - v
        )
    tiny = v < 1e-6 * max(nu, 1.0) if nu > 1 else v == 0
    return np.where(tiny, 1, np.clip(np.nan_to_num(rho, nan=0), 0, 1)).astype(v.dtype, copy=False)


def _check_shape(kind: str, shape: float | None) -> float | None:
    if kind not in SHAPES:
        if shape is not None:
            raise TimoError(f"The {kind} model has no shape; got {shape}. Leave it out.")
        return None
    low, high = SHAPES[kind]
    shape = float(_DEFAULT_SHAPE if shape is None else shape)
    if not low <= shape <= high:
        raise TimoError(f"The shape of the {kind} model is {low} to {high:g}; got {shape:g}.")
    return shape


@checked
def random_field(
    template: Field | xr.Dataset | tuple[Count, Count],
    model: VariogramModel,
    seed: Seed,
    *,
    cell_m: Positive = 1.0,
    mean: float = 0.0,
) -> xr.DataArray:
    """Draw a Gaussian random field with a given variogram, with gstools.

    Parameters
    ----------
    template : xarray.DataArray, xarray.Dataset or (int, int)
        Points, a raster, or height and width in cells of a raster on a plane.
    model : VariogramModel
        Its nugget is drawn for each place by itself.
    seed : int
    cell_m : float
        Size of a cell in metres, if `template` is a shape.
    mean : float

    Returns
    -------
    xarray.DataArray
        (y, x) or (point,) float64, by the randomization method with 1000 modes (Heße et al. 2014, Environmental
        Modelling & Software 55, 32). In a geographic CRS the correlation is that of the chord.

    Raises
    ------
    TimoError
        If gstools is not installed.
    """
    if isinstance(template, tuple):  # a raster on a plane, north up
        height, width = template
        y, x = cell_m * (np.arange(height)[::-1] + 0.5), cell_m * (np.arange(width) + 0.5)
        template = xr.DataArray(np.empty(template), {"y": y, "x": x}, ("y", "x"))
    place = places_of(template).embed()
    spatial = spatial_dims(template)
    field = _gstools().SRF(model.to_gstools(place.shape[1]), mean=mean, seed=seed)
    values = np.asarray(field(tuple(place.T), mesh_type="unstructured"))
    shape = [template.sizes[dim] for dim in spatial]
    kept = {n: c for n, c in template.coords.items() if set(c.dims) <= set(spatial)}
    attrs = {key: template.attrs[key] for key in ("crs",) if key in template.attrs}
    return xr.DataArray(values.reshape(shape), dims=spatial, coords=kept, attrs=attrs)


def _gstools() -> Any:
    try:
        import gstools
    except ImportError as error:
        raise TimoError('This needs gstools: pip install "timo[geostat]".') from error
    return gstools
