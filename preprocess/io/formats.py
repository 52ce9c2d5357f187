"""Names and limits that several files share, so that they can be read without the libraries that
do the work: importing torch takes longer than cropping fifty faces."""

from __future__ import annotations

RESIDUAL_NAMES = ("detail", "median", "npr", "srm")  # what they are: maps.py
SPECTRUM_TILE = 128  # side of the tiles whose spectra are averaged
SPECTRUM_SHAPE = (SPECTRUM_TILE, SPECTRUM_TILE // 2 + 1)

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg".split())


class DecodeError(ValueError):
    """The input is not a picture, clip or sound that can be read; the message says what was
    expected."""
