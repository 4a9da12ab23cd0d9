"""Where: an area of interest in any form, and the cells of a grid over it."""
