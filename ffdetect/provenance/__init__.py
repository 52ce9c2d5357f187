"""What a file says of itself: who claims that it was generated, edited or taken with a camera.

    from ffdetect.provenance import read_provenance
    read_provenance("picture.jpg").summary

Anyone can write most of this and anyone can remove it, so it never touches a score, and its absence
proves nothing.
"""

from .read import read_provenance
from .report import Claim, Provenance, ReadError, Says, Trust

__all__ = ["Claim", "Provenance", "ReadError", "Says", "Trust", "read_provenance"]
