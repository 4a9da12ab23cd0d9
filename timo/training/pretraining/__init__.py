"""The parts of a pretraining: unlabelled windows, masks, the step, the journal, pictures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "masked": ["MaskedChips"],
        "module": ["PretrainOptions"],
        "pictures": ["picture"],
        "recipe": ["autoencoder_config", "new_autoencoder"],
        "windows": ["WindowDataset", "WindowOptions"],
    },
)
