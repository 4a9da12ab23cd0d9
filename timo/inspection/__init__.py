"""Attention of a model for one query, by block or by rollout, and the features that it gives to pixels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": ["attention_at"],
        "embedding": ["embed", "pca_picture", "similar"],
        "query": ["neighbourhood"],
        "rollout": ["rollout_at"],
    },
)
