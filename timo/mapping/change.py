"""From a probability per date to the year in which a class was lost."""

import numpy as np
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from timo.errors import TimoError

NO_DATA, NO_LOSS = -1, 0
# A single date never counts for more than this: odds of 20 to 1 (log). Undetected cloud shadow is one date, too.
MAX_EVIDENCE = 3.0
# Nor does the past count for more than four such dates, for or against: what was the class long ago need not be it now.
MAX_TRUST = 4 * MAX_EVIDENCE


def loss_year(
    probability: xr.DataArray,
    *,
    months: tuple[int, int] = (6, 8),
    evidence: float = 9.0,
    consecutive: int = 2,
    before: float = 9.0,
) -> xr.Dataset:
    """Year in which a pixel stopped being of a class for good enough a reason.

    The rule, Page's cumulative sum test (Page 1954, Biometrika 41) on the log-odds of the class. Only clear dates of
    the season count. Each says log((1 - p) / p) against the class, at most +-3. Against a pixel that was the class so
    far (`before`), this evidence is summed from the first date on that speaks against it; the sum never falls under
    zero, where it starts anew. The loss is declared when the sum reaches `evidence` and at least `consecutive` clear
    dates in a row have spoken against the class. Its year is that of the date on which the sum left zero: the first
    date that is seen cut. Only the first loss counts.

    A cut after the season's last clear date is of the next year: with the months June to August, a cut in autumn is
    dated to the first summer in which it is seen.

    Parameters
    ----------
    probability : xarray.DataArray
        (time, y, x) probability of the class that may be lost, NaN = not observed.
    months : (int, int)
        First and last month of the season; outside, low sun and bare branches look like loss. It does not run over the
        turn of the year.
    evidence : float
        Sum of log-odds that declares a loss; 9: three dates at odds of 20 to 1. Two dates can lie in a row, as when
        shadow that no mask has found falls on both.
    consecutive : int
        Clear dates in a row that must speak against the class.
    before : float
        Sum of log-odds for the class that must have been seen before, less those against it, within +-12; 9: three
        dates at odds of 20 to 1.

    Returns
    -------
    xarray.Dataset
        ``loss_year`` (y, x) int16: 0 = no loss, -1 = no clear date, else the year; ``loss_date`` (y, x) datetime64, NaT
        without loss; ``evidence`` (y, x) float32: the largest sum reached.

    Raises
    ------
    TimoError
        If the probability has no time, y and x, no CRS, its dates do not ascend, or an option makes no sense.
    """
    if set(probability.dims) != {"time", "y", "x"}:
        raise TimoError(
            f"loss_year takes the probability of one class, (time, y, x), got {probability.dims}: "
            'use result.probability.sel({"class": "forest"})'
        )
    if consecutive < 1 or evidence <= 0 or not 1 <= months[0] <= months[1] <= 12:
        raise TimoError(
            "consecutive must be at least 1, evidence positive and months two of 1..12 in order, got "
            f"{consecutive}, {evidence} and {months}"
        )
    if before > MAX_TRUST:
        raise TimoError(
            f"before can be {MAX_TRUST:g} at most, got {before}: no pixel would be lost"
        )
    if probability.rio.crs is None:
        raise TimoError(
            "the probability has no coordinate reference system: "
            'use probability.rio.write_crs("EPSG:...")'
        )
    if not probability.indexes["time"].is_monotonic_increasing:
        raise TimoError('the dates must ascend: use probability.sortby("time")')
    probability = probability.transpose("time", "y", "x")
    month = probability.time.dt.month
    seasonal = probability.isel(time=((month >= months[0]) & (month <= months[1])).values)
    index, reached, seen = xr.apply_ufunc(
        _first_loss,
        seasonal.chunk(time=-1) if seasonal.chunks else seasonal,
        input_core_dims=[["time"]],
        output_core_dims=[[], [], []],
        kwargs={"evidence": evidence, "consecutive": consecutive, "before": before},
        dask="parallelized",
        output_dtypes=["int32", "float32", "bool"],
    )
    return _dated(index, reached, seen, seasonal)


def _dated(
    index: xr.DataArray, reached: xr.DataArray, seen: xr.DataArray, seasonal: xr.DataArray
) -> xr.Dataset:
    """Indices of dates to years and dates."""
    dates = seasonal.time.values.astype("datetime64[ns]")
    years = np.append(seasonal.time.dt.year.values, NO_LOSS).astype("int16")
    days = np.append(dates, np.datetime64("NaT", "ns"))
    year = xr.apply_ufunc(lambda i: years[i], index, dask="parallelized", output_dtypes=["int16"])
    date = xr.apply_ufunc(
        lambda i: days[i], index, dask="parallelized", output_dtypes=["datetime64[ns]"]
    )
    year = year.where(seen, NO_DATA).astype("int16")
    year.attrs = {"long_name": "year of loss", "flags": "0 = no loss, -1 = no data"}
    date.attrs = {"long_name": "first date seen without the class"}
    reached.attrs = {"long_name": "largest sum of log-odds against the class", "units": "1"}
    result = xr.Dataset({"loss_year": year, "loss_date": date, "evidence": reached})
    return result.drop_vars("class", errors="ignore").rio.write_crs(seasonal.rio.crs)


def _first_loss(
    probability: np.ndarray, *, evidence: float, consecutive: int, before: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the first date of the first loss (-1: none), largest sum, whether there was any clear date."""
    observed = np.isfinite(probability)
    p = np.clip(np.where(observed, probability, 0.5), 1e-6, 1 - 1e-6)
    against = np.clip(np.log((1 - p) / p), -MAX_EVIDENCE, MAX_EVIDENCE)
    shape = probability.shape[:-1]
    total, largest, trust = (np.zeros(shape, "float32") for _ in range(3))
    start, found = np.full(shape, -1, "int32"), np.full(shape, -1, "int32")
    run = np.zeros(shape, "int16")
    confirmed, was_class = np.zeros(shape, bool), np.zeros(shape, bool)
    for i in range(probability.shape[-1]):
        see, step = observed[..., i], against[..., i]
        opens = see & (total == 0) & (step > 0)
        start, was_class = np.where(opens, i, start), np.where(opens, trust >= before, was_class)
        # Against what was not the class nothing is summed: what grows there would have to be outgrown before a loss.
        total = np.where(see & was_class, np.maximum(total + step, 0), total)
        run = np.where(see, np.where(step > 0, run + 1, 0), run)
        confirmed = (confirmed | (run >= consecutive)) & (total > 0)
        lost = (total >= evidence) & confirmed & (found < 0)
        found = np.where(lost, start, found)
        largest = np.maximum(largest, total)
        trust = np.clip(trust - step * see, -MAX_TRUST, MAX_TRUST)
    return found, largest.astype("float32"), observed.any(axis=-1)
