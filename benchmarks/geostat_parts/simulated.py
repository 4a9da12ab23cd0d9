"""A field in space and time with a known truth, as in Amato, Guignard, Robert and Kanevski (2020, "Simulated data").

Twenty Gaussian random fields with a Gaussian kernel, each times a series that is autoregressive of order one, are
summed; noise without any structure is added, its standard deviation a tenth of the field's.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

WIDTH, HEIGHT = 139_000.0, 88_000.0  # metres
LENGTH_SCALE = 15_000.0  # metres, of the kernel exp(-pi/4 (h / length)²) of gstools
MEMORY = 0.95  # of a series: its correlation from one time to the next
FIELD_SD = 15.49  # of the sum, scaled: no prediction errs by less than NOISE_SHARE FIELD_SD sqrt(2 / pi) = 1.236
NOISE_SHARE = 0.1
CRS = "EPSG:32633"


@dataclass(frozen=True)
class SimulatedStations:
    """Observed series of three sets of places, and the noise in them.

    Parameters
    ----------
    train, validation, test : xarray.DataArray of dims (point, time)
        Truth plus noise, with coords x, y (metres) on `point`.
    truth : xarray.DataArray of dims (point, time)
        What the test places have without noise.
    """

    train: xr.DataArray
    validation: xr.DataArray
    test: xr.DataArray
    truth: xr.DataArray

    @property
    def noise_floor(self) -> float:
        """Mean absolute error of a prediction that is the truth."""
        return float(abs(self.test - self.truth).mean())


def simulate(
    counts: tuple[int, int, int] = (2000, 1000, 1000),
    times: int = 1008,
    components: int = 20,
    length_scale: float = LENGTH_SCALE,
    seed: int = 0,
) -> SimulatedStations:
    """Simulate series at random places, for training, validation and testing."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, [[WIDTH], [HEIGHT]], (2, sum(counts)))
    field = random_fields(x, y, components, length_scale, seed) @ memory_series(
        components, times, random
    )
    field *= FIELD_SD / field.std()
    noisy = field + random.normal(0, NOISE_SHARE * FIELD_SD, field.shape)
    ends = np.cumsum(counts)
    places = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    observed = [stations(x[part], y[part], noisy[part]) for part in places]
    return SimulatedStations(*observed, stations(x[places[2]], y[places[2]], field[places[2]]))


def random_fields(
    x: np.ndarray, y: np.ndarray, count: int, length_scale: float, seed: int
) -> np.ndarray:
    """Independent Gaussian random fields of variance 1 at the places, shape (point, count)."""
    import gstools

    model = gstools.Gaussian(dim=2, var=1.0, len_scale=length_scale)
    fields = [gstools.SRF(model, seed=1000 * seed + number)((x, y)) for number in range(count)]
    return np.stack(fields, axis=1)


def memory_series(count: int, times: int, random: np.random.Generator) -> np.ndarray:
    """Series z_t = MEMORY z_(t-1) + e_t with standard normal e, shape (count, time)."""
    from scipy.signal import lfilter

    start = 200  # times until the first value is forgotten
    return lfilter([1.0], [1.0, -MEMORY], random.normal(size=(count, start + times)))[:, start:]


def stations(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> xr.DataArray:
    """Series at places, as `timo.geostat` takes them."""
    days = np.datetime64("2020-01-01", "ns") + np.arange(values.shape[1]) * np.timedelta64(1, "D")
    coords = {"x": ("point", x), "y": ("point", y), "time": days}
    return xr.DataArray(values, coords, ("point", "time"), name="field", attrs={"crs": CRS})
