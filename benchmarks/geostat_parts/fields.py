"""Series at 2000 places, interpolated to 1000 others: `EOFInterpolator` beside inverse distances, on a known truth."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from geostat_parts import Row, timed
from geostat_parts.simulated import SimulatedStations, simulate
from timo.geostat import variogram
from timo.geostat.interpolation import EOFInterpolator, decompose

SECTION = "1 fields"
EVERY = 20  # dates that the variogram of the residuals is pooled over: every n-th
FLAT = 0.9


def measure() -> Iterator[Row]:
    data = simulate()
    predictions = {
        "mlp": timed(lambda: by_network(data)),
        "krige": timed(lambda: EOFInterpolator("krige").fit(data.train).predict(data.test)),
        "inverse distances": timed(lambda: by_inverse_distances(data)),
    }
    errors = {name: mean_error(told, data.test) for name, (told, _) in predictions.items()}
    yield from references(data)
    yield from promises(errors, {name: seconds for name, (_, seconds) in predictions.items()})
    for name, (told, _) in predictions.items():
        share = flatness(data.test - told)
        met = share >= FLAT if name in {"mlp", "krige"} else None
        yield row(
            f"{name}: variogram of the residuals flat, near pairs >= {FLAT} of far",
            f"{share:.3f}",
            met,
        )


def references(data: SimulatedStations) -> Iterator[Row]:
    mean = data.train.mean("point")
    yield row("no prediction is nearer than the noise", f"MAE {data.noise_floor:.3f}", None)
    yield row("the spatial mean of each date", f"MAE {mean_error(mean, data.test):.2f}", None)
    values = data.train.values
    eofs, seconds = timed(lambda: decompose(values))
    worst = abs(eofs.reconstruct() - values).max()
    yield row(
        "all components give the field back to 1e-9",
        f"{worst:.1e} in {seconds:.1f} s",
        bool(worst <= 1e-9),
    )
    yield row("20 components told from noise", f"{eofs.above_noise}", eofs.above_noise == 20)


def promises(errors: dict[str, float], seconds: dict[str, float]) -> Iterator[Row]:
    other = errors["inverse distances"]
    yield row("inverse distances, 12 nearest, power 2", f"MAE {other:.3f}", None)
    yield row("mlp <= 1.5", f"MAE {errors['mlp']:.3f}", errors["mlp"] <= 1.5)
    yield row(
        "mlp < inverse distances", f"{errors['mlp']:.3f} < {other:.3f}", errors["mlp"] < other
    )
    yield row("mlp <= 5 min", f"{seconds['mlp']:.0f} s", seconds["mlp"] <= 300)
    yield row("krige <= 1.35", f"MAE {errors['krige']:.3f}", errors["krige"] <= 1.35)
    yield row("seconds of krige", f"{seconds['krige']:.1f} s", None)


def by_network(data: SimulatedStations) -> xr.DataArray:
    """Trained on the training places; the best epoch is chosen on the validation places."""
    both = xr.concat([data.train, data.validation], "point")
    held_out = xr.DataArray(
        np.arange(both.sizes["point"]) >= data.train.sizes["point"], dims="point"
    )
    return EOFInterpolator("mlp").fit(both, validation=held_out).predict(data.test)


def by_inverse_distances(data: SimulatedStations, nearest: int = 12) -> xr.DataArray:
    """Mean of the nearest places weighted by one over the squared distance (Shepard 1968)."""
    at, to = (np.stack([part["x"], part["y"]], axis=1) for part in (data.train, data.test))
    distance, which = cKDTree(at).query(to, nearest)
    weights = 1 / np.maximum(distance, 1e-9) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return data.test.copy(data=np.einsum("pn,pnt->pt", weights, data.train.values[which]))


def flatness(residuals: xr.DataArray) -> float:
    """Semivariance of residuals less than 2 km apart over that beyond 15 km; 1 if nothing is left to be learnt."""
    dates = residuals.transpose("time", "point")[::EVERY].assign_attrs(crs="EPSG:32633")
    edges = np.array([0.0, 2_000, 4_000, 8_000, 15_000, 40_000])
    gamma = variogram(dates, bins=edges)["semivariance"].values
    return float(gamma[0] / gamma[-1])


def mean_error(told: xr.DataArray, observed: xr.DataArray) -> float:
    return float(abs(told - observed).mean())


def row(must: str, reached: str, met: bool | None) -> Row:
    return Row(SECTION, must, reached, met)
