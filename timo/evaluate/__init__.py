"""Figures of a model on labelled places: with intervals, pooled over folds, beside simple baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["Evaluation"],
        "judging": ["cross_validate", "evaluate"],
    },
)
