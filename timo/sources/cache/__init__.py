"""Chunks that were fetched, kept with checksums: the cache of requests, and the Zarr stores of `timo.fetch(path=...)`."""

from timo.sources.cache.chunks import (
    ArrayInfo,
    CacheInfo,
    CachedArray,
    ChunkCache,
    default_folder,
)

__all__ = ["ArrayInfo", "CacheInfo", "CachedArray", "ChunkCache", "default_folder"]
