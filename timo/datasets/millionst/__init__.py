"""Chips for pretraining by the hundred thousand: choose places and images, and fetch them from Earth Engine.

The size of the data set is that of MillionST, with which the TiMo paper pretrains (https://arxiv.org/abs/2505.08723):
100,000 places, ten dates each over five years, chips of 264 pixels. The rule by which places and images are chosen is
timo's own: `sample_places` and `ChipPlan.choose`. From a shell: ``python -m timo.datasets.millionst``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fetch": ["Fetched", "fetch_chips"],
        "places": ["Place", "PlaceRule", "sample_places"],
        "plan": ["ChipPlan", "Cost", "estimate"],
    },
)
