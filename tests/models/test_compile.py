"""Blocks under ``torch.compile``: one graph, forward and backward, gaps included.

In a process of its own: the check of annotations that the other tests run with is no part of the model, and would be
traced with it.
"""

import shutil
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import sys
import torch
from timo.models.config import EncoderConfig
from timo.models.encoder import Block

torch.set_num_threads(1)
torch.manual_seed(0)
kind, backend = sys.argv[1:]
block = Block(16, 2, kind, EncoderConfig(in_channels=3), 0.0).double()
compiled = torch.compile(block, fullgraph=True, backend=backend)
x = torch.randn(2, 3, 9, 16, dtype=torch.float64, requires_grad=True)
valid = torch.rand(2, 3, 9) > 0.3
valid[0, 1] = False


def step(form):
    out = form(x, valid)
    return [out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]


for found, expected in zip(step(compiled), step(block), strict=True):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
"""


def run(kind, backend):
    command = [sys.executable, "-c", PROGRAM, kind, backend]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", ["d-stga", "stga", "global"])
def test_a_block_is_one_graph(kind):
    run(kind, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the compiler of torch needs a C++ compiler")
@pytest.mark.skipif(" " in torch.__path__[0], reason="nor does it quote the path where torch lies")
def test_a_compiled_block_gives_what_it_gives_uncompiled():
    run("d-stga", "inductor")
