"""The kinds of rows that a cache can hold, each known by the settings it is made with."""

from __future__ import annotations

from typing import Any

from .faces import CacheSettings
from .sound import SoundSettings

FORMAT = 1


Settings = CacheSettings | SoundSettings
"""Everything that decides what a cache holds, kept in its `cache.json`. Of each kind there are

rows: what a row is, for messages.
large: columns that are no metadata.
identity: columns by which two rows are the same.
failure_kinds: why a file may give no row, the commonest first.
made_by: the module whose command makes such a cache.
"""

_KINDS: dict[str, type[CacheSettings] | type[SoundSettings]] = {
    "faces": CacheSettings,
    "sound": SoundSettings,
}


def settings_from(values: dict[str, Any]) -> Settings:
    """The settings of a cache, from what its index says.

    Raises:
        ValueError, LookupError, TypeError: they are none.
    """
    return _KINDS[values.get("kind", "faces")].from_dict(values)


def settings_difference(left: dict, right: dict, prefix: str = "") -> list[str]:
    """`name: left, not right` for every setting in which two settings dictionaries differ."""
    kinds = [settings.get("kind", "faces") for settings in (left, right)]
    if kinds[0] != kinds[1]:  # the rest differs, and says nothing
        return [f"rows: {kinds[0]}, not {kinds[1]}"]
    lines = []
    for name in sorted(left.keys() | right.keys()):
        a, b = left.get(name), right.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += settings_difference(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a!r}, not {b!r}")
    return lines
