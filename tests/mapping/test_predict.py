import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo import cube as timo_cube
from timo.errors import TimoError
from timo.mapping import compute, export, predict
from timo.mapping.provenance import weights_hash
from timo.mapping.scoring import windows as _windows
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.tasks import TiMo, build
from timo.training import ChipOptions, Optimisation, finetune

few = settings(max_examples=30, deadline=None)


def to_cube(values, bands=("B4", "B8"), **attrs):
    dates, _, height, width = values.shape
    cube = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2018-05-01", periods=dates, freq="10D"),
            "band": list(bands),
            "y": 1000.0 - 10 * np.arange(height),
            "x": 500_000.0 + 10 * np.arange(width),
        },
        attrs={"sensor": "sentinel-2", "attribution": "made up"} | attrs,
    )
    return cube.rio.write_crs("EPSG:32634")


def random_cube(dates=5, height=20, width=23, seed=0, gaps=0.3):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (dates, 2, height, width)).astype("float32")
    return to_cube(
        np.where(rng.random((dates, 1, height, width)) < gaps, np.float32(np.nan), values)
    )


@dataclass(frozen=True)
class StubConfig:
    per_date: bool = True
    task: str = "segmentation"
    bands: tuple[str, ...] = ("B4", "B8")
    classes: tuple[str, ...] = ("forest", "other")
    sensor: str = "sentinel-2"


class Stub(TiMo):
    """A model that looks `radius` pixels around, and at nothing else; it keeps what it was given."""

    def __init__(self, radius=0, **config):
        torch.nn.Module.__init__(self)
        self.config, self.radius = StubConfig(**config), radius
        self.weight = torch.nn.Parameter(torch.tensor(3.0))
        self.calls = []

    def __deepcopy__(self, memo):
        copied = Stub(self.radius, **vars(self.config)).train(self.training)
        copied.load_state_dict(self.state_dict())
        copied.calls = self.calls
        return copied

    def forward(self, x, dates):
        self.calls.append((tuple(x.shape), dates[0].tolist(), self.training))
        first, second = x.nan_to_num(0.0).unbind(dim=2)
        scores = self.weight * (first - second)
        pad = torch.nn.functional.pad(scores, [self.radius] * 4)
        span = range(2 * self.radius + 1)
        height, width = scores.shape[-2:]
        scores = sum(pad[..., i : i + height, j : j + width] for i in span for j in span)
        scores = torch.stack([scores * k for k in range(len(self.config.classes))], dim=2)
        return scores if self.config.per_date else scores.mean(dim=1)


# --- tiles


@few
@given(
    height=st.integers(1, 18),
    width=st.integers(1, 18),
    tile=st.integers(4, 20),
    radius=st.integers(0, 3),
    extra=st.integers(0, 3),
    window=st.integers(1, 7),
    kind=st.sampled_from(["per date", "filled", "series"]),
)
def test_tiles_with_a_halo_are_one_map(*, height, width, tile, radius, extra, window, kind):
    # A window is of the dates that have an observation in the tile. Where it matters which these are, all have.
    cube = random_cube(4, height, width, gaps=0.3 if kind == "per date" else 0)
    model = Stub(radius, per_date=kind != "series")
    options = {"fill_gaps": kind == "filled", "window": window}
    whole = predict(model, cube, tile=100, halo=0, **options).compute()
    tiled = predict(model, cube, tile=tile, halo=radius + extra, **options).compute()
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=1e-6)
    assert tiled.probability.dims == whole.probability.dims
    assert (tiled.label == whole.label).mean() > 0.99
    np.testing.assert_allclose(tiled.entropy, whole.entropy, atol=1e-5)


def test_the_model_sees_a_tile_and_its_halo_and_no_more():
    model = Stub()
    predict(model, random_cube(3, 20, 30, gaps=0), tile=8, halo=3).compute(scheduler="sync")
    shapes = [shape[-2:] for shape, _, _ in model.calls]
    rows, columns = (11, 14, 7), (11, 14, 14, 9)
    assert sorted(shapes) == sorted((row, column) for row in rows for column in columns)


# --- laziness


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    values = da.zeros((3, 2, 40, 40), chunks=(1, 2, 16, 16), dtype="float32")
    lazy = to_cube(values.map_blocks(fail, dtype="float32", meta=np.empty((0, 0, 0, 0), "float32")))
    model = Stub()
    result = predict(model, lazy, tile=16)
    assert not model.calls
    assert all(array.chunks for array in result.data_vars.values())
    with pytest.raises(AssertionError, match="computed"):
        result.label.isel(time=0, y=0, x=0).compute()


def test_a_pixel_asks_for_its_own_tile_only():
    read = []

    def note(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    values = da.ones((3, 2, 40, 40), chunks=(3, 2, 8, 8), dtype="float32")
    noted = values.map_blocks(note, dtype="float32", meta=np.empty((0, 0, 0, 0), "float32"))
    model = Stub()
    result = predict(model, to_cube(noted), tile=8, halo=2)
    result.probability.isel(y=20, x=20).compute()
    assert len(model.calls) == 1
    assert {place[2:] for place in read} == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}


def test_lazy_and_eager_cubes_give_the_same(tmp_path):
    cube = random_cube()
    eager = predict(Stub(1), cube, tile=8, halo=2).compute()
    lazy = predict(Stub(1), cube.chunk(time=2, y=7, x=9), tile=8, halo=2)
    xr.testing.assert_equal(lazy.compute(), eager)
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            xr.testing.assert_equal(lazy.compute(), eager)
    # From a file, without chunks.
    cube.rename("cube").to_netcdf(tmp_path / "cube.nc")
    with xr.open_dataset(tmp_path / "cube.nc", decode_coords="all") as opened:
        assert not opened.cube.variable._in_memory
        result = predict(Stub(1), opened.cube, tile=8, halo=2)
        assert not opened.cube.variable._in_memory
        np.testing.assert_array_equal(result.probability.compute(), eager.probability)


def test_the_map_is_of_the_model_as_it_was():
    """Trained further, or in training, by the time that the map is computed."""
    cube, model = random_cube(), Stub().train()
    before = predict(model, cube)
    expected = before.compute()
    with torch.no_grad():
        model.weight.fill_(-3.0)
    assert model.training
    xr.testing.assert_equal(before.compute(), expected)
    assert not any(training for _, _, training in model.calls)
    assert float(abs(predict(model, cube).probability - expected.probability).max()) > 0.1


MEMORY = """
import resource, sys, dask, dask.array as da, numpy as np, torch
import timo
from test_predict import Stub, to_cube

torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def run(size):
    values = da.random.random((6, 2, size, size), chunks=(6, 2, 256, 256)).astype("float32")
    result = timo.predict(Stub(), to_cube(values), tile=256, halo=32)
    with dask.config.set(scheduler="threads", num_workers=2):
        timo.export(result, sys.argv[1])
run(256)
before = peak()
run(2048)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_is_that_of_a_tile_not_of_the_area(tmp_path):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + MEMORY
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "map.zarr")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The cube is of 200 MB, the map of 330 MB; what dask holds grows a little, with the width of the map.
    assert float(done.stdout) < 200
    written = xr.open_zarr(tmp_path / "map.zarr")
    assert written.probability.shape == (2, 6, 2048, 2048)


# --- windows of dates


@few
@given(n=st.integers(0, 40), length=st.integers(1, 15))
def test_windows_cover_all_dates_and_overlap_by_half(n, length):
    indices = np.arange(100, 100 + n)
    windows = list(_windows(indices, length))
    assert sorted(set(np.concatenate(windows, dtype=int))) == list(indices) if n else not windows
    for some in windows:
        assert (np.diff(some) == 1).all()
        assert len(some) == min(length, n)
    for one, other in pairwise(windows):
        assert len(np.intersect1d(one, other)) >= length // 2
        assert one[-1] < other[-1]


def test_where_windows_overlap_their_mean_counts():
    class Counts(Stub):
        """Class 1 has the odds of the number of its call."""

        def __deepcopy__(self, memo):
            return self

        def forward(self, x, dates):
            self.calls.append(dates[0].tolist())
            ones = torch.ones(1, x.shape[1], *x.shape[-2:])
            return torch.stack([ones * 0, ones * np.log(len(self.calls))], dim=2)

    model, cube = Counts(), random_cube(6, 4, 4, gaps=0)
    result = predict(model, cube, window=4).compute()
    days = (cube.time.values.astype("datetime64[D]").astype(int)).tolist()
    assert model.calls == [days[:4], days[2:]]
    p = [1 / 2, 2 / 3]
    expected = [p[0], p[0], np.mean(p), np.mean(p), p[1], p[1]]
    np.testing.assert_allclose(
        result.probability.sel({"class": "other"})[:, 0, 0], expected, atol=1e-6
    )


def test_dates_without_an_observation_in_the_tile_are_not_shown_to_the_model():
    cube = random_cube(5, 8, 8, gaps=0)
    cube[2] = np.nan
    model = Stub()
    predict(model, cube).compute()
    assert [len(dates) for _, dates, _ in model.calls] == [4]
    model.calls.clear()
    predict(model, cube, fill_gaps=True).compute()
    assert [len(dates) for _, dates, _ in model.calls] == [5]


# --- values


def test_a_map_is_on_the_cubes_grid_with_its_names():
    cube = random_cube()
    result = predict(Stub(), cube)
    assert result.probability.dims == ("class", "time", "y", "x")
    assert list(result["class"].values) == ["forest", "other"]
    assert {name: str(array.dtype) for name, array in result.data_vars.items()} == {
        "label": "int8",
        "probability": "float32",
        "entropy": "float32",
    }
    for dim in ("time", "y", "x"):
        assert result.indexes[dim].equals(cube.indexes[dim])
    assert result.rio.crs == cube.rio.crs
    assert result.label.attrs["classes"] == ["forest", "other"]
    assert result.label.rio.nodata == -1
    assert result.entropy.attrs["units"] == "bit"


@few
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_probabilities_add_up_and_label_and_entropy_follow(seed, classes):
    names = tuple("abcde"[:classes])
    result = predict(Stub(classes=names), random_cube(3, 6, 7, seed)).compute()
    known = result.label.values >= 0
    p = result.probability.values[:, known]
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
    assert (result.label.values[known] == p.argmax(axis=0)).all()
    entropy = result.entropy.values[known]
    np.testing.assert_allclose(entropy, -(p * np.log2(p)).sum(axis=0), atol=1e-5)
    assert (entropy >= 0).all()
    assert (entropy <= np.float32(np.log2(classes))).all()


def test_entropy_of_two_classes_is_from_0_to_1():
    model = Stub()
    cube = random_cube(2, 8, 8, gaps=0)
    with torch.no_grad():
        model.weight.fill_(0)
        even = predict(model, cube).entropy.compute()
        assert (even == 1).all()
        model.weight.fill_(1e4)
    sure = predict(model, cube).entropy.compute()
    assert (sure >= 0).all()
    assert (sure < 1e-3).mean() > 0.9


def test_what_was_not_observed_is_no_data_unless_gaps_are_filled():
    cube = random_cube()
    gaps = np.isnan(cube.values).any(axis=1)
    # One band missing is no observation either.
    cube.values[0, 1, 3, 4] = np.nan
    gaps[0, 3, 4] = True
    result = predict(Stub(), cube, tile=8).compute()
    assert (np.isnan(result.probability).all("class").values == gaps).all()
    assert (np.isnan(result.probability).any("class").values == gaps).all()
    assert (np.isnan(result.entropy.values) == gaps).all()
    assert ((result.label == -1).values == gaps).all()
    filled = predict(Stub(), cube, tile=8, fill_gaps=True).compute()
    assert np.isfinite(filled.probability).all()
    assert (filled.label >= 0).all()
    assert filled.label.where(~gaps).equals(result.label.where(~gaps))


def test_a_tile_under_cloud_is_no_data():
    cube = random_cube(4, 16, 16, gaps=0)
    cube[:, :, :8, :8] = np.nan
    for options in ({}, {"fill_gaps": True}):
        model = Stub()
        result = predict(model, cube, tile=8, halo=0, **options).compute()
        assert len(model.calls) == 3
        dark = np.zeros((16, 16), bool)
        dark[:8, :8] = True
        assert ((result.label == -1).values == dark).all()
        assert (np.isnan(result.entropy.values) == dark).all()


def test_a_model_of_the_series_gives_one_map():
    cube = random_cube(6, 12, 13, gaps=0)
    cube[:, :, 3, 5] = np.nan
    cube[2:, :, 7, 7] = np.nan
    result = predict(Stub(per_date=False), cube, tile=8, halo=2).compute()
    assert result.probability.dims == ("class", "y", "x")
    assert result.label.dims == ("y", "x")
    assert "time" not in result.coords
    never = np.zeros((12, 13), bool)
    never[3, 5] = True
    assert ((result.label == -1).values == never).all()
    assert (np.isnan(result.entropy.values) == never).all()
    filled = predict(Stub(per_date=False), cube, fill_gaps=True).compute()
    assert (filled.label >= 0).all()


def test_bands_are_taken_by_name():
    cube = random_cube()
    more = xr.concat([cube.sel(band=["B8"]) * 0 + np.float32(0.9), cube], dim="band")
    more = more.assign_coords(band=["B2", "B4", "B8"]).isel(band=[2, 0, 1])
    more.attrs = cube.attrs
    expected = predict(Stub(), cube).compute()
    xr.testing.assert_equal(predict(Stub(), more).compute(), expected)


def test_many_classes_have_labels():
    names = tuple(f"c{i}" for i in range(200))
    result = predict(Stub(classes=names), random_cube(2, 4, 4, gaps=0) * 0 + np.float32(0.5))
    assert result.label.dtype == np.int16


def test_the_map_says_where_it_comes_from():
    model = Stub()
    result = predict(model, random_cube(), tile=16, halo=4)
    record = json.loads(result.attrs["provenance"])
    assert record["parameters"] == {"tile": 16, "halo": 4, "window": 12, "fill_gaps": False}
    assert record["model"]["weights_sha256"] == weights_hash(model)
    assert record["cube"]["attribution"] == "made up"
    assert result.attrs["attribution"] == "made up"


def test_dates_of_a_window_by_default():
    """12 of a model that answers for each date; all, up to 64, of one that answers for the series."""
    cube = random_cube(70, 4, 4, gaps=0)
    model = Stub()
    predict(model, cube).compute()
    assert {len(dates) for _, dates, _ in model.calls} == {12}
    series = Stub(per_date=False)
    record = json.loads(predict(series, cube).attrs["provenance"])
    assert record["parameters"]["window"] == 64
    predict(series, cube.isel(time=slice(40))).compute()
    assert [len(dates) for _, dates, _ in series.calls] == [40]


# --- values of a regression


class Slope(Stub):
    """A regression: the second band over the first, and an interval of one on either side."""

    def answer(self, scores):
        value, _, _ = scores.split(1, dim=-3)
        return torch.cat([value, value - 1, value + 1], dim=-3)


@dataclass(frozen=True)
class SlopeConfig(StubConfig):
    task: str = "regression"
    classes: tuple[str, ...] = ()
    target: str = "height"
    target_units: str = "m"
    interval: float = 0.9


def slope(per_date):
    model = Slope(per_date=per_date)
    model.config = SlopeConfig(per_date=per_date)
    model.__class__ = type("Copied", (Slope,), {"__deepcopy__": lambda self, _: self})
    model.forward = lambda x, _: torch.stack(
        [(x[:, :, 1] - x[:, :, 0]).nan_to_num(0.0)] * 3, dim=2
    )[:, slice(None) if per_date else 0]
    return model


@pytest.mark.parametrize("per_date", [True, False])
def test_a_regression_gives_values_with_their_unit(per_date, tmp_path):
    cube = random_cube(3, 10, 9)
    result = predict(slope(per_date), cube, tile=4, halo=0)
    assert list(result.data_vars) == ["value", "low", "high"]
    assert result.value.dtype == np.float32
    assert result.value.attrs["units"] == "m"
    assert result.low.attrs["long_name"] == "lower end of the 90% interval of height"
    assert np.isnan(result.value.rio.nodata)
    found = result.compute()
    np.testing.assert_allclose(found.high - found.low, found.value * 0 + 2)
    if per_date:
        expected = cube.values[:, 1] - cube.values[:, 0]
        np.testing.assert_allclose(found.value, expected, atol=1e-6)
    else:
        never = np.isnan(cube.values).any(axis=1).all(axis=0)
        assert (np.isnan(found.value.values) == never).all()
        export(found.value, tmp_path / "height.tif")


# --- what would give a wrong map, or none


def test_a_model_whose_weights_are_not_finite_is_refused():
    model = Stub()
    with torch.no_grad():
        model.weight.fill_(np.nan)
    with pytest.raises(TimoError, match=r"weights are not finite \(in weight\)"):
        predict(model, random_cube())


def test_a_band_without_a_value_is_named():
    cube = random_cube()
    with pytest.raises(TimoError, match="band B8 has no value at all"):
        predict(Stub(), cube.where(cube.band != "B8"))


def test_a_map_without_data_is_said():
    cube = random_cube(4, 6, 6, gaps=0)
    # Never both bands at once.
    cube.values[:2, 0], cube.values[2:, 1] = np.nan, np.nan
    with pytest.raises(TimoError, match="No pixel of the cube is observed in all bands"):
        predict(Stub(), cube)
    lazy = predict(Stub(), cube.chunk())
    with pytest.warns(UserWarning, match="has no data anywhere"):
        found = compute(lazy)
    assert (found.label == -1).all()


# --- TiMo itself


def make_timo(per_date=True):
    encoder = EncoderConfig(
        in_channels=2, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TiMo(
            ModelConfig(
                encoder=encoder,
                bands=("B4", "B8"),
                classes=("forest", "other"),
                mean=(0.07, 0.27),
                std=(0.04, 0.1),
                per_date=per_date,
                head_width=8,
                detail=4,
            )
        )
    return model.eval()


@pytest.fixture(scope="module")
def trained():
    """A cube of two kinds of ground under some clouds, and a model that knows them."""
    rng = np.random.default_rng(0)
    rows, columns = np.arange(96)[:, None], np.arange(112)[None]
    other = np.sin(rows / 5) + np.cos(columns / 7) > 0.3
    red, nir = np.where(other, 0.12, 0.04), np.where(other, 0.18, 0.30)
    values = np.stack([red, nir]) + rng.normal(0, 0.02, (8, 2, 96, 112))
    cloudy = (np.sin(rows / 6 + np.arange(8)[:, None, None]) + np.cos(columns / 9)) > 1.4
    cube = to_cube(np.where(cloudy[:, None], np.nan, values).astype("float32"))
    labels = xr.zeros_like(cube.isel(time=0, band=0, drop=True)).copy(data=other).astype("int8")
    labels.attrs = {}
    model = make_timo()
    finetune(
        model,
        cube,
        labels,
        epochs=5,
        chips_per_epoch=32,
        chips=ChipOptions(size=16, dates=(3, 6)),
        optimisation=Optimisation(learning_rate=0.01),
        progress=False,
    )
    return model, cube, labels


def test_tiled_and_untiled_maps_agree(trained):
    model, cube, labels = trained
    whole = predict(model, cube, tile=200, halo=0).compute()
    tiled = predict(model, cube, tile=48, halo=32).compute()
    seen = whole.label >= 0
    assert 0.1 < float((whole.label == 1).where(seen).mean()) < 0.9
    assert float((whole.label == labels).where(seen).mean()) > 0.95
    assert float((tiled.label == whole.label).where(seen).mean()) > 0.97
    assert float(abs(tiled.probability - whole.probability).mean()) < 0.02


@pytest.mark.parametrize("token", [2, 1])
def test_tiled_and_untiled_maps_agree_at_finer_tokens(trained, token):
    """Of a model trained at 4, asked at 2 and 1: the map is another, and still knows the ground."""
    model, cube, labels = trained
    cube, labels = (a.isel(y=slice(64), x=slice(64)) for a in (cube.isel(time=slice(4)), labels))
    fine = model.with_token(token)
    whole = predict(fine, cube, tile=200, halo=0).compute()
    tiled = predict(fine, cube, tile=32, halo=16).compute()
    seen = whole.label >= 0
    assert float((whole.label == labels).where(seen).mean()) > 0.9
    assert float((tiled.label == whole.label).where(seen).mean()) > 0.97
    assert float(abs(tiled.probability - whole.probability).mean()) < 0.02
    assert not whole.probability.equals(
        predict(model, cube, tile=200, halo=0).compute().probability
    )


def test_what_a_fine_map_costs_is_said_at_the_door():
    cube = random_cube(1, 200, 200, gaps=0)
    fine = make_timo().with_token(1)
    with pytest.warns(UserWarning, match=r"36,864 tokens.*tile=96, halo=16") as said:
        predict(fine, cube)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(fine, cube, tile=96, halo=16)
        predict(fine, cube.isel(y=slice(128), x=slice(128)))
        predict(fine.with_token(2), cube)
        predict(fine.with_token(4), cube, tile=600)


def test_timo_for_the_series():
    cube = random_cube(3, 33, 21, gaps=0)
    result = predict(make_timo(per_date=False), cube, tile=16, halo=16).compute()
    assert result.label.shape == (33, 21)
    np.testing.assert_allclose(result.probability.sum("class"), 1, atol=1e-5)


# --- errors


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"window": 0}, {"halo": -1}])
def test_options_that_make_no_sense(wrong):
    with pytest.raises(TimoError, match=f"{next(iter(wrong))} must be a whole number"):
        predict(Stub(), random_cube(), **wrong)


def test_what_does_not_fit():
    cube = random_cube()
    with pytest.raises(
        TimoError,
        match=r"reads the bands \['B4', 'B8'\], the cube has \['B4'\]: \['B8'\] missing",
    ):
        predict(Stub(), cube.sel(band=["B4"]))
    with pytest.raises(TimoError, match="cube's dims must be in the order"):
        predict(Stub(), cube.transpose("band", "time", "y", "x"))
    with pytest.raises(TimoError, match="cube is all NaN"):
        predict(Stub(), cube * np.float32(np.nan))
    with pytest.raises(TimoError, match="no coordinate reference system"):
        predict(Stub(), cube.drop_vars("spatial_ref"))


# --- several sensors


def joint(seed=0):
    """A cube of two bands of Sentinel-2, under clouds, and two of Sentinel-1, each at its own dates."""
    optical = random_cube(4, 9, 10, seed, gaps=0.4)
    radar = random_cube(3, 9, 10, seed + 1, gaps=0) * 10 - 20
    radar = radar.assign_coords(
        time=optical.time[:3] + np.timedelta64(5, "D"), band=["VV", "VH"]
    ).assign_attrs(sensor="sentinel-1")
    return timo_cube.join(optical, radar)


def joint_model(per_date):
    encoder = EncoderConfig(
        in_channels=4,
        dims=(8, 8, 16, 16),
        depths=(1, 1, 1, 1),
        heads=(1, 1, 2, 2),
        groups=(2, 2),
    )
    config = ModelConfig(
        encoder=encoder,
        bands=("B4", "B8", "VV", "VH"),
        classes=("forest", "other"),
        mean=(0.1, 0.3, -10.0, -17.0),
        std=(0.1, 0.1, 4.0, 4.0),
        per_date=per_date,
        sensor="sentinel-2+sentinel-1",
        head_width=8,
        detail=4,
    )
    return build(config)


def test_a_radar_observation_counts_under_a_cloud():
    cube = joint()
    clear = np.isfinite(cube.values[:, :2]).all(axis=1)
    lit = np.isfinite(cube.values[:, 2:]).all(axis=1)
    assert 0.3 < clear.any(axis=(1, 2)).mean() < 0.8
    result = predict(joint_model(per_date=True), cube, tile=5, halo=2).compute()
    np.testing.assert_array_equal(result.label.values >= 0, clear | lit)
    series = predict(joint_model(per_date=False), cube).compute()
    assert (series.label >= 0).all()


def test_a_sensor_may_be_missing_and_a_band_of_it_may_not():
    cube = joint()
    model = joint_model(per_date=True)
    alone = cube.where(~cube.band.isin(["VV", "VH"]))
    clear = np.isfinite(cube.values[:, :2]).all(axis=1)
    np.testing.assert_array_equal(predict(model, alone).compute().label.values >= 0, clear)
    with pytest.raises(TimoError, match="band VH has no value at all"):
        predict(model, cube.where(cube.band != "VH"))
