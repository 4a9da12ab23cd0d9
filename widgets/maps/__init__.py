"""Rasters on a map, without a tile server and without the network."""
