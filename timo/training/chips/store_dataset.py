"""Unlabelled chips out of a store, at their former place."""

from timo.training.chips.dataset import StoreDataset, StoreOptions  # noqa: F401
