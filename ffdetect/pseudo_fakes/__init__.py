"""Fakes made from real faces, so that a detector learns the forgery and not a person.

    blends.py    a face blended with an altered copy of itself
    swaps.py     another person's face warped in, colour-matched and blended
    donors.py    whose face to swap in: like pose, like skin
    regions.py   a part of a face, or all but the face, taken from its re-generated twin
    masks.py     where: soft masks placed by the five landmarks

Each is decided by the random generator passed in: the same state gives the same fake.
"""

from .blends import self_blend
from .donors import Donors, read_landmarks
from .masks import face_mask, region_mask
from .regions import replace_region
from .swaps import swap

__all__ = [
    "Donors",
    "face_mask",
    "read_landmarks",
    "region_mask",
    "replace_region",
    "self_blend",
    "swap",
]
