"""Blur against scikit-image, block visibility on files, and what is measured of a face."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.measure import blur_effect as scikit_blur

from ffdetect.scoring.quality import block_effect, blur_effect, measure, nothing_to_judge
from preprocess.faces.crop import crop_face
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.io.decode import decode_image
from tests.ffdetect.helpers import encode


@pytest.fixture(scope="module")
def grey(astronaut):
    return cv2.cvtColor(astronaut[50:306, 100:356], cv2.COLOR_RGB2GRAY).astype(np.float32)


@pytest.mark.parametrize("sigma", [0, 0.7, 2, 5])
@pytest.mark.parametrize("shape", [(256, 256), (96, 131)])
def test_blur_equals_scikit_image(grey, sigma, shape):
    picture = grey[: shape[0], : shape[1]]
    if sigma:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    assert blur_effect(picture) == pytest.approx(scikit_blur(picture), abs=1e-4)


def test_blur_in_one_direction_is_blur(grey):
    assert blur_effect(cv2.blur(grey, (9, 1))) > blur_effect(grey) + 0.2
    assert blur_effect(cv2.blur(grey, (1, 9))) > blur_effect(grey) + 0.2


def test_a_flat_picture_is_blurred_and_has_no_blocks():
    flat = np.full((64, 64), 90, np.float32)
    assert blur_effect(flat) == 1 and block_effect(flat) == 0


def test_stronger_compression_shows_more_blocks(grey):
    values = [block_effect(grey)]
    for quality in (85, 50, 25, 10):
        data = encode(grey.astype(np.uint8), "JPEG", quality=quality)
        values.append(block_effect(np.array(Image.open(io.BytesIO(data)), np.float32)))
    assert values == sorted(values) and values[0] < 0.25 and values[-1] > 1


@pytest.mark.parametrize("offset", [1, 3, 4, 7])
def test_blocks_are_seen_wherever_the_grid_starts(grey, offset):
    data = encode(grey.astype(np.uint8), "JPEG", quality=15)
    coded = np.array(Image.open(io.BytesIO(data)), np.float32)
    shifted = coded[offset : offset + 240, offset : offset + 240]
    assert block_effect(shifted) == pytest.approx(block_effect(coded[:240, :240]), rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_blocks(seed):
    noise = np.random.default_rng(seed).normal(128, 20, (256, 256)).astype(np.float32)
    assert block_effect(noise) < 0.15


def test_a_face_is_measured_where_it_is(astronaut):
    data = encode(astronaut, "JPEG", quality=35)
    picture, settings = decode_image(data), CropSettings()
    face = FaceDetector(settings).detect(picture.pixels)[0]
    crop = crop_face(picture.pixels, face, settings)
    found = measure(picture, face, crop)
    assert found.jpeg_quality == 35
    assert found.side == max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    blurred_outside = cv2.GaussianBlur(crop, (0, 0), 5)
    blurred_outside[64:192, 64:192] = crop[64:192, 64:192]
    assert measure(picture, face, blurred_outside).blur == pytest.approx(found.blur, abs=0.01)
    assert measure(picture, face, cv2.GaussianBlur(crop, (0, 0), 3)).blur > found.blur + 0.2
    assert measure(decode_image(astronaut), face, crop).jpeg_quality == -1


def test_what_shows_nothing_is_told(astronaut):
    rng = np.random.default_rng(0)
    assert nothing_to_judge(astronaut, 256) == ""
    assert nothing_to_judge(astronaut[:40, :40], 256) == ""
    assert nothing_to_judge(np.ascontiguousarray(astronaut[:100]), 256) == ""
    dim = (astronaut // 12).astype(np.uint8)  # a night scene is dark, not blank
    assert nothing_to_judge(dim, 256) == ""
    assert "needed" in nothing_to_judge(astronaut[:31, :200].copy(), 256)
    panorama = rng.integers(0, 256, (300, 9000, 3), np.uint8)
    assert "9000 x 300 px, 9 px high or wide in a crop of 256 px" in nothing_to_judge(panorama, 256)
    for value in (0, 16, 255):
        blank = np.full((300, 400, 3), value, np.uint8)
        noisy = (blank + rng.normal(0, 1, blank.shape)).clip(0, 255).astype(np.uint8)
        noisy = decode_image(encode(noisy, "JPEG", quality=50)).pixels
        assert nothing_to_judge(blank, 256).startswith("a blank picture")
        assert nothing_to_judge(noisy, 256).startswith("a blank picture")
    blue = np.zeros((300, 400, 3), np.uint8)
    blue[:, :200, 2] = 60  # colour alone is something
    assert nothing_to_judge(blue, 256) == ""
