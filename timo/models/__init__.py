"""The model: torch, einops and nothing of the world outside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["SIZES", "EncoderConfig", "encoder_config"],
        "encoder": ["TiMoEncoder", "create_encoder"],
        "tasks": ["ModelConfig", "TiMo"],
        "weights": ["load", "save"],
    },
)
