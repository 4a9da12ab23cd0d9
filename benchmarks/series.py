"""Cross-validation of single-pixel series, as a field campaign has them: how long it takes, and what it finds.

Simulated farmland (`timo.simulate`), one pixel in each parcel, as a table of one row for each observation::

    python benchmarks/series.py --series 1218 --dates 23
"""

import argparse
import time

import numpy as np
import pandas as pd

import timo


def table_of(series: int, dates: int) -> pd.DataFrame:
    """Return a long table (id, date, bands, crop, farm) of one pixel in each of the first parcels."""
    rows: list[pd.DataFrame] = []
    count, seed = 0, 0
    while count < series:
        place = timo.simulate(pixels=256, dates=dates, seed=seed)
        y, x = np.nonzero(place.labels.feature.values >= 0)
        numbers = place.labels.feature.values[y, x]
        first = pd.Series(np.arange(len(numbers))).groupby(numbers).median().astype(int)
        for number, at in list(first.items())[: series - count]:
            pixel = place.cube.values[:, :, y[at], x[at]]
            frame = pd.DataFrame(pixel, columns=place.cube.band.values).assign(
                id=f"{seed}-{number}",
                date=place.cube.time.values,
                crop=place.parcels.crop[number],
                farm=f"{seed}-{int(number) // 4}",
            )
            rows.append(frame.dropna())
            count += 1
        seed += 1
    return pd.concat(rows, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=1218)
    parser.add_argument("--dates", type=int, default=23)
    parser.add_argument("--folds", type=int, default=5)
    given = parser.parse_args()
    table = table_of(given.series, given.dates)
    began = time.monotonic()
    places = timo.Places.from_series(
        table, id="id", time="date", label="crop", group="farm", sensor="sentinel-2"
    )
    opened = time.monotonic() - began
    model = timo.load_model("timo-tiny", places, per_date=False)
    result = timo.cross_validate(model, places, by="group", k=given.folds, progress=False)
    print(result)
    print(
        f"{len(places)} series of up to {given.dates} dates: opened in {opened:.1f} s, {given.folds} folds of default "
        f"training with baselines in {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
