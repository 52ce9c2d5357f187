"""Whether a face is good enough to be judged: how large, how sharp and how compressed it is; and
whether a picture that is scored whole shows anything."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.faces.face import Face
from preprocess.io.decode import Picture

MIN_WHOLE_SIDE = 32  # pixels of a whole picture's shorter side, as the network sees it
MIN_CONTRAST = 2.0  # grey levels of deviation: below are blank frames and the noise of codecs
_BLUR = 11  # length of the filter a picture is blurred again with, as in scikit-image


@dataclass(frozen=True)
class Quality:
    """What was measured of one face.

    Attributes:
        side: longer side of the face's box in pixels of the picture.
        blur: 0 (sharp) to 1, see `blur_effect`; of the middle of the crop.
        blocks: visibility of JPEG blocks, see `block_effect`; of the crop.
        jpeg_quality: 1 to 100 by the file's tables, -1 if it is no JPEG file.
        format: of the file, as `Picture.format`.
    """

    side: float
    blur: float
    blocks: float
    jpeg_quality: int
    format: str


def measure(picture: Picture, face: Face, crop: np.ndarray) -> Quality:
    """The quality of one face; `crop` is what `crop_face` cuts out of the picture for it."""
    box = face.box
    side = float(max(box[2] - box[0], box[3] - box[1]))
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edge = len(luma) // 4  # the outer parts may be background, blurred by the lens
    blur = blur_effect(luma[edge:-edge, edge:-edge])
    return Quality(side, blur, block_effect(luma), picture.jpeg_quality, picture.format)


def nothing_to_judge(pixels: np.ndarray, size: int) -> str:
    """Why a picture cannot be scored whole, "" if it can.

    Args:
        pixels: uint8 H x W x 3 RGB.
        size: side of the crop that it is fitted into, in pixels.
    """
    height, width = pixels.shape[:2]
    side = min(height, width) * min(1.0, size / max(height, width))
    if side < MIN_WHOLE_SIDE:
        return (
            f"{width} x {height} px, {side:.0f} px high or wide in a crop of {size} px, where "
            f"{MIN_WHOLE_SIDE} px are needed"
        )
    scale = min(1.0, size / min(height, width))  # fewer pixels tell as much
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    contrast = float(small.std((0, 1)).max())
    if contrast < MIN_CONTRAST:
        return f"a blank picture, which deviates by {contrast:.1f} grey levels from one colour"
    return ""


def blur_effect(grey: np.ndarray) -> float:
    """How little a picture changes if it is blurred again: 0 (sharp) to 1.

    Crete et al. 2007, "The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", as in `skimage.measure.blur_effect`.

    Args:
        grey: float32 H x W of any range. A flat one gives 1.
    """
    border = cv2.BORDER_REFLECT
    shares = []
    for dx, dy, kernel in ((1, 0, (_BLUR, 1)), (0, 1, (1, _BLUR))):
        blurred = cv2.blur(grey, kernel, borderType=border)
        before, after = (
            np.abs(cv2.Sobel(x, cv2.CV_32F, dx, dy, borderType=border))[2:-1, 2:-1]
            for x in (grey, blurred)
        )
        lost = np.maximum(before - after, 0).sum(dtype=np.float64)
        total = before.sum(dtype=np.float64)
        shares.append(1 - lost / total if total else 1.0)
    return float(max(shares))


def block_effect(grey: np.ndarray) -> float:
    """How much steeper the steps between pixels are at every eighth column and row: about 0.1
    without a trace of JPEG blocks, 1 and more where they catch the eye.

    After Wang, Bovik & Evans 2000, "Blind measurement of blocking artifacts in images", in the
    pixel domain: wherever the grid starts, its steps less those beside it, over the mean step.
    Blocks that were resampled with the picture are not seen.

    Args:
        grey: float32 H x W in 0..255, at least 32 x 32.
    """
    effects = []
    for x in (grey, grey.T):
        steps = np.abs(np.diff(x, axis=1))
        excess = (steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2).mean(0)
        phases = np.array([excess[start::8].mean() for start in range(8)])
        # Half a grey level more, so that the rounding of a flat picture is no block.
        effects.append((phases.max() - np.median(phases)) / (steps.mean() + 0.5))
    return float(np.mean(effects))
