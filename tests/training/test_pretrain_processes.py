"""Two processes train as one does, for the same batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import CONFIG, SMALL

import timo
from timo.errors import TimoError
from timo.models import load

# Masks of whole dates: the processes' shares of a batch have very different numbers of scored pixels.
RUN = SMALL | {"averaging": 0.9, "epochs": 2, "chips_per_epoch": 12, "seed": 3}
SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
import test_pretrain_processes as here
from training_world import make_world

torch.set_num_threads(1)
here.run(make_world(), devices=2, **{options!r})
"""


def run(world, **options):
    from timo.models.masking import MaskOptions

    cube, _, split = world
    masks = MaskOptions(date=1.0)
    options = RUN | {"accelerator": "cpu", "exclude": split, "masks": masks} | options
    return timo.pretrain(cube, CONFIG, **options)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def script(**options):
    return SCRIPT.format(tests=str(Path(__file__).parent), options=options)


@pytest.fixture(scope="module")
def single(world):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = run(world)
    torch.set_num_threads(threads)
    return result


def assert_as_single(folder, single):
    history = pd.read_csv(folder / "history.csv")
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(history[name], single.history[name], rtol=1e-5)
    assert list(history.step) == list(single.history.step)
    weights = load(folder / "model", kind="autoencoder").state_dict()
    for name, tensor in single.model.state_dict().items():
        # Where a gradient is almost zero, Adam makes of its rounding a step of a good part of the learning rate.
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-3)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["encoder", "history.csv", "model", "pictures"]


def test_two_processes_as_torchrun_starts_them(single, tmp_path):
    """Each process calls `pretrain`; who it is, the environment says."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    address |= {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    code = script(strategy="ddp", folder=str(tmp_path), picture_every=2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert_as_single(tmp_path, single)


def test_two_processes_that_one_call_starts_in_parts_and_resumed(single, world, tmp_path):
    """The call returns what the processes made; a run of one process goes on with two."""
    from test_pretrain_resume import StopAt, StopError

    with pytest.raises(StopError):
        run(world, folder=tmp_path, checkpoint_every=2, callbacks=[StopAt(2)])
    code = f"""
if __name__ == "__main__":
{
        "".join(
            f"    {line}{chr(10)}"
            for line in script(
                strategy="ddp_spawn",
                accumulate=2,
                folder=str(tmp_path),
                resume=True,
                picture_every=1,
            )
            .replace("here.run", "result = here.run")
            .splitlines()
        )
    }
    from timo.models import load
    saved = load({str(tmp_path / "model")!r}, kind="autoencoder").state_dict()
    assert all(torch.equal(w, saved[n]) for n, w in result.model.state_dict().items())
    assert list(result.history.epoch) == [0, 1]
"""
    (tmp_path / "go.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "go.py"], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "go.py").unlink()
    assert_as_single(tmp_path, single)


def test_what_several_processes_cannot_do_is_told(world, tmp_path):
    two = {"devices": 2, "strategy": "ddp"}
    with pytest.raises(TimoError, match="more than one process needs the folder"):
        run(world, **two)
    with pytest.raises(TimoError, match="4 chips cannot be shared out evenly to 2 processes in 4"):
        run(world, folder=tmp_path, accumulate=4, **two)
