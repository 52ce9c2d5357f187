"""Views of a crop for test-time augmentation: its mirror image and windows in its corners.

Nothing is resampled, since that erases what generators leave behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Name -> how many views, always the first ones: the crop, its mirror image, four corner windows.
TTA = {"none": 1, "flip": 2, "flip+crops": 6}
# By how much a corner window is smaller than the crop, in pixels. No multiple of 8, so that the
# windows also lie differently on the strides of a network and on the blocks of a JPEG file; even,
# so that the 2 x 2 blocks of the NPR residual stay what they are.
SHIFT = 20
MOST_THREADS = 1024  # to start more takes minutes, or the process's end


def check_tta(tta: str) -> None:
    """Raises ValueError for what is no name in `TTA`."""
    if tta not in TTA:
        raise ValueError(f"expected tta to be one of {list(TTA)} but got {tta!r}")


def check_count(name: str, value: object, most: float = math.inf) -> None:
    """Raises ValueError for what is no whole number of 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= most:
        wanted = "of at least 1" if most == math.inf else f"of 1 to {most}"
        raise ValueError(f"expected {name} to be a whole number {wanted} but got {value!r}")


def views(crops: torch.Tensor, tta: str) -> Iterator[torch.Tensor]:
    """What is scored of N x 3 x size x size crops: N x 3 x size x size first, then smaller."""
    return islice(_all_views(crops), TTA[tta])


def _all_views(crops: torch.Tensor) -> Iterator[torch.Tensor]:
    yield crops
    yield crops.flip(-1)
    yield from windows(crops)


def windows(crops: Any) -> Iterator[Any]:
    """The windows in the corners of N x 3 x size x size crops, an array or a tensor."""
    sides = (slice(None, -SHIFT), slice(SHIFT, None))
    for rows in sides:
        for columns in sides:
            yield crops[..., rows, columns]
