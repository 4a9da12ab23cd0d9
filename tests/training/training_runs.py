"""What the tests of training runs share: to end a run in its middle, and to compare what runs leave."""

import torch
from lightning.pytorch.callbacks import Callback

from timo.places import Places


class StopError(Exception):
    pass


class StopAt(Callback):
    """End a run in the middle, in this process."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise StopError


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def make_places():
    """Four places of different sizes and numbers of dates."""
    from training_world import make_world

    worlds = [make_world(8 + number, 40, 40 + 4 * number, seed=number) for number in range(4)]
    return Places([(cube, labels) for cube, labels, _ in worlds])
