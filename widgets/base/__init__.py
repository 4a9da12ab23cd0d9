"""What all rooms share: the state, the style, the chart, work beside the notebook."""
