"""`python -m timo.training.pretrain`."""

import shlex
import subprocess
import sys

import pandas as pd
import pytest

import timo
from timo.models import load, load_encoder
from timo.training.pretraining.command import main

# What Zarr says of xarray's way of storing band names.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr", "ignore:.*Zarr V3 spec")

QUICK = "--epochs 1 --chips-per-epoch 4 --batch-size 2 --chip-size 16 --dates 2 3 --quiet --accelerator cpu"


@pytest.fixture
def cube(world, tmp_path):
    path = tmp_path / "cube.zarr"
    world[0].to_dataset(name="cube").to_zarr(path)
    return path


def command(*parts):
    return main([*map(str, parts), *shlex.split(QUICK)])


def test_help_names_what_it_takes_and_imports_nothing_slow():
    code = (
        "import sys; from timo.training.pretraining.command import parser; text = parser().format_help();"
        "assert not {'torch', 'lightning', 'xarray'} & set(sys.modules); print(text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for option in (
        "DATA",
        "--folder",
        "--resume",
        "--exclude-test-blocks",
        "--precision",
        "--devices",
    ):
        assert option in done.stdout


def test_the_module_is_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "timo.training.pretrain", "nothing", "--folder", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("timo.training.pretrain: no data at 'nothing'")
    assert not (tmp_path / "run").exists()


def test_a_cube_is_pretrained_on_without_its_test_blocks(cube, tmp_path):
    options = "--size tiny --unit 8 --exclude-test-blocks 80 --averaging 0.9 --picture-every 1"
    assert command(cube, "--folder", tmp_path / "run", *options.split()) == 0
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert {"loss", "validation_loss"} <= set(history.columns)
    assert load(tmp_path / "run" / "model", kind="autoencoder").config.unit == 8
    assert load_encoder(tmp_path / "run" / "encoder").bands == ("B4", "B8")
    assert (tmp_path / "run" / "pictures" / "epoch-0001.png").exists()


def test_a_netcdf_and_a_store_are_read_too(world, cube, tmp_path):
    from timo.places import pack

    pytest.importorskip("netCDF4")
    world[0].to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc")
    pack(world[0], tmp_path / "store", size=16)
    for number, data in enumerate(([tmp_path / "cube.nc", cube], [tmp_path / "store"])):
        assert command(*data, "--folder", tmp_path / f"run{number}", "--unit", 16) == 0
        assert load_encoder(tmp_path / f"run{number}" / "encoder").sensor == "sentinel-2"


def test_wrong_data_are_told(world, cube, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    world[0].to_dataset(name="a").assign(b=world[0]).to_zarr(tmp_path / "two.zarr")
    wrong = {
        "notes.txt": "notes.txt is no GeoTIFF",
        "two.zarr": "B4 of one date is there more than once",
        "nowhere": 'expected "sample", a .nc or .zarr of a cube',
    }
    for name, message in wrong.items():
        assert command(tmp_path / name, "--folder", tmp_path / "run") == 2
        assert message in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(tmp_path, monkeypatch, capsys, cube):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("timo.training.run.fit", interrupt)
    assert command(cube, "--folder", tmp_path / "run") == 130
    assert f"interrupted: --resume goes on with {tmp_path / 'run'}" in capsys.readouterr().err


def test_the_function_is_where_it_is_looked_for():
    assert timo.pretrain is timo.training.pretrain
