"""Network designs by name. Another design is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import Scorer


def _dual_stream(settings: Mapping[str, Any]) -> Scorer:
    from .dual_stream import DualStream, DualStreamSettings

    return DualStream(DualStreamSettings.from_dict(settings))


def _gated(settings: Mapping[str, Any]) -> Scorer:
    from .gated import GatedNetwork, GatedSettings

    return GatedNetwork(GatedSettings(**settings))


DESIGNS: dict[str, Callable[[Mapping[str, Any]], Scorer]] = {
    "dual_stream": _dual_stream,
    "gated": _gated,
}


def create_network(settings: Mapping[str, Any]) -> Scorer:
    """The network of these settings, which are those of a weights file, before it is loaded.

    Raises:
        ValueError, TypeError: settings that no network has.
    """
    design = settings.get("design")
    if design not in DESIGNS:
        raise ValueError(f"expected a design among {sorted(DESIGNS)} but got {design!r}")
    return DESIGNS[design](settings)
