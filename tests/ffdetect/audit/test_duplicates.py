"""Pictures that are there twice are found whatever was done to them, others are not."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ffdetect.audit.duplicates import (
    HASH_BITS,
    RADIUS,
    leaking_pairs,
    near_duplicates,
    perceptual_hash,
)
from tests.real import rows_of


def scene(seed: int, side: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def changed(pixels: np.ndarray, scale: float, quality: int) -> np.ndarray:
    image, stream = Image.fromarray(pixels), io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("scale, quality", [(1, 50), (0.5, 75), (1.5, 90)])
def test_a_hash_survives_resizing_and_recompression(astronaut, scale, quality):
    for pixels in (astronaut, scene(0)):
        before, after = perceptual_hash(pixels), perceptual_hash(changed(pixels, scale, quality))
        assert before.shape == (HASH_BITS,) and before.dtype == bool
        assert (before != after).sum() <= RADIUS


def test_hashes_of_other_pictures_differ_in_about_half_of_their_bits():
    hashes = np.array([perceptual_hash(scene(seed)) for seed in range(12)])
    assert 0.4 < hashes.mean() < 0.6
    for number, one in enumerate(hashes):
        for other in hashes[number + 1 :]:
            assert HASH_BITS / 3 < (one != other).sum() < HASH_BITS * 2 / 3


def test_brightness_does_not_change_a_hash():
    pixels = scene(1) // 2
    np.testing.assert_array_equal(perceptual_hash(pixels), perceptual_hash(pixels + 60))


@pytest.mark.parametrize("block", [3, 7, 2048])
def test_pairs_are_those_within_the_radius(monkeypatch, block):
    monkeypatch.setattr("ffdetect.audit.duplicates.BLOCK", block)
    rng = np.random.default_rng(0)
    hashes = rng.random((40, HASH_BITS)) < 0.5
    for number in range(1, 40, 2):  # each odd row: the one before it with some bits turned
        hashes[number] = hashes[number - 1]
        hashes[number, rng.choice(HASH_BITS, number + 5, replace=False)] ^= True
    distance = (hashes[:, None] != hashes[None]).sum(2)
    expected = np.argwhere(np.triu(distance <= 24, 1))
    assert 5 < len(expected) < 20  # both sides of the radius, and on it
    assert 24 in distance[tuple(expected.T)] and 26 in distance
    np.testing.assert_array_equal(near_duplicates(hashes, 24), expected)


def test_flat_pictures_are_nobodys_duplicate():
    flat = [np.full((50, 40, 3), value, np.uint8) for value in (0, 0, 200)]
    hashes = np.array([perceptual_hash(pixels) for pixels in flat])
    assert near_duplicates(hashes).shape == (0, 2)
    assert near_duplicates(np.zeros((0, HASH_BITS), bool)).shape == (0, 2)


def test_which_pairs_leak():
    rows = [
        ("a", "train", 0, "g1"),
        ("b", "dev", 0, "g1"),  # 0-1 across splits, though of one group
        ("c", "train", 1, "g1"),  # 0-2 a fake and its original
        ("d", "train", 1, "g2"),  # 0-3 across labels
        ("e", "", 0, "g3"),
        ("f", "", 0, "g4"),  # 4-5 no split known: groups decide
        ("g", "", 0, "g4"),  # 5-6 one group: kept together
        ("h", "", -1, "g4"),  # 6-7 without a label: nothing to differ in
        ("i", "train", 0, "g9"),  # 0-8 one split: they stay together
    ]
    faces = pd.DataFrame(rows, columns=["path", "split", "target", "group"])
    pairs = np.array([(0, 1), (0, 2), (0, 3), (4, 5), (5, 6), (6, 7), (0, 8)])
    found = {kind: chosen.tolist() for kind, chosen in leaking_pairs(faces, pairs).items()}
    assert found == {
        "across splits": [[0, 1], [4, 5]],
        "across labels": [[0, 3]],
        "fake and original": [[0, 2]],
    }


def test_real_portraits_are_no_duplicates_of_each_other(shared):
    """Aligned portraits are alike in layout; even so only copies may pair."""
    names = ("officials", "stylegan2")
    portraits = pd.concat(rows_of(shared / "faces", 60, generator=name) for name in names)
    pixels = [np.asarray(Image.open(f).convert("RGB")) for f in portraits["file"][::6]]
    hashes = np.array([perceptual_hash(p) for p in pixels + [changed(pixels[7], 0.7, 60)]])
    assert near_duplicates(hashes).tolist() == [[7, len(pixels)]]
