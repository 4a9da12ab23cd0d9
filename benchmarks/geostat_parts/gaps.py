"""Gaps of the sample cube: whole clouds of other dates laid over clear dates, and what is filled in beside the truth.

What was chosen by hand (shrinkage, iterations, candidates, bands together) was chosen on the shapes of every other
cloudy date and draws 0 to 2; the table is of the shapes of the remaining cloudy dates and other draws. The number of
components is chosen by `timo.geostat.dineof` itself, from what is left in the cube.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import xarray as xr

import timo
from geostat_parts import Row, timed
from timo.cube import ndvi
from timo.filling import METHODS, fill

SECTION = "1 gaps"
DRAWS = (10, 11, 12)
DATES = 12  # clear dates that clouds are laid over, each draw
SIZES = {"under 1/3": (0, 1 / 3), "1/3 to 2/3": (1 / 3, 2 / 3), "over 2/3": (2 / 3, 1.01)}


def measure() -> Iterator[Row]:
    cube = timo.open_cube("sample").compute()
    table, seconds = judge(cube, DRAWS)
    mean = table.groupby("method")["mae"].mean()
    for other in METHODS[1:]:
        every = (table.pivot_table("mae", "draw", "method").eval(f"eof < {other}")).all()
        yield Row(
            SECTION,
            f"hidden clouds of the sample: MAE of eof under that of {other}, in each of {len(DRAWS)} draws",
            f"{mean['eof']:.4f} and {mean[other]:.4f} (reflectance)",
            bool(every),
        )
    columns = [c for c in table.columns if c not in ("draw", "method", "mae")]
    for column in columns:
        figures = table.groupby("method")[column].mean()
        yield Row(SECTION, f"{column}: eof, linear, climatology", _three(figures), None)
    yield Row(SECTION, "seconds to fill 140 dates", _three(seconds, "{:.1f}"), None)
    yield from _alone(cube, mean["eof"])
    yield _whole_dates(cube)
    yield from _clicks()


def judge(cube: xr.DataArray, draws: tuple[int, ...]) -> tuple[pd.DataFrame, pd.Series]:
    """Errors of each method and draw, and the mean seconds that a method takes."""
    rows, took = [], []
    for draw in draws:
        hidden = hide(cube, draw)
        gappy = cube.where(~hidden)
        for method in METHODS:
            filled, seconds = timed(lambda g=gappy, m=method: fill(g, m))
            rows.append({"draw": draw, "method": method} | errors(cube, filled, hidden))
            took.append((method, seconds))
    times = pd.DataFrame(took, columns=["method", "s"]).groupby("method")["s"].mean()
    return pd.DataFrame(rows), times


def hide(cube: xr.DataArray, draw: int, *, tuning: bool = False) -> xr.DataArray:
    """Clear dates, drawn, with the shape of the gaps of other dates, drawn; True (time, y, x) where hidden."""
    rng = np.random.default_rng(draw)
    seen = np.isfinite(cube).all("band")
    share = seen.mean(("y", "x")).values
    clear = np.flatnonzero(share >= 0.95)
    cloudy = np.flatnonzero((share > 0.05) & (share < 0.95))[0 if tuning else 1 :: 2]
    dates = rng.choice(clear, min(DATES, clear.size), replace=False)
    hidden = xr.zeros_like(seen)
    for date, cloud in zip(dates, rng.choice(cloudy, dates.size), strict=True):
        hidden[date] = seen.values[date] & ~seen.values[cloud]
    return hidden


def errors(truth: xr.DataArray, filled: xr.DataArray, hidden: xr.DataArray) -> dict[str, float]:
    """Mean absolute and root mean square errors where something was hidden."""
    apart = (filled - truth).where(hidden)
    scores = {"mae": float(abs(apart).mean()), "RMSE": float(np.sqrt((apart**2).mean()))}
    scores |= {f"MAE of {b}": float(abs(apart.sel(band=b)).mean()) for b in truth.band.values}
    scores["MAE of NDVI"] = float(abs(ndvi(filled) - ndvi(truth)).where(hidden).mean())
    share = hidden.mean(("y", "x"))
    for name, (low, high) in SIZES.items():
        chosen = apart.isel(time=np.flatnonzero((share > low) & (share <= high)))
        if chosen.size:
            scores[f"MAE where {name} of the area is hidden"] = float(abs(chosen).mean())
    return scores


def _alone(cube: xr.DataArray, together: float) -> Iterator[Row]:
    """Each band for itself, on the draws of the table."""
    found = []
    for draw in DRAWS:
        hidden = hide(cube, draw)
        gappy = cube.where(~hidden)
        bands = [fill(gappy.isel(band=[i])).drop_vars("filled") for i in range(cube.sizes["band"])]
        apart = (xr.concat(bands, "band") - cube).where(hidden)
        found.append(float(abs(apart).mean()))
    yield Row(
        SECTION,
        "MAE of eof: bands together, each for itself",
        f"{together:.4f}, {np.mean(found):.4f}",
        None,
    )


def _whole_dates(cube: xr.DataArray) -> Row:
    """Dates of which nothing at all is left."""
    found = []
    for draw in DRAWS:
        hidden = hide(cube, draw)
        hidden = hidden | (hidden.any(("y", "x")) & np.isfinite(cube).all("band"))
        gappy = cube.where(~hidden)
        found.append([float(abs((fill(gappy, m) - cube).where(hidden)).mean()) for m in METHODS])
    figures = pd.Series(np.mean(found, axis=0), METHODS)
    return Row(
        SECTION, "MAE of dates hidden whole: eof, linear, climatology", _three(figures), None
    )


def _clicks(draws: int = 5, clicks: int = 20) -> Iterator[Row]:
    """A head learnt from a few clicks, and its map, on the dates of 2018 with and without gaps."""
    torch.set_num_threads(2)
    cube = timo.open_cube("sample", start="2018", end="2018").compute()
    truth = timo.sample_labels()
    found = {name: _accuracies(c, truth, draws, clicks) for name, c in
             {"gaps left": cube, "filled": fill(cube)}.items()}  # fmt: skip
    apart = found["filled"] - found["gaps left"]
    error = apart.std(ddof=1) / np.sqrt(draws)
    yield Row(
        SECTION,
        f"forest of 2018 from {clicks} clicks a class, balanced accuracy: gaps left, filled before",
        f"{found['gaps left'].mean():.3f}, {found['filled'].mean():.3f} "
        f"(difference {apart.mean():+.3f}, standard error {error:.3f}, {draws} draws)",
        None,
    )


def _accuracies(cube: xr.DataArray, truth: xr.DataArray, draws: int, clicks: int) -> np.ndarray:
    model = timo.load_model("timo-tiny", data=cube, classes=truth.attrs["classes"])
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    features, found = timo.Features(model, cube), []
    for draw in range(draws):
        model.load_state_dict(fresh)
        rng, few = np.random.default_rng(draw), np.full(truth.shape, -1, "int8")
        for number in (0, 1):
            where = rng.choice(np.flatnonzero(truth.values == number), clicks, replace=False)
            few.flat[where] = number
        timo.fit_head(model, cube, truth.copy(data=few), features=features, steps=60)
        forest = features.predict(model).probability.isel({"class": 1}).mean("time").values
        held = (few < 0) & (truth.values >= 0)
        right = (forest > 0.5) == (truth.values == 1)
        found.append(np.mean([right[held & (truth.values == n)].mean() for n in (0, 1)]))
    return np.array(found)


def _three(figures: pd.Series, form: str = "{:.4f}") -> str:
    return ", ".join(form.format(figures[method]) for method in METHODS)
