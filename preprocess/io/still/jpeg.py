"""The quality that a JPEG was saved with, by its tables."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Table K.1 of the JPEG standard (luminance), in zigzag-free row order.
JPEG_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)


def jpeg_quality(image: Image.Image) -> int:
    """IJG quality whose scaled luminance table is nearest to the file's own; -1 without tables."""
    tables = getattr(image, "quantization", None)
    if not tables or 0 not in tables or len(tables[0]) != 64:
        return -1
    table = np.sort(np.asarray(tables[0]))  # sorted, since Pillow changed the order it reports
    candidates = np.sort(scaled_tables(JPEG_LUMINANCE), axis=1)
    return 1 + int(np.abs(candidates - table).sum(axis=1).argmin())


def scaled_tables(table: np.ndarray) -> np.ndarray:
    """A quantisation table, int 64, at IJG's qualities 1 to 100 (libjpeg's
    `jpeg_quality_scaling`): int 100 x 64."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None]
    return np.clip((table * scale + 50) // 100, 1, 255)
