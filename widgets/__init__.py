"""timo_widgets."""
