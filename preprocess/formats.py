"""What `decode` and `sound` share, so that sound is read without importing what pictures need."""

from __future__ import annotations

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg".split())


class DecodeError(ValueError):
    """The input is not a picture, clip or sound that can be read; the message says what was
    expected."""
