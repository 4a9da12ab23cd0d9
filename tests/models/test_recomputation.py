"""Activation checkpointing: the same training, with less kept."""

import pytest
import torch

from timo.models.encoder import TiMoEncoder


def step(encoder, x, dates, valid):
    """Gradients and buffers of a training step, and the bytes kept for the backward pass."""
    encoder.train()
    encoder.zero_grad()
    torch.manual_seed(3)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = sum(m.square().mean() for m in encoder(x, dates, valid))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    return gradients, dict(encoder.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradients_and_statistics_are_the_same_and_less_is_kept(small_encoder, series, norm):
    options = {"norm": norm, "drop_path": 0.4, "depths": (2, 1, 3, 1)}
    kept, recomputed = (small_encoder(**options, checkpoint=on) for on in (False, True))
    expected, buffers, more = step(kept, *series(b=3))
    found, buffers_found, less = step(recomputed, *series(b=3))
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert all(torch.equal(buffers_found[name], buffer) for name, buffer in buffers.items())
    assert len(buffers) == len(buffers_found) == (0 if norm == "layer" else 12)
    assert less < 0.5 * more


def test_without_training_nothing_is_computed_twice(small_encoder, series, monkeypatch):
    encoder = small_encoder(checkpoint=True)
    plain = TiMoEncoder(small_encoder().config).double().eval()
    plain.load_state_dict(encoder.state_dict())

    def refuse(*_, **__):
        raise AssertionError("checkpoint was called")

    monkeypatch.setattr("timo.models.encoder.checkpoint", refuse)
    for found, expected in zip(encoder(*series()), plain(*series()), strict=True):
        assert torch.equal(found, expected)
    encoder.train()
    with torch.no_grad():
        encoder(*series())
    with pytest.raises(AssertionError, match="checkpoint was called"):
        encoder(*series())
