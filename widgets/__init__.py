"""timo_widgets: what a person touches in JupyterLab."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "app.notebook": ["export_notebook"],
        "app.workbench": ["Workbench"],
        "area.picker": ["AOIPicker"],
        "attention.inspector": ["AttentionInspector"],
        "base.chart": ["SeriesChart"],
        "base.state": ["State"],
        "base.style": ["class_colours"],
        "explore.explorer": ["CubeExplorer"],
        "explore.pixels": ["pixel_series"],
        "label": ["label_files"],
        "label.labeler": ["Labeler"],
        "label.store": ["LabelStore"],
        "maps.overlay": ["MapWithPicture", "colour", "image_overlay", "photograph"],
        "maps.rastermap": ["RasterMap"],
        "result.mapview": ["MapView"],
        "run.runner": ["Runner"],
    },
)
