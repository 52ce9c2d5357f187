"""The cache: a folder of Arrow IPC parts, one row a face, that any tool that reads Arrow can open.

    cache.json       format version, settings, counts, SHA-256 of every part
    cache.journal    while a run writes, what it will add to cache.json and failures.csv
    part-00000.arrow uncompressed, memory-mapped on reading; complete as soon as it has its name
    failures.csv     one row for every file without a face or that could not be read
    cache.lock       empty; held by the run that writes

A part always ends with a whole source file, so a killed run loses the part in hand and nothing
else: what is in a part or in the list of failures is done. A part and its checksum are listed
before the part gets its name, so a killed run leaves no part unlisted; at worst the last one that
is listed is not there, and its files are done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reader import CacheReader
    from .writer import CacheWriter

__all__ = ["CacheReader", "CacheWriter"]


def __getattr__(name: str) -> Any:
    """On first use, so that workers that need neither load no Arrow."""
    if name == "CacheReader":
        from .reader import CacheReader

        return CacheReader
    if name == "CacheWriter":
        from .writer import CacheWriter

        return CacheWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
