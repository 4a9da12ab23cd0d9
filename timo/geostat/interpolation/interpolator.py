"""A field at places where nothing was observed, from series at places where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.checks import Count, Range, Seed, checked
from timo.errors import TimoError, warn
from timo.geostat.interpolation.coefficients import (
    KrigedCoefficients,
    Network,
    fit_kriging,
    train,
)
from timo.geostat.interpolation.eof import Components, EOFs, decompose
from timo.geostat.interpolation.observations import (
    Observations,
    complete,
    covariate_columns,
    observations_of,
)
from timo.geostat.places import Places, check_same_crs, places_of, spatial_dims, with_crs
from timo.geostat.values import Field, Floats

Mask = NDArray[np.bool_] | xr.DataArray | Sequence[bool]


@checked
@dataclass(eq=False)
class EOFInterpolator:
    """Interpolate series in space: `EOFInterpolator("krige").fit(stations).predict(grid)`.

    The series are decomposed (`decompose`); the coefficients, a few numbers for each place, are interpolated by a
    network or by kriging, and the field is put together from them (Amato, Guignard, Robert and Kanevski 2020,
    Scientific Reports 10, 22243).

    Parameters
    ----------
    method : "mlp" or "krige"
        "mlp" is the network of that paper, from standardised coordinates and covariates. "krige" is ordinary kriging
        with a variogram for each component; with covariates, regression kriging.
    n_components : int or float, optional
        As of `decompose`; by default those that stand out from white noise (`EOFs.above_noise`).
    seed : int
        A fit with the same seed gives the same field; the random state of the process is not touched.
    epochs, batch_size, validation_share
        Of the network: passes over the places, places in a step, share of the places held out to choose the best epoch.
    neighbours : int, optional
        Of kriging, as of `krige`.
    gaps : "refuse" or "dineof"
        Refuse series that have missing values, or fill them first with `dineof`.

    Attributes
    ----------
    eofs_ : EOFs
        The components that were kept.
    coefficients_ : Network or KrigedCoefficients
        With the errors of every epoch (`errors`), or the variogram of every component (`models`).

    Notes
    -----
    The network has no notion of distance. It suits smooth fields and fields that follow covariates; on a patchwork,
    such as the cells of a cube over fields and forest, kriging is nearer. Outside the places that it was fitted on it
    extrapolates, and may be far off, where kriging goes back to the mean.

    Components that are hardly above noise may still be smooth in space. `n_components=1.0` takes all: slower, and with
    kriging, which weighs each by its own variogram, often a little nearer.
    """

    method: Literal["mlp", "krige"] = "mlp"
    n_components: Components | None = None
    seed: Seed = 0
    epochs: Count = field(default=300, kw_only=True)
    batch_size: Count = field(default=128, kw_only=True)
    validation_share: Annotated[float, Range(least=0, below=1)] = field(default=0.2, kw_only=True)
    neighbours: Count | None = field(default=32, kw_only=True)
    gaps: Literal["refuse", "dineof"] = field(default="refuse", kw_only=True)
    eofs_: EOFs | None = field(default=None, init=False, repr=False)
    coefficients_: Network | KrigedCoefficients | None = field(default=None, init=False, repr=False)
    _seen: Observations | None = field(default=None, init=False, repr=False)
    _names: tuple[str, ...] = field(default=(), init=False, repr=False)

    @checked
    def fit(
        self,
        stations: Field,
        covariates: xr.Dataset | None = None,
        *,
        validation: Mask | None = None,
    ) -> Self:
        """Learn the field from series.

        Parameters
        ----------
        stations : xarray.DataArray
            From `points`, with a time, or one band of a cube, dims (time, y, x). Places without any value are left out.
        covariates : xarray.Dataset, optional
            Further numbers of the places (elevation, distance to the sea, ...): a variable for each, of dims (point) or
            (y, x). `predict` needs the same ones.
        validation : xarray.DataArray or array of bool, optional
            For "mlp": the places held out, dims (point) or (y, x); by default a random share.

        Raises
        ------
        TimoError
            If there are fewer than three places or fewer components than asked for, or if values (unless filled) or
            covariates are missing, or covariates lie elsewhere.

        Warns
        -----
        UserWarning
            If the field does not vary in space: its mean is then predicted everywhere.
        RuntimeWarning
            If components that are kriged are not correlated in space: their mean is predicted.
        """
        if validation is not None and self.method != "mlp":
            raise TimoError("Kriging holds nothing out for validation; fit it without.")
        seen = observations_of(stations)
        values = complete(seen, self.gaps, self.seed)
        columns, names = covariate_columns(covariates, seen.source)
        columns = columns[seen.observed]
        if not np.isfinite(columns).all():
            raise TimoError(
                "Covariates are missing (NaN) at places with observations. Fill them, or drop these places."
            )
        eofs = self._decompose(values)
        fitted: Network | KrigedCoefficients | None = None
        if eofs.n_components and self.method == "krige":
            fitted = fit_kriging(seen.places, columns, eofs, self.neighbours, self.seed)
        elif eofs.n_components:
            held_out = held_out_places(seen, validation, self.validation_share, self.seed)
            features = np.hstack([seen.places.embed(), columns])
            fitted = train(
                features,
                values - eofs.mean,
                eofs.loadings,
                held_out,
                epochs=self.epochs,
                batch_size=self.batch_size,
                seed=self.seed,
            )
        self.eofs_, self.coefficients_, self._seen, self._names = eofs, fitted, seen, names
        return self

    @checked
    def predict(
        self, grid: Field | xr.Dataset, covariates: xr.Dataset | None = None
    ) -> xr.DataArray:
        """Predict the field at other places.

        Parameters
        ----------
        grid : xarray.DataArray or xarray.Dataset
            A raster or points, in the CRS of the stations. Only its places count.
        covariates : xarray.Dataset, optional
            Those of the fit, at the places of the grid. Where one is NaN, so is the prediction.

        Returns
        -------
        xarray.DataArray
            Dims (time, y, x) or (time, point), at the times and in the unit of the fit.

        Raises
        ------
        TimoError
            If nothing was fitted yet, the CRS is another, or covariates are missing or lie elsewhere.
        """
        if self.eofs_ is None or self._seen is None:
            raise TimoError(
                "Nothing was fitted yet: EOFInterpolator(...).fit(stations).predict(grid)."
            )
        dims = spatial_dims(grid)
        places = places_of(grid)
        check_same_crs(self._seen.places, places)
        columns, _ = covariate_columns(covariates, grid, self._names)
        known = np.isfinite(columns).all(axis=1)
        series = np.full((len(self.eofs_.mean), len(places)), np.nan, self.eofs_.mean.dtype)
        series[:, known] = self._field(places[known], columns[known])
        return with_crs(as_field(series, self._seen.source, grid, dims), places.crs)

    def _decompose(self, values: Floats) -> EOFs:
        """Return the components to interpolate: 0 of a field that does not vary in space."""
        eofs = decompose(values)
        negligible = 8 * np.finfo(values.dtype).eps * abs(values).max()
        if np.ptp(values, axis=0).max() <= negligible:
            warn("The field does not vary in space; its mean is predicted everywhere.")
            return eofs.truncate(0)
        wanted = self.n_components
        return eofs.truncate(eofs.above_noise if wanted is None else eofs.count(wanted))

    def _field(self, places: Places, columns: Floats) -> Floats:
        """Predict the series at places, shape (time, place)."""
        assert self.eofs_ is not None
        if self.coefficients_ is None or not len(places):
            return np.repeat(self.eofs_.mean[:, None], len(places), axis=1)
        if isinstance(self.coefficients_, Network):
            coefficients = self.coefficients_.predict(np.hstack([places.embed(), columns]))
        else:
            coefficients = self.coefficients_.predict(places, columns)
        return self.eofs_.reconstruct(coefficients.astype(self.eofs_.mean.dtype)).T


def held_out_places(
    seen: Observations, validation: Mask | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """Return which of the places observed are held out, as given or at random."""
    count = len(seen.places)
    if validation is None:
        held_out = np.zeros(count, bool)
        held_out[np.random.default_rng(seed).permutation(count)[: int(share * count)]] = True
        return held_out
    dims = spatial_dims(seen.source)
    sizes = {dim: seen.source.sizes[dim] for dim in dims}
    if not isinstance(validation, xr.DataArray):
        given = np.asarray(validation)
        validation = xr.DataArray(given, dims=dims if given.ndim == len(dims) else None)
    if validation.dtype != bool or dict(validation.sizes) != sizes:
        raise TimoError(
            f"validation must be True or False (bool) for each place of the stations, an array of sizes {sizes}."
        )
    held_out = validation.transpose(*dims).values.ravel()[seen.observed]
    if held_out.all():
        raise TimoError("All places are held out for validation; none is left to train on.")
    return held_out


def as_field(
    series: Floats, source: xr.DataArray, grid: xr.DataArray | xr.Dataset, dims: tuple[str, ...]
) -> xr.DataArray:
    """Return series of shape (time, place) on the grid, with the name, unit and times of the source."""
    kept = {n: c for n, c in grid.coords.items() if n != "time" and set(c.dims) <= set(dims)}
    if "time" in source.coords:
        kept["time"] = source.coords["time"].variable
    shape = (len(series), *(grid.sizes[dim] for dim in dims))
    attrs = source.attrs | {key: grid.attrs[key] for key in ("crs",) if key in grid.attrs}
    return xr.DataArray(series.reshape(shape), kept, ("time", *dims), name=source.name, attrs=attrs)
