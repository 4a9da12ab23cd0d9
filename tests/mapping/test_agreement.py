import math

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from sklearn.metrics import f1_score, precision_score, recall_score

from timo.errors import TimoError
from timo.mapping import loss_agreement


def years_of(values):
    values = np.array(values, "int16")
    x, y = 500_000.0 + 10 * np.arange(values.shape[1]), 1000.0 - 10 * np.arange(values.shape[0])
    array = xr.DataArray(values, dims=("y", "x"), coords={"y": y, "x": x})
    return array.rio.write_crs("EPSG:32634")


MAPPED = years_of([[2018, 2018, 2019, 0, 0], [0, 0, 0, 0, -1]])
READ = years_of([[2018, 2019, 0, 2019, 0], [0, 0, 0, 0, 2019]])


def test_figures_by_hand():
    found = loss_agreement(MAPPED, READ)
    assert found == pytest.approx(
        {"f1_loss": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "year_right": 0.5, "area_ratio": 1}
    )
    # Within a pixel the third is found, too: what is mapped beside it and what was lost.
    assert loss_agreement(MAPPED, READ, tolerance=1)["f1_loss"] == 1


def test_other_years_are_no_loss():
    found = loss_agreement(MAPPED, READ, years=[2018])
    assert (found["precision"], found["recall"], found["area_ratio"]) == (0.5, 1, 2)


def test_it_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    maps = [years_of(rng.choice([0, 2018, 2019], (20, 30))) for _ in range(2)]
    said, true = ((array > 0).values.ravel() for array in maps)
    found = loss_agreement(*maps)
    for name, score in (
        ("f1_loss", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        assert found[name] == pytest.approx(score(true, said))


def test_diagonal_neighbours_are_within_a_pixel_and_two_steps_are_not():
    one, other = np.zeros((2, 7, 7), "int16")
    one[3, 3], other[4, 4] = 2018, 2018
    assert loss_agreement(years_of(one), years_of(other), tolerance=1)["f1_loss"] == 1
    other[4, 4], other[3, 5] = 0, 2018
    found = [loss_agreement(years_of(one), years_of(other), tolerance=t) for t in (1, 2)]
    assert [figures["f1_loss"] for figures in found] == [0, 1]


def test_nothing_to_count_is_nan_and_nothing_found_is_0():
    empty = years_of(np.zeros((2, 5)))
    assert all(math.isnan(value) for value in loss_agreement(empty, empty).values())
    missed = loss_agreement(empty, READ)
    assert (missed["f1_loss"], missed["recall"], missed["area_ratio"]) == (0, 0, 0)
    assert math.isnan(missed["precision"])


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (MAPPED.astype(float), READ, "loss_year must be years of loss.*got float64"),
        (MAPPED, READ.expand_dims("time"), "reference must be years of loss"),
        (
            MAPPED,
            READ.isel(x=slice(3)),
            "of the reference, x has 3 cells, the map of loss's 5. Use",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(one, other, message):
    with pytest.raises(TimoError, match=message):
        loss_agreement(one, other)


def test_the_remedy_for_another_grid_works():
    wide = READ.rio.reproject("EPSG:3035")
    with pytest.raises(TimoError, match="reproject_match") as error:
        loss_agreement(MAPPED, wide)
    code = str(error.value).split("Use ")[1].removesuffix(".")
    same = eval(code, {"reference": wide, "loss_year": MAPPED})  # noqa: S307
    assert loss_agreement(MAPPED, same)["recall"] > 0
