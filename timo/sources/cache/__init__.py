"""Fetched chunks on the local disk: a repeated request costs nothing, an interrupted one goes on where it was."""

from timo.sources.cache.array import CachedArray
from timo.sources.cache.info import ArrayInfo, CacheInfo
from timo.sources.cache.store import ChunkCache, default_folder

__all__ = ["ArrayInfo", "CacheInfo", "CachedArray", "ChunkCache", "default_folder"]
