"""Chunks that were fetched, with checksums: the cache of requests, and the stores of `timo.fetch(path=...)`."""

from timo.sources.cache.chunks import ArrayInfo, CachedArray, CacheInfo, ChunkCache, default_folder

__all__ = ["ArrayInfo", "CacheInfo", "CachedArray", "ChunkCache", "default_folder"]
