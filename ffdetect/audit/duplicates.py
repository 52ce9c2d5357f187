"""Near-duplicate pictures, found by a perceptual hash.

The hash is that of the signs of low cosine frequencies (pHash; Zauner 2010, "Implementation and
Benchmarking of Perceptual Image Hash Functions"), with 256 bits instead of 64: portraits that
are framed alike differ little in the coarsest 64. It survives resizing and re-compression, not
cropping or mirroring. imagehash has such a hash, and brings PyWavelets along; that it knows a flat
picture, and which pairs are near, would be ours all the same.
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from scipy.fft import dctn

HASH_BITS = 255
RADIUS = 24  # of 255 bits
BLOCK = 2048


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """bool HASH_BITS of a uint8 H x W x 3 RGB picture; all False for a flat one.

    The picture is shrunk to 64 x 64 grey. Of its 16 x 16 lowest cosine frequencies, all but the
    mean brightness are compared with their median.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < 1:  # what is left of a flat picture is rounding
        return np.zeros(HASH_BITS, bool)
    low = dctn(small, norm="ortho")[:16, :16].ravel()[1:]
    return low > np.median(low)


def near_duplicates(hashes: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """Pairs of pictures whose hashes differ in at most `radius` bits.

    Args:
        hashes: bool, N x HASH_BITS; rows of nothing but False belong to no pair.
        radius: the Hamming distance allowed.

    Returns:
        int64 P x 2, first index below second, sorted.
    """
    usable = np.flatnonzero(hashes.any(axis=1))
    # With bits as -1 and 1, a product of matrices counts equal minus different bits: exact in
    # float32, and the fastest thing there is on blocks.
    signs = np.where(hashes[usable], 1, -1).astype(np.float32)
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(signs), BLOCK):
        block = signs[start : start + BLOCK]
        for other in range(start, len(signs), BLOCK):
            products = block @ signs[other : other + BLOCK].T
            first, second = np.nonzero(products >= hashes.shape[1] - 2 * radius)
            first, second = first + start, second + other
            found.append(np.stack([first, second], 1)[first < second])
    pairs = usable[np.concatenate(found)]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def leaking_pairs(faces: pd.DataFrame, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Which near-duplicates teach a detector what it should not know, or blur what it measures.

    Args:
        faces: columns target, split, group.
        pairs: int P x 2, rows of `faces`.

    Returns:
        "across splits": pairs that training and a test may share: their splits differ or, where
        neither names a split, their groups, since groups are then what is kept together.
        "across labels": a real and a fake of different groups: one label is wrong, or a fake and
        its original lack their common group.
        "fake and original": a real and a fake of one group, as face swaps have them; no fault.
    """
    left, right = faces.iloc[pairs[:, 0]], faces.iloc[pairs[:, 1]]

    def differ(column: str) -> np.ndarray:
        return left[column].to_numpy() != right[column].to_numpy()

    unsplit = (left["split"].to_numpy() == "") & (right["split"].to_numpy() == "")
    known = (left["target"].to_numpy() >= 0) & (right["target"].to_numpy() >= 0)
    labels = known & differ("target")
    return {
        "across splits": pairs[differ("split") | (unsplit & differ("group"))],
        "across labels": pairs[labels & differ("group")],
        "fake and original": pairs[labels & ~differ("group")],
    }
