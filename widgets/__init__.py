"""timo_widgets: what a person touches in JupyterLab."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "aoi": ["AOIPicker"],
        "attention": ["AttentionInspector"],
        "chart": ["SeriesChart"],
        "explorer": ["CubeExplorer"],
        "labeler": ["Labeler"],
        "labels": ["LabelStore"],
        "maps": ["MapWithPicture"],
        "mapview": ["MapView"],
        "notebook": ["export_notebook"],
        "overlay": ["colour", "image_overlay", "photograph"],
        "rastermap": ["RasterMap"],
        "runner": ["Runner"],
        "state": ["State"],
        "workbench": ["Workbench"],
    },
)
