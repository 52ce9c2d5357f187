"""Fakes made from real faces, so that a detector learns the forgery and not a person.

    sources.py       the registry: pseudo-fakes by name
    faces.py         the real faces that they are made of
    blend.py         a face blended with an altered copy of itself
    swap.py          another person's face warped in, colour-matched and blended
    donors.py        whose face to swap in: like pose, like skin
    regions.py       a part of a face, or all but the face, regenerated
    masks.py         where: soft masks placed by the five landmarks
    regenerators.py  decoders that draw a whole face again, as a generator would
    regenerate.py    the command that caches faces beside their regenerated versions

Each is decided by the random generator passed in: the same state gives the same fake.
"""
