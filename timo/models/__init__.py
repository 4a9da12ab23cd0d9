"""The model: torch, einops and nothing of the world outside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["SIZES", "EncoderConfig", "encoder_config"],
        "encoder": ["TiMoEncoder", "create_encoder"],
        "published": ["AutoencoderConfig", "PublishedAutoencoder"],
        "reference": ["load_reference", "read_reference"],
        "answering": ["ModelConfig", "PixelConfig"],
        "pixel": ["PixelModel"],
        "tasks": ["TiMo"],
        "transfer": ["LoadReport", "transfer_encoder"],
        "weights": ["SavedEncoder", "load", "load_encoder", "save", "save_encoder"],
    },
)
