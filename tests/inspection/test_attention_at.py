"""The row of one query against the whole softmax, written out."""

import datetime as dt
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from naive_attention import HEADS, expected_row, make_cube, make_model

from timo.errors import TimoError
from timo.inspection import attention_at, neighbourhood


@pytest.mark.parametrize(("stage", "block"), [(1, 0), (1, 1), (2, 0), (3, 1), (4, 0)])
@pytest.mark.parametrize(("norm", "token"), [("layer", 4), ("batch", 4), ("layer", 2)])
def test_equals_the_row_of_the_full_softmax(stage, block, norm, token):
    model = make_model(norm=norm, token=token)
    cube = make_cube(h=10 * token, w=9 * token)
    date, row, col = 2, 3 * token + 1, 7 * token + 1
    expected = expected_row(model, cube, stage, block, (date, row, col))
    for head in range(HEADS[stage - 1]):
        found = attention_at(
            model, cube, cube.x[col].item(), cube.y[row].item(), cube.time[date], stage, block, head
        )
        np.testing.assert_allclose(found.weight, expected[head], rtol=0, atol=1e-5)
    mean = attention_at(
        model, cube, time=cube.time[date], stage=stage, block=block, row=row, col=col
    )
    np.testing.assert_allclose(mean.weight, expected.mean(axis=0), rtol=0, atol=1e-5)
    # A flat softmax would pass with anything.
    assert expected.max() > 3 * expected[expected > 0].mean()


def test_the_gate_and_the_cloud_change_the_row():
    cube, options = (
        make_cube(),
        {"time": "2019-05-20", "row": 30, "col": 41, "stage": 1, "block": 0},
    )
    model = make_model()
    before = attention_at(model, cube, **options).weight
    clear = attention_at(model, make_cube(missing=0.0), **options).weight
    with torch.no_grad():
        model.encoder.stages[0].blocks[0].attention.gate.norm.bias += 3
    after = attention_at(model, cube, **options)
    assert float(abs(before - clear).max()) > 1e-3
    assert float(after.space.sum()) > float(before.isel(time=1).sum()) + 1e-3


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
@pytest.mark.parametrize("block", [-1, "mean"])
def test_sums_to_one_and_hidden_tokens_have_none(stage, block):
    model, cube = make_model(), make_cube()
    found = attention_at(model, cube, time="2019-05-20", row=40, col=50, stage=stage, block=block)
    np.testing.assert_allclose(found.weight.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(found.dates.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(found.dates.isel(time=1), found.space.sum(), atol=1e-6)
    assert stage > 2 or not bool(found.observed.all())
    assert float(found.weight.where(~found.observed, 0).max()) == 0
    assert float(found.weight.min()) >= 0


def test_the_mean_over_blocks_is_the_mean_of_the_blocks():
    model, cube = make_model(), make_cube()
    query = {"time": "2019-05-03", "row": 5, "col": 50, "stage": 3, "head": 2}
    blocks = [attention_at(model, cube, block=b, **query).weight for b in (0, 1)]
    mean = attention_at(model, cube, block="mean", **query).weight
    np.testing.assert_allclose(mean, (blocks[0] + blocks[1]) / 2, atol=1e-6)


def test_gyroscope_looks_at_its_frame_and_its_place():
    found = attention_at(make_model(), make_cube(), time="2019-06-06", row=41, col=22, stage=2)
    assert found.attrs["attention"] == "stga"
    other = found.weight.drop_isel(time=2)
    row, col = found.attrs["token_row"], found.attrs["token_col"]
    assert (row, col) == (41 // 8, 22 // 8)
    assert float(other.isel(y=row, x=col).sum()) == pytest.approx(float(other.sum()))


def test_says_where_its_tokens_are():
    cube = make_cube()
    found = attention_at(make_model(), cube, cube.x[20].item(), cube.y[9].item(), "2019-06-20", 2)
    assert found.sizes == {"time": 4, "y": 9, "x": 7}
    assert float(found.x[0]) == pytest.approx(float(cube.x[:8].mean()))
    assert float(found.y[1]) == pytest.approx(float(cube.y[8:16].mean()))
    assert found.rio.crs == cube.rio.crs
    asked = {
        "stage": 2,
        "block": -1,
        "head": "mean",
        "stride": 8,
        "date": "2019-06-23",
        "row": 9,
        "col": 20,
    }
    assert asked.items() <= found.attrs.items()


def test_leaves_the_model_alone():
    model, cube = make_model().train(), make_cube()
    attention_at(model, cube, time="2019-05-03", row=0, col=40, stage=1)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_two_threads_do_not_meet():
    model, cube = make_model(), make_cube()
    query = {"time": "2019-05-03", "col": 40}
    alone = [attention_at(model, cube, row=r, stage=3, **query).weight for r in (0, 40)]
    found = {}

    def ask(i, row):
        for _ in range(5):
            found[i] = attention_at(model, cube, row=row, stage=3, **query).weight

    threads = [threading.Thread(target=ask, args=a) for a in ((0, 0), (1, 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in (0, 1):
        np.testing.assert_allclose(found[i], alone[i], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"row": None, "col": None, "x": 0.0, "y": 5e6},
            r"x = 0 is outside .* from 299995 to 300555",
        ),
        ({"row": None, "col": None}, "Give the place as x and y"),
        ({"x": 300_000.0}, "Give the place as x and y"),
        ({"row": 72}, "row must be a whole number from -72 to 71; got 72"),
        ({"time": "2018-01-01"}, "no date near 2018-01-01; the cube has 4 dates from 2019-05-03"),
        ({"time": "tomorrowish"}, "'tomorrowish' is no date"),
        ({"time": 2}, "time must be a date"),
        ({"time": ["2019-05-03"]}, "time must be a date"),
        ({"time": None}, "time must be a date"),
        ({"stage": 0}, "stage must be a whole number from 1 to 4; got 0"),
        ({"stage": True}, "stage must be a whole number from 1 to 4; got True"),
        ({"stage": 3, "block": 2}, "block of stage 3 must be a whole number from -2 to 1; got 2"),
        ({"head": 4}, "head of stage 4 must be a whole number from -4 to 3; got 4"),
        ({"head": "all"}, "head must be a whole number or one of 'mean'; got 'all'"),
        (
            {"stage": 1, "row": 10, "col": 10, "time": "2019-05-20"},
            "On 2019-05-20 no pixel .* nearest with an observation is 2019-05-03",
        ),
    ],
)
def test_says_what_is_wrong(options, message):
    query = {"time": "2019-05-03", "row": 40, "col": 10} | options
    with pytest.raises(TimoError, match=message):
        attention_at(make_model(), make_cube(), **query)


@pytest.mark.parametrize(
    "time", [pd.Timestamp("2019-05-03", tz="UTC"), dt.date(2019, 5, 3), np.datetime64("2019-05-03")]
)
def test_takes_dates_of_any_kind(time):
    options = {"row": np.int64(40), "col": np.array(10), "stage": np.uint8(3), "head": np.int8(1)}
    found = attention_at(make_model(), make_cube(), time=time, **options)
    assert found.attrs["date"] == "2019-05-03"
    assert type(found.attrs["stage"]) is int


def test_a_place_that_is_never_seen():
    cube = make_cube()
    cube[:, :, :32, :32] = np.nan
    with pytest.raises(TimoError, match=r"is ever observed. Choose another place"):
        attention_at(make_model(), cube, time="2019-05-03", row=3, col=3)


def test_other_bands_are_left_out_and_missing_ones_named():
    cube = make_cube()
    extra = cube.isel(band=[0]).assign_coords(band=["B8"])
    more = xr.concat([extra, cube], dim="band")
    query = {"time": "2019-05-03", "row": 40, "col": 10}
    xr.testing.assert_equal(
        attention_at(make_model(), more, **query), attention_at(make_model(), cube, **query)
    )
    with pytest.raises(TimoError, match=r"\['B2'\] missing"):
        attention_at(make_model(), cube.isel(band=[1, 2]), **query)


def test_the_neighbourhood_is_what_a_map_sees():
    cube = make_cube(t=9, h=320, w=256)
    cube[3] = np.nan
    part = neighbourhood(
        cube, cube.x[200].item(), cube.y[250].item(), cube.time[4], pixels=128, window=4
    )
    assert part.sizes == {"time": 4, "band": 3, "y": 128, "x": 128}
    assert [int(np.flatnonzero(cube.time.values == d)[0]) for d in part.time.values] == [1, 2, 4, 5]
    assert cube.y.values[250] in part.y.values
    assert cube.x.values[200] in part.x.values
    assert int(np.flatnonzero(cube.y.values == part.y.values[0])[0]) % 32 == 0
    whole = neighbourhood(cube, row=0, col=0, time=cube.time[0], pixels=999, window=99)
    assert whole.sizes["y"] == 320
    assert whole.sizes["time"] == 8
    with pytest.raises(TimoError, match="window must be a whole number of 1 or more; got 0"):
        neighbourhood(cube, row=0, col=0, time=cube.time[0], window=0)
