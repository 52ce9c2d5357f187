"""What a file says of itself: who claims that it was generated, edited or taken with a camera.

    from ffdetect.provenance import read_provenance
    read_provenance("picture.jpg").summary

Anyone can write most of this and anyone can remove it, so it never touches a score, and its absence
proves nothing. Everything is imported on first use: the process that reads C2PA needs little of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .read import read_provenance
    from .report import Claim, Provenance, ReadError, Says, Trust

__all__ = ["Claim", "Provenance", "ReadError", "Says", "Trust", "read_provenance"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "read_provenance":
        from .read import read_provenance

        return read_provenance
    from . import report

    return getattr(report, name)
