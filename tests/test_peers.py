"""The models that TiMo is compared with, and the comparison itself, on a small synthetic cube."""

import importlib
import json
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import timo
from timo.errors import TimoError
from timo.loading import load_shipped
from timo.models import save_encoder

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
# The peers' shapes are checked as those of timo.models are.
jaxtyping.install_import_hook("peers", "beartype.beartype")

accuracy = importlib.import_module("accuracy")
conditions = importlib.import_module("peers.conditions")
medians = importlib.import_module("peers.medians")
inputs = importlib.import_module("peers.inputs")
loss = importlib.import_module("peers.loss")
report = importlib.import_module("peers.report")
task_module = importlib.import_module("peers.task")
testing = importlib.import_module("peers.testing")
utae = importlib.import_module("peers.utae")
unet3d = importlib.import_module("peers.unet3d")

BANDS = ("B3", "B4", "B8")
CONFIG = inputs.PeerConfig(BANDS, ("other", "forest"), (0.07, 0.07, 0.27), (0.03, 0.04, 0.1))
SMALL = {
    "u-tae": lambda: utae.UTAE(CONFIG, encoder=(16, 16, 32), decoder=(16, 16, 32), heads=8),
    "unet-3d": lambda: unet3d.UNet3D(CONFIG, widths=(4, 8, 8)),
}


@pytest.fixture(params=SMALL)
def peer(request):
    """A peer whose normalisations have seen something, so that their statistics are not 0 and 1."""
    torch.manual_seed(0)
    model = SMALL[request.param]()
    with torch.no_grad():
        for _ in range(2):
            model.train()(*series(b=2, t=4, size=(12, 12)))
    return model.eval()


def series(b=1, t=3, size=(16, 16), seed=0):
    """Values, dates and gaps; every date has an observation."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(b, t, len(BANDS), *size, generator=draw) * 0.4
    dates = 17_600.0 + 12 * torch.arange(t).float().expand(b, -1)
    valid = torch.rand(b, t, *size, generator=draw) > 0.2
    valid[..., 0, 0] = True
    return x, dates, valid


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- the models


@pytest.mark.parametrize("t", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (16, 16)])
def test_any_size_and_number_of_dates(peer, t, size):
    scores = peer(*series(t=t, size=size))
    assert scores.shape == (1, 2, *size)
    assert scores.isfinite().all()


def test_padding_dates_change_nothing(peer):
    x, dates, valid = series(b=2)
    padded = (torch.cat([a, torch.zeros_like(a[:, :2])], dim=1) for a in (x, dates, valid))
    close(peer(*padded), peer(x, dates, valid))


def test_what_is_masked_changes_nothing(peer):
    x, dates, valid = series()
    for fill in (0.0, 1e30, float("nan")):
        filled = torch.where(valid[:, :, None], x, torch.tensor(fill))
        assert torch.equal(peer(filled, dates, valid), peer(x, dates, valid))


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_date_without_observation_is_as_if_it_were_not_there(peer, position):
    x, dates, valid = series(t=4)
    valid[:, position] = False
    others = [i for i in range(4) if i != position]
    close(peer(x, dates, valid), peer(x[:, others], dates[:, others], valid[:, others]))


def test_a_neighbour_in_the_batch_changes_nothing(peer):
    one, two = series(t=3, seed=1), series(t=3, seed=2)
    both = [torch.cat(pair) for pair in zip(one, two, strict=True)]
    close(peer(*both)[:1], peer(*one))


def test_the_order_in_which_dates_are_given_changes_nothing(peer):
    x, dates, valid = series(t=4)
    order = torch.tensor([2, 0, 3, 1])
    close(peer(x[:, order], dates[:, order], valid[:, order]), peer(x, dates, valid))


def test_a_series_of_nothing_is_answered(peer):
    x, dates, valid = series()
    assert peer(x, dates, torch.zeros_like(valid)).isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = SMALL[name]().train()
    model(*series(b=2, t=3, size=(16, 16))).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_gradient_does_not_come_from_gaps(peer):
    x, dates, valid = series()
    x.requires_grad_()
    peer(x, dates, valid).square().sum().backward()
    by_band = x.grad.abs().amax(dim=2)
    assert (by_band[~valid] == 0).all()
    assert (by_band[valid] > 0).any()


@pytest.mark.parametrize(
    ("build", "bands", "classes", "millions"),
    # Garnot and Landrieu 2021, table 2: ten bands and 20 classes; one channel here is the mask of valid pixels.
    [(utae.UTAE, 9, 20, 1.1), (unet3d.UNet3D, 9, 20, 1.6)],
)
def test_published_widths_have_the_published_number_of_parameters(build, bands, classes, millions):
    config = inputs.PeerConfig(
        tuple(map(str, range(bands))),
        tuple(map(str, range(classes))),
        (0.0,) * bands,
        (1.0,) * bands,
    )
    count = sum(p.numel() for p in build(config).parameters())
    assert round(count / 1e6, 1) == millions


# --- U-TAE's parts


def test_attention_weights_are_a_mean_over_the_dates_that_are_present():
    attention = utae.LightweightTemporalAttention(16, width=32, heads=4).eval()
    x, (_, dates, _) = torch.rand(2, 5, 16, 3, 2), series(b=2, t=5)
    present = torch.tensor([[True, True, False, True, False], [True] * 5])
    out, weights = attention(x, dates, present)
    assert out.shape == (2, 16, 3, 2)
    assert weights.shape == (2, 5, 4, 3, 2)
    close(weights.sum(dim=1), torch.ones(2, 4, 3, 2))
    assert (weights[0, ~present[0]] == 0).all()


def test_a_skip_is_collapsed_by_the_enlarged_attention_of_its_head():
    frames = torch.rand(1, 3, 4, 8, 8)
    attention = torch.zeros(1, 3, 2, 2, 2)
    attention[:, 1, 0] = 1  # the first head looks at the second date everywhere
    attention[:, 2, 1] = 1  # the other at the third
    collapsed = utae.collapse(frames, attention)
    close(collapsed[:, :2], frames[:, 1, :2])
    close(collapsed[:, 2:], frames[:, 2, 2:])


def test_normalisation_over_time_is_group_norm_where_all_is_present():
    x, present = torch.rand(6, 5, 8), torch.ones(6, 5, dtype=torch.bool)
    expected = torch.nn.functional.group_norm(x.movedim(1, 2), 4).movedim(1, 2)
    close(utae.group_norm_over_time(x, present, 4), expected)


def test_date_code_knows_the_season_and_not_the_year():
    present = torch.ones(1, 2, dtype=torch.bool)
    # 1 May and 1 August of 2018 and of 2019.
    first, second = torch.tensor([[17652.0, 17744.0]]), torch.tensor([[18017.0, 18109.0]])
    codes = [utae.date_code(dates, present, 16) for dates in (first, second)]
    torch.testing.assert_close(*codes, rtol=0, atol=0.02)
    assert (codes[0][0, 0] - codes[0][0, 1]).abs().max() > 0.5


# --- the 3-D U-Net's parts


def test_a_pool_takes_the_maximum_of_what_is_present():
    x = -torch.ones(1, 1, 3, 2, 2)
    x[0, 0, 1] = 5.0
    present = torch.tensor([[True, False, True]])
    pooled, coarse = unet3d.pool(x, present)
    assert pooled.flatten().tolist() == [-1.0, -1.0]
    assert coarse.tolist() == [[True, True]]
    assert unet3d.pool(x[:, :, :2], torch.tensor([[False, False]]))[0].item() == 0.0


# --- the conditions


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.0, 0.9), seed=st.integers(0, 1000))
def test_clouds_hide_the_share_that_was_asked_for(share, seed):
    rng = np.random.default_rng(seed)
    valid = rng.random((6, 20, 20)) > 0.1
    masks = [np.tri(20, k=k, dtype=bool) for k in (-15, -8, 0)]
    hidden = conditions.hide(valid, masks, share, rng)
    assert not (hidden & ~valid).any()
    assert abs(hidden.sum() / valid.sum() - share) <= 2 * conditions.TOLERANCE


def test_conditions_are_nested_and_the_same_each_time():
    valid = np.ones((12, 10, 10), dtype=bool)
    valid[3], valid[5, :5] = False, False
    masks = conditions.cloud_masks(valid)
    assert len(masks) == 1
    drawn, again = (
        conditions.conditions(valid, masks, counts=(2, 4, 11, 16), cloud_dates=6, draws=2)
        for _ in range(2)
    )
    assert [(c.dates, c.cloud, c.draw) for c in drawn] == [
        *[(2, 0, 0), (4, 0, 0), (11, 0, 0), (6, 25, 0), (6, 50, 0), (6, 75, 0)],
        *[(2, 0, 1), (4, 0, 1), (6, 25, 1), (6, 50, 1), (6, 75, 1)],
    ]
    for one, same in zip(drawn, again, strict=True):
        assert np.array_equal(one.when, same.when)
        assert np.array_equal(one.hidden, same.hidden)
        assert 3 not in one.when
    assert set(drawn[0].when) < set(drawn[1].when) < set(drawn[2].when)
    assert set(drawn[0].when) != set(drawn[6].when)


def test_without_partly_cloudy_dates_there_are_no_clouds_to_test_with():
    drawn = conditions.conditions(np.ones((4, 5, 5), dtype=bool), [], counts=(2,), draws=1)
    assert [c.cloud for c in drawn] == [0]


# --- the comparison


def on_grid(values, dims):
    height, width = values.shape[-2:]
    coords = {"y": 1000.0 - 10 * np.arange(height), "x": 500_000.0 + 10 * np.arange(width)}
    if "time" in dims:
        coords["time"] = pd.date_range("2018-05-01", periods=len(values), freq="15D")
    if "band" in dims:
        coords["band"] = list(BANDS)
    array = xr.DataArray(values, dims=dims, coords=coords, name="values")
    return array.rio.write_crs("EPSG:32634")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A cube and labels on disk, in the two formats."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    rows, columns = np.arange(40)[:, None], np.arange(36)[None]
    wooded = np.sin(rows / 4) + np.cos(columns / 5) > -0.4
    means = np.where(wooded, np.float32([0.05, 0.03, 0.3])[:, None, None], 0.15)
    values = means + rng.normal(0, 0.02, (10, 3, 40, 36))
    cloudy = np.sin(rows / 6 + np.arange(10)[:, None, None]) + np.cos(columns / 7) > 1.3
    values = np.where(cloudy[:, None], np.nan, values).astype("float32")
    cube = on_grid(values, ("time", "band", "y", "x")).assign_attrs(sensor="sentinel-2")
    labels = on_grid(wooded.astype("int8"), ("y", "x")).assign_attrs(classes=["other", "forest"])
    cube.to_zarr(folder / "cube.zarr")
    labels.to_netcdf(folder / "labels.nc")
    return ["--cube", str(folder / "cube.zarr"), "--labels", str(folder / "labels.nc")]


QUICK = ["--quick", "--block", "100"]


def test_quick_comparison_of_a_cube_given_by_path(paths, tmp_path, capsys):
    models = ("timo", "forest", "regression")
    command = [*paths, *QUICK, "--models", *models, "--folder", str(tmp_path)]
    accuracy.main(command)
    printed = capsys.readouterr().out
    assert "| | 2 dates | 8 dates | 8 dates, 50 % hidden |" in printed
    assert "**F1 of other**" in printed
    record = json.loads((tmp_path / "table.json").read_text())
    assert [(r["model"], r["dates"], r["cloud"]) for r in record["rows"]] == [
        (model, *condition) for model in models for condition in ((2, 0), (8, 0), (8, 50))
    ]
    by_medians = [row["accuracy"] for row in record["rows"] if row["model"] != "timo"]
    assert len(by_medians) == 6
    assert min(by_medians) > 0.9
    hidden = [score["hidden"] for score in record["results"][0]["scores"]]
    assert hidden == pytest.approx([0, 0, 0.5], abs=0.02)
    # A second run takes the results that the first one left.
    files = sorted((tmp_path / "results").iterdir())
    assert [f.name.split("-")[0] for f in files] == ["forest", "regression", "timo"]
    kept = json.loads(files[0].read_text())
    kept["scores"][0]["accuracy"] = 0.125
    files[0].write_text(json.dumps(kept))
    accuracy.main(command)
    assert "| forest | 0.125 |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["u-tae", "unet-3d"])
def test_a_peer_is_trained_by_finetune_and_maps(name, paths, monkeypatch):
    monkeypatch.setattr(accuracy, "make_model", lambda *_: SMALL[name]())
    arguments = accuracy.parse([*paths, *QUICK])
    task = accuracy.open_task(arguments)
    small = accuracy.Settings(
        epochs=2,
        chips=16,
        batch=4,
        size=16,
        chip_dates=(1, 4),
        counts=(2, 4),
        clouds=(50,),
        draws=1,
    )
    result = accuracy.measure(name, task, small, seed=0, rate=5e-3, weights=Path())
    assert result["parameters"] == sum(p.numel() for p in SMALL[name]().parameters())
    assert [(s["dates"], s["cloud"]) for s in result["scores"]] == [(2, 0), (4, 0), (8, 50)]
    assert all(0 <= s[metric] <= 1 for s in result["scores"] for metric in ("accuracy", "f1"))


def test_labels_of_test_squares_never_enter(paths):
    arguments = accuracy.parse([*paths, *QUICK])
    task = accuracy.open_task(arguments)
    assert (task.labels.values[task.truth >= 0] == -1).all()
    assert (task.truth >= 0).sum() + (task.labels.values >= 0).sum() == task.truth.size
    assert task.classes[task.focus] == "other"
    # To choose a learning rate, part of the training squares is tested, and no test square.
    tuning = accuracy.open_task(accuracy.parse([*paths, *QUICK, "--tune"]))
    assert not ((tuning.truth >= 0) & (task.truth >= 0)).any()
    assert ((tuning.truth >= 0) & (tuning.labels.values >= 0)).sum() == 0
    assert tuning.digest() != task.digest()


def test_all_models_are_new_for_each_seed_and_have_an_answer_for_the_series(paths):
    task = accuracy.open_task(accuracy.parse([*paths, *QUICK]))
    for name in ("timo", "timo-factorised", "u-tae", "unet-3d"):
        one, same, other = (accuracy.make_model(name, task, seed, Path()) for seed in (0, 0, 1))
        first = [next(p for p in m.parameters() if p.ndim > 1) for m in (one, same, other)]
        assert torch.equal(first[0], first[1])
        assert not torch.equal(first[0], first[2])
        x, dates, valid = series(t=2, size=(16, 16))
        assert one.eval()(x, dates, valid).shape == (1, 2, 16, 16)


def test_the_pretrained_row_is_left_out_without_weights(paths, tmp_path, capsys):
    command = [*paths, *QUICK, "--models", "timo-pretrained", "forest", "--folder", str(tmp_path)]
    accuracy.main([*command, "--pretrained", str(tmp_path / "none")])
    printed = capsys.readouterr().out
    assert "timo-pretrained: left out, there are no pretrained weights" in printed
    assert "| forest |" in printed
    assert "| timo-pretrained |" not in printed


@pytest.mark.parametrize("stem", ["plain", "wavelength"])
def test_the_pretrained_model_has_the_encoder_of_the_folder_and_a_new_head(paths, tmp_path, stem):
    task = accuracy.open_task(accuracy.parse([*paths, *QUICK]))
    options = {"attention": ("stga",) * 4, "stem": stem, "seed": 7}
    saved = timo.load_model("timo-tiny", task.cube, ["a", "b", "c"], **options)
    about = {name: getattr(saved.config, name) for name in ("bands", "mean", "std", "sensor")}
    save_encoder(saved.encoder, tmp_path / "encoder", **about)
    model = accuracy.make_model("timo-pretrained", task, 0, tmp_path / "encoder")
    assert model.config.classes == ("other", "forest")
    assert not model.config.per_date
    assert model.config.encoder.attention == ("stga",) * 4
    assert model.config.encoder.drop_path == 0.1
    ours, theirs = model.encoder.state_dict(), saved.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_pretrained_model_comes_with_timo_unless_a_folder_is_given(paths):
    arguments = accuracy.parse([*paths, *QUICK])
    task, shipped = accuracy.open_task(arguments), load_shipped("timo-tiny")
    assert arguments.pretrained is None
    assert accuracy.lacking(arguments.pretrained) is None
    assert accuracy.checksum(arguments.pretrained) == shipped.sha256
    model = accuracy.make_model("timo-pretrained", task, 0, arguments.pretrained)
    state = model.encoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in shipped.state.items())
    for name in ("timo", "timo-factorised"):
        random = accuracy.make_model(name, task, 2, arguments.pretrained)
        assert random.config.initial_weights == "random (seed 2)"


def test_windows_cover_every_pixel():
    assert testing.starts(100, 32) == [0, 16, 32, 48, 64, 68]
    assert testing.starts(20, 32) == [0]
    assert testing.starts(32, 32) == [0]


def test_scores_count_tested_pixels_alone():
    truth, said = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 1, 1, 0])
    found = testing.score(truth, said, focus=0)
    assert found == pytest.approx({"accuracy": 0.75, "f1": 2 / 3})
    assert testing.score(np.array([1]), np.array([1]), focus=0)["f1"] == 0


def test_monthly_medians_of_what_was_seen(paths):
    cube = xr.open_zarr(paths[1], decode_coords="all")["values"].load()
    features = medians.monthly_medians(
        cube.isel(time=[0, 1, 2, 5])
    )  # two in May, one each in May, July
    assert features.shape == (40, 36, 2 * 3)
    expected = cube.isel(time=[0, 1, 2]).median("time").transpose("y", "x", "band")
    np.testing.assert_allclose(features[..., :3], expected)


def test_forest_of_nothing_seen_says_the_commonest_class():
    labels = np.array([[0, 1, 1], [-1, -1, -1]])
    assert (medians.classify(np.full((2, 3, 4), np.nan), labels) == 1).all()


def test_the_report_says_where_timo_does_not_lead():
    def result(model, seed, accuracy_, f1):
        score = {"dates": 2, "cloud": 0, "draw": 0, "accuracy": accuracy_, "f1": f1}
        return {"model": model, "seed": seed, "scores": [score]}

    rows = report.summarise(
        [result("timo", 0, 0.9, 0.7), result("timo", 1, 0.8, 0.7), result("forest", 0, 0.86, 0.6)]
    )
    assert rows[0]["accuracy"] == pytest.approx(0.85)
    # Student's t with one degree of freedom is 12.71; the standard error of 0.9 and 0.8 is 0.05.
    assert rows[0]["accuracy_half"] == pytest.approx(0.635, abs=1e-3)
    assert rows[1]["accuracy_half"] is None
    assert report.not_led(rows) == [
        "Overall accuracy, 2 dates, 0 % hidden: forest 0.860, best TiMo (timo) 0.850"
    ]
    assert "| timo | 0.700 ± 0.000 |" in report.tables(rows, "other")


def test_a_cube_needs_labels_and_a_season_with_dates(paths, tmp_path):
    with pytest.raises(TimoError, match="give --cube and --labels"):
        accuracy.main([*paths[:2], "--quick"])
    with pytest.raises(
        TimoError, match=r"no date in the months 1-2 of any year: give other months"
    ):
        accuracy.main([*paths, *QUICK, "--months", "1", "2"])
    with pytest.raises(TimoError, match="there is no"):
        accuracy.main(["--cube", str(tmp_path / "no.zarr"), *paths[2:], "--quick"])


def test_a_loss_map_is_scored_by_pixels_and_by_clearings():
    read = timo.sample_clearings().values.astype(int)
    itself = loss.score(read)
    assert (itself["F1"], itself["year right"], itself["area"]) == (1, 1, 1)
    assert [itself[name] for name in ("patches", "found", "of", "merged", "false")] == [
        43,
        40,
        40,
        0,
        0,
    ]
    # One patch over everything finds all of them as one; a block in the closed forest touches none.
    whole = loss.score(np.full_like(read, 2019))
    assert [whole[name] for name in ("patches", "found", "merged")] == [1, 40, 39]
    block = np.zeros_like(read)
    block[90:94, 40:44] = 2018
    alone = loss.score(block)
    assert [alone[name] for name in ("F1", "patches", "found", "false")] == [0, 1, 0, 1]
