import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401 - registers .rio
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from timo.errors import TimoError
from timo.mapping.provenance import clean, provenance, weights_hash


@dataclass(frozen=True)
class Config:
    depth: int = 2
    key_dim: int = 16
    classes: tuple[str, ...] = ("forest", "other")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = Config()
        self.linear = torch.nn.Linear(2, 3)
        self.register_buffer("count", torch.tensor(7))


@pytest.fixture
def cube():
    return xr.DataArray(
        np.zeros((2, 1, 3, 4), "float32"),
        dims=("time", "band", "y", "x"),
        coords={"time": pd.to_datetime(["2018-05-01", "2019-07-02"]), "band": ["B4"]},
        attrs={"sensor": "sentinel-2", "attribution": "contains modified Copernicus data"},
    ).rio.write_crs("EPSG:3035")


def test_it_says_what_is_needed_to_trace_a_result(cube):
    model = Model()
    described = provenance(model=model, cube=cube, parameters={"epochs": 20})
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["packages"]["timo"]
    assert described["packages"]["xarray"] == xr.__version__
    assert described["python"] == platform.python_version()
    created = pd.Timestamp(described["created"])
    assert abs(created - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    assert described["model"] == {
        "class": "Model",
        "parameters": 9,
        "weights_sha256": weights_hash(model),
        "config": {"depth": 2, "key_dim": 16, "classes": ["forest", "other"]},
    }
    assert described["cube"] == {
        "sensor": "sentinel-2",
        "attribution": "contains modified Copernicus data",
        "shape": {"time": 2, "band": 1, "y": 3, "x": 4},
        "dates": ["2018-05-01", "2019-07-02"],
        "bands": ["B4"],
        "crs": "EPSG:3035",
    }
    assert described["parameters"] == {"epochs": 20}


def test_it_names_neither_host_nor_user_nor_folder(cube):
    text = json.dumps(provenance(cube=cube, parameters={"folder": Path.home() / "maps"}))
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert '"folder": "maps"' in text


def test_weights_are_hashed_by_content_and_not_by_file(tmp_path):
    model = Model()
    expected = weights_hash(model)
    assert len(expected) == 64
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    assert weights_hash(load_file(tmp_path / "a.safetensors")) == expected
    assert weights_hash(torch.load(tmp_path / "a.pt", weights_only=True)) == expected
    assert weights_hash(dict(reversed(model.state_dict().items()))) == expected


def test_every_difference_of_the_weights_shows():
    state = Model().state_dict()
    changed = {
        "value": state | {"count": torch.tensor(8)},
        "name": {name.upper(): tensor for name, tensor in state.items()},
        "shape": state | {"linear.weight": state["linear.weight"].reshape(2, 3)},
        "type": state | {"linear.bias": state["linear.bias"].view(torch.int32)},
        "half": {name: tensor.to(torch.bfloat16) for name, tensor in state.items()},
    }
    hashes = {weights_hash(state), *(weights_hash(other) for other in changed.values())}
    assert len(hashes) == 6


@pytest.mark.parametrize(
    "name",
    ["token", "API_KEY", "apikey", "accessToken", "client_secret", "password", "aws.sas", "auth"],
)
def test_credentials_are_dropped_at_any_depth(name):
    assert clean({"a": [{"b": {name: "xyz", "kept": 1}}]}) == {"a": [{"b": {"kept": 1}}]}


@pytest.mark.parametrize("name", ["monkey", "keyword", "authors", "tokens_per_chip"])
def test_other_names_are_kept(name):
    assert clean({name: "xyz"}) == {name: "xyz"}


def test_settings_of_a_model_are_not_taken_for_credentials():
    settings = {"key_dim": 64, "mask_token": True, "token_ratio": 0.5}
    assert clean(settings) == settings
    assert clean({"password": 1234}) == {}


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("/data/anna/scenes/*.tif", "*.tif"),
        ("~/maps/", "maps"),
        (r"D:\anna\a.tif", "a.tif"),
        (Path("/data/anna/a.tif"), "a.tif"),
        ("file:///data/anna/a.tif", "a.tif"),
        ("runs/a.tif", "runs/a.tif"),
        ("https://anna:pw@host.org/a.tif?sig=abc#x", "https://host.org/a.tif"),
        ("see https://host.org/a?b=c and more", "see https://host.org/a and more"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (float("nan"), "nan"),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array(3), 3),
        (pd.Timestamp, "<type>"),
        (np.datetime64("2020-01-01"), "2020-01-01"),
        (pd.Timestamp("2020-01-01 10:00"), "2020-01-01T10:00:00"),
        ({"b", "a"}, ["a", "b"]),
        (np.zeros(5000), "<ndarray of shape (5000,)>"),
        (object(), "<object>"),
    ],
)
def test_values_become_json_without_anything_private(value, cleaned):
    assert clean(value) == cleaned


def test_what_is_no_model_is_refused():
    for wrong in (3, torch.nn.Linear, {"a": 1}):
        with pytest.raises(TimoError, match=r"model must be a torch.nn.Module; got"):
            provenance(model=wrong)
