"""The packed form of places: a Zarr store of any size, with one fast reader."""
