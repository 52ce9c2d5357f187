"""What Pillow does not heed in TIFF files: which of the pages is the picture, and which end of the
scale is white."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from preprocess.io.formats import DecodeError

_KIND, _PHOTOMETRIC, _PLANES, _BITS = 254, 262, 284, 258  # tags (TIFF 6.0, part 1)
_SMALLER = 1  # bit of the kind of a page
_MOST = 32  # pages looked at


def first_page(image: Image.Image) -> None:
    """Go to the first page that is no preview, if there is one.

    Raises:
        DecodeError: one whose samples Pillow puts in the wrong place.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tell() == 0:
        page = 0
        while _is_preview(image) and page + 1 < min(image.n_frames, _MOST):
            page += 1
            image.seek(page)
        if _is_preview(image):
            image.seek(0)
        _check_planes(image.tag_v2)


def _is_preview(image: TiffImagePlugin.TiffImageFile) -> bool:
    kind = image.tag_v2.get(_KIND, 0)
    return isinstance(kind, int) and bool(kind & _SMALLER)


def _check_planes(tags: Any) -> None:
    bits = tags.get(_BITS, (1,))
    if tags.get(_PLANES, 1) == 2 and len(bits) > 1 and max(bits) > 8:
        raise DecodeError(
            f"expected the {max(bits)} bits of its colours beside each other but got one plane of "
            "each, which is read for 8 bits alone"
        )


def white_at_the_top(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits whose 0 is white, turned round (Pillow does so for 8 bits)."""
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None or tags.get(_PHOTOMETRIC) != 0:
        return image
    if image.mode == "I;16":
        return Image.fromarray(65535 - np.asarray(image))
    if image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray((1 if values.max() <= 1 else 255) - values)
    return image
