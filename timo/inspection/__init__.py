"""What a model looked at, and what it made of a place: attention of one query, rollout, embeddings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": ["attention_at"],
        "embedding": ["embed", "pca_picture"],
        "query": ["neighbourhood"],
        "rollout": ["rollout_at"],
        "similarity": ["similar"],
    },
)
