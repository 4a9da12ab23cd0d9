"""From a cube and labels to a trained model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chips": ["ChipDataset"],
        "features": ["Features"],
        "finetune": ["finetune"],
        "finetuned": ["Finetuned"],
        "head": ["FittedHead", "fit_head"],
        "labels": ["labels_in_time"],
        "module": ["Optimisation"],
        "pretrain": ["Pretrained", "pretrain"],
        "pretraining": ["PretrainOptions"],
        "windows": ["ChipOptions", "WindowOptions", "Windows"],
    },
)
