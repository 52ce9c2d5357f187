"""Which frame of an animation is the picture."""

from __future__ import annotations

from PIL import Image


def first_frame(image: Image.Image) -> None:
    """Go to the first frame of a PNG that shows another picture where animations are not played."""
    if getattr(image, "default_image", False) and image.tell() == 0:
        image.seek(1)
