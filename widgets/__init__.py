"""timo_widgets: what a person touches in JupyterLab."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "maps": ["MapWithPicture"],
        "overlay": ["colour", "image_overlay", "photograph"],
    },
)
